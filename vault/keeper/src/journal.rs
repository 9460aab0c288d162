//! The audit journal: append-only lines of JSON, each chained to the one before by a keyed MAC.
//!
//! ```text
//! {"n":7,"t":"2026-11-22T10:00:00.123Z","what":"admit",…,"chain":"<64 hex>"}
//! chain(n) = HMAC-SHA256(journal key, chain(n-1) ‖ line without its chain)
//! ```
//! One entry before a key is opened (`admit`), one when the call has ended (`close`); operators' acts, refusals, and
//! what the vault itself does. Written by one thread, handed to the disk at most [`SYNC_EVERY`] later by another. Whether
//! or not anybody waits for it an entry is written at once, or in one go with those that came while others were being written.
//!
//! Invariant: an [`Admitted`] is made of a call whose entry was written, and in one place: no entry, no key.
//! Invariant: a journal that cannot be written, or whose file was taken away, admits nothing.
//! Invariant: ids only, never a name of a person, a prompt or a secret.

pub mod entry;
mod lines;
pub mod read;
mod waiting;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strongroom_policy::decide::Permit;
use strongroom_policy::id::CallId;
use strongroom_policy::moment::Moment;
use tokio::sync::{Notify, oneshot};
use tokio::time::{timeout, timeout_at};

use crate::keeper::Asker;
use crate::keys::MacKey;
use crate::keys::purpose;
use crate::tickets::MAX_CALLS;
use entry::Entry;
use lines::Lines;
pub use lines::rfc3339;
use waiting::{Audience, Group, HandedOn, Waiting, WaitingCall};
pub use writer::JournalError;
use writer::{Outcome, Writer};

/// The file within the journal's directory.
pub const JOURNAL_FILE: &str = "journal.jsonl";
/// How long an entry may lie in the page cache.
pub const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How long a call waits for its entry before it is refused.
pub const ENTRY_PATIENCE: Duration = Duration::from_secs(1);

/// Most lines that wait for the group before them.
const MAX_WAITING: usize = 16 * 1024;
/// From so many on no call is admitted, and of refusals only a number is recorded: there is room for the end of each call that
/// is under way, and for what operators do.
const PRESSED: usize = MAX_WAITING / 2;
const _: () = assert!(MAX_WAITING - PRESSED >= 2 * MAX_CALLS);

/// The open journal. Entries gather while the group before them is being written.
pub struct Journal {
    writer: Writer,
    waiting: Mutex<Waiting>,
    news: Notify,
}

/// What became of a call's entry.
#[derive(Debug)]
pub struct Answered {
    /// Who asked for the call.
    pub asker: Asker,
    /// The call.
    pub call: CallId,
    /// The proof that it is written, or why it is not.
    pub outcome: Result<Admitted, JournalError>,
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
    pub fn open(
        directory: &Path,
        key: MacKey<purpose::Journal>,
    ) -> Result<(Self, Vec<CallId>), JournalError> {
        let (writer, open_calls) = Writer::start(directory, key)?;
        let journal = Self { writer, waiting: Mutex::default(), news: Notify::new() };
        Ok((journal, open_calls))
    }

    /// Writes that a call may be made. Whoever runs [`Self::pump`] is told when it is written: only then is there an
    /// [`Admitted`]; or that it was not within [`ENTRY_PATIENCE`].
    ///
    /// # Errors
    /// When no entry can be written, or too many wait; nobody is told anything then.
    pub fn admit(
        &self,
        (permit, call): (Permit, CallId),
        asker: Asker,
        now: Moment,
    ) -> Result<(), JournalError> {
        let mut waiting = self.gather(&Entry::admit(call, &permit), now, PRESSED)?;
        let begun = Instant::now();
        let deadline = begun.checked_add(ENTRY_PATIENCE).unwrap_or(begun);
        waiting.add_call((permit, call), asker, deadline);
        Ok(())
    }

    /// Writes an entry and waits until it is written.
    ///
    /// # Errors
    /// When it is not written within [`ENTRY_PATIENCE`].
    pub async fn record(&self, entry: &Entry<'_>, now: Moment) -> Result<(), JournalError> {
        let (written, wait) = oneshot::channel();
        self.gather(entry, now, MAX_WAITING)?.audience.waiters.push(written);
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
        let mut lines = Lines::default();
        lines.push(entry, now)?;
        let outcome = self.writer.submit(lines)?.blocking_recv();
        outcome.map_or(Err(JournalError::Stopped), |(_, written)| written)
    }

    /// Writes an entry that nobody waits for; if it cannot be written the journal admits nothing more.
    pub fn note(&self, entry: &Entry<'_>, now: Moment) {
        match self.gather(entry, now, MAX_WAITING) {
            Ok(mut waiting) => waiting.audience.unwatched = true,
            Err(error) => {
                tracing::error!(%error, "a journal entry is lost; nothing more is admitted");
                self.writer.stop_admitting();
            }
        }
    }

