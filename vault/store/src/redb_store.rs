//! The second embedded store: redb, one file, copy on write, a real `fdatasync` for each commit.
//!
//! Invariant: one writer at a time; an answer comes after redb's sync of that commit.
//! Invariant: any failure of a write or sync poisons the handle for good; a sync is never retried.
//! Invariant: every page's checksum is verified when the file is opened.
//! Trusts: the file system to keep what fdatasync confirmed.
//! Distrusts: redb's checksums as evidence: they are not keyed, and only a keyed manifest beside the store can vouch
//! for what is in it. redb repairs a file that was not closed when it opens it: run [`crate::check`] on a copy first.
//! A commit is one phase with one sync. redb says that someone who chooses the bytes, orders the disk's writes and cuts
//! the power could forge its checksum then; what is stored here is sealed, so that nobody chooses the bytes.

mod disk;

use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
};

use crate::batch::Batch;
use crate::contract::{MAX_SCAN_RECORDS, Store, StoreError};
use crate::place::{self, Hold};
use crate::poison::Poison;
use crate::record::{Key, Value};
use disk::Disk;

/// One redb database in one directory, open in one process.
pub struct RedbStore {
    db: Database,
    writer: Mutex<()>,
    poison: Poison,
    commits: AtomicU64,
    syncs: Arc<AtomicU64>,
    // Declared last, so that the directory stays held until redb has closed its file.
    hold: Hold,
}

impl RedbStore {
    /// Makes an empty store in `dir` (mode 0700, file 0600, whatever the umask), durable on return.
    /// The parent directory must exist.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is a store; [`StoreError::InUse`]; [`StoreError::Io`].
    pub fn create(dir: &Path) -> Result<Self, StoreError> {
        place::make_directory(dir)?;
        let hold = Hold::take(dir)?;
        if holds_store(hold.dir())? {
            return Err(StoreError::Exists);
        }
        let store = Self::start(hold)?;
        store.make_table()?;
        place::sync(store.hold.dir())?;
        place::sync_parent(store.hold.dir())?;
        Ok(store)
    }

    /// Opens the store in `dir`; never makes one, so that a lost store is not taken for an empty one.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::InUse`], [`StoreError::Corrupt`], [`StoreError::Foreign`],
    /// [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let hold = Hold::take(dir)?;
        if !holds_store(hold.dir())? {
            return Err(StoreError::Missing);
        }
        let store = Self::start(hold)?;
        store.look_for_table()?;
        place::sync(store.hold.dir())?;
        Ok(store)
    }

    /// Batches acknowledged by this handle.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Successful syncs of the file by this handle: never fewer than `commits()`.
    pub fn fsyncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn start(hold: Hold) -> Result<Self, StoreError> {
        let file = place::make_file(&hold.dir().join(FILE))?;
        place::tighten(hold.dir())?;
        let syncs = Arc::new(AtomicU64::new(0));
        Self::over(hold, Disk::new(file, Arc::clone(&syncs)), syncs)
    }

    fn over(
        hold: Hold,
        disk: impl StorageBackend,
        syncs: Arc<AtomicU64>,
    ) -> Result<Self, StoreError> {
        let db = open_redb(disk)?;
        Ok(Self {
            db,
            writer: Mutex::new(()),
            poison: Poison::default(),
            commits: AtomicU64::new(0),
            syncs,
            hold,
        })
    }

    fn make_table(&self) -> Result<(), StoreError> {
        let write = self.db.begin_write().map_err(refusal)?;
        drop(write.open_table(RECORDS).map_err(refusal)?);
        write.commit().map_err(refusal)
    }

    /// A file without our table is another program's, or a creation that was cut short.
    fn look_for_table(&self) -> Result<(), StoreError> {
        let read = self.db.begin_read().map_err(refusal)?;
        read.open_table(RECORDS).map(drop).map_err(refusal)
    }

    fn read(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        let read = self.db.begin_read().map_err(refusal)?;
        let table = read.open_table(RECORDS).map_err(refusal)?;
        let found = table.get(key.as_bytes()).map_err(refusal)?;
        found.map(|bytes| stored_value(bytes.value())).transpose()
    }

    fn page(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        let start = match after {
            Some(after) if after.as_bytes() >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix),
        };
        let read = self.db.begin_read().map_err(refusal)?;
        let table = read.open_table(RECORDS).map_err(refusal)?;
        let mut page = Vec::new();
        for found in table.range::<&[u8]>((start, Bound::Unbounded)).map_err(refusal)? {
            let (key, value) = found.map_err(refusal)?;
            if page.len() >= limit.min(MAX_SCAN_RECORDS) || !key.value().starts_with(prefix) {
                break;
            }
            let key = Key::new(key.value()).map_err(|_| StoreError::Corrupt)?;
            page.push((key, stored_value(value.value())?));
        }
        Ok(page)
    }

    /// All in one transaction, which is dropped unwritten when an expectation fails.
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut write = self.db.begin_write().map_err(refusal)?;
        write.set_durability(Durability::Immediate).map_err(refusal)?;
        let mut table = write.open_table(RECORDS).map_err(refusal)?;
        for (key, expected) in batch.expectations() {
            let found = table.get(key.as_bytes()).map_err(refusal)?;
            if found.as_ref().map(redb::AccessGuard::value) != expected.map(Value::as_bytes) {
                return Err(StoreError::Conflict);
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        for (key, value) in batch.writes() {
            let replaced = match value {
                Some(value) => table.insert(key.as_bytes(), value.as_bytes()),
                None => table.remove(key.as_bytes()),
            };
            drop(replaced.map_err(refusal)?);
        }
        drop(table);
        write.commit().map_err(refusal)
    }

    /// After a failure nothing is believed; a failed expectation is none.
    fn judged<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|error| {
            if !matches!(error, StoreError::Conflict) {
                self.poison();
            }
        })
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RedbStore({})", self.hold.dir().display())
    }
}

impl Store for RedbStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.poison.absent()?;
        self.judged(self.read(key))
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.poison.absent()?;
        self.judged(self.page(prefix, after, limit))
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.within_limits()?;
        // A panic of the previous writer left an unknown state, as an error does.
        let _writer = self.writer.lock().map_err(|_: PoisonError<_>| {
            self.poison();
            StoreError::Poisoned
        })?;
        self.poison.absent()?;
        self.judged(self.write(&batch))?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn poison(&self) {
        self.poison.set();
    }
}

/// Whether redb ever wrote here. An empty file is a creation that was cut short, or a loss.
pub(crate) fn holds_store(dir: &Path) -> Result<bool, StoreError> {
    Ok(place::length(&dir.join(FILE))?.is_some_and(|length| length > 0))
}

fn open_redb(disk: impl StorageBackend) -> Result<Database, StoreError> {
    Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(disk)
        .map_err(refusal)
}

fn refusal(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(inner) if inner.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Foreign
        }
        redb::Error::Io(inner) => StoreError::Io { act: "redb", kind: inner.kind() },
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse,
        redb::Error::UpgradeRequired(_)
        | redb::Error::TableDoesNotExist(_)
        | redb::Error::TableTypeMismatch { .. } => StoreError::Foreign,
        redb::Error::PreviousIo => StoreError::Poisoned,
        // The enum is open; what is left says that the file or redb itself is not sound.
        _ => StoreError::Corrupt,
    }
}

fn stored_value(bytes: &[u8]) -> Result<Value, StoreError> {
    Value::new(bytes).map_err(|_| StoreError::Corrupt)
}

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// redb's one file.
pub(crate) const FILE: &str = "records.redb";

/// redb's page cache: the records are small and few, and memory is better spent elsewhere.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests;
