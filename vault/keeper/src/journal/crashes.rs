//! The journal on a machine that dies, and on a disk that somebody changed: on real files, with the threads' work done by hand.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strongroom_sys::Secret;
use strongroom_tlog::{Checkpoint, Entries, Name};

use super::disk::cuts;
use super::found::Head;
use super::line::Known;
use super::*;
use crate::keys::{AuditSigningSeed, JournalKey, MacKey};

pub(super) const NOW: Moment = Moment::from_unix_millis(1_000_000);
/// Groups that fill bundles in the middle, at their end, and several at once.
const GROUPS: [usize; 12] = [100, 100, 100, 1, 211, 0, 256, 255, 2, 600, 1, 30];

pub(super) fn signer() -> CheckpointKey {
    signer_of(7)
}

fn signer_of(seed: u8) -> CheckpointKey {
    let seed = AuditSigningSeed::from_bytes(&[seed; 32]).unwrap();
    CheckpointKey::new(Name::parse("strongroom/test").unwrap(), seed).unwrap()
}

pub(super) fn key() -> MacKey<crate::keys::purpose::Journal> {
    MacKey::new(&JournalKey::from_secret(Secret::copy_from(&[9; 32])).unwrap()).unwrap()
}

pub(super) fn look(directory: &Path, noted: Head) -> Result<Found, JournalError> {
    Found::look(directory, key(), &signer().verifier(), noted)
}

pub(super) fn prepare(directory: &Path, durability: Durability) -> Prepared {
    let manner = Manner { durability, ..Manner::default() };
    Prepared::of(look(directory, Head::default()).unwrap(), signer(), &manner).unwrap()
}

/// Entry `n` says its own number.
pub(super) fn group(first: u64, count: usize) -> Lines {
    let mut lines = Lines::default();
    for n in (first..).take(count) {
        lines.push(&Entry::Strangers { refused: n }, NOW).unwrap();
    }
    lines
}

pub(super) fn keep(prepared: &mut Prepared) {
    let taken = prepared.ends.0.take(&prepared.pen.place.tail(), Duration::ZERO);
    prepared.keeping.keep(&taken);
}

/// The cuts are played: nothing needs a disk, and there are thousands of syncs.
pub(super) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What was promised before the machine died.
#[derive(Default)]
struct Promised {
    /// Entries that were answered.
    answered: u64,
    /// Entries that are on the disk.
    kept: u64,
}

/// Writes all groups, keeping every now and then, until the cut.
fn play(directory: &Path, durability: Durability, cut: Option<usize>) -> Promised {
    let mut prepared = prepare(directory, durability);
    drop(cuts::take_unsynced());
    cuts::after(cut);
    let mut promised = Promised::default();
    for (turn, count) in GROUPS.into_iter().enumerate() {
        if prepared.pen.write(&group(promised.answered + 1, count)).is_err() {
            break;
        }
        promised.answered += count as u64;
        if durability == Durability::Strict {
            promised.kept = promised.answered;
        }
        if turn % 2 == 1 {
            keep(&mut prepared);
            if prepared.pen.shared.health().is_ok() {
                promised.kept = promised.answered;
            }
        }
    }
    promised
}

/// All entries, each of which must say its own number.
fn entries(directory: &Path) -> u64 {
    let place = Place::new(directory);
    let mut count = 0;
    for index in 0.. {
        let bytes = read::bundle(&place, index).unwrap().unwrap();
        for entry in Entries::of(&bytes) {
            count += 1;
            let entry = entry.unwrap();
            let text = String::from_utf8_lossy(entry);
            assert!(text.contains(&format!("\"refused\":{count},")), "{count}: {text}");
            assert_eq!(Known::read(entry).unwrap().n, count);
        }
        if bytes.is_empty() {
            return count;
        }
    }
    count
}

