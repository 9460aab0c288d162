//! The sealed upload: a provider's key encrypted to the vault, bound to what it is for.
//!
//! HPKE (RFC 9180) base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; blob = encapsulated key (32) ‖ ciphertext.
//! Base mode authenticates nobody and has no replay defence, so the upload id is used once, and `info` binds
//! vault, upload, tenant, owner, act and the digest of the whole destination.
//!
//! Invariant: a blob made for one destination opens for no other.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strongroom_policy::destination::Destination;
use strongroom_policy::id::{CredentialId, TenantId, UploadId};
use strongroom_policy::rules::Home;
use zeroize::Zeroizing;

use crate::SecretBytes;

/// The vault's public upload key, pinned by the operator's tool in `vault.pub`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultKey(pub [u8; 32]);

/// What an upload is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadBinding {
    /// The vault (its store's id).
    pub vault: [u8; 16],
    /// This upload.
    pub upload: UploadId,
    /// The tenant.
    pub tenant: TenantId,
    /// Whose the credential will be.
    pub home: Home,
    /// What is done with it.
    pub act: UploadAct,
    /// SHA-256 of the destination's encoding.
    pub destination_digest: [u8; 32],
}

/// What is done with an uploaded key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UploadAct {
    /// A new credential.
    Add,
    /// A new key for this one.
    Rotate(CredentialId),
}

/// Shortest key: shorter ones could not be scrubbed from answers without false hits.
pub const MIN_KEY_BYTES: usize = 16;
/// Longest key.
pub const MAX_KEY_BYTES: usize = 4096;
/// Longest blob.
pub const MAX_BLOB_BYTES: usize = MAX_KEY_BYTES + 64;

const ENCAPSULATED_BYTES: usize = 32;
const INFO_LABEL: &[u8] = b"strongroom upload 1";

/// Why an upload does not seal or open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// Under [`MIN_KEY_BYTES`] or over [`MAX_KEY_BYTES`], or not one line of visible ASCII.
    #[error(
        "a key has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} visible ASCII characters, without spaces"
    )]
    Key,
    /// The pinned key is no X25519 point.
    #[error("the vault's pinned key is not a key")]
    VaultKey,
    /// Made for another vault, upload, owner or destination, or damaged.
    #[error("the sealed key does not open: it was made for something else, or was damaged")]
    Blob,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random,
}

/// SHA-256 of a destination's encoding: host, port, TLS name, authorities, reach, base path, injection, fixed headers.
pub fn digest_destination(destination: &Destination) -> [u8; 32] {
    let encoded = postcard::to_stdvec(destination).unwrap_or_default();
    Sha256::digest(encoded).into()
}

/// Whether bytes can be a provider's key.
///
/// # Errors
/// When they cannot.
pub fn check_key(key: &[u8]) -> Result<(), UploadError> {
    let good = (MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len())
        && key.iter().all(u8::is_ascii_graphic);
    if good { Ok(()) } else { Err(UploadError::Key) }
}

/// The vault's key pair of 32 secret bytes.
pub fn derive_vault_key(secret: &[u8; 32]) -> VaultKey {
    let (_, public) = X25519HkdfSha256::derive_keypair(secret);
    VaultKey(public.to_bytes().into())
}

/// Seals a key to the vault.
///
/// # Errors
/// See [`UploadError`].
pub fn seal_upload(
    vault: &VaultKey,
    binding: &UploadBinding,
    key: &[u8],
) -> Result<Vec<u8>, UploadError> {
    check_key(key)?;
    let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&vault.0)
        .map_err(|_| UploadError::VaultKey)?;
    getrandom::fill(&mut [0_u8; 1]).map_err(|_| UploadError::Random)?;
    let info = info(binding);
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<
        AesGcm256,
        HkdfSha256,
        X25519HkdfSha256,
    >(&OpModeS::Base, &public, &info, key, &[])
    .map_err(|_| UploadError::VaultKey)?;
    let mut blob = encapsulated.to_bytes().to_vec();
    blob.extend_from_slice(&ciphertext);
    Ok(blob)
}

