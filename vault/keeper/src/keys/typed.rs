//! One type per key, so that no key is used for what another is for.
//!
//! Invariant: a key is 32 bytes in a `Secret`; it is not `Clone`, not `Serialize`, and its `Debug`
//! prints no byte of it.

use std::fmt;
use std::marker::PhantomData;

use strongroom_sys::Secret;

use super::{DeriveError, FillRandom, KEY_BYTES};

/// A key for the purpose `P`.
pub struct Key<P> {
    secret: Secret,
    purpose: PhantomData<fn() -> P>,
}

/// The bytes are not 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 32 bytes, not {length}")]
pub struct WrongKeyLength {
    /// How many they were.
    pub length: usize,
}

impl<P> Key<P> {
    /// Draws a key.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn make(random: FillRandom<'_>) -> Result<Self, getrandom::Error> {
        let secret = Secret::fill_with(KEY_BYTES, random)?;
        Ok(Self { secret, purpose: PhantomData })
    }

    /// Takes a key out of a secret that was opened, combined or derived.
    ///
    /// # Errors
    /// When it is not 32 bytes.
    pub fn from_secret(secret: Secret) -> Result<Self, WrongKeyLength> {
        if secret.len() != KEY_BYTES {
            return Err(WrongKeyLength { length: secret.len() });
        }
        Ok(Self { secret, purpose: PhantomData })
    }

    /// Another copy, where two places need the key for as long as they live.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub(crate) fn copy(&self) -> Result<Self, DeriveError> {
        Self::from_secret(self.secret.expose(Secret::copy_from)).map_err(|_| DeriveError)
    }

    /// The key's bytes, for the one module that uses this kind of key.
    pub(crate) fn secret(&self) -> &Secret {
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
