//! The tree's hashes and counts (RFC 6962, section 2.1).
//!
//! Invariant: leaves and nodes are hashed with different first bytes, so that neither passes for the other.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// A node of the tree, or the root of all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

/// How many entries a tree has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// The place of an entry, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

/// The hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new_with_prefix([LEAF]).chain_update(entry).finalize().into())
}

/// The hash of two nodes side by side.
pub fn node_hash(left: Hash, right: Hash) -> Hash {
    Hash(
        Sha256::new_with_prefix([NODE])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// The root of the tree without entries.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

impl Hash {
    /// The form in notes: base64 with padding, 44 characters.
    pub fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads the form in notes; nothing else is taken.
    pub fn from_base64(text: &str) -> Option<Self> {
        let mut bytes = [0; HASH_BYTES];
        let decoded = STANDARD.decode_slice(text, &mut bytes).ok()?;
        (decoded == HASH_BYTES).then_some(Self(bytes))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const LEAF: u8 = 0;
const NODE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex_of(hash: Hash) -> String {
        format!("{hash:?}")
    }

    #[test]
    fn hashes_are_those_of_rfc_6962() {
        // github.com/transparency-dev/merkle, rfc6962/rfc6962_test.go
        assert_eq!(
            hex_of(empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex_of(leaf_hash(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            hex_of(leaf_hash(b"L123456")),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
        );
        let (left, right) = (leaf_hash(b""), leaf_hash(&[0]));
        assert_eq!(
            hex_of(node_hash(left, right)),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }

    #[test]
    fn two_nodes_do_not_pass_for_an_entry() {
        let (left, right) = (leaf_hash(b"a"), leaf_hash(b"b"));
        let both = [left.0, right.0].concat();
        assert_ne!(node_hash(left, right), leaf_hash(&both));
        assert_ne!(node_hash(left, right), node_hash(right, left));
    }

    #[test]
    fn only_the_form_that_is_written_is_read() {
        let hash = leaf_hash(b"x");
        let text = hash.to_base64();
        assert_eq!(Hash::from_base64(&text), Some(hash));
        assert_eq!(Hash::from_base64(text.trim_end_matches('=')), None);
        assert_eq!(Hash::from_base64(&format!("{text}\n")), None);
        assert_eq!(Hash::from_base64(&format!(" {text}")), None);
        assert_eq!(Hash::from_base64(""), None);
        assert_eq!(Hash::from_base64(&STANDARD.encode([0; 33])), None);
        // A last character with bits that no byte holds.
        let mut odd = text.clone();
        let last = odd.len() - 2;
        let digit = odd.as_bytes()[last];
        odd.replace_range(last..=last, &char::from(digit + 1).to_string());
        assert_eq!(Hash::from_base64(&odd), None, "{odd}");
    }
}
