//! The counter of an open vault: moved in three steps, of which a crash may leave out any.
//!
//! ```text
//! 1  moment key sealed to V+1; seal file holds both blobs; manifest: V, moving
//! 2  the TPM's counter: V → V+1
//! 3  manifest: V+1; seal file holds the new blob alone
//! ```
//!
//! Before step 2 the vault opens at V, after it at V+1, and the manifest accepts both while it says "moving".
//!
//! Invariant: at every moment the seal file has a blob for the counter's value, and the manifest accepts that value.
//! Invariant: each step is done again as it was when its outcome is unknown.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::tpm::{Ask, Name, Policy};

use super::link::{Link, LinkError};
use super::lock::{self, LockError};
use super::{Demand, named};
use crate::keys::{TpmMomentKey, WayId};
use crate::manifest::{CounterNote, Manifest, ManifestError, Motion, Seen};
use crate::seal::{SealError, Sealed, TpmLock, TpmMoment, Unsealed};

/// The counter of an open vault.
#[derive(Debug)]
pub struct Freshness {
    link: Arc<Link>,
    manifest: Arc<Mutex<Manifest>>,
    unsealed: Arc<Mutex<Unsealed>>,
    found: Found,
}

/// A counter that was read, with the lock that it belongs to.
#[derive(Debug)]
pub struct Found {
    /// Which way.
    pub way: WayId,
    /// Its TPM's lock.
    pub lock: TpmLock,
    /// The counter's value.
    pub value: u64,
    /// The half of the lock's key that is sealed anew when it moves.
    pub moment_key: TpmMomentKey,
}

/// Why the counter did not move.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The TPM or its helper.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The seal file.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The manifest.
    #[error("manifest: {0}")]
    Manifest(#[from] ManifestError),
}

/// What is seen of the counter of the vault in `directory`, and what its open vault moves it with. Blocks.
///
/// # Errors
/// When the seal file cannot be read.
pub fn look(
    (link, demand): (Option<&Link>, Demand),
    directory: &Path,
) -> Result<(Seen, Option<Found>), SealError> {
    let sealed = Sealed::load(directory)?;
    let Some((way, lock)) = sealed.tpm_way() else {
        return Ok(match demand {
            Demand::None => (Seen::Nowhere, None),
            Demand::Sealed => (Seen::Missing, None),
        });
    };
    let unread = |why: String| Ok((Seen::Unread { why }, None));
    let Some(link) = link else { return unread("this keeper was started without a TPM".into()) };
    let name = lock.counter.name;
    Ok(match lock::open_moment(link, lock) {
        Ok((value, moment_key)) => {
            let found = Found { way, lock: lock.clone(), value, moment_key };
            (Seen::At { name, value }, Some(found))
        }
        // It was read; the seal file is of another moment, and so cannot move it.
        Err(LockError::Moved { value, .. }) => (Seen::At { name, value }, None),
        Err(error) => return unread(error.to_string()),
    })
}

impl Freshness {
    /// The counter of a vault that was accepted.
    pub fn new(
        link: Arc<Link>,
        (manifest, unsealed): (Arc<Mutex<Manifest>>, Arc<Mutex<Unsealed>>),
        found: Found,
    ) -> Self {
        Self { link, manifest, unsealed, found }
    }

    /// The counter's value, as far as this vault moved it.
    pub const fn value(&self) -> u64 {
        self.found.value
    }

    /// Moves the counter; whatever was on the disk before is then older than the TPM knows. Blocks.
    ///
    /// # Errors
    /// When a step failed; it is safe, and wanted, to try again.
    pub fn advance(&mut self, patience: Duration) -> Result<u64, AdvanceError> {
        let value = self.found.value;
        let next = value.saturating_add(1);
        self.prepare((value, next), patience)?;
        let ask = Ask::CounterIncrement {
            storage: self.storage(),
            counter: named(&self.found.lock.counter),
            from: value,
        };
        let reached = self.link.value(ask, patience)?;
        if reached != next {
            return Err(LinkError::Unexpected.into());
        }
        self.found.value = next;
        self.note(next, Motion::Still)?;
        self.found.lock.moments.retain(|moment| moment.value == next);
        self.write()?;
        Ok(next)
    }

    /// The first step.
    fn prepare(
        &mut self,
        (value, next): (u64, u64),
        patience: Duration,
    ) -> Result<(), AdvanceError> {
        let policy = Policy::Moment { counter: named(&self.found.lock.counter), value: next };
        let key = self.found.moment_key.secret().expose(SecretBytes::copy_from);
        let ask = Ask::Seal { storage: self.storage(), key, policy };
        let blob = self.link.sealed(ask, patience)?.0;
        self.found.lock.moments.retain(|moment| moment.value == value);
        self.found.lock.moments.push(TpmMoment { value: next, blob });
        self.write()?;
        self.note(value, Motion::Moving)?;
        Ok(())
    }

    const fn storage(&self) -> Name {
        Name(self.found.lock.storage)
    }

    fn write(&self) -> Result<(), SealError> {
        let mut unsealed = self.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        unsealed.write_tpm_lock(&self.found.lock)
    }

    fn note(&self, value: u64, motion: Motion) -> Result<(), ManifestError> {
        let note = CounterNote { name: self.found.lock.counter.name, value, motion };
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        manifest.note_counter(Some(note), &mut getrandom::fill)
    }
}
