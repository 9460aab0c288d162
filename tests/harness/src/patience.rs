//! Waiting for conditions, with a bound.
//!
//! Invariant: a condition that never comes fails the test and says which one it was.

use std::time::{Duration, Instant};

/// How long anything may take on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How long what is done at once may take on such a machine.
pub const PROMPT: Duration = Duration::from_secs(10);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `look` finds something.
///
/// # Panics
/// When [`PATIENCE`] ends first.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain until {what}"))
}

/// Waits until `look` finds something, or `patience` ends.
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
