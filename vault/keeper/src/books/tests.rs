//! The books as a whole: epochs, formats, ciphers and deletion, on a real store.

use strongroom_policy::id::UserId;
use strongroom_sys::Secret;

use super::scene::{ANN, CARD, LAB, Scene, TOKEN, every_record, home};
use super::{BooksError, Refusal};
use crate::envelope::{EnvelopeError, Header};
use crate::keyring::{KEYRING_FILE, KeyringError, ShredId};
use crate::keys::{Algorithm, Epoch, Format};
use crate::records::RecordName;

const AES: Algorithm = Algorithm::Aes256Gcm;
const BOTH: [Algorithm; 2] = [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305];

fn start_epoch(scene: &mut super::scene::OpenScene) -> Epoch {
    let started =
        scene.unsealed.lock().unwrap().keyring_mut().start_epoch(&mut getrandom::fill).unwrap();
    let keys = scene.keys();
    scene.books.turn_to(keys);
    started
}

fn headers(scene: &Scene) -> Vec<Header> {
    let rows = scene.rows().into_iter().filter(|(key, _)| key != crate::manifest::MARK_RECORD);
    rows.map(|(_, value)| Header::parse(&value).unwrap()).collect()
}

#[test]
fn every_kind_of_record_comes_back_under_either_cipher_and_from_a_store_of_both() {
    for (first, second) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let scene = Scene::make(1);
        scene.open(first).unwrap().furnish();
        assert!(headers(&scene).iter().all(|header| header.algorithm == first));
        let mut open = scene.open(second).unwrap();
        for (name, plain) in every_record() {
            assert!(open.has(&name, plain), "{name:?}");
        }
        open.put(&RecordName::User(ANN), b"a changed person");
        drop(open);
        let both = |algorithm| headers(&scene).iter().any(|header| header.algorithm == algorithm);
        assert!(both(first) && both(second));
        let open = scene.open(first).unwrap();
        assert!(open.has(&RecordName::User(ANN), b"a changed person"));
        assert_eq!(open.records.len(), every_record().len());
    }
}

#[test]
fn a_new_epoch_is_written_at_once_and_old_records_stay_readable_beside_it() {
    for algorithm in BOTH {
        let scene = Scene::make(1);
        let mut open = scene.open(algorithm).unwrap();
        open.furnish();
        assert_eq!(start_epoch(&mut open), Epoch(2));
        assert_eq!(open.books.generations().old, every_record().len());
        open.put(&RecordName::User(ANN), b"a changed person");
        assert_eq!(open.books.generations().old, every_record().len() - 1);
        drop(open);
        let open = scene.open(algorithm).unwrap();
        assert!(open.has(&RecordName::User(ANN), b"a changed person"));
        assert!(open.has(&RecordName::Key(CARD), b"sk-canary-0123456789"));
        assert_eq!(open.books.generations().epochs.len(), 2);
    }
}

// Red when `Portion::rewrite` seals under the epoch that it read.
#[test]
fn a_sweep_leaves_no_record_of_an_old_epoch_and_then_the_old_epoch_can_go() {
    let scene = Scene::make(1);
    let mut open = scene.open(AES).unwrap();
    open.furnish();
    let before = scene_rows(&scene, open);
    let mut open = scene.open(AES).unwrap();
    start_epoch(&mut open);
    assert!(open.sweep() > 0);
    assert_eq!(open.books.generations().old, 0);
    open.unsealed.lock().unwrap().keyring_mut().retire_old_epochs(&mut getrandom::fill).unwrap();
    drop(open);
    assert!(headers(&scene).iter().all(|header| header.epoch == Epoch(2)));
    let open = scene.open(AES).unwrap();
    for (name, plain) in every_record() {
        assert!(open.has(&name, plain), "{name:?}");
    }
    // What lies in the store's log, and in every copy of the store from before, opens no more.
    let guard = open.unsealed.lock().unwrap();
    let keyring = guard.keyring();
    let old = super::reading::Rows::of(before).open(&open.keys_of(keyring), keyring);
    assert!(matches!(old, Err(BooksError::Retired(Epoch(1)))));
}

fn scene_rows(scene: &Scene, open: super::scene::OpenScene) -> Vec<(Vec<u8>, Vec<u8>)> {
    drop(open);
    scene.rows()
}

