//! The ways to R, and the one way from a sealed vault to an unsealed one.
//!
//! ```text
//! file "seal"   slot file; payload = postcard of `SealFile` (seal/file.rs):
//!               ways, any of which opens ‖ ways that are not in force yet ‖ retired share sets
//! way           one lock, or several that must all be opened (seal/way.rs)
//! ```
//!
//! The file holds nothing secret: salts, parameters, R sealed under a way's locks, digests. Whoever
//! edits it can keep the vault shut, never open it, because R is accepted only when it opens the
//! keyring.
//!
//! Invariant: an [`Unsealed`] exists only after R opened this vault's keyring.
//! Invariant: R is dropped at once when it has opened the keyring.
//! Distrusts: every byte of the file, every share and every passphrase.

mod attempt;
mod change;
mod failures;
mod field;
pub(crate) mod file;
mod parts;
mod passphrase;
mod share_text;
mod shares;
mod tpm_lock;
mod tpm_way;
mod way;

use std::path::{Path, PathBuf};

use strongroom_sys::Secret;

use crate::envelope::EnvelopeError;
use crate::keyring::{KEYRING_FILE, Keyring, KeyringError, KeyringFile};
use crate::keys::{self, Algorithm, DeriveError, FillRandom, LockKey, RootKey, StoreId, WayId};
use crate::slots::{Capacity, SlotError, SlotFile};
use file::{FirstPassphrase, Read, SealFile, Target};

pub use attempt::{AttemptId, AttemptRefusal, Bringer, Ceremony, Offer, Progress, Standing};
pub use change::{Change, ChangeError, Changed};
pub use passphrase::{KdfCost, PassphraseError, PassphraseLock};
pub use share_text::BadShareText;
pub use shares::{SetId, Share, ShareRefusal, ShareSet, SplitError, split_root};
pub use tpm_lock::{MAX_TPM_BLOB_BYTES, Pin, TpmCounter, TpmLock, TpmMoment};
pub use tpm_way::TpmWayError;
pub use way::{Lock, LockKind, MAX_HOLDER_BYTES, NewLock, Way, WayError};

/// The seal's file in the data directory.
pub const SEAL_FILE: &str = "seal";
const CAPACITY: Capacity = Capacity(32 * 1024);
const SEAL_FORMAT: u8 = 2;
/// Most ways into a vault: one passphrase and one set of shares are usual.
pub const MAX_WAYS: usize = 8;
/// Share sets that are still named as stale; an older one's shares are of an unknown set.
const MAX_RETIRED: usize = 256;

