//! How often each operator failed to unseal, and how long they wait before they may try again.
//!
//! Invariant: one operator's failures never make another one wait.
//! Invariant: at most [`MAX_OPERATORS`] are remembered; time is a parameter.

use std::time::{Duration, Instant};

use super::attempt::Bringer;

/// Failures that cost nothing: people mistype.
const FREE: u32 = 5;
/// After the free ones, the wait doubles from this.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// And ends here.
const LAST_WAIT: Duration = Duration::from_mins(1);
/// Who was quiet for so long begins anew.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// More Unix users than that are not operators of one machine.
const MAX_OPERATORS: usize = 64;

/// The failures since the vault was sealed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    total: u64,
    by: Vec<Failing>,
}

#[derive(Debug)]
struct Failing {
    who: Bringer,
    times: u32,
    last: Instant,
}

impl Failures {
    /// All failures, of everybody.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How long `who` must still wait.
    pub(super) fn wait(&self, who: Bringer, now: Instant) -> Option<Duration> {
        let failing = self.by.iter().find(|one| one.who == who)?;
        let since = now.saturating_duration_since(failing.last);
        Some(failing.wait().saturating_sub(since)).filter(|left| !left.is_zero())
    }

    /// Counts a failure.
    pub(super) fn count(&mut self, who: Bringer, now: Instant) {
        self.total = self.total.saturating_add(1);
        self.by.retain(|one| now.saturating_duration_since(one.last) < FORGET_AFTER);
        if let Some(failing) = self.by.iter_mut().find(|one| one.who == who) {
            failing.times = failing.times.saturating_add(1);
            failing.last = now;
            return;
        }
        if self.by.len() >= MAX_OPERATORS
            && let Some(oldest) = (0..).zip(&self.by).min_by_key(|(_, one)| one.last)
        {
            let (at, _): (usize, _) = oldest;
            self.by.swap_remove(at);
        }
        self.by.push(Failing { who, times: 1, last: now });
    }
}

impl Failing {
    fn wait(&self) -> Duration {
        let Some(paid) = self.times.checked_sub(FREE) else { return Duration::ZERO };
        let factor = 2_u32.saturating_pow(paid.min(16));
        FIRST_WAIT.saturating_mul(factor).min(LAST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Bringer = Bringer(1000);
    const BOB: Bringer = Bringer(1001);

    // Guards against guessing at the socket. Red when `wait` answers nothing.
    #[test]
    fn who_keeps_failing_waits_ever_longer_and_nobody_else_does() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        for _ in 1..FREE {
            failures.count(ALICE, now);
            assert_eq!(failures.wait(ALICE, now), None);
        }
        let mut waits = Vec::new();
        for _ in 0..9 {
            failures.count(ALICE, now);
            let wait = failures.wait(ALICE, now).unwrap();
            waits.push(wait.as_secs());
            assert_eq!(failures.wait(BOB, now), None);
            now += wait;
            assert_eq!(failures.wait(ALICE, now), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(failures.total(), 13);
        failures.count(ALICE, now + FORGET_AFTER);
        assert_eq!(failures.wait(ALICE, now + FORGET_AFTER), None);
    }

    #[test]
    fn a_crowd_of_failing_users_takes_no_more_than_its_room() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for user in 0..1_000 {
            failures.count(Bringer(user), now);
        }
        assert_eq!(failures.by.len(), MAX_OPERATORS);
        assert_eq!(failures.total(), 1_000);
    }
}