/// What was not synced is lost in part, as a power cut leaves it.
fn lose_unsynced(directory: &Path, keep_part: impl Fn(u64) -> u64) {
    let unsynced = cuts::take_unsynced();
    let mut places = vec![directory.to_path_buf()];
    while let Some(next) = places.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                places.push(path);
                continue;
            }
            let about = fs::metadata(&path).unwrap();
            if let Some(synced) = unsynced.get(&about.ino()) {
                let left = synced + keep_part(about.len().saturating_sub(*synced));
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(left).unwrap();
            }
        }
    }
}

/// What of a hash tile the power cut takes.
type Tearing = fn(&Path);

/// The names of unsynced tiles may be lost, their ends, or what lies between.
const TEARINGS: [Tearing; 4] = [
    |tile| fs::remove_file(tile).unwrap(),
    |tile| fs::write(tile, []).unwrap(),
    |tile| fs::write(tile, &fs::read(tile).unwrap()[..4096]).unwrap(),
    |tile| {
        let mut bytes = fs::read(tile).unwrap();
        bytes[..4096].fill(0);
        fs::write(tile, bytes).unwrap();
    },
];

/// All hash tiles, in their order.
fn tiles(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for level in ["tile/0", "tile/1"] {
        let names = fs::read_dir(directory.join(level)).into_iter().flatten();
        found.extend(names.map(|name| name.unwrap().path()));
    }
    found.sort();
    found
}

// Red when a tile that is missing or torn is refused, or when it is left as it is.
#[test]
fn any_tiles_that_a_power_cut_took_are_made_again_of_the_entries() {
    let scratch = in_memory();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    for first in (1..=70_000).step_by(1000) {
        prepared.pen.write(&group(first, 1000)).unwrap();
        keep(&mut prepared);
    }
    drop(prepared);
    let all = tiles(scratch.path());
    assert_eq!(all.len(), 273 + 1);
    let whole: Vec<_> = all.iter().map(|tile| fs::read(tile).unwrap()).collect();
    for pick in 1..6 {
        let mut torn = 0;
        for (at, tile) in all.iter().enumerate() {
            // Each tearing alone, then all in turns; at the last all tiles are gone.
            match pick {
                5 => fs::remove_file(tile).unwrap(),
                4 if at % 3 > 0 => TEARINGS[at % 4](tile),
                _ if at % 3 == 0 => TEARINGS[pick % 4](tile),
                _ => continue,
            }
            torn += 1;
        }
        let prepared = prepare(scratch.path(), Durability::Group);
        assert_eq!((prepared.made_tiles, prepared.pen.entries), (torn, 70_000), "pick {pick}");
        for (tile, whole) in all.iter().zip(&whole) {
            assert!(fs::read(tile).unwrap() == *whole, "pick {pick}: {}", tile.display());
        }
    }
    assert_eq!(prepare(scratch.path(), Durability::Group).made_tiles, 0);
}

// Red when tiles are made again before the root is compared: a changed entry would get tiles that agree with it.
#[test]
fn a_changed_entry_is_refused_though_its_tiles_are_gone_and_nothing_is_written() {
    for tearing in TEARINGS {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path());
        let place = Place::new(scratch.path());
        for tile in tiles(scratch.path()) {
            tearing(&tile);
        }
        flip(&place.bundle(0), 100);
        let before: Vec<_> =
            tiles(scratch.path()).iter().map(|tile| fs::read(tile).unwrap()).collect();
        let error = refused(scratch.path(), Head::default());
        let told = matches!(error, JournalError::Damaged { .. } | JournalError::Below { .. });
        assert!(told, "{error}");
        let after: Vec<_> =
            tiles(scratch.path()).iter().map(|tile| fs::read(tile).unwrap()).collect();
        assert_eq!(before, after);
    }
}

/// What no power cut leaves of a hash tile.
const CHANGES: [Tearing; 2] = [
    |tile| flip(tile, 33),
    |tile| {
        let longer = [fs::read(tile).unwrap(), vec![7; 40]].concat();
        fs::write(tile, longer).unwrap();
    },
];

