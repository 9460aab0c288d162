//! The audit journal: append-only lines of JSON, each chained to the one before by a keyed MAC, and a Merkle tree over them.
//!
//! ```text
//! {"n":7,"t":"2026-11-22T10:00:00.123Z","what":"admit",…,"chain":"<64 hex>"}
//! chain(n) = HMAC-SHA256(journal key, chain(n-1) ‖ line without its chain)
//! ```
//! One entry before a key is opened (`admit`), one when the call has ended (`close`); operators' acts, refusals, and
//! what the vault itself does. Written by one thread ([`pen`]), handed to the disk at most [`SYNC_EVERY`] later by another
//! ([`keeping`]), which signs the tree's head too. Whether or not anybody waits for it an entry is written at once, or in one go
//! with those that came while others were being written.
//!
//! Invariant: an [`Admitted`] is made of a call whose entry was written, and in one place: no entry, no key.
//! Invariant: a journal that cannot be written, whose file was taken away, or whose required sink takes nothing, admits nothing.
//! Invariant: ids only, never a name of a person, a prompt or a secret.

mod disk;
pub mod entry;
pub mod files;
pub mod found;
mod keeping;
pub(crate) mod line;
mod lines;
mod pen;
mod place;
pub mod proofs;
pub mod read;
mod repair;
pub(crate) mod reserve;
pub mod search;
mod shared;
pub mod signing;
pub mod sinks;
mod waiting;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strongroom_policy::decide::Permit;
use strongroom_policy::id::CallId;
use strongroom_policy::moment::Moment;
use strongroom_policy::provider::Origin;
use tokio::sync::{Notify, oneshot};
use tokio::time::{timeout, timeout_at};

use crate::keeper::Asker;
use crate::tickets::MAX_CALLS;
use entry::{Entry, SinkState};
use found::Found;
use keeping::{Keeping, Published};
pub use keeping::{SYNC_EVERY, Signed};
use lines::Lines;
pub use lines::rfc3339;
use pen::Pen;
pub(crate) use place::BUNDLE_ENTRIES;
pub use place::Place;
use repair::Tail;
use reserve::LastWords;
use shared::Shared;
use signing::CheckpointKey;
use sinks::{OpenSink, SinkHealth, Sinks};
use waiting::{Audience, Group, HandedOn, Waiting, WaitingCall};
pub use writer::Durability;
use writer::{Outcome, Writer};

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
    cut_bytes: u64,
    made_tiles: u64,
    /// The number of the oldest entry that is kept here.
    first_kept: AtomicU64,
}

/// Why the journal is not opened or an entry not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file system said no; the entry is not there.
    #[error("the journal cannot be written: {0}")]
    Write(String),
    /// The file system said no.
    #[error("the journal cannot be read: {0}")]
    Read(String),
    /// A line does not hold: it was changed, or lines are missing.
    #[error("the journal is damaged at entry {entry}: {reason}")]
    Damaged {
        /// The first entry that does not hold.
        entry: u64,
        /// In words.
        reason: &'static str,
    },
    /// A hash tile is not that of the entries below it, and these are what the checkpoint covers.
    #[error(
        "the journal is damaged: the hash tile {file} was changed; all entries are those that the checkpoint covers"
    )]
    Tile {
        /// Its name below the journal's directory.
        file: String,
    },
    /// A hash tile differs, and not all else holds: entries below it were changed, or others.
    #[error(
        "the journal is damaged from entry {entry} on: the hash tile {file} was changed, or an entry below it"
    )]
    Below {
        /// The first entry below it.
        entry: u64,
        /// Its name below the journal's directory.
        file: String,
    },
    /// A bundle is not here; it may have been archived, and the hash tile that stands for it is missing or torn.
    #[error(
        "the journal is damaged: the 256 entries from {first} on are missing; if they were archived, their hash tile {tile} must be whole"
    )]
    Gone {
        /// The first of its entries.
        first: u64,
        /// The tile's name below the journal's directory.
        tile: String,
    },
    /// Something does not hold, and may be the fault of a hash tile that stands for archived entries: nothing here tells.
    #[error(
        "{why}; or one of the hash tiles tile/0/000 to {last} was changed, which stand for archived entries"
    )]
    OverArchived {
        /// What does not hold.
        why: Box<JournalError>,
        /// The last of these tiles.
        last: String,
    },
    /// A file is longer than any that this program writes: it was put there.
    #[error("the journal is damaged: {0} is longer than can be")]
    Oversized(String),
    /// The checkpoint is not one that this vault signed.
    #[error("the journal's checkpoint is not signed by this vault")]
    Checkpoint,
    /// It holds, and is older than what the manifest notes.
    #[error(
        "the journal is older than the store: its checkpoint covers {found} entries, not {noted}"
    )]
    RolledBack {
        /// How many its checkpoint covers.
        found: u64,
        /// How many it must at least.
        noted: u64,
    },
    /// It holds, and is not the one that the manifest notes.
    #[error(
        "the journal is another one than the store's manifest notes: it differs before entry {entry}"
    )]
    Another {
        /// How many entries the manifest notes.
        entry: u64,
    },
    /// It holds, and names a newer state of the store than the one that lies there.
    #[error(
        "the store is older than the journal: it is at commit {found}, and {noted} was recorded"
    )]
    StoreRolledBack {
        /// The store's commit.
        found: u64,
        /// The newest that the journal names.
        noted: u64,
    },
    /// It was written by a version before this one.
    #[error("the journal is in the format of an older version (journal.jsonl)")]
    OldFormat,
    /// Entries could not be handed to the disk, or the file is gone: this process writes no more.
    #[error("the journal is out of order until the vault is unsealed again: {0}")]
    Broken(&'static str),
    /// A required sink takes no entries.
    #[error("a required sink of the journal takes no entries")]
    Sink,
    /// The disk has not taken entries for too long.
    #[error("the journal's disk does not answer")]
    Stalled,
    /// More entries wait than fit.
    #[error("too many journal entries wait")]
    Full,
    /// An entry that is longer than one can be, or one too many.
    #[error("an entry does not fit")]
    TooLong,
    /// The disk did not take the entry in time.
    #[error("the journal did not answer in time")]
    Slow,
    /// The writer has ended.
    #[error("the journal's writer has ended")]
    Stopped,
}