/// Opens a blob with the vault's 32 secret bytes.
///
/// # Errors
/// [`UploadError::Blob`] when it was made for anything else; [`UploadError::Key`] when what it holds is no key.
pub fn open_upload(
    secret: &[u8; 32],
    binding: &UploadBinding,
    blob: &[u8],
) -> Result<SecretBytes, UploadError> {
    let (private, _) = X25519HkdfSha256::derive_keypair(secret);
    let (encapsulated, ciphertext) =
        blob.split_at_checked(ENCAPSULATED_BYTES).ok_or(UploadError::Blob)?;
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated)
        .map_err(|_| UploadError::Blob)?;
    let key = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        &info(binding),
        ciphertext,
        &[],
    )
    .map(Zeroizing::new)
    .map_err(|_| UploadError::Blob)?;
    check_key(&key)?;
    Ok(SecretBytes::take(key))
}

fn info(binding: &UploadBinding) -> Vec<u8> {
    let mut info = INFO_LABEL.to_vec();
    info.extend(postcard::to_stdvec(binding).unwrap_or_default());
    info
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use strongroom_policy::id::{TenantId, UploadId, UserId};
    use strongroom_policy::provider::builtin::definitions;
    use strongroom_policy::rules::Home;

    use super::{
        UploadAct, UploadBinding, UploadError, derive_vault_key, digest_destination, open_upload,
        seal_upload,
    };

    pub(super) const SECRET: [u8; 32] = [7; 32];
    const KEY: &[u8] = b"sk-test-0123456789abcdef";

    pub(super) fn binding() -> UploadBinding {
        UploadBinding {
            vault: [1; 16],
            upload: UploadId::from_random([2; 16]),
            tenant: TenantId::from_random([3; 16]),
            home: Home::Personal(UserId::from_random([4; 16])),
            act: UploadAct::Add,
            destination_digest: digest_destination(&definitions().unwrap()[0].destination),
        }
    }

    #[test]
    fn an_upload_opens_for_what_it_was_made_for_and_for_nothing_else() {
        let blob = seal_upload(&derive_vault_key(&SECRET), &binding(), KEY).unwrap();
        let opened = open_upload(&SECRET, &binding(), &blob).unwrap();
        assert!(opened.expose(|key| key == KEY));

        let mut other_host = definitions().unwrap()[0].destination.clone();
        other_host.port = 444;
        let changes: [fn(&mut UploadBinding); 5] = [
            |b| b.vault = [9; 16],
            |b| b.upload = UploadId::from_random([9; 16]),
            |b| b.tenant = TenantId::from_random([9; 16]),
            |b| b.home = Home::Personal(UserId::from_random([9; 16])),
            |b| b.act = UploadAct::Rotate(strongroom_policy::id::Id::from_random([9; 16])),
        ];
        for change in changes {
            let mut changed = binding();
            change(&mut changed);
            assert_eq!(open_upload(&SECRET, &changed, &blob).unwrap_err(), UploadError::Blob);
        }
        let mut changed = binding();
        changed.destination_digest = digest_destination(&other_host);
        assert_eq!(open_upload(&SECRET, &changed, &blob).unwrap_err(), UploadError::Blob);
        assert!(open_upload(&[8; 32], &binding(), &blob).is_err());
    }

    #[test]
    fn a_damaged_or_short_blob_does_not_open() {
        let blob = seal_upload(&derive_vault_key(&SECRET), &binding(), KEY).unwrap();
        for at in 0..blob.len() {
            let mut damaged = blob.clone();
            damaged[at] ^= 1;
            assert!(open_upload(&SECRET, &binding(), &damaged).is_err());
            assert!(open_upload(&SECRET, &binding(), &blob[..at]).is_err());
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_not_sealed() {
        let vault = derive_vault_key(&SECRET);
        for bad in [&b"short"[..], b"sk-with a space-0123456789", b"sk-line\r\nfeed-0123456789"] {
            assert_eq!(seal_upload(&vault, &binding(), bad).unwrap_err(), UploadError::Key);
        }
    }
}