    /// Adds an entry to the next group when less than `most` are in it; the caller says who hears of it.
    fn gather(
        &self,
        entry: &Entry<'_>,
        now: Moment,
        most: usize,
    ) -> Result<MutexGuard<'_, Waiting>, JournalError> {
        self.writer.health()?;
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(JournalError::Stopped);
        }
        if waiting.lines.len() >= most {
            return Err(JournalError::Full);
        }
        waiting.lines.push(entry, now)?;
        if waiting.lines.len() == 1 {
            self.news.notify_one();
        }
        Ok(waiting)
    }

    /// Hands what gathered to the writing thread, one group at a time, until the journal is finished, and tells what
    /// became of each call. Runs beside the doors: everything that they read in one go becomes one write.
    pub async fn pump(self: Arc<Self>, tell: impl Fn(Answered)) {
        loop {
            self.news.notified().await;
            if self.waiting().closed {
                return;
            }
            let Some(group) = self.hand_on(&mut self.waiting()) else { continue };
            let written = self.write(group.outcome, &tell).await;
            self.settle(group.audience, &written);
            while let Some(waiting) = self.take_settled(group.number) {
                tell(waiting.answered(written.clone()));
            }
        }
    }

    /// Hands what gathered to the writing thread, under the lock under which it is taken: whoever takes the next group, or ends the
    /// thread, comes after it. Two locks are taken in this order only: this one, then the queue's.
    fn hand_on(&self, waiting: &mut Waiting) -> Option<HandedOn> {
        let Group { number, lines, audience } = waiting.take_group()?;
        Some(HandedOn { number, audience, outcome: self.writer.submit(lines) })
    }

    /// Waits until a group is written. The calls whose patience is over meanwhile are told so one by one, in whichever
    /// group they are.
    async fn write(&self, outcome: Outcome, tell: &impl Fn(Answered)) -> Result<(), JournalError> {
        let mut outcome = outcome?;
        loop {
            match timeout_at(self.next_deadline().into(), &mut outcome).await {
                Ok(Ok((lines, written))) => {
                    self.waiting().give_back(lines);
                    return written;
                }
                Ok(Err(_)) => return Err(JournalError::Stopped),
                Err(_) => {
                    while let Some(late) = self.take_late() {
                        tell(late.answered(Err(JournalError::Slow)));
                    }
                }
            }
        }
    }

    fn settle(&self, audience: Audience, written: &Result<(), JournalError>) {
        if audience.unwatched
            && let Err(error) = written
        {
            tracing::error!(%error, "journal entries are lost; nothing more is admitted");
            self.writer.stop_admitting();
        }
        for waiter in audience.waiters {
            // Whoever stopped waiting has refused its act already.
            drop(waiter.send(written.clone()));
        }
    }

    /// Lets go of the calls whose entries are not written: whoever closes the vault answers those who asked.
    pub fn forget_calls(&self) -> Vec<Asker> {
        self.waiting().forget_calls()
    }

    /// Takes no more entries, and returns when those that were taken are on the disk. Blocks.
    pub fn finish(&self) {
        let last = self.close();
        self.writer.finish();
        if let Some(HandedOn { audience, outcome, .. }) = last {
            let written = outcome.and_then(|mut outcome| {
                outcome.try_recv().map_or(Err(JournalError::Stopped), |(_, written)| written)
            });
            self.settle(audience, &written);
        }
        self.news.notify_one();
    }

    fn close(&self) -> Option<HandedOn> {
        let mut waiting = self.waiting();
        waiting.closed = true;
        self.hand_on(&mut waiting)
    }

    // The lock is held for one of these, never while somebody is told: who is told writes entries.

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_settled(&self, group: u64) -> Option<WaitingCall> {
        self.waiting().take_settled(group)
    }

    fn take_late(&self) -> Option<WaitingCall> {
        self.waiting().take_late(Instant::now())
    }

    /// When somebody's patience is over; those who come now wait at least as long as who comes to an empty queue.
    fn next_deadline(&self) -> Instant {
        let next = self.waiting().next_deadline();
        next.unwrap_or_else(|| {
            let now = Instant::now();
            now.checked_add(ENTRY_PATIENCE).unwrap_or(now)
        })
    }

    /// Whether so much waits that only what must be recorded should be.
    pub fn is_pressed(&self) -> bool {
        self.waiting().lines.len() >= PRESSED
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

impl WaitingCall {
    /// The only place that makes an [`Admitted`].
    fn answered(self, written: Result<(), JournalError>) -> Answered {
        let Self { permit, call, asker, .. } = self;
        Answered { asker, call, outcome: written.map(|()| Admitted { permit, call }) }
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

#[cfg(test)]
mod tests;
