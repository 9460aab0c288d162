//! Making the TPM's lock, and opening it.
//!
//! Invariant: both halves of the lock's key are random, and the machine's half is in memory only while a lock is made or opened.

use strongroom_protocol::SecretBytes;
use strongroom_protocol::tpm::{Answer, Ask, Blob, Name, PcrSet, Policy, Refusal};
use strongroom_sys::LockedKey;

use super::link::{Link, LinkError, PATIENCE};
use super::named;
use crate::keys::{
    self, DeriveError, FillRandom, Key, StoreId, TpmLockKey, TpmMachineKey, TpmMomentKey,
};
use crate::seal::{Pin, TpmCounter, TpmLock, TpmMoment};

/// Why the TPM's lock was not made or opened.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The TPM or its helper.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It wants a PIN.
    #[error("the TPM wants a PIN")]
    PinNeeded,
    /// The counter is not where any of the lock's halves was sealed to.
    #[error("this copy of the vault is of counter {newest}, the TPM is at {value}")]
    Moved {
        /// The highest value that it was sealed to.
        newest: u64,
        /// The TPM's.
        value: u64,
    },
    /// The lock's numbers are not those of a TPM.
    #[error("the TPM's lock is malformed")]
    Malformed,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// A lock that was made, and what only the open vault keeps of it.
#[derive(Debug)]
pub struct Made {
    /// The lock.
    pub lock: TpmLock,
    /// Its key.
    pub key: TpmLockKey,
    /// The half that is sealed anew when the counter moves.
    pub moment_key: TpmMomentKey,
}

/// Seals a new lock to the machine as it is, with a counter of its own. Blocks.
///
/// # Errors
/// See [`LockError`]; the TPM has a counter that nobody names only if it did not answer.
pub fn make(
    link: &Link,
    store: StoreId,
    (pcrs, pin): (PcrSet, Option<&SecretBytes>),
    random: FillRandom<'_>,
) -> Result<Made, LockError> {
    let storage = link.health(PATIENCE)?.storage;
    let shown = pin.map(|pin| show(pin, store, storage)).transpose()?;
    let mut authority = [0; 32];
    random(&mut authority)?;
    if let Some(last) = authority.last_mut() {
        // A TPM drops zeros at the end of a secret.
        *last |= 1;
    }
    let define = Ask::CounterDefine { storage, secret: SecretBytes::copy_from(&authority) };
    let Answer::Defined { index, name, value } = link.ask(define, PATIENCE)? else {
        return Err(LinkError::Unexpected.into());
    };
    let counter = TpmCounter { index, name: name.0, authority };
    let made = seal_to((link, storage, store), (counter, value), (pcrs, shown), random);
    if made.is_err() {
        forget(link, &counter);
    }
    made
}

/// A counter that nobody names takes room in the TPM, no more; on another TPM it is not there.
pub fn forget(link: &Link, counter: &TpmCounter) {
    if let Err(error) = link.ask(Ask::CounterForget { counter: named(counter) }, PATIENCE) {
        tracing::info!(%error, "a counter was not removed from the TPM");
    }
}

/// Seals both halves of a new key.
fn seal_to(
    (link, storage, store): (&Link, Name, StoreId),
    (counter, value): (TpmCounter, u64),
    (pcrs, shown): (PcrSet, Option<SecretBytes>),
    random: FillRandom<'_>,
) -> Result<Made, LockError> {
    let (machine_key, moment_key) = (TpmMachineKey::make(random)?, TpmMomentKey::make(random)?);
    let pin = if shown.is_some() { Pin::Yes } else { Pin::No };
    let policy = Policy::Machine { pcrs, pin: shown };
    let machine = seal(link, (storage, policy), machine_key.secret())?;
    let policy = Policy::Moment { counter: named(&counter), value };
    let moment = seal(link, (storage, policy), moment_key.secret())?;
    let key = keys::derive_tpm_lock_key(&machine_key, &moment_key, store)?;
    let lock = TpmLock {
        storage: storage.0,
        pcrs: pcrs.into(),
        pin,
        machine: machine.0,
        counter,
        moments: vec![TpmMoment { value, blob: moment.0 }],
    };
    Ok(Made { lock, key, moment_key })
}

