//! The making of a vault: built beside its place, provisional until custody is shown, then moved into its place.
//!
//! ```text
//! DATA/vault.new           being built; never opened, removed by the next founding
//! DATA/vault.provisional   whole, opened for rehearsal only: its shares were given out and not entered back yet
//! DATA/vault               the vault
//! ```
//!
//! Invariant: a crash leaves no vault, a provisional one, or a whole one.
//! Invariant: nothing is stored in a vault before a threshold of its shares was entered back.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::{SealWish, UnsealWith, VaultWish};
use strongroom_store::Choice;
use strongroom_sys::Secret;

use crate::books::{self, BooksError};
use crate::erase::erase;
use crate::keys::{RootKey, StoreId, WayId};
use crate::seal::{
    self, AttemptRefusal, Bringer, Ceremony, KdfCost, LockKind, NewLock, Offer, Progress,
    SealError, Sealed, Share, Standing, UnsealError, Unsealed, Way, WayError,
};
use crate::vault::{algorithm, tenant_of};

/// A vault's directory within the data directory.
pub const VAULT_DIRECTORY: &str = "vault";
/// A vault that is being made, or restored; never opened as one.
pub const FOUNDING_DIRECTORY: &str = "vault.new";

const PROVISIONAL_DIRECTORY: &str = "vault.provisional";

/// A vault that was built and whose custody is not shown yet.
pub struct Founding {
    data: PathBuf,
    sealed: Sealed,
    ceremony: Ceremony,
}

/// What a founding led to.
pub enum Founded {
    /// The vault is made and open, by this way.
    Open(Box<Unsealed>, WayId),
    /// Its shares must be entered back.
    Provisional(Box<Founding>, Vec<SecretBytes>),
}

