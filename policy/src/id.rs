//! Identifiers: 128 random bits with a prefix that names what they identify.
//!
//! Invariant: an id is never reused, so nothing recreated under an old name inherits from it.
//! Invariant: ids of different kinds do not compare and do not convert.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an id identifies; its prefix is part of the text form.
pub trait Kind {
    /// The text form's prefix, without the underscore.
    const PREFIX: &'static str;
}

/// A tenant.
#[derive(Debug)]
pub enum Tenant {}
/// A person, or a program that acts as one.
#[derive(Debug)]
pub enum User {}
/// A group of people who share credentials.
#[derive(Debug)]
pub enum Workspace {}
/// A provider's key in the vault.
#[derive(Debug)]
pub enum Credential {}
/// An API token of a user.
#[derive(Debug)]
pub enum Token {}
/// One call from its decision to its outcome.
#[derive(Debug)]
pub enum Call {}
/// One sealed upload of a key.
#[derive(Debug)]
pub enum Upload {}
/// One session of a person who signed in.
#[derive(Debug)]
pub enum Session {}

impl Kind for Tenant {
    const PREFIX: &'static str = "ten";
}
impl Kind for User {
    const PREFIX: &'static str = "usr";
}
impl Kind for Workspace {
    const PREFIX: &'static str = "wsp";
}
impl Kind for Credential {
    const PREFIX: &'static str = "crd";
}
impl Kind for Token {
    const PREFIX: &'static str = "tok";
}
impl Kind for Call {
    const PREFIX: &'static str = "cal";
}
impl Kind for Upload {
    const PREFIX: &'static str = "upl";
}
impl Kind for Session {
    const PREFIX: &'static str = "ses";
}

/// A tenant's id.
pub type TenantId = Id<Tenant>;
/// A user's id.
pub type UserId = Id<User>;
/// A workspace's id.
pub type WorkspaceId = Id<Workspace>;
/// A credential's id.
pub type CredentialId = Id<Credential>;
/// An API token's id: says nothing about the token's secret.
pub type TokenId = Id<Token>;
/// A call's id.
pub type CallId = Id<Call>;
/// An upload's id.
pub type UploadId = Id<Upload>;
/// A session's id: says nothing about the text that its person presents.
pub type SessionId = Id<Session>;

/// An id of one kind. Text form: prefix, underscore, 32 lower-case hex digits.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id<K> {
    bytes: [u8; ID_BYTES],
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// Length of every kind's prefix.
const PREFIX_BYTES: usize = 3;
/// Length of an id: 128 bits make a collision of random ids irrelevant.
pub const ID_BYTES: usize = 16;

/// The text is not an id of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected {prefix}_ and 32 hex digits")]
pub struct NotAnId {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

impl<K: Kind> Id<K> {
    /// Makes an id of bytes that the caller drew at random.
    pub const fn from_random(bytes: [u8; ID_BYTES]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// The bytes, for keys and contexts.
    pub const fn bytes(&self) -> &[u8; ID_BYTES] {
        &self.bytes
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let error = NotAnId { prefix: K::PREFIX };
        let digits =
            text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(error)?;
        let mut bytes = [0_u8; ID_BYTES];
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if !rest.is_empty() || pairs.len() != bytes.len() {
            return Err(error);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high).zip(nibble(*low)).map(|(h, l)| (h << 4) | l).ok_or(error)?;
        }
        Ok(Self::from_random(bytes))
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one piece: the journal writes six of these for each call.
        let mut text = [0_u8; PREFIX_BYTES + 1 + ID_BYTES * 2];
        let (prefix, digits) = text.split_at_mut(PREFIX_BYTES + 1);
        for (place, byte) in prefix.iter_mut().zip(K::PREFIX.bytes().chain(*b"_")) {
            *place = byte;
        }
        for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(self.bytes) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

fn digit(nibble: u8) -> u8 {
    HEX_DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?')
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case only, so that one id has one text form.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a').and_then(|value| value.checked_add(10)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::DefaultHasher;
    use std::collections::{BTreeSet, HashSet};
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::{TokenId, UserId};

    #[test]
    fn an_id_reads_back_from_its_text_and_from_no_other() {
        let id = UserId::from_random([0xab; 16]);
        assert_eq!(id.to_string().parse::<UserId>(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<UserId>().is_err());
        assert!(id.to_string().parse::<TokenId>().is_err());
        assert!(format!("{id}0").parse::<UserId>().is_err());
    }

    #[test]
    fn every_digit_of_an_id_counts() {
        let id = UserId::from_random(
            *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x10\x32\x54\x76\x98\xba\xdc\xfe",
        );
        let text = "usr_0123456789abcdef1032547698badcfe";
        assert_eq!(id.to_string(), text);
        assert_eq!(format!("{id:?}"), text);
        assert_eq!(text.parse::<UserId>(), Ok(id));
    }

    /// Maps of either kind find one again, and no other: the order is that of the bytes.
    #[test]
    fn ids_are_ordered_and_hashed_by_their_bytes() {
        let ids = [[0; 16], [1; 16], [0xff; 16]].map(UserId::from_random);
        assert!(ids[0] < ids[1] && ids[1] < ids[2]);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3);
        let set = HashSet::from(ids);
        assert!(ids.iter().all(|id| set.contains(id)));
        assert!(!set.contains(&UserId::from_random([2; 16])));
        let hash = |id| BuildHasherDefault::<DefaultHasher>::default().hash_one(id);
        assert_ne!(hash(ids[0]), hash(ids[1]));
    }
}
