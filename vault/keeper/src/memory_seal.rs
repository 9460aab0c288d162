//! The seal of keys that lie in memory, sealed, until a call opens one.
//!
//! Not the envelope of the disk: there each record has a derived key, as its nonces meet those of years and of copies, and
//! a commitment, as a thief may have written it. Here one cipher serves until the vault closes, and a call
//! derives nothing.
//!
//! Invariant: its key is drawn anew whenever the vault opens, and reaches no disk and no other process.
//! Invariant: what was sealed for one credential does not open for another.

use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use strongroom_policy::id::CredentialId;
use strongroom_sys::locked::LockError;
use strongroom_sys::{Locked, LockedKey, Secret, stack};

use crate::keys::{Algorithm, DeriveError, FillRandom, STACK_BYTES};

/// The seal, for as long as the vault is open. Its key is worked out once: the round keys lie in locked memory.
pub struct MemorySeal {
    cipher: Cipher,
    /// The next nonce: no two keys of a seal share one, and no two seals share a key.
    next: AtomicU64,
}

enum Cipher {
    /// Where the CPU has AES instructions.
    Aes256Gcm(Locked<Aes256Gcm>),
    /// Elsewhere.
    ChaCha20Poly1305(Locked<ChaCha20Poly1305>),
}

/// A key that lies in memory.
pub struct SealedKey {
    nonce: [u8; NONCE_BYTES],
    ciphertext: Vec<u8>,
    tag: [u8; TAG_BYTES],
}

pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;

impl MemorySeal {
    /// Draws a seal.
    ///
    /// # Errors
    /// When the kernel gives no randomness, or there is no locked memory.
    pub fn draw(algorithm: Algorithm, random: FillRandom<'_>) -> Result<Self, DeriveError> {
        let key = LockedKey::fill_with(|key| {
            random(key).map_err(|_| DeriveError::from(LockError::Random))
        })?;
        let cipher = stack::wiping::<STACK_BYTES, _>(|| {
            key.expose(|key| match algorithm {
                Algorithm::Aes256Gcm => {
                    let cipher = Aes256Gcm::new_from_slice(key).map_err(|_| DeriveError::Defect)?;
                    Ok(Cipher::Aes256Gcm(Locked::new(cipher)?))
                }
                Algorithm::ChaCha20Poly1305 => {
                    let cipher =
                        ChaCha20Poly1305::new_from_slice(key).map_err(|_| DeriveError::Defect)?;
                    Ok::<_, DeriveError>(Cipher::ChaCha20Poly1305(Locked::new(cipher)?))
                }
            })
        })?;
        Ok(Self { cipher, next: AtomicU64::new(0) })
    }

    /// Seals a credential's key.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn seal(&self, id: CredentialId, key: &Secret) -> Result<SealedKey, DeriveError> {
        self.seal_at(id.bytes(), key)
    }

    /// Seals a key for a place that is no credential's: its label is longer than an id.
    pub(crate) fn seal_at(&self, place: &[u8], key: &Secret) -> Result<SealedKey, DeriveError> {
        let mut ciphertext = vec![0; key.len()];
        let sealed = key.expose(|key| self.seal_into(place, key, &mut ciphertext));
        sealed.map(|(nonce, tag)| SealedKey { nonce, ciphertext, tag })
    }

    /// Opens a credential's key.
    ///
    /// # Errors
    /// When it was sealed for another one, or by another seal.
    pub fn open(&self, id: CredentialId, sealed: &SealedKey) -> Result<Secret, DeriveError> {
        self.open_at(id.bytes(), sealed)
    }

    /// Opens a key of another place.
    pub(crate) fn open_at(&self, place: &[u8], sealed: &SealedKey) -> Result<Secret, DeriveError> {
        let SealedKey { nonce, ciphertext, tag } = sealed;
        Secret::fill_with(ciphertext.len(), |key| {
            self.open_into(place, (nonce, ciphertext, tag), key)
        })
    }

    /// Seals `plain` into a buffer of its length; answers nonce and tag.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub(crate) fn seal_into(
        &self,
        place: &[u8],
        plain: &[u8],
        sealed: &mut [u8],
    ) -> Result<([u8; NONCE_BYTES], [u8; TAG_BYTES]), DeriveError> {
        let number = u128::from(self.next.fetch_add(1, Ordering::Relaxed)).to_be_bytes();
        let nonce: [u8; NONCE_BYTES] = *number.last_chunk().ok_or(DeriveError::Defect)?;
        let text = InOutBuf::new(plain, sealed).map_err(|_| DeriveError::Defect)?;
        let tag =
            stack::wiping::<STACK_BYTES, _>(|| match &self.cipher {
                Cipher::Aes256Gcm(cipher) => cipher
                    .expose(|cipher| cipher.encrypt_inout_detached(&nonce.into(), place, text)),
                Cipher::ChaCha20Poly1305(cipher) => cipher
                    .expose(|cipher| cipher.encrypt_inout_detached(&nonce.into(), place, text)),
            });
        Ok((nonce, tag.map_err(|_| DeriveError::Defect)?.into()))
    }

    /// Opens what was sealed into a buffer of its length.
    ///
    /// # Errors
    /// When it was sealed for another place, or by another seal.
    pub(crate) fn open_into(
        &self,
        place: &[u8],
        (nonce, sealed, tag): (&[u8; NONCE_BYTES], &[u8], &[u8; TAG_BYTES]),
        plain: &mut [u8],
    ) -> Result<(), DeriveError> {
        let text = InOutBuf::new(sealed, plain).map_err(|_| DeriveError::Defect)?;
        stack::wiping::<STACK_BYTES, _>(|| match &self.cipher {
            Cipher::Aes256Gcm(cipher) => cipher.expose(|cipher| {
                cipher.decrypt_inout_detached(nonce.into(), place, text, tag.into())
            }),
            Cipher::ChaCha20Poly1305(cipher) => cipher.expose(|cipher| {
                cipher.decrypt_inout_detached(nonce.into(), place, text, tag.into())
            }),
        })
        .map_err(|_| DeriveError::Defect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CredentialId = CredentialId::from_random([1; 16]);
    const OTHER: CredentialId = CredentialId::from_random([2; 16]);

    #[test]
    fn a_key_in_memory_opens_for_its_credential_under_its_seal_and_else_not() {
        for algorithm in [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305] {
            let seal = || MemorySeal::draw(algorithm, &mut getrandom::fill).unwrap();
            let (seal, later) = (seal(), seal());
            let key = Secret::copy_from(b"sk-canary-0123456789");
            let sealed = seal.seal(ONE, &key).unwrap();
            assert!(!sealed.ciphertext.windows(6).any(|some| some == b"canary"));
            assert!(seal.open(ONE, &sealed).unwrap().matches(b"sk-canary-0123456789"));
            assert_eq!(seal.open(OTHER, &sealed).unwrap_err(), DeriveError::Defect);
            assert_eq!(later.open(ONE, &sealed).unwrap_err(), DeriveError::Defect);
            let again = seal.seal(ONE, &key).unwrap();
            assert_ne!(sealed.nonce, again.nonce);
        }
    }
}
