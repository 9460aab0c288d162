//! Which key a call gets, what is told of a refusal, and when calls end by themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strongroom_keeper::tickets::MAX_CALLS_OF_ONE;
use strongroom_policy::claims::{Feature, Features};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{BetaName, ModelName, ProviderName};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::rules::{Choice, CredentialRules, TokenScope};
use strongroom_policy::target::Target;
use strongroom_protocol::ask::{Answer, CallAsk, MAX_ABOUT_BYTES, MAX_BETAS, Refused};
use strongroom_protocol::errand::{Recall, ToCourier};
use strongroom_protocol::operator::{
    Answer as Told, CredentialWish, HomePick, Pick, Request, TokenWish,
};
use strongroom_protocol::upload::seal_upload;

use super::keeper::{Door, Keeper, until};
use super::{KEY, admitted, ask, chat, furnish, label, peers, redeem, refused, scope};

const SPARE: &[u8] = b"sk-spare-0123456789abcdefghijklmnopqrstuvwxyz";

/// Another OpenAI key of the same person; its id.
fn add(operator: &mut Door, name: &str) -> String {
    let offered = operator.request(&Request::CredentialAdd(Box::new(CredentialWish {
        provider: ProviderName::parse("openai").unwrap(),
        home: HomePick::Personal(None),
        label: label(name),
        fixed_headers: Vec::new(),
        rules: CredentialRules::default(),
    })));
    let Told::Upload { binding, .. } = offered else { panic!("{offered:?}") };
    let Told::Status(status) = operator.request(&Request::Status) else { panic!("no status") };
    let blob = seal_upload(&status.vault_key.unwrap(), &binding, SPARE).unwrap();
    let upload = Request::CredentialUpload { upload: binding.upload, blob };
    let Told::Credential(id) = operator.request(&upload) else { panic!("no credential") };
    id.to_string()
}

fn told(answer: Answer) -> (Refusal, Option<String>) {
    match answer {
        Answer::Refused(Refused { refusal, about, .. }) => (refusal, about),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_two_keys_none_is_chosen_in_silence() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let mut operator = keeper.operator();
    let spare = add(&mut operator, "spare");
    let with = |choice: &str| CallAsk { choice: Some(label(choice)), ..chat(&proof) };
    let (refusal, names) = told(ask(&mut gateway, chat(&proof)));
    assert_eq!(refusal, Refusal::CredentialAmbiguous);
    let mut names: Vec<_> = names.as_deref().unwrap().split(", ").collect();
    names.sort_unstable();
    assert_eq!(names, ["main", "spare"]);
    for (choice, key) in [("main", KEY), ("spare", SPARE), (spare.as_str(), SPARE)] {
        let ticket = admitted(ask(&mut gateway, with(choice)));
        let errand = redeem(&mut courier, ticket).unwrap();
        assert!(errand.secret.expose(|secret| secret == key), "{choice}");
    }
    // A key that is not there looks like one that is somebody else's.
    let missing = told(ask(&mut gateway, with("another")));
    assert_eq!(missing, (Refusal::CredentialMissing, None));
}

#[test]
fn the_names_of_many_keys_are_told_as_far_as_they_fit() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    let mut operator = keeper.operator();
    for number in 0..6 {
        add(&mut operator, &number.to_string().repeat(80));
    }
    add(&mut operator, "of 14 letters.");
    // With "main" and what stands between them just as long as there is room for.
    let (refusal, names) = told(ask(&mut gateway, chat(&proof)));
    let names = names.unwrap();
    assert_eq!((refusal, names.len()), (Refusal::CredentialAmbiguous, MAX_ABOUT_BYTES), "{names}");
    assert_eq!(names.split(", ").count(), 8, "{names}");
    add(&mut operator, &"6".repeat(80));
    let names = told(ask(&mut gateway, chat(&proof))).1.unwrap();
    assert!((1..=MAX_ABOUT_BYTES).contains(&names.len()), "{names}");
    assert!(names.split(", ").all(|name| [4, 14, 80].contains(&name.len())), "{names}");
}

