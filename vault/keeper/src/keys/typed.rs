//! One type per key, so that no key is used for what another is for.
//!
//! Invariant: a key is 32 bytes in the arena of `sys::locked` and nowhere else, from its making to its drop; it is not `Clone`,
//! not `Serialize`, and its `Debug` prints no byte of it.

use std::fmt;
use std::marker::PhantomData;

use strongroom_sys::locked::LockError;
use strongroom_sys::{LockedKey, Secret};

use super::{DeriveError, FillRandom, KEY_BYTES};

/// A key for the purpose `P`.
pub struct Key<P> {
    secret: LockedKey,
    purpose: PhantomData<fn() -> P>,
}

impl<P> Key<P> {
    /// Draws a key.
    ///
    /// # Errors
    /// When the kernel gives no randomness, or there is no locked memory.
    pub fn make(random: FillRandom<'_>) -> Result<Self, DeriveError> {
        Self::fill_with(|bytes| random(bytes).map_err(|_| LockError::Random.into()))
    }

    /// Has a key written where it will lie.
    ///
    /// # Errors
    /// When there is no locked memory, or whatever `fill` answers.
    pub(crate) fn fill_with(
        fill: impl FnOnce(&mut [u8]) -> Result<(), DeriveError>,
    ) -> Result<Self, DeriveError> {
        Ok(Self { secret: LockedKey::fill_with(fill)?, purpose: PhantomData })
    }

    /// Takes a key out of bytes that were opened, combined or unsealed; whoever lends them wipes them.
    ///
    /// # Errors
    /// When they are not 32, or there is no locked memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DeriveError> {
        if bytes.len() != KEY_BYTES {
            return Err(DeriveError::Defect);
        }
        Self::fill_with(|key| {
            key.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// Takes a key out of a secret, which is wiped.
    ///
    /// # Errors
    /// As [`Self::from_bytes`].
    #[expect(clippy::needless_pass_by_value, reason = "the secret ends here")]
    pub fn from_secret(secret: Secret) -> Result<Self, DeriveError> {
        secret.expose(Self::from_bytes)
    }

    /// Another copy, where two places need the key for as long as they live.
    ///
    /// # Errors
    /// When there is no locked memory.
    pub(crate) fn copy(&self) -> Result<Self, DeriveError> {
        Ok(Self { secret: self.secret.copy()?, purpose: PhantomData })
    }

    /// Lends the bytes: for the search of a process's memory, which must know what it looks for.
    pub fn expose<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        self.secret.expose(see)
    }

    /// The key's bytes, for the one module that uses this kind of key.
    pub(crate) fn secret(&self) -> &LockedKey {
        &self.secret
    }
}

impl<P> fmt::Debug for Key<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<key>")
    }
}

/// Purposes: types without values.
pub mod purpose {
    /// R.
    #[derive(Debug)]
    pub enum Root {}
    /// Seals the keyring.
    #[derive(Debug)]
    pub enum Keyring {}
    /// A lock of a way, out of a passphrase.
    #[derive(Debug)]
    pub enum Passphrase {}
    /// A lock of a way, split into shares.
    #[derive(Debug)]
    pub enum ShareLock {}
    /// A lock of a way, sealed by the TPM.
    #[derive(Debug)]
    pub enum TpmLock {}
    /// A half of the TPM's lock, sealed to the machine.
    #[derive(Debug)]
    pub enum TpmMachine {}
    /// A half of the TPM's lock, sealed to the counter's value.
    #[derive(Debug)]
    pub enum TpmMoment {}
    /// Seals R.
    #[derive(Debug)]
    pub enum Way {}
    /// Authenticates shares.
    #[derive(Debug)]
    pub enum ShareMac {}
    /// One per generation.
    #[derive(Debug)]
    pub enum Epoch {}
    /// One per tenant, all generations.
    #[derive(Debug)]
    pub enum TenantRoot {}
    /// One per tenant and generation.
    #[derive(Debug)]
    pub enum Tenant {}
    /// One per owner whose deletion must be real.
    #[derive(Debug)]
    pub enum Shred {}
    /// Above the system keys.
    #[derive(Debug)]
    pub enum SystemSeed {}
    /// Seals the manifest.
    #[derive(Debug)]
    pub enum Manifest {}
    /// Keys the set hash.
    #[derive(Debug)]
    pub enum SetHash {}
    /// Authenticates the commit mark.
    #[derive(Debug)]
    pub enum Mark {}
    /// Chains journal records.
    #[derive(Debug)]
    pub enum Journal {}
    /// Signs checkpoints.
    #[derive(Debug)]
    pub enum AuditSigning {}
    /// Hashes API tokens.
    #[derive(Debug)]
    pub enum TokenHash {}
    /// Hashes password verifiers.
    #[derive(Debug)]
    pub enum Pepper {}
    /// Makes idempotency tags.
    #[derive(Debug)]
    pub enum SubjectTag {}
    /// Opens sealed uploads.
    #[derive(Debug)]
    pub enum Upload {}
    /// Encrypts one backup.
    #[derive(Debug)]
    pub enum Stream {}
}

/// The root key R: everything else hangs below it.
pub type RootKey = Key<purpose::Root>;
/// Seals the keyring.
pub type KeyringKey = Key<purpose::Keyring>;
/// A lock of a way; comes out of Argon2id.
pub type PassphraseKey = Key<purpose::Passphrase>;
/// A lock of a way, random; only its shares have it.
pub type ShareLockKey = Key<purpose::ShareLock>;
/// A lock of a way, random; only the TPM gives it out.
pub type TpmLockKey = Key<purpose::TpmLock>;
/// A half of the TPM's lock, sealed to the machine.
pub type TpmMachineKey = Key<purpose::TpmMachine>;
/// A half of the TPM's lock, sealed to the counter's value.
pub type TpmMomentKey = Key<purpose::TpmMoment>;
/// Seals R under all locks of a way.
pub type WayKey = Key<purpose::Way>;
/// Authenticates shares after they are combined.
pub type ShareMacKey = Key<purpose::ShareMac>;
/// A generation's key, random.
pub type EpochKey = Key<purpose::Epoch>;
/// A tenant's root, random.
pub type TenantRoot = Key<purpose::TenantRoot>;
/// A tenant's key in one generation: record keys hang below it.
pub type TenantKey = Key<purpose::Tenant>;
/// Mixed into the record keys of one owner; overwritten to destroy them.
pub type ShredKey = Key<purpose::Shred>;
/// The root of the system keys, random.
pub type SystemSeed = Key<purpose::SystemSeed>;
/// Seals the manifest.
pub type ManifestKey = Key<purpose::Manifest>;
/// Keys the set hash.
pub type SetHashKey = Key<purpose::SetHash>;
/// Authenticates the commit mark in the store.
pub type MarkKey = Key<purpose::Mark>;
/// Chains journal records.
pub type JournalKey = Key<purpose::Journal>;
/// The Ed25519 seed of checkpoints.
pub type AuditSigningSeed = Key<purpose::AuditSigning>;
/// Hashes API tokens.
pub type TokenHashKey = Key<purpose::TokenHash>;
/// Hashes password verifiers.
pub type Pepper = Key<purpose::Pepper>;
/// Makes idempotency tags.
pub type SubjectTagKey = Key<purpose::SubjectTag>;
/// HPKE's input key material for the X25519 pair of sealed uploads.
pub type UploadKeyPair = Key<purpose::Upload>;
/// Encrypts one backup.
pub type StreamKey = Key<purpose::Stream>;
