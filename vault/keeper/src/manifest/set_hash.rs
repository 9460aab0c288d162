//! The keyed hash of a set of records that can be changed record by record.
//!
//! Invariant: the order of additions does not matter, and what is removed leaves no trace.
//! Invariant: whoever does not know the key learns nothing of the elements, so no set of other
//! records with the same sum can be sought (with 1,024 lanes of 16 bits that would be hard anyway).

use serde::{Deserialize, Serialize};

use super::Change;
use crate::keys::{DeriveError, ELEMENT_BYTES, RecordId, SetHashKey, derive_set_element};

const LANES: usize = ELEMENT_BYTES / 2;

/// The sum, lane by lane, modulo 2^16.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Accumulator(Box<[u16; LANES]>);

/// An encoded accumulator has another length.
#[derive(Debug, thiserror::Error)]
#[error("a set hash is {ELEMENT_BYTES} bytes")]
pub struct NotAnAccumulator;

impl Accumulator {
    /// Of no record.
    pub fn empty() -> Self {
        Self(Box::new([0; LANES]))
    }

    /// Adds a record with its stored (sealed) value.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn add(
        &mut self,
        key: &SetHashKey,
        record: RecordId<'_>,
        value: &[u8],
    ) -> Result<(), DeriveError> {
        self.fold(&derive_set_element(key, record, value)?, u16::wrapping_add);
        Ok(())
    }

    /// Takes a record away that had this stored value.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn remove(
        &mut self,
        key: &SetHashKey,
        record: RecordId<'_>,
        value: &[u8],
    ) -> Result<(), DeriveError> {
        self.fold(&derive_set_element(key, record, value)?, u16::wrapping_sub);
        Ok(())
    }

    /// The hash of both together.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        for (lane, other) in sum.0.iter_mut().zip(other.0.iter()) {
            *lane = lane.wrapping_add(*other);
        }
        sum
    }

    fn fold(&mut self, element: &[u8; ELEMENT_BYTES], with: fn(u16, u16) -> u16) {
        let (pairs, _) = element.as_chunks::<2>();
        for (lane, pair) in self.0.iter_mut().zip(pairs) {
            *lane = with(*lane, u16::from_be_bytes(*pair));
        }
    }
}

impl std::fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<set hash>")
    }
}

impl From<Accumulator> for Vec<u8> {
    fn from(accumulator: Accumulator) -> Self {
        accumulator.0.iter().flat_map(|lane| lane.to_be_bytes()).collect()
    }
}

impl TryFrom<Vec<u8>> for Accumulator {
    type Error = NotAnAccumulator;

    fn try_from(bytes: Vec<u8>) -> Result<Self, NotAnAccumulator> {
        let bytes: Box<[u8; ELEMENT_BYTES]> = bytes.try_into().map_err(|_| NotAnAccumulator)?;
        let mut accumulator = Self::empty();
        accumulator.fold(&bytes, u16::wrapping_add);
        Ok(accumulator)
    }
}

/// What one batch changes.
#[derive(Debug)]
pub struct Delta<'a> {
    key: &'a SetHashKey,
    count: i64,
    set_hash: Accumulator,
}

impl<'a> Delta<'a> {
    pub(super) fn new(key: &'a SetHashKey) -> Self {
        Self { key, count: 0, set_hash: Accumulator::empty() }
    }