// Red when a tile that differs is not refused, when it is not named, or when one whose entries were changed is called the only damage.
#[test]
fn a_changed_tile_is_named_and_is_the_only_damage_where_all_entries_hold() {
    for change in CHANGES {
        let scratch = tempfile::tempdir().unwrap();
        written(scratch.path());
        let tile = scratch.path().join("tile/0/001");
        let whole = fs::read(&tile).unwrap();
        change(&tile);
        let error = refused(scratch.path(), Head::default());
        assert_eq!(error, JournalError::Tile { file: "tile/0/001".to_owned() });
        // What the refusal says to do is enough.
        fs::rename(&tile, scratch.path().join("evidence")).unwrap();
        assert_eq!(prepare(scratch.path(), Durability::Group).made_tiles, 1);
        assert_eq!(fs::read(&tile).unwrap(), whole);

        change(&tile);
        flip(&Place::new(scratch.path()).tail(), 40);
        let error = refused(scratch.path(), Head::default());
        let below = JournalError::Below { entry: 257, file: "tile/0/001".to_owned() };
        assert_eq!(error, below);
    }
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    flip(&Place::new(scratch.path()).bundle(1), 100);
    let error = refused(scratch.path(), Head::default());
    assert!(!matches!(error, JournalError::Tile { .. }), "{error}");
}

// Red when a tile that stands for archived entries is taken for what it says, and when it is not said that it may be the fault.
#[test]
fn a_tile_of_archived_entries_that_was_changed_or_taken_is_refused_and_said() {
    let scratch = tempfile::tempdir().unwrap();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    prepared.pen.write(&group(1, 700)).unwrap();
    let mut lines = Lines::default();
    lines.push(&Entry::Archive { first: 513, operator: 0 }, NOW).unwrap();
    prepared.pen.write(&lines).unwrap();
    keep(&mut prepared);
    let signed = prepared.ends.1.last().unwrap();
    drop(prepared);
    let place = Place::new(scratch.path());
    for bundle in 0..2 {
        fs::remove_file(place.bundle(bundle)).unwrap();
    }
    let noted = Head { size: signed.size, root: signed.root };
    assert_eq!(look(scratch.path(), noted).unwrap().entries(), 701);
    for (bundle, name) in ["tile/0/000", "tile/0/001"].into_iter().enumerate() {
        let tile = scratch.path().join(name);
        let whole = fs::read(&tile).unwrap();
        flip(&tile, 33);
        let error = refused(scratch.path(), noted);
        let JournalError::OverArchived { why, last } = &error else { panic!("{error}") };
        assert!(matches!(**why, JournalError::Damaged { .. }), "{error}");
        assert_eq!(last, "tile/0/001");
        for tearing in TEARINGS.iter().take(3) {
            fs::write(&tile, &whole).unwrap();
            tearing(&tile);
            let error = refused(scratch.path(), noted);
            let first = u64::try_from(bundle).unwrap() * 256 + 1;
            assert_eq!(error, JournalError::Gone { first, tile: name.to_owned() });
        }
        fs::write(&tile, &whole).unwrap();
    }
    // The manifest's note is older: another journal over the same archive is refused as another.
    let other = Head { size: 600, root: [7; 32] };
    let error = refused(scratch.path(), other);
    let JournalError::OverArchived { why, .. } = &error else { panic!("{error}") };
    assert_eq!(**why, JournalError::Another { entry: 600 });
    // Below a root that held nothing is the archive's fault.
    let at = usize::try_from(fs::metadata(place.tail()).unwrap().len()).unwrap() - 20;
    let mut prepared = prepare(scratch.path(), Durability::Group);
    prepared.pen.write(&group(702, 5)).unwrap();
    drop(prepared);
    flip(&place.tail(), at + 60);
    let error = refused(scratch.path(), noted);
    assert!(matches!(error, JournalError::Damaged { .. }), "{error}");
}

