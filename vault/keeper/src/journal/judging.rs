//! Tests: what is said of a journal that is opened: what was changed where, what was archived, what is left to be done.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use strongroom_sys::Secret;
use strongroom_tlog::bundle::push_entry;
use strongroom_tlog::tile::encode_hashes;
use strongroom_tlog::{Entries, Index, Size, leaf_hash, verify_inclusion};

use super::crashes::{NOW, group, in_memory, keep, look, prepare, refused, signer, written};
use super::found::{Head, MAX_LACKING, MAX_OPEN_CALLS, StoreState};
use super::tests::permit;
use super::*;
use crate::keys::{JournalKey, MacKey};

const CHAIN: &str =
    "its chain value does not hold: it was changed, or entries are missing before it";
const NUMBER: &str = "an entry has another one's number";

fn entries_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    Entries::of(&bytes).map(|entry| entry.unwrap().to_vec()).collect()
}

fn put(path: &Path, entries: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for entry in entries {
        push_entry(&mut bytes, entry).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

/// What is said of the journal of [`written`], 700 of whose 720 entries a checkpoint covers, after a change.
fn told_after(change: impl FnOnce(&Place)) -> JournalError {
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    change(&Place::new(scratch.path()));
    refused(scratch.path(), Head::default())
}

fn damaged(entry: u64, reason: &'static str) -> JournalError {
    JournalError::Damaged { entry, reason }
}

/// One text for another of the same length, in the entry of that place in the tail.
fn retold(place: &Place, at: usize, from: &str, to: &str) {
    let mut entries = entries_of(&place.tail());
    let text = String::from_utf8(entries[at].clone()).unwrap();
    assert!(text.contains(from), "{text}");
    entries[at] = text.replace(from, to).into_bytes();
    put(&place.tail(), &entries);
}

// The tail begins with entry 513, and the checkpoint ends with entry 700: its place in the tail is 187.
#[test]
fn what_follows_the_checkpoint_holds_by_its_chain_values_alone() {
    let changed = told_after(|place| retold(place, 197, "\"refused\":710,", "\"refused\":711,"));
    assert_eq!(changed, damaged(710, CHAIN));
    // In digits of the other case it would be another file, with another tree.
    let upper = told_after(|place| {
        let entries = entries_of(&place.tail());
        let text = String::from_utf8(entries[188].clone()).unwrap();
        let (_, chain) = text.rsplit_once("\"chain\":").unwrap();
        retold(place, 188, chain, &chain.to_uppercase());
    });
    assert_eq!(upper, damaged(701, CHAIN));
    let without = told_after(|place| {
        let mut entries = entries_of(&place.tail());
        entries.remove(200);
        put(&place.tail(), &entries);
    });
    assert_eq!(without, damaged(713, CHAIN));
    let exchanged = told_after(|place| {
        let mut entries = entries_of(&place.tail());
        entries.swap(205, 206);
        put(&place.tail(), &entries);
    });
    assert_eq!(exchanged, damaged(718, CHAIN));
    let bare = told_after(|place| {
        let mut entries = entries_of(&place.tail());
        entries.push(b"{}".to_vec());
        put(&place.tail(), &entries);
    });
    assert_eq!(bare, damaged(721, "an entry has no chain value"));
}

#[test]
fn a_journal_of_another_key_is_refused_at_the_first_entry_after_the_checkpoint() {
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    let other = JournalKey::from_secret(Secret::copy_from(&[8; 32])).unwrap();
    let other = MacKey::new(&other).unwrap();
    let found = Found::look(scratch.path(), other, &signer().verifier(), Head::default());
    assert_eq!(found.err().unwrap(), damaged(701, CHAIN));
}

// Red when a hole within a bundle is called an archive's, and when bytes that are no end are cut off as one.
#[test]
fn an_entry_that_is_missing_is_no_archived_bundle_and_no_end() {
    let without_third = |path: &Path| {
        let mut entries = entries_of(path);
        entries.remove(2);
        put(path, &entries);
    };
    assert_eq!(told_after(|place| without_third(&place.bundle(1))), damaged(259, NUMBER));
    assert_eq!(told_after(|place| without_third(&place.tail())), damaged(515, NUMBER));
    let other = told_after(|place| {
        fs::copy(place.tail(), place.bundle(1)).unwrap();
    });
    assert_eq!(other, damaged(257, NUMBER));
    let hole = told_after(|place| {
        let mut bytes = fs::read(place.tail()).unwrap();
        bytes.extend_from_slice(b"\0\0\0\x03abc");
        fs::write(place.tail(), bytes).unwrap();
    });
    assert_eq!(hole, damaged(721, "an entry has no chain value"));
    let short = told_after(|place| {
        let entries = entries_of(&place.tail());
        put(&place.tail(), &entries[..187]);
    });
    assert_eq!(short, damaged(700, "entries are missing that the checkpoint covers"));
}

#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_one_that_is_missing() {
    for of in [Place::checkpoint, Place::tail, Place::next] {
        let error = told_after(|place| {
            drop(fs::remove_file(of(place)));
            symlink(of(place), of(place)).unwrap();
        });
        assert!(matches!(error, JournalError::Read(_)), "{error}");
    }
    let error = told_after(|place| {
        let long = vec![0; strongroom_tlog::bundle::MAX_BUNDLE_BYTES + 1];
        fs::write(place.next(), long).unwrap();
    });
    assert!(matches!(error, JournalError::Oversized(_)), "{error}");
}

/// Whatever lies in the place of a tile over entries that no checkpoint covers, the tile is made again of them.
#[test]
fn a_tile_after_the_checkpoint_is_made_again_whatever_lies_there() {
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    let mut prepared = prepare(scratch.path(), Durability::Group);
    prepared.pen.write(&group(721, 100)).unwrap();
    drop(prepared);
    let place = Place::new(scratch.path());
    let tile = scratch.path().join("tile/0/002");
    for length in [10, 8192, 8200] {
        fs::write(&tile, vec![7; length]).unwrap();
        assert_eq!(prepare(scratch.path(), Durability::Group).made_tiles, 1, "{length}");
        let hashes = files::hashes_of_bundle(&place, 2).unwrap();
        assert_eq!(hashes.len(), 256);
        assert_eq!(fs::read(&tile).unwrap(), encode_hashes(&hashes));
    }
}

#[test]
fn calls_without_an_end_are_told_and_the_newest_state_of_the_store() {
    let scratch = tempfile::tempdir().unwrap();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    let permit = permit();
    let call = |name| CallId::from_random([name; 16]);
    let unmade = strongroom_policy::refusal::Refusal::JournalUnavailable;
    let mut lines = Lines::default();
    for entry in [
        Entry::admit(call(1), &permit),
        Entry::admit(call(2), &permit),
        Entry::State { commit: 7, digest: [7; 32] },
        Entry::admit(call(3), &permit),
        Entry::unmade(call(2), unmade, None),
        Entry::Lost { call: call(3) },
        Entry::State { commit: 8, digest: [8; 32] },
        Entry::Strangers { refused: 1 },
    ] {
        lines.push(&entry, NOW).unwrap();
    }
    prepared.pen.write(&lines).unwrap();
    drop(prepared);
    let found = look(scratch.path(), Head::default()).unwrap();
    assert_eq!(found.state(), Some(StoreState { commit: 8, digest: [8; 32] }));
    assert_eq!(prepare(scratch.path(), Durability::Group).unfinished.calls, [call(1)]);
}

// Red when a journal without hash tiles takes as much memory as there are entries in it.
#[test]
fn no_more_hash_tiles_are_made_again_than_the_bound_says() {
    let scratch = in_memory();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    let tiles = MAX_LACKING as u64 + 1;
    for first in (0..tiles * 256).step_by(1024) {
        let count = (tiles * 256 - first).min(1024);
        prepared.pen.write(&group(first + 1, count as usize)).unwrap();
        keep(&mut prepared);
    }
    drop(prepared);
    let take = |index| {
        let tile = strongroom_tlog::Tile::new(0, index, strongroom_tlog::Width::FULL).unwrap();
        fs::remove_file(Place::new(scratch.path()).tile(tile)).unwrap();
    };
    (1..tiles).for_each(take);
    let found = look(scratch.path(), Head::default()).unwrap();
    assert_eq!(found.lacking.len(), MAX_LACKING);
    take(0);
    let reason = "too many hash tiles are missing";
    let error = refused(scratch.path(), Head::default());
    assert_eq!(error, damaged(tiles * 256 + 1, reason));
}

// Red when a journal of calls that never ended takes as much memory as somebody wrote into it.
#[test]
fn no_more_calls_are_followed_than_can_be_open() {
    let scratch = in_memory();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    let permit = permit();
    let most = MAX_OPEN_CALLS as u64;
    for first in (0..=most).step_by(1024) {
        let mut lines = Lines::default();
        for call in (first..=most).take(1024) {
            let call = CallId::from_random(u128::from(call).to_be_bytes());
            lines.push(&Entry::admit(call, &permit), NOW).unwrap();
        }
        prepared.pen.write(&lines).unwrap();
        keep(&mut prepared);
    }
    assert_eq!(prepared.pen.entries, most + 1);
    drop(prepared);
    let found = look(scratch.path(), Head::default()).unwrap();
    assert_eq!(found.open_calls.len() as u64, most);
}

/// A journal of 700 entries, and then these.
fn archived(directory: &Path, firsts: &[u64]) {
    let mut prepared = prepare(directory, Durability::Group);
    prepared.pen.write(&group(1, 700)).unwrap();
    let mut lines = Lines::default();
    for first in firsts {
        lines.push(&Entry::Archive { first: *first, operator: 0 }, NOW).unwrap();
    }
    prepared.pen.write(&lines).unwrap();
    keep(&mut prepared);
}

// Red when bundles that were archived keep the vault shut, or those that were not are taken for archived.
#[test]
fn bundles_may_be_missing_as_far_as_they_were_archived() {
    let missing = |entry| damaged(entry, "entries are missing that were not archived");
    for (firsts, gone, said) in [
        (&[513][..], 0, Ok(1)),
        // The removal goes on when the program is started again.
        (&[513], 1, Ok(257)),
        (&[513], 2, Ok(513)),
        (&[257, 513], 2, Ok(513)),
        (&[257], 1, Ok(257)),
        (&[257], 2, Err(missing(257))),
        (&[], 1, Err(missing(1))),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        archived(scratch.path(), firsts);
        let place = Place::new(scratch.path());
        for bundle in 0..gone {
            fs::remove_file(place.bundle(bundle)).unwrap();
        }
        match said {
            Ok(first) => {
                let prepared = prepare(scratch.path(), Durability::Group);
                assert_eq!(prepared.first_kept, first, "{firsts:?}, {gone} gone");
            }
            Err(said) => {
                let error = refused(scratch.path(), Head::default());
                let JournalError::OverArchived { why, .. } = &error else {
                    assert_eq!(error, said);
                    continue;
                };
                assert_eq!(**why, said);
            }
        }
    }
}

#[test]
fn what_is_archived_is_proved_out_of_its_hash_tile() {
    let scratch = tempfile::tempdir().unwrap();
    archived(scratch.path(), &[513]);
    let place = Place::new(scratch.path());
    let found = look(scratch.path(), Head::default()).unwrap();
    let (size, root) = (found.edge.size(), found.edge.root());
    assert_eq!(size, Size(701));
    let leaf = leaf_hash(&entries_of(&place.bundle(0))[5]);
    for gone in 0..2 {
        fs::remove_file(place.bundle(gone)).unwrap();
        let proof = proofs::inclusion(&place, Index(5), size).unwrap();
        verify_inclusion(leaf, Index(5), (size, root), &proof).unwrap();
    }
}

#[test]
fn full_hash_tiles_are_handed_out_as_they_lie_there_and_entries_by_their_numbers() {
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    let place = Place::new(scratch.path());
    for index in 0..2 {
        let kept = encode_hashes(&files::hashes_of_bundle(&place, index).unwrap());
        assert_eq!(files::hashes(&place, 0, index).unwrap(), kept);
        assert_eq!(files::entries(&place, index).unwrap(), fs::read(place.bundle(index)).unwrap());
    }
    assert!(files::hashes(&place, 0, 2).unwrap().is_empty(), "it is not full");
    assert!(files::hashes(&place, 64, 0).is_err(), "there is no such level");
    assert_eq!(files::entries(&place, 2).unwrap(), fs::read(place.tail()).unwrap());
    fs::remove_file(place.bundle(0)).unwrap();
    assert!(files::entries(&place, 0).unwrap().is_empty());
    assert_eq!([1, 256, 257, 700].map(files::bundle_of), [0, 0, 1, 2]);
    assert_eq!([0, 1, 2].map(files::first_of), [1, 257, 513]);
}

/// What a backup notes of the journal beside it.
#[test]
fn the_newest_entry_is_found_in_the_tail_and_where_the_tail_is_new() {
    let scratch = tempfile::tempdir().unwrap();
    let place = Place::new(scratch.path());
    assert_eq!(read::newest(&place).unwrap(), (0, [0; 32]));
    assert_eq!(read::checkpoint(&place).unwrap(), None);
    let mut prepared = prepare(scratch.path(), Durability::Group);
    for (first, count) in [(1, 3), (4, 253), (257, 768)] {
        prepared.pen.write(&group(first, count)).unwrap();
        let newest = (prepared.pen.entries, prepared.pen.chain);
        assert_eq!(read::newest(&place).unwrap(), newest, "no checkpoint tells where it is");
    }
    keep(&mut prepared);
    let signed = prepared.ends.1.last().unwrap();
    assert_eq!(read::checkpoint(&place).unwrap().unwrap(), signed.note.as_bytes());
    for bundle in 0..3 {
        fs::remove_file(place.bundle(bundle)).unwrap();
        assert_eq!(read::newest(&place).unwrap(), (1024, prepared.pen.chain));
    }
    // Entries that came after the checkpoint.
    prepared.pen.write(&group(1025, 512)).unwrap();
    assert_eq!(read::newest(&place).unwrap(), (1536, prepared.pen.chain));
    put(&place.tail(), &[b"{}".to_vec()]);
    assert!(read::newest(&place).is_err(), "it is none of a journal");
}
