//! Generations of keys and deletion, while the keeper serves.

use std::time::Instant;

use strongroom_policy::name::ProviderName;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::rules::CredentialRules;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::errand::{Recall, ToCourier};
use strongroom_protocol::operator::keys::{Deletion, Dependents, KeyState, Receipt, Sweep};
use strongroom_protocol::operator::{
    Answer as Told, CredentialWish, HomePick, Pick, Request, TokenWish, UnsealWith,
};
use strongroom_protocol::upload::{UploadBinding, VaultKey, seal_upload};

use crate::keeper::{self, Door, Keeper};
use crate::{
    KEY, admitted, ask, chat, furnish, label, passphrase, peers, redeem, refused, scope, token,
};

/// Enough for several portions of a sweep.
const TOKENS: usize = 300;

fn unseal(keeper: &Keeper) {
    let right = UnsealWith::Passphrase(passphrase());
    assert!(matches!(keeper.operator().request(&Request::Unseal(right)), Told::Unsealed));
}

fn keys(door: &mut Door) -> KeyState {
    match door.request(&Request::KeyStatus) {
        Told::Keys(state) => *state,
        other => panic!("{other:?}"),
    }
}

fn tokens(door: &mut Door) -> usize {
    match door.request(&Request::TokenList) {
        Told::Tokens(rows) => rows.len(),
        other => panic!("{other:?}"),
    }
}

/// How often an act is among the last entries.
fn acts(door: &mut Door, act: &str) -> usize {
    let last = Request::AuditTail { after: None, limit: 500, wait_ms: 0 };
    let Told::Journal(rows) = door.request(&last) else { panic!("no journal") };
    let wanted = format!("\"act\":\"{act}\"");
    rows.iter().filter(|row| row.line.contains(&wanted)).count()
}

fn rotate(door: &mut Door) -> KeyState {
    match door.request(&Request::KeyRotate) {
        Told::Keys(state) => *state,
        other => panic!("{other:?}"),
    }
}

fn settled(keeper: &Keeper, epoch: u32) {
    let mut door = keeper.operator();
    keeper::until(|| keys(&mut door).sweep == Sweep::Idle);
    let state = keys(&mut door);
    assert_eq!((state.epoch, state.old_records, state.lowest_format), (epoch, 0, 2));
    assert_eq!(state.epochs, [(epoch, state.records)], "older generations are destroyed");
}

#[test]
fn a_rotation_rewrites_every_record_while_acts_and_calls_go_on() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    for number in 0..TOKENS {
        drop(token(&mut operator, &format!("t{number}")));
    }
    let (mut gateway, _courier) = peers(&keeper);
    let begun = rotate(&mut operator);
    assert_eq!((begun.epoch, begun.old_records), (2, begun.records));
    assert_eq!(begun.sweep, Sweep::Running);
    // An act has its turn between two portions, and a call waits for neither.
    let asked = Instant::now();
    drop(token(&mut operator, "during"));
    assert!(asked.elapsed() < keeper::PROMPT, "{:?}", asked.elapsed());
    admitted(ask(&mut gateway, chat(&proof)));
    settled(&keeper, 2);
    assert_eq!(tokens(&mut operator), TOKENS + 2);
    keeper::until(|| acts(&mut operator, "key.sweep") == 1);
    assert_eq!(acts(&mut operator, "key.rotate"), 1);
    admitted(ask(&mut gateway, chat(&proof)));
}

#[test]
fn a_rotation_that_is_killed_or_sealed_goes_on_by_itself_at_the_next_unsealing() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    for number in 0..TOKENS {
        drop(token(&mut operator, &format!("t{number}")));
    }
    let begun = rotate(&mut operator);
    keeper::until(|| keys(&mut operator).old_records < begun.records);
    keeper.kill_and_start();
    unseal(&keeper);
    let mut operator = keeper.operator();
    assert_eq!(tokens(&mut operator), TOKENS + 1);
    // A second one begins while the first is under way, and is sealed at once.
    assert_eq!(rotate(&mut operator).epoch, 3);
    assert!(matches!(operator.request(&Request::Seal), Told::Done));
    unseal(&keeper);
    settled(&keeper, 3);
    assert_eq!(tokens(&mut operator), TOKENS + 1);
    let (mut gateway, mut courier) = peers(&keeper);
    let errand = redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    assert!(errand.secret.expose(|key| key == KEY));
}

fn count(door: &mut Door, request: fn(Pick, Deletion) -> Request, name: &str) -> Dependents {
    match door.request(&request(Pick(label(name)), Deletion::Count)) {
        Told::Counted(counted) => counted.dependents,
        other => panic!("{other:?}"),
    }
}

fn perform(
    door: &mut Door,
    request: fn(Pick, Deletion) -> Request,
    (name, counted): (&str, Dependents),
) -> Receipt {
    match door.request(&request(Pick(label(name)), Deletion::Perform(counted))) {
        Told::Deleted(receipt) => *receipt,
        other => panic!("{other:?}"),
    }
}

fn offer(door: &mut Door, home: HomePick, name: &str) -> UploadBinding {
    let offered = door.request(&Request::CredentialAdd(Box::new(CredentialWish {
        provider: ProviderName::parse("openai").unwrap(),
        home,
        label: label(name),
        fixed_headers: Vec::new(),
        rules: CredentialRules::default(),
    })));
    let Told::Upload { binding, .. } = offered else { panic!("{offered:?}") };
    *binding
}

