//! A point in time as data: this crate has no clock.
//!
//! Invariant: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time, milliseconds since the Unix epoch.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Moment(u64);

impl Moment {
    /// From milliseconds since the Unix epoch.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> u64 {
        self.0
    }

    /// This moment and a duration more; the end of time when that overflows.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long since `earlier`; zero when it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Moment;

    #[test]
    fn time_is_counted_in_milliseconds_and_never_runs_over() {
        let noon = Moment::from_unix_millis(1_000);
        assert_eq!(noon.after(Duration::from_secs(2)).unix_millis(), 3_000);
        assert_eq!(noon.after(Duration::from_secs(2)).since(noon), Duration::from_secs(2));
        assert_eq!(noon.since(noon.after(Duration::from_secs(2))), Duration::ZERO);
        assert_eq!(noon.after(Duration::MAX), Moment::from_unix_millis(u64::MAX));
    }
}
