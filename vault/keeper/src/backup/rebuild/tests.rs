//! Backups of a small vault: what is restored, and everything that is refused.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use strongroom_policy::moment::Moment;
use strongroom_policy::name::ProviderName;
use strongroom_store::{Choice, MemoryStore, Store};
use strongroom_sys::Secret;

use super::{RebuildError, Rebuilt, read_header, read_tables, rebuild, verify};
use crate::backup::content::{Closing, ContentWriter};
use crate::backup::fixture::{CREDENTIAL, NOWHERE, OTHER_USER, Small, USER, user};
use crate::backup::halt::Halt;
use crate::backup::make::{MakeError, Snapshot};
use crate::backup::stream::{CHUNK_BYTES, Header, StreamWriter};
use crate::books::BooksError;
use crate::keyring::KeyringError;
use crate::keys::RecordId;
use crate::manifest::{MARK_RECORD, Refusal};
use crate::records::RecordName;
use crate::vault::open_books;

fn try_verify(small: &Small, backup: &Path) -> Result<super::Content, RebuildError> {
    let scratch = small.scratch.path("verified");
    let verified =
        verify(backup, (small.store, small.key()), (&scratch, &Choice::Sled, &Halt::default()));
    if scratch.exists() {
        fs::remove_dir_all(&scratch).unwrap();
    }
    verified
}

fn again(small: &Small, backup: &Path, name: &str, choice: &Choice) -> Rebuilt {
    let header = read_header(backup).unwrap();
    let place = small.scratch.path(name);
    rebuild(backup, (small.key(), &header.seal, 0), (&place, choice, &Halt::default())).unwrap()
}