// Red when what is made again is not held to the root that was found.
#[test]
fn a_bundle_that_changes_between_reading_and_mending_gets_no_tile() {
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    let place = Place::new(scratch.path());
    let tile = scratch.path().join("tile/0/000");
    fs::remove_file(&tile).unwrap();
    let found = look(scratch.path(), Head::default()).unwrap();
    flip(&place.bundle(0), 100);
    assert!(found.repair().is_err());
    assert!(!tile.exists());
}

// Red when a bundle is taken away whose hashes are not those that stay.
#[test]
fn a_bundle_is_not_removed_before_its_hashes_are_right() {
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    let place = Place::new(scratch.path());
    let tile = scratch.path().join("tile/0/001");
    let whole = fs::read(&tile).unwrap();
    for tearing in TEARINGS {
        tearing(&tile);
        files::remove(&place, 0..2).unwrap_err();
        assert!(place.bundle(0).exists() && place.bundle(1).exists());
        fs::write(&tile, &whole).unwrap();
    }
    files::remove(&place, 0..2).unwrap();
    assert!(!place.bundle(0).exists() && !place.bundle(1).exists());
    // A removal that a crash cut short goes on.
    files::remove(&place, 0..2).unwrap();
}

/// Plays a crash at every system call; answers how many there were.
fn crash_everywhere(
    durability: Durability,
    after_crash: impl Fn(&Path),
    least: fn(&Promised) -> u64,
) {
    for cut in 0.. {
        let scratch = in_memory();
        let promised = play(scratch.path(), durability, Some(cut));
        let happened = cuts::happened();
        cuts::after(None);
        after_crash(scratch.path());
        let found = look(scratch.path(), Head::default())
            .unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        let (there, least) = (found.entries(), least(&promised));
        assert!(there >= least, "cut {cut}: {there} of {least}");
        // The mending is cut as well, at each of its own calls, until it goes through.
        for again in 0.. {
            let found = look(scratch.path(), Head::default()).unwrap();
            assert_eq!(found.entries(), there, "cut {cut}, mending cut at {again}");
            cuts::after(Some(again));
            let mended = found.repair();
            cuts::after(None);
            if mended.is_ok() {
                break;
            }
        }
        let mut prepared = prepare(scratch.path(), durability);
        prepared.pen.write(&group(there + 1, 300)).unwrap();
        keep(&mut prepared);
        assert_eq!(entries(scratch.path()), there + 300, "cut {cut}");
        let found = look(scratch.path(), Head::default()).unwrap();
        assert_eq!(found.signed.unwrap().size, there + 300);
        if !happened {
            assert!(cut > 60, "{cut} system calls");
            return;
        }
    }
}

#[test]
fn a_process_that_dies_between_any_two_system_calls_loses_no_entry_that_was_answered() {
    crash_everywhere(Durability::Group, |_| {}, |promised| promised.answered);
}

#[test]
fn a_power_cut_between_any_two_system_calls_loses_no_entry_that_was_kept() {
    for part in [|_| 0, |lost| lost / 2, |lost: u64| lost.saturating_sub(1)] {
        crash_everywhere(
            Durability::Group,
            |directory| lose_unsynced(directory, part),
            |promised| promised.kept,
        );
    }
}

// Red when a strict journal answers before it has synced.
#[test]
fn a_power_cut_takes_nothing_from_a_strict_journal_that_was_answered() {
    crash_everywhere(
        Durability::Strict,
        |directory| lose_unsynced(directory, |_| 0),
        |promised| promised.answered,
    );
}

/// A journal of a few bundles with a checkpoint over all but the last entries.
pub(super) fn written(directory: &Path) -> (Signed, u64) {
    let mut prepared = prepare(directory, Durability::Group);
    prepared.pen.write(&group(1, 700)).unwrap();
    keep(&mut prepared);
    prepared.pen.write(&group(701, 20)).unwrap();
    let signed = prepared.ends.1.last().unwrap();
    assert_eq!(signed.size, 700);
    (Signed::clone(&signed), 720)
}

