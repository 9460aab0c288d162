//! The threads that write the journal and hand it to the disk, as the keeper holds them.
//!
//! Invariant: what was taken is written, in its order, before the threads end; and on the disk under a checkpoint when they have.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::keeping::{Keeping, Published};
use super::lines::Lines;
use super::pen::Pen;
use super::shared::Shared;
use super::{JournalError, keeping::Signed};

/// When an entry is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// At most [`super::SYNC_EVERY`] after it was answered.
    #[default]
    Group,
    /// Before it is answered.
    Strict,
}

/// What became of lines, and their buffer for the next ones.
pub(super) type Written = (Lines, Result<(), JournalError>);

/// Answers when lines are in the file; or why they never will be.
pub(super) type Outcome = Result<oneshot::Receiver<Written>, JournalError>;

/// Lines that are written at once, and answered at once.
pub(super) struct Group {
    pub(super) lines: Lines,
    pub(super) written: oneshot::Sender<Written>,
}

/// The side of the writer that the keeper holds.
pub(super) struct Writer {
    queue: Mutex<Option<SyncSender<Group>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
    published: Arc<Published>,
}

/// Most groups that wait: one is under way at a time, but for the opening and the closing.
const QUEUE_GROUPS: usize = 16;

impl Writer {
    pub(super) fn start(
        pen: Pen,
        keeping: Keeping,
        (shared, published): (Arc<Shared>, Arc<Published>),
    ) -> Result<Self, JournalError> {
        let (queue, groups) = sync_channel(QUEUE_GROUPS);
        let ending = Arc::clone(&shared);
        let threads = vec![
            spawn("journal", move || {
                write_groups(pen, &groups);
                ending.end();
            })?,
            spawn("journal-keep", move || keeping.run())?,
        ];
        Ok(Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads), shared, published })
    }

    /// A writer whose thread is played by a test.
    #[cfg(test)]
    pub(super) fn before(queue: SyncSender<Group>) -> Self {
        let tail = Arc::new(tempfile::tempfile().unwrap());
        let words = super::reserve::LastWords::none();
        let sinks = super::sinks::Sinks::default();
        let edge = strongroom_tlog::Edge::empty();
        Self {
            queue: Mutex::new(Some(queue)),
            threads: Mutex::default(),
            shared: Arc::new(Shared::new(edge, tail, words, sinks)),
            published: Arc::default(),
        }
    }

    /// Holds up whoever hands lines to the thread, or ends it.
    #[cfg(test)]
    pub(super) fn hold_up(&self) -> std::sync::MutexGuard<'_, Option<SyncSender<Group>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands lines to the thread; the receiver answers when they are in the file.
    pub(super) fn submit(&self, lines: Lines) -> Outcome {
        self.health()?;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else { return Err(JournalError::Stopped) };
        let (written, outcome) = oneshot::channel();
        queue.try_send(Group { lines, written }).map_err(|error| match error {
            TrySendError::Full(_) => JournalError::Full,
            TrySendError::Disconnected(_) => JournalError::Stopped,
        })?;
        Ok(outcome)
    }

    /// Takes no more lines, and returns when those that were taken are on the disk: whoever opens the file next must
    /// find the chain's end.
    pub(super) fn finish(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the journal ended badly");
            }
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn checkpoint(&self) -> Option<Arc<Signed>> {
        self.published.last()
    }

    pub(super) fn health(&self) -> Result<(), JournalError> {
        self.shared.health()
    }

    pub(super) fn stop_admitting(&self) {
        self.shared.stop("an entry that nobody waited for could not be kept");
    }
}

pub(super) fn spawn(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, JournalError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| JournalError::write(&error))
}

fn write_groups(mut pen: Pen, groups: &Receiver<Group>) {
    while let Ok(Group { lines, written }) = groups.recv() {
        let outcome = pen.write(&lines);
        // Whoever stopped waiting has refused its calls already.
        drop(written.send((lines, outcome)));
    }
}
