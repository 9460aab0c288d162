//! The seals around R, and the one way from a sealed vault to an unsealed one.
//!
//! ```text
//! file "seal"   slot file; payload = postcard of `SealFile`:
//!               format ‖ vault id ‖ seals (any one of them opens) ‖ retired share sets
//! ```
//!
//! The file holds nothing secret: salts, parameters, R sealed under a passphrase, digests. Whoever
//! edits it can keep the vault shut, never open it, because R is accepted only when it opens the
//! keyring.
//!
//! Invariant: an [`Unsealed`] exists only after R opened this vault's keyring.
//! Invariant: R is dropped at once when it has opened the keyring.
//! Distrusts: every byte of the file, every share and every passphrase.

mod attempt;
mod field;
mod passphrase;
mod share_text;
mod shares;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_sys::Secret;

use crate::keyring::{KEYRING_FILE, Keyring, KeyringError, KeyringFile};
use crate::keys::{self, Algorithm, DeriveError, FillRandom, RootKey, StoreId};
use crate::slots::{Capacity, SlotError, SlotFile};

pub use attempt::{AttemptId, AttemptRefusal, Ceremony, Progress, Standing};
pub use passphrase::{KdfCost, PassphraseError, PassphraseSeal};
pub use share_text::BadShareText;
pub use shares::{SetId, Share, ShareRefusal, ShareSet, SplitError, split_root};

/// The seal's file in the data directory.
pub const SEAL_FILE: &str = "seal";
const CAPACITY: Capacity = Capacity(32 * 1024);
const SEAL_FORMAT: u8 = 1;
/// One passphrase and one set of shares are usual.
const MAX_SEALS: usize = 8;

/// One way to R.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seal {
    /// For installs of one person.
    Passphrase(PassphraseSeal),
    /// k of n people.
    Shares(ShareSet),
}

