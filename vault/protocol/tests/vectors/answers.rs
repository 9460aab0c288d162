//! What is answered on `operator.sock`.

use strongroom_policy::dialect::Dialect;
use strongroom_policy::moment::Moment;
use strongroom_policy::money::Money;
use strongroom_policy::provider::Origin;
use strongroom_policy::rules::{Home, Standing};
use strongroom_policy::tenant_rules::{Effect, RuleName};
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::audit::AuditAnswer;
use strongroom_protocol::operator::backup::BackupAnswer;
use strongroom_protocol::operator::keys::{Cipher, Counted, Dependents, KeyState, Receipt, Sweep};
use strongroom_protocol::operator::listing::{
    CredentialRow, JournalRow, ProviderRow, TokenRow, UsageRow, UserRow, WorkspaceRow,
};
use strongroom_protocol::operator::people::PeopleAnswer;
use strongroom_protocol::operator::rules::{Considered, Explained, Rules, RulesAnswer};
use strongroom_protocol::operator::sealing::{LockName, LockRow, WayRow, WayStanding};
use strongroom_protocol::operator::tenants::{Holdings, TenantCounted, TenantReceipt, TenantRow};
use strongroom_protocol::operator::tpm::{TpmSeal, TpmStatus};
use strongroom_protocol::operator::witness::{Awaited, ToWitness, WitnessRow};
use strongroom_protocol::operator::{Answer, Check, Progress, SealKind, Status, Tested, Verdict};
use strongroom_protocol::tpm::PcrSet;
use strongroom_protocol::upload::VaultKey;

use crate::budgets::{budget_rows, price_book};
use crate::operator::{definition, key_text, note_text};
use crate::sealed::{binding_of_new, destination_of_upload};
use crate::things::{fault, id, label, moment, outcome, provider, rules, scope, secret};

pub(crate) fn answer_name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Done => "operator.answer.done",
        Answer::Failed(_) => "operator.answer.failed",
        Answer::Status(_) => "operator.answer.status",
        Answer::Doctor(_) => "operator.answer.doctor",
        Answer::Shares(_) => "operator.answer.shares",
        Answer::Initialised(_) => "operator.answer.initialised",
        Answer::Unsealing(_) => "operator.answer.unsealing",
        Answer::Unsealed => "operator.answer.unsealed",
        Answer::User(_) => "operator.answer.user",
        Answer::Workspace(_) => "operator.answer.workspace",
        Answer::Upload { .. } => "operator.answer.upload",
        Answer::Credential(_) => "operator.answer.credential",
        Answer::Tested(_) => "operator.answer.tested",
        Answer::Token { .. } => "operator.answer.token",
        Answer::Users(_) => "operator.answer.list-of-users",
        Answer::Workspaces(_) => "operator.answer.list-of-workspaces",
        Answer::Providers(_) => "operator.answer.list-of-providers",
        Answer::Provider(_) => "operator.answer.provider",
        Answer::Credentials(_) => "operator.answer.list-of-credentials",
        Answer::Tokens(_) => "operator.answer.list-of-tokens",
        Answer::Journal(_) => "operator.answer.journal",
        Answer::Usage(_) => "operator.answer.usage",
        Answer::AuditKey(_) => "operator.answer.audit-key",
        Answer::Backup(_) => "operator.answer.backup",
        Answer::Keys(_) => "operator.answer.keys",
        Answer::Counted(_) => "operator.answer.counted",
        Answer::Deleted(_) => "operator.answer.deleted",
        Answer::Tpm(_) => "operator.answer.tpm",
        Answer::Audit(_) => "operator.answer.audit",
        Answer::Witness(_) => "operator.answer.witness",
        Answer::Witnesses(_) => "operator.answer.list-of-witnesses",
        Answer::Ways(_) => "operator.answer.ways",
        Answer::People(_) => "operator.answer.people",
        Answer::Tenant(_) => "operator.answer.tenant",
        Answer::Tenants(_) => "operator.answer.list-of-tenants",
        Answer::TenantCounted(_) => "operator.answer.tenant-counted",
        Answer::TenantDeleted(_) => "operator.answer.tenant-deleted",
        Answer::Rules(_) => "operator.answer.rules",
        Answer::Budgets(_) => "operator.answer.list-of-budgets",
        Answer::Prices(_) => "operator.answer.list-of-prices",
    }
}

