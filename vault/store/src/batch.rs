//! A batch: writes that count together or not at all, and what must hold before they do.
//!
//! Invariant: a batch writes a key at most once; the last word wins.
//! Invariant: every expectation must hold; a later one does not replace an earlier one.

use std::collections::BTreeMap;

use crate::record::{Key, LimitError, Value};

/// Writes and deletions that become durable together, under preconditions.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    writes: BTreeMap<Key, Option<Value>>,
    expectations: Vec<(Key, Option<Value>)>,
}

impl Batch {
    /// A batch that does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores `value` under `key`, whatever was there.
    #[must_use]
    pub fn put(mut self, key: Key, value: Value) -> Self {
        self.writes.insert(key, Some(value));
        self
    }

    /// Removes `key`; it is no error if there is none.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.writes.insert(key, None);
        self
    }

    /// The batch counts only if `key` holds exactly `value`, or is absent when that is `None`.
    #[must_use]
    pub fn expect(mut self, key: Key, value: Option<Value>) -> Self {
        self.expectations.push((key, value));
        self
    }

    /// How many keys it writes or deletes.
    pub fn ops(&self) -> usize {
        self.writes.len()
    }

    /// Keys and values that it writes, in bytes.
    pub fn bytes(&self) -> usize {
        self.writes.iter().fold(0, |sum, (key, value)| {
            sum.saturating_add(key.as_bytes().len())
                .saturating_add(value.as_ref().map_or(0, |value| value.as_bytes().len()))
        })
    }

    /// Whether it writes nothing (it may still expect something).
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(crate) fn within_limits(&self) -> Result<(), LimitError> {
        let ops = self.writes.len().max(self.expectations.len());
        let bytes = self.bytes();
        if ops > MAX_BATCH_OPS || bytes > MAX_BATCH_BYTES {
            return Err(LimitError::Batch { ops, bytes });
        }
        Ok(())
    }

    /// A group's batch also carries the witness's own record.
    pub(crate) fn leaves_room_for_mark(&self) -> Result<(), LimitError> {
        let (ops, bytes) = (self.ops(), self.bytes());
        if ops > MAX_GROUP_OPS || bytes > MAX_GROUP_BYTES {
            return Err(LimitError::Batch { ops, bytes });
        }
        self.within_limits()
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = (&Key, Option<&Value>)> {
        self.writes.iter().map(|(key, value)| (key, value.as_ref()))
    }

    pub(crate) fn expectations(&self) -> impl Iterator<Item = (&Key, Option<&Value>)> {
        self.expectations.iter().map(|(key, value)| (key, value.as_ref()))
    }
}

/// What a commit does to one key: the value before and after, `None` for absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// What it holds until now.
    pub before: Option<Value>,
    /// What it will hold; differs from `before`.
    pub after: Option<Value>,
}

/// The most writes, and the most expectations, of one batch: sled gets slow and large above.
pub const MAX_BATCH_OPS: usize = 256;

/// The most bytes that one batch writes; with it a queue of batches has a bound in bytes too.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// The most writes of one group: room for the witness's record is left.
pub(crate) const MAX_GROUP_OPS: usize = MAX_BATCH_OPS - 1;

/// The most bytes of one group.
pub(crate) const MAX_GROUP_BYTES: usize = MAX_BATCH_BYTES - 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::new(&number.to_be_bytes()).unwrap()
    }

    #[test]
    fn a_batch_at_its_limit_passes_and_one_above_does_not() {
        let value = Value::new(b"v").unwrap();
        let full = (0..MAX_BATCH_OPS).fold(Batch::new(), |b, n| b.put(key(n), value.clone()));
        assert_eq!(full.within_limits(), Ok(()));
        let above = full.delete(key(MAX_BATCH_OPS));
        assert!(matches!(above.within_limits(), Err(LimitError::Batch { ops: 257, .. })));
    }

    #[test]
    fn expectations_and_bytes_are_bounded_too() {
        let expecting = (0..=MAX_BATCH_OPS).fold(Batch::new(), |b, n| b.expect(key(n), None));
        assert!(expecting.within_limits().is_err());
        let value = Value::new(&[0; 8 * 1024]).unwrap();
        let heavy = (0..128).fold(Batch::new(), |b, n| b.put(key(n), value.clone()));
        assert!(heavy.within_limits().is_err());
    }

    #[test]
    fn the_last_write_to_a_key_wins() {
        let value = Value::new(b"v").unwrap();
        let batch = Batch::new().put(key(1), value).delete(key(1));
        assert_eq!(batch.writes().collect::<Vec<_>>(), [(&key(1), None)]);
    }
}
