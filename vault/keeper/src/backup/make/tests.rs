//! What a backup holds up while it is made, and what ends it.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use strongroom_policy::moment::Moment;
use strongroom_store::{Batch, Key, Store, StoreError, Value};

use super::{MakeError, Snapshot};
use crate::backup::fixture::{NOWHERE, Small, USER, user};
use crate::backup::halt::Halt;
use crate::records::RecordName;

/// A disk that takes nothing until it is told to.
struct Stalled {
    reached: Sender<()>,
    go: Receiver<()>,
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The other ends go when the test has seen what it came for.
        let (_told, _released) = (self.reached.send(()), self.go.recv());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Red when the snapshot keeps a lock, or is written on the writer's thread.
#[test]
fn while_a_backups_disk_stalls_changes_go_on_and_the_vault_closes() {
    let mut small = Small::make();
    let snapshot = small.snapshot().unwrap();
    let commit = small.books.commit();
    let ((reached, stalled), (go, wait)) = (channel(), channel());
    let writing = thread::spawn(move || {
        snapshot.write(NOWHERE, (Stalled { reached, go: wait }, &Halt::default()))
    });
    stalled.recv().unwrap();
    for round in 0..20 {
        small.put(&RecordName::User(USER), &user(&format!("round {round}")));
    }
    assert!(small.unsealed.try_lock().is_ok());
    let Small { books, scratch, .. } = small;
    // Joins the writer.
    drop(books);
    drop(go);
    assert_eq!(writing.join().unwrap().unwrap().commit, commit, "it is of its own moment");
    drop(scratch);
}

/// A store whose every record takes a while.
struct Slow<'s>(&'s dyn Store, Duration);

impl Store for Slow<'_> {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.0.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.0.scan(prefix, after, limit)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.0.commit(batch)
    }

    fn poison(&self) {
        self.0.poison();
    }

    fn scan_all(
        &self,
        visitor: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        self.0.scan_all(&mut |key, value| {
            thread::sleep(self.1);
            visitor(key, value)
        })
    }
}

fn take_slowly(small: &Small, pause: Duration, halt: Halt) -> (MakeError, Duration) {
    let (answer, taken) = channel();
    let begun = Instant::now();
    let work = move |store: &dyn Store, manifest: &_, unsealed: &_| {
        let now = (Moment::from_unix_millis(1), &halt);
        let taken = Snapshot::take(&Slow(store, pause), (manifest, unsealed), now);
        assert!(answer.send(taken.err()).is_ok());
    };
    small.books.whole_at_rest(work).unwrap();
    (taken.recv().unwrap().expect("it is refused"), begun.elapsed())
}

/// Red when the copying looks at no clock.
#[test]
fn a_store_that_is_read_too_slowly_holds_up_changes_no_longer_than_agreed() {
    let small = Small::make();
    // Nine rows and more.
    let (error, took) = take_slowly(&small, super::COPY_PATIENCE / 4, Halt::default());
    assert!(matches!(error, MakeError::Slow), "{error}");
    assert!(took < super::COPY_PATIENCE * 2, "{took:?}");
}

/// Red when the copying, or the writing, does not look whether it is to end.
#[test]
fn a_vault_that_closes_ends_its_backup_at_the_next_record() {
    let small = Small::make();
    let halt = Halt::default();
    halt.call();
    let (error, _) = take_slowly(&small, Duration::ZERO, halt.clone());
    assert!(matches!(error, MakeError::Halted), "{error}");
    let written = small.snapshot().unwrap().write(NOWHERE, (io::sink(), &halt));
    assert!(matches!(written, Err(MakeError::Halted)));
}
