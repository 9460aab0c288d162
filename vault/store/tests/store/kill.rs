//! SIGKILL at any moment: what was acknowledged is there, and no batch is there by half.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use strongroom_store::{Batch, Choice, GroupCommit, Key, Store, StoreError, Value};

use crate::NAME;
use crate::child::{self, Dice};
use crate::server::Server;

const WRITERS: u64 = 4;
const SLOTS: u64 = 8;

/// Not a test by itself: the child, which writes and acknowledges on stderr until it is killed.
#[test]
fn writer() {
    let Some((choice, dir)) = child::task() else { return };
    let store = match choice.open(&dir) {
        Err(StoreError::Missing) => choice.create(&dir, &NAME),
        opened => opened,
    };
    let store = store.unwrap();
    let group = GroupCommit::start(Arc::clone(&store), ()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, group) = (&store, &group);
            scope.spawn(move || {
                let mut slots: Vec<u64> =
                    (0..SLOTS).map(|slot| read(&**store, writer, slot, "left")).collect();
                for turn in 0.. {
                    let slot = turn % SLOTS;
                    let count = &mut slots[usize::try_from(slot).unwrap()];
                    *count += 1;
                    group.commit(twins(writer, slot, *count)).unwrap();
                    let line = format!("ack {writer} {slot} {count}\n");
                    std::io::stderr().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// Two records that must never differ, large enough to cross sled's buffers now and then.
fn twins(writer: u64, slot: u64, count: u64) -> Batch {
    let mut bytes = count.to_be_bytes().to_vec();
    bytes.resize(usize::try_from(8 + (count * 977 + slot * 131) % 6000).unwrap(), 0xA5);
    let value = Value::new(&bytes).unwrap();
    Batch::new()
        .put(name(writer, slot, "left"), value.clone())
        .put(name(writer, slot, "right"), value)
}

fn name(writer: u64, slot: u64, side: &str) -> Key {
    Key::new(format!("{side}/{writer}/{slot}").as_bytes()).unwrap()
}

fn read(store: &dyn Store, writer: u64, slot: u64, side: &str) -> u64 {
    store
        .get(&name(writer, slot, side))
        .unwrap()
        .map_or(0, |value| u64::from_be_bytes(value.as_bytes().first_chunk().copied().unwrap()))
}

fn run_and_kill(place: (&Choice, &Path), acks: u64, acked: &mut BTreeMap<(u64, u64), u64>) -> u64 {
    let mut child = child::start("kill::writer", place);
    let (lines, heard) = mpsc::channel();
    let pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        // Read to the end: an acknowledgement in the pipe counts, killed or not.
        for line in BufReader::new(pipe).lines() {
            if lines.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    let mut count = 0;
    while let Ok(line) = heard.recv_timeout(std::time::Duration::from_mins(1)) {
        let numbers: Option<Vec<u64>> = line
            .strip_prefix("ack ")
            .map(|rest| rest.split(' ').map(|n| n.parse().unwrap()).collect());
        let Some(numbers) = numbers else { panic!("the writer failed: {line}") };
        acked.insert((numbers[0], numbers[1]), numbers[2]);
        count += 1;
        if count == acks {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    reader.join().unwrap();
    count
}

#[test]
fn a_killed_writer_of_sled_loses_no_acknowledged_batch_and_tears_none() {
    kills(&Choice::Sled);
}

#[test]
fn a_killed_writer_of_redb_loses_no_acknowledged_batch_and_tears_none() {
    kills(&Choice::Redb);
}

#[test]
fn a_killed_writer_of_postgres_loses_no_acknowledged_batch_and_tears_none() {
    let Some(server) = Server::start(&[]) else { return };
    kills(&server.choice());
}

fn kills(choice: &Choice) {
    let rounds = strongroom_soak::size(25, 500);
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let mut dice = Dice::new();
    let mut acked = BTreeMap::new();
    let mut total = 0;
    for round in 0..rounds {
        total += run_and_kill((choice, &dir), 1 + dice.roll(150), &mut acked);
        let store = choice.open(&dir).unwrap();
        for (&(writer, slot), &count) in &acked {
            let left = read(&*store, writer, slot, "left");
            assert_eq!(left, read(&*store, writer, slot, "right"), "torn in round {round}");
            assert!(left == count || left == count + 1, "round {round}: {left}, acked {count}");
        }
        // An unacknowledged batch may have counted; the next child goes on from what it reads.
        for (&(writer, slot), count) in &mut acked {
            *count = read(&*store, writer, slot, "left");
        }
    }
    let suite = format!("store {}", choice.kind());
    strongroom_soak::tell(
        &suite,
        "SIGKILLs, none of the acknowledged batches lost or torn",
        rounds,
    );
    strongroom_soak::tell(&suite, "batches acknowledged before them", total);
}
