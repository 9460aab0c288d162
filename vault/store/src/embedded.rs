//! The embedded store: sled, held to a discipline that makes an acknowledgement mean durable.
//!
//! Invariant: one writer at a time, and no answer before log, flush and fsync are done, in that order.
//! Invariant: any failure of a write, flush or fsync poisons the handle for good; fsync is never retried.
//! Invariant: no counter or id comes from sled (`generate_id` repeats itself after a crash), and no
//! transaction closure is used (sled may run one twice).
//! Trusts: the file system to keep what fsync confirmed.
//! Distrusts: sled's `flush`, which on Linux calls `sync_file_range` and so syncs neither the
//! drive's cache nor a grown file's metadata (a seccomp filter that answers ENOSYS to that call
//! makes sled fsync as well, and so orders a segment's reuse within one commit).
//! Distrusts: what sled finds in its files at open, which only a keyed manifest beside the store
//! can vouch for (run [`crate::check`] on a copy first).

mod files;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::contract::{MAX_SCAN_RECORDS, Store, StoreError};
use crate::place::{self, Hold};
use crate::poison::Poison;
use crate::record::{Key, Value};
use files::DB_FILE;
pub(crate) use files::holds_store;

/// One sled database in one directory, open in one process.
pub struct SledStore {
    db: sled::Db,
    writer: Mutex<Barrier>,
    poison: Poison,
    commits: AtomicU64,
    fsyncs: AtomicU64,
    // Declared last, so that the directory stays held until sled has closed its files.
    hold: Hold,
}

impl SledStore {
    /// Makes an empty store in `dir` (mode 0700, files 0600, whatever the umask), durable on return.
    /// The parent directory must exist. A creation that was cut short may be repeated.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is a store; [`StoreError::InUse`]; [`StoreError::Io`].
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        place::make_directory(dir)?;
        let hold = Hold::take(dir)?;
        if holds_store(hold.dir())? {
            return Err(StoreError::Exists);
        }
        files::make_files(hold.dir())?;
        let store = Self::start(hold)?;
        place::sync_parent(store.hold.dir())?;
        Ok(store)
    }

    /// Opens the store in `dir`; never makes one, so that a lost store is not taken for an empty one.
    ///
    /// Call [`crate::check::check_copy`] in a process of its own first: sled panics on most damage
    /// and silently drops the tail of its log on the rest.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::InUse`], [`StoreError::Corrupt`] (a published
    /// snapshot that is empty included), [`StoreError::Foreign`], [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let hold = Hold::take(dir)?;
        if !holds_store(hold.dir())? {
            return Err(StoreError::Missing);
        }
        files::sweep_unfinished_snapshots(hold.dir())?;
        Self::start(hold)
    }

    /// Batches acknowledged by this handle.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Successful fsyncs of the log by this handle, the one at open included: never fewer than
    /// `commits() + 1`.
    pub fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }

    fn start(hold: Hold) -> Result<Self, StoreError> {
        // Opened before sled writes: a descriptor reports each write-back error once, and only
        // errors that came after it was opened or that nobody has seen.
        let log = File::open(hold.dir().join(DB_FILE)).map_err(StoreError::io("open the log"))?;
        let db = open_sled(hold.dir())?;
        place::tighten(hold.dir())?;
        let barrier = Barrier { log, blobs: hold.dir().join(files::BLOBS_DIR) };
        let store = Self {
            db,
            writer: Mutex::new(barrier),
            poison: Poison::default(),
            commits: AtomicU64::new(0),
            fsyncs: AtomicU64::new(0),
            hold,
        };
        store.settle()?;
        files::sync_names(store.hold.dir())?;
        Ok(store)
    }

    /// Makes what opening wrote durable, before anything is built on it.
    fn settle(&self) -> Result<(), StoreError> {
        let barrier = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.persist(&barrier)
    }

    fn persist(&self, barrier: &Barrier) -> Result<(), StoreError> {
        self.db.flush().map_err(refusal)?;
        barrier.sync()?;
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, barrier: &Barrier, batch: &Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch.writes() {
            match value {
                Some(value) => writes.insert(key.as_bytes(), value.as_bytes()),
                None => writes.remove(key.as_bytes()),
            }
        }
        self.db.apply_batch(writes).map_err(refusal)?;
        self.persist(barrier)
    }

    /// A read that failed says that the files or the disk are bad: nothing after it is believed.
    fn broken(&self, error: StoreError) -> StoreError {
        self.poison();
        error
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SledStore({})", self.hold.dir().display())
    }
}

