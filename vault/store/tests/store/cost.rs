//! What a write costs on this machine: run by hand, `cargo test -p strongroom-store -- --ignored --nocapture cost`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom_store::{Batch, GroupCommit, Key, RedbStore, SledStore, Store, StoreError, Value};

use crate::NAME;
use crate::server::Server;

const LONG: Duration = Duration::from_secs(3);
/// A sealed credential with its rules.
const VALUE_BYTES: usize = 400;

/// Writes a second with so many writers, by group commit.
fn rate(store: &Arc<dyn Store>, writers: u64) -> u64 {
    let group = GroupCommit::start(Arc::clone(store), ()).unwrap();
    let (ended, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (group, ended, done) = (&group, &ended, &done);
            scope.spawn(move || {
                for number in 0_u64.. {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = [writer.to_be_bytes(), (number % 64).to_be_bytes()].concat();
                    // A write that changes nothing is not written.
                    let mut bytes = [7; VALUE_BYTES];
                    bytes[..8].copy_from_slice(&number.to_be_bytes());
                    let value = Value::new(&bytes).unwrap();
                    let batch = Batch::new().put(Key::new(&name).unwrap(), value);
                    match group.commit(batch) {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(StoreError::Busy) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        std::thread::sleep(LONG);
        ended.store(true, Ordering::Relaxed);
    });
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap();
    done.load(Ordering::Relaxed) * 1000 / milliseconds
}

fn measure(suite: &str, store: &Arc<dyn Store>) {
    for writers in [1, 64] {
        strongroom_soak::tell(
            suite,
            &format!("writes a second, writers: {writers}"),
            rate(store, writers),
        );
    }
}

fn share(suite: &str, (commits, fsyncs): (u64, u64)) {
    strongroom_soak::tell(suite, "groups written in all", commits);
    strongroom_soak::tell(suite, "fsyncs in all", fsyncs);
}

#[test]
#[ignore = "a measurement, to be read by people"]
fn cost() {
    let scratch = tempfile::tempdir_in(".").unwrap();
    let sled = Arc::new(SledStore::create(&scratch.path().join("sled")).unwrap());
    measure("cost sled", &(Arc::clone(&sled) as Arc<dyn Store>));
    share("cost sled", (sled.commits(), sled.fsyncs()));
    let redb = Arc::new(RedbStore::create(&scratch.path().join("redb")).unwrap());
    measure("cost redb", &(Arc::clone(&redb) as Arc<dyn Store>));
    share("cost redb", (redb.commits(), redb.fsyncs()));
    if let Some(server) = Server::start(&[]) {
        let store = server.choice().create(&scratch.path().join("postgres"), &NAME).unwrap();
        measure("cost postgres", &store);
    }
}