pub(super) fn refused(directory: &Path, noted: Head) -> JournalError {
    match look(directory, noted) {
        Err(error) => error,
        Ok(found) => panic!("{} entries were taken", found.entries()),
    }
}

pub(super) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

type Damage<'d> = (&'d str, &'d dyn Fn(&Place));

// Red when the tree, the tiles, the chain or the signature is not compared.
#[test]
fn what_was_changed_is_refused_and_named() {
    let scratch = tempfile::tempdir().unwrap();
    let original = scratch.path().join("original");
    fs::create_dir(&original).unwrap();
    written(&original);
    let place = Place::new(&original);
    let length = |path: &Path| usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    let (first, tail) = (length(&place.bundle(0)), length(&place.tail()));
    let damages: &[Damage<'_>] = &[
        ("an entry of the first bundle", &|place| flip(&place.bundle(0), first / 2)),
        ("the length of an entry", &|place| flip(&place.bundle(1), 1)),
        ("an entry that the checkpoint covers, in the tail", &|place| flip(&place.tail(), 40)),
        ("an entry after the checkpoint", &|place| flip(&place.tail(), tail - 200)),
        ("a hash tile", &|place| flip(&place.root().join("tile/0/001"), 33)),
        ("no hash tile, and another entry below it", &|place| {
            fs::remove_file(place.root().join("tile/0/000")).unwrap();
            flip(&place.bundle(0), first / 2);
        }),
        ("no first bundle", &|place| fs::remove_file(place.bundle(0)).unwrap()),
        ("no second bundle", &|place| fs::remove_file(place.bundle(1)).unwrap()),
        ("no tail", &|place| fs::remove_file(place.tail()).unwrap()),
        ("bundles exchanged", &|place| {
            let other = place.root().join("other");
            fs::rename(place.bundle(0), &other).unwrap();
            fs::rename(place.bundle(1), place.bundle(0)).unwrap();
            fs::rename(other, place.bundle(1)).unwrap();
        }),
        ("the tail cut below the checkpoint", &|place| {
            let file = fs::OpenOptions::new().write(true).open(place.tail()).unwrap();
            file.set_len(1000).unwrap();
        }),
        ("the checkpoint's size", &|place| {
            let text = fs::read_to_string(place.checkpoint()).unwrap();
            fs::write(place.checkpoint(), text.replace("\n700\n", "\n699\n")).unwrap();
        }),
        ("the checkpoint's signature", &|place| {
            let at = length(&place.checkpoint()) - 10;
            flip(&place.checkpoint(), at);
        }),
    ];
    for (what, damage) in damages {
        let changed = scratch.path().join("changed");
        copy(&original, &changed);
        damage(&Place::new(&changed));
        let error = refused(&changed, Head::default());
        let told = matches!(
            error,
            JournalError::Damaged { .. }
                | JournalError::Below { .. }
                | JournalError::Tile { .. }
                | JournalError::Gone { .. }
                | JournalError::Checkpoint
        );
        assert!(told, "{what}: {error}");
        fs::remove_dir_all(&changed).unwrap();
    }
    assert_eq!(look(&original, Head::default()).unwrap().entries(), 720);
}

#[test]
fn a_checkpoint_that_another_vault_signed_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (signed, _) = written(scratch.path());
    let other = signer_of(8);
    let note = strongroom_tlog::Note::parse(signed.note.as_bytes()).unwrap();
    let note = other.sign(&Checkpoint::parse(note.text()).unwrap()).unwrap();
    fs::write(Place::new(scratch.path()).checkpoint(), note.encode()).unwrap();
    assert_eq!(refused(scratch.path(), Head::default()), JournalError::Checkpoint);
}

