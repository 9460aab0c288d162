//! One timer for a connection: deadlines move with every request, and hardly ever pass.
//!
//! Invariant: never fires before the deadline that was set last. Moving a deadline back costs no timer operation: the
//! timer fires at the older one, looks, and sleeps on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Duration, Instant, Sleep, sleep_until};

/// The timer.
pub(super) struct Patience {
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Patience {
    pub(super) fn new(wait: Duration) -> Self {
        let deadline = Instant::now() + wait;
        Self { timer: Box::pin(sleep_until(deadline)), deadline }
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
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fires_after(patience: &mut Patience) -> Duration {
        let begun = Instant::now();
        std::future::poll_fn(|cx| patience.poll(cx)).await;
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
