//! The making of a vault: built beside its place, opened once for rehearsal, then moved into its place.
//!
//! Invariant: a crash leaves either no vault or a whole one; what lies beside is never taken for a vault.
//! Invariant: custody of the seal is shown before the vault counts.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use strongroom_protocol::SecretBytes;
use strongroom_sys::Secret;

use crate::books::{self, BooksError};
use crate::keys::{RootKey, StoreId};
use crate::seal::{
    self, AttemptRefusal, Ceremony, KdfCost, PassphraseError, PassphraseSeal, Progress, Seal,
    SealError, Sealed, SplitError, UnsealError, Unsealed, split_root,
};
use crate::vault::{algorithm, tenant_of};

/// A vault's directory within the data directory.
pub const VAULT_DIRECTORY: &str = "vault";
const FOUNDING_DIRECTORY: &str = "vault.new";
/// How long shares that were brought are kept.
pub const ATTEMPT_LIFE: std::time::Duration = std::time::Duration::from_mins(10);

/// A vault that was built and whose custody is not shown yet.
pub struct Founding {
    data: PathBuf,
}

/// Why no vault was made.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// There is one.
    #[error("there is a vault in this directory already")]
    Exists,
    /// The file system.
    #[error("the vault's files cannot be written: {0}")]
    Files(#[from] io::Error),
    /// Randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The numbers of shares.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The seal's files.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A share, while custody was being shown.
    #[error(transparent)]
    Share(#[from] AttemptRefusal),
    /// Too few shares were entered back.
    #[error("these shares do not open the vault: {0} more are needed")]
    TooFew(u8),
    /// The rehearsal failed.
    #[error("the rehearsed unsealing failed: {0}")]
    Rehearsal(#[from] UnsealError),
    /// The store's files.
    #[error(transparent)]
    Books(#[from] BooksError),
}

impl Founding {
    /// Builds a vault that one passphrase opens, and shows that it does. Blocks for about a second.
    ///
    /// # Errors
    /// When there is a vault, or this one cannot be built.
    pub fn with_passphrase(
        data: &Path,
        passphrase: &SecretBytes,
    ) -> Result<Unsealed, FoundingError> {
        let founding = Self::begin(data)?;
        let store = make_store_id()?;
        let root = RootKey::make(&mut getrandom::fill)?;
        let passphrase = passphrase.expose(Secret::copy_from);
        let seal = PassphraseSeal::make(
            store,
            (&root, &passphrase),
            KdfCost::STANDARD,
            algorithm(),
            &mut getrandom::fill,
        )?;
        founding.build(store, root, Seal::Passphrase(seal))?;
        founding.prove(|sealed| Ok(sealed.open_with_passphrase(&passphrase)?))
    }

    /// Builds a vault that shares open; answers their texts, to be entered back into [`Self::with_shares`]. Blocks.
    ///
    /// # Errors
    /// When there is a vault, or this one cannot be built.
    pub fn split(
        data: &Path,
        (threshold, count): (u8, u8),
    ) -> Result<(Self, Vec<SecretBytes>), FoundingError> {
        let founding = Self::begin(data)?;
        let store = make_store_id()?;
        let root = RootKey::make(&mut getrandom::fill)?;
        let (set, shares) = split_root(&root, store, (threshold, count), &mut getrandom::fill)?;
        founding.build(store, root, Seal::Shares(set))?;
        let texts = shares.iter().map(|share| share.write().expose(SecretBytes::copy_from));
        Ok((founding, texts.collect()))
    }

    /// Shows that the shares open the vault, and moves it into its place. Blocks.
    ///
    /// # Errors
    /// Names the first share that does not hold; the vault stays unmade.
    pub fn with_shares(&self, shares: &[SecretBytes]) -> Result<Unsealed, FoundingError> {
        self.prove(|sealed| combine(sealed, shares))
    }

    fn begin(data: &Path) -> Result<Self, FoundingError> {
        if data.join(VAULT_DIRECTORY).try_exists()? {
            return Err(FoundingError::Exists);
        }
        let directory = data.join(FOUNDING_DIRECTORY);
        // The remains of a founding that was never finished: nothing was ever stored in it.
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self { data: data.to_path_buf() })
    }

    fn build(&self, store: StoreId, root: RootKey, seal: Seal) -> Result<(), FoundingError> {
        let directory = self.data.join(FOUNDING_DIRECTORY);
        let mut unsealed =
            seal::create(&directory, store, (root, vec![seal]), algorithm(), &mut getrandom::fill)?;
        unsealed
            .keyring_mut()
            .add_tenant(tenant_of(store), &mut getrandom::fill)
            .map_err(SealError::from)?;
        Ok(books::create(&directory, &unsealed, algorithm())?)
    }

    fn prove(
        &self,
        open: impl Fn(&Sealed) -> Result<RootKey, FoundingError>,
    ) -> Result<Unsealed, FoundingError> {
        let built = self.data.join(FOUNDING_DIRECTORY);
        drop(unseal(&built, &open)?);
        let place = self.data.join(VAULT_DIRECTORY);
        if place.try_exists()? {
            return Err(FoundingError::Exists);
        }
        fs::rename(&built, &place)?;
        File::open(&self.data)?.sync_all()?;
        unseal(&place, &open)
    }
}

fn unseal(
    directory: &Path,
    open: &impl Fn(&Sealed) -> Result<RootKey, FoundingError>,
) -> Result<Unsealed, FoundingError> {
    let sealed = Sealed::load(directory)?;
    let root = open(&sealed)?;
    sealed
        .unseal(root, algorithm(), &mut getrandom::fill)
        .map_err(|still| FoundingError::Rehearsal(still.error))
}

fn combine(sealed: &Sealed, shares: &[SecretBytes]) -> Result<RootKey, FoundingError> {
    let mut ceremony = Ceremony::new(ATTEMPT_LIFE);
    let now = Instant::now();
    let attempt = ceremony.begin(now, sealed, &mut getrandom::fill)?;
    let mut missing = 0;
    for share in shares {
        let progress =
            share.expose(|text| ceremony.offer(attempt, text.trim_ascii(), now, sealed))?;
        match progress {
            Progress::Complete(root) => return Ok(root),
            Progress::Waiting(standing) => missing = standing.missing.unwrap_or(0),
        }
    }
    Err(FoundingError::TooFew(missing))
}

fn make_store_id() -> Result<StoreId, getrandom::Error> {
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id)?;
    Ok(StoreId(id))
}
