//! Merging batches into one group: the net effect per key, each batch judged after those before it.
//!
//! Invariant: the group's effect equals committing its batches one after the other.
//! Invariant: a batch joins whole or leaves no trace.

use std::collections::BTreeMap;

use crate::batch::{Batch, Change, MAX_GROUP_BYTES, MAX_GROUP_OPS};
use crate::contract::{Store, StoreError};
use crate::record::{Key, Value};

/// What became of a batch that asked to join.
pub(super) enum Admission {
    Joined,
    Refused(StoreError),
    /// There is no room left in this group.
    Full(Batch),
}

/// A group in the making.
pub(super) struct Merge<'a> {
    store: &'a dyn Store,
    touched: BTreeMap<Key, Net>,
    bytes: usize,
}

struct Net {
    before: Option<Value>,
    after: Option<Value>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Self { store, touched: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn admit(&mut self, batch: Batch) -> Admission {
        let ops = self.touched.len().saturating_add(batch.ops());
        let bytes = self.bytes.saturating_add(batch.bytes());
        if !self.touched.is_empty() && (ops > MAX_GROUP_OPS || bytes > MAX_GROUP_BYTES) {
            return Admission::Full(batch);
        }
        match self.judge(&batch) {
            Ok(fresh) => {
                self.touched.extend(fresh);
                self.bytes = bytes;
                for (key, value) in batch.writes() {
                    if let Some(net) = self.touched.get_mut(key) {
                        net.after = value.cloned();
                    }
                }
                Admission::Joined
            }
            Err(error) => Admission::Refused(error),
        }
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.touched
            .into_iter()
            .filter(|(_, net)| net.before != net.after)
            .map(|(key, Net { before, after })| Change { key, before, after })
            .collect()
    }

    /// Every read that the batch needs, before anything of it counts: the keys that it is the
    /// first of this group to touch, with what the store holds.
    fn judge(&self, batch: &Batch) -> Result<Vec<(Key, Net)>, StoreError> {
        for (key, expected) in batch.expectations() {
            if self.current(key)?.as_ref() != expected {
                return Err(StoreError::Conflict);
            }
        }
        let mut fresh = Vec::new();
        for (key, _) in batch.writes().filter(|(key, _)| !self.touched.contains_key(key)) {
            let before = self.store.get(key)?;
            fresh.push((key.clone(), Net { after: before.clone(), before }));
        }
        Ok(fresh)
    }

    fn current(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        match self.touched.get(key) {
            Some(net) => Ok(net.after.clone()),
            None => self.store.get(key),
        }
    }
}
