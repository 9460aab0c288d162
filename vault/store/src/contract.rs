//! What every store promises, and how it says no.
//!
//! Invariant: `commit` is all or nothing and durable on return; after a failure whose outcome is
//! unknown the store answers [`StoreError::Poisoned`] for good, because a retried fsync can
//! report success for pages that the kernel has already dropped.

use std::io;
use std::ops::ControlFlow;

use thiserror::Error;

use crate::batch::Batch;
use crate::choice::Kind;
use crate::group::WitnessError;
use crate::record::{Key, LimitError, Value};

/// An ordered map from keys to values. Calls block: use it from a thread that may wait for a disk.
///
/// A read may see a commit a moment before that commit is acknowledged.
pub trait Store: Send + Sync {
    /// The value of `key`, `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`]: the store is poisoned, damaged or unreadable.
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError>;

    /// Records whose key starts with `prefix` and comes after `after`, in order: at most `limit`
    /// and at most [`MAX_SCAN_RECORDS`]. Go on with the last key until a page is empty.
    ///
    /// # Errors
    /// As for [`Store::get`].
    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError>;

    /// Checks the expectations, then writes the batch: atomic, and durable on return.
    ///
    /// # Errors
    /// [`StoreError::Limit`] and [`StoreError::Conflict`] leave the store as it was. After any
    /// other error the outcome is unknown until the store is opened again.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Refuses every later call. For whoever keeps something beside the store (see
    /// [`crate::Witness`]) and no longer knows that the two agree.
    fn poison(&self);

    /// Shows every record, in order, to `visitor` until it breaks; the number that it saw.
    /// Records that change meanwhile may be seen or missed.
    ///
    /// # Errors
    /// As for [`Store::get`].
    fn scan_all(
        &self,
        visitor: &mut dyn FnMut(&Key, &Value) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        let mut seen = 0_u64;
        let mut last: Option<Key> = None;
        loop {
            let page = self.scan(b"", last.as_ref(), MAX_SCAN_RECORDS)?;
            for (key, value) in &page {
                seen = seen.saturating_add(1);
                if visitor(key, value).is_break() {
                    return Ok(seen);
                }
            }
            match page.into_iter().next_back() {
                Some((key, _)) => last = Some(key),
                None => return Ok(seen),
            }
        }
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// A record or batch is too large; nothing was written.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// An expectation does not hold; nothing was written.
    #[error("another write came first")]
    Conflict,
    /// The witness refused the group before it was written; nothing was written.
    #[error("the store's witness refused the write")]
    Refused(#[source] WitnessError),
    /// Too many batches are waiting; nothing was written.
    #[error("too many writes are waiting")]
    Busy,
    /// The writer has ended; whether a waiting batch was written is unknown.
    #[error("the store's writer has ended")]
    Stopped,
    /// No answer in time; whether the batch was written is unknown.
    #[error("the store did not answer in time")]
    TimedOut,
    /// Someone else has this store open.
    #[error("the store is in use by another process")]
    InUse,
    /// There is no store here.
    #[error("there is no store in this place")]
    Missing,
    /// There is a store here already.
    #[error("there is a store in this place already")]
    Exists,
    /// The store's files are damaged.
    #[error("the store is damaged")]
    Corrupt,
    /// The files are not what this version writes.
    #[error("the files are not a store of this version")]
    Foreign,
    /// The store was made by another implementation than the one that is chosen.
    #[error("the store is kept by {found}, and {chosen} is chosen")]
    OtherKind {
        /// What made it.
        found: Kind,
        /// What is chosen.
        chosen: Kind,
    },
    /// Another keeper opened this store after us: its turn is newer, nothing of ours counts any more.
    #[error("another keeper has taken over this store")]
    Fenced,
    /// It was opened for looking only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// The connection to the database is gone; after a write the outcome is unknown.
    #[error("the connection to the database is lost")]
    Disconnected,
    /// The database is not one to keep a vault in.
    #[error("the database is not fit for a vault: {0}")]
    Unfit(&'static str),
    /// The database answered with an error; after a write the outcome is unknown.
    #[error("{act}: the database answered {state}")]
    Server {
        /// What was tried.
        act: &'static str,
        /// Its SQLSTATE.
        state: String,
    },
    /// The operating system failed; after a write the outcome is unknown.
    #[error("{act} failed: {kind}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// An earlier failure left the store's state unknown; only opening it again can help.
    #[error("the store failed earlier and must be opened again")]
    Poisoned,
}

impl StoreError {
    /// Whether a write that was answered so may have reached the disk all the same.
    pub const fn is_in_doubt(&self) -> bool {
        match self {
            Self::Stopped
            | Self::TimedOut
            | Self::Disconnected
            | Self::Server { .. }
            | Self::Io { .. }
            | Self::Corrupt
            | Self::Poisoned => true,
            Self::Limit(_)
            | Self::Conflict
            | Self::Refused(_)
            | Self::Busy
            | Self::InUse
            | Self::Missing
            | Self::Exists
            | Self::Foreign
            | Self::OtherKind { .. }
            | Self::Fenced
            | Self::ReadOnly
            | Self::Unfit(_) => false,
        }
    }

    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { act, kind: error.kind() }
    }
}

/// The most records that one scan returns, so that a page has a bound (2 MiB of values).
pub const MAX_SCAN_RECORDS: usize = 256;
