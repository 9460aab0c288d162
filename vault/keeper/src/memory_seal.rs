//! The seal of keys that lie in memory until a call opens one.
//!
//! Not the envelope of the disk: there each record has a derived key, as its nonces meet those of years and of copies, and
//! a commitment, as a thief may have written it. Here one cipher serves until the vault closes, and a call
//! derives nothing.
//!
//! Invariant: its key is drawn anew whenever the vault opens, and reaches no disk and no other process.
//! Invariant: what was sealed for one credential does not open for another.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use strongroom_policy::id::CredentialId;
use strongroom_sys::Secret;
use zeroize::Zeroizing;

use crate::keys::{Algorithm, FillRandom, KEY_BYTES};

/// The seal, for as long as the vault is open. On the heap, where it is wiped when it is freed; its round keys are worked out on
/// the stack and moved there, and what the stack keeps of them is not wiped.
pub enum MemorySeal {
    /// Where the CPU has AES instructions.
    Aes256Gcm(Box<Aes256Gcm>),
    /// Elsewhere.
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
}

/// A key that lies in memory.
pub struct SealedKey {
    /// Random: one is drawn for each key that is entered or read, far from the 2^32 that 96 bits allow.
    nonce: [u8; NONCE_BYTES],
    ciphertext: Vec<u8>,
    tag: [u8; TAG_BYTES],
}

/// A key is not sealed or not opened: a defect of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key in memory does not open")]
pub struct Unsealable;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

impl MemorySeal {
    /// Draws a seal.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn draw(algorithm: Algorithm, random: FillRandom<'_>) -> Result<Self, Unsealable> {
        let key = Secret::fill_with(KEY_BYTES, random).map_err(|_| Unsealable)?;
        key.expose(|key| match algorithm {
            Algorithm::Aes256Gcm => {
                Aes256Gcm::new_from_slice(key).map(|cipher| Self::Aes256Gcm(Box::new(cipher)))
            }
            Algorithm::ChaCha20Poly1305 => ChaCha20Poly1305::new_from_slice(key)
                .map(|cipher| Self::ChaCha20Poly1305(Box::new(cipher))),
        })
        .map_err(|_| Unsealable)
    }

    /// Seals a credential's key.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn seal(
        &self,
        id: CredentialId,
        key: &Secret,
        random: FillRandom<'_>,
    ) -> Result<SealedKey, Unsealable> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce).map_err(|_| Unsealable)?;
        let mut body = Zeroizing::new(key.expose(<[u8]>::to_vec));
        let (place, text) = (id.bytes(), body.as_mut_slice().into());
        let tag = match self {
            Self::Aes256Gcm(cipher) => cipher.encrypt_inout_detached(&nonce.into(), place, text),
            Self::ChaCha20Poly1305(cipher) => {
                cipher.encrypt_inout_detached(&nonce.into(), place, text)
            }
        };
        let tag = tag.map_err(|_| Unsealable)?.into();
        Ok(SealedKey { nonce, ciphertext: std::mem::take(&mut *body), tag })
    }

    /// Opens a credential's key.
    ///
    /// # Errors
    /// When it was sealed for another one, or by another seal.
    pub fn open(&self, id: CredentialId, sealed: &SealedKey) -> Result<Secret, Unsealable> {
        let SealedKey { nonce, ciphertext, tag } = sealed;
        Secret::fill_with(ciphertext.len(), |key| {
            key.copy_from_slice(ciphertext);
            let (place, text) = (id.bytes(), key.into());
            match self {
                Self::Aes256Gcm(cipher) => {
                    cipher.decrypt_inout_detached(nonce.into(), place, text, tag.into())
                }
                Self::ChaCha20Poly1305(cipher) => {
                    cipher.decrypt_inout_detached(nonce.into(), place, text, tag.into())
                }
            }
            .map_err(|_| Unsealable)
        })
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
            let sealed = seal.seal(ONE, &key, &mut getrandom::fill).unwrap();
            assert!(!sealed.ciphertext.windows(6).any(|some| some == b"canary"));
            assert!(seal.open(ONE, &sealed).unwrap().matches(b"sk-canary-0123456789"));
            assert_eq!(seal.open(OTHER, &sealed).unwrap_err(), Unsealable);
            assert_eq!(later.open(ONE, &sealed).unwrap_err(), Unsealable);
            let again = seal.seal(ONE, &key, &mut getrandom::fill).unwrap();
            assert_ne!(sealed.nonce, again.nonce);
        }
    }
}
