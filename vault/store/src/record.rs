//! The two halves of a record: a key that orders it and a value that is opaque here.
//!
//! Invariant: a `Key` has 1 to [`MAX_KEY_BYTES`] bytes, a `Value` at most [`MAX_VALUE_BYTES`].
//! Invariant: neither prints a value's bytes.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// What a record is found and ordered by: 1 to [`MAX_KEY_BYTES`] bytes, compared bytewise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Takes `bytes` as a key.
    ///
    /// # Errors
    /// [`LimitError::Key`] when there are none or more than [`MAX_KEY_BYTES`].
    pub fn new(bytes: &[u8]) -> Result<Self, LimitError> {
        if bytes.is_empty() || bytes.len() > MAX_KEY_BYTES {
            return Err(LimitError::Key { bytes: bytes.len() });
        }
        Ok(Self(Arc::from(bytes)))
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.0.escape_ascii())
    }
}

/// What a record holds: at most [`MAX_VALUE_BYTES`] opaque bytes; may be empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Arc<[u8]>);

impl Value {
    /// Takes `bytes` as a value.
    ///
    /// # Errors
    /// [`LimitError::Value`] when there are more than [`MAX_VALUE_BYTES`].
    pub fn new(bytes: &[u8]) -> Result<Self, LimitError> {
        if bytes.len() > MAX_VALUE_BYTES {
            return Err(LimitError::Value { bytes: bytes.len() });
        }
        Ok(Self(Arc::from(bytes)))
    }

    /// The value's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Value({} bytes)", self.0.len())
    }
}

/// Something is larger than a store takes; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LimitError {
    /// The key is empty or too long.
    #[error("a key has 1 to {MAX_KEY_BYTES} bytes, this one has {bytes}")]
    Key {
        /// Its length.
        bytes: usize,
    },
    /// The value is too long.
    #[error("a value has at most {MAX_VALUE_BYTES} bytes, this one has {bytes}: split it")]
    Value {
        /// Its length.
        bytes: usize,
    },
    /// The batch writes or expects too much.
    #[error("a batch has too many operations ({ops}) or bytes ({bytes})")]
    Batch {
        /// Its writes, or its expectations if those are more.
        ops: usize,
        /// Keys and values that it writes.
        bytes: usize,
    },
}

/// The longest key, in bytes: room for a tenant, a kind and an id, and small beside a value.
pub const MAX_KEY_BYTES: usize = 256;

/// The longest value, in bytes. sled moves a page of larger values out of its log into files that
/// it never syncs; with [`crate::SledStore`]'s segment size a page of values this long stays inside.
pub const MAX_VALUE_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_empty_nor_longer_than_its_limit() {
        assert_eq!(Key::new(b""), Err(LimitError::Key { bytes: 0 }));
        assert!(Key::new(&[7; MAX_KEY_BYTES]).is_ok());
        assert_eq!(Key::new(&[7; MAX_KEY_BYTES + 1]), Err(LimitError::Key { bytes: 257 }));
    }

    #[test]
    fn a_value_longer_than_its_limit_is_refused_with_its_length() {
        assert!(Value::new(&[7; MAX_VALUE_BYTES]).is_ok());
        let refused = Value::new(&[7; MAX_VALUE_BYTES + 1]);
        assert_eq!(refused, Err(LimitError::Value { bytes: MAX_VALUE_BYTES + 1 }));
    }

    #[test]
    fn a_value_is_printed_by_its_length_only() {
        let value = Value::new(b"sealed").unwrap();
        assert_eq!(format!("{value:?}"), "Value(6 bytes)");
    }
}
