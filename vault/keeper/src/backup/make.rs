//! From the open store to one file: copied into memory between two commits, written when nobody waits for it any more.
//!
//! Invariant: store, manifest, keyring and seal are read between two commits, so they are of one moment.
//! Invariant: no lock of manifest or keyring is held while the store is read or the backup's file is written.
//! Invariant: a vault that closes ends both at the next record.
//! Invariant: what is written is what the manifest vouches for: a store that was changed behind the vault's back makes
//! no backup.
//! Invariant: a disk is never filled by it: some space is left for the journal.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::statvfs::fstatvfs;
use strongroom_policy::moment::Moment;
use strongroom_store::{Key, Store, StoreError, Value};

use super::content::{Closing, ContentError, ContentWriter, JournalPoint};
use super::halt::Halt;
use super::stream::{Header, StreamError, StreamWriter};
use crate::keyring::KeyringError;
use crate::keys::{DeriveError, KEY_BYTES, RecordId, StreamKey};
use crate::manifest::{Account, MARK_RECORD, Manifest, Reference, Refusal};
use crate::seal::{self, SealError, Unsealed};

/// Bytes that are left free on the disk, for the journal above all.
pub const LEFT_FREE_BYTES: u64 = 16 * 1024 * 1024;
/// How long the store may take to be copied: acts wait meanwhile, and give up after twice as long.
pub const COPY_PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a copy; an unsealing holds as much.
pub const MAX_COPY_BYTES: usize = 1024 * 1024 * 1024;
/// How often the free space is looked at, in bytes written.
const LOOK_EVERY_BYTES: u64 = 1024 * 1024;

/// A backup that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// How long it is.
    pub bytes: u64,
    /// The commit that it is of.
    pub commit: u64,
    /// When it was made.
    pub when: Moment,
    /// How many records, pieces counted one by one.
    pub records: u64,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The file.
    #[error("the backup cannot be written: {0}")]
    Content(#[from] ContentError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is not what the manifest describes.
    #[error("the store is not as the vault left it: {0}")]
    Refused(#[from] Refusal),
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The seal file.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Acts must not wait longer.
    #[error("the store was not read within {} seconds, and changes wait for that no longer", COPY_PATIENCE.as_secs())]
    Slow,
    /// More than is copied.
    #[error("the store has more than {} MiB", MAX_COPY_BYTES / 1024 / 1024)]
    Large,
    /// The vault closed meanwhile.
    #[error("the vault was sealed while a backup was being made or checked")]
    Halted,
    /// Randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

impl From<StreamError> for MakeError {
    fn from(error: StreamError) -> Self {
        Self::Content(error.into())
    }
}

/// One moment of a vault, out of everybody's way: no lock is held for it, and no write waits.
pub struct Snapshot {
    header: Header,
    key: StreamKey,
    reference: Reference,
    rows: Vec<(Key, Value)>,
}

impl Snapshot {
    /// Copies what lies in the store. For the writer's thread, between two commits: acts wait meanwhile.
    ///
    /// # Errors
    /// When it takes longer than [`COPY_PATIENCE`], is too large, or cannot be read.
    pub fn take(
        store: &dyn Store,
        (manifest, unsealed): (&Mutex<Manifest>, &Mutex<Unsealed>),
        (when, halt): (Moment, &Halt),
    ) -> Result<Self, MakeError> {
        let mut salt = [0_u8; KEY_BYTES];
        getrandom::fill(&mut salt)?;
        // Manifest before keyring, as a commit locks them.
        let manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        let keyring = guard.keyring();
        let reference = manifest.reference(keyring.keyring())?.ok_or(Refusal::Spliced)?;
        drop(manifest);
        let (generation, keyring_payload) = keyring.export(&mut getrandom::fill)?;
        let header = Header {
            store: keyring.keyring().store(),
            commit: reference.account().commit,
            when,
            salt,
            keyring: generation,
            seal: seal::export(guard.directory())?,
            keyring_payload,
        };
        let key = header.derive_key(keyring.keyring().system())?;
        drop(guard);
        Ok(Self { header, key, reference, rows: copy(store, halt)? })
    }

    /// Writes it. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// When the store is not the manifest's, or the file cannot be written; what is in it then has no end and is no backup.
    pub fn write(
        self,
        journal: JournalPoint,
        (out, halt): (impl Write, &Halt),
    ) -> Result<Written, MakeError> {
        let Self { header, key, reference, rows } = self;
        let out = BufWriter::with_capacity(256 * 1024, out);
        let stream = StreamWriter::begin(out, &header, &key)?;
        let (mut content, mut scan) = (ContentWriter::begin(stream), reference.scan());
        for (name, value) in rows {
            if halt.is_called() {
                return Err(MakeError::Halted);
            }
            scan.take(RecordId(name.as_bytes()), value.as_bytes())?;
            if name.as_bytes() != MARK_RECORD {
                content.record(name.as_bytes(), value.as_bytes())?;
            }
        }
        reference.judge(&scan.finish())?;
        let Account { commit, count, set_hash } = reference.account().clone();
        let (_, bytes) = content.close(Closing { commit, count, set_hash, journal })?;
        Ok(Written { bytes, commit, when: header.when, records: count })
    }
}

fn copy(store: &dyn Store, halt: &Halt) -> Result<Vec<(Key, Value)>, MakeError> {
    let begun = Instant::now();
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    let mut stopped = None;
    store.scan_all(&mut |key, value| {
        bytes = bytes.saturating_add(key.as_bytes().len()).saturating_add(value.as_bytes().len());
        stopped = if halt.is_called() {
            Some(MakeError::Halted)
        } else if begun.elapsed() > COPY_PATIENCE {
            Some(MakeError::Slow)
        } else if bytes > MAX_COPY_BYTES {
            Some(MakeError::Large)
        } else {
            rows.push((key.clone(), value.clone()));
            return ControlFlow::Continue(());
        };
        ControlFlow::Break(())
    })?;
    match stopped {
        Some(error) => Err(error),
        None => Ok(rows),
    }
}

/// A file that stops growing before its disk is full.
pub struct Careful {
    file: File,
    since_look: u64,
}

impl Careful {
    /// Looks at once.
    ///
    /// # Errors
    /// When there is too little space.
    pub fn new(file: File) -> io::Result<Self> {
        look(&file)?;
        Ok(Self { file, since_look: 0 })
    }
}

impl Write for Careful {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let more = u64::try_from(written).unwrap_or(u64::MAX);
        self.since_look = self.since_look.saturating_add(more);
        if self.since_look >= LOOK_EVERY_BYTES {
            self.since_look = 0;
            look(&self.file)?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn look(file: &File) -> io::Result<()> {
    let found = fstatvfs(file)?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    if free < LEFT_FREE_BYTES {
        let what = format!("less than {} MiB are free on the disk", LEFT_FREE_BYTES / 1024 / 1024);
        return Err(io::Error::new(io::ErrorKind::StorageFull, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
