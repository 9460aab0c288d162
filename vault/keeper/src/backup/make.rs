//! From the open store to one file.
//!
//! Invariant: store, manifest, keyring and seal are read between two commits, so they are of one moment.
//! Invariant: what is written is what the manifest vouches for: a store that was changed behind the vault's back makes
//! no backup.
//! Invariant: a disk is never filled by it: some space is left for the journal.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use nix::sys::statvfs::fstatvfs;
use strongroom_policy::moment::Moment;
use strongroom_store::{Store, StoreError};

use super::content::{Closing, ContentError, ContentWriter, JournalPoint};
use super::stream::{Header, StreamError, StreamWriter};
use crate::keyring::KeyringError;
use crate::keys::{DeriveError, KEY_BYTES, RecordId};
use crate::manifest::{MARK_RECORD, Manifest, Refusal, Verdict};
use crate::seal::{self, SealError, Unsealed};

/// Bytes that are left free on the disk, for the journal above all.
pub const LEFT_FREE_BYTES: u64 = 16 * 1024 * 1024;
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

/// Writes a backup of this moment to `file`. Blocks for as long as the disk takes.
///
/// # Errors
/// When the store is not the manifest's, or the file cannot be written; what is in it then has no end and is no backup.
pub fn make(
    (store, manifest, unsealed): (&dyn Store, &Manifest, &Unsealed),
    (journal, when): (JournalPoint, Moment),
    file: File,
) -> Result<Written, MakeError> {
    let keyring = unsealed.keyring();
    let account = manifest.account();
    let mut salt = [0_u8; KEY_BYTES];
    getrandom::fill(&mut salt)?;
    let (generation, keyring_payload) = keyring.export(&mut getrandom::fill)?;
    let header = Header {
        store: keyring.keyring().store(),
        commit: account.commit,
        when,
        salt,
        keyring: generation,
        seal: seal::export(unsealed.directory())?,
        keyring_payload,
    };
    let key = header.derive_key(keyring.keyring().system())?;
    let out = Careful::new(file).map_err(StreamError::from)?;
    let stream = StreamWriter::begin(BufWriter::with_capacity(256 * 1024, out), &header, &key)?;
    let mut content = ContentWriter::begin(stream);
    let mut scan = manifest.scan();
    let mut failed: Option<MakeError> = None;
    store.scan_all(&mut |key, value| {
        let taken = scan.take(RecordId(key.as_bytes()), value.as_bytes()).map_err(MakeError::from);
        let written = taken.and_then(|()| match key.as_bytes() {
            MARK_RECORD => Ok(()),
            name => Ok(content.record(name, value.as_bytes())?),
        });
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    match manifest.judge(&scan.finish(), keyring)? {
        Verdict::Same => {}
        Verdict::IntendedApplied | Verdict::IntendedNotApplied => {
            return Err(Refusal::Spliced.into());
        }
    }
    let (commit, count) = (account.commit, account.count);
    let closing = Closing { commit, count, set_hash: account.set_hash, journal };
    let (_, bytes) = content.close(closing)?;
    Ok(Written { bytes, commit, when, records: count })
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
