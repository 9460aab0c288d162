//! How long an unsealing takes with as many records as there can be.

use std::time::Instant;

use strongroom_policy::id::{CredentialId, TokenId, UserId, WorkspaceId};
use strongroom_sys::Secret;

use super::scene::{Scene, home};
use crate::keyring::ShredId;
use crate::keys::Algorithm;
use crate::records::RecordName;

/// Five records for each: a person, a workspace, a token, a credential and its key.
fn homes() -> u128 {
    strongroom_soak::size(200, 20_000)
}

#[test]
fn all_records_that_there_can_be_are_judged_and_opened() {
    let scene = Scene::make(1);
    let mut open = scene.open(Algorithm::Aes256Gcm).unwrap();
    let id = |kind: u128, number: u128| ((kind << 120) | (number << 8)).to_be_bytes();
    let all = homes();
    let owners: Vec<_> = [1, 2, 3]
        .into_iter()
        .flat_map(|kind| (0..all).map(move |number| ShredId(id(kind, number))))
        .collect();
    open.add_owners(&owners);
    for some in (0..all).collect::<Vec<_>>().chunks(40) {
        let mut changes = open.books.changes();
        for number in some {
            let user = UserId::from_random(id(1, *number));
            let card = CredentialId::from_random(id(3, *number));
            for name in [
                RecordName::User(user),
                RecordName::Workspace(WorkspaceId::from_random(id(2, *number))),
                RecordName::Token(user, TokenId::from_random(id(4, *number))),
                RecordName::Credential(card),
                RecordName::Key(card),
            ] {
                let plain = Secret::copy_from(&[0x55; 150]);
                changes = open.books.put(changes, &home(&name), &plain).unwrap();
            }
        }
        open.commit(changes);
    }
    drop(open);
    let begun = Instant::now();
    let open = scene.open(Algorithm::Aes256Gcm).unwrap();
    let took = begun.elapsed();
    assert_eq!(open.records.len(), usize::try_from(all * 5).unwrap());
    strongroom_soak::tell(
        "unseal",
        &format!("{} records judged and opened, ms", all * 5),
        took.as_millis(),
    );
}
