//! A power cut: the image of a mounted file system, copied at the acknowledgement, is what a disk
//! would hold. What only the kernel had in memory is not in it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use strongroom_store::{Batch, SledStore, Store};

use crate::child::Dice;
use crate::mount::{self, Mount};
use crate::{key, value};

const ROUNDS: u64 = 12;

#[test]
fn a_power_cut_at_the_acknowledgement_loses_nothing_and_brings_nothing_back() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("disk.img");
    let Some(disk) = format(&image, &scratch.path().join("disk")) else {
        println!("skipped: this needs root, mkfs.ext4 and a loop device");
        return;
    };
    let store = SledStore::create(&scratch.path().join("disk/store")).unwrap();
    let mut expected = BTreeMap::new();
    let mut dice = Dice::new();
    cut(&image, scratch.path(), &expected);
    for round in 0..ROUNDS {
        for _ in 0..=dice.roll(12) {
            let mut batch = Batch::new();
            for _ in 0..=dice.roll(6) {
                let name = format!("k{}", dice.roll(60));
                if dice.roll(3) == 0 {
                    batch = batch.delete(key(&name));
                    expected.remove(&name);
                } else {
                    let length = usize::try_from(1 + dice.roll(3000)).unwrap();
                    let text = format!("{round}").repeat(length);
                    batch = batch.put(key(&name), value(&text));
                    expected.insert(name, text);
                }
            }
            store.commit(batch).unwrap();
        }
        cut(&image, scratch.path(), &expected);
    }
    drop(store);
    drop(disk);
}

/// An empty ext4, mounted at `at`.
fn format(image: &Path, at: &Path) -> Option<Mount> {
    std::fs::File::create(image).unwrap().set_len(24 * 1024 * 1024).unwrap();
    let made = mount::run(Command::new("mkfs.ext4").arg("-q").arg(image));
    if made { Mount::image(at, image) } else { None }
}

/// Copies the image as it is now, mounts the copy and compares the store in it.
fn cut(image: &Path, scratch: &Path, expected: &BTreeMap<String, String>) {
    let copied = scratch.join("cut.img");
    std::fs::copy(image, &copied).unwrap();
    let cut = Mount::image(&scratch.join("cut"), &copied).unwrap();
    let store = SledStore::open(&scratch.join("cut/store")).unwrap();
    let mut found = BTreeMap::new();
    store
        .scan_all(&mut |key, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            found.insert(text(key.as_bytes()), text(value.as_bytes()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(found == *expected, "{} records of {}", found.len(), expected.len());
    drop(store);
    drop(cut);
}
