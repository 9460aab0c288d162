//! The envelope around every sealed record on disk.
//!
//! ```text
//! offset  bytes  field
//!      0      1  format       2 tenants' records, 1 the appliance's own and tenants' old records
//!      1      1  algorithm    1 AES-256-GCM, 2 ChaCha20-Poly1305
//!      2      4  epoch        big-endian
//!      6      8  version      big-endian
//!     14     32  salt         random, of the key derivation
//!     46     32  commitment   to key and context
//!     78     12  nonce        random
//!     90      n  ciphertext
//!   90+n     16  tag
//! ```
//!
//! Invariant: each envelope has its own key, so a nonce cannot repeat under a key.
//! Invariant: the commitment is compared before a byte is decrypted; it names a wrong key or
//! context, where the bare ciphers could be made to open under two keys.
//! Invariant: every header field is in the context or in the derivation.
//! Distrusts: every byte of the disk.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;
use strongroom_sys::{Secret, stack};
use subtle::ConstantTimeEq;

use crate::keys::{
    Algorithm, Context, DeriveError, Epoch, FillRandom, Format, KEY_BYTES, RecordKey,
    RecordKeySource, RecordVersion, STACK_BYTES, TAG_BYTES, derive_record_key,
};

/// What stands in clear before a record, so that the right key and context can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How its key is derived.
    pub format: Format,
    /// The cipher.
    pub algorithm: Algorithm,
    /// The generation of keys.
    pub epoch: Epoch,
    /// The record's version.
    pub version: RecordVersion,
}

/// Why an envelope was not made or not opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter than an empty record.
    #[error("the record is cut short")]
    Short,
    /// Not our format.
    #[error("unknown record format {0}")]
    UnknownFormat(u8),
    /// A format that this key does not seal, or that is refused by now.
    #[error("the record is of format {found:?}, not {expected:?}")]
    OtherFormat {
        /// In the header.
        found: Format,
        /// Of the key.
        expected: Format,
    },
    /// Not an algorithm of ours.
    #[error("unknown record algorithm {0}")]
    UnknownAlgorithm(u8),
    /// Sealed under another generation than the caller expects.
    #[error("the record is of epoch {found:?}, not {expected:?}")]
    OtherEpoch {
        /// In the header.
        found: Epoch,
        /// In the context.
        expected: Epoch,
    },
    /// Another version than the caller expects.
    #[error("the record has version {found:?}, not {expected:?}")]
    OtherVersion {
        /// In the header.
        found: RecordVersion,
        /// In the context.
        expected: RecordVersion,
    },
    /// The commitment differs: wrong key, or moved from another context.
    #[error("the record belongs to another key or another place")]
    OtherKeyOrContext,
    /// Key and context are right, the bytes are not.
    #[error("the record was altered")]
    Altered,
    /// Longer than the cipher allows.
    #[error("the record is too long for its cipher")]
    TooLong,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// Length of everything around the ciphertext.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + AEAD_TAG_BYTES;

const HEADER_BYTES: usize = 90;
const AEAD_TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

impl Header {
    /// Reads the header of an envelope; nothing of it is authenticated yet.
    ///
    /// # Errors
    /// When it is short, or of an unknown format or algorithm.
    pub fn parse(envelope: &[u8]) -> Result<Self, EnvelopeError> {
        Parts::parse(envelope).map(|parts| parts.header)
    }
}

/// Seals `plaintext` for `context`.
///
/// # Errors
/// When there is no randomness, or the record is too long.
pub fn seal_record(
    source: &RecordKeySource<'_>,
    context: &Context<'_>,
    algorithm: Algorithm,
    plaintext: &[u8],
    random: FillRandom<'_>,
) -> Result<Vec<u8>, EnvelopeError> {
    let mut salt = [0_u8; KEY_BYTES];
    let mut nonce = [0_u8; NONCE_BYTES];
    random(&mut salt)?;
    random(&mut nonce)?;
    let associated = context.encode(source.format(), algorithm);
    let key = derive_record_key(source, &salt, &associated)?;

    // One allocation of the final size: growing would leave plaintext behind in freed memory.
    let mut envelope = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD_BYTES));
    envelope.extend_from_slice(&[source.format().code(), algorithm.code()]);
    envelope.extend_from_slice(&context.epoch.0.to_be_bytes());
    envelope.extend_from_slice(&context.version.0.to_be_bytes());
    envelope.extend_from_slice(&salt);
    envelope.extend_from_slice(&key.commitment);
    envelope.extend_from_slice(&nonce);
    envelope.extend_from_slice(plaintext);
    let (_, body) = envelope.split_at_mut_checked(HEADER_BYTES).ok_or(EnvelopeError::Short)?;
    let tag = encrypt(algorithm, &key, &nonce, &associated, body)?;
    envelope.extend_from_slice(&tag);
    Ok(envelope)
}