/// How a journal is written.
#[derive(Debug, Clone)]
pub struct Manner {
    /// When an entry is on the disk.
    pub durability: Durability,
    /// Who else is told.
    pub sinks: Arc<[OpenSink]>,
}

impl Default for Manner {
    fn default() -> Self {
        Self { durability: Durability::Group, sinks: Arc::new([]) }
    }
}

/// What the opening of a journal found to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Calls that were admitted and never closed.
    pub calls: Vec<CallId>,
    /// When and why nothing could be written, as the reserve has it.
    pub stops: Vec<(String, &'static str)>,
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
///
/// ```
/// use strongroom_keeper::journal::Admitted;
/// fn pass_on(admitted: Admitted) { drop(admitted.spend()) }
/// ```
/// ```compile_fail,E0382
/// use strongroom_keeper::journal::Admitted;
/// fn spend_twice(admitted: Admitted) { drop(admitted.spend()); drop(admitted.spend()) }
/// ```
/// ```compile_fail,E0451
/// use strongroom_keeper::journal::Admitted;
/// use strongroom_policy::{decide::Permit, id::CallId};
/// fn without_an_entry(permit: Permit, call: CallId) -> Admitted { Admitted { permit, call } }
/// ```
#[must_use]
#[derive(Debug)]
pub struct Admitted {
    permit: Permit,
    call: CallId,
}

impl Journal {
    /// Goes on with a journal that was found to hold: what a crash left half done is mended first.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn start(
        found: Found,
        signer: CheckpointKey,
        manner: &Manner,
    ) -> Result<(Self, Unfinished), JournalError> {
        let Prepared { pen, keeping, ends, unfinished, cut_bytes, made_tiles, first_kept } =
            Prepared::of(found, signer, manner)?;
        let writer = Writer::start(pen, keeping, ends)?;
        let (waiting, news, first_kept) =
            (Mutex::default(), Notify::new(), AtomicU64::new(first_kept));
        Ok((Self { writer, waiting, news, cut_bytes, made_tiles, first_kept }, unfinished))
    }

    /// Empties the reserve, once what stood in it is recorded.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn empty_reserve(place: &Place) -> Result<(), JournalError> {
        reserve::wipe(place).map_err(|error| JournalError::write(&error))
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
        self.writer.shared().serves()?;
        let mut waiting = self.gather(&Entry::admit(call, &permit), now, PRESSED)?;
        let begun = Instant::now();
        let deadline = begun.checked_add(ENTRY_PATIENCE).unwrap_or(begun);
        waiting.add_call((permit, call), asker, deadline);
        Ok(())
    }

    /// Writes an entry and waits until it is on the disk: an act that lasts must not outlive its entry.
    ///
    /// # Errors
    /// When it is not there within [`ENTRY_PATIENCE`].
    pub async fn record(&self, entry: &Entry<'_>, now: Moment) -> Result<(), JournalError> {
        self.writer.shared().serves()?;
        let (written, wait) = oneshot::channel();
        {
            let mut waiting = self.gather(entry, now, MAX_WAITING)?;
            waiting.lines.make_last();
            waiting.audience.waiters.push(written);
        }
        match timeout(ENTRY_PATIENCE, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(JournalError::Stopped),
            Err(_) => Err(JournalError::Slow),
        }
    }

    /// Writes entries, and has them on the disk, from a thread that may wait for it.
    ///
    /// # Errors
    /// When they are not written.
    pub fn record_blocking(&self, entries: &[Entry<'_>], now: Moment) -> Result<(), JournalError> {
        let mut lines = Lines::default();
        for entry in entries {
            lines.push(entry, now)?;
        }
        lines.make_last();
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
                    self.writer.shared().answers();
                    self.waiting().give_back(lines);
                    return written;
                }
                Ok(Err(_)) => return Err(JournalError::Stopped),
                Err(_) => {
                    while let Some(late) = self.take_late() {
                        self.writer.shared().stalls();
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
        self.writer.shared().entries()
    }

    /// Bytes that nobody was told of for certain, and that were cut off when the journal was opened.
    pub fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    /// Hash tiles that were missing or torn, and were made again when the journal was opened.
    pub fn made_tiles(&self) -> u64 {
        self.made_tiles
    }

    /// The number of the oldest entry that is kept here; those before it were archived.
    pub fn first_kept(&self) -> u64 {
        self.first_kept.load(Ordering::Relaxed)
    }

    /// The bundles below this one were archived.
    pub fn archived_below(&self, bundle: u64) {
        self.first_kept.fetch_max(files::first_of(bundle), Ordering::Relaxed);
    }

    /// The last durable checkpoint; `None` before the first.
    pub fn checkpoint(&self) -> Option<Arc<Signed>> {
        self.writer.checkpoint()
    }

    /// Makes a checkpoint over what is written by now due at once.
    pub fn hasten(&self) {
        self.writer.shared().hasten();
    }

    /// How many words stand in the reserve.
    pub fn last_words(&self) -> u64 {
        self.writer.shared().words().kept()
    }

    /// How the sinks are.
    pub fn sinks(&self) -> Vec<SinkHealth> {
        self.writer.shared().sinks().each()
    }

    /// Sinks that began or ended to fail since the last call of this.
    pub fn sink_changes(&self) -> Vec<(String, SinkState, u64)> {
        self.writer.shared().sink_changes()
    }

    /// How many entries were refused and why, since the last one that was written.
    pub fn refused(&self) -> Option<(u64, &'static str)> {
        self.writer.shared().gap().map(|gap| (gap.refused, gap.reason))
    }

    /// Whether entries can be written, as far as is known.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<(), JournalError> {
        self.writer.shared().serves()
    }
}

