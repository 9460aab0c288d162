//! The lanes to the couriers: connections made at the start, lent last-in-first-out, one exchange at a time.
//!
//! Invariant: a lane goes back only when both terminal frames of its exchange have passed.
//! Invariant: who waits for a lane is bounded in number and in time.
//! Invariant: the courier of operator-defined providers takes no call of others along: without it theirs are refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_policy::provider::Origin;
use strongroom_policy::refusal::Refusal;
use strongroom_socket::{Reader, Writer};
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::gateway::Broken;
use crate::inbox::Inbox;

/// Most callers that wait for a lane.
const MAX_WAITERS: usize = 1024;
/// How long one waits: a ticket lives 10 s.
const LANE_WAIT: Duration = Duration::from_secs(5);

/// The lanes to each courier.
pub struct Couriers {
    /// For calls to built-in providers.
    pub built_in: Lanes,
    /// For calls to operator-defined ones.
    pub operator: Lanes,
}

impl Couriers {
    /// The lanes for calls to providers of this origin.
    pub fn of(&self, origin: Origin) -> &Lanes {
        match origin {
            Origin::BuiltIn => &self.built_in,
            Origin::Operator => &self.operator,
        }
    }
}

/// The pool of lanes to one courier.
#[derive(Clone)]
pub struct Lanes {
    pool: Arc<Pool>,
}

/// One lane at rest: its two directions, the incoming one with its buffer.
pub(crate) struct Lane {
    pub(crate) inbox: Inbox,
    pub(crate) writer: Writer,
}

/// A lane that is lent; untouched, it goes back when dropped.
pub(crate) struct HeldLane {
    lane: Option<Lane>,
    pool: Arc<Pool>,
}

pub(crate) struct Pool {
    idle: Mutex<Vec<Lane>>,
    free: Semaphore,
    waiters: AtomicUsize,
    alive: AtomicUsize,
    opened: usize,
    broken: Option<mpsc::Sender<Broken>>,
}

impl Lanes {
    /// Takes over the connections. The last one is the sentinel: never lent, its end says that the courier is gone; without any it
    /// is gone already. `broken` is told when the process cannot go on; without it nothing is said, and calls are refused.
    pub fn new(mut streams: Vec<(Reader, Writer)>, broken: Option<mpsc::Sender<Broken>>) -> Self {
        let sentinel = streams.pop();
        let opened = streams.len();
        let idle = streams.into_iter().map(Lane::new).collect();
        let pool = Arc::new(Pool {
            idle: Mutex::new(idle),
            free: Semaphore::new(opened),
            waiters: AtomicUsize::new(0),
            alive: AtomicUsize::new(opened),
            opened,
            broken,
        });
        match sentinel {
            Some(sentinel) => drop(tokio::spawn(watch(sentinel, Arc::clone(&pool)))),
            None => pool.free.close(),
        }
        Self { pool }
    }

    /// How many lanes are idle.
    pub fn idle(&self) -> usize {
        if self.pool.free.is_closed() { 0 } else { self.pool.free.available_permits() }
    }

    /// How many lanes are alive, idle or not.
    pub fn alive(&self) -> usize {
        if self.pool.free.is_closed() { 0 } else { self.pool.alive.load(Ordering::Relaxed) }
    }

    /// Borrows a lane.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when too many wait, or none came free in time; [`Refusal::CourierUnavailable`] when the courier is gone.
    pub(crate) async fn borrow(&self) -> Result<HeldLane, Refusal> {
        if let Ok(permit) = self.pool.free.try_acquire() {
            permit.forget();
        } else {
            let _waiter = Waiter::join(&self.pool.waiters)?;
            match timeout(LANE_WAIT, self.pool.free.acquire()).await {
                Ok(Ok(permit)) => permit.forget(),
                Ok(Err(_)) => return Err(Refusal::CourierUnavailable),
                Err(_) => return Err(Refusal::Busy),
            }
        }
        let lane = self.pool.idle().pop();
        Ok(HeldLane { lane: Some(lane.ok_or(Refusal::Internal)?), pool: Arc::clone(&self.pool) })
    }
}

impl HeldLane {
    /// Begins an exchange: from here on the lane goes back only by [`Pool::give_back`].
    pub(crate) fn begin(mut self) -> Option<(Lane, Arc<Pool>)> {
        self.lane.take().map(|lane| (lane, Arc::clone(&self.pool)))
    }
}

