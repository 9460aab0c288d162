//! One way to R: a lock, or several locks that must all be opened.
//!
//! ```text
//! way    id u32 ‖ locks ‖ hold
//! lock   0 passphrase: costs, salt · 1 shares: set, holders · 2 TPM: blobs
//! hold   0 the shares are of R itself: shares alone · 1 envelope(way key; kind root, record = id ‖ locks) of R
//! ```
//!
//! Every lock yields a key of its own. The way key is derived from all of them, so that whoever lacks one has nothing, and
//! nothing in the file tells whether a passphrase is right before the other locks of its way are open.
//!
//! Invariant: a way has at least one lock, and none of a kind twice.
//! Invariant: shares alone split R itself, so that shares on paper outlive every other format.
//! Distrusts: the seal file.

use serde::{Deserialize, Serialize};
use strongroom_sys::Secret;

use super::passphrase::{KdfCost, PassphraseError, PassphraseLock};
use super::shares::{Gives, Share, ShareSet, SplitError, Splitting, split};
use super::tpm_lock::TpmLock;
use crate::envelope::{EnvelopeError, open_record, seal_record};
use crate::keys::{
    self, Algorithm, Context, DeriveError, Epoch, FillRandom, Kind, LockKey, RecordId,
    RecordKeySource, RecordVersion, RootKey, Scope, ShareLockKey, StoreId, TpmLockKey, WayId,
};

/// Longest name of a share's holder, bytes.
pub const MAX_HOLDER_BYTES: usize = 64;

/// One way to R.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// Which.
    pub id: WayId,
    /// What must be opened, all of it.
    pub locks: Vec<Lock>,
    hold: Hold,
}

/// One lock: public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lock {
    /// Somebody knows it.
    Passphrase(PassphraseLock),
    /// k of n people have it.
    Shares {
        /// The set.
        set: ShareSet,
        /// Who was given which share, by index; empty, or as many as there are shares.
        holders: Vec<String>,
    },
    /// The machine has it.
    Tpm(TpmLock),
}

/// What a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockKind {
    /// A passphrase.
    Passphrase,
    /// Shares.
    Shares,
    /// A TPM.
    Tpm,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Hold {
    Split,
    Wrapped(Vec<u8>),
}

/// A lock that is to be made.
pub enum NewLock<'a> {
    /// Under this passphrase.
    Passphrase(&'a Secret, KdfCost),
    /// k of n shares, and who is given which.
    Shares {
        /// k and n.
        numbers: (u8, u8),
        /// By index; empty, or n names.
        holders: Vec<String>,
    },
    /// Under what the TPM was given.
    Tpm(TpmLock, TpmLockKey),
}

/// Why a way was not made.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// No lock, or a kind twice.
    #[error("a way has at least one lock, and none of a kind twice")]
    Locks,
    /// Names of holders that do not fit the shares.
    #[error(
        "there is one name of at most 64 bytes for each share's holder, or none at all, and no name twice"
    )]
    Holders,
    /// A blob that no TPM makes.
    #[error("the TPM's blobs are longer than any TPM makes them")]
    Blobs,
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The numbers of shares.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// R was not sealed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

