//! Token buckets: how many calls may begin.
//!
//! Invariant: counted in the keeper, where the gateway cannot reset it.

use std::time::{Duration, Instant};

/// Calls that may begin now; refills evenly to its size within a minute.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    per_minute: u32,
    /// In thousandths of a call.
    level: u64,
    filled: Instant,
}

/// One call in the bucket's unit.
const CALL: u64 = 1000;
const MINUTE_MILLIS: u64 = 60_000;

impl Bucket {
    /// A full bucket.
    pub fn full(per_minute: u32, now: Instant) -> Self {
        Self { per_minute, level: u64::from(per_minute).saturating_mul(CALL), filled: now }
    }

    /// Takes one call out.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let rate = u64::from(self.per_minute).saturating_mul(CALL);
        let elapsed = u64::try_from(now.saturating_duration_since(self.filled).as_millis())
            .unwrap_or(u64::MAX)
            .min(MINUTE_MILLIS);
        let gained = rate.saturating_mul(elapsed).checked_div(MINUTE_MILLIS).unwrap_or(0);
        if gained > 0 {
            self.level = self.level.saturating_add(gained).min(rate);
            self.filled = now;
        }
        if let Some(rest) = self.level.checked_sub(CALL) {
            self.level = rest;
            return Ok(());
        }
        let missing = CALL.saturating_sub(self.level).saturating_mul(MINUTE_MILLIS);
        let wait = missing.checked_div(rate).unwrap_or(MINUTE_MILLIS).saturating_add(1);
        Err(Duration::from_millis(wait))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Bucket;

    #[test]
    fn a_bucket_gives_its_size_and_then_refills_evenly() {
        let start = Instant::now();
        let mut bucket = Bucket::full(60, start);
        for _ in 0..60 {
            assert!(bucket.take(start).is_ok());
        }
        let wait = bucket.take(start).unwrap_err();
        assert!(wait <= Duration::from_millis(1001), "{wait:?}");
        assert!(bucket.take(start + Duration::from_millis(999)).is_err());
        assert!(bucket.take(start + Duration::from_millis(1999)).is_ok());
        assert!(bucket.take(start + Duration::from_hours(1)).is_ok());
    }

    #[test]
    fn a_bucket_of_no_calls_gives_none() {
        let now = Instant::now();
        assert!(Bucket::full(0, now).take(now + Duration::from_hours(1)).is_err());
    }
}