/// What a part that was entered back led to.
pub enum Shown {
    /// The vault is made and open, by this way.
    Open(Box<Unsealed>, WayId),
    /// More are needed.
    Waiting(Standing),
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
    /// One waits for its shares to be entered back.
    #[error("a vault waits here until its shares are entered back")]
    Provisional,
    /// More than one set of shares, or no way at all.
    #[error("a new vault has between one and eight ways, and one set of shares at most")]
    Ways,
    /// It opens the vault, and shows nothing about the shares.
    #[error("this opens the vault, but it is the shares that must be entered back")]
    NotTheShares,
    /// The rehearsal failed.
    #[error("the rehearsed unsealing failed: {0}")]
    Rehearsal(#[from] UnsealError),
    /// The store's files.
    #[error(transparent)]
    Books(#[from] BooksError),
}

impl Founding {
    /// Builds a vault. Without shares it is opened for rehearsal and made at once; with shares it waits for
    /// [`Self::show`]. Blocks, for about a second where there is a passphrase.
    ///
    /// # Errors
    /// When there is a vault, one waits and `wish` does not say to start over, or this one cannot be built.
    pub fn make(
        (data, store): (&Path, &Choice),
        wish: &VaultWish,
    ) -> Result<Founded, FoundingError> {
        let sets = wish.ways.iter().flatten();
        let sets = sets.filter(|lock| matches!(lock, SealWish::Shares { .. })).count();
        if wish.ways.is_empty() || wish.ways.len() > seal::MAX_WAYS || sets > 1 {
            return Err(FoundingError::Ways);
        }
        let built = begin(data, wish.start_over)?;
        let shares = build((&built, store), &wish.ways)?;
        let mut opened = None;
        for locks in &wish.ways {
            if let [SealWish::Passphrase(typed)] = locks.as_slice() {
                let (root, way) = say(&built, &typed.expose(Secret::copy_from))?;
                drop(rehearse(&built, (root.copy().map_err(SealError::from)?, way))?);
                opened = Some((root, way));
            }
        }
        if shares.is_empty() {
            let opened = opened.ok_or(FoundingError::Ways)?;
            let way = opened.1;
            return Ok(Founded::Open(Box::new(settle(data, &built, opened)?), way));
        }
        let place = data.join(PROVISIONAL_DIRECTORY);
        fs::rename(&built, &place)?;
        File::open(data)?.sync_all()?;
        let texts = shares.iter().map(|share| share.write().expose(SecretBytes::copy_from));
        let texts = texts.collect();
        let founding = Self::find(data)?.ok_or(FoundingError::Provisional)?;
        Ok(Founded::Provisional(Box::new(founding), texts))
    }

    /// The vault that waits in a data directory, if one does.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(data: &Path) -> Result<Option<Self>, FoundingError> {
        let place = data.join(PROVISIONAL_DIRECTORY);
        if !place.try_exists()? {
            return Ok(None);
        }
        let (sealed, ceremony) = (Sealed::load(&place)?, Ceremony::new(Ceremony::STANDARD_LIFE));
        Ok(Some(Self { data: data.to_path_buf(), sealed, ceremony }))
    }

    /// Takes a part that is entered back; with the last one the vault is moved into its place. Blocks.
    ///
    /// # Errors
    /// Names what is wrong with the part; the vault stays provisional.
    pub fn show(&mut self, by: Bringer, with: &UnsealWith) -> Result<Shown, FoundingError> {
        let (now, secret) = (Instant::now(), secret_of(with));
        let offer = offer_of(with, &secret).ok_or(FoundingError::NotTheShares)?;
        let who = (by, None);
        match self.ceremony.offer(who, offer, now, &mut self.sealed, &mut getrandom::fill)? {
            Progress::Waiting(standing) => Ok(Shown::Waiting(standing)),
            Progress::Complete(root, way) => {
                let shares = |kind| kind == LockKind::Shares;
                let shown = self.sealed.ways().iter().find(|one| one.id == way);
                if !shown.is_some_and(|way| way.kinds().any(shares)) {
                    return Err(FoundingError::NotTheShares);
                }
                let built = self.data.join(PROVISIONAL_DIRECTORY);
                drop(rehearse(&built, (root.copy().map_err(SealError::from)?, way))?);
                Ok(Shown::Open(Box::new(settle(&self.data, &built, (root, way))?), way))
            }
        }
    }

    /// The ways of the vault.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// How far the showing is.
    pub fn standing(&mut self) -> Option<Standing> {
        self.ceremony.standing(Instant::now(), &self.sealed)
    }

    /// Wipes what was entered back when its time is over.
    pub fn expire(&mut self) -> bool {
        self.ceremony.expire(Instant::now())
    }
}

/// An empty directory to build in.
fn begin(data: &Path, start_over: bool) -> Result<PathBuf, FoundingError> {
    if data.join(VAULT_DIRECTORY).try_exists()? {
        return Err(FoundingError::Exists);
    }
    if data.join(PROVISIONAL_DIRECTORY).try_exists()? && !start_over {
        return Err(FoundingError::Provisional);
    }
    for remains in [PROVISIONAL_DIRECTORY, FOUNDING_DIRECTORY] {
        // A restore builds in the same place, and has a keyring that was used.
        erase(&data.join(remains))?;
    }
    let directory = data.join(FOUNDING_DIRECTORY);
    DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}

fn build(
    (directory, choice): (&Path, &Choice),
    wish: &[Vec<SealWish>],
) -> Result<Vec<Share>, FoundingError> {
    let store = make_store_id()?;
    let root = RootKey::make(&mut getrandom::fill).map_err(SealError::from)?;
    let (mut ways, mut all_shares) = (Vec::new(), Vec::new());
    for (id, locks) in (1..).zip(wish) {
        let passphrases = passphrases_of(locks);
        let locks = new_locks(locks, &passphrases);
        let place = (store, WayId(id));
        let (way, shares) = Way::make(place, &root, locks, algorithm(), &mut getrandom::fill)?;
        ways.push(way);
        all_shares.extend(shares);
    }
    let mut unsealed =
        seal::create(directory, store, (root, ways), algorithm(), &mut getrandom::fill)?;
    unsealed
        .keyring_mut()
        .add_tenant(tenant_of(store), &mut getrandom::fill)
        .map_err(SealError::from)?;
    books::create(directory, &unsealed, algorithm(), choice)?;
    Ok(all_shares)
}

/// Opens R with a passphrase.
fn say(directory: &Path, passphrase: &Secret) -> Result<(RootKey, WayId), FoundingError> {
    let (mut sealed, mut ceremony) =
        (Sealed::load(directory)?, Ceremony::new(Ceremony::STANDARD_LIFE));
    let (now, founder) = (Instant::now(), (Bringer(0), None));
    let offer = Offer::Passphrase(passphrase);
    match ceremony.offer(founder, offer, now, &mut sealed, &mut getrandom::fill)? {
        Progress::Complete(root, way) => Ok((root, way)),
        Progress::Waiting(_) => Err(FoundingError::Ways),
    }
}

/// Moves a vault into its place, and opens it there.
fn settle(data: &Path, built: &Path, opened: (RootKey, WayId)) -> Result<Unsealed, FoundingError> {
    let place = data.join(VAULT_DIRECTORY);
    if place.try_exists()? {
        return Err(FoundingError::Exists);
    }
    fs::rename(built, &place)?;
    File::open(data)?.sync_all()?;
    rehearse(&place, opened)
}

fn rehearse(directory: &Path, opened: (RootKey, WayId)) -> Result<Unsealed, FoundingError> {
    let sealed = Sealed::load(directory)?;
    sealed
        .unseal(opened, algorithm(), &mut getrandom::fill)
        .map_err(|still| FoundingError::Rehearsal(still.error))
}

/// The passphrases of the locks that have one, in their order.
pub fn passphrases_of(locks: &[SealWish]) -> Vec<Secret> {
    let each = locks.iter().filter_map(|lock| match lock {
        SealWish::Passphrase(typed) => Some(typed.expose(Secret::copy_from)),
        SealWish::Shares { .. } => None,
    });
    each.collect()
}

/// The locks that are wished for.
pub fn new_locks<'a>(locks: &[SealWish], passphrases: &'a [Secret]) -> Vec<NewLock<'a>> {
    let mut passphrases = passphrases.iter();
    let each = locks.iter().filter_map(|lock| match lock {
        SealWish::Passphrase(_) => {
            passphrases.next().map(|one| NewLock::Passphrase(one, KdfCost::STANDARD))
        }
        SealWish::Shares { threshold, count, holders } => Some(NewLock::Shares {
            numbers: (*threshold, *count),
            holders: holders.iter().map(|holder| holder.as_ref().to_owned()).collect(),
        }),
    });
    each.collect()
}

/// What was typed, as a secret of this process; nothing for a TPM.
pub fn secret_of(with: &UnsealWith) -> Secret {
    match with {
        UnsealWith::Passphrase(typed) => typed.expose(Secret::copy_from),
        UnsealWith::Share(typed) => typed.expose(|typed| Secret::copy_from(typed.trim_ascii())),
        UnsealWith::Tpm(_) => Secret::copy_from(&[]),
    }
}

/// What was typed, as a part for a ceremony; a TPM shows nobody's custody and proves nobody.
pub fn offer_of<'a>(with: &UnsealWith, secret: &'a Secret) -> Option<Offer<'a>> {
    match with {
        UnsealWith::Passphrase(_) => Some(Offer::Passphrase(secret)),
        UnsealWith::Share(_) => Some(Offer::Share(secret)),
        UnsealWith::Tpm(_) => None,
    }
}

fn make_store_id() -> Result<StoreId, getrandom::Error> {
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id)?;
    Ok(StoreId(id))
}
