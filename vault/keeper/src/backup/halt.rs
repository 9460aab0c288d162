//! Telling a thread that reads a whole vault to end, because the vault closes.
//!
//! Invariant: once called, it stays called.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared between who works and who may end the work.
#[derive(Debug, Clone, Default)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Ends the work at its next look.
    pub fn call(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the work is to end.
    pub fn is_called(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