/// Why the seal file was not made or read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The slot file.
    #[error("seal file: {0}")]
    Slots(#[from] SlotError),
    /// It is whole, and not a seal file.
    #[error("the seal file is malformed")]
    Malformed,
    /// Of a newer Strongroom.
    #[error("the seal file has format {0}, which this program does not know")]
    UnknownFormat(u8),
    /// No way, or more than eight.
    #[error("between one and eight ways lead into a vault")]
    WayCount,
    /// The keyring could not be made.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// Why R was refused; the vault stays sealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// R, or the keyring: see the cause.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// R is that of a rotation, and the keyring is not under it yet.
    #[error("these shares are not in force yet: the vault still opens as it did before them")]
    NotInForce,
    /// R is that of before a rotation which is done.
    #[error("the vault was moved to other shares: it opens with the new ones")]
    Moved,
    /// The seal file could not be written.
    #[error(transparent)]
    File(#[from] SealError),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// A vault whose keys are shut.
#[derive(Debug)]
pub struct Sealed {
    directory: PathBuf,
    file: SealFile,
    shape: Shape,
}

/// How the seal file lies on disk.
#[derive(Debug)]
enum Shape {
    /// As it is written today.
    Current,
    /// In format 1, with all that it needs to be written anew.
    First,
    /// In format 1, until its passphrase is there.
    FirstPassphrase(FirstPassphrase),
}

/// A vault whose keyring is open.
#[derive(Debug)]
pub struct Unsealed {
    directory: PathBuf,
    keyring: KeyringFile,
}

/// R did not open the vault: it is handed back sealed.
#[derive(Debug)]
pub struct StillSealed {
    /// The vault, as before.
    pub sealed: Sealed,
    /// Why.
    pub error: UnsealError,
}

/// Makes a new vault: its keyring first and its seal file last, so that a crash leaves no vault.
///
/// # Errors
/// When there is one, or half of one, in `directory`; or it cannot be written.
pub fn create(
    directory: &Path,
    vault: StoreId,
    (root, ways): (RootKey, Vec<Way>),
    algorithm: Algorithm,
    random: FillRandom<'_>,
) -> Result<Unsealed, SealError> {
    let path = directory.join(SEAL_FILE);
    if path.try_exists().map_err(SlotError::from)? {
        return Err(SlotError::Exists.into());
    }
    let next = ways.iter().map(|way| way.id.0).max().unwrap_or(0).saturating_add(1);
    let payload = SealFile::new(vault, next, ways).encode()?;
    let key = keys::derive_keyring_key(&root, vault)?;
    let keyring = Keyring::make(vault, random).map_err(KeyringError::from)?;
    let keyring = KeyringFile::create(directory, key, keyring, algorithm, random)?;
    drop(SlotFile::create(&path, CAPACITY, [&payload, &payload])?);
    Ok(Unsealed { directory: directory.to_path_buf(), keyring })
}

/// The seal file's payload, for a backup: nothing in it is secret.
///
/// # Errors
/// When the file is missing or damaged.
pub fn export(directory: &Path) -> Result<Vec<u8>, SealError> {
    Ok(SlotFile::open(&directory.join(SEAL_FILE), CAPACITY)?.1)
}

/// Writes the seal file of a restored vault out of an exported payload.
///
/// # Errors
/// When it is none, there is one already, or it cannot be written.
pub fn restore(directory: &Path, payload: &[u8]) -> Result<Sealed, SealError> {
    drop(SlotFile::create(&directory.join(SEAL_FILE), CAPACITY, [payload, payload])?);
    Sealed::load(directory)
}

/// Whether `directory` holds a vault, or the remains of one.
///
/// # Errors
/// When the directory cannot be read.
pub fn exists(directory: &Path) -> std::io::Result<bool> {
    Ok(directory.join(SEAL_FILE).try_exists()? || directory.join(KEYRING_FILE).try_exists()?)
}

impl Sealed {
    /// Reads which ways lead into a vault.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn load(directory: &Path) -> Result<Self, SealError> {
        let (_, payload) = SlotFile::open(&directory.join(SEAL_FILE), CAPACITY)?;
        let (file, shape) = match SealFile::decode(&payload)? {
            Read::Current(file) => (file, Shape::Current),
            Read::FirstShares(file) => (file, Shape::First),
            Read::FirstPassphrase(file, first) => (file, Shape::FirstPassphrase(first)),
        };
        Ok(Self { directory: directory.to_path_buf(), file, shape })
    }

    /// The vault.
    pub fn vault(&self) -> StoreId {
        self.file.vault
    }

    /// The ways; any one of them opens the vault.
    pub fn ways(&self) -> &[Way] {
        &self.file.ways
    }

    /// Ways that are not in force yet, and whether they lead to another R.
    pub fn incoming(&self) -> Option<(&[Way], bool)> {
        let incoming = self.file.incoming.as_ref()?;
        Some((&incoming.ways, incoming.to == Target::Another))
    }

    /// Whether this R is the one that the keyring is under.
    fn fits(&self, root: &RootKey) -> bool {
        keys::derive_keyring_key(root, self.file.vault)
            .is_ok_and(|key| KeyringFile::opens(&self.directory, &key, self.file.vault))
    }

    /// What a way is made of, for the journal.
    pub fn way_name(&self, way: WayId) -> &'static str {
        let kinds = self.file.way(way).map(|way| way.kinds().collect::<Vec<_>>());
        let has = |kind| kinds.as_ref().is_some_and(|kinds| kinds.contains(&kind));
        match (has(LockKind::Passphrase), has(LockKind::Shares), has(LockKind::Tpm)) {
            (true, true, true) => "passphrase+shares+tpm",
            (true, true, false) => "passphrase+shares",
            (true, false, true) => "passphrase+tpm",
            (true, false, false) => "passphrase",
            (false, true, true) => "shares+tpm",
            (false, true, false) => "shares",
            (false, false, true) => "tpm",
            (false, false, false) => "unknown",
        }
    }

    /// The passphrase of format 1: it opens R, and seals it as it is sealed today.
    fn open_first(
        &mut self,
        passphrase: &Secret,
        random: FillRandom<'_>,
    ) -> Result<Option<(RootKey, WayId)>, PassphraseError> {
        let Shape::FirstPassphrase(first) = &self.shape else { return Ok(None) };
        let key = first.lock().stretch(passphrase)?;
        let root = first.open(self.file.vault, &key)?;
        let [way] = self.file.ways.as_mut_slice() else {
            return Err(PassphraseError::Damaged(EnvelopeError::Short));
        };
        let (place, locks) = ((self.file.vault, way.id), way.locks.clone());
        let keys = [&LockKey::Passphrase(key)];
        *way = Way::wrap(place, &root, (locks, &keys), crate::vault::algorithm(), random)?;
        self.shape = Shape::First;
        Ok(Some((root, place.1)))
    }

    /// Opens the keyring with R, which is dropped in any case. A way that was not in force is from now on, and a file of
    /// format 1 is written anew.
    ///
    /// # Errors
    /// The vault, still sealed, when R is not its R, the keyring is damaged, or the seal file cannot be written.
    pub fn unseal(
        self,
        (root, way): (RootKey, WayId),
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Unsealed, Box<StillSealed>> {
        let opened = keys::derive_keyring_key(&root, self.file.vault)
            .map_err(UnsealError::from)
            .and_then(|key| {
                let vault = self.file.vault;
                Ok(KeyringFile::open(&self.directory, key, vault, algorithm, random)?)
            });
        drop(root);
        let settled = opened.map_err(|error| self.explain(error, way)).and_then(|keyring| {
            self.settle(way)?;
            Ok(keyring)
        });
        match settled {
            Ok(keyring) => Ok(Unsealed { directory: self.directory, keyring }),
            Err(error) => Err(Box::new(StillSealed { sealed: self, error })),
        }
    }

    /// A keyring that does not open while a rotation is under way is under the other R.
    fn explain(&self, error: UnsealError, way: WayId) -> UnsealError {
        let other_key = matches!(
            error,
            UnsealError::Keyring(KeyringError::Envelope(EnvelopeError::OtherKeyOrContext))
        );
        match &self.file.incoming {
            Some(incoming) if other_key && incoming.to == Target::Another => {
                let new = incoming.ways.iter().any(|incoming| incoming.id == way);
                if new { UnsealError::NotInForce } else { UnsealError::Moved }
            }
            Some(_) | None => error,
        }
    }

    /// Writes what follows from having opened the vault by this way, if anything does.
    fn settle(&self, way: WayId) -> Result<(), SealError> {
        let mut file = self.file.clone();
        let came = file.incoming.as_ref().is_some_and(|incoming| incoming.has(way));
        if came {
            file.promote();
        }
        match (&self.shape, came) {
            (Shape::Current, false) => Ok(()),
            (Shape::Current | Shape::First, _) => write(&self.directory, &file),
            (Shape::FirstPassphrase(_), _) => Err(SealError::Malformed),
        }
    }
}

/// Writes the seal file, over both slots, so that what it does not say any more lies in neither.
fn write(directory: &Path, file: &SealFile) -> Result<(), SealError> {
    let payload = file.encode()?;
    let (mut slots, _) = SlotFile::open(&directory.join(SEAL_FILE), CAPACITY)?;
    slots.write(&payload)?;
    slots.write(&payload)?;
    Ok(())
}

impl Unsealed {
    /// A vault whose keyring was opened in `directory` already.
    pub fn of(directory: &Path, keyring: KeyringFile) -> Self {
        Self { directory: directory.to_path_buf(), keyring }
    }

    /// The same, after its directory was renamed.
    #[must_use]
    pub fn moved_to(self, directory: &Path) -> Self {
        Self { directory: directory.to_path_buf(), ..self }
    }

    /// The vault's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The keyring.
    pub fn keyring(&self) -> &KeyringFile {
        &self.keyring
    }

    /// The keyring, to be changed.
    pub fn keyring_mut(&mut self) -> &mut KeyringFile {
        &mut self.keyring
    }

    /// Drops every key.
    ///
    /// # Errors
    /// When the seal file can no longer be read.
    pub fn seal(self) -> Result<Sealed, SealError> {
        let Self { directory, keyring } = self;
        drop(keyring);
        Sealed::load(&directory)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod timing;
