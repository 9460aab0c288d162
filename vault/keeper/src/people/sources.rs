//! Failures of one network, as the gateway tells it: it may restrict, and opens nothing.
//!
//! Invariant: the table is bounded; where it is full, whoever failed least is forgotten.
//! What it counts is in memory alone: a restart of the keeper forgets it, and the counts of persons stay.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Most networks that are remembered.
const MAX_NETWORKS: usize = 4096;
/// Failures that a network has, and within how long.
const LIMITS: [(u32, Duration); 2] = [(10, Duration::from_mins(1)), (100, Duration::from_hours(1))];

/// Networks that failed.
#[derive(Default)]
pub struct Sources {
    of: HashMap<IpAddr, [Window; 2]>,
}

/// Failures since a moment.
#[derive(Clone, Copy)]
struct Window {
    begun: Instant,
    failures: u32,
}

impl Sources {
    /// How long a network must wait; `None` when it may go on.
    pub(super) fn rest(&self, network: IpAddr, now: Instant) -> Option<Duration> {
        let windows = self.of.get(&network)?;
        let rests = windows.iter().zip(LIMITS).filter_map(|(window, (most, length))| {
            let left = length.checked_sub(now.saturating_duration_since(window.begun))?;
            (window.failures >= most && !left.is_zero()).then_some(left)
        });
        rests.max()
    }

    /// Counts a failure.
    pub(super) fn failed(&mut self, network: IpAddr, now: Instant) {
        if !self.of.contains_key(&network) && self.of.len() >= MAX_NETWORKS {
            self.make_room(now);
        }
        let fresh = Window { begun: now, failures: 0 };
        let windows = self.of.entry(network).or_insert([fresh; 2]);
        for (window, (_, length)) in windows.iter_mut().zip(LIMITS) {
            if now.saturating_duration_since(window.begun) >= length {
                *window = fresh;
            }
            window.failures = window.failures.saturating_add(1);
        }
    }

    fn make_room(&mut self, now: Instant) {
        let [_, (_, longest)] = LIMITS;
        self.of.retain(|_, [_, hour]| now.saturating_duration_since(hour.begun) < longest);
        if self.of.len() < MAX_NETWORKS {
            return;
        }
        let least = self.of.iter().min_by_key(|(_, [_, hour])| (hour.failures, hour.begun));
        if let Some(network) = least.map(|(network, _)| *network) {
            self.of.remove(&network);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use super::{MAX_NETWORKS, Sources};

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn ten_failures_a_minute_and_a_hundred_an_hour_are_enough() {
        let (start, mut sources) = (Instant::now(), Sources::default());
        for _ in 0..10 {
            assert_eq!(sources.rest(ONE, start), None);
            sources.failed(ONE, start);
        }
        assert_eq!(sources.rest(ONE, start), Some(Duration::from_mins(1)));
        let other = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(sources.rest(other, start), None);
        let mut now = start;
        for _ in 0..9 {
            now += Duration::from_mins(1);
            assert_eq!(sources.rest(ONE, now), None);
            (0..10).for_each(|_| sources.failed(ONE, now));
        }
        now += Duration::from_mins(1);
        assert_eq!(sources.rest(ONE, now), Some(Duration::from_mins(50)));
        assert_eq!(sources.rest(ONE, start + Duration::from_hours(1)), None);
    }

    // Red when the table grows with whoever comes, or forgets who failed most.
    #[test]
    fn a_flood_of_networks_is_bounded_and_hides_nobody_who_failed_often() {
        let (now, mut sources) = (Instant::now(), Sources::default());
        (0..10).for_each(|_| sources.failed(ONE, now));
        for number in 0..u32::try_from(MAX_NETWORKS).unwrap() + 200 {
            sources.failed(IpAddr::V4(Ipv4Addr::from(number + 0x0a00_0000)), now);
        }
        assert_eq!(sources.of.len(), MAX_NETWORKS);
        assert!(sources.rest(ONE, now).is_some());
    }
}