impl Way {
    /// Makes a way to `root`, and the shares that somebody must be given. Stretches a passphrase: about 0.3 s.
    ///
    /// # Errors
    /// See [`WayError`].
    pub fn make(
        (vault, id): (StoreId, WayId),
        root: &RootKey,
        locks: Vec<NewLock<'_>>,
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<(Self, Vec<Share>), WayError> {
        if let [NewLock::Shares { numbers, holders }] = locks.as_slice() {
            let (set, shares) = split(Splitting::Root(root), vault, *numbers, random)?;
            let locks = vec![Lock::Shares { set, holders: holders.clone() }];
            check_locks(&locks)?;
            return Ok((Self { id, locks, hold: Hold::Split }, shares));
        }
        let (mut made, mut lock_keys, mut shares) = (Vec::new(), Vec::new(), Vec::new());
        for lock in locks {
            match lock {
                NewLock::Passphrase(passphrase, cost) => {
                    let lock = PassphraseLock::make(cost, random)?;
                    lock_keys.push(LockKey::Passphrase(lock.stretch(passphrase)?));
                    made.push(Lock::Passphrase(lock));
                }
                NewLock::Shares { numbers, holders } => {
                    let key = ShareLockKey::make(random)?;
                    let (set, split) = split(Splitting::Lock(&key), vault, numbers, random)?;
                    lock_keys.push(LockKey::Shares(key));
                    made.push(Lock::Shares { set, holders });
                    shares.extend(split);
                }
                NewLock::Tpm(lock, key) => {
                    lock_keys.push(LockKey::Tpm(key));
                    made.push(Lock::Tpm(lock));
                }
            }
        }
        check_locks(&made)?;
        let lock_keys: Vec<&LockKey> = lock_keys.iter().collect();
        let way = Self::wrap((vault, id), root, (made, &lock_keys), algorithm, random)?;
        Ok((way, shares))
    }

    /// A way whose locks exist already.
    pub(super) fn wrap(
        (vault, id): (StoreId, WayId),
        root: &RootKey,
        (locks, lock_keys): (Vec<Lock>, &[&LockKey]),
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Self, EnvelopeError> {
        let key = keys::derive_way_key(lock_keys, vault, id)?;
        let record = record(id, &locks);
        let (source, context) = (RecordKeySource::from_way(&key), context(vault, &record));
        let wrapped =
            root.secret().expose(|root| seal_record(&source, &context, algorithm, root, random))?;
        Ok(Self { id, locks, hold: Hold::Wrapped(wrapped) })
    }

    /// A way of shares of R.
    pub(super) fn of_root_shares(id: WayId, set: ShareSet) -> Self {
        Self { id, locks: vec![Lock::Shares { set, holders: Vec::new() }], hold: Hold::Split }
    }

    /// A way of a passphrase under which R is still to be sealed: it opens nothing.
    pub(super) fn unwrapped(id: WayId, lock: PassphraseLock) -> Self {
        Self { id, locks: vec![Lock::Passphrase(lock)], hold: Hold::Wrapped(Vec::new()) }
    }

    /// Opens R with a key for each lock, in their order.
    ///
    /// # Errors
    /// `OtherKeyOrContext` when one of the keys is wrong; or what was sealed is damaged.
    pub fn open(&self, vault: StoreId, lock_keys: &[&LockKey]) -> Result<RootKey, EnvelopeError> {
        let Hold::Wrapped(wrapped) = &self.hold else {
            return Err(EnvelopeError::OtherKeyOrContext);
        };
        let key = keys::derive_way_key(lock_keys, vault, self.id)?;
        let record = record(self.id, &self.locks);
        let root =
            open_record(&RecordKeySource::from_way(&key), &context(vault, &record), wrapped)?;
        Ok(RootKey::from_secret(root)?)
    }

    /// The kinds of its locks, in their order.
    pub fn kinds(&self) -> impl Iterator<Item = LockKind> {
        self.locks.iter().map(Lock::kind)
    }

    /// Its shares and what they give, when they are one of its locks.
    pub(super) fn shares(&self) -> Option<(&ShareSet, Gives)> {
        let gives = if self.hold == Hold::Split { Gives::Root } else { Gives::Lock };
        self.locks.iter().find_map(|lock| match lock {
            Lock::Shares { set, .. } => Some((set, gives)),
            Lock::Passphrase(_) | Lock::Tpm(_) => None,
        })
    }

    /// Its passphrase, when that is one of its locks.
    pub(super) fn passphrase(&self) -> Option<&PassphraseLock> {
        self.locks.iter().find_map(|lock| match lock {
            Lock::Passphrase(lock) => Some(lock),
            Lock::Shares { .. } | Lock::Tpm(_) => None,
        })
    }

    /// Its TPM's lock, to be changed: R is bound to its kind, not to its blobs.
    pub(super) fn tpm_mut(&mut self) -> Option<&mut TpmLock> {
        self.locks.iter_mut().find_map(|lock| match lock {
            Lock::Tpm(lock) => Some(lock),
            Lock::Passphrase(_) | Lock::Shares { .. } => None,
        })
    }

    /// Its TPM's lock, when that is one of its locks.
    pub fn tpm(&self) -> Option<&TpmLock> {
        self.locks.iter().find_map(|lock| match lock {
            Lock::Tpm(lock) => Some(lock),
            Lock::Passphrase(_) | Lock::Shares { .. } => None,
        })
    }

    /// Who has which share; empty when nobody wrote it down.
    pub fn holders(&self) -> &[String] {
        self.locks
            .iter()
            .find_map(|lock| match lock {
                Lock::Shares { holders, .. } => Some(holders.as_slice()),
                Lock::Passphrase(_) | Lock::Tpm(_) => None,
            })
            .unwrap_or_default()
    }

    /// Whether it is a way at all.
    pub(super) fn is_sound(&self) -> bool {
        let shares_alone = matches!(self.locks.as_slice(), [Lock::Shares { .. }]);
        check_locks(&self.locks).is_ok() && shares_alone == (self.hold == Hold::Split)
    }
}

fn check_locks(locks: &[Lock]) -> Result<(), WayError> {
    let mut kinds: Vec<LockKind> = locks.iter().map(Lock::kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() || kinds.len() != locks.len() {
        return Err(WayError::Locks);
    }
    locks.iter().try_for_each(Lock::check)
}

/// Names a way and its locks in the context of what they seal.
fn record(id: WayId, locks: &[Lock]) -> Vec<u8> {
    let mut record = id.0.to_be_bytes().to_vec();
    for lock in locks {
        match lock {
            Lock::Passphrase(lock) => {
                record.push(0);
                record.extend(lock.cost.encode());
            }
            Lock::Shares { set, .. } => {
                record.push(1);
                record.extend(set.id.0);
            }
            Lock::Tpm(_) => record.push(2),
        }
    }
    record
}

impl Lock {
    /// What it is.
    pub const fn kind(&self) -> LockKind {
        match self {
            Self::Passphrase(_) => LockKind::Passphrase,
            Self::Shares { .. } => LockKind::Shares,
            Self::Tpm(_) => LockKind::Tpm,
        }
    }

    fn check(&self) -> Result<(), WayError> {
        match self {
            Self::Passphrase(_) => Ok(()),
            Self::Shares { set, holders } => {
                let mut names = holders.clone();
                names.sort_unstable();
                names.dedup();
                let each = names.len() == holders.len()
                    && (names.is_empty() || names.len() == usize::from(set.count));
                let short = names.iter().all(|name| (1..=MAX_HOLDER_BYTES).contains(&name.len()));
                if each && short { Ok(()) } else { Err(WayError::Holders) }
            }
            Self::Tpm(lock) if lock.is_sound() => Ok(()),
            Self::Tpm(_) => Err(WayError::Blobs),
        }
    }
}

fn context(vault: StoreId, record: &[u8]) -> Context<'_> {
    Context {
        store: vault,
        scope: Scope::System,
        epoch: Epoch(0),
        kind: Kind::Root,
        record: RecordId(record),
        version: RecordVersion(0),
    }
}