fn write(small: &Small, bytes: &[u8]) -> PathBuf {
    let path = small.scratch.path("changed");
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_backup_restores_and_every_record_opens() {
    let small = Small::make();
    let (path, written) = small.backup("one");
    assert_eq!(fs::metadata(&path).unwrap().len(), written.bytes);
    let content = try_verify(&small, &path).unwrap();
    assert_eq!((content.commit, content.records), (written.commit, written.records));
    assert_eq!(
        (content.users, content.workspaces, content.tokens, content.credentials),
        (2, 1, 2, 2)
    );
    let made = again(&small, &path, "again", &Choice::Redb);
    assert!(made.tables.of_first().credentials.contains_key(&CREDENTIAL));
    assert!(
        made.books.commit() > written.commit + u64::from(u32::MAX) - written.commit % (1 << 32)
    );
}

#[test]
fn the_same_commit_is_the_same_content_and_another_stream() {
    let small = Small::make();
    let (one, two) = (small.backup("one"), small.backup("two"));
    assert_eq!((one.1.commit, one.1.bytes), (two.1.commit, two.1.bytes));
    assert_ne!(fs::read(one.0).unwrap(), fs::read(two.0).unwrap());
}

#[test]
fn a_backup_made_while_writers_write_is_one_commits_state() {
    let mut small = Small::make();
    let mut waiting = Vec::new();
    let (answer, made) = channel();
    let rounds = 60_u64;
    for round in 0..rounds {
        // Both records say the same in every commit.
        let record = user(&format!("round {round}"));
        let plain = || Secret::take(postcard::to_stdvec(&record).unwrap());
        let mut changes = small.books.changes();
        for id in [USER, OTHER_USER] {
            changes =
                small.books.put(changes, &small.place(RecordName::User(id)), &plain()).unwrap();
        }
        let (outcome, noted) = small.books.submit(changes);
        waiting.push(outcome);
        small.books.note(noted);
        if round % 20 == 10 {
            let path = small.scratch.path(&format!("under way {round}"));
            let file = fs::File::create(&path).unwrap();
            let answer = answer.clone();
            let work = move |store: &dyn Store, manifest: &_, unsealed: &_| {
                let now = (Moment::from_unix_millis(1), &Halt::default());
                let taken = Snapshot::take(store, (manifest, unsealed), now);
                answer.send((round, path, file, taken)).map_err(drop).unwrap();
            };
            small.books.whole_at_rest(work).unwrap();
        }
    }
    drop(answer);
    assert!(waiting.into_iter().all(|one| one.blocking_recv().unwrap().is_ok()));
    let mut seen = 0;
    for (round, backup, file, taken) in made {
        let written = taken.unwrap().write(NOWHERE, (file, &Halt::default())).unwrap();
        let rebuilt = again(&small, &backup, &format!("again {round}"), &Choice::Sled);
        assert_eq!(rebuilt.closing.commit, written.commit);
        let names: Vec<&str> =
            rebuilt.tables.of_first().users.values().map(|one| one.label.as_ref()).collect();
        assert_eq!(names, vec![format!("round {round}"); 2]);
        seen += 1;
    }
    assert_eq!(seen, 3);
}

/// Red when the header is left out of the key, when the closing account is not compared, or when a tag is not checked.
#[test]
fn a_flipped_bit_anywhere_is_refused_and_no_scratch_is_believed() {
    let small = Small::make();
    let bytes = fs::read(small.backup("one").0).unwrap();
    let rounds = strongroom_soak::size(120, 1_500);
    let mut refused = 0;
    for round in 0..rounds {
        let at = (bytes.len() - 1) * round / (rounds - 1);
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (round % 8);
        refused += usize::from(try_verify(&small, &write(&small, &changed)).is_err());
    }
    assert_eq!(refused, rounds);
    strongroom_soak::tell("backup", "bit flips refused", format!("{refused} of {rounds}"));
}

#[test]
fn a_backup_that_is_cut_or_joined_is_refused() {
    let mut small = Small::make();
    // Several chunks.
    for number in 0..40_u8 {
        let name = ProviderName::parse(&format!("local-{number}")).unwrap();
        small.put(&RecordName::Provider(name), &[number; 6000].to_vec());
    }
    let first = fs::read(small.backup("one").0).unwrap();
    let second = fs::read(small.backup("two").0).unwrap();
    assert!(first.len() > 3 * CHUNK_BYTES);
    for cut in 1..=strongroom_soak::size(20, 400) {
        let length = first.len() * cut / (strongroom_soak::size(20, 400) + 1);
        assert!(try_verify(&small, &write(&small, &first[..length])).is_err());
        let joined = [&first[..length], &second[length..]].concat();
        assert!(try_verify(&small, &write(&small, &joined)).is_err());
    }
    let longer = [first.as_slice(), &[0]].concat();
    assert!(try_verify(&small, &write(&small, &longer)).is_err());
    assert!(try_verify(&small, &write(&small, &[first, second].concat())).is_err());
}

#[test]
fn another_vaults_backup_and_one_of_another_root_are_named() {
    let (small, other) = (Small::make(), Small::of(9));
    let (path, _) = other.backup("one");
    assert!(matches!(try_verify(&small, &path), Err(RebuildError::OtherVault)));
    let scratch = small.scratch.path("verified");
    let verified =
        verify(&path, (other.store, small.key()), (&scratch, &Choice::Sled, &Halt::default()));
    assert!(matches!(verified, Err(RebuildError::Keyring(KeyringError::Envelope(_)))));
}

/// A backup as a defect could write it: under the right key, with an account that fits.
fn forge(
    small: &Small,
    change: impl Fn(&[u8], &mut Vec<u8>),
    account: impl Fn(&mut Closing),
) -> PathBuf {
    let (path, _) = small.backup("true");
    let header = Header::read(&mut fs::read(path).unwrap().as_slice()).unwrap();
    let (answer, forged) = channel();
    let rows = move |store: &dyn Store, _: &_, _: &_| {
        let mut rows = Vec::new();
        store
            .scan_all(&mut |key, value| {
                rows.push((key.as_bytes().to_vec(), value.as_bytes().to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        answer.send(rows).unwrap();
    };
    small.books.whole_at_rest(rows).unwrap();
    let mut rows = forged.recv().unwrap();
    rows.retain(|(key, _)| key != MARK_RECORD);
    let keyring = small.unsealed.lock().unwrap();
    let seed = keyring.keyring().keyring().system();
    let set_hash = crate::keys::derive_set_hash_key(seed, small.store).unwrap();
    let mut sum = crate::manifest::Accumulator::empty();
    let stream = StreamWriter::begin(Vec::new(), &header, &header.derive_key(seed).unwrap());
    let mut content = ContentWriter::begin(stream.unwrap());
    for (key, value) in &mut rows {
        change(key, value);
        sum.add(&set_hash, RecordId(key), value).unwrap();
        content.record(key, value).unwrap();
    }
    let count = u64::try_from(rows.len()).unwrap();
    let mut closing = Closing { commit: header.commit, count, set_hash: sum, journal: NOWHERE };
    account(&mut closing);
    write(small, &content.close(closing).unwrap().0)
}

/// Red when `verify` only compares the set hash.
#[test]
fn a_record_that_does_not_open_fails_the_verification() {
    let small = Small::make();
    assert!(try_verify(&small, &forge(&small, |_, _| {}, |_| {})).is_ok());
    for letter in [b'u', b'w', b't', b'c', b'k'] {
        let spoil = |key: &[u8], value: &mut Vec<u8>| {
            if key[0] == letter {
                *value.last_mut().unwrap() ^= 1;
            }
        };
        let verified = try_verify(&small, &forge(&small, spoil, |_| {}));
        assert!(matches!(verified, Err(RebuildError::Books(BooksError::Envelope(_)))), "{letter}");
    }
}

#[test]
fn an_account_that_does_not_fit_is_refused() {
    let small = Small::make();
    let refused =
        |account: fn(&mut Closing)| try_verify(&small, &forge(&small, |_, _| {}, account));
    let spliced = |verified| {
        matches!(verified, Err(RebuildError::Books(BooksError::Refused(Refusal::Spliced))))
    };
    assert!(spliced(refused(|closing| closing.count += 1)));
    assert!(spliced(refused(|closing| closing.set_hash = crate::manifest::Accumulator::empty())));
    assert!(matches!(refused(|closing| closing.commit += 1), Err(RebuildError::OtherCommit)));
}

/// Red when `write` does not judge what was copied.
#[test]
fn a_store_that_was_changed_behind_the_vaults_back_makes_no_backup() {
    let small = Small::make();
    let (answer, made) = channel();
    let file = fs::File::create(small.scratch.path("empty")).unwrap();
    let work = move |_: &dyn Store, manifest: &_, unsealed: &_| {
        let (empty, now) =
            (MemoryStore::default(), (Moment::from_unix_millis(1), &Halt::default()));
        let taken = Snapshot::take(&empty, (manifest, unsealed), now).unwrap();
        answer.send(taken.write(NOWHERE, (file, &Halt::default()))).unwrap();
    };
    small.books.whole_at_rest(work).unwrap();
    assert!(matches!(made.recv().unwrap(), Err(MakeError::Refused(Refusal::RolledBack { .. }))));
}

#[test]
fn a_full_disk_makes_no_backup_and_leaves_the_vault_as_it_was() {
    let mut small = Small::make();
    assert!(matches!(
        small.try_backup(Path::new("/dev/full"), NOWHERE),
        Err(MakeError::Content(_))
    ));
    small.put(&RecordName::User(USER), &user("after"));
    assert!(try_verify(&small, &small.backup("after").0).is_ok());
}

/// Red when `Rows` or `read_tables` do not ask for the halt: each is asked by itself here.
#[test]
fn a_vault_that_closes_ends_a_proof_at_the_next_record_wherever_it_is() {
    let small = Small::make();
    let (path, _) = small.backup("one");
    let Rebuilt { unsealed, books, .. } = again(&small, &path, "again", &Choice::Sled);
    let place = small.scratch.path("again");
    drop(books);
    let open = |halt: &Halt, at_the_judgement: bool| {
        let opened = open_books((&place, &Choice::Sled, halt), &unsealed, |_| {
            if at_the_judgement {
                halt.call();
            }
            Ok(())
        });
        opened.map(|opened| opened.records)
    };
    let called = Halt::default();
    called.call();
    assert!(matches!(open(&called, false), Err(BooksError::Halted)), "while rows are read");
    let later = Halt::default();
    assert!(matches!(open(&later, true), Err(BooksError::Halted)), "while records are opened");
    let records = || open(&Halt::default(), false).unwrap();
    assert!(read_tables(small.store, records(), &Halt::default()).is_ok());
    let halted = read_tables(small.store, records(), &called);
    assert!(matches!(halted, Err(RebuildError::Halted)), "while tables are made");
    assert!(matches!(RebuildError::from(BooksError::Halted), RebuildError::Halted));
}
