//! What is known of each stored record without opening it.
//!
//! Invariant: as many entries as records, kept in step with what is submitted.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::keys::{Epoch, Format};

/// What is known of a stored record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) version: u64,
    pub(super) pieces: u8,
    pub(super) epoch: Epoch,
    pub(super) format: Format,
}

impl Written {
    fn generation(self) -> (Epoch, Format) {
        (self.epoch, self.format)
    }
}

/// Every stored record by its store key.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: BTreeMap<Vec<u8>, Written>,
    generations: BTreeMap<(Epoch, Format), usize>,
}

/// Records that were found, and the key up to which was looked, unless the end was reached.
pub(super) type Found = (Vec<(Vec<u8>, Written)>, Option<Vec<u8>>);

/// Most entries that one look for old records passes: the look is on the thread that answers calls.
const MAX_PASSED: usize = 4096;

impl Ledger {
    pub(super) fn get(&self, key: &[u8]) -> Option<Written> {
        self.records.get(key).copied()
    }

    pub(super) fn put(&mut self, key: Vec<u8>, written: Written) {
        let count = self.generations.entry(written.generation()).or_default();
        *count = count.saturating_add(1);
        if let Some(before) = self.records.insert(key, written) {
            self.forget(before);
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        if let Some(before) = self.records.remove(key) {
            self.forget(before);
        }
    }

    fn forget(&mut self, written: Written) {
        if let Some(count) = self.generations.get_mut(&written.generation()) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.generations.remove(&written.generation());
            }
        }
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// How many records each generation of keys has.
    pub(super) fn epochs(&self) -> BTreeMap<Epoch, usize> {
        let mut epochs = BTreeMap::<Epoch, usize>::new();
        for ((epoch, _), count) in &self.generations {
            let sum = epochs.entry(*epoch).or_default();
            *sum = sum.saturating_add(*count);
        }
        epochs
    }

    /// How many records are not of this epoch and this format.
    pub(super) fn old(&self, newest: (Epoch, Format)) -> usize {
        let current = self.generations.get(&newest).copied().unwrap_or(0);
        self.records.len().saturating_sub(current)
    }

    /// Some records after `after` that are not of this epoch and format.
    pub(super) fn old_after(
        &self,
        after: Option<&[u8]>,
        newest: (Epoch, Format),
        most: usize,
    ) -> Found {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let range = self.records.range::<[u8], _>((start, Bound::Unbounded));
        for (passed, (key, written)) in range.enumerate() {
            if written.generation() != newest {
                found.push((key.clone(), *written));
            }
            if found.len() >= most || passed >= MAX_PASSED {
                return (found, Some(key.clone()));
            }
        }
        (found, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(epoch: u32, format: Format) -> Written {
        Written { version: 1, pieces: 1, epoch: Epoch(epoch), format }
    }

    #[test]
    fn counts_follow_every_change_and_a_walk_finds_each_old_record_once() {
        let mut ledger = Ledger::default();
        let newest = (Epoch(2), Format::Two);
        for number in 0_u32..10_000 {
            let one = match number % 3 {
                0 => written(2, Format::Two),
                1 => written(1, Format::Two),
                _ => written(2, Format::One),
            };
            ledger.put(number.to_be_bytes().to_vec(), one);
        }
        assert_eq!((ledger.len(), ledger.old(newest)), (10_000, 6666));
        let (mut after, mut walked) = (None::<Vec<u8>>, 0);
        loop {
            let (found, next) = ledger.old_after(after.as_deref(), newest, 64);
            for (key, _) in found {
                ledger.put(key, written(2, Format::Two));
                walked += 1;
            }
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!((walked, ledger.old(newest)), (6666, 0));
        ledger.remove(&7_u32.to_be_bytes());
        assert_eq!(ledger.epochs(), BTreeMap::from([(Epoch(2), 9999)]));
    }
}
