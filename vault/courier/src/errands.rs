//! The link to the keeper on `errand.sock`: redeems tickets, reports outcomes, hears recalls.
//!
//! Invariant: an errand that came in is reported exactly once, whatever becomes of it.
//! Invariant: waiting redemptions and running calls are bounded; a redemption waits [`REDEEM_TIMEOUT`] at most.
//! Invariant: buffers that held an errand are wiped.
//! Invariant: without the keeper nothing runs: a lost link stops every call.
//!
//! Trusts: the keeper.

pub(crate) mod errand;
mod inbox;
mod report;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::errand::{FromCourier, Probed, Recall};
use strongroom_protocol::frame::{FrameError, MAX_ERRAND_BYTES, encode_into};
use strongroom_socket::{Reader, Writer};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, oneshot};
use zeroize::Zeroizing;

pub(crate) use self::errand::Errand;
use self::errand::Message;
use self::inbox::Inbox;
pub(crate) use self::report::Report;
use crate::timer::Timer;
use crate::wiped::wipe_all;

/// Most redemptions that wait for the keeper.
pub const MAX_WAITING: usize = 1024;
/// Most calls that run: the keeper's own bound.
pub const MAX_RUNNING: usize = 4096;
/// How long a redemption waits for the keeper.
pub const REDEEM_TIMEOUT: Duration = Duration::from_secs(5);

/// An errand to run, with the right to be told to stop and the duty to report.
pub(crate) struct Assignment {
    pub(crate) errand: Box<Errand>,
    pub(crate) recall: oneshot::Receiver<Refusal>,
    pub(crate) report: Report,
}

/// The courier's end of `errand.sock`.
pub struct Link {
    outbox: Mutex<Zeroizing<Vec<u8>>>,
    filled: Notify,
    waiting: Mutex<Waiting>,
    /// Until it is reported; without a sender once it was told to stop.
    running: Mutex<HashMap<CallId, Option<oneshot::Sender<Refusal>>>>,
    ended: Notify,
}

type Waiter = oneshot::Sender<Result<Assignment, Refusal>>;

#[derive(Default)]
struct Waiting {
    by_ticket: HashMap<Ticket, Waiter>,
    lost: bool,
}

/// Why the link is gone.
#[derive(Debug, thiserror::Error)]
pub enum LinkLost {
    /// The keeper closed it or the socket failed.
    #[error("the keeper is gone: {0}")]
    Io(#[from] io::Error),
    /// The keeper said what is no message.
    #[error("the keeper sent {0}")]
    Frame(#[from] FrameError),
    /// The keeper takes nothing.
    #[error("the keeper does not read")]
    Stalled,
}

impl Link {
    /// A link over which nothing was said yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            outbox: Mutex::default(),
            filled: Notify::new(),
            waiting: Mutex::default(),
            running: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Talks to the keeper until the link is lost, then stops every call. Probes are handed to `run_probe`.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        (reading, writing): (Reader, Writer),
        run_probe: impl Fn(Assignment),
    ) -> LinkLost {
        let lost = tokio::select! {
            lost = self.listen(Inbox::new(reading), &run_probe) => lost,
            lost = self.speak(writing) => lost,
        };
        self.stop_all();
        lost
    }

    /// Exchanges a ticket for its errand.
    ///
    /// # Errors
    /// The keeper's refusal, or ours when it does not answer.
    pub(crate) async fn redeem(
        &self,
        timer: &mut Timer,
        ticket: Ticket,
    ) -> Result<Assignment, Refusal> {
        let (waiter, answer) = oneshot::channel();
        self.wait_for(ticket, waiter)?;
        let _forget = Forget { link: self, ticket };
        self.push(&FromCourier::Redeem(ticket), Room::Bounded)?;
        match timer.limit(REDEEM_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::CourierUnavailable),
            Err(_) => Err(Refusal::TicketUnknown),
        }
    }

    /// Tells what a probe's provider answered; its report must be gone before.
    pub(crate) fn tell_probed(&self, call: CallId, text: String) {
        let probed = FromCourier::Probed(Box::new(Probed { call, text }));
        if self.push(&probed, Room::Any).is_err() {
            tracing::error!(%call, "a probe's answer fits no frame");
        }
    }

    /// Stops every call: the process is about to end.
    pub fn stop_all(&self) {
        let waiters = {
            let mut waiting = lock(&self.waiting);
            waiting.lost = true;
            std::mem::take(&mut waiting.by_ticket)
        };
        for (_, waiter) in waiters {
            drop(waiter.send(Err(Refusal::CourierUnavailable)));
        }
        self.recall(&Recall::All, Refusal::CourierUnavailable);
    }

