//! The canary test: keys that are easy to find, a thousand calls, and a search of everything outside the vault.
//!
//! Invariant: no form of a key is in the gateway's memory, on the disk, in a log, a metric or an answer.
//!
//! `SR_CANARY_CALLS` sets the number of calls (200 by default).
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

use std::fs;

use strongroom_emulator::Api;
use strongroom_emulator::echo::{Encoding, Place};
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::rules::{Choice, TokenScope};
use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, decode, encode};
use strongroom_protocol::operator::audit::{AuditFilter, AuditPart, AuditRequest};
use strongroom_protocol::operator::backup::BackupRequest;
use strongroom_protocol::operator::budget::{BudgetRequest, PriceRequest};
use strongroom_protocol::operator::people::PeopleRequest;
use strongroom_protocol::operator::rules::RulesRequest;
use strongroom_protocol::operator::{Answer, Pick, Request, TokenWish, UsageBy};
use strongroom_tests::operator::Operator;
use strongroom_tests::processes::search_memory;
use strongroom_tests::speak::{Shape, models, provider, say};
use strongroom_tests::{Appliance, Gate, Part, canary, journal};

type Needles = [(String, Vec<u8>)];

#[test]
fn no_form_of_a_key_leaves_the_vault() {
    let calls = std::env::var("SR_CANARY_CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let (appliance, token) = Appliance::stocked();
    let needles = canary::needles();
    let gate = appliance.gate();
    for turn in 0..calls {
        call(&gate, &token, turn, &needles);
    }
    // Each key was opened, used and shown to its provider; else nothing is proved.
    for api in Api::ALL {
        gate.call(&models(api, &token)).is(200);
        let tested = appliance.cli(&["credential", "test", provider(api), "--json"], b"").ok();
        nowhere("the operator's tool", (tested.stdout + &tested.stderr).as_bytes(), &needles);
    }
    memory(&appliance, Part::Gateway, &needles);
    // The keeper's keys lie in pages that nobody can read, or are wiped after each use.
    memory(&appliance, Part::Keeper, &needles);
    // The search can fail: it finds what every gateway has in its memory.
    let common = vec![("a header of ours".to_owned(), b"x-strongroom-refusal".to_vec())];
    let searched = search_memory(appliance.pid(Part::Gateway).expect("it runs"), &common);
    assert!(searched.is_none_or(|searched| !searched.hits.is_empty()));
    nowhere("the metrics", appliance.metrics().as_bytes(), &needles);
    nowhere("the log", appliance.log().as_bytes(), &needles);
    for part in Part::ALL {
        let pid = appliance.pid(part).expect("it runs");
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            nowhere(&format!("{part:?}'s {file}"), &bytes, &needles);
        }
    }
    let doctor = appliance.cli(&["doctor", "--json"], b"");
    nowhere("doctor", doctor.stdout.as_bytes(), &needles);
    for file in journal::files(appliance.data()) {
        let bytes = fs::read(&file).unwrap_or_default();
        nowhere(&file.display().to_string(), &bytes, &needles);
    }
    let cores = journal::files(appliance.data()).into_iter().filter(|file| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))
    });
    assert_eq!(cores.count(), 0);
}

/// Red when an answer to an operator gets a field with a deposited key, in any form that is searched for.
#[test]
fn no_answer_to_an_operator_has_a_form_of_a_key() {
    let (appliance, token) = Appliance::stocked();
    for api in Api::ALL {
        appliance.gate().call(&models(api, &token)).is(200);
    }
    let needles = canary::needles();
    let mut operator = Operator::connect(&appliance.data().join("run"));
    let mut heard = |request: &Request| {
        let frame = encode(request, MAX_OPERATOR_BYTES).expect("a frame");
        let bytes = operator.answer_to(&frame).expect("an answer");
        (decode::<Answer>(&bytes).expect("a message"), bytes)
    };
    for request in walk() {
        assert!(shows(&request), "{request:?}");
        let (answer, bytes) = heard(&request);
        assert!(!matches!(answer, Answer::Failed(_)), "{request:?}: {answer:?}");
        nowhere(&format!("the answer to {request:?}"), &bytes, &needles);
    }
    // The search can fail: a token's text is shown, once.
    let wish = TokenWish {
        user: None,
        label: Label::parse("shown").expect("a label"),
        scope: TokenScope {
            providers: Choice::Any,
            models: Choice::Any,
            credential: None,
            expires: None,
            calls_per_minute: 60,
        },
        credential: None,
    };
    let (answer, bytes) = heard(&Request::TokenCreate(Box::new(wish)));
    let Answer::Token { text, .. } = answer else { panic!("{answer:?}") };
    let shown = text.expose(|text| canary::needles_of("a token", text));
    assert!(!canary::found(&bytes, &shown).is_empty());
}

