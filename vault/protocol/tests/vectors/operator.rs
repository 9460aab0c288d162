//! What is asked on `operator.sock`.

use strongroom_policy::claims::{Claims, Feature, Features, Length};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::moment::Moment;
use strongroom_policy::name::ModelName;
use strongroom_policy::provider::{Origin, Probe, ProviderDefinition};
use strongroom_policy::route::{BodyKind, Method, PathClass, PathPattern, PathRule};
use strongroom_policy::rules::Choice;
use strongroom_policy::target::Target;
use strongroom_policy::tenant_rules::{
    Days, Effect, Hours, Minute, Rule, RuleName, What, When, Who,
};
use strongroom_protocol::frame::MAX_OPERATOR_BYTES;
use strongroom_protocol::operator::audit::AuditRequest;
use strongroom_protocol::operator::backup::BackupRequest;
use strongroom_protocol::operator::budget::{BudgetRequest, PriceRequest};
use strongroom_protocol::operator::keys::Deletion;
use strongroom_protocol::operator::people::PeopleRequest;
use strongroom_protocol::operator::rules::{Question, RulesRequest};
use strongroom_protocol::operator::sealing::{VaultWish, WaysAct, WaysChange};
use strongroom_protocol::operator::tenants::TenantDeletion;
use strongroom_protocol::operator::tpm::TpmWish;
use strongroom_protocol::operator::witness::{FromWitness, KeyText, NoteText};
use strongroom_protocol::operator::{
    CredentialWish, HomePick, Request, SealWish, TokenWish, UnsealWith, UsageBy,
};
use strongroom_protocol::tpm::PcrSet;

use crate::answers::{answer_name, answers, dependents, holdings};
use crate::things::{destination, id, label, pick, provider, rules, scope, secret};
use crate::{Vector, of_enum};

pub(crate) fn vectors() -> Vec<Vector> {
    let requests = [
        requests_about_the_vault(),
        requests_about_records(),
        requests_about_ways(),
        requests_about_tenants(),
        requests_about_rules(),
    ]
    .concat_all();
    [
        of_enum(requests, request_name, |request| request, MAX_OPERATOR_BYTES),
        of_enum(answers(), answer_name, |answer| answer, MAX_OPERATOR_BYTES),
    ]
    .concat()
}

/// Requests hold secrets and so are not `Clone`.
trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}
impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

#[expect(clippy::too_many_lines, reason = "the page of all requests")]
fn request_name(request: &Request) -> &'static str {
    match request {
        Request::Status => "operator.status",
        Request::Doctor => "operator.doctor",
        Request::Init(_) => "operator.init",
        Request::ShowCustody(_) => "operator.show-custody",
        Request::Unseal(_) => "operator.unseal",
        Request::Seal => "operator.seal",
        Request::UserCreate(_) => "operator.user-create",
        Request::UserList => "operator.user-list",
        Request::UserDisable(_) => "operator.user-disable",
        Request::UserEnable(_) => "operator.user-enable",
        Request::WorkspaceCreate(_) => "operator.workspace-create",
        Request::WorkspaceList => "operator.workspace-list",
        Request::WorkspaceJoin(..) => "operator.workspace-join",
        Request::WorkspaceLeave(..) => "operator.workspace-leave",
        Request::ProviderList => "operator.provider-list",
        Request::ProviderShow(_) => "operator.provider-show",
        Request::ProviderPut(_) => "operator.provider-put",
        Request::ProviderRemove(_) => "operator.provider-remove",
        Request::CredentialAdd(_) => "operator.credential-add",
        Request::CredentialRotate(_) => "operator.credential-rotate",
        Request::CredentialUpload { .. } => "operator.credential-upload",
        Request::CredentialList => "operator.credential-list",
        Request::CredentialTest(_) => "operator.credential-test",
        Request::CredentialDelete(_) => "operator.credential-delete",
        Request::CredentialRules(..) => "operator.credential-rules",
        Request::TokenCreate(_) => "operator.token-create",
        Request::TokenList => "operator.token-list",
        Request::TokenRevoke(_) => "operator.token-revoke",
        Request::AuditTail { .. } => "operator.audit-tail",
        Request::Usage { .. } => "operator.usage",
        Request::AuditKey => "operator.audit-key",
        Request::Backup(_) => "operator.backup",
        Request::KeyRotate => "operator.key-rotate",
        Request::KeyStatus => "operator.key-status",
        Request::UserDelete(..) => "operator.user-delete",
        Request::WorkspaceDelete(..) => "operator.workspace-delete",
        Request::UnsealConfirming { .. } => "operator.unseal-confirming",
        Request::TpmStatus => "operator.tpm-status",
        Request::TpmSeal(_) => "operator.tpm-seal",
        Request::TpmRemove => "operator.tpm-remove",
        Request::Audit(_) => "operator.audit",
        Request::Witness(_) => "operator.witness",
        Request::WitnessAdd { .. } => "operator.witness-add",
        Request::WitnessList => "operator.witness-list",
        Request::WitnessRemove(_) => "operator.witness-remove",
        Request::InitWays(_) => "operator.init-ways",
        Request::Join { .. } => "operator.join",
        Request::AbandonUnseal { .. } => "operator.abandon-unseal",
        Request::Panic => "operator.panic",
        Request::Ways => "operator.ways",
        Request::ChangeWays(_) => "operator.change-ways",
        Request::DropWays => "operator.drop-ways",
        Request::UnsealUnattended => "operator.unseal-unattended",
        Request::AcceptSettings { .. } => "operator.accept-settings",
        Request::People(_) => "operator.people",
        Request::In { .. } => "operator.in",
        Request::TenantCreate(_) => "operator.tenant-create",
        Request::TenantList => "operator.tenant-list",
        Request::TenantDisable(_) => "operator.tenant-disable",
        Request::TenantEnable(_) => "operator.tenant-enable",
        Request::TenantDelete(..) => "operator.tenant-delete",
        Request::Rules(_) => "operator.rules",
        Request::Budget(_) => "operator.budget",
        Request::Price(_) => "operator.price",
    }
}

