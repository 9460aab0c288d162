//! One timer for a connection: deadlines move with every request, and hardly ever pass.
//!
//! Invariant: never fires before the deadline that was set last. Moving a deadline costs no timer operation: the timer is
//! set for [`STEP`] at most, fires, looks, and sleeps on; only a deadline before that moves it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// How far ahead the timer is set.
const STEP: Duration = Duration::from_secs(30);

/// The timer.
pub(super) struct Patience {
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Patience {
    pub(super) fn new(wait: Duration) -> Self {
        let now = Instant::now();
        Self { timer: Box::pin(sleep_until(now + wait.min(STEP))), deadline: now + wait }
    }

    /// Waits so long from now on.
    pub(super) fn set(&mut self, wait: Duration) {
        self.deadline = Instant::now() + wait;
        if self.deadline < self.timer.deadline() {
            self.timer.as_mut().reset(self.deadline);
        }
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            std::task::ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.deadline.min(now + STEP));
        }
    }

    /// Waits until the deadline has passed.
    pub(super) async fn over(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fires_after(patience: &mut Patience) -> Duration {
        let begun = Instant::now();
        patience.over().await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_deadline_counts_whether_later_or_earlier() {
        let second = Duration::from_secs(1);
        let near = |took: Duration, due: Duration| took >= due && took < due + second / 10;
        let mut patience = Patience::new(10 * second);
        patience.set(75 * second);
        assert!(near(fires_after(&mut patience).await, 75 * second));
        patience.set(20 * second);
        patience.set(2 * second);
        assert!(near(fires_after(&mut patience).await, 2 * second));
        patience.set(second);
        patience.set(30 * second);
        assert!(near(fires_after(&mut patience).await, 30 * second));
    }
}
