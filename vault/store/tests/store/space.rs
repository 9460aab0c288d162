//! A full disk: refused and poisoned, nothing acknowledged is lost, and space brings the store back.

use std::io::{BufRead, BufReader, Write};

use strongroom_store::{Batch, Choice, Key, StoreError, Value};

use crate::NAME;
use crate::child;
use crate::mount::Mount;

fn numbered(number: u32) -> Key {
    Key::new(&number.to_be_bytes()).unwrap()
}

fn filler() -> Value {
    Value::new(&[0x5A; 8000]).unwrap()
}

/// Not a test by itself: the child, which fills the disk, acknowledging on stderr.
#[test]
fn filler_of_the_disk() {
    let Some((choice, dir)) = child::task() else { return };
    let store = choice.create(&dir, &NAME).unwrap();
    let mut say = std::io::stderr();
    for number in 0..5000 {
        match store.commit(Batch::new().put(numbered(number), filler())) {
            Ok(()) => writeln!(say, "ack {number}").unwrap(),
            Err(error) => {
                writeln!(say, "refused {error}").unwrap();
                let later = store.commit(Batch::new().delete(numbered(0)));
                assert!(matches!(later, Err(StoreError::Poisoned)), "{later:?}");
                writeln!(say, "poisoned").unwrap();
                // As the keeper does: it ends, and opens the store anew.
                std::process::exit(0);
            }
        }
    }
}

#[test]
fn a_full_disk_poisons_sled_and_loses_nothing_acknowledged() {
    fill(&Choice::Sled);
}

#[test]
fn a_full_disk_poisons_redb_and_loses_nothing_acknowledged() {
    fill(&Choice::Redb);
}

fn fill(choice: &Choice) {
    let scratch = tempfile::tempdir().unwrap();
    let at = scratch.path().join("small");
    let Some(disk) = Mount::memory(&at, 12 * 1024) else {
        strongroom_soak::skipped("only root mounts a small tmpfs");
        return;
    };
    let mut child = child::start("space::filler_of_the_disk", (choice, &at.join("store")));
    let pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || BufReader::new(pipe).lines().collect::<Vec<_>>());
    let status = child::end(&mut child);
    let lines: Vec<String> = reader.join().unwrap().into_iter().map(Result::unwrap).collect();
    let acked = lines.iter().take_while(|line| line.starts_with("ack ")).count();
    let rest = lines.get(acked..).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?} {rest:?}");
    assert!(rest.iter().any(|line| line == "poisoned"), "{rest:?}");
    assert!(acked > 100);
    disk.grow(64 * 1024);
    let store = choice.open(&at.join("store")).unwrap();
    let acked = u32::try_from(acked).unwrap();
    assert!((0..acked).all(|number| store.get(&numbered(number)).unwrap() == Some(filler())));
    store.commit(Batch::new().put(numbered(acked), filler())).unwrap();
    drop(store);
    drop(disk);
}
