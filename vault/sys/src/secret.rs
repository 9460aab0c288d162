//! A secret's bytes: filled in place, lent for one call, wiped on drop.
//!
//! Invariant: no `Clone`, `PartialEq`, `Serialize` or `Deref`; `Debug` prints `<secret>`.
//! Invariant: `rg '\.expose\('` lists every place that sees the bytes.
//!
//! For bytes that live for one act; keys lie in [`crate::locked`], whose memory cannot be read from outside.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret bytes of a length fixed at creation.
pub struct Secret {
    bytes: Zeroizing<Box<[u8]>>,
}

impl Secret {
    /// Makes a secret of `len` bytes and lets `fill` write it in place.
    ///
    /// # Errors
    /// Whatever `fill` answers; the half-filled bytes are wiped.
    pub fn fill_with<E>(
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut bytes = Zeroizing::new(vec![0_u8; len].into_boxed_slice());
        fill(&mut bytes)?;
        Ok(Self { bytes })
    }

    /// Copies `bytes` in; the caller wipes its own copy.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self { bytes: Zeroizing::new(Box::from(bytes)) }
    }

    /// Takes the bytes over. A vector without spare capacity keeps its allocation; otherwise the
    /// bytes move to one of the exact size and the whole old capacity is wiped.
    pub fn take(bytes: Vec<u8>) -> Self {
        // Shrinking would let the allocator move the bytes and leave the old copy unwiped.
        if bytes.len() == bytes.capacity() {
            return Self { bytes: Zeroizing::new(bytes.into_boxed_slice()) };
        }
        let bytes = Zeroizing::new(bytes);
        Self::copy_from(&bytes)
    }

    /// Makes a secret of `len` zero bytes, to be replaced whole.
    pub fn zeroed(len: usize) -> Self {
        Self { bytes: Zeroizing::new(vec![0_u8; len].into_boxed_slice()) }
    }

    /// Makes `len` bytes of the kernel's randomness.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn random(len: usize) -> Result<Self, getrandom::Error> {
        Self::fill_with(len, getrandom::fill)
    }

    /// Lends the bytes for the length of one call.
    pub fn expose<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        see(&self.bytes)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Compares in constant time for equal lengths.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.bytes.ct_eq(other).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_prints_no_byte() {
        assert_eq!(format!("{:?}", Secret::copy_from(b"sk-live-1")), "<secret>");
    }

    #[test]
    fn fill_writes_in_place_and_passes_the_error_on() {
        let made = Secret::fill_with(3, |bytes| {
            bytes.copy_from_slice(b"abc");
            Ok::<(), ()>(())
        });
        assert!(made.unwrap().expose(|bytes| bytes == b"abc"));
        assert_eq!(Secret::fill_with(3, |_| Err("no")).map(|_| ()), Err("no"));
    }

    #[test]
    fn taking_an_exact_vector_copies_nothing() {
        let bytes = vec![7_u8; 64];
        let before = bytes.as_ptr();
        assert!(Secret::take(bytes).expose(|bytes| bytes.as_ptr() == before));
    }

    #[test]
    fn taking_a_vector_with_spare_room_keeps_the_bytes() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"abc");
        assert!(Secret::take(bytes).expose(|bytes| bytes == b"abc"));
    }

    #[test]
    fn only_equal_bytes_of_equal_length_match() {
        let secret = Secret::copy_from(b"abc");
        assert!(secret.matches(b"abc"));
        assert!(!secret.matches(b"abd"));
        assert!(!secret.matches(b"abcd"));
        assert!(!secret.matches(b""));
    }

    #[test]
    fn zeroed_has_its_length_and_random_is_not_zero() {
        assert_eq!(Secret::zeroed(5).len(), 5);
        assert!(Secret::zeroed(0).is_empty());
        assert!(!Secret::random(32).unwrap().matches(&[0; 32]));
    }
}
