//! Group commit: one thread that writes, for many that wait.
//!
//! Invariant: the order is intent (`Witness::before`) → store → `Witness::after` → replies, and
//! nothing is answered before all of it is done.
//! Invariant: each reply is called exactly once, even if the writer ends.
//! Invariant: a batch whose expectation fails is refused alone; a failure after the intent poisons the store.
//! Invariant: work at rest sees the store between two groups: all that was submitted before it, and nothing after.

mod merge;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::batch::{Batch, Change};
use crate::contract::{Store, StoreError};
use crate::record::{Key, Value};
use merge::{Admission, Merge};

/// Something that is kept in step with the store, such as a manifest beside it.
///
/// Both calls run on the writer's thread, one group at a time, and must be durable on return.
pub trait Witness: Send + 'static {
    /// Records the intent to apply `changes`: each key once, in order, none without effect.
    /// A crash before the next call leaves either the old or the new records in the store.
    /// Answers a record of its own that becomes durable with the group, such as a commit number.
    ///
    /// # Errors
    /// Refuses the whole group; the store is not touched and the next group is asked again. A
    /// witness that no longer knows its own state keeps refusing.
    fn before(&mut self, changes: &[Change]) -> Result<Option<(Key, Value)>, WitnessError>;

    /// Records that the changes of the last `before` are durable in the store.
    ///
    /// # Errors
    /// Poisons the store: the two may no longer agree.
    fn after(&mut self) -> Result<(), WitnessError>;
}

/// No witness: the store alone.
impl Witness for () {
    fn before(&mut self, _changes: &[Change]) -> Result<Option<(Key, Value)>, WitnessError> {
        Ok(None)
    }

    fn after(&mut self) -> Result<(), WitnessError> {
        Ok(())
    }
}

/// Why a witness said no: its own error, which this crate does not interpret.
#[derive(Clone)]
pub struct WitnessError(Arc<dyn Error + Send + Sync>);

impl WitnessError {
    /// Carries `cause` to those whose batches are refused.
    pub fn new(cause: impl Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(cause))
    }
}

impl fmt::Debug for WitnessError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl fmt::Display for WitnessError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl Error for WitnessError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// The one writer of a store. Dropping it writes what is queued and waits for that.
pub struct GroupCommit {
    queue: Option<SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl GroupCommit {
    /// Starts the writer's thread. From now on nobody else may commit to `store`: a foreign write
    /// is noticed and poisons it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when no thread can be made.
    pub fn start<W: Witness>(store: Arc<dyn Store>, witness: W) -> Result<Self, StoreError> {
        let (queue, requests) = mpsc::sync_channel(QUEUE_BATCHES);
        let writer = Writer { store, witness, requests, carried: None };
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(StoreError::io("start the writer"))?;
        Ok(Self { queue: Some(queue), writer: Some(writer) })
    }

    /// Queues `batch` without waiting; `reply` hears once what became of it, on the writer's thread
    /// (so it must not block), or at once if the batch is too large or the queue is full.
    pub fn submit(
        &self,
        batch: Batch,
        reply: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let reply = Reply(Some(Box::new(reply)));
        if let Err(limit) = batch.leaves_room_for_mark() {
            return reply.send(Err(limit.into()));
        }
        let Some(queue) = &self.queue else { return reply.send(Err(StoreError::Stopped)) };
        match queue.try_send(Request::Write(Write { batch, reply })) {
            Ok(()) => {}
            Err(TrySendError::Full(request)) => request.refuse(StoreError::Busy),
            Err(TrySendError::Disconnected(request)) => request.refuse(StoreError::Stopped),
        }
    }

    /// Runs `work` once on the writer's thread, after everything that was submitted before it is settled and before
    /// anything else is begun: what it reads is one commit's state, and the witness stands at that commit. No write is
    /// settled meanwhile, so it must end well within [`COMMIT_PATIENCE`]. It answers by its own means; if the writer
    /// ends before its turn it is dropped unrun.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too much is waiting, [`StoreError::Stopped`]; `work` is dropped unrun.
    pub fn at_rest(
        &self,
        work: impl FnOnce(&dyn Store) + Send + 'static,
    ) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue.try_send(Request::Rest(Box::new(work))).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Stopped,
        })
    }

    /// Commits `batch` and waits for it, at most [`COMMIT_PATIENCE`].
    ///
    /// # Errors
    /// As [`Store::commit`], and [`StoreError::Refused`], [`StoreError::Busy`],
    /// [`StoreError::Stopped`], [`StoreError::TimedOut`].
    pub fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let (answer, outcome) = mpsc::sync_channel(1);
        // Whoever stopped waiting has had its answer already.
        self.submit(batch, move |result| drop(answer.try_send(result)));
        outcome.recv_timeout(COMMIT_PATIENCE).unwrap_or(Err(StoreError::TimedOut))
    }
}