pub(crate) fn dependents() -> Dependents {
    Dependents { tokens: 2, credentials: 1, memberships: 3 }
}

fn counted() -> Counted {
    let id = id::<strongroom_policy::id::User>(1).to_string();
    Counted { id, label: label("alice"), dependents: dependents() }
}

fn keys() -> KeyState {
    KeyState {
        epoch: 3,
        epochs: vec![(2, 40), (3, 60)],
        records: 100,
        old_records: 40,
        sweep: Sweep::Stopped(fault()),
        lowest_format: 1,
        cipher: Cipher::Chacha20Poly1305,
        keys: 70,
        most_keys: 75_000,
    }
}

pub(crate) fn answers() -> Vec<Answer> {
    let check = Check {
        name: "keeper landlock".to_owned(),
        verdict: Verdict::Warn,
        detail: "weaker".to_owned(),
        fix: Some("use a newer kernel".to_owned()),
    };
    let upload = Answer::Upload {
        binding: Box::new(binding_of_new()),
        destination: Box::new(destination_of_upload()),
    };
    let tested = Tested { call: id(9), outcome: outcome(), text: "{\"data\":[]}".to_owned() };
    let line = "{\"n\":8,\"what\":\"seal\"}".to_owned();
    let lists = [sums(), lists()].into_iter().flatten();
    let single = vec![
        Answer::Done,
        Answer::Failed(fault()),
        Answer::Status(status()),
        Answer::Doctor(vec![check]),
        Answer::Shares(vec![secret("srs1-a")]),
        Answer::Initialised(VaultKey([5; 32])),
        Answer::Unsealing(progress()),
        Answer::Unsealed,
        Answer::User(id(1)),
        Answer::Workspace(id(2)),
        upload,
        Answer::Credential(id(8)),
        Answer::Tested(Box::new(tested)),
        Answer::Token {
            id: id(7),
            text: secret("sr_00000000000000000000000000000000000000000000SQjCX"),
        },
        Answer::Provider(Box::new(definition())),
        Answer::Journal(vec![JournalRow { number: 8, line }]),
        Answer::Witness(ToWitness::Checkpoint {
            note: note_text(),
            proof: vec![[1; 32], [2; 32]],
            nonce: Some([3; 32]),
        }),
        Answer::Witness(ToWitness::Taken),
        Answer::Witness(ToWitness::Entries(vec![0, 1, b'x'])),
        Answer::AuditKey("strongroom/00+0a1b2c3d+AQ==".to_owned()),
        Answer::Backup(BackupAnswer::Standing(None)),
        Answer::Keys(Box::new(keys())),
        Answer::Counted(Box::new(counted())),
        Answer::Deleted(Box::new(Receipt {
            counted: counted(),
            records: 5,
            stopped_calls: 1,
            destroyed_keys: 2,
            keyring_generation: 42,
            commit: 17,
        })),
        Answer::Tpm(Box::new(tpm())),
        Answer::Audit(AuditAnswer::Archived(256)),
        Answer::Ways(ways()),
        Answer::People(PeopleAnswer::Ended(0)),
    ];
    let lists = lists.into_iter().chain(of_tenants()).chain(about_rules());
    single.into_iter().chain(lists).collect()
}

fn about_rules() -> [Answer; 3] {
    [
        Answer::Rules(RulesAnswer::Rules(Box::new(Rules {
            version: 3,
            changed: Some(Moment::from_unix_millis(1_700_000_000_000)),
            rules: vec![crate::operator::rule()],
        }))),
        Answer::Rules(RulesAnswer::Explained(Box::new(Explained {
            refusal: Some("SR-POLICY-005".to_owned()),
            rule: "tenant.no-tools".to_owned(),
            about: None,
            credential: Some(label("team key")),
            considered: vec![Considered {
                name: RuleName::parse("no-tools").unwrap(),
                effect: Effect::Deny,
                holds: true,
            }],
        }))),
        Answer::Rules(RulesAnswer::Replaced(4)),
    ]
}

pub(crate) fn holdings() -> Holdings {
    Holdings { users: 4, workspaces: 1, tokens: 6, credentials: 2 }
}

