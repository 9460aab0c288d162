//! What the journal's threads share: how far the tree is, which files must reach the disk, and whether anything stopped.
//!
//! Invariant: what is taken to be synced and signed is of one moment: every entry of the tree lies in a file that is taken too.
//! Invariant: what stopped stays stopped until the journal is opened again.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use strongroom_tlog::edge::FullTile;
use strongroom_tlog::{Edge, Hash, Size};

use super::JournalError;
use super::entry::SinkState;
use super::lines::{Lines, rfc3339};
use super::reserve::LastWords;
use super::sinks::Sinks;

/// So many new entries wake the keeping thread before its time.
pub(super) const WAKE_AFTER: u64 = 64;
/// Most full bundles that are not on the disk for certain; then the writing thread waits.
const MAX_UNKEPT: usize = 64;
/// How long one request to the disk may take before calls are refused.
const SYNC_PATIENCE: Duration = Duration::from_secs(1);
/// How long the writing thread waits for that at a time, before it looks again whether all is well.
const UNKEPT_PATIENCE: Duration = Duration::from_millis(100);

/// What the threads share.
pub(super) struct Shared {
    standing: Mutex<Standing>,
    news: Condvar,
    hurry: Condvar,
    entries: AtomicU64,
    stopped: OnceLock<&'static str>,
    gap: Mutex<Option<Gap>>,
    words: LastWords,
    sinks: Sinks,
    base: Instant,
    /// Milliseconds since `base` at which the keeping thread asked the disk for something, plus one; 0 when it does not wait.
    asked: AtomicU64,
    stalled: AtomicBool,
}

/// How far the writing is.
pub(super) struct Standing {
    pub(super) edge: Edge,
    pub(super) tail: Arc<File>,
    unkept: Unkept,
    taken: Size,
    /// Whether somebody waits for a checkpoint.
    wished: bool,
    ended: bool,
}

/// What is not on the disk for certain.
#[derive(Default)]
pub(super) struct Unkept {
    /// Full bundles and where they lie.
    pub(super) bundles: Vec<(PathBuf, Arc<File>)>,
    /// Hash tiles that are not written yet.
    pub(super) tiles: Vec<FullTile>,
}

/// A switch to the next bundle.
pub(super) struct Switched {
    /// Where the full one lies now.
    pub(super) bundle: PathBuf,
    /// The full one.
    pub(super) full: Arc<File>,
    /// The new one.
    pub(super) tail: Arc<File>,
}

/// What the keeping thread takes to the disk.
pub(super) struct Taken {
    pub(super) tail: Arc<File>,
    pub(super) unkept: Unkept,
    pub(super) size: Size,
    pub(super) root: Hash,
    /// Whether the tail has its name; not so when it was unlinked, renamed or replaced.
    pub(super) in_place: bool,
    /// Whether a checkpoint is due whatever its time.
    pub(super) wished: bool,
    /// Whether nothing will come after this.
    pub(super) last: bool,
}

/// Entries that could not be written.
#[derive(Debug, Clone)]
pub(super) struct Gap {
    /// Since when.
    pub(super) since: String,
    /// Why.
    pub(super) reason: &'static str,
    /// How many.
    pub(super) refused: u64,
}

impl Standing {
    /// Whether somebody waits for the keeping thread.
    const fn is_urgent(&self) -> bool {
        self.wished || self.ended
    }

    /// Whether there is anything for the keeping thread.
    fn has_any(&self) -> bool {
        self.edge.size() != self.taken
    }

    /// Whether the keeping thread should not wait for more.
    fn has_much(&self) -> bool {
        self.edge.size().0.saturating_sub(self.taken.0) >= WAKE_AFTER
    }
}

impl Shared {
    pub(super) fn new(edge: Edge, tail: Arc<File>, words: LastWords, sinks: Sinks) -> Self {
        let entries = AtomicU64::new(edge.size().0);
        let taken = edge.size();
        let standing =
            Standing { edge, tail, unkept: Unkept::default(), taken, wished: false, ended: false };
        Self {
            standing: Mutex::new(standing),
            news: Condvar::new(),
            hurry: Condvar::new(),
            entries,
            stopped: OnceLock::new(),
            gap: Mutex::default(),
            words,
            sinks,
            base: Instant::now(),
            asked: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
        }
    }

    /// Whether entries can be written, as far as is known.
    pub(super) fn health(&self) -> Result<(), JournalError> {
        match self.stopped.get() {
            Some(reason) => Err(JournalError::Broken(reason)),
            None => Ok(()),
        }
    }

    /// Whether calls may be admitted and acts begun: entries can be written, the disk answers, and required sinks take them.
    pub(super) fn serves(&self) -> Result<(), JournalError> {
        self.health()?;
        let asked = self.asked.load(Ordering::Acquire);
        if asked > 0 && self.now().saturating_sub(asked) > millis(SYNC_PATIENCE) {
            self.stalls();
            return Err(JournalError::Stalled);
        }
        self.sinks.health()
    }

    /// Asks the disk for something that may take long; what takes too long refuses calls meanwhile.
    pub(super) fn ask<T>(&self, act: impl FnOnce() -> T) -> T {
        self.asked.store(self.now(), Ordering::Release);
        let answer = act();
        self.asked.store(0, Ordering::Release);
        answer
    }

    fn now(&self) -> u64 {
        millis(self.base.elapsed()).saturating_add(1)
    }

    /// The disk did not answer in time: said once for each time that it does not.
    pub(super) fn stalls(&self) {
        if !self.stalled.swap(true, Ordering::AcqRel) {
            self.words.say("the disk did not answer in time");
        }
    }