/// Opens an envelope that must belong to `context`.
///
/// # Errors
/// When it is malformed, of another epoch or version, of another key or context, or altered.
pub fn open_record(
    source: &RecordKeySource<'_>,
    context: &Context<'_>,
    envelope: &[u8],
) -> Result<Secret, EnvelopeError> {
    let parts = Parts::parse(envelope)?;
    let Header { format, algorithm, epoch, version } = parts.header;
    if format != source.format() {
        return Err(EnvelopeError::OtherFormat { found: format, expected: source.format() });
    }
    if epoch != context.epoch {
        return Err(EnvelopeError::OtherEpoch { found: epoch, expected: context.epoch });
    }
    if version != context.version {
        return Err(EnvelopeError::OtherVersion { found: version, expected: context.version });
    }
    let associated = context.encode(format, algorithm);
    let key = derive_record_key(source, parts.salt, &associated)?;
    if !bool::from(key.commitment.ct_eq(parts.commitment)) {
        return Err(EnvelopeError::OtherKeyOrContext);
    }
    Secret::fill_with(parts.ciphertext.len(), |plaintext| {
        plaintext.copy_from_slice(parts.ciphertext);
        decrypt(algorithm, &key, (parts.nonce, parts.tag), &associated, plaintext)
    })
}

struct Parts<'a> {
    header: Header,
    salt: &'a [u8; KEY_BYTES],
    commitment: &'a [u8; TAG_BYTES],
    nonce: &'a [u8; NONCE_BYTES],
    ciphertext: &'a [u8],
    tag: &'a [u8; AEAD_TAG_BYTES],
}

impl<'a> Parts<'a> {
    fn parse(envelope: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (&[format, algorithm], rest) = take(envelope)?;
        let format = Format::parse(format).ok_or(EnvelopeError::UnknownFormat(format))?;
        let algorithm =
            Algorithm::parse(algorithm).ok_or(EnvelopeError::UnknownAlgorithm(algorithm))?;
        let (epoch, rest) = take(rest)?;
        let (version, rest) = take(rest)?;
        let (salt, rest) = take(rest)?;
        let (commitment, rest) = take(rest)?;
        let (nonce, rest) = take(rest)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(EnvelopeError::Short)?;
        let header = Header {
            format,
            algorithm,
            epoch: Epoch(u32::from_be_bytes(*epoch)),
            version: RecordVersion(u64::from_be_bytes(*version)),
        };
        Ok(Self { header, salt, commitment, nonce, ciphertext, tag })
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), EnvelopeError> {
    bytes.split_first_chunk().ok_or(EnvelopeError::Short)
}

fn encrypt(
    algorithm: Algorithm,
    key: &RecordKey,
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    body: &mut [u8],
) -> Result<[u8; AEAD_TAG_BYTES], EnvelopeError> {
    let mut work = |key: &[u8]| {
        let tag = match algorithm {
            Algorithm::Aes256Gcm => Aes256Gcm::new_from_slice(key)
                .map_err(|_| DeriveError::Defect)?
                .encrypt_inout_detached(nonce.into(), associated, body.into()),
            Algorithm::ChaCha20Poly1305 => ChaCha20Poly1305::new_from_slice(key)
                .map_err(|_| DeriveError::Defect)?
                .encrypt_inout_detached(nonce.into(), associated, body.into()),
        };
        tag.map(Into::into).map_err(|_| EnvelopeError::TooLong)
    };
    // The cipher works on copies of key and text.
    key.key.expose(|key| stack::wiping::<STACK_BYTES, _>(|| work(key)))
}

fn decrypt(
    algorithm: Algorithm,
    key: &RecordKey,
    (nonce, tag): (&[u8; NONCE_BYTES], &[u8; AEAD_TAG_BYTES]),
    associated: &[u8],
    body: &mut [u8],
) -> Result<(), EnvelopeError> {
    let mut work = |key: &[u8]| {
        let opened = match algorithm {
            Algorithm::Aes256Gcm => Aes256Gcm::new_from_slice(key)
                .map_err(|_| DeriveError::Defect)?
                .decrypt_inout_detached(nonce.into(), associated, body.into(), tag.into()),
            Algorithm::ChaCha20Poly1305 => ChaCha20Poly1305::new_from_slice(key)
                .map_err(|_| DeriveError::Defect)?
                .decrypt_inout_detached(nonce.into(), associated, body.into(), tag.into()),
        };
        opened.map_err(|_| EnvelopeError::Altered)
    };
    key.key.expose(|key| stack::wiping::<STACK_BYTES, _>(|| work(key)))
}

#[cfg(test)]
mod tests {
    use strongroom_policy::id::TenantId;

