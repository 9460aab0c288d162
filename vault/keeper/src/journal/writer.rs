//! The thread that writes the journal, and the one that hands it to the disk.
//!
//! Invariant: lines reach the file whole or not at all; a partial write is cut off before anyone is answered.
//! Invariant: after a failed sync, a failed cut or a missing file nothing is written again by this process.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use strongroom_policy::id::CallId;
use tokio::sync::oneshot;

use super::lines::Lines;
use super::{JOURNAL_FILE, SYNC_EVERY, read};
use crate::keys::purpose::Journal;
use crate::keys::{self, MacKey, TAG_BYTES};

/// Why the journal is not opened or an entry not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file system said no; the entry is not there.
    #[error("the journal cannot be written: {0}")]
    Write(String),
    /// A line does not hold: it was changed, or lines are missing.
    #[error("the journal is damaged at entry {entry}: {reason}")]
    Damaged {
        /// The first entry that does not hold.
        entry: u64,
        /// In words.
        reason: &'static str,
    },
    /// Entries could not be handed to the disk, or the file is gone: this process writes no more.
    #[error("the journal is out of order until the vault is unsealed again: {0}")]
    Broken(&'static str),
    /// More entries wait than fit.
    #[error("too many journal entries wait")]
    Full,
    /// The disk did not take the entry in time.
    #[error("the journal did not answer in time")]
    Slow,
    /// The writer has ended.
    #[error("the journal's writer has ended")]
    Stopped,
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
    cut_bytes: u64,
}

struct Shared {
    entries: AtomicU64,
    dirty: AtomicBool,
    broken: AtomicBool,
}

/// What the writing thread owns.
struct Pen {
    file: File,
    length: u64,
    number: u64,
    chain: [u8; TAG_BYTES],
    key: MacKey<Journal>,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

/// Most groups that wait: one is under way at a time, but for the opening and the closing.
const QUEUE_GROUPS: usize = 16;

impl Writer {
    pub(super) fn start(
        directory: &Path,
        key: MacKey<Journal>,
    ) -> Result<(Self, Vec<CallId>), JournalError> {
        let failed = |error: io::Error| JournalError::Write(error.to_string());
        let path = directory.join(JOURNAL_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed)?;
        let state = read::verify(&mut file, &key)?;
        if state.torn_bytes > 0 {
            file.set_len(state.whole_bytes).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        let shared = Arc::new(Shared {
            entries: AtomicU64::new(state.entries),
            dirty: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        });
        let to_sync = file.try_clone().map_err(failed)?;
        let pen = Pen {
            file,
            length: state.whole_bytes,
            number: state.entries,
            chain: state.chain,
            key,
            shared: Arc::clone(&shared),
            buffer: Vec::with_capacity(64 * 1024),
        };
        let (queue, lines) = sync_channel(QUEUE_GROUPS);
        let (ended, end) = sync_channel(0);
        let syncing = Arc::clone(&shared);
        let threads = vec![
            spawn("journal", move || {
                write_groups(pen, &lines);
                drop(ended);
            })?,
            spawn("journal-sync", move || sync_often((&to_sync, &path), &syncing, &end))?,
        ];
        let writer = Self {
            queue: Mutex::new(Some(queue)),
            threads: Mutex::new(threads),
            shared,
            cut_bytes: state.torn_bytes,
        };
        Ok((writer, state.open_calls))
    }

    /// A writer whose thread is played by a test.
    #[cfg(test)]
    pub(super) fn before(queue: SyncSender<Group>) -> Self {
        let shared = Shared {
            entries: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        };
        Self {
            queue: Mutex::new(Some(queue)),
            threads: Mutex::default(),
            shared: Arc::new(shared),
            cut_bytes: 0,
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

    pub(super) fn entries(&self) -> u64 {
        self.shared.entries.load(Ordering::Relaxed)
    }

    pub(super) fn cut_bytes(&self) -> u64 {
        self.cut_bytes
    }

    pub(super) fn health(&self) -> Result<(), JournalError> {
        if self.shared.broken.load(Ordering::Acquire) {
            return Err(JournalError::Broken("an earlier entry could not be kept"));
        }
        Ok(())
    }

    pub(super) fn stop_admitting(&self) {
        self.shared.broken.store(true, Ordering::Release);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, JournalError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| JournalError::Write(error.to_string()))
}

fn write_groups(mut pen: Pen, groups: &Receiver<Group>) {
    while let Ok(Group { lines, written }) = groups.recv() {
        let outcome = pen.write(&lines);
        // Whoever stopped waiting has refused its calls already.
        drop(written.send((lines, outcome)));
    }
}

impl Pen {
    fn write(&mut self, group: &Lines) -> Result<(), JournalError> {
        if self.shared.broken.load(Ordering::Acquire) {
            return Err(JournalError::Broken("an earlier entry could not be kept"));
        }
        let (mut number, mut chain) = (self.number, self.chain);
        self.buffer.clear();
        for line in group.iter() {
            number = number.saturating_add(1);
            chain = append(&mut self.buffer, number, &chain, (line, &self.key));
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            self.cut_back();
            return Err(JournalError::Write(error.to_string()));
        }
        let written = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.length = self.length.saturating_add(written);
        (self.number, self.chain) = (number, chain);
        self.shared.entries.store(number, Ordering::Relaxed);
        self.shared.dirty.store(true, Ordering::Release);
        Ok(())
    }

    /// Half a line must not stand before the next one.
    fn cut_back(&mut self) {
        let cut = self
            .file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
        if let Err(error) = cut {
            tracing::error!(%error, "a partial journal line cannot be cut off");
            self.shared.broken.store(true, Ordering::Release);
        }
    }
}

/// Writes one line and answers its chain value.
fn append(
    buffer: &mut Vec<u8>,
    number: u64,
    before: &[u8; TAG_BYTES],
    (body, key): (&[u8], &MacKey<Journal>),
) -> [u8; TAG_BYTES] {
    let start = buffer.len();
    // A `Vec` takes everything.
    drop(write!(buffer, "{{\"n\":{number}"));
    buffer.extend_from_slice(body);
    let chain = keys::tag_journal(key, before, buffer.get(start..).unwrap_or_default());
    buffer.extend_from_slice(read::CHAIN_OPENING);
    let digits = buffer.len();
    buffer.resize(digits.saturating_add(chain.len().saturating_mul(2)), b'0');
    // The one error is a place that is not twice as long.
    let _ = hex::encode_to_slice(chain, buffer.get_mut(digits..).unwrap_or_default());
    buffer.extend_from_slice(read::CHAIN_CLOSING);
    chain
}

/// Whether what is written is what lies under the journal's name: not unlinked, renamed or replaced.
fn is_in_place(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, named) = (file.metadata()?, std::fs::metadata(path));
    Ok(named.is_ok_and(|named| named.dev() == ours.dev() && named.ino() == ours.ino()))
}

fn sync_often((file, path): (&File, &Path), shared: &Shared, end: &Receiver<()>) {
    loop {
        let ended = !matches!(end.recv_timeout(SYNC_EVERY), Err(RecvTimeoutError::Timeout));
        let kept =
            if shared.dirty.swap(false, Ordering::AcqRel) { file.sync_data() } else { Ok(()) };
        let there = kept.and_then(|()| is_in_place(file, path));
        match there {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!("the journal's file was taken away; nothing more is admitted");
                shared.broken.store(true, Ordering::Release);
            }
            Err(error) => {
                tracing::error!(%error, "the journal cannot be kept; nothing more is admitted");
                shared.broken.store(true, Ordering::Release);
            }
        }
        if ended {
            return;
        }
    }
}
