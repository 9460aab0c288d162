//! How an open vault stands to its TPM.
//!
//! Invariant: lives on the thread that decides, and only says what other threads found.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strongroom_protocol::operator::{Exit, Fault};

use super::COUNTER_EVERY;
use super::freshness::{AdvanceError, Found, Freshness};
use super::link::{Link, PATIENCE};
use crate::books::BooksError;
use crate::manifest::{Checkpoint, Manifest, NotNewest, Seen};
use crate::seal::Unsealed;

/// How an open vault stands to its TPM.
#[derive(Debug)]
pub enum Standing {
    /// No way leads over one.
    None,
    /// Its counter follows the vault.
    Held(Hold),
    /// There is a way, and its counter was not found where it should be; people confirmed what they saw.
    Lost {
        /// In words.
        why: String,
    },
}

/// A counter that follows the vault.
#[derive(Debug)]
pub struct Hold {
    /// Moves it; on threads that may wait.
    pub freshness: Arc<Mutex<Freshness>>,
    /// Its value.
    pub value: u64,
    /// Since when there is a change that it did not move behind.
    pub changed: Option<Instant>,
    /// When it was last tried.
    tried: Instant,
    /// Why it did not move at the last try.
    pub trouble: Option<String>,
    moving: bool,
}

impl Hold {
    /// Of a vault that was just opened.
    pub fn new(freshness: Freshness, moved: Result<u64, AdvanceError>, now: Instant) -> Self {
        let value = freshness.value();
        let freshness = Arc::new(Mutex::new(freshness));
        let mut hold =
            Self { freshness, value, changed: Some(now), tried: now, trouble: None, moving: false };
        hold.settle(now, moved.map_err(|error| error.to_string()));
        hold
    }

    /// Notes a change.
    pub fn touch(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// Begins to move it, if that is due: a change has waited long enough.
    pub fn begin_if_due(&mut self, now: Instant) -> Option<Arc<Mutex<Freshness>>> {
        let due = |since: Instant| now.saturating_duration_since(since) >= COUNTER_EVERY;
        let waited = self.changed.is_some_and(due) && due(self.tried);
        if waited && !self.moving { Some(self.begin()) } else { None }
    }

    /// Begins to move it.
    pub fn begin(&mut self) -> Arc<Mutex<Freshness>> {
        self.moving = true;
        Arc::clone(&self.freshness)
    }

    /// It moved, or did not. A change after `begun` waits for the next move.
    pub fn settle(&mut self, begun: Instant, moved: Result<u64, String>) {
        (self.moving, self.tried) = (false, Instant::now());
        match moved {
            Ok(value) => {
                (self.value, self.trouble) = (value, None);
                self.changed = self.changed.filter(|changed| *changed > begun);
            }
            Err(trouble) => {
                tracing::error!(%trouble, "the TPM's counter did not move");
                self.trouble = Some(trouble);
            }
        }
    }
}

/// Moves a counter. Blocks.
///
/// # Errors
/// In words.
pub fn advance(freshness: &Mutex<Freshness>, patience: Duration) -> Result<u64, String> {
    let mut freshness = freshness.lock().unwrap_or_else(PoisonError::into_inner);
    freshness.advance(patience).map_err(|error| error.to_string())
}

/// Whether what lies here is the newest, as far as a counter outside tells; else whether people confirmed it nevertheless.
///
/// # Errors
/// When it is not, and nobody did.
pub fn judge_newest(
    manifest: &Manifest,
    seen: &Seen,
    confirmed: Option<&str>,
) -> Result<Option<NotNewest>, BooksError> {
    let Err(why) = manifest.judge_counter(seen) else { return Ok(None) };
    let checkpoint = manifest.checkpoint()?;
    if confirmed.is_some_and(|typed| checkpoint.is(typed)) {
        tracing::warn!(%why, %checkpoint, "opened on the word of who brought the parts");
        return Ok(Some(why));
    }
    Err(BooksError::NotNewest { why, checkpoint })
}

/// Moves the counter of a vault that was just opened: what was copied before is older from now on. Blocks.
pub fn stand(
    link: Option<Arc<Link>>,
    held: (Arc<Mutex<Manifest>>, Arc<Mutex<Unsealed>>),
    (found, doubt): (Option<Found>, Option<NotNewest>),
) -> Standing {
    match (link, found, doubt) {
        (_, _, Some(why)) => Standing::Lost { why: why.to_string() },
        (Some(link), Some(found), None) => {
            let mut freshness = Freshness::new(link, held, found);
            let moved = freshness.advance(PATIENCE);
            Standing::Held(Hold::new(freshness, moved, Instant::now()))
        }
        (_, _, None) => Standing::None,
    }
}

/// The refusal of a vault that is not known to be the newest.
pub fn not_newest(message: String, checkpoint: &Checkpoint) -> Fault {
    let next = format!(
        "bring back the newest copy. If this is the newest that there is, all who hold a part confirm it: \
         'strongroom unseal --confirm-checkpoint {checkpoint}'"
    );
    Fault { code: "SR-TPM-011".to_owned(), message, next: Some(next), exit: Exit::RolledBack }
}