impl fmt::Debug for GroupCommit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GroupCommit")
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has answered `Stopped` to everyone: nothing is left to say.
            drop(writer.join());
        }
    }
}

/// What waits for the writer, in the order in which it came.
enum Request {
    Write(Write),
    Rest(Work),
}

impl Request {
    fn refuse(self, error: StoreError) {
        match self {
            Self::Write(write) => write.reply.send(Err(error)),
            Self::Rest(work) => drop(work),
        }
    }
}

struct Write {
    batch: Batch,
    reply: Reply,
}

type Work = Box<dyn FnOnce(&dyn Store) + Send>;

/// An answer owed: given by `send`, or `Stopped` when it is dropped.
struct Reply(Option<Answer>);

type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Reply {
    fn send(mut self, result: Result<(), StoreError>) {
        if let Some(reply) = self.0.take() {
            reply(result);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(StoreError::Stopped));
        }
    }
}

struct Writer<W> {
    store: Arc<dyn Store>,
    witness: W,
    requests: Receiver<Request>,
    /// The request that had no place in the last group.
    carried: Option<Request>,
}

impl<W: Witness> Writer<W> {
    fn run(mut self) {
        while let Some(first) = self.carried.take().or_else(|| self.requests.recv().ok()) {
            match first {
                Request::Write(first) => self.settle(first),
                Request::Rest(work) => work(&*self.store),
            }
        }
    }

    /// Writes one group and answers it. Refusals wait for the group too: they may rest on a batch
    /// of the same group that is not durable yet.
    fn settle(&mut self, first: Write) {
        let store = Arc::clone(&self.store);
        let mut merge = Merge::new(&*store);
        let mut waiting = Vec::new();
        let mut next = Some(Request::Write(first));
        while let Some(request) = next {
            let Write { batch, reply } = match request {
                Request::Write(write) => write,
                Request::Rest(_) => {
                    self.carried = Some(request);
                    break;
                }
            };
            match merge.admit(batch) {
                Admission::Joined => waiting.push((reply, Ok(()))),
                Admission::Refused(error) => waiting.push((reply, Err(error))),
                Admission::Full(batch) => {
                    self.carried = Some(Request::Write(Write { batch, reply }));
                    break;
                }
            }
            if waiting.len() >= QUEUE_BATCHES {
                break;
            }
            next = self.requests.try_recv().ok();
        }
        let written = self.write(&merge.into_changes());
        for (reply, judged) in waiting {
            reply.send(written.clone().and(judged));
        }
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mark = self.witness.before(changes).map_err(StoreError::Refused)?;
        let marked =
            mark.into_iter().fold(Batch::new(), |batch, (key, value)| batch.put(key, value));
        let batch = changes.iter().fold(marked, |batch, change| {
            let batch = batch.expect(change.key.clone(), change.before.clone());
            match &change.after {
                Some(after) => batch.put(change.key.clone(), after.clone()),
                None => batch.delete(change.key.clone()),
            }
        });
        // From here an intent stands: whatever fails leaves store and witness in doubt.
        self.store.commit(batch).inspect_err(|_| self.store.poison())?;
        self.witness.after().map_err(|_| {
            self.store.poison();
            StoreError::Poisoned
        })
    }
}

/// The most batches and works at rest that wait; more are refused as busy.
pub const QUEUE_BATCHES: usize = 256;

/// The longest that [`GroupCommit::commit`] waits: a disk that takes longer is a fault.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
