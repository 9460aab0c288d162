//! Keys of which there are very many: each lies sealed under one key of the arena, and is opened for each use.
//!
//! A vault has one shred key for each credential, person and workspace, 75,000 at most, and a key for each tenant in each generation: more
//! than the arena has room for.
//!
//! Invariant: opened, it is a [`Key`] in the arena; sealed, it may lie anywhere in this process, and goes to no disk.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Algorithm, DeriveError, FillRandom, KEY_BYTES, Key, purpose};
use crate::memory_seal::{MemorySeal, NONCE_BYTES, TAG_BYTES};

/// What the keys of one keyring rest under: drawn for it, and gone with the last of them.
#[derive(Clone)]
pub struct RestingSeal(Arc<MemorySeal>);

impl RestingSeal {
    /// Draws one.
    ///
    /// # Errors
    /// When there is no randomness or no locked memory.
    pub fn draw(algorithm: Algorithm, random: FillRandom<'_>) -> Result<Self, DeriveError> {
        Ok(Self(Arc::new(MemorySeal::draw(algorithm, random)?)))
    }
}

/// A key at rest.
pub struct Resting<P> {
    seal: RestingSeal,
    nonce: [u8; NONCE_BYTES],
    body: [u8; KEY_BYTES],
    tag: [u8; TAG_BYTES],
    purpose: PhantomData<fn() -> P>,
}

impl<P> Resting<P> {
    /// Lays a key to rest.
    ///
    /// # Errors
    /// Only through a defect of ours.
    #[expect(clippy::needless_pass_by_value, reason = "the open key ends here")]
    pub fn of(seal: &RestingSeal, key: Key<P>) -> Result<Self, DeriveError> {
        let mut body = [0; KEY_BYTES];
        let (nonce, tag) = key.secret().expose(|key| seal.0.seal_into(&[], key, &mut body))?;
        Ok(Self { seal: seal.clone(), nonce, body, tag, purpose: PhantomData })
    }

    /// Draws a key and lays it to rest.
    ///
    /// # Errors
    /// As [`Key::make`].
    pub fn make(seal: &RestingSeal, random: FillRandom<'_>) -> Result<Self, DeriveError> {
        Self::of(seal, Key::make(random)?)
    }

    /// The key, for one use.
    ///
    /// # Errors
    /// When there is no locked memory.
    pub fn open(&self) -> Result<Key<P>, DeriveError> {
        Key::fill_with(|key| {
            let Self { nonce, body, tag, .. } = self;
            self.seal.0.open_into(&[], (nonce, body, tag), key)
        })
    }
}

/// A shred key at rest.
pub type RestingShredKey = Resting<purpose::Shred>;
/// A tenant's key at rest.
pub type RestingTenantKey = Resting<purpose::Tenant>;

impl<P> Clone for Resting<P> {
    fn clone(&self) -> Self {
        let Self { seal, nonce, body, tag, purpose } = self;
        Self { seal: seal.clone(), nonce: *nonce, body: *body, tag: *tag, purpose: *purpose }
    }
}

impl fmt::Debug for RestingSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<key>")
    }
}

impl<P> fmt::Debug for Resting<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<key>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ShredKey;

    #[test]
    fn a_key_at_rest_is_no_byte_of_the_key_and_opens_to_it() {
        let seal = RestingSeal::draw(Algorithm::Aes256Gcm, &mut getrandom::fill).unwrap();
        let key = ShredKey::make(&mut getrandom::fill).unwrap();
        let bytes = key.secret().expose(<[u8]>::to_vec);
        let resting = RestingShredKey::of(&seal, key).unwrap();
        assert_ne!(resting.body.as_slice(), bytes);
        assert!(resting.clone().open().unwrap().secret().matches(&bytes));
        let other = RestingSeal::draw(Algorithm::Aes256Gcm, &mut getrandom::fill).unwrap();
        let stolen = Resting { seal: other, ..resting };
        assert_eq!(stolen.open().map(|_| ()), Err(DeriveError::Defect));
    }
}