#[test]
fn a_sweep_that_was_cut_short_goes_on_where_records_are_old() {
    let scene = Scene::make(1);
    let mut open = scene.open(AES).unwrap();
    open.furnish();
    let id = |number: u128| UserId::from_random((number << 64).to_be_bytes());
    let owners: Vec<_> = (1..200).map(|number| ShredId::of(id(number))).collect();
    open.add_owners(&owners);
    for number in 1..200 {
        open.put(&RecordName::User(id(number)), b"another person");
    }
    start_epoch(&mut open);
    let all = open.books.generations().old;
    let portion = open.books.old_records(None, |_| None).unwrap();
    open.rewrite(portion);
    let left = open.books.generations().old;
    assert!(left < all && left > 0, "{left} of {all}");
    drop(open);
    let mut open = scene.open(AES).unwrap();
    assert_eq!(open.books.generations().old, left);
    open.sweep();
    assert_eq!(open.books.generations().old, 0);
    assert_eq!(open.books.generations().records, all);
}

// Red when the batch of a rewriting expects nothing.
#[test]
fn a_record_that_changed_after_it_was_read_is_not_written_over() {
    let scene = Scene::make(1);
    let mut open = scene.open(AES).unwrap();
    open.furnish();
    start_epoch(&mut open);
    let portion = open.books.old_records(None, |_| None).unwrap();
    let (answer, outcome) = std::sync::mpsc::channel();
    open.books.at_rest(move |store| answer.send(portion.rewrite(store)).unwrap()).unwrap();
    let changes = outcome.recv().unwrap().unwrap();
    open.put(&RecordName::User(ANN), b"newer");
    let (outcome, _) = open.books.submit(changes);
    assert!(matches!(
        outcome.blocking_recv().unwrap(),
        Err(strongroom_store::StoreError::Conflict)
    ));
    drop(open);
    assert!(scene.open(AES).unwrap().has(&RecordName::User(ANN), b"newer"));
}

/// A store as the first version left it: tokens under their own name, shred keys for credentials' keys only.
fn first_version(scene: &Scene) {
    let mut open = scene.open(AES).unwrap();
    open.add_owner(ShredId::of(CARD));
    let (keys, mut batch) = (open.keys(), strongroom_store::Batch::new());
    let guard = open.unsealed.lock().unwrap();
    let card = guard.keyring().keyring().shred_key(ShredId::of(CARD)).unwrap().open().unwrap();
    drop(guard);
    let mut written = Vec::new();
    for (name, plain) in every_record() {
        let (name, plain) = match name {
            RecordName::Token(_, id) => (RecordName::LooseToken(id), plain),
            RecordName::Provider(_) => (name, &b"a provider"[..]),
            other => (other, plain),
        };
        let shred = name.owner(Format::One).map(|_| &card);
        let envelope = keys.seal_first((&home(&name), 1), plain, shred);
        let key = super::piece_key(&name.store_key(), 0);
        batch = batch.put(super::store_key(&key).unwrap(), super::value(&envelope).unwrap());
        let one = super::Written { version: 1, pieces: 1, epoch: Epoch(1), format: Format::One };
        written.push((name.store_key(), Some(one)));
    }
    open.commit(super::Changes { batch, written });
    open.unsealed.lock().unwrap().keyring_mut().admit_first_format();
}

// Red when `TenantKeys::open` does not compare with the lowest format.
#[test]
fn records_of_the_first_version_are_rewritten_and_then_refused() {
    let scene = Scene::make(1);
    first_version(&scene);
    let old = scene.rows();
    let mut open = scene.open(AES).unwrap();
    assert!(open.has(&RecordName::LooseToken(TOKEN), b"a token"));
    assert_eq!(open.books.generations().old, every_record().len());
    for owner in [ShredId::of(ANN), ShredId::of(LAB)] {
        open.add_owner(owner);
    }
    open.sweep();
    assert_eq!(open.books.generations().old, 0);
    open.unsealed.lock().unwrap().keyring_mut().retire_old_epochs(&mut getrandom::fill).unwrap();
    drop(open);
    let open = scene.open(AES).unwrap();
    assert!(open.has(&RecordName::Token(ANN, TOKEN), b"a token"));
    assert_eq!(open.records.len(), every_record().len());
    let guard = open.unsealed.lock().unwrap();
    let keyring = guard.keyring();
    let back = super::reading::Rows::of(old).open(&open.keys_of(keyring), keyring);
    assert!(matches!(
        back,
        Err(BooksError::Envelope(EnvelopeError::OtherFormat { found: Format::One, .. }))
    ));
}

