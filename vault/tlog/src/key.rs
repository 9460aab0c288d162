//! Keys that sign notes: Ed25519 (C2SP signed-note v1.0.0, "Ed25519 signatures" and "Verifier keys").
//!
//! ```text
//! key id = SHA-256(name ‖ 0x0A ‖ type ‖ public key)[:4]
//! vkey   = name+hex(key id)+base64(type ‖ public key)        type 0x01: notes, 0x04: cosignatures of witnesses
//! ```
//! Invariant: a key of one type never verifies a signature of the other: the type is in the key's id and in the Rust type.
//! Distrusts: the text of a vkey.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::note::{BadNote, Line, Note};

/// Bytes of a seed, which is all of an Ed25519 secret.
pub const SEED_BYTES: usize = 32;
/// Bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Longest name of a key.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest vkey.
const MAX_VKEY_BYTES: usize = 256;

/// The name of a key: not empty, no space, no plus, no control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// The first four bytes of a digest that a key's name, type and public key go into.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 4]);

/// Why a text is no name or no vkey, or a seed no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadKey {
    /// Empty, too long, or with a space, a plus or a control character.
    #[error(
        "a key's name has 1 to {MAX_NAME_BYTES} bytes without space, plus or control character"
    )]
    Name,
    /// Not `name+id+key`.
    #[error("not a verifier key: it reads name+8 hexadecimal digits+base64")]
    Form,
    /// The id is of another name or key: a mistyped vkey.
    #[error("the verifier key's id does not fit its name and key: it was mistyped or cut")]
    Id,
    /// A key for something else.
    #[error("the verifier key is of type {found:#04x}, not {wanted:#04x}")]
    Type {
        /// What is needed.
        wanted: u8,
        /// What it is.
        found: u8,
    },
    /// The library refuses the seed.
    #[error("the seed makes no Ed25519 key")]
    Seed,
}

/// Signs notes. The library wipes its copy of the seed.
pub struct Signer {
    pair: Pair,
}

/// Verifies the notes of one signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    key: PublicKey,
}

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.contains(odd) {
            return Err(BadKey::Name);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Signer {
    /// A signer by its seed.
    ///
    /// # Errors
    /// When the library refuses the seed.
    pub fn from_seed(name: Name, seed: &[u8; SEED_BYTES]) -> Result<Self, BadKey> {
        Ok(Self { pair: Pair::from_seed(name, NOTE, seed)? })
    }

    /// Adds this signer's line to a note.
    pub fn sign(&self, note: &mut Note) {
        let signature = self.pair.sign(note.text().as_bytes());
        note.push(self.pair.line(&signature));
    }

    /// Who verifies what this signs.
    pub fn verifier(&self) -> Verifier {
        Verifier { key: self.pair.public.clone() }
    }
}

impl Verifier {
    /// Reads a vkey of type 0x01.
    ///
    /// # Errors
    /// When it is none, or of another type.
    pub fn parse(vkey: &str) -> Result<Self, BadKey> {
        Ok(Self { key: PublicKey::parse(vkey, NOTE)? })
    }

    /// The vkey.
    pub fn vkey(&self) -> String {
        self.key.vkey()
    }

    /// The key's name.
    pub const fn name(&self) -> &Name {
        &self.key.name
    }

    /// Checks that a note is signed by this key.
    ///
    /// # Errors
    /// When it is not, or any line that says it is by this key does not hold.
    pub fn verify(&self, note: &Note) -> Result<(), BadNote> {
        note.verify(self.key.id, &self.key.name, |signature| {
            self.key.holds(note.text().as_bytes(), signature)
        })
    }
}

/// A public key of some type, with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) name: Name,
    pub(crate) id: KeyId,
    kind: u8,
    bytes: [u8; PUBLIC_KEY_BYTES],
}

/// A key of some type that signs.
pub(crate) struct Pair {
    pub(crate) public: PublicKey,
    secret: Ed25519KeyPair,
}

impl PublicKey {
    fn new(name: Name, kind: u8, bytes: [u8; PUBLIC_KEY_BYTES]) -> Self {
        let mut digest = Sha256::new();
        digest.update(name.as_str());
        digest.update([b'\n', kind]);
        digest.update(bytes);
        let digest: [u8; 32] = digest.finalize().into();
        let [a, b, c, d, ..] = digest;
        Self { name, id: KeyId([a, b, c, d]), kind, bytes }
    }

