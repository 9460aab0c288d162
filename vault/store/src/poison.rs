//! Whether a handle may still be used: after a failure whose outcome is unknown nothing is believed any more.
//!
//! Invariant: what is poisoned stays so.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::contract::StoreError;

/// Not poisoned yet.
#[derive(Debug, Default)]
pub(crate) struct Poison(AtomicBool);

impl Poison {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// # Errors
    /// [`StoreError::Poisoned`] once it is.
    pub(crate) fn absent(&self) -> Result<(), StoreError> {
        if self.0.load(Ordering::Acquire) { Err(StoreError::Poisoned) } else { Ok(()) }
    }
}
