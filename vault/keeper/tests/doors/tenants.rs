//! Several tenants in one vault: what each may see, and how one is stopped and deleted.

use std::thread;

use strongroom_policy::id::TenantId;
use strongroom_policy::name::ProviderName;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::rules::{CredentialRules, Standing};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::errand::{Recall, ToCourier};
use strongroom_protocol::operator::audit::{AuditAnswer, AuditFilter, AuditRequest};
use strongroom_protocol::operator::keys::{KeyState, Sweep};
use strongroom_protocol::operator::tenants::{
    Holdings, TenantDeletion, TenantReceipt, TenantRow, Wrapped,
};
use strongroom_protocol::operator::{
    Answer as Told, CredentialWish, Fault, HomePick, Pick, Request, UnsealWith, UsageBy,
};
use strongroom_protocol::upload::{VaultKey, seal_upload};

use crate::keeper::{self, Door, Keeper};
use crate::{
    KEY, admitted, ask, chat, furnish, label, outcome, passphrase, peers, redeem, refused, token,
    token_wish,
};

const KEY_OF_ACME: &[u8] = b"sk-acme-canary-0123456789abcdefghijkl";
const TOKENS: usize = 120;

fn pick(name: &str) -> Pick {
    Pick(label(name))
}

fn within(door: &mut Door, request: &Request) -> Told {
    door.request(&request.within(pick("acme")).unwrap())
}