    pub(crate) fn parse(vkey: &str, wanted: u8) -> Result<Self, BadKey> {
        if vkey.len() > MAX_VKEY_BYTES {
            return Err(BadKey::Form);
        }
        let (name, rest) = vkey.split_once('+').ok_or(BadKey::Form)?;
        let (id, key) = rest.split_once('+').ok_or(BadKey::Form)?;
        let name = Name::parse(name)?;
        let key = STANDARD.decode(key).map_err(|_| BadKey::Form)?;
        let (found, bytes) = key.split_first().ok_or(BadKey::Form)?;
        if *found != wanted {
            return Err(BadKey::Type { wanted, found: *found });
        }
        let bytes = bytes.try_into().map_err(|_| BadKey::Form)?;
        let key = Self::new(name, wanted, bytes);
        if key.id.to_string() == id { Ok(key) } else { Err(BadKey::Id) }
    }

    pub(crate) fn vkey(&self) -> String {
        let mut key = vec![self.kind];
        key.extend_from_slice(&self.bytes);
        format!("{}+{}+{}", self.name, self.id, STANDARD.encode(key))
    }

    pub(crate) fn holds(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, signature).is_ok()
    }
}

impl Pair {
    pub(crate) fn from_seed(name: Name, kind: u8, seed: &[u8; SEED_BYTES]) -> Result<Self, BadKey> {
        let secret = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey::Seed)?;
        let bytes = secret.public_key().as_ref().try_into().map_err(|_| BadKey::Seed)?;
        Ok(Self { public: PublicKey::new(name, kind, bytes), secret })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.secret.sign(message).as_ref().to_vec()
    }

    pub(crate) fn line(&self, signature: &[u8]) -> Line {
        Line::new(self.public.name.clone(), self.public.id, signature.to_vec())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.pair.public.name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The type of keys for notes.
pub(crate) const NOTE: u8 = 0x01;
/// The type of keys for cosignatures.
pub(crate) const COSIGNATURE: u8 = 0x04;

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_vkey_reads_and_writes_as_published() {
        // golang.org/x/mod sumdb/note, TestNewVerifier; C2SP signed-note, "Example".
        for vkey in [PETER, "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"]
        {
            assert_eq!(Verifier::parse(vkey).unwrap().vkey(), vkey);
        }
    }

    #[test]
    fn no_mangled_vkey_is_taken() {
        for start in 0..=PETER.len() {
            for end in start + 1..=PETER.len() {
                if (start, end) != (0, PETER.len()) {
                    assert!(Verifier::parse(&PETER[start..end]).is_err());
                }
            }
        }
        for at in 0..PETER.len() {
            let mut bytes = PETER.as_bytes().to_vec();
            bytes[at] += 1;
            assert!(Verifier::parse(str::from_utf8(&bytes).unwrap()).is_err(), "{at}");
        }
        // Of the wrong length and of an unknown type, with ids that fit.
        for vkey in [
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(Verifier::parse(vkey).is_err());
        }
        assert_eq!(Verifier::parse(&"x".repeat(300)), Err(BadKey::Form));
    }

    #[test]
    fn a_seed_makes_the_published_key() {
        // golang.org/x/mod sumdb/note, TestNewSigner: PRIVATE+KEY+PeterNeumann+c74f20a3+…
        let key = STANDARD.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").unwrap();
        let seed: [u8; SEED_BYTES] = key[1..].try_into().unwrap();
        let signer = Signer::from_seed(Name::parse("PeterNeumann").unwrap(), &seed).unwrap();
        assert_eq!(signer.verifier().vkey(), PETER);
        assert_eq!(format!("{signer:?}"), "Signer(PeterNeumann)");
    }

    #[test]
    fn a_name_has_neither_space_nor_plus_nor_control_character() {
        assert_eq!(Name::parse("strongroom/7f3a").unwrap().to_string(), "strongroom/7f3a");
        for name in ["", "a b", "a+b", "a\u{2003}b", "a\nb", "a\u{7f}", &"x".repeat(129)] {
            assert_eq!(Name::parse(name), Err(BadKey::Name), "{name:?}");
        }
    }
}
