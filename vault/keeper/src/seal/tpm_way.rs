//! The way over the TPM in the seal file: put there, kept up with its counter, removed.
//!
//! Invariant: one way over a TPM at most, and in a rotation its successor with the same lock, so that there is one counter to
//! judge by.

use super::file::SealFile;
use super::way::{NewLock, Way, WayError};
use super::{SealError, Sealed, TpmLock, Unsealed, write};
use crate::keys::{FillRandom, RootKey, TpmLockKey, WayId};
use crate::vault::algorithm;

/// Why a way over the TPM was not put in place.
#[derive(Debug, thiserror::Error)]
pub enum TpmWayError {
    /// The seal file.
    #[error(transparent)]
    File(#[from] SealError),
    /// The way.
    #[error(transparent)]
    Way(#[from] WayError),
    /// A rotation waits, which brings another root key.
    #[error("a change of the ways waits until its shares are entered back")]
    UnderWay,
    /// Nothing would open the vault without a TPM.
    #[error("the last way into the vault cannot be removed")]
    LastWay,
}

impl Sealed {
    /// The way over a TPM, when there is one.
    pub fn tpm_way(&self) -> Option<(WayId, &TpmLock)> {
        self.file.all_ways().find_map(|way| way.tpm().map(|lock| (way.id, lock)))
    }
}

impl Unsealed {
    /// Puts a way over the TPM beside the others, in the place of an earlier one that led over a TPM.
    ///
    /// # Errors
    /// When there is no room, or the file cannot be written.
    pub fn put_tpm_way(
        &mut self,
        root: &RootKey,
        (lock, key): (TpmLock, TpmLockKey),
        random: FillRandom<'_>,
    ) -> Result<WayId, TpmWayError> {
        let mut file = Sealed::load(&self.directory)?.file;
        if file.incoming.is_some() {
            return Err(TpmWayError::UnderWay);
        }
        let id = WayId(file.next_way);
        let locks = vec![NewLock::Tpm(lock, key)];
        let (way, _) = Way::make((file.vault, id), root, locks, algorithm(), random)?;
        drop_tpm(&mut file);
        file.next_way = file.next_way.saturating_add(1);
        file.ways.push(way);
        write(&self.directory, &file)?;
        Ok(id)
    }

    /// Removes the way that leads over a TPM, and its successor in a rotation that waits; tells whether there was one.
    ///
    /// # Errors
    /// When it is the only way, or the file cannot be written.
    pub fn remove_tpm_way(&mut self) -> Result<bool, TpmWayError> {
        let mut file = Sealed::load(&self.directory)?.file;
        let found = drop_tpm(&mut file);
        if found {
            if file.ways.is_empty() {
                return Err(TpmWayError::LastWay);
            }
            write(&self.directory, &file)?;
        }
        Ok(found)
    }

    /// Writes what the TPM's lock has become: on its way and, during a rotation, on the way that succeeds it.
    ///
    /// # Errors
    /// When the way is gone, or the file cannot be written.
    pub fn write_tpm_lock(&mut self, lock: &TpmLock) -> Result<(), SealError> {
        let mut file = Sealed::load(&self.directory)?.file;
        let ways =
            file.ways.iter_mut().chain(file.incoming.iter_mut().flat_map(|new| &mut new.ways));
        let mut found = false;
        for old in ways.filter_map(Way::tpm_mut).filter(|old| old.counter == lock.counter) {
            lock.clone_into(old);
            found = true;
        }
        if found { write(&self.directory, &file) } else { Err(SealError::Malformed) }
    }
}

fn drop_tpm(file: &mut SealFile) -> bool {
    let before = file.ways.len();
    file.ways.retain(|way| way.tpm().is_none());
    if let Some(incoming) = &mut file.incoming {
        incoming.ways.retain(|way| way.tpm().is_none());
    }
    file.ways.len() < before
}