impl Drop for HeldLane {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.pool.give_back(lane);
        }
    }
}

impl Lane {
    fn new((reader, writer): (Reader, Writer)) -> Self {
        Self { inbox: Inbox::new(reader), writer }
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back a lane whose exchange has ended on both sides.
    pub(crate) fn give_back(&self, mut lane: Lane) {
        if !lane.inbox.rest() {
            // Bytes after the courier's terminal frame: this lane is out of step.
            drop(lane);
            self.lose();
            return;
        }
        self.idle().push(lane);
        self.free.add_permits(1);
    }

    /// Counts a lane that had to be closed. Too few left, and only a new process can open others.
    pub(crate) fn lose(&self) {
        let left = self.alive.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        tracing::warn!(left, "a lane to the courier was closed");
        match &self.broken {
            Some(broken) if left * 4 < self.opened * 3 => drop(broken.try_send(Broken::Lanes)),
            None if left == 0 => self.free.close(),
            Some(_) | None => {}
        }
    }
}

struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn join(waiters: &'a AtomicUsize) -> Result<Self, Refusal> {
        let waiter = Self(waiters);
        if waiters.fetch_add(1, Ordering::Relaxed) >= MAX_WAITERS {
            return Err(Refusal::Busy);
        }
        Ok(waiter)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn watch((mut sentinel, _open): (Reader, Writer), pool: Arc<Pool>) {
    // The courier never writes without a question, so anything that comes is the end.
    drop(sentinel.read_u8().await);
    tracing::error!("a courier is gone");
    pool.free.close();
    if let Some(broken) = &pool.broken {
        let _ = broken.send(Broken::Courier).await;
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::refusal::Refusal;
    use strongroom_socket::split_again;
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;

    use super::Lanes;
    use crate::gateway::Broken;

    fn lanes(count: usize) -> (Lanes, Vec<UnixStream>, mpsc::Receiver<Broken>) {
        let (here, there): (Vec<_>, _) = (0..=count).map(|_| UnixStream::pair().unwrap()).unzip();
        let (broken, told) = mpsc::channel(4);
        let here = here.into_iter().map(|stream| split_again(stream).unwrap()).collect();
        (Lanes::new(here, Some(broken)), there, told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_is_lent_once_and_comes_back_untouched() {
        let (lanes, _courier, _told) = lanes(1);
        let held = lanes.borrow().await.unwrap();
        assert_eq!(lanes.borrow().await.map(|_| ()).unwrap_err(), Refusal::Busy);
        drop(held);
        assert!(lanes.borrow().await.is_ok());
    }

    #[tokio::test]
    async fn losing_a_quarter_of_the_lanes_is_told() {
        let (lanes, _courier, mut told) = lanes(4);
        for _ in 0..2 {
            let (lane, pool) = lanes.borrow().await.unwrap().begin().unwrap();
            drop(lane);
            pool.lose();
        }
        assert_eq!(told.recv().await, Some(Broken::Lanes));
        assert_eq!(lanes.alive(), 2);
    }

    // Red when whoever waits for a lane of a courier that is gone waits on.
    #[tokio::test(start_paused = true)]
    async fn without_its_courier_calls_are_refused_and_nobody_waits() {
        let (here, there) = UnixStream::pair().unwrap();
        let (sentinel, far) = UnixStream::pair().unwrap();
        let streams = [here, sentinel].map(|stream| split_again(stream).unwrap());
        let lanes = Lanes::new(Vec::from(streams), None);
        let held = lanes.borrow().await.unwrap();
        let waiting = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.borrow().await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        drop((there, far));
        assert_eq!(waiting.await.unwrap(), Err(Refusal::CourierUnavailable));
        drop(held);
        for gone in [lanes, Lanes::new(Vec::new(), None)] {
            assert_eq!(gone.borrow().await.map(|_| ()), Err(Refusal::CourierUnavailable));
            assert_eq!((gone.alive(), gone.idle()), (0, 0));
        }
    }

    #[tokio::test]
    async fn the_courier_s_end_is_told_at_once() {
        let (_lanes, courier, mut told) = lanes(2);
        drop(courier);
        assert_eq!(told.recv().await, Some(Broken::Courier));
    }
}
