//! The check before a start leaves the evidence alone, whatever it finds.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use strongroom_store::check::CheckError;
use strongroom_store::{Batch, Choice, StoreError};

use crate::child::{self, Dice};
use crate::embedded::tree;
use crate::{NAME, key, put, value};

const RECORDS: u64 = 300;

/// Not a test by itself: the child that a damaged store may take down.
#[test]
fn checker() {
    let Some((choice, dir)) = child::task() else { return };
    let report = choice.check(&dir).unwrap();
    assert_eq!(report.records, RECORDS);
}

fn make(choice: &Choice, dir: &Path) {
    let store = choice.create(dir, &NAME).unwrap();
    for number in 0..RECORDS {
        let text = format!("{number}").repeat(40);
        store.commit(Batch::new().put(key(&format!("k{number}")), value(&text))).unwrap();
    }
}

/// Whether a child's check of `dir` ends well.
fn passes(choice: &Choice, dir: &Path) -> bool {
    let mut child = child::start("check::checker", (choice, dir));
    let pipe = child.stderr.take().unwrap();
    let drain = std::thread::spawn(move || std::io::read_to_string(pipe).unwrap());
    let ended = child::end(&mut child);
    drain.join().unwrap();
    ended.is_some_and(|status| status.success())
}

/// Every path with its mode and bytes.
fn evidence(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let look = |path: PathBuf| {
        let mode = path.metadata().unwrap().permissions().mode();
        let bytes = if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap() };
        (path, (mode, bytes))
    };
    tree(dir).into_iter().map(look).collect()
}

#[test]
fn a_sound_store_passes_and_the_copy_is_removed() {
    let choice = Choice::Sled;
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    make(&choice, &dir);
    std::fs::write(dir.join("snap.FFFFFFFFFFFFFFF0.generating"), b"").unwrap();
    let before = evidence(&dir);
    let stale = scratch.path().join("store.check");
    std::fs::create_dir(&stale).unwrap();
    std::fs::write(stale.join("left by an aborted check"), b"").unwrap();
    let report = choice.check(&dir).unwrap();
    assert_eq!(report.records, RECORDS);
    assert!(evidence(&dir) == before);
    assert!(!stale.exists());
    drop(choice.open(&dir).unwrap());
}

#[test]
fn a_store_in_use_or_missing_is_not_checked() {
    for choice in [Choice::Sled, Choice::Redb] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("store");
        let missing = choice.check(&dir);
        assert!(matches!(missing, Err(CheckError::Original(StoreError::Missing))));
        let store = choice.create(&dir, &NAME).unwrap();
        store.commit(put("a", "1")).unwrap();
        assert!(matches!(choice.check(&dir), Err(CheckError::Original(StoreError::InUse))));
        drop(store);
        std::os::unix::fs::symlink("/etc/passwd", dir.join("snap.0")).unwrap();
        assert!(matches!(choice.check(&dir), Err(CheckError::Unexpected)));
        assert!(!scratch.path().join("store.check").exists());
    }
}

#[test]
fn a_check_of_a_damaged_sled_leaves_every_byte_of_it() {
    damage(&Choice::Sled, "db");
}

#[test]
fn a_check_of_a_damaged_redb_leaves_every_byte_of_it() {
    damage(&Choice::Redb, "records.redb");
}

fn damage(choice: &Choice, file: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    make(choice, &dir);
    let sound = evidence(&dir);
    let log = dir.join(file);
    let used = sound[&log].1.iter().rposition(|byte| *byte != 0).unwrap();
    assert!(passes(choice, &dir));
    let mut dice = Dice::new();
    let (flips, mut refused) = (strongroom_soak::size(16, 500), 0);
    for _ in 0..flips {
        let mut bytes = sound[&log].1.clone();
        let at = usize::try_from(dice.roll(u64::try_from(used).unwrap())).unwrap();
        bytes[at] ^= 1 << dice.roll(8);
        std::fs::write(&log, &bytes).unwrap();
        let damaged = evidence(&dir);
        let passed = passes(choice, &dir);
        assert!(evidence(&dir) == damaged, "byte {at}");
        refused += u32::from(!passed);
    }
    let suite = format!("store {}", choice.kind());
    strongroom_soak::tell(&suite, "single bit flips, the original left as it was", flips);
    strongroom_soak::tell(&suite, "of them refused by opening and counting alone", refused);
    std::fs::write(&log, &sound[&log].1).unwrap();
    assert_eq!(choice.check(&dir).unwrap().records, RECORDS);
    assert!(evidence(&dir) == sound);
}
