//! What was tried in vain with one person's password, and how long it rests after that.
//!
//! Invariant: while it rests nothing is compared and nothing is counted, so that nobody is locked out faster than the ladder.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_policy::moment::Moment;

/// Failures without a rest.
const FREE: u32 = 3;
/// The rests after the next ones; then each is twice the one before.
const FIRST_RESTS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_mins(15);
/// As many in a row disable the password (NIST SP 800-63B-4, 3.2.2).
pub(super) const DISABLED_AT: u32 = 100;

/// Failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriesRecord {
    /// How many.
    pub failures: u32,
    /// When the last one was.
    pub last: Moment,
}

/// Whether a password may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trial {
    /// It may.
    Open,
    /// Not yet.
    Rests,
    /// Only an invitation helps.
    Disabled,
}

impl TriesRecord {
    /// None so far.
    pub(super) const fn none() -> Self {
        Self { failures: 0, last: Moment::from_unix_millis(0) }
    }

    /// One more.
    pub(super) const fn failed(self, now: Moment) -> Self {
        Self { failures: self.failures.saturating_add(1), last: now }
    }

    /// Whether it may be tried now.
    pub(super) fn trial(self, now: Moment) -> Trial {
        if self.failures >= DISABLED_AT {
            return Trial::Disabled;
        }
        // A clock that was set back makes the rest longer, never shorter.
        if now.since(self.last) < rest_after(self.failures) { Trial::Rests } else { Trial::Open }
    }
}

fn rest_after(failures: u32) -> Duration {
    let Some(step) = failures.checked_sub(FREE).and_then(|over| over.checked_sub(1)) else {
        return Duration::ZERO;
    };
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    let Some(beyond) = step.checked_sub(FIRST_RESTS.len()) else {
        return FIRST_RESTS.get(step).copied().unwrap_or(LONGEST_REST);
    };
    let factor = 2_u32.checked_pow(u32::try_from(beyond).unwrap_or(u32::MAX).saturating_add(1));
    let last = FIRST_RESTS.last().copied().unwrap_or(LONGEST_REST);
    factor.and_then(|factor| last.checked_mul(factor)).unwrap_or(LONGEST_REST).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use strongroom_policy::moment::Moment;

    use super::{DISABLED_AT, Trial, TriesRecord, rest_after};

    #[test]
    fn the_ladder_is_the_one_that_is_promised() {
        let rests: Vec<u64> = (0..=16).map(|failures| rest_after(failures).as_secs()).collect();
        assert_eq!(rests, [0, 0, 0, 0, 1, 3, 5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]);
        assert_eq!(rest_after(u32::MAX), Duration::from_mins(15));
    }

    // Red when `failed` counts while it rests, or the rest is measured from the first failure.
    #[test]
    fn a_password_rests_after_the_last_failure_and_ends_at_a_hundred() {
        let start = Moment::from_unix_millis(1_000_000);
        let mut tries = TriesRecord::none();
        for _ in 0..3 {
            assert_eq!(tries.trial(start), Trial::Open);
            tries = tries.failed(start);
        }
        assert_eq!(tries.trial(start), Trial::Open);
        tries = tries.failed(start);
        assert_eq!(tries.trial(start), Trial::Rests);
        assert_eq!(tries.trial(start.after(Duration::from_millis(999))), Trial::Rests);
        assert_eq!(tries.trial(start.after(Duration::from_secs(1))), Trial::Open);
        // A clock that was set back opens nothing.
        assert_eq!(tries.trial(Moment::from_unix_millis(0)), Trial::Rests);
        let late = start.after(Duration::from_hours(100));
        tries = TriesRecord { failures: DISABLED_AT - 1, last: start };
        assert_eq!(tries.trial(late), Trial::Open);
        assert_eq!(tries.failed(start).trial(late), Trial::Disabled);
    }
}