    use super::*;
    use crate::keys::{Kind, RecordId, Scope, ShredKey, StoreId, TenantKey};

    const PLAINTEXT: &[u8] = b"sk-canary-0123456789";
    const BOTH: [Algorithm; 2] = [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305];

    fn tenant_key(byte: u8) -> TenantKey {
        TenantKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap()
    }

    fn context() -> Context<'static> {
        Context {
            store: StoreId([1; 16]),
            scope: Scope::Tenant(TenantId::from_random([2; 16])),
            epoch: Epoch(3),
            kind: Kind::Credential,
            record: RecordId(b"crd/1"),
            version: RecordVersion(4),
        }
    }

    fn seal(key: &TenantKey, algorithm: Algorithm) -> Vec<u8> {
        let source = RecordKeySource::from_tenant(key, None, Format::Two);
        seal_record(&source, &context(), algorithm, PLAINTEXT, &mut getrandom::fill).unwrap()
    }

    fn open(key: &TenantKey, envelope: &[u8]) -> Result<Secret, EnvelopeError> {
        open_record(&RecordKeySource::from_tenant(key, None, Format::Two), &context(), envelope)
    }

    #[test]
    fn what_is_sealed_opens_with_either_algorithm_and_the_layout_is_as_drawn() {
        for algorithm in BOTH {
            let envelope = seal(&tenant_key(9), algorithm);
            assert!(open(&tenant_key(9), &envelope).unwrap().matches(PLAINTEXT));
            assert_eq!(envelope.len(), PLAINTEXT.len() + OVERHEAD_BYTES);
            assert_eq!(envelope[..14], [2, algorithm.code(), 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]);
        }
    }

