//! Telling a thread that reads a whole vault to end because the vault closes, and hearing that it has ended.
//!
//! Invariant: once called, it stays called.
//! Invariant: whoever works with copies of the open vault's keys is counted until these are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

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

/// Counts who works with copies of the open vault's keys, wherever they are.
#[derive(Debug, Clone, Default)]
pub struct Copies(watch::Sender<usize>);

/// Somebody who does, until this is dropped.
#[derive(Debug)]
pub struct Held(watch::Sender<usize>);

impl Copies {
    /// Begins to count somebody. Taken before the keys are, and dropped behind them.
    pub fn hold(&self) -> Held {
        self.0.send_modify(|held| *held = held.saturating_add(1));
        Held(self.0.clone())
    }

    /// Waits until nobody is counted.
    pub async fn gone(&self) {
        // There is a sender for as long as this waits.
        drop(self.0.subscribe().wait_for(|held| *held == 0).await);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held = held.saturating_sub(1));
    }
}
