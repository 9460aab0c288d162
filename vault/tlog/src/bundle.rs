//! Entries in a bundle (C2SP tlog-tiles, "Log entries"): each is its length as two bytes, big-endian, and its bytes.
//!
//! ```text
//! len(1) ‖ entry(1) ‖ len(2) ‖ entry(2) ‖ …      at most 256
//! ```
//! Invariant: reading stops at the first byte that is not of a whole entry, and says where that is.

use thiserror::Error;

use crate::tile::FULL;

/// Longest entry.
pub const MAX_ENTRY_BYTES: usize = 65_535;
/// Longest bundle.
pub const MAX_BUNDLE_BYTES: usize = 256 * (LENGTH_BYTES + MAX_ENTRY_BYTES);

/// Why an entry does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an entry has at most {MAX_ENTRY_BYTES} bytes")]
pub struct EntryTooLong;

/// What is wrong with a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadBundle {
    /// The bytes end within an entry.
    #[error("the bytes end within the entry that begins at byte {at}")]
    Torn {
        /// Where that entry begins.
        at: usize,
    },
    /// Bytes follow the 256th entry.
    #[error("bytes follow the 256th entry, from byte {at}")]
    TooMany {
        /// Where they begin.
        at: usize,
    },
}

/// Appends an entry to a bundle.
///
/// # Errors
/// When it is too long; nothing is appended then.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong)?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, one after the other; after an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    at: usize,
    read: u16,
}

impl<'a> Entries<'a> {
    /// Reads a bundle's bytes.
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0, read: 0 }
    }

    /// Where the next entry begins: all before it were whole.
    pub const fn at(&self) -> usize {
        self.at
    }

    fn fail(&mut self, why: BadBundle) -> BadBundle {
        self.rest = &[];
        why
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], BadBundle>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.at;
        if self.read == FULL {
            return Some(Err(self.fail(BadBundle::TooMany { at })));
        }
        let split = self.rest.split_first_chunk::<LENGTH_BYTES>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((entry, rest)) = split else {
            return Some(Err(self.fail(BadBundle::Torn { at })));
        };
        self.rest = rest;
        self.at = at.saturating_add(LENGTH_BYTES).saturating_add(entry.len());
        self.read = self.read.saturating_add(1);
        Some(Ok(entry))
    }
}

const LENGTH_BYTES: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_back_in_their_order() {
        let longest = vec![7; MAX_ENTRY_BYTES];
        let mut bundle = Vec::new();
        for entry in [b"one".as_slice(), b"", &longest] {
            push_entry(&mut bundle, entry).unwrap();
        }
        assert_eq!(&bundle[..7], b"\0\x03one\0\0");
        let read: Vec<_> = Entries::of(&bundle).map(Result::unwrap).collect();
        assert_eq!(read, [b"one".as_slice(), b"", &longest]);
    }

    #[test]
    fn an_entry_that_is_too_long_is_not_written() {
        let (long, mut bundle) = (vec![0; MAX_ENTRY_BYTES + 1], vec![1]);
        assert_eq!(push_entry(&mut bundle, &long), Err(EntryTooLong));
        assert_eq!(bundle, [1]);
    }

    #[test]
    fn a_torn_entry_is_said_to_begin_where_it_does() {
        let mut bundle = Vec::new();
        push_entry(&mut bundle, b"whole").unwrap();
        push_entry(&mut bundle, b"torn").unwrap();
        for cut in 8..bundle.len() {
            let mut entries = Entries::of(&bundle[..cut]);
            assert_eq!(entries.next(), Some(Ok(b"whole".as_slice())));
            assert_eq!(entries.next(), Some(Err(BadBundle::Torn { at: 7 })), "cut at {cut}");
            assert_eq!(entries.at(), 7);
            assert_eq!(entries.next(), None);
        }
    }

    #[test]
    fn a_bundle_has_256_entries_at_most() {
        let mut bundle = Vec::new();
        for _ in 0..257 {
            push_entry(&mut bundle, b"x").unwrap();
        }
        assert_eq!(Entries::of(&bundle[..256 * 3]).flatten().count(), 256);
        let last = Entries::of(&bundle).last();
        assert_eq!(last, Some(Err(BadBundle::TooMany { at: 256 * 3 })));
    }

    proptest! {
        #[test]
        fn no_bytes_are_read_twice_or_beyond_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut entries = Entries::of(&bytes);
            let mut sum = 0;
            while let Some(Ok(entry)) = entries.next() {
                sum += 2 + entry.len();
                prop_assert_eq!(entries.at(), sum);
            }
            prop_assert!(sum <= bytes.len());
        }
    }
}