    /// The batch puts `new` where `old` lay, or where nothing lay.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn put(
        &mut self,
        record: RecordId<'_>,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> Result<(), DeriveError> {
        match old {
            Some(old) => self.set_hash.remove(self.key, record, old)?,
            None => self.count = self.count.saturating_add(1),
        }
        self.set_hash.add(self.key, record, new)
    }

    /// The batch deletes the record, which had the value `old`.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn delete(&mut self, record: RecordId<'_>, old: &[u8]) -> Result<(), DeriveError> {
        self.count = self.count.saturating_sub(1);
        self.set_hash.remove(self.key, record, old)
    }

    /// The change, ready for `Manifest::begin`.
    pub fn change(self) -> Change {
        Change { count: self.count, set_hash: self.set_hash }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use strongroom_sys::Secret;

    use super::*;

    fn key(byte: u8) -> SetHashKey {
        SetHashKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap()
    }

    fn of(key: &SetHashKey, records: &[(&[u8], &[u8])]) -> Accumulator {
        let mut accumulator = Accumulator::empty();
        for (record, value) in records {
            accumulator.add(key, RecordId(record), value).unwrap();
        }
        accumulator
    }

    #[test]
    fn order_does_not_matter_and_what_is_removed_leaves_no_trace() {
        let key = key(1);
        let one = of(&key, &[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]);
        let mut two = of(&key, &[(b"c", b"3"), (b"x", b"9"), (b"a", b"1"), (b"b", b"2")]);
        assert_ne!(one, two);
        two.remove(&key, RecordId(b"x"), b"9").unwrap();
        assert_eq!(one, two);
    }

    // Guards against a swap. Red when key or value is left out of the element.
    #[test]
    fn values_swapped_between_records_change_the_hash() {
        let key = key(1);
        assert_ne!(
            of(&key, &[(b"a", b"1"), (b"b", b"2")]),
            of(&key, &[(b"a", b"2"), (b"b", b"1")])
        );
        assert_ne!(of(&key, &[(b"ab", b"c")]), of(&key, &[(b"a", b"bc")]));
    }

    // Guards against the forgery that XOR allows. Red when `add` is a XOR.
    #[test]
    fn a_record_added_twice_does_not_vanish() {
        let key = key(1);
        assert_ne!(of(&key, &[(b"a", b"1"), (b"a", b"1")]), Accumulator::empty());
    }

    #[test]
    fn another_key_gives_another_hash() {
        assert_ne!(of(&key(1), &[(b"a", b"1")]), of(&key(2), &[(b"a", b"1")]));
    }

    #[test]
    fn the_hash_survives_its_encoding_and_other_lengths_are_refused() {
        let hash = of(&key(1), &[(b"a", b"1")]);
        let bytes = Vec::from(hash.clone());
        assert_eq!(Accumulator::try_from(bytes.clone()).unwrap(), hash);
        assert!(Accumulator::try_from(bytes[1..].to_vec()).is_err());
    }

    /// What is done to a set: a record is put, or deleted if it is there; a batch ends.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Put(u8, u8),
        Delete(u8),
        End,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..6_u8, any::<u8>()).prop_map(|(record, value)| Step::Put(record, value)),
            2 => (0..6_u8).prop_map(Step::Delete),
            1 => Just(Step::End),
        ];
        prop::collection::vec(step, 1..40)
    }

    proptest! {
        /// Red when a change, a deletion or a batch leaves a trace, or when the count drifts.
        #[test]
        fn after_any_batches_the_hash_is_that_of_the_map_that_is_left(steps in steps()) {
            let key = key(9);
            let (mut map, mut hash, mut count) = (BTreeMap::new(), Accumulator::empty(), 0);
            let mut batch = Delta::new(&key);
            for step in steps.into_iter().chain([Step::End]) {
                match step {
                    Step::Put(record, value) => {
                        let old = map.insert([record], [value]);
                        let old = old.as_ref().map(|old: &[u8; 1]| &old[..]);
                        batch.put(RecordId(&[record]), old, &[value]).unwrap();
                    }
                    Step::Delete(record) => {
                        if let Some(old) = map.remove(&[record]) {
                            batch.delete(RecordId(&[record]), &old).unwrap();
                        }
                    }
                    Step::End => {
                        let change = std::mem::replace(&mut batch, Delta::new(&key)).change();
                        hash = hash.plus(&change.set_hash);
                        count += change.count;
                        let left: Vec<(&[u8], &[u8])> =
                            map.iter().map(|(record, value)| (&record[..], &value[..])).collect();
                        prop_assert_eq!(&hash, &of(&key, &left));
                        prop_assert_eq!(usize::try_from(count), Ok(map.len()));
                    }
                }
            }
        }
    }
}