// Red when `RecordName::owner` answers `None` for a person, a token, a workspace or a description.
#[test]
fn what_lingers_of_a_deleted_owner_is_dead_under_the_newest_keyring() {
    let scene = Scene::make(1);
    let mut open = scene.open(AES).unwrap();
    open.furnish();
    let before = scene_rows(&scene, open);
    let mut open = scene.open(AES).unwrap();
    let owners = [ShredId::of(ANN), ShredId::of(LAB), ShredId::of(CARD)];
    for (name, _) in
        every_record().into_iter().filter(|(name, _)| name.owner(Format::Two).is_some())
    {
        open.delete(&name);
    }
    open.unsealed
        .lock()
        .unwrap()
        .keyring_mut()
        .remove_shred_keys(&owners, &mut getrandom::fill)
        .unwrap();
    let guard = open.unsealed.lock().unwrap();
    let keyring = guard.keyring();
    for row in before.iter().filter(|(key, _)| matches!(key[0], b'u' | b't' | b'w' | b'c' | b'k')) {
        let rows = super::reading::Rows::of(vec![row.clone()]);
        let opened = rows.open(&open.keys_of(keyring), keyring);
        assert!(matches!(opened, Err(BooksError::Keyring(KeyringError::Unknown))), "{row:?}");
    }
}

#[test]
fn a_copy_of_the_store_from_before_a_deletion_is_refused_with_the_newest_keyring() {
    let scene = Scene::make(1);
    let mut open = scene.open(AES).unwrap();
    open.furnish();
    drop(open);
    let copy = tempfile::tempdir().unwrap();
    copy_directory(scene.directory(), copy.path());
    let mut open = scene.open(AES).unwrap();
    open.delete(&RecordName::Key(CARD));
    open.delete(&RecordName::Credential(CARD));
    let commit = open.books.commit();
    let mut guard = open.unsealed.lock().unwrap();
    guard.keyring_mut().reach(commit);
    let owner = ShredId::of(CARD);
    guard.keyring_mut().remove_shred_keys(&[owner], &mut getrandom::fill).unwrap();
    drop(guard);
    drop(open);
    // The thief brings back everything but the keyring, which lies in both slots without the key.
    let newest = std::fs::read(scene.scratch.path(KEYRING_FILE)).unwrap();
    copy_directory(copy.path(), scene.directory());
    std::fs::write(scene.scratch.path(KEYRING_FILE), newest).unwrap();
    assert!(matches!(
        scene.open(AES).map(|_| ()),
        Err(BooksError::Refused(Refusal::RolledBack { .. }))
    ));
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            drop(std::fs::remove_dir_all(&target));
            std::fs::create_dir_all(&target).unwrap();
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_rotation_of_a_key_that_was_cut_short_opens_with_whichever_key_the_store_has() {
    for committed in [false, true] {
        let scene = Scene::make(1);
        let mut open = scene.open(AES).unwrap();
        open.furnish();
        let owner = ShredId::of(CARD);
        let mut guard = open.unsealed.lock().unwrap();
        guard.keyring_mut().add_successor(owner, &mut getrandom::fill).unwrap();
        let successor = guard.keyring().keyring().successor(owner).unwrap().clone();
        drop(guard);
        if committed {
            let mut changes = open.books.changes();
            for name in [RecordName::Key(CARD), RecordName::Credential(CARD)] {
                let plain = Secret::copy_from(b"rotated");
                changes = open
                    .books
                    .put_under(changes, (&home(&name), Some(&successor)), &plain)
                    .unwrap();
            }
            open.commit(changes);
        }
        drop(open);
        let open = scene.open(AES).unwrap();
        assert_eq!(open.taken, if committed { vec![owner] } else { vec![] });
        assert_eq!(open.has(&RecordName::Key(CARD), b"rotated"), committed);
        open.unsealed
            .lock()
            .unwrap()
            .keyring_mut()
            .settle_successors(&open.taken, &mut getrandom::fill)
            .unwrap();
        drop(open);
        assert_eq!(scene.open(AES).unwrap().has(&RecordName::Key(CARD), b"rotated"), committed);
    }
}

#[test]
fn a_record_whose_owner_has_no_shred_key_is_not_written() {
    let scene = Scene::make(1);
    let open = scene.open(AES).unwrap();
    let put = |name: &RecordName| {
        open.books.put(open.books.changes(), &home(name), &Secret::copy_from(b"x")).map(|_| ())
    };
    assert!(matches!(put(&RecordName::User(ANN)), Err(BooksError::Ownerless)));
    assert!(matches!(put(&RecordName::Token(ANN, TOKEN)), Err(BooksError::Ownerless)));
}
