//! The audit journal: append-only lines of JSON, each chained to the one before by a keyed MAC.
//!
//! ```text
//! {"n":7,"t":"2026-11-22T10:00:00.123Z","what":"admit",…,"chain":"<64 hex>"}
//! chain(n) = HMAC-SHA256(journal key, chain(n-1) ‖ line without its chain)
//! ```
//! One entry before a key is opened (`admit`), one when the call has ended (`close`); operators' acts, refusals, and
//! what the vault itself does. Written by one thread, handed to the disk at most [`SYNC_EVERY`] later by another.
//!
//! Invariant: [`Journal::admit`] is the only maker of an [`Admitted`]: no entry, no key.
//! Invariant: a journal that cannot be written, or whose file was taken away, admits nothing.
//! Invariant: ids only, never a name of a person, a prompt or a secret.

pub mod entry;
pub mod read;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strongroom_policy::decide::Permit;
use strongroom_policy::id::CallId;
use strongroom_policy::moment::Moment;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::keys::JournalKey;
use entry::Entry;
pub use writer::{JournalError, rfc3339};
use writer::{Line, Writer};

/// The file within the journal's directory.
pub const JOURNAL_FILE: &str = "journal.jsonl";
/// How long an entry may lie in the page cache.
pub const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How long a call waits for its entry before it is refused.
pub const ENTRY_PATIENCE: Duration = Duration::from_secs(1);

/// Most lines that wait for the group before them: more than all calls that can be under way.
const MAX_WAITING: usize = 16 * 1024;

/// The open journal. Entries gather while the group before them is being written.
pub struct Journal {
    writer: Writer,
    waiting: Mutex<Waiting>,
    news: Notify,
}

type Waiter = oneshot::Sender<Result<(), JournalError>>;

#[derive(Default)]
struct Waiting {
    lines: Vec<Line>,
    audience: Audience,
    closed: bool,
}

/// Who must hear what became of a group.
#[derive(Default)]
struct Audience {
    waiters: Vec<Waiter>,
    /// Whether one of the lines is waited for by nobody: its loss would go unseen.
    unwatched: bool,
}

/// Proof that a permit is in the journal. Spent by opening the key.
#[must_use]
#[derive(Debug)]
pub struct Admitted {
    permit: Permit,
    call: CallId,
}

impl Journal {
    /// Opens the journal in a directory: checks the chain of every entry, cuts off a line that was never acknowledged,
    /// and answers which calls were admitted and never closed.
    ///
    /// # Errors
    /// When the files cannot be used, or an entry does not hold.
    pub fn open(directory: &Path, key: JournalKey) -> Result<(Self, Vec<CallId>), JournalError> {
        let (writer, open_calls) = Writer::start(directory, key)?;
        let journal = Self { writer, waiting: Mutex::default(), news: Notify::new() };
        Ok((journal, open_calls))
    }

    /// Writes that a call may be made; only then is there an [`Admitted`].
    ///
    /// # Errors
    /// When the entry is not written within [`ENTRY_PATIENCE`].
    pub async fn admit(
        &self,
        permit: Permit,
        call: CallId,
        now: Moment,
    ) -> Result<Admitted, JournalError> {
        self.record(&Entry::admit(call, &permit), now).await?;
        Ok(Admitted { permit, call })
    }

    /// Writes an entry and waits until it is written.
    ///
    /// # Errors
    /// When it is not written within [`ENTRY_PATIENCE`].
    pub async fn record(&self, entry: &Entry<'_>, now: Moment) -> Result<(), JournalError> {
        let (written, wait) = oneshot::channel();
        self.gather(Line::new(entry, now)?, Some(written))?;
        match timeout(ENTRY_PATIENCE, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(JournalError::Stopped),
            Err(_) => Err(JournalError::Slow),
        }
    }

    /// Writes an entry from a thread that may wait for the disk.
    ///
    /// # Errors
    /// When it is not written.
    pub fn record_blocking(&self, entry: &Entry<'_>, now: Moment) -> Result<(), JournalError> {
        let outcome = self.writer.submit(vec![Line::new(entry, now)?])?;
        outcome.blocking_recv().unwrap_or(Err(JournalError::Stopped))
    }

    /// Writes an entry that nobody waits for; if it cannot be written the journal admits nothing more.
    pub fn note(&self, entry: &Entry<'_>, now: Moment) {
        if let Err(error) = Line::new(entry, now).and_then(|line| self.gather(line, None)) {
            tracing::error!(%error, "a journal entry is lost; nothing more is admitted");
            self.writer.stop_admitting();
        }
    }

    fn gather(&self, line: Line, waiter: Option<Waiter>) -> Result<(), JournalError> {
        self.writer.health()?;
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(JournalError::Stopped);
        }
        if waiting.lines.len() >= MAX_WAITING {
            return Err(JournalError::Full);
        }
        if waiting.lines.is_empty() {
            self.news.notify_one();
        }
        waiting.lines.push(line);
        match waiter {
            Some(waiter) => waiting.audience.waiters.push(waiter),
            None => waiting.audience.unwatched = true,
        }
        Ok(())
    }

    /// Hands what gathered to the writing thread, one group at a time, until the journal is finished. Runs beside the
    /// doors: everything that they read in one go becomes one write.
    pub async fn pump(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            if self.waiting().closed {
                return;
            }
            let (lines, audience) = self.take_waiting();
            let written = match self.writer.submit(lines) {
                Ok(outcome) => outcome.await.unwrap_or(Err(JournalError::Stopped)),
                Err(error) => Err(error),
            };
            self.settle(audience, &written);
        }
    }

    fn take_waiting(&self) -> (Vec<Line>, Audience) {
        let mut waiting = self.waiting();
        (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.audience))
    }

    fn settle(&self, audience: Audience, written: &Result<(), JournalError>) {
        if audience.unwatched
            && let Err(error) = written
        {
            tracing::error!(%error, "journal entries are lost; nothing more is admitted");
            self.writer.stop_admitting();
        }
        for waiter in audience.waiters {
            // Whoever stopped waiting has refused its call already.
            drop(waiter.send(written.clone()));
        }
    }

    /// Takes no more entries, and returns when those that were taken are on the disk. Blocks.
    pub fn finish(&self) {
        self.waiting().closed = true;
        let (lines, audience) = self.take_waiting();
        let outcome = self.writer.submit(lines);
        self.writer.finish();
        let written = outcome
            .and_then(|mut outcome| outcome.try_recv().unwrap_or(Err(JournalError::Stopped)));
        self.settle(audience, &written);
        self.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so much waits that only what must be recorded should be.
    pub fn is_pressed(&self) -> bool {
        self.waiting().lines.len() > MAX_WAITING / 2
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.writer.entries()
    }

    /// Bytes of an unacknowledged last line that were cut off when the journal was opened.
    pub fn cut_bytes(&self) -> u64 {
        self.writer.cut_bytes()
    }

    /// Whether entries can be written, as far as is known.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<(), JournalError> {
        self.writer.health()
    }
}

impl Admitted {
    /// The call.
    pub const fn call(&self) -> CallId {
        self.call
    }

    /// What was permitted, for the one opening that it pays for.
    pub fn spend(self) -> (Permit, CallId) {
        (self.permit, self.call)
    }
}