    // Guards the AEAD tag, the commitment and the context. Red when `decrypt` ignores its answer.
    #[test]
    fn an_envelope_with_any_bit_changed_is_refused() {
        for algorithm in BOTH {
            let envelope = seal(&tenant_key(9), algorithm);
            for index in 0..envelope.len() {
                for bit in 0..8 {
                    let mut altered = envelope.clone();
                    altered[index] ^= 1 << bit;
                    assert!(open(&tenant_key(9), &altered).is_err(), "byte {index} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn an_envelope_cut_at_any_length_or_lengthened_is_refused() {
        let envelope = seal(&tenant_key(9), Algorithm::Aes256Gcm);
        for length in 0..envelope.len() {
            assert!(open(&tenant_key(9), &envelope[..length]).is_err(), "length {length}");
        }
        let longer = [envelope.as_slice(), &[0]].concat();
        assert_eq!(open(&tenant_key(9), &longer).unwrap_err(), EnvelopeError::Altered);
    }

    // Guards the context. Red when any one field is left out of `Context::encode`.
    #[test]
    fn an_envelope_does_not_open_in_another_place() {
        let key = tenant_key(9);
        let source = RecordKeySource::from_tenant(&key, None, Format::Two);
        let envelope = seal(&key, Algorithm::Aes256Gcm);
        let elsewhere = [
            Context { store: StoreId([0; 16]), ..context() },
            Context { scope: Scope::System, ..context() },
            Context { scope: Scope::Tenant(TenantId::from_random([3; 16])), ..context() },
            Context { kind: Kind::Provider, ..context() },
            Context { record: RecordId(b"crd/2"), ..context() },
        ];
        for other in elsewhere {
            assert_eq!(
                open_record(&source, &other, &envelope).unwrap_err(),
                EnvelopeError::OtherKeyOrContext
            );
        }
    }

    // Red when epoch or version is left out of `Context::encode`: the header is edited to agree.
    #[test]
    fn an_old_version_or_epoch_cannot_be_relabelled() {
        let key = tenant_key(9);
        let source = RecordKeySource::from_tenant(&key, None, Format::Two);
        let mut newer = seal(&key, Algorithm::Aes256Gcm);
        newer[13] = 5;
        let claimed = Context { version: RecordVersion(5), ..context() };
        assert_eq!(
            open_record(&source, &claimed, &newer).unwrap_err(),
            EnvelopeError::OtherKeyOrContext
        );
        let mut later = seal(&key, Algorithm::Aes256Gcm);
        later[5] = 4;
        let claimed = Context { epoch: Epoch(4), ..context() };
        assert_eq!(
            open_record(&source, &claimed, &later).unwrap_err(),
            EnvelopeError::OtherKeyOrContext
        );
        assert!(matches!(open(&key, &newer), Err(EnvelopeError::OtherVersion { .. })));
        assert!(matches!(open(&key, &later), Err(EnvelopeError::OtherEpoch { .. })));
    }

    // Red when the format is left out of `Context::encode`.
    #[test]
    fn a_record_of_an_old_format_cannot_be_relabelled() {
        let key = tenant_key(9);
        let old = RecordKeySource::from_tenant(&key, None, Format::One);
        let random: FillRandom<'_> = &mut getrandom::fill;
        let mut envelope =
            seal_record(&old, &context(), Algorithm::Aes256Gcm, PLAINTEXT, random).unwrap();
        assert!(matches!(open(&key, &envelope), Err(EnvelopeError::OtherFormat { .. })));
        envelope[0] = 2;
        assert_eq!(open(&key, &envelope).unwrap_err(), EnvelopeError::OtherKeyOrContext);
    }

    // Guards key commitment. Red when the comparison is skipped (the answer becomes `Altered`).
    #[test]
    fn a_wrong_key_is_named_before_anything_is_decrypted() {
        let envelope = seal(&tenant_key(9), Algorithm::ChaCha20Poly1305);
        assert_eq!(open(&tenant_key(8), &envelope).unwrap_err(), EnvelopeError::OtherKeyOrContext);
    }

    // Guards real deletion. Red when the shred key is left out of the salt.
    #[test]
    fn without_its_owners_shred_key_a_record_is_dead() {
        let key = tenant_key(9);
        let shred = ShredKey::from_secret(Secret::copy_from(&[5; 32])).unwrap();
        let other = ShredKey::from_secret(Secret::copy_from(&[6; 32])).unwrap();
        let with = |shred| RecordKeySource::from_tenant(&key, shred, Format::Two);
        let envelope = seal_record(
            &with(Some(&shred)),
            &context(),
            Algorithm::Aes256Gcm,
            PLAINTEXT,
            &mut getrandom::fill,
        )
        .unwrap();
        assert!(open_record(&with(Some(&shred)), &context(), &envelope).is_ok());
        assert!(open_record(&with(None), &context(), &envelope).is_err());
        assert!(open_record(&with(Some(&other)), &context(), &envelope).is_err());
    }

    #[test]
    fn two_seals_of_one_record_share_no_salt_and_no_nonce() {
        let (one, two) = (
            seal(&tenant_key(9), Algorithm::Aes256Gcm),
            seal(&tenant_key(9), Algorithm::Aes256Gcm),
        );
        assert_ne!(one[14..46], two[14..46]);
        assert_ne!(one[78..90], two[78..90]);
    }

    #[test]
    fn an_unknown_format_or_algorithm_is_named() {
        let mut envelope = seal(&tenant_key(9), Algorithm::Aes256Gcm);
        envelope[1] = 3;
        assert_eq!(Header::parse(&envelope), Err(EnvelopeError::UnknownAlgorithm(3)));
        envelope[0] = 0;
        assert_eq!(Header::parse(&envelope), Err(EnvelopeError::UnknownFormat(0)));
    }
}

#[cfg(test)]
mod forgery;

#[cfg(test)]
mod vectors;
