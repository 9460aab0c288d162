//! The public areas of what the helper makes, and the names that they give.
//!
//! Invariant: these never change: sealed blobs, pinned storage keys and counters of older builds depend on every bit.

use sha2::{Digest as _, Sha256};
use strongroom_protocol::tpm::{Name, PcrSet};
use tss_esapi::attributes::{NvIndexAttributes, ObjectAttributes};
use tss_esapi::handles::NvIndexTpmHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    Digest, EccPoint, EccScheme, KeyDerivationFunctionScheme, KeyedHashScheme, NvPublic,
    PcrSelectSize, PcrSelectionList, PcrSlot, Public, PublicEccParameters,
    PublicKeyedHashParameters, SymmetricDefinitionObject,
};

/// Length of a digest of the one hash in use.
pub const DIGEST_BYTES: usize = 32;
/// Fixed to the TPM and its parent, made there, used by its (empty) secret, without lock-out, restricted, for decryption: the
/// usual storage root key.
const STORAGE_ATTRIBUTES: u32 = 0x0003_0472;
/// Fixed to the TPM and its parent; used by policy only.
const SEALED: u32 = 0x0000_0012;
/// Failures do not count towards the lock-out.
const NO_LOCK_OUT: u32 = 0x0000_0400;
/// Counter type; read and written by its secret; guesses of that do not count towards the lock-out.
const COUNTER_ATTRIBUTES: u32 = 0x0204_0014;
/// A counter's length.
pub const COUNTER_BYTES: u16 = 8;

/// The storage key: ECC P-256, AES-128-CFB.
///
/// # Errors
/// Never in practice: tss-esapi's builders check what is constant here.
pub fn storage() -> tss_esapi::Result<Public> {
    let parameters = PublicEccParameters::new(
        SymmetricDefinitionObject::AES_128_CFB,
        EccScheme::Null,
        EccCurve::NistP256,
        KeyDerivationFunctionScheme::Null,
    );
    Public::builder()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(ObjectAttributes::from(STORAGE_ATTRIBUTES))
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}

/// What is sealed, under a policy; with a PIN, failures count.
///
/// # Errors
/// Never in practice.
pub fn sealed(policy: &[u8; DIGEST_BYTES], pin: bool) -> tss_esapi::Result<Public> {
    let attributes = if pin { SEALED } else { SEALED | NO_LOCK_OUT };
    Public::builder()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(ObjectAttributes::from(attributes))
        .with_auth_policy(Digest::try_from(policy.as_slice())?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

/// A counter that was not written yet.
///
/// # Errors
/// When the index is none.
pub fn counter(index: u32, policy: &[u8; DIGEST_BYTES]) -> tss_esapi::Result<NvPublic> {
    NvPublic::builder()
        .with_nv_index(NvIndexTpmHandle::new(index)?)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(NvIndexAttributes::try_from(COUNTER_ATTRIBUTES)?)
        .with_index_auth_policy(Digest::try_from(policy.as_slice())?)
        .with_data_area_size(COUNTER_BYTES.into())
        .build()
}

/// Registers of the SHA-256 bank.
///
/// # Errors
/// Never in practice.
pub fn selection(set: PcrSet) -> tss_esapi::Result<PcrSelectionList> {
    let bit = |number: u8| PcrSlot::try_from(1_u32.checked_shl(number.into()).unwrap_or(0));
    let slots = set.numbers().map(bit).collect::<tss_esapi::Result<Vec<_>>>()?;
    PcrSelectionList::builder()
        .with_size_of_select(PcrSelectSize::ThreeOctets)
        .with_selection(HashingAlgorithm::Sha256, &slots)
        .build()
}

/// The same as it enters a policy: `TPML_PCR_SELECTION` of one bank.
pub fn selection_bytes(set: PcrSet) -> [u8; 10] {
    let [a, b, c] = set.bitmap();
    [0, 0, 0, 1, 0, 0x0B, 3, a, b, c]
}

/// SHA-256 of parts behind one another.
pub fn digest(parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The name of a public area.
pub fn name_of(public: &[u8]) -> Name {
    Name(digest(&[public]))
}

/// A name as the TPM writes it: with its algorithm.
pub fn full_name(name: Name) -> [u8; 34] {
    let mut full = [0; 34];
    let (algorithm, digest) = full.split_at_mut(2);
    algorithm.copy_from_slice(&[0, 0x0B]);
    digest.copy_from_slice(&name.0);
    full
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::tpm::PcrSet;
    use tss_esapi::structures::Public;
    use tss_esapi::traits::{Marshall as _, UnMarshall as _};
    use tss_esapi::tss2_esys::TPM2B_NV_PUBLIC;

    use super::{counter, full_name, name_of, sealed, selection, selection_bytes, storage};

    // What the first build sent to the TPM. Red when any attribute, algorithm or length changes: vaults would not open.
    #[test]
    fn the_templates_are_those_of_the_first_build() {
        // ECC, SHA-256, attributes, no policy, AES-128-CFB, no scheme, P-256, no derivation, an empty point.
        let key = b"\0\x23\0\x0B\0\x03\x04\x72\0\0\0\x06\0\x80\0\x43\0\x10\0\x03\0\x10\0\0\0\0";
        assert_eq!(storage().unwrap().marshall().unwrap(), key);
        let policy = [7; 32];
        for (pin, third) in [(true, 0), (false, 4)] {
            // Keyed hash, SHA-256, attributes, the policy, no scheme, nothing unique.
            let head = [0, 8, 0, 0x0B, 0, 0, third, 0x12, 0, 32];
            let whole = [&head[..], &policy, &[0, 0x10, 0, 0]].concat();
            let made = sealed(&policy, pin).unwrap().marshall().unwrap();
            assert_eq!(made, whole);
            assert_eq!(Public::unmarshall(&whole).unwrap().marshall().unwrap(), whole);
        }
        let told = TPM2B_NV_PUBLIC::try_from(counter(0x0180_0001, &policy).unwrap()).unwrap();
        let told = told.nvPublic;
        assert_eq!((told.nvIndex, told.nameAlg, told.dataSize), (0x0180_0001, 0x0B, 8));
        assert_eq!((told.attributes, told.authPolicy.size), (0x0204_0014, 32));
        assert_eq!(&told.authPolicy.buffer[..32], policy);
        assert!(counter(0x8100_0001, &policy).is_err());
    }

    #[test]
    fn a_selection_of_registers_is_the_same_in_a_command_and_in_a_policy() {
        let set = PcrSet::of(&[0, 7, 23]).unwrap();
        assert_eq!(selection_bytes(set), [0, 0, 0, 1, 0, 0x0B, 3, 0x81, 0, 0x80]);
        let list = tss_esapi::tss2_esys::TPML_PCR_SELECTION::from(selection(set).unwrap());
        let one = list.pcrSelections[0];
        assert_eq!((list.count, one.hash, one.sizeofSelect), (1, 0x0B, 3));
        assert_eq!(one.pcrSelect[..3], [0x81, 0, 0x80]);
    }

    #[test]
    fn a_name_has_its_algorithm_before_it() {
        let name = name_of(b"public");
        assert_eq!(full_name(name)[..2], [0, 0x0B]);
        assert_eq!(full_name(name)[2..], name.0);
    }
}
