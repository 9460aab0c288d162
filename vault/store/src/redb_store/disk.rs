//! The file under redb: plain reads, writes and syncs, and the one place where they can fail.
//!
//! Invariant: a sync is counted when it succeeded, never before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;

/// One open file. Its locks are not redb's to take: whoever opens it holds the directory.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    syncs: Arc<AtomicU64>,
}

impl Disk {
    pub(super) fn new(file: File, syncs: Arc<AtomicU64>) -> Self {
        Self { file, syncs }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }
}
