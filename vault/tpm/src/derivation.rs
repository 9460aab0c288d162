//! The sessions' cryptography: TPM 2.0 Library, part 1, sections 11.4.10 (derivation), 19 (sessions) and 21 (parameters).
//!
//! Invariant: pure but for the ephemeral key; derived keys are wiped.

use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::wire::digest;

/// A key of SHA-256's length.
pub type Key = Zeroizing<[u8; 32]>;

/// A point of P-256, uncompressed and without its leading byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its x, padded.
    pub x: [u8; 32],
    /// Its y, padded.
    pub y: [u8; 32],
}

/// A primitive refused: no randomness, or the TPM's key is no point of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the TPM's storage key is not usable")]
pub struct Unusable;

/// Which way a parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the TPM.
    Encrypt,
    /// From it.
    Decrypt,
}

/// HMAC-SHA256 of parts behind one another.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32], Unusable> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Unusable)?;
    for part in parts {
        mac.update(part);
    }
    Ok(mac.finalize().into_bytes().into())
}

/// `KDFa` of 256 bits.
///
/// # Errors
/// Never with keys of our lengths.
pub fn derive(key: &[u8], label: &str, contexts: [&[u8]; 2]) -> Result<Key, Unusable> {
    let [first, second] = contexts;
    let (counter, bits) = (1_u32.to_be_bytes(), 256_u32.to_be_bytes());
    mac(key, &[&counter, label.as_bytes(), &[0], first, second, &bits]).map(Zeroizing::new)
}

/// A fresh salt for a session, and the point that tells it to the holder of `storage` alone: `KDFe` over a one-time agreement.
///
/// # Errors
/// When `storage` is no point of the curve or there is no randomness.
pub fn make_salt(storage: &Point) -> Result<(Key, Point), Unusable> {
    let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new());
    let private = private.map_err(|_| Unusable)?;
    let public = private.compute_public_key().map_err(|_| Unusable)?;
    let ours = Point::from_uncompressed(public.as_ref()).ok_or(Unusable)?;
    let theirs = [&[4], storage.x.as_slice(), storage.y.as_slice()].concat();
    let peer = UnparsedPublicKey::new(&ECDH_P256, theirs);
    let salt = agree_ephemeral(private, peer, Unusable, |shared| {
        let counter = 1_u32.to_be_bytes();
        Ok(Zeroizing::new(digest(&[&counter, shared, b"SECRET\0", &ours.x, &storage.x])))
    })?;
    Ok((salt, ours))
}

/// Encrypts or decrypts a parameter in place: AES-128-CFB, key and first block from `KDFa`.
///
/// # Errors
/// Never with keys of our lengths.
pub fn crypt(
    direction: Direction,
    key: &[u8],
    nonces: [&[u8]; 2],
    bytes: &mut [u8],
) -> Result<(), Unusable> {
    let derived = derive(key, "CFB", nonces)?;
    let (key, first) = derived.split_at_checked(16).ok_or(Unusable)?;
    let key = UnboundCipherKey::new(&AES_128, key).map_err(|_| Unusable)?;
    let first: [u8; 16] = first.try_into().map_err(|_| Unusable)?;
    let first = FixedLength::from(first);
    match direction {
        Direction::Encrypt => EncryptingKey::cfb128(key)
            .and_then(|key| key.less_safe_encrypt(bytes, EncryptionContext::Iv128(first)))
            .map(drop),
        Direction::Decrypt => DecryptingKey::cfb128(key)
            .and_then(|key| key.decrypt(bytes, DecryptionContext::Iv128(first)).map(drop)),
    }
    .map_err(|_| Unusable)
}

impl Point {
    fn from_uncompressed(bytes: &[u8]) -> Option<Self> {
        let (4, rest) = bytes.split_first().map(|(first, rest)| (*first, rest))? else {
            return None;
        };
        let (x, y) = rest.split_at_checked(32)?;
        Some(Self { x: x.try_into().ok()?, y: y.try_into().ok()? })
    }

    /// Of coordinates that a TPM may have left unpadded.
    pub fn of(x: &[u8], y: &[u8]) -> Option<Self> {
        Some(Self { x: padded(x)?, y: padded(y)? })
    }
}

fn padded(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut whole = [0; 32];
    let start = whole.len().checked_sub(bytes.len())?;
    whole.get_mut(start..)?.copy_from_slice(bytes);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::{Direction, Point, crypt, derive, make_salt};

    #[test]
    fn a_parameter_comes_back_under_the_same_nonces_and_under_no_others() {
        let mut bytes = *b"thirty-two bytes that are secret";
        crypt(Direction::Encrypt, b"key", [b"one", b"two"], &mut bytes).unwrap();
        assert_ne!(&bytes, b"thirty-two bytes that are secret");
        let mut other = bytes;
        crypt(Direction::Decrypt, b"key", [b"two", b"one"], &mut other).unwrap();
        assert_ne!(&other, b"thirty-two bytes that are secret");
        crypt(Direction::Decrypt, b"key", [b"one", b"two"], &mut bytes).unwrap();
        assert_eq!(&bytes, b"thirty-two bytes that are secret");
    }

    #[test]
    fn derivation_separates_labels_and_contexts() {
        let all = [
            derive(b"k", "ATH", [b"ab", b"c"]).unwrap(),
            derive(b"k", "CFB", [b"ab", b"c"]).unwrap(),
            derive(b"k", "ATH", [b"ab", b"d"]).unwrap(),
            derive(b"l", "ATH", [b"ab", b"c"]).unwrap(),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[..index].iter().all(|other| other != one));
        }
    }

    #[test]
    fn a_salt_is_fresh_and_a_point_off_the_curve_is_refused() {
        let off = Point { x: [1; 32], y: [1; 32] };
        assert!(make_salt(&off).is_err());
        // The generator of P-256.
        let x = hex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296");
        let y = hex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5");
        let on = Point::of(&x, &y).unwrap();
        let (one, two) = (make_salt(&on).unwrap(), make_salt(&on).unwrap());
        assert!(one.0 != two.0 && one.1 != two.1);
    }

    #[test]
    fn coordinates_are_padded_and_never_cut() {
        let point = Point::of(&[7], &[8; 32]).unwrap();
        assert_eq!((point.x[31], point.x[30], point.y), (7, 0, [8; 32]));
        assert!(Point::of(&[7; 33], &[8; 32]).is_none());
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }
}
