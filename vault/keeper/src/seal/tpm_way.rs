//! The way over the TPM in the seal file: put there, kept up with its counter, removed.
//!
//! Invariant: one way over a TPM at most, and in a rotation its successor with the same lock, so that there is one counter to
//! judge by.

use super::file::{Incoming, SealFile, Target};
use super::way::{NewLock, Way, WayError};
use super::{MAX_WAYS, SealError, Sealed, Share, TpmLock, Unsealed, write};
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
    /// Eight ways stand already.
    #[error("there are {MAX_WAYS} ways into the vault, and no room for another one")]
    Full,
    /// Nothing would open the vault without a TPM.
    #[error("the last way into the vault cannot be removed")]
    LastWay,
}

impl Sealed {
    /// Whether an incoming way is opened by a TPM together with shares that are still to be entered back.
    pub fn awaits_tpm(&self) -> bool {
        let incoming = self.file.incoming.iter().flat_map(|incoming| &incoming.ways);
        incoming.into_iter().any(|way| way.tpm().is_some() && way.shares().is_some())
    }

    /// Whether a way over the TPM can be put there.
    ///
    /// # Errors
    /// `UnderWay` or `Full`.
    pub fn takes_tpm_way(&self) -> Result<(), TpmWayError> {
        check_room(&self.file)
    }

    /// Whether the way over the TPM is one that waits, and goes when what waits is given up.
    pub fn awaits_its_only_tpm_way(&self) -> bool {
        self.ways().iter().all(|way| way.tpm().is_none()) && self.tpm_way().is_some()
    }

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
    /// More locks make it a way that all of them open; with shares among them it is incoming, and they are answered.
    pub fn put_tpm_way(
        &mut self,
        root: &RootKey,
        ((lock, key), more): ((TpmLock, TpmLockKey), Vec<NewLock<'_>>),
        random: FillRandom<'_>,
    ) -> Result<(WayId, Vec<Share>), TpmWayError> {
        let mut file = Sealed::load(&self.directory)?.file;
        check_room(&file)?;
        let id = WayId(file.next_way);
        let mut locks = more;
        locks.push(NewLock::Tpm(lock, key));
        let (way, shares) = Way::make((file.vault, id), root, locks, algorithm(), random)?;
        drop_tpm(&mut file);
        file.next_way = file.next_way.saturating_add(1);
        if shares.is_empty() {
            file.ways.push(way);
        } else {
            file.incoming = Some(Incoming { to: Target::Same, ways: vec![way] });
        }
        write(&self.directory, &file)?;
        Ok((id, shares))
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

/// The one that stands makes room for its successor; one with shares needs the room once they were entered back.
fn check_room(file: &SealFile) -> Result<(), TpmWayError> {
    if file.incoming.is_some() {
        return Err(TpmWayError::UnderWay);
    }
    let others = file.ways.iter().filter(|way| way.tpm().is_none()).count();
    if others < MAX_WAYS { Ok(()) } else { Err(TpmWayError::Full) }
}

fn drop_tpm(file: &mut SealFile) -> bool {
    let mut gone: Vec<Way> = file.ways.extract_if(.., |way| way.tpm().is_some()).collect();
    if let Some(incoming) = &mut file.incoming {
        gone.extend(incoming.ways.extract_if(.., |way| way.tpm().is_some()));
    }
    file.incoming.take_if(|incoming| incoming.ways.is_empty());
    file.retire(&gone);
    !gone.is_empty()
}