/// Has the TPM unseal both halves of a lock's key. Blocks.
///
/// # Errors
/// See [`LockError`]; a wrong PIN was counted by the TPM.
pub fn open(
    link: &Link,
    store: StoreId,
    (lock, pin): (&TpmLock, Option<&SecretBytes>),
) -> Result<TpmLockKey, LockError> {
    let storage = Name(lock.storage);
    let shown = match (lock.pin, pin) {
        (Pin::No, _) => None,
        (Pin::Yes, None) => return Err(LockError::PinNeeded),
        (Pin::Yes, Some(pin)) => Some(show(pin, store, storage)?),
    };
    // The moment first: an old copy of the vault must not cost a try of the PIN.
    let (_, moment_key) = open_moment(link, lock)?;
    let pcrs = PcrSet::try_from(lock.pcrs).map_err(|_| LockError::Malformed)?;
    let policy = Policy::Machine { pcrs, pin: shown };
    let machine_key = unseal(link, (storage, policy), &lock.machine)?;
    Ok(keys::derive_tpm_lock_key(&machine_key, &moment_key, store)?)
}

/// Reads the counter and unseals the moment's half: neither registers nor a PIN are asked for that. Blocks.
///
/// # Errors
/// See [`LockError`].
pub fn open_moment(link: &Link, lock: &TpmLock) -> Result<(u64, TpmMomentKey), LockError> {
    let value = read(link, lock)?;
    let moved = LockError::Moved { newest: lock.newest(), value };
    let moment = lock.moment_at(value).ok_or(moved)?;
    let policy = Policy::Moment { counter: named(&lock.counter), value };
    Ok((value, unseal(link, (Name(lock.storage), policy), &moment.blob)?))
}

/// Reads the counter. Blocks.
///
/// # Errors
/// The TPM or its helper.
pub fn read(link: &Link, lock: &TpmLock) -> Result<u64, LinkError> {
    let storage = Name(lock.storage);
    link.value(Ask::CounterRead { storage, counter: named(&lock.counter) }, PATIENCE)
}

fn seal(
    link: &Link,
    (storage, policy): (Name, Policy),
    key: &LockedKey,
) -> Result<Blob, LinkError> {
    let key = key.expose(SecretBytes::copy_from);
    link.sealed(Ask::Seal { storage, key, policy }, PATIENCE)
}

fn unseal<P>(
    link: &Link,
    (storage, policy): (Name, Policy),
    blob: &[u8],
) -> Result<Key<P>, LockError> {
    let blob = Blob(blob.to_vec());
    let key = link.unsealed(Ask::Unseal { storage, blob, policy }, PATIENCE)?;
    Ok(key.expose(Key::from_bytes)?)
}

fn show(pin: &SecretBytes, store: StoreId, storage: Name) -> Result<SecretBytes, DeriveError> {
    let shown = pin.expose(|pin| keys::derive_tpm_pin(pin, store, &storage.0))?;
    Ok(SecretBytes::copy_from(shown.as_slice()))
}

impl LockError {
    /// Whether a PIN was shown that is wrong, or was not looked at because too many were.
    pub const fn is_wrong_pin(&self) -> bool {
        matches!(
            self,
            Self::Link(LinkError::Refused(Refusal::WrongPin { .. } | Refusal::LockedOut))
        )
    }

    /// Whether the vault's copy is older than what the TPM has seen.
    pub const fn is_rollback(&self) -> bool {
        matches!(self, Self::Moved { .. } | Self::Link(LinkError::Refused(Refusal::CounterMoved)))
    }
}
