//! Memory that one call uses after the other.
//!
//! Invariant: each part is taken out while a call uses it and comes back wiped; of a call that broke off it does not come back,
//! so nothing has to be wiped on the many ways out.
//! Invariant: the shelf is bounded.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::scrub::Blank;

/// Scrubbers without a secret, shared by all lanes: the one that was used last is still in the processor's cache.
#[derive(Default)]
pub(super) struct Blanks(Mutex<Vec<Blank>>);

/// Those of answers that come at the same time; more are made and dropped.
const MAX_BLANKS: usize = 32;

impl Blanks {
    pub(super) fn take(&self) -> Blank {
        self.lock().pop().unwrap_or_default()
    }

    pub(super) fn put(&self, blank: Blank) {
        let mut shelf = self.lock();
        if shelf.len() < MAX_BLANKS {
            shelf.push(blank);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Blank>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shelf_is_bounded() {
        let blanks = Blanks::default();
        for _ in 0..MAX_BLANKS + 3 {
            blanks.put(Blank::default());
        }
        assert_eq!(blanks.lock().len(), MAX_BLANKS);
    }
}