    /// Waits until no call runs.
    pub async fn quiet(&self) {
        loop {
            let ended = self.ended.notified();
            if lock(&self.running).is_empty() {
                return;
            }
            ended.await;
        }
    }

    async fn listen(
        self: &Arc<Self>,
        mut inbox: Inbox,
        run_probe: &impl Fn(Assignment),
    ) -> LinkLost {
        loop {
            match inbox.next().await {
                Ok(Message::Errand { ticket, errand }) => {
                    let assignment = self.assign(errand);
                    let waiter = lock(&self.waiting).by_ticket.remove(&ticket);
                    // Nobody waits any more: dropping the assignment reports it.
                    if let Some(waiter) = waiter {
                        drop(waiter.send(assignment));
                    }
                }
                Ok(Message::Refused { ticket, refusal }) => {
                    let waiter = lock(&self.waiting).by_ticket.remove(&ticket);
                    if let Some(waiter) = waiter {
                        drop(waiter.send(Err(refusal)));
                    }
                }
                Ok(Message::Probe(errand)) => {
                    if let Ok(assignment) = self.assign(errand) {
                        run_probe(assignment);
                    }
                }
                Ok(Message::Recall(recall)) => self.recall(&recall, Refusal::Recalled),
                Err(lost) => return lost,
            }
        }
    }

    async fn speak(&self, mut writing: Writer) -> LinkLost {
        let mut timer = Timer::new();
        let mut frames = Zeroizing::<Vec<u8>>::default();
        loop {
            self.filled.notified().await;
            // Lets the lanes that are ready say what they have, so that it goes out in one write.
            tokio::task::yield_now().await;
            std::mem::swap(&mut frames, &mut *lock(&self.outbox));
            match timer.limit(WRITE_TIMEOUT, writing.write_all(&frames)).await {
                Ok(Ok(())) => wipe_all(&mut frames),
                Ok(Err(error)) => return error.into(),
                Err(_) => return LinkLost::Stalled,
            }
        }
    }

    fn assign(self: &Arc<Self>, errand: Box<Errand>) -> Result<Assignment, Refusal> {
        let call = errand.call;
        let mut report = Report::new(Arc::clone(self), &errand);
        let (stop, recall) = oneshot::channel();
        {
            let mut running = lock(&self.running);
            if running.len() < MAX_RUNNING {
                running.insert(call, Some(stop));
                drop(running);
                return Ok(Assignment { errand, recall, report });
            }
        }
        report.abort(Refusal::Busy);
        Err(Refusal::Busy)
    }

    fn recall(&self, recall: &Recall, reason: Refusal) {
        let mut running = lock(&self.running);
        let stops: Vec<_> = match recall {
            Recall::Calls(calls) => calls
                .iter()
                .filter_map(|call| running.get_mut(call).and_then(Option::take))
                .collect(),
            Recall::All => running.values_mut().filter_map(Option::take).collect(),
        };
        drop(running);
        for stop in stops {
            // A call that just ended needs no word.
            let _ = stop.send(reason);
        }
    }

    fn wait_for(&self, ticket: Ticket, waiter: Waiter) -> Result<(), Refusal> {
        let mut waiting = lock(&self.waiting);
        if waiting.lost {
            return Err(Refusal::CourierUnavailable);
        }
        if waiting.by_ticket.len() >= MAX_WAITING {
            return Err(Refusal::Busy);
        }
        match waiting.by_ticket.entry(ticket) {
            Entry::Occupied(_) => Err(Refusal::TicketUnknown),
            Entry::Vacant(place) => {
                place.insert(waiter);
                Ok(())
            }
        }
    }

    fn push<M: Serialize>(&self, message: &M, room: Room) -> Result<(), Refusal> {
        let mut outbox = lock(&self.outbox);
        if room == Room::Bounded && outbox.len() > MAX_OUTBOX_BYTES {
            return Err(Refusal::Busy);
        }
        encode_into(&mut outbox, message, MAX_ERRAND_BYTES).map_err(|_| Refusal::Internal)?;
        drop(outbox);
        self.filled.notify_one();
        Ok(())
    }
}

/// Whether a message may be turned away when the keeper does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Redemptions: they make more work.
    Bounded,
    /// Reports: there are no more of them than redemptions.
    Any,
}

/// Forgets a redemption that nobody waits for any more.
struct Forget<'a> {
    link: &'a Link,
    ticket: Ticket,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let waiter = lock(&self.link.waiting).by_ticket.remove(&self.ticket);
        drop(waiter);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unsent bytes at which redemptions are turned away: some ten thousand.
const MAX_OUTBOX_BYTES: usize = 256 * 1024;
/// The keeper reads at once or hangs.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
