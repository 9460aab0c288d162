//! One ciphertext for two keys: AES-GCM opens it under both (Dodis et al., "Fast Message Franking", and Len et al.,
//! "Partitioning Oracle Attacks"), the envelope under the one that it commits to.

use strongroom_policy::id::TenantId;
use strongroom_sys::Secret;

use super::*;
use crate::keys::{Format, Key, Kind, RecordId, Scope, StoreId, TenantKey};

const AES: Algorithm = Algorithm::Aes256Gcm;
const NONCE: [u8; NONCE_BYTES] = [7; NONCE_BYTES];
const SALT: [u8; KEY_BYTES] = [5; KEY_BYTES];
/// The one of GCM's field, whose bits are written from the left.
const ONE: u128 = 1 << 127;

/// NIST SP 800-38D, 6.3.
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut shifted) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= shifted;
        }
        let carry = shifted & 1;
        shifted >>= 1;
        if carry == 1 {
            shifted ^= 0xE1 << 120;
        }
    }
    product
}

/// `x` to the power of 2^128 - 2.
fn inverse(x: u128) -> u128 {
    let power = (0..127).fold(ONE, |power, _| times(times(power, power), x));
    times(power, power)
}

fn lengths(associated: usize, ciphertext: usize) -> u128 {
    let bits = |bytes: usize| u128::try_from(bytes * 8).unwrap();
    bits(associated) << 64 | bits(ciphertext)
}

/// What the forger works out of a key that he has: the hash key, and the mask of the tag.
fn secrets_of(key: &RecordKey) -> (u128, u128) {
    let tag = |associated: &[u8]| {
        u128::from_be_bytes(encrypt(AES, key, &NONCE, associated, &mut []).unwrap())
    };
    let mask = tag(&[]);
    // One block of zeros: all that is left of the hash is the length, once multiplied.
    let hash_key = times(tag(&[0; 16]) ^ mask, inverse(lengths(16, 0)));
    (hash_key, mask)
}

fn hash(hash_key: u128, blocks: impl Iterator<Item = u128>) -> u128 {
    blocks.fold(0, |sum, block| times(sum ^ block, hash_key))
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = u128> {
    bytes.chunks(16).map(|chunk| {
        let mut block = [0; 16];
        block[..chunk.len()].copy_from_slice(chunk);
        u128::from_be_bytes(block)
    })
}

/// Two blocks, the second of which makes both tags the same.
fn forge(one: &RecordKey, two: &RecordKey, associated: &[u8]) -> ([u8; 32], [u8; 16]) {
    let first = 0x0123_4567_u128;
    let length = lengths(associated.len(), 32);
    let known = |key: &RecordKey| {
        let (hash_key, mask) = secrets_of(key);
        let square = times(hash_key, hash_key);
        let sum = hash(hash_key, blocks(associated).chain([first]));
        (square, times(sum, square) ^ times(length, hash_key) ^ mask)
    };
    let ((square_one, rest_one), (square_two, rest_two)) = (known(one), known(two));
    let second = times(rest_one ^ rest_two, inverse(square_one ^ square_two));
    let tag = times(second, square_one) ^ rest_one;
    let ciphertext = [first.to_be_bytes(), second.to_be_bytes()].concat();
    (ciphertext.try_into().unwrap(), tag.to_be_bytes())
}

fn context() -> Context<'static> {
    Context {
        store: StoreId([1; 16]),
        scope: Scope::Tenant(TenantId::from_random([2; 16])),
        epoch: Epoch(3),
        kind: Kind::Credential,
        record: RecordId(b"k0"),
        version: RecordVersion(4),
    }
}

// Guards key commitment. Red when `open_record` does not compare it: both keys open the forgery then.
#[test]
fn a_ciphertext_made_to_open_under_two_keys_opens_under_neither_but_the_one_it_commits_to() {
    let keys = [8, 9].map(|byte| {
        let key: TenantKey = Key::from_secret(Secret::copy_from(&[byte; 32])).unwrap();
        key
    });
    let sources = [0, 1].map(|index| RecordKeySource::from_tenant(&keys[index], None, Format::Two));
    let associated = context().encode(Format::Two, AES);
    let derived =
        sources.each_ref().map(|source| derive_record_key(source, &SALT, &associated).unwrap());
    let [one, two] = &derived;
    let (ciphertext, tag) = forge(one, two, &associated);
    for key in &derived {
        let mut body = ciphertext;
        assert!(decrypt(AES, key, (&NONCE, &tag), &associated, &mut body).is_ok(), "the forgery");
    }
    for (mine, yours) in [(0, 1), (1, 0)] {
        let envelope = [
            &[2, AES.code(), 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4][..],
            &SALT,
            &derived[mine].commitment,
            &NONCE,
            &ciphertext,
            &tag,
        ]
        .concat();
        assert!(open_record(&sources[mine], &context(), &envelope).is_ok());
        assert_eq!(
            open_record(&sources[yours], &context(), &envelope).unwrap_err(),
            EnvelopeError::OtherKeyOrContext
        );
    }
}