/// Why the seal file was not made or read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The slot file.
    #[error("seal file: {0}")]
    Slots(#[from] SlotError),
    /// It is whole, and not a seal file.
    #[error("the seal file is malformed")]
    Malformed,
    /// No seal, or more than eight.
    #[error("a vault has between one and eight seals")]
    SealCount,
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
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

#[derive(Debug, Serialize, Deserialize)]
struct SealFile {
    format: u8,
    vault: StoreId,
    seals: Vec<Seal>,
    retired: Vec<SetId>,
}

/// A vault whose keys are shut.
#[derive(Debug)]
pub struct Sealed {
    directory: PathBuf,
    file: SealFile,
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
    (root, seals): (RootKey, Vec<Seal>),
    algorithm: Algorithm,
    random: FillRandom<'_>,
) -> Result<Unsealed, SealError> {
    if seals.is_empty() || seals.len() > MAX_SEALS {
        return Err(SealError::SealCount);
    }
    let path = directory.join(SEAL_FILE);
    if path.try_exists().map_err(SlotError::from)? {
        return Err(SlotError::Exists.into());
    }
    let file = SealFile { format: SEAL_FORMAT, vault, seals, retired: Vec::new() };
    let payload = postcard::to_stdvec(&file).map_err(|_| SealError::Malformed)?;
    let key = keys::derive_keyring_key(&root, vault)?;
    let keyring = Keyring::make(vault, random).map_err(KeyringError::from)?;
    let keyring = KeyringFile::create(directory, key, keyring, algorithm, random)?;
    drop(SlotFile::create(&path, CAPACITY, [&payload, &payload])?);
    Ok(Unsealed { directory: directory.to_path_buf(), keyring })
}

/// Whether `directory` holds a vault, or the remains of one.
///
/// # Errors
/// When the directory cannot be read.
pub fn exists(directory: &Path) -> std::io::Result<bool> {
    Ok(directory.join(SEAL_FILE).try_exists()? || directory.join(KEYRING_FILE).try_exists()?)
}

impl Sealed {
    /// Reads which seals a vault has.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn load(directory: &Path) -> Result<Self, SealError> {
        let (_, payload) = SlotFile::open(&directory.join(SEAL_FILE), CAPACITY)?;
        let (file, rest): (SealFile, _) =
            postcard::take_from_bytes(&payload).map_err(|_| SealError::Malformed)?;
        if !rest.is_empty() || file.format != SEAL_FORMAT || file.seals.len() > MAX_SEALS {
            return Err(SealError::Malformed);
        }
        Ok(Self { directory: directory.to_path_buf(), file })
    }

    /// The vault.
    pub fn vault(&self) -> StoreId {
        self.file.vault
    }

    /// The seals; any one of them opens the vault.
    pub fn seals(&self) -> &[Seal] {
        &self.file.seals
    }

    /// The sets of shares that stand.
    pub fn share_sets(&self) -> impl Iterator<Item = &ShareSet> {
        self.file.seals.iter().filter_map(|seal| match seal {
            Seal::Shares(set) => Some(set),
            Seal::Passphrase(_) => None,
        })
    }

    /// The sets that once stood: their shares are named as stale.
    pub fn retired_sets(&self) -> &[SetId] {
        &self.file.retired
    }

    /// Opens R with a passphrase; takes about 0.3 s of CPU and 64 MiB, one at a time.
    ///
    /// # Errors
    /// `WrongPassphrase`, `Busy` while another is computed, or `NoSuchSeal`.
    pub fn open_with_passphrase(&self, passphrase: &Secret) -> Result<RootKey, PassphraseError> {
        let mut refused = PassphraseError::NoSuchSeal;
        for seal in &self.file.seals {
            let Seal::Passphrase(seal) = seal else { continue };
            match seal.open(self.file.vault, passphrase) {
                Ok(root) => return Ok(root),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Opens the keyring with R, which is dropped in any case.
    ///
    /// # Errors
    /// The vault, still sealed, when R is not its R or the keyring is damaged.
    pub fn unseal(
        self,
        root: RootKey,
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
        match opened {
            Ok(keyring) => Ok(Unsealed { directory: self.directory, keyring }),
            Err(error) => Err(Box::new(StillSealed { sealed: self, error })),
        }
    }
}

impl Unsealed {
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
mod tests {
    use super::passphrase::tests::patiently;
    use super::*;
    use crate::slots::scratch::Scratch;

    const VAULT: StoreId = StoreId([7; 16]);
    const AES: Algorithm = Algorithm::Aes256Gcm;

    fn passphrase_seal(root: &RootKey, passphrase: &[u8]) -> Seal {
        let passphrase = Secret::copy_from(passphrase);
        let cost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };
        let seal = patiently(|| {
            let random: FillRandom<'_> = &mut getrandom::fill;
            PassphraseSeal::make(VAULT, (root, &passphrase), cost, AES, random)
        });
        Seal::Passphrase(seal.unwrap())
    }

    fn open(sealed: &Sealed, passphrase: &[u8]) -> Result<RootKey, PassphraseError> {
        patiently(|| sealed.open_with_passphrase(&Secret::copy_from(passphrase)))
    }

    fn vault(scratch: &Scratch) -> Unsealed {
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let seals = vec![passphrase_seal(&root, b"correct horse")];
        create(scratch.directory(), VAULT, (root, seals), AES, &mut getrandom::fill).unwrap()
    }

    #[test]
    fn a_vault_opens_again_with_its_passphrase_and_keeps_its_keys() {
        let scratch = Scratch::make();
        let made = vault(&scratch);
        let before = made.keyring().keyring().system().secret().expose(<[u8]>::to_vec);
        let sealed = made.seal().unwrap();
        let root = open(&sealed, b"correct horse").unwrap();
        let open = sealed.unseal(root, AES, &mut getrandom::fill).unwrap();
        assert!(open.keyring().keyring().system().secret().matches(&before));
    }

    #[test]
    fn a_wrong_passphrase_is_said_to_be_wrong() {
        let scratch = Scratch::make();
        let sealed = vault(&scratch).seal().unwrap();
        let refused = open(&sealed, b"Correct horse");
        assert!(matches!(refused, Err(PassphraseError::WrongPassphrase)));
    }

    // Red when `Unsealed` is made without opening the keyring.
    #[test]
    fn another_root_key_leaves_the_vault_sealed() {
        let scratch = Scratch::make();
        let sealed = vault(&scratch).seal().unwrap();
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let still = sealed.unseal(root, AES, &mut getrandom::fill).unwrap_err();
        assert!(matches!(still.error, UnsealError::Keyring(KeyringError::Envelope(_))));
        assert_eq!(still.sealed.vault(), VAULT);
    }

    #[test]
    fn a_vault_is_never_made_over_another_or_over_the_half_of_one() {
        let scratch = Scratch::make();
        drop(vault(&scratch));
        for remaining in [SEAL_FILE, KEYRING_FILE] {
            let root = RootKey::make(&mut getrandom::fill).unwrap();
            let seals = vec![passphrase_seal(&root, b"x")];
            let again =
                create(scratch.directory(), VAULT, (root, seals), AES, &mut getrandom::fill);
            assert!(again.is_err());
            assert!(exists(scratch.directory()).unwrap());
            if remaining == SEAL_FILE {
                std::fs::remove_file(scratch.path(SEAL_FILE)).unwrap();
            }
        }
    }

    #[test]
    fn a_vault_without_a_seal_is_not_made() {
        let scratch = Scratch::make();
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let made = create(scratch.directory(), VAULT, (root, vec![]), AES, &mut getrandom::fill);
        assert!(matches!(made, Err(SealError::SealCount)));
        assert!(!exists(scratch.directory()).unwrap());
    }
}