// Red when the manifest's note is not compared.
#[test]
fn a_journal_that_is_older_or_another_than_what_is_noted_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (now, old, other) =
        (scratch.path().join("now"), scratch.path().join("old"), scratch.path().join("other"));
    fs::create_dir(&now).unwrap();
    let (before, _) = written(&now);
    copy(&now, &old);
    let mut prepared = prepare(&now, Durability::Group);
    prepared.pen.write(&group(721, 300)).unwrap();
    keep(&mut prepared);
    let signed = prepared.ends.1.last().unwrap();
    let noted = Head { size: signed.size, root: signed.root };
    assert_eq!(look(&now, noted).unwrap().entries(), 1020);
    assert_eq!(look(&now, Head { size: before.size, root: before.root }).unwrap().entries(), 1020);
    assert_eq!(refused(&old, noted), JournalError::RolledBack { found: 700, noted: 1020 });
    fs::create_dir(&other).unwrap();
    let mut prepared = prepare(&other, Durability::Group);
    prepared.pen.write(&group(2, 1020)).unwrap();
    keep(&mut prepared);
    assert_eq!(refused(&other, noted), JournalError::Another { entry: 1020 });
    fs::remove_file(Place::new(&now).checkpoint()).unwrap();
    assert_eq!(refused(&now, noted), JournalError::RolledBack { found: 0, noted: 1020 });
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(refused(&empty, noted), JournalError::RolledBack { found: 0, noted: 1020 });
}

#[test]
fn bytes_after_the_last_whole_entry_are_cut_off_and_counted() {
    let scratch = tempfile::tempdir().unwrap();
    written(scratch.path());
    let tail = Place::new(scratch.path()).tail();
    let mut bytes = fs::read(&tail).unwrap();
    bytes.extend_from_slice(b"\x01\x00half an entry");
    fs::write(&tail, &bytes).unwrap();
    let prepared = prepare(scratch.path(), Durability::Group);
    assert_eq!((prepared.cut_bytes, prepared.pen.entries), (15, 720));
    // What a power cut left longer than what was written reads as zeros.
    drop(prepared);
    let mut bytes = fs::read(&tail).unwrap();
    bytes.extend_from_slice(&[0; 50]);
    fs::write(&tail, &bytes).unwrap();
    assert_eq!(prepare(scratch.path(), Durability::Group).cut_bytes, 50);
}

#[test]
fn a_journal_of_an_older_version_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("journal.jsonl"), "{}").unwrap();
    assert_eq!(refused(scratch.path(), Head::default()), JournalError::OldFormat);
}

#[test]
fn proofs_out_of_the_directory_lead_to_the_signed_root() {
    use strongroom_tlog::{Hash, Index, Size, leaf_hash, verify_consistency, verify_inclusion};
    let scratch = tempfile::tempdir().unwrap();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    let mut heads = Vec::new();
    for (first, count) in [(1, 100), (101, 156), (257, 300), (557, 500)] {
        prepared.pen.write(&group(first, count)).unwrap();
        keep(&mut prepared);
        let signed = prepared.ends.1.last().unwrap();
        heads.push((Size(signed.size), Hash(signed.root)));
    }
    let place = Place::new(scratch.path());
    let (size, root) = *heads.last().unwrap();
    for old in &heads {
        let proof = proofs::consistency(&place, old.0, size).unwrap();
        verify_consistency(*old, (size, root), &proof).unwrap();
    }
    for index in [0, 99, 255, 256, 511, 1000, 1055] {
        let bytes = read::bundle(&place, index / 256).unwrap().unwrap();
        let entry = Entries::of(&bytes).nth(usize::try_from(index % 256).unwrap());
        let leaf = leaf_hash(entry.unwrap().unwrap());
        let proof = proofs::inclusion(&place, Index(index), size).unwrap();
        verify_inclusion(leaf, Index(index), (size, root), &proof).unwrap();
        assert!(verify_inclusion(leaf, Index(index ^ 1), (size, root), &proof).is_err());
    }
}
