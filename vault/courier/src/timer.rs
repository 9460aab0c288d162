//! One timer for all waits of a lane, which come one after the other.
//!
//! Invariant: no wait outlasts its patience by more than the runtime's millisecond; a timer that fires for an earlier wait is set
//! anew and ends nothing.
//!
//! A call waits half a dozen times and hardly ever long. A timer for each wait would be put among the runtime's and be taken out
//! again; this one is set for [`STEP`] at most, fires, looks, and is set anew. Only a wait that ends before that moves it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Ends waits.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
}

/// A wait took longer than its patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Timer {
    /// Not set yet.
    pub(crate) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())) }
    }

    /// What `future` gives, unless it takes longer than `patience`.
    pub(crate) async fn limit<F: Future>(
        &mut self,
        patience: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut deadline = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            // Most waits are over before the clock is looked at.
            let deadline = *deadline.get_or_insert_with(|| after(patience));
            if self.sleep.deadline() > deadline {
                self.sleep.as_mut().reset(deadline);
            }
            loop {
                ready!(self.sleep.as_mut().poll(cx));
                let now = Instant::now();
                if now >= deadline {
                    return Poll::Ready(Err(Elapsed));
                }
                // It was set for an earlier wait, or for a step of this one.
                self.sleep.as_mut().reset(deadline.min(now + STEP));
            }
        })
        .await
    }
}

fn after(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or_else(|| now + FAR)
}

/// How far ahead the timer is set: no wait of a usual call is shorter.
const STEP: Duration = Duration::from_secs(5);
/// Stands for what no clock can hold.
const FAR: Duration = Duration::from_hours(24 * 365);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    // The clock stands still between the waits: what the machine does besides is no part of a wait.
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_mins(1);

    async fn took(timer: &mut Timer, patience: Duration) -> Duration {
        let begun = Instant::now();
        assert_eq!(timer.limit(patience, pending::<()>()).await, Err(Elapsed));
        begun.elapsed()
    }

    /// A wait that ends by itself, after it has been pending.
    async fn brief(timer: &mut Timer, patience: Duration) {
        assert_eq!(timer.limit(patience, tokio::time::sleep(SHORT / 10)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_own_deadline_whatever_the_timer_was_set_for() {
        let mut timer = Timer::new();
        for before in [SHORT / 2, SHORT, LONG] {
            brief(&mut timer, before).await;
            let took = took(&mut timer, SHORT).await;
            assert!(took >= SHORT && took < SHORT * 2, "{took:?} after {before:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_fires_for_an_earlier_wait_ends_nothing() {
        let mut timer = Timer::new();
        brief(&mut timer, SHORT).await;
        let slow = tokio::time::sleep(SHORT * 5);
        assert_eq!(timer.limit(LONG, slow).await, Ok(()));
        assert_eq!(timer.limit(Duration::MAX, tokio::time::sleep(SHORT)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_takes_all_its_time_in_steps() {
        let mut timer = Timer::new();
        for patience in [LONG, STEP, STEP * 3 + SHORT] {
            let took = took(&mut timer, patience).await;
            assert!(took >= patience && took < patience + SHORT, "{took:?} of {patience:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_fires_while_nobody_waits_is_set_anew() {
        let mut timer = Timer::new();
        brief(&mut timer, SHORT).await;
        tokio::time::sleep(SHORT * 2).await;
        assert!(took(&mut timer, SHORT).await >= SHORT);
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_set_while_it_fires_early_enough() {
        let mut timer = Timer::new();
        assert_eq!(timer.limit(LONG, tokio::time::sleep(SHORT)).await, Ok(()));
        let set = timer.sleep.deadline();
        brief(&mut timer, LONG * 2).await;
        brief(&mut timer, STEP).await;
        assert_eq!(timer.sleep.deadline(), set);
        assert!(set > Instant::now() + STEP / 2);
    }
}