fn requests_about_ways() -> Vec<Request> {
    let passphrase = || SealWish::Passphrase(secret("five random words of mine"));
    let shares =
        || SealWish::Shares { threshold: 2, count: 2, holders: vec![label("alice"), label("bob")] };
    let change = |act| {
        let proof = vec![UnsealWith::Share(secret("srs1-a"))];
        Request::ChangeWays(Box::new(WaysChange { proof, act }))
    };
    vec![
        Request::InitWays(Box::new(VaultWish {
            ways: vec![vec![passphrase(), shares()]],
            start_over: true,
        })),
        Request::Join { attempt: "7f3a".to_owned(), with: UnsealWith::Share(secret("srs1-a")) },
        Request::AbandonUnseal { attempt: "7f3a".to_owned() },
        Request::Panic,
        Request::Ways,
        change(WaysAct::Add(vec![shares()])),
        change(WaysAct::Replace(3, vec![passphrase()])),
        change(WaysAct::Remove(3)),
        change(WaysAct::Rotate(vec![vec![shares()], vec![passphrase()]])),
        Request::DropWays,
        Request::UnsealUnattended,
        Request::AcceptSettings { difference: "3f9a1c22".repeat(4) },
        Request::People(PeopleRequest::Sessions(Some(pick("alice")))),
    ]
}

fn requests_about_tenants() -> Vec<Request> {
    vec![
        Request::UserDisable(pick("ann")).within(pick("acme")).unwrap(),
        Request::TenantCreate(label("acme")),
        Request::TenantList,
        Request::TenantDisable(pick("acme")),
        Request::TenantEnable(pick("acme")),
        Request::TenantDelete(pick("acme"), TenantDeletion::Count),
        Request::TenantDelete(pick("acme"), TenantDeletion::Perform(holdings())),
    ]
}

pub(crate) fn rule() -> Rule {
    Rule {
        name: RuleName::parse("no-tools").unwrap(),
        effect: Effect::Deny,
        who: Who::Workspace(id(5)),
        what: What::Provider(provider()),
        when: When {
            models: Choice::Only(vec![ModelName::parse("gpt-4o*").unwrap()]),
            class: Some(PathClass::Stateless),
            features: Some(Features::NONE.with(Feature::HostedTools)),
            hours: Some(Hours {
                days: Days::try_from(0x41).unwrap(),
                from: Minute::try_from(1320).unwrap(),
                to: Minute::try_from(360).unwrap(),
            }),
            until: Some(Moment::from_unix_millis(1_800_000_000_000)),
        },
    }
}

fn requests_about_rules() -> Vec<Request> {
    let shared = Rule {
        effect: Effect::Allow,
        who: Who::User(id(1)),
        what: What::Credential(id(4)),
        when: When::default(),
        ..rule()
    };
    let question = Question {
        token: pick("laptop"),
        provider: provider(),
        choice: Some(label("team key")),
        method: Method::Post,
        target: Target::parse("/v1/chat/completions").unwrap(),
        betas: Vec::new(),
        claims: Claims::of_no_body(Some(ModelName::parse("gpt-4o").unwrap())),
        length: Length::Chunked,
    };
    vec![
        Request::Rules(RulesRequest::Show),
        Request::Rules(RulesRequest::Replace { version: 3, rules: vec![rule(), shared] }),
        Request::Rules(RulesRequest::Explain(Box::new(question))),
    ]
}