fn of_tenants() -> Vec<Answer> {
    let (standing, created) = (Standing::Active, Some(moment(1)));
    let row = TenantRow {
        id: id(7),
        label: label("acme"),
        standing,
        first: false,
        holds: holdings(),
        created,
    };
    let counted = TenantCounted { id: id(7), label: label("acme"), holds: holdings() };
    let receipt = TenantReceipt {
        counted: counted.clone(),
        records: 16,
        stopped_calls: 1,
        destroyed_keys: 8,
        keyring_generation: 40,
        commit: 31,
    };
    vec![
        Answer::Tenant(id(7)),
        Answer::Tenants(vec![row]),
        Answer::TenantCounted(Box::new(counted)),
        Answer::TenantDeleted(Box::new(receipt)),
    ]
}

fn tpm() -> TpmStatus {
    TpmStatus {
        health: Some(crate::tpm::health()),
        trouble: None,
        seal: Some(TpmSeal { pcrs: PcrSet::of(&[7]).unwrap(), pin: true, fits: true }),
        counter: Some(42),
        behind_secs: Some(12),
        window_secs: 60,
    }
}

fn status() -> Status {
    Status {
        state: VaultState::Unsealing,
        unsealing: Some(progress()),
        seal: Some(SealKind::Shares { threshold: 2, count: 3 }),
        vault_key: None,
        courier: true,
        courier_defined: false,
        gateway: false,
        journal_entries: 8,
        credentials: 0,
        fault: Some(fault()),
        old_records: 40,
        awaited: Some(Awaited { witnesses: vec!["usb".to_owned()], calls_in_secs: 90 }),
        incoming: true,
        sealed_by_operator: true,
    }
}

fn ways() -> Vec<WayRow> {
    let holders = vec!["alice".to_owned(), "bob".to_owned()];
    let shares = LockRow::Shares { threshold: 2, count: 2, holders };
    let all = vec![LockRow::Passphrase, LockRow::Tpm { pin: true }];
    vec![
        WayRow { id: 1, locks: vec![shares], standing: WayStanding::InForce },
        WayRow { id: 2, locks: all, standing: WayStanding::Rotation },
    ]
}

fn progress() -> Progress {
    Progress {
        attempt: "7f3a".to_owned(),
        accepted: vec![1, 3],
        holders: vec!["alice".to_owned(), "carol".to_owned()],
        needed: 3,
        shut: vec![LockName::Passphrase],
        expires_in_secs: 581,
    }
}

fn sums() -> Vec<Answer> {
    vec![
        Answer::Usage(vec![UsageRow {
            key: "gpt-4o-mini".to_owned(),
            label: None,
            calls: 4,
            refused: 1,
            input: 40,
            output: 400,
            untold: 1,
            cost_ticks: 0,
            cost: Money::from_micros(12_345),
            unpriced: 1,
        }]),
        Answer::Budgets(budget_rows()),
        Answer::Prices(Box::new(price_book())),
    ]
}

fn lists() -> Vec<Answer> {
    let created = moment(1_700_000_000_000);
    vec![
        Answer::Witnesses(vec![WitnessRow {
            key: key_text("usb+0a1b2c3d+BA=="),
            required: true,
            created,
            seen_size: Some(300),
            seen_at: Some(moment(1_700_000_001_000)),
        }]),
        Answer::Users(vec![UserRow {
            id: id(1),
            label: label("alice"),
            standing: Standing::Disabled,
            created,
        }]),
        Answer::Workspaces(vec![WorkspaceRow {
            id: id(2),
            label: label("research"),
            members: vec![(id(1), label("alice"))],
            created,
        }]),
        Answer::Providers(vec![ProviderRow {
            name: provider(),
            dialect: Dialect::Xai,
            base_url: "https://api.example.org:8443/v2".to_owned(),
            origin: Origin::BuiltIn,
            paths: 36,
            credentials: 1,
        }]),
        Answer::Credentials(vec![CredentialRow {
            id: id(8),
            label: label("team key"),
            provider: provider(),
            home: Home::Workspace(id(2)),
            home_label: label("research"),
            base_url: "https://api.example.org:8443/v2".to_owned(),
            version: 2,
            rules: rules(),
            created,
            rotated: moment(1_700_000_001_000),
        }]),
        Answer::Tokens(vec![TokenRow {
            id: id(7),
            label: label("laptop"),
            user: id(1),
            user_label: label("alice"),
            scope: scope(),
            created,
        }]),
    ]
}