    /// The disk answered.
    pub(super) fn answers(&self) {
        if self.stalled.load(Ordering::Acquire) {
            self.stalled.store(false, Ordering::Release);
        }
    }

    /// Sinks that began or ended to fail; a required one that fails is said in the reserve too.
    pub(super) fn sink_changes(&self) -> Vec<(String, SinkState, u64)> {
        let changes = self.sinks.changes();
        let stops = |(_, state, _): &(String, SinkState, u64)| *state == SinkState::Fails;
        if changes.iter().any(stops) && self.sinks.health().is_err() {
            self.words.say("a required sink takes no entries");
        }
        changes
    }

    /// Nothing is written any more; the first reason stays, in the reserve too.
    pub(super) fn stop(&self, reason: &'static str) {
        if self.stopped.set(reason).is_ok() {
            tracing::error!(reason, "nothing more is admitted");
            self.words.say(reason);
        }
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn sinks(&self) -> &Sinks {
        &self.sinks
    }

    pub(super) fn words(&self) -> &LastWords {
        &self.words
    }

    /// Takes in what was written; answers how many entries there are.
    pub(super) fn grow(
        &self,
        leaves: &[Hash],
        switched: Option<Switched>,
    ) -> Result<u64, JournalError> {
        let mut standing = self.standing();
        let (any, much) = (standing.has_any(), standing.has_much());
        for leaf in leaves {
            let full = standing.edge.push(*leaf).map_err(|_| JournalError::TooLong)?;
            standing.unkept.tiles.extend(full);
        }
        if let Some(Switched { bundle, full, tail }) = switched {
            standing.unkept.bundles.push((bundle, full));
            standing.tail = tail;
        }
        let size = standing.edge.size().0;
        self.entries.store(size, Ordering::Relaxed);
        if (standing.has_any() && !any) || (standing.has_much() && !much) {
            self.news.notify_all();
        }
        while standing.unkept.bundles.len() >= MAX_UNKEPT && self.health().is_ok() {
            let waited = self.news.wait_timeout(standing, UNKEPT_PATIENCE);
            standing = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(size)
    }

    /// Does something that takes the tail's name away for a moment.
    pub(super) fn while_nobody_looks<T>(&self, act: impl FnOnce() -> T) -> T {
        let _standing = self.standing();
        act()
    }

    /// Waits until there is anything that was not taken, or somebody waits for the keeping thread; whether that came in time.
    pub(super) fn comes(&self, within: Duration) -> bool {
        let nothing = |standing: &mut Standing| !standing.is_urgent() && !standing.has_any();
        let waited = self.news.wait_timeout_while(self.standing(), within, nothing);
        let (standing, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(standing);
        !waited.timed_out()
    }

    /// Whether the tail has its name.
    pub(super) fn is_in_place(&self, path: &Path) -> bool {
        is_in_place(&self.standing().tail, path).unwrap_or(false)
    }

    /// Waits until there is much to keep, or a while is over; takes it.
    pub(super) fn take(&self, path: &Path, patience: Duration) -> Taken {
        let little = |standing: &mut Standing| !standing.is_urgent() && !standing.has_much();
        let waited = self.news.wait_timeout_while(self.standing(), patience, little);
        let mut standing = waited.unwrap_or_else(PoisonError::into_inner).0;
        let (size, root) = (standing.edge.size(), standing.edge.root());
        standing.taken = size;
        let taken = Taken {
            tail: Arc::clone(&standing.tail),
            unkept: std::mem::take(&mut standing.unkept),
            size,
            root,
            in_place: is_in_place(&standing.tail, path).unwrap_or(false),
            wished: std::mem::take(&mut standing.wished),
            last: standing.ended,
        };
        // Whoever waited for room to be kept goes on; what is taken is bounded by what was there.
        self.news.notify_all();
        taken
    }

    /// Makes a checkpoint due at once over what is written by now.
    pub(super) fn hasten(&self) {
        self.standing().wished = true;
        self.news.notify_all();
        self.hurry.notify_all();
    }

    /// Nothing will be written any more.
    pub(super) fn end(&self) {
        self.standing().ended = true;
        self.news.notify_all();
        self.hurry.notify_all();
    }

    /// Rests for a while, unless somebody waits for a checkpoint or nothing will be written any more.
    pub(super) fn rest(&self, while_long: Duration) {
        let goes_on = |standing: &mut Standing| !standing.is_urgent();
        drop(self.hurry.wait_timeout_while(self.standing(), while_long, goes_on));
    }

    /// A group was not written: begins or continues a gap.
    pub(super) fn refused(&self, error: &JournalError, group: &Lines) {
        let count = u64::try_from(group.len()).unwrap_or(u64::MAX);
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gap) = gap.as_mut() {
            gap.refused = gap.refused.saturating_add(count);
            return;
        }
        let since = group.moment().map(rfc3339).unwrap_or_default();
        let reason = error.in_short();
        self.words.say(reason);
        *gap = Some(Gap { since, reason, refused: count });
    }

    pub(super) fn gap(&self) -> Option<Gap> {
        self.gap.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn gap_is_told(&self) {
        *self.gap.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Hands what is in the journal to whoever else is told.
    pub(super) fn tell_sinks(&self, bundle: &[u8]) {
        self.sinks.tell(bundle);
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether what is written is what lies under the tail's name.
fn is_in_place(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, named) = (file.metadata()?, std::fs::symlink_metadata(path));
    Ok(named.is_ok_and(|named| named.dev() == ours.dev() && named.ino() == ours.ino()))
}