/// A journal whose threads do not run yet.
struct Prepared {
    pen: Pen,
    keeping: Keeping,
    ends: (Arc<Shared>, Arc<Published>),
    unfinished: Unfinished,
    cut_bytes: u64,
    made_tiles: u64,
    first_kept: u64,
}

impl Prepared {
    fn of(found: Found, signer: CheckpointKey, manner: &Manner) -> Result<Self, JournalError> {
        let tail = found.repair()?;
        let (words, stops) = LastWords::open(&found.place)?;
        let sinks = Sinks::start(&manner.sinks)?;
        let (entries, size) = (found.entries(), found.edge.size());
        let file = Arc::clone(&tail.file);
        let shared = Arc::new(Shared::new(found.edge, file, words, sinks));
        let ends = (shared, Arc::new(Published::new(found.signed)));
        let keeping = Keeping::new(found.place.clone(), ends.clone(), signer, size);
        let pen = Pen {
            place: found.place,
            tail: Arc::clone(&tail.file),
            tail_bytes: tail.bytes,
            entries,
            chain: found.chain,
            key: found.key,
            shared: Arc::clone(&ends.0),
            durability: manner.durability,
            encoded: pen::Encoded::default(),
        };
        let stops = stops.into_iter().map(|found| (found.at, found.reason)).collect();
        let unfinished = Unfinished { calls: found.open_calls, stops };
        let first_kept = found.first_bundle.saturating_mul(BUNDLE_ENTRIES).saturating_add(1);
        let Tail { cut_bytes, made_tiles, .. } = tail;
        Ok(Self { pen, keeping, ends, unfinished, cut_bytes, made_tiles, first_kept })
    }
}

impl JournalError {
    /// One of the reasons that can stand in the reserve.
    fn in_short(&self) -> &'static str {
        match self {
            Self::Write(why) if why.contains("No space") || why.contains("quota") => {
                "the disk is full"
            }
            Self::Write(why) if why.contains("Read-only") => "the disk is read-only",
            Self::Broken(reason) => reason,
            Self::Sink => "a required sink takes no entries",
            Self::Slow | Self::Stalled => "the disk did not answer in time",
            Self::Write(_)
            | Self::Read(_)
            | Self::Damaged { .. }
            | Self::Tile { .. }
            | Self::Below { .. }
            | Self::Gone { .. }
            | Self::OverArchived { .. }
            | Self::Oversized(_)
            | Self::Checkpoint
            | Self::RolledBack { .. }
            | Self::Another { .. }
            | Self::StoreRolledBack { .. }
            | Self::OldFormat
            | Self::Full
            | Self::TooLong
            | Self::Stopped => "the disk failed",
        }
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

    /// Whose courier makes it.
    pub const fn origin(&self) -> Origin {
        self.permit.origin()
    }

    /// One of no journal, for tests of what becomes of it.
    #[cfg(test)]
    pub(crate) const fn of_a_test(permit: Permit, call: CallId) -> Self {
        Self { permit, call }
    }

    /// What was permitted, for the one opening that it pays for.
    pub fn spend(self) -> (Permit, CallId) {
        (self.permit, self.call)
    }
}

#[cfg(test)]
mod cost;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod judging;
#[cfg(test)]
mod reading;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod threads;