fn failed(told: Told) -> Fault {
    match told {
        Told::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn tenants(door: &mut Door) -> Vec<TenantRow> {
    match door.request(&Request::TenantList) {
        Told::Tenants(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn keys(door: &mut Door) -> KeyState {
    match door.request(&Request::KeyStatus) {
        Told::Keys(state) => *state,
        other => panic!("{other:?}"),
    }
}

fn unseal(keeper: &Keeper) {
    let right = UnsealWith::Passphrase(passphrase());
    assert!(matches!(keeper.operator().request(&Request::Unseal(right)), Told::Unsealed));
}

/// A tenant with the labels that the first one has, a key of its own and a token.
fn acme(door: &mut Door) -> (TenantId, SecretBytes) {
    let Told::Tenant(id) = door.request(&Request::TenantCreate(label("acme"))) else {
        panic!("no tenant")
    };
    assert!(matches!(within(door, &Request::UserCreate(label("ann"))), Told::User(_)));
    let wish = CredentialWish {
        provider: ProviderName::parse("openai").unwrap(),
        home: HomePick::Personal(None),
        label: label("main"),
        fixed_headers: Vec::new(),
        rules: CredentialRules::default(),
    };
    let Told::Upload { binding, .. } = within(door, &Request::CredentialAdd(Box::new(wish))) else {
        panic!("no upload")
    };
    let Told::Status(status) = door.request(&Request::Status) else { panic!("no status") };
    let vault: VaultKey = status.vault_key.unwrap();
    let blob = || seal_upload(&vault, &binding, KEY_OF_ACME).unwrap();
    let upload = |blob| Request::CredentialUpload { upload: binding.upload, blob };
    assert!(matches!(within(door, &upload(blob())), Told::Credential(_)));
    let Told::Token { text, .. } = within(door, &token_wish("laptop")) else { panic!("no token") };
    (id, text)
}

fn ids(door: &mut Door) -> [String; 3] {
    let Told::Users(users) = door.request(&Request::UserList) else { panic!("users") };
    let Told::Tokens(tokens) = door.request(&Request::TokenList) else { panic!("tokens") };
    let Told::Credentials(all) = door.request(&Request::CredentialList) else { panic!("keys") };
    [users[0].id.to_string(), tokens[0].id.to_string(), all[0].id.to_string()]
}

fn lines(door: &mut Door) -> Vec<String> {
    let request = Request::Audit(AuditRequest::Search {
        filter: Box::new(AuditFilter::default()),
        after: 0,
        limit: 500,
    });
    match within(door, &request) {
        Told::Audit(AuditAnswer::Found { rows, .. }) => {
            rows.into_iter().map(|row| row.line).collect()
        }
        other => panic!("{other:?}"),
    }
}

// Red when a pick looks in all tenants, when a token's credentials are looked up in the first one's tables, or when sums are not kept apart.
#[test]
fn two_tenants_of_one_vault_find_nothing_of_each_other() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    let (id, of_acme) = acme(&mut operator);
    let [user, token, credential] = ids(&mut operator);
    // The same names are each tenant's own, and ids of the other are unknown.
    let (mut gateway, mut courier) = peers(&keeper);
    for (proof, key) in [(&proof, KEY), (&of_acme, KEY_OF_ACME)] {
        let mut call = chat(proof);
        call.choice = Some(label("main"));
        let errand = redeem(&mut courier, admitted(ask(&mut gateway, call))).unwrap();
        assert!(errand.secret.expose(|secret| secret == key));
        courier.send(&outcome(&errand));
    }
    let mut crossed = chat(&of_acme);
    crossed.choice = Some(label(&credential));
    assert_eq!(refused(ask(&mut gateway, crossed)), Refusal::CredentialMissing);
    for request in [
        Request::UserDisable(pick(&user)),
        Request::TokenRevoke(pick(&token)),
        Request::CredentialDelete(pick(&credential)),
        Request::CredentialRotate(pick(&credential)),
        Request::CredentialTest(pick(&credential)),
    ] {
        assert_eq!(failed(within(&mut operator, &request)).code, "SR-PICK-001", "{request:?}");
    }
    let Told::Users(users) = within(&mut operator, &Request::UserList) else { panic!("users") };
    assert!(users.len() == 1 && users[0].id.to_string() != user);
    // Usage and searches of one tenant are of that tenant.
    keeper::until(|| keeper.entries("close") == 2);
    let usage = |by| Request::Usage { since_ms: 0, by };
    let Told::Usage(rows) = within(&mut operator, &usage(UsageBy::Provider)) else {
        panic!("sums")
    };
    assert_eq!((rows.len(), rows[0].calls, rows[0].refused), (1, 1, 1));
    let Told::Usage(rows) = operator.request(&usage(UsageBy::Tenant)) else { panic!("sums") };
    assert_eq!(rows.iter().map(|row| row.calls).collect::<Vec<_>>(), [1, 1]);
    let lines = lines(&mut operator);
    assert!(lines.iter().any(|line| line.contains("\"what\":\"admit\"")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("\"act\":\"user.create\"")), "{lines:?}");
    for line in &lines {
        assert!(!line.contains(&user) && !line.contains(&credential), "{line}");
        let names = line.contains(&id.to_string());
        assert!(names || line.contains("\"what\":\"close\""), "{line}");
    }
}

// Red when what is wrapped is done without asking what it is about.
#[test]
fn a_request_for_one_tenant_is_about_a_tenant_and_is_not_wrapped_twice() {
    let keeper = Keeper::start();
    drop(furnish(&keeper));
    let mut operator = keeper.operator();
    drop(acme(&mut operator));
    let twice = Request::UserList.within(pick("acme")).unwrap();
    for request in [Request::Seal, Request::KeyRotate, Request::TenantList, Request::Panic, twice] {
        assert_eq!(failed(within(&mut operator, &request)).code, "SR-TENANT-002", "{request:?}");
    }
    let of_none = Request::In { tenant: pick("acme"), request: Wrapped::of(vec![0xFF].into()) };
    assert_eq!(failed(operator.request(&of_none)).code, "SR-TENANT-002");
    let of_nobody = Request::UserList.within(pick("nobody")).unwrap();
    assert_eq!(failed(operator.request(&of_nobody)).code, "SR-PICK-001");
    let again = Request::TenantCreate(label("acme"));
    assert_eq!(failed(operator.request(&again)).code, "SR-NAME-001");
}

// Red when an upload is ended in whichever tenant it is brought to.
#[test]
fn an_upload_that_was_opened_for_one_tenant_is_none_in_another() {
    let keeper = Keeper::start();
    drop(furnish(&keeper));
    let mut operator = keeper.operator();
    drop(acme(&mut operator));
    let rotate = Request::CredentialRotate(pick("main"));
    let Told::Upload { binding, .. } = within(&mut operator, &rotate) else { panic!("no upload") };
    let Told::Status(status) = operator.request(&Request::Status) else { panic!("no status") };
    let blob = seal_upload(&status.vault_key.unwrap(), &binding, KEY_OF_ACME).unwrap();
    let upload = Request::CredentialUpload { upload: binding.upload, blob };
    assert_eq!(failed(operator.request(&upload)).code, "SR-UPLOAD-001");
    let Told::Credentials(rows) = operator.request(&Request::CredentialList) else {
        panic!("rows")
    };
    assert_eq!((rows.len(), rows[0].version), (1, 1));
}

// Red when a tenant's standing is not asked, or its calls are not stopped.
#[test]
fn a_disabled_tenant_is_refused_at_its_next_call_and_stopped_in_its_running_ones() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    let (_, of_acme) = acme(&mut operator);
    let (mut gateway, mut courier) = peers(&keeper);
    let running = redeem(&mut courier, admitted(ask(&mut gateway, chat(&of_acme)))).unwrap();
    assert!(matches!(operator.request(&Request::TenantDisable(pick("acme"))), Told::Done));
    match courier.receive() {
        ToCourier::Recall(Recall::Calls(calls)) => assert_eq!(calls, [running.call]),
        other => panic!("{other:?}"),
    }
    let refusal = refused(ask(&mut gateway, chat(&of_acme)));
    admitted(ask(&mut gateway, chat(&proof)));
    keeper.kill_and_start();
    unseal(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    assert_eq!(refused(ask(&mut gateway, chat(&of_acme))), refusal, "it stays so");
    let mut operator = keeper.operator();
    assert!(matches!(operator.request(&Request::TenantEnable(pick("acme"))), Told::Done));
    admitted(ask(&mut gateway, chat(&of_acme)));
}

fn count(door: &mut Door) -> Holdings {
    match door.request(&Request::TenantDelete(pick("acme"), TenantDeletion::Count)) {
        Told::TenantCounted(counted) => counted.holds,
        other => panic!("{other:?}"),
    }
}

fn delete(door: &mut Door) -> TenantReceipt {
    let holds = count(door);
    match door.request(&Request::TenantDelete(pick("acme"), TenantDeletion::Perform(holds))) {
        Told::TenantDeleted(receipt) => *receipt,
        other => panic!("{other:?}"),
    }
}

// Red when a record or a key of the tenant stays, when the count is not compared, or when one that is made anew inherits.
#[test]
fn a_deleted_tenant_is_gone_with_its_root_and_one_of_its_name_inherits_nothing() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    let before = keys(&mut operator);
    let (id, of_acme) = acme(&mut operator);
    let holds = count(&mut operator);
    assert_eq!(holds, Holdings { users: 1, workspaces: 0, tokens: 1, credentials: 1 });
    assert!(matches!(within(&mut operator, &token_wish("more")), Told::Token { .. }));
    let stale = Request::TenantDelete(pick("acme"), TenantDeletion::Perform(holds));
    assert_eq!(failed(operator.request(&stale)).code, "SR-DELETE-001");
    let first = Request::TenantDelete(pick("first"), TenantDeletion::Count);
    assert_eq!(failed(operator.request(&first)).code, "SR-TENANT-003");
    let (mut gateway, mut courier) = peers(&keeper);
    redeem(&mut courier, admitted(ask(&mut gateway, chat(&of_acme)))).unwrap();
    let receipt = delete(&mut operator);
    assert_eq!((receipt.records, receipt.destroyed_keys, receipt.stopped_calls), (6, 3, 1));
    assert_eq!(refused(ask(&mut gateway, chat(&of_acme))), Refusal::TokenInvalid);
    let after = keys(&mut operator);
    assert_eq!((after.keys, after.records), (before.keys, before.records));
    keeper.kill_and_start();
    unseal(&keeper);
    let mut operator = keeper.operator();
    assert_eq!(tenants(&mut operator).len(), 1);
    assert_eq!(keys(&mut operator).keys, before.keys);
    let Told::Tenant(anew) = operator.request(&Request::TenantCreate(label("acme"))) else {
        panic!("no tenant")
    };
    assert_ne!(anew, id);
    let Told::Users(users) = within(&mut operator, &Request::UserList) else { panic!("users") };
    assert!(users.is_empty());
    let (mut gateway, _courier) = peers(&keeper);
    assert_eq!(refused(ask(&mut gateway, chat(&of_acme))), Refusal::TokenInvalid);
    admitted(ask(&mut gateway, chat(&proof)));
}

// Red when a credential's two records fall into two commits, or its own record goes before others.
#[test]
fn a_deletion_of_a_tenant_that_is_killed_leaves_it_disabled_or_gone_and_is_done_again() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    drop(acme(&mut operator));
    for number in 0..TOKENS {
        let made = within(&mut operator, &token_wish(&format!("t{number}")));
        assert!(matches!(made, Told::Token { .. }));
    }
    let holds = count(&mut operator);
    let mut deleting = keeper.operator();
    let begun = thread::spawn(move || {
        let perform = TenantDeletion::Perform(holds);
        // The keeper is killed under it, or has just answered.
        drop(deleting.request(&Request::TenantDelete(pick("acme"), perform)));
    });
    keeper::until(|| keeper.acts("tenant.delete") == 1);
    keeper.kill_and_start();
    drop(begun.join());
    unseal(&keeper);
    let mut operator = keeper.operator();
    if let Some(left) = tenants(&mut operator).into_iter().find(|row| !row.first) {
        assert_eq!(left.standing, Standing::Disabled);
        delete(&mut operator);
    }
    assert_eq!(tenants(&mut operator).len(), 1);
    let (mut gateway, _courier) = peers(&keeper);
    admitted(ask(&mut gateway, chat(&proof)));
    drop(token(&mut operator, "after"));
}

// Red when the keys of the first tenant only are drawn anew.
#[test]
fn a_rotation_of_the_keys_rewrites_the_records_of_every_tenant() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    let (_, of_acme) = acme(&mut operator);
    assert!(matches!(operator.request(&Request::KeyRotate), Told::Keys(_)));
    keeper::until(|| keys(&mut operator).sweep == Sweep::Idle);
    let state = keys(&mut operator);
    assert_eq!((state.epochs, state.old_records), (vec![(2, state.records)], 0));
    keeper.kill_and_start();
    unseal(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    for (proof, key) in [(&proof, KEY), (&of_acme, KEY_OF_ACME)] {
        let errand = redeem(&mut courier, admitted(ask(&mut gateway, chat(proof)))).unwrap();
        assert!(errand.secret.expose(|secret| secret == key));
    }
}
