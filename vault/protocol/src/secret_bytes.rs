//! Secret bytes inside a message: wiped on drop, never printed.
//!
//! Invariant: these bytes are encoded only into buffers that are wiped too (see [`crate::frame`]).

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Secret bytes on their way through one socket.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

/// Longest secret in a message: provider keys are below 1 KiB, service-account files below 8 KiB.
pub const MAX_SECRET_BYTES: usize = 16 * 1024;

impl SecretBytes {
    /// Takes the bytes over.
    pub const fn take(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Copies the bytes; the caller wipes its own.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Lends the bytes for the length of one call.
    pub fn expose<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        see(&self.0)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = SecretBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_SECRET_BYTES} bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<SecretBytes, E> {
        if bytes.len() > MAX_SECRET_BYTES {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(SecretBytes::copy_from(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<SecretBytes, A::Error> {
        Err(A::Error::custom("secret bytes are not a sequence"))
    }
}
