//! A power cut: the image of a mounted file system, copied at the acknowledgement, is what a disk
//! would hold. What only the kernel had in memory is not in it.

use std::collections::BTreeMap;
use std::path::Path;

use strongroom_store::{Batch, Choice, Store};

use crate::child::Dice;
use crate::mount::{self, FileSystem, Mount};
use crate::{NAME, key, value};

#[test]
fn a_power_cut_under_sled_loses_nothing_acknowledged_and_brings_nothing_back() {
    cuts(&Choice::Sled);
}

#[test]
fn a_power_cut_under_redb_loses_nothing_acknowledged_and_brings_nothing_back() {
    cuts(&Choice::Redb);
}

fn cuts(choice: &Choice) {
    for kind in FileSystem::ALL {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("disk.img");
        let at = scratch.path().join("disk");
        let disk = kind.make(&image).then(|| Mount::image(&at, (kind, &image))).flatten();
        let Some(disk) = disk else {
            strongroom_soak::skipped(&format!(
                "root, mkfs.{} and a loop device are needed",
                kind.name()
            ));
            continue;
        };
        let cuts = strongroom_soak::size(10, 250);
        write_and_cut(choice, (kind, &image), cuts);
        let suite = format!("store {} on {}", choice.kind(), kind.name());
        strongroom_soak::tell(&suite, "power cuts, 0 acknowledged lost, 0 resurrected", cuts);
        drop(disk);
    }
}

fn write_and_cut(choice: &Choice, disk: (FileSystem, &Path), cuts: u32) {
    let scratch = disk.1.parent().unwrap();
    let store = choice.create(&scratch.join("disk/store"), &NAME).unwrap();
    let mut expected = BTreeMap::new();
    let mut dice = Dice::new();
    for round in 0..cuts {
        cut(choice, disk, &expected);
        for _ in 0..=dice.roll(12) {
            let mut batch = Batch::new();
            for _ in 0..=dice.roll(6) {
                let name = format!("k{}", dice.roll(60));
                if dice.roll(3) == 0 {
                    batch = batch.delete(key(&name));
                    expected.remove(&name);
                } else {
                    let length = usize::try_from(1 + dice.roll(2700)).unwrap();
                    let text = format!("{:03}", round % 1000).repeat(length);
                    batch = batch.put(key(&name), value(&text));
                    expected.insert(name, text);
                }
            }
            store.commit(batch).unwrap();
        }
    }
    cut(choice, disk, &expected);
}

/// Copies the image as it is now, mounts the copy and compares the store in it.
fn cut(choice: &Choice, (kind, image): (FileSystem, &Path), expected: &BTreeMap<String, String>) {
    let scratch = image.parent().unwrap();
    let copied = scratch.join("cut.img");
    mount::copy(image, &copied);
    let cut = Mount::image(&scratch.join("cut"), (kind, &copied)).unwrap();
    let store = choice.open(&scratch.join("cut/store")).unwrap();
    assert_holds(&*store, expected);
    drop(store);
    drop(cut);
    // The kernel lets go of its device a moment later: the next copy is another file, so that it gets a device of its own.
    std::fs::remove_file(copied).unwrap();
}

/// That the store holds exactly these records.
pub(crate) fn assert_holds(store: &dyn Store, expected: &BTreeMap<String, String>) {
    let mut found = BTreeMap::new();
    store
        .scan_all(&mut |key, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            found.insert(text(key.as_bytes()), text(value.as_bytes()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(found == *expected, "{} records of {}", found.len(), expected.len());
}