fn requests_about_the_vault() -> Vec<Request> {
    vec![
        Request::Status,
        Request::Doctor,
        Request::Init(SealWish::Passphrase(secret("five random words of mine"))),
        Request::Init(SealWish::Shares { threshold: 2, count: 3, holders: Vec::new() }),
        Request::ShowCustody(UnsealWith::Share(secret("srs1-a"))),
        Request::Unseal(UnsealWith::Passphrase(secret("five random words of mine"))),
        Request::Unseal(UnsealWith::Share(secret("srs1-a"))),
        Request::Seal,
        Request::AuditTail { after: Some(7), limit: 100, wait_ms: 1000 },
        Request::Usage { since_ms: 1_700_000_000_000, by: UsageBy::Model },
        Request::AuditKey,
        Request::Backup(BackupRequest::Standing),
        Request::KeyRotate,
        Request::KeyStatus,
        Request::Unseal(UnsealWith::Tpm(Some(secret("271828")))),
        Request::UnsealConfirming {
            with: UnsealWith::Share(secret("srs1-a")),
            checkpoint: "412-9f3a1c22".to_owned(),
        },
        Request::TpmStatus,
        Request::TpmSeal(Box::new(TpmWish {
            pcrs: PcrSet::of(&[7]).unwrap(),
            pin: Some(secret("271828")),
            parts: vec![UnsealWith::Share(secret("srs1-a")), UnsealWith::Share(secret("srs1-b"))],
            with: None,
        })),
        Request::TpmSeal(Box::new(TpmWish {
            pcrs: PcrSet::of(&[7]).unwrap(),
            pin: None,
            parts: vec![UnsealWith::Share(secret("srs1-a"))],
            with: Some(SealWish::Shares { threshold: 2, count: 3, holders: Vec::new() }),
        })),
        Request::TpmRemove,
        Request::Audit(AuditRequest::Span),
        Request::Budget(BudgetRequest::List),
        Request::Price(PriceRequest::List),
        Request::Witness(FromWitness::Ask { size: 300 }),
        Request::Witness(FromWitness::Tell {
            key: key_text("usb+0a1b2c3d+BA=="),
            note: note_text(),
            answer: Some(vec![0xaa; 64]),
        }),
        Request::Witness(FromWitness::Entries { bundle: 1, from: 44 }),
        Request::WitnessAdd { key: key_text("usb+0a1b2c3d+BA=="), required: true },
        Request::WitnessList,
        Request::WitnessRemove(key_text("usb")),
    ]
}

fn requests_about_records() -> Vec<Request> {
    let token = TokenWish {
        user: None,
        label: label("laptop"),
        scope: scope(),
        credential: Some(pick("team key")),
    };
    vec![
        Request::UserCreate(label("alice")),
        Request::UserList,
        Request::UserDisable(pick("alice")),
        Request::UserEnable(pick("alice")),
        Request::WorkspaceCreate(label("research")),
        Request::WorkspaceList,
        Request::WorkspaceJoin(pick("research"), pick("alice")),
        Request::WorkspaceLeave(pick("research"), pick("alice")),
        Request::ProviderList,
        Request::ProviderShow(provider()),
        Request::ProviderPut(Box::new(definition())),
        Request::ProviderRemove(provider()),
        Request::CredentialAdd(Box::new(credential(HomePick::Personal(None)))),
        Request::CredentialAdd(Box::new(credential(HomePick::Workspace(pick("research"))))),
        Request::CredentialRotate(pick("team key")),
        Request::CredentialUpload { upload: id(6), blob: vec![0xee; 56] },
        Request::CredentialList,
        Request::CredentialTest(pick("team key")),
        Request::CredentialDelete(pick("team key")),
        Request::CredentialRules(pick("team key"), Box::new(rules())),
        Request::TokenCreate(Box::new(token)),
        Request::TokenList,
        Request::TokenRevoke(pick("laptop")),
        Request::UserDelete(pick("alice"), Deletion::Count),
        Request::UserDelete(pick("alice"), Deletion::Perform(dependents())),
        Request::WorkspaceDelete(pick("research"), Deletion::Count),
    ]
}

pub(crate) fn key_text(text: &str) -> KeyText {
    KeyText::new(text.to_owned()).unwrap()
}

pub(crate) fn note_text() -> NoteText {
    NoteText::new("log\n300\nAA==\n\n\u{2014} log AA==\n".to_owned()).unwrap()
}

fn credential(home: HomePick) -> CredentialWish {
    CredentialWish {
        provider: provider(),
        home,
        label: label("team key"),
        fixed_headers: vec![("openai-project".to_owned(), "proj_1".to_owned())],
        rules: rules(),
    }
}

pub(crate) fn definition() -> ProviderDefinition {
    let path = PathRule {
        method: Method::Post,
        pattern: PathPattern::parse("/v1/chat/completions").unwrap(),
        class: PathClass::Stateless,
        body: BodyKind::Json,
        query: vec!["beta".to_owned()],
    };
    ProviderDefinition {
        name: provider(),
        dialect: Dialect::OpenAi,
        destination: destination(),
        paths: vec![path],
        probe: Some(Probe { method: Method::Get, target: Target::parse("/v1/models").unwrap() }),
        origin: Origin::Operator,
    }
}