impl Store for SledStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.poison.absent()?;
        let found = self.db.get(key.as_bytes()).map_err(|error| self.broken(refusal(error)))?;
        found.map(|bytes| stored_value(&bytes).map_err(|error| self.broken(error))).transpose()
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.poison.absent()?;
        let start = match after {
            Some(after) if after.as_bytes() >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix),
        };
        let mut page = Vec::new();
        for found in self.db.range::<&[u8], _>((start, Bound::Unbounded)) {
            let (key, value) = found.map_err(|error| self.broken(refusal(error)))?;
            if page.len() >= limit.min(MAX_SCAN_RECORDS) || !key.starts_with(prefix) {
                break;
            }
            let key = Key::new(&key).map_err(|_| self.broken(StoreError::Corrupt))?;
            page.push((key, stored_value(&value).map_err(|error| self.broken(error))?));
        }
        Ok(page)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.within_limits()?;
        // A panic of the previous writer left an unknown state, as an error does.
        let barrier = self.writer.lock().map_err(|_| self.broken(StoreError::Poisoned))?;
        self.poison.absent()?;
        for (key, expected) in batch.expectations() {
            if self.get(key)?.as_ref() != expected {
                return Err(StoreError::Conflict);
            }
        }
        if !batch.is_empty() {
            self.write(&barrier, &batch).map_err(|error| self.broken(error))?;
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn poison(&self) {
        self.poison.set();
    }
}

/// The second descriptor on sled's log, whose fsync is what an acknowledgement rests on.
struct Barrier {
    log: File,
    blobs: PathBuf,
}

impl Barrier {
    fn sync(&self) -> Result<(), StoreError> {
        self.sync_blobs()?;
        self.log.sync_all().map_err(StoreError::io("sync the log"))
    }

    /// Our values keep sled's pages below the size at which it moves them to files of their own,
    /// which it never syncs. Should it make one all the same, that file is synced here.
    fn sync_blobs(&self) -> Result<(), StoreError> {
        let failed = "sync the blobs";
        let mut any = false;
        for entry in self.blobs.read_dir().map_err(StoreError::io(failed))? {
            let path = entry.map_err(StoreError::io(failed))?.path();
            match File::open(path).and_then(|file| file.sync_all()) {
                Ok(()) => any = true,
                // sled collects its garbage from other threads.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io(failed)(error)),
            }
        }
        if any { place::sync(&self.blobs) } else { Ok(()) }
    }
}

/// sled's own lock outlives its handle by a moment, while its threads end: hence the patience.
fn open_sled(dir: &Path) -> Result<sled::Db, StoreError> {
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        let opened = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None)
            .open();
        match opened {
            Ok(db) => return Ok(db),
            Err(error) if is_lock(&error) && Instant::now() < give_up => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(error) if is_lock(&error) => return Err(StoreError::InUse),
            Err(error) => return Err(refusal(error)),
        }
    }
}

fn is_lock(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(inner) if inner.to_string().contains("acquire lock"))
}

fn refusal(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(inner) => StoreError::Io { act: "sled", kind: inner.kind() },
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => StoreError::Corrupt,
        sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) => StoreError::Foreign,
    }
}

fn stored_value(bytes: &[u8]) -> Result<Value, StoreError> {
    Value::new(bytes).map_err(|_| StoreError::Corrupt)
}

/// sled's page cache: the records are small and few, and memory is better spent elsewhere.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// sled keeps a page inside its log below a quarter of this. A leaf splits above 16 records and may
/// have swallowed a sibling before that: 1 MiB has room for 31 records of the largest size.
const SEGMENT_BYTES: usize = 1024 * 1024;

/// How long a previous handle in this process may take to let go of its file.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &[u8], value: &[u8]) -> Batch {
        Batch::new().put(Key::new(name).unwrap(), Value::new(value).unwrap())
    }

    #[test]
    fn a_failed_fsync_poisons_the_store_for_good() {
        let scratch = tempfile::tempdir().unwrap();
        let store = SledStore::create(&scratch.path().join("store")).unwrap();
        store.commit(put(b"kept", b"1")).unwrap();
        // fsync of a pipe is EINVAL: the cheapest disk that fails.
        let (_reader, pipe) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        let sound = std::mem::replace(&mut store.writer.lock().unwrap().log, pipe);
        let failed = store.commit(put(b"lost", b"1"));
        assert!(matches!(failed, Err(StoreError::Io { act: "sync the log", .. })), "{failed:?}");
        store.writer.lock().unwrap().log = sound;
        let key = Key::new(b"kept").unwrap();
        assert!(matches!(store.commit(put(b"later", b"1")), Err(StoreError::Poisoned)));
        assert!(matches!(store.get(&key), Err(StoreError::Poisoned)));
        assert!(matches!(store.scan(b"", None, 1), Err(StoreError::Poisoned)));
        assert_eq!(store.commits(), 1);
    }

    #[test]
    fn pages_full_of_the_largest_records_never_leave_the_log() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("store");
        let store = SledStore::create(&dir).unwrap();
        let value = Value::new(&[0xA5; crate::MAX_VALUE_BYTES]).unwrap();
        let long = |number: u32| {
            let mut key = vec![b'k'; crate::MAX_KEY_BYTES - 4];
            key.extend(number.to_be_bytes());
            Key::new(&key).unwrap()
        };
        let mut spilled = 0;
        for round in 0..12_u32 {
            let batch =
                (0..100).fold(Batch::new(), |b, n| b.put(long(round * 37 + n), value.clone()));
            store.commit(batch).unwrap();
            let batch = (0..60).fold(Batch::new(), |b, n| b.delete(long(round * 37 + n * 2)));
            store.commit(batch).unwrap();
            spilled += std::fs::read_dir(dir.join(files::BLOBS_DIR)).unwrap().count();
        }
        assert_eq!(spilled, 0);
    }
}