fn upload(door: &mut Door, binding: &UploadBinding) -> Told {
    let Told::Status(status) = door.request(&Request::Status) else { panic!("no status") };
    let vault: VaultKey = status.vault_key.unwrap();
    let blob = seal_upload(&vault, binding, KEY).unwrap();
    door.request(&Request::CredentialUpload { upload: binding.upload, blob })
}

fn people(door: &mut Door) -> Vec<String> {
    match door.request(&Request::UserList) {
        Told::Users(rows) => rows.iter().map(|row| row.label.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

// Red when `user_delete` does not stop calls, leaves a token or a key, or does not compare the count.
#[test]
fn a_deleted_person_is_stopped_and_gone_with_tokens_credentials_and_shred_keys() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    assert!(matches!(operator.request(&Request::UserCreate(label("bob"))), Told::User(_)));
    let made = operator.request(&Request::WorkspaceCreate(label("lab")));
    assert!(matches!(made, Told::Workspace(_)));
    for name in ["ann", "bob"] {
        let join = Request::WorkspaceJoin(Pick(label("lab")), Pick(label(name)));
        assert!(matches!(operator.request(&join), Told::Done));
    }
    let late = offer(&mut operator, HomePick::Personal(Some(Pick(label("ann")))), "late");
    let before = count(&mut operator, Request::UserDelete, "ann");
    assert_eq!(before, Dependents { tokens: 1, credentials: 1, memberships: 1 });
    let (mut gateway, mut courier) = peers(&keeper);
    let running = redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    // What changed since it was counted is not deleted unseen.
    let more = token(&mut operator, "more");
    let stale = Request::UserDelete(Pick(label("ann")), Deletion::Perform(before));
    match operator.request(&stale) {
        Told::Failed(fault) => assert_eq!(fault.code, "SR-DELETE-001"),
        other => panic!("{other:?}"),
    }
    admitted(ask(&mut gateway, chat(&more)));
    let counted = count(&mut operator, Request::UserDelete, "ann");
    let keys_before = keys(&mut operator).keys;
    let receipt = perform(&mut operator, Request::UserDelete, ("ann", counted));
    assert_eq!((receipt.destroyed_keys, receipt.records), (2, 5));
    assert_eq!(receipt.stopped_calls, 2);
    assert_eq!(keys(&mut operator).keys, keys_before - 2);
    match courier.receive() {
        ToCourier::Recall(Recall::Calls(calls)) => assert!(calls.contains(&running.call)),
        other => panic!("{other:?}"),
    }
    for gone in [&proof, &more] {
        assert_eq!(refused(ask(&mut gateway, chat(gone))), Refusal::TokenInvalid);
    }
    match upload(&mut operator, &late) {
        Told::Failed(fault) => assert_eq!(fault.code, "SR-PICK-002"),
        other => panic!("{other:?}"),
    }
    keeper.kill_and_start();
    unseal(&keeper);
    let mut operator = keeper.operator();
    assert_eq!(people(&mut operator), ["bob"]);
    assert_eq!(tokens(&mut operator), 0);
    assert_eq!(keys(&mut operator).keys, keys_before - 2);
    let Told::Workspaces(rows) = operator.request(&Request::WorkspaceList) else { panic!("rows") };
    assert_eq!(rows[0].members.len(), 1);
    for act in ["user.delete", "token.revoke", "credential.delete", "workspace.leave"] {
        assert!(acts(&mut operator, act) > 0, "{act}");
    }
}

#[test]
fn a_deleted_workspace_takes_the_credentials_at_home_there_and_stops_their_calls() {
    let mut keeper = Keeper::start();
    drop(furnish(&keeper));
    let mut operator = keeper.operator();
    let made = operator.request(&Request::WorkspaceCreate(label("lab")));
    assert!(matches!(made, Told::Workspace(_)));
    let join = Request::WorkspaceJoin(Pick(label("lab")), Pick(label("ann")));
    assert!(matches!(operator.request(&join), Told::Done));
    let binding = offer(&mut operator, HomePick::Workspace(Pick(label("lab"))), "team");
    assert!(matches!(upload(&mut operator, &binding), Told::Credential(_)));
    let wish = TokenWish {
        user: None,
        label: label("bound"),
        scope: scope(),
        credential: Some(Pick(label("team"))),
    };
    let bound: SecretBytes = match operator.request(&Request::TokenCreate(Box::new(wish))) {
        Told::Token { text, .. } => text,
        other => panic!("{other:?}"),
    };
    let (mut gateway, mut courier) = peers(&keeper);
    let running = redeem(&mut courier, admitted(ask(&mut gateway, chat(&bound)))).unwrap();
    let counted = count(&mut operator, Request::WorkspaceDelete, "lab");
    assert_eq!(counted, Dependents { tokens: 0, credentials: 1, memberships: 1 });
    let receipt = perform(&mut operator, Request::WorkspaceDelete, ("lab", counted));
    assert_eq!((receipt.destroyed_keys, receipt.records, receipt.stopped_calls), (2, 3, 1));
    match courier.receive() {
        ToCourier::Recall(Recall::Calls(calls)) => assert_eq!(calls, [running.call]),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(ask(&mut gateway, chat(&bound))), Refusal::CredentialMissing);
    keeper.kill_and_start();
    unseal(&keeper);
    let mut operator = keeper.operator();
    assert!(
        matches!(operator.request(&Request::WorkspaceList), Told::Workspaces(rows) if rows.is_empty())
    );
    assert!(
        matches!(operator.request(&Request::CredentialList), Told::Credentials(rows) if rows.len() == 1)
    );
}
