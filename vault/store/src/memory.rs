//! A store that forgets: the contract without a disk, for tests and throw-away runs.
//!
//! Invariant: it keeps the whole contract but durability; the same suite runs on it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use crate::batch::Batch;
use crate::contract::{MAX_SCAN_RECORDS, Store, StoreError};
use crate::poison::Poison;
use crate::record::{Key, Value};

/// An ordered map in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: RwLock<BTreeMap<Key, Value>>,
    poison: Poison,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.poison.absent()?;
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.poison.absent()?;
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = records
            .range::<Key, _>((start, Bound::Unbounded))
            .skip_while(|(key, _)| key.as_bytes() < prefix)
            .take_while(|(key, _)| key.as_bytes().starts_with(prefix))
            .take(limit.min(MAX_SCAN_RECORDS))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Ok(page)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.within_limits()?;
        // A panic cannot leave the map half written: nothing below the checks can fail.
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        self.poison.absent()?;
        if batch.expectations().any(|(key, expected)| records.get(key) != expected) {
            return Err(StoreError::Conflict);
        }
        for (key, value) in batch.writes() {
            match value {
                Some(value) => records.insert(key.clone(), value.clone()),
                None => records.remove(key),
            };
        }
        Ok(())
    }

    fn poison(&self) {
        self.poison.set();
    }
}
