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
use strongroom_store::Choice;
use strongroom_sys::Secret;

use crate::books::{self, BooksError};
use crate::keys::{RootKey, StoreId, WayId};
use crate::seal::{
    self, AttemptRefusal, Bringer, Ceremony, KdfCost, NewLock, Offer, Progress, SealError, Sealed,
    Share, UnsealError, Unsealed, Way, WayError,
};
use crate::vault::{algorithm, tenant_of};

/// A vault's directory within the data directory.
pub const VAULT_DIRECTORY: &str = "vault";
/// A vault that is being made, or restored; never opened as one.
pub const FOUNDING_DIRECTORY: &str = "vault.new";

/// A vault that was built and whose custody is not shown yet.
pub struct Founding {
    data: PathBuf,
    store: Choice,
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
    /// The way into it.
    #[error(transparent)]
    Way(#[from] WayError),
    /// The seal's files.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A share or a passphrase, while custody was being shown.
    #[error(transparent)]
    Part(#[from] AttemptRefusal),
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
        place: (&Path, &Choice),
        passphrase: &SecretBytes,
    ) -> Result<Unsealed, FoundingError> {
        let founding = Self::begin(place)?;
        let passphrase = passphrase.expose(Secret::copy_from);
        let lock = NewLock::Passphrase(&passphrase, KdfCost::STANDARD);
        founding.build(vec![lock])?;
        founding.prove(|sealed| bring(sealed, [Offer::Passphrase(&passphrase)]))
    }

    /// Builds a vault that shares open; answers their texts, to be entered back into [`Self::with_shares`]. Blocks.
    ///
    /// # Errors
    /// When there is a vault, or this one cannot be built.
    pub fn split(
        place: (&Path, &Choice),
        (threshold, count): (u8, u8),
    ) -> Result<(Self, Vec<SecretBytes>), FoundingError> {
        let founding = Self::begin(place)?;
        let lock = NewLock::Shares { numbers: (threshold, count), holders: Vec::new() };
        let shares = founding.build(vec![lock])?;
        let texts = shares.iter().map(|share| share.write().expose(SecretBytes::copy_from));
        Ok((founding, texts.collect()))
    }

    /// Shows that the shares open the vault, and moves it into its place. Blocks.
    ///
    /// # Errors
    /// Names the first share that does not hold; the vault stays unmade.
    pub fn with_shares(&self, shares: &[SecretBytes]) -> Result<Unsealed, FoundingError> {
        let texts: Vec<Secret> = shares.iter().map(|one| one.expose(Secret::copy_from)).collect();
        self.prove(|sealed| bring(sealed, texts.iter().map(Offer::Share)))
    }

    fn begin((data, store): (&Path, &Choice)) -> Result<Self, FoundingError> {
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
        Ok(Self { data: data.to_path_buf(), store: store.clone() })
    }

    fn build(&self, locks: Vec<NewLock<'_>>) -> Result<Vec<Share>, FoundingError> {
        let directory = self.data.join(FOUNDING_DIRECTORY);
        let store = make_store_id()?;
        let root = RootKey::make(&mut getrandom::fill)?;
        let first = (store, WayId(1));
        let (way, shares) = Way::make(first, &root, locks, algorithm(), &mut getrandom::fill)?;
        let mut unsealed =
            seal::create(&directory, store, (root, vec![way]), algorithm(), &mut getrandom::fill)?;
        unsealed
            .keyring_mut()
            .add_tenant(tenant_of(store), &mut getrandom::fill)
            .map_err(SealError::from)?;
        books::create(&directory, &unsealed, algorithm(), &self.store)?;
        Ok(shares)
    }

    fn prove(
        &self,
        open: impl Fn(&mut Sealed) -> Result<(RootKey, WayId), FoundingError>,
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
    open: &impl Fn(&mut Sealed) -> Result<(RootKey, WayId), FoundingError>,
) -> Result<Unsealed, FoundingError> {
    let mut sealed = Sealed::load(directory)?;
    let root = open(&mut sealed)?;
    sealed
        .unseal(root, algorithm(), &mut getrandom::fill)
        .map_err(|still| FoundingError::Rehearsal(still.error))
}

fn bring<'a>(
    sealed: &mut Sealed,
    offers: impl IntoIterator<Item = Offer<'a>>,
) -> Result<(RootKey, WayId), FoundingError> {
    let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
    let (now, founder) = (Instant::now(), (Bringer(0), None));
    let mut missing = 0;
    for offer in offers {
        match ceremony.offer(founder, offer, now, sealed, &mut getrandom::fill)? {
            Progress::Complete(root, way) => return Ok((root, way)),
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
