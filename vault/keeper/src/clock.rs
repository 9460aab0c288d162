//! The one place that reads the clock.
//!
//! Invariant: everything below takes a [`Moment`] as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

use strongroom_policy::moment::Moment;

/// Now; a clock before 1970 reads as 1970, when everything that expires has not begun.
pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