/// All that can be asked of an open vault and changes nothing in it, and what begins an upload.
fn walk() -> Vec<Request> {
    let label = |api: Api| Label::parse(provider(api)).expect("a label");
    let name = |api: Api| ProviderName::parse(provider(api)).expect("a name");
    let mut all = vec![
        Request::Status,
        Request::Doctor,
        Request::UserList,
        Request::WorkspaceList,
        Request::ProviderList,
        Request::CredentialList,
        Request::TokenList,
        Request::AuditTail { after: Some(0), limit: 500, wait_ms: 0 },
        Request::AuditKey,
        Request::Backup(BackupRequest::Standing),
        Request::KeyStatus,
        Request::TpmStatus,
        Request::Audit(AuditRequest::Search { filter: Box::default(), after: 0, limit: 500 }),
        Request::Audit(AuditRequest::Span),
        Request::Audit(AuditRequest::Read { part: AuditPart::Entries(0), offset: 0 }),
        Request::WitnessList,
        Request::Ways,
        Request::People(PeopleRequest::Sessions(None)),
        Request::Rules(RulesRequest::Show),
        Request::Budget(BudgetRequest::List),
        Request::Price(PriceRequest::List),
    ];
    for by in
        [UsageBy::User, UsageBy::Token, UsageBy::Credential, UsageBy::Model, UsageBy::Provider]
    {
        all.push(Request::Usage { since_ms: 0, by });
    }
    for api in Api::ALL {
        all.push(Request::ProviderShow(name(api)));
        all.push(Request::CredentialTest(Pick(label(api))));
        all.push(Request::CredentialRotate(Pick(label(api))));
        let credential = Some(Pick(label(api)));
        let filter = Box::new(AuditFilter { credential, ..AuditFilter::default() });
        all.push(Request::Audit(AuditRequest::Search { filter, after: 0, limit: 500 }));
    }
    all
}

/// Whether its answer is one of those that show what the vault has: a new request says it here, and joins the walk if so.
#[expect(clippy::too_many_lines, reason = "the page of all requests")]
fn shows(request: &Request) -> bool {
    match request {
        Request::Status
        | Request::Doctor
        | Request::UserList
        | Request::WorkspaceList
        | Request::ProviderList
        | Request::ProviderShow(_)
        | Request::CredentialRotate(_)
        | Request::CredentialList
        | Request::CredentialTest(_)
        | Request::TokenList
        | Request::AuditTail { .. }
        | Request::Usage { .. }
        | Request::AuditKey
        | Request::Backup(_)
        | Request::KeyStatus
        | Request::TpmStatus
        | Request::Audit(_)
        | Request::WitnessList
        | Request::TenantList
        | Request::Rules(_)
        | Request::Ways
        | Request::Budget(BudgetRequest::List)
        | Request::Price(PriceRequest::List) => true,
        Request::Init(_)
        | Request::ShowCustody(_)
        | Request::Unseal(_)
        | Request::Seal
        | Request::UserCreate(_)
        | Request::UserDisable(_)
        | Request::UserEnable(_)
        | Request::WorkspaceCreate(_)
        | Request::WorkspaceJoin(..)
        | Request::WorkspaceLeave(..)
        | Request::ProviderPut(_)
        | Request::ProviderRemove(_)
        | Request::CredentialAdd(_)
        | Request::CredentialUpload { .. }
        | Request::CredentialDelete(_)
        | Request::CredentialRules(..)
        | Request::TokenCreate(_)
        | Request::TokenRevoke(_)
        | Request::KeyRotate
        | Request::UserDelete(..)
        | Request::WorkspaceDelete(..)
        | Request::UnsealConfirming { .. }
        | Request::TpmSeal(_)
        | Request::TpmRemove
        | Request::Witness(_)
        | Request::WitnessAdd { .. }
        | Request::WitnessRemove(_)
        | Request::InitWays(_)
        | Request::Join { .. }
        | Request::AbandonUnseal { .. }
        | Request::Panic
        | Request::ChangeWays(_)
        | Request::DropWays
        | Request::UnsealUnattended
        | Request::AcceptSettings { .. }
        // It shows what the request in it shows.
        | Request::In { .. }
        | Request::TenantCreate(_)
        | Request::TenantDisable(_)
        | Request::TenantEnable(_)
        | Request::TenantDelete(..)
        | Request::Budget(BudgetRequest::Set(_) | BudgetRequest::Remove(_))
        | Request::Price(_) => false,
        Request::People(request) => matches!(request, PeopleRequest::Sessions(_)),
    }
}

/// One call of the many kinds, echoes of the key in every form and place among them.
fn call(gate: &Gate, token: &str, turn: usize, needles: &Needles) {
    let api = Api::ALL[turn % 4];
    let shape = if (turn / 4).is_multiple_of(2) { Shape::Plain } else { Shape::Streamed };
    let encoding = Encoding::ALL[turn / 8 % Encoding::ALL.len()].name();
    let place = Place::ALL[turn / 4 % Place::ALL.len()].name();
    let model = match turn % 5 {
        0 => "an-ordinary-model".to_owned(),
        1 => format!("emu-echo-key-{encoding}-at-{place}-split-{}", 1 + turn % 37),
        2 => "emu-status-401".to_owned(),
        _ => format!("emu-echo-key-{encoding}-at-{place}"),
    };
    let answer = gate.call(&say(api, token, &model, "hello there, how are you", shape));
    let found = canary::found(&answer.visible(), needles);
    assert!(found.is_empty(), "{api:?} {model} {shape:?}: {found:?}\n{}", answer.story());
}

fn nowhere(place: &str, bytes: &[u8], needles: &Needles) {
    let found = canary::found(bytes, needles);
    assert!(found.is_empty(), "{found:?} in {place}");
}

fn memory(appliance: &Appliance, part: Part, needles: &Needles) {
    let pid = appliance.pid(part).expect("it runs");
    match search_memory(pid, needles) {
        None => strongroom_soak::skipped(&format!("only root reads the memory of the {part:?}")),
        Some(searched) => {
            assert!(searched.hits.is_empty(), "{part:?}: {:#?}", searched.hits);
            assert!(searched.read_bytes > 1024 * 1024, "{part:?}: {searched:?}");
        }
    }
}