#[test]
fn who_is_refused_by_a_rule_is_told_which() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    let rules = CredentialRules {
        models: Choice::Only(vec![ModelName::parse("gpt-4o").unwrap()]),
        features: Some(Features::NONE),
        ..CredentialRules::default()
    };
    let narrow = Request::CredentialRules(Pick(label("main")), Box::new(rules));
    assert!(matches!(keeper.operator().request(&narrow), Told::Done));
    let mut tools = chat(&proof);
    tools.claims.features = Features::NONE.with(Feature::HostedTools);
    let about = Some("hosted-tools (rule credential.features)".to_owned());
    assert_eq!(told(ask(&mut gateway, tools)), (Refusal::FeatureDenied, about));
    let mut nameless = chat(&proof);
    nameless.claims.model = None;
    let about = Some("rule credential.models".to_owned());
    assert_eq!(told(ask(&mut gateway, nameless)), (Refusal::ModelUnreadable, about));
    let target = Target::parse("/v1/chat/completions?key=x").unwrap();
    let query = CallAsk { target, ..chat(&proof) };
    assert_eq!(told(ask(&mut gateway, query)), (Refusal::QueryDenied, Some("key".to_owned())));
    let target = Target::parse("/v1/organization/users").unwrap();
    let unknown = CallAsk { target, ..chat(&proof) };
    assert_eq!(told(ask(&mut gateway, unknown)), (Refusal::PathUnknown, None));
}

// Red when the refusal does not name its entry, or asks for another try that helps nothing.
#[test]
fn a_refusal_by_the_rules_names_its_entry_in_the_journal() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    let target = Target::parse("/v1/organization/users").unwrap();
    match ask(&mut gateway, CallAsk { target, ..chat(&proof) }) {
        Answer::Refused(Refused { call: Some(call), retry_after_secs: None, .. }) => {
            let (what, id) = ("\"what\":\"refuse\"", call.to_string());
            let is_it = |line: &str| line.contains(what) && line.contains(&id);
            until(|| keeper.told().lines().any(is_it));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_has_too_many_calls_under_way_is_told_when_to_come_again() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let many = TokenScope { calls_per_minute: 10_000, ..scope() };
    let wish = TokenWish { user: None, label: label("many"), scope: many, credential: None };
    let made = keeper.operator().request(&Request::TokenCreate(Box::new(wish)));
    let Told::Token { text: proof, .. } = made else { panic!("{made:?}") };
    // Those that run stay: a ticket that nobody brings ends by itself.
    for _ in 0..MAX_CALLS_OF_ONE {
        redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    }
    match ask(&mut gateway, chat(&proof)) {
        Answer::Refused(Refused { refusal, retry_after_secs, .. }) => {
            assert_eq!((refusal, retry_after_secs), (Refusal::Busy, Some(1)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_names_a_bounded_number_of_beta_values() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    let with = |count| {
        let betas = (0..count).map(|n| BetaName::parse(&format!("b{n}")).unwrap()).collect();
        CallAsk { betas, ..chat(&proof) }
    };
    admitted(ask(&mut gateway, with(MAX_BETAS)));
    for many in [MAX_BETAS + 1, MAX_BETAS + 2] {
        assert_eq!(refused(ask(&mut gateway, with(many))), Refusal::HeadInvalid);
    }
}

#[test]
fn without_a_courier_a_call_is_refused_and_told_whether_the_vault_is_sealed() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut gateway = keeper.ask();
    assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::CourierUnavailable);
    assert!(matches!(keeper.operator().request(&Request::Seal), Told::Done));
    assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::Sealed);
    assert_eq!(keeper.entries("admit"), 0);
}

#[test]
fn a_token_makes_no_more_calls_in_a_minute_than_it_may() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let one = TokenScope { calls_per_minute: 1, ..scope() };
    let wish = TokenWish { user: None, label: label("one"), scope: one, credential: None };
    let made = keeper.operator().request(&Request::TokenCreate(Box::new(wish)));
    let Told::Token { text: proof, .. } = made else { panic!("{made:?}") };
    let errand = redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    // Where a provider's URLs are led back to; the same for all who call it.
    assert_eq!(errand.public_prefix, "https://localhost:8443/openai");
    match ask(&mut gateway, chat(&proof)) {
        Answer::Refused(Refused { refusal, retry_after_secs, .. }) => {
            assert_eq!(refusal, Refusal::RateLimited);
            assert!((1..=61).contains(&retry_after_secs.unwrap()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(keeper.entries("admit"), 1);
}

#[test]
fn a_running_call_ends_with_its_token() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let end = now + Duration::from_secs(3);
    let expires = Some(Moment::from_unix_millis(u64::try_from(end.as_millis()).unwrap()));
    let short = TokenScope { expires, ..scope() };
    let wish = TokenWish { user: None, label: label("short"), scope: short, credential: None };
    let made = keeper.operator().request(&Request::TokenCreate(Box::new(wish)));
    let Told::Token { text: proof, .. } = made else { panic!("{made:?}") };
    let running = redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    match courier.receive() {
        ToCourier::Recall(Recall::Calls(calls)) => assert_eq!(calls, [running.call]),
        other => panic!("{other:?}"),
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now >= end, "it was recalled before its time");
    assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::TokenExpired);
}
