//! The one transfer under way: a backup that is fetched, or files that are brought, in parts.
//!
//! Invariant: one at a time; it ends by itself when nobody goes on with it, and leaves no file and no key in freed blocks.
//! Invariant: what lies in its directory is never a vault; a keeper that starts removes it unread.
//! Distrusts: the order, the size and the names of what is brought.

use std::cell::RefCell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use strongroom_protocol::operator::backup::{
    BroughtFile, MAX_JOURNALS, MAX_PART_BYTES, TransferId,
};
use tokio::sync::Notify;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::timeout;

use super::halt::Halt;
use super::make::Careful;
use crate::erase::{JOURNAL_PREFIX, erase};
use crate::keeper::Keeper;

/// The directory of the one transfer, within the keeper's data.
pub const TRANSFER_DIRECTORY: &str = "transfer";
/// The backup within it.
pub const BACKUP_FILE: &str = "backup";
/// How long nobody may go on with a transfer.
const IDLE: Duration = Duration::from_mins(1);
/// How long the next one waits until the files of the last one are erased.
const ERASE_PATIENCE: Duration = Duration::from_secs(20);

/// What the keeper knows of transfers.
#[derive(Default)]
pub enum Transfers {
    /// There is none.
    #[default]
    Free,
    /// A thread works on it, and ends when this is called.
    Busy(Halt),
    /// It waits for its next part.
    Waiting(Box<Transfer>),
    /// Its files are being erased; who waits for that is told.
    Ending(Rc<Notify>),
}

/// A transfer that waits.
pub struct Transfer {
    id: TransferId,
    way: Way,
    touched: Instant,
}

/// Which way it goes.
pub enum Way {
    /// A backup is fetched.
    Out(File),
    /// Files are brought.
    In,
}

/// Why a transfer is not begun or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Another one is under way.
    #[error("another backup is being made, fetched or brought")]
    Busy,
    /// It ended, or never was, or goes the other way.
    #[error("there is no such transfer (any more)")]
    Unknown,
    /// More than a part may have, or a directory too many.
    #[error("a part of a transfer is too large")]
    TooLarge,
    /// The disk.
    #[error("the transfer's files: {0}")]
    Io(#[from] io::Error),
    /// Randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
}

/// The transfer in the hands of whoever works on it: dropped, it ends and its files are removed.
pub struct Working {
    keeper: Rc<Keeper>,
    id: TransferId,
    directory: PathBuf,
    halt: Halt,
    kept: bool,
}

/// Begins a transfer with an empty directory, after the last one's files are erased.
///
/// # Errors
/// When there is one, or the directory cannot be made.
pub async fn begin(keeper: &Rc<Keeper>) -> Result<Working, TransferError> {
    ended(keeper).await?;
    if !matches!(*keeper.transfers.borrow(), Transfers::Free) {
        return Err(TransferError::Busy);
    }
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id)?;
    let halt = Halt::default();
    *keeper.transfers.borrow_mut() = Transfers::Busy(halt.clone());
    let directory = keeper.settings.data.join(TRANSFER_DIRECTORY);
    let keeper = Rc::clone(keeper);
    // Dropped from here on, it is ended.
    let working = Working { keeper, id: TransferId(id), directory, halt, kept: false };
    let directory = working.directory.clone();
    let made = spawn_blocking(move || {
        erase(&directory)?;
        DirBuilder::new().mode(0o700).create(&directory)
    });
    made.await.map_err(|_| io::Error::other("a thread ended"))??;
    Ok(working)
}

/// Takes up the transfer that waits.
///
/// # Errors
/// When it is another one, or a thread works on it.
pub fn take(keeper: &Rc<Keeper>, id: TransferId) -> Result<(Working, Way), TransferError> {
    let mut slot = keeper.transfers.borrow_mut();
    let halt = Halt::default();
    match mem::replace(&mut *slot, Transfers::Busy(halt.clone())) {
        Transfers::Waiting(transfer) if transfer.id == id => {
            let directory = keeper.settings.data.join(TRANSFER_DIRECTORY);
            let keeper = Rc::clone(keeper);
            Ok((Working { keeper, id, directory, halt, kept: false }, transfer.way))
        }
        other @ (Transfers::Free
        | Transfers::Busy(_)
        | Transfers::Waiting(_)
        | Transfers::Ending(_)) => {
            *slot = other;
            Err(TransferError::Unknown)
        }
    }
}

/// Ends a transfer that nobody goes on with.
pub fn sweep(keeper: &Rc<Keeper>) {
    let idle = match &*keeper.transfers.borrow() {
        Transfers::Waiting(transfer) => transfer.touched.elapsed() >= IDLE,
        Transfers::Free | Transfers::Busy(_) | Transfers::Ending(_) => false,
    };
    if idle {
        end(keeper);
    }
}

/// Tells a thread that copies or opens the whole vault that it closes.
pub fn halt(keeper: &Keeper) {
    match &*keeper.transfers.borrow() {
        Transfers::Busy(halt) => halt.call(),
        Transfers::Free | Transfers::Waiting(_) | Transfers::Ending(_) => {}
    }
}

/// Ends the transfer: its files are erased on another thread, and then there may be another one.
fn end(keeper: &Rc<Keeper>) {
    let ended = Rc::new(Notify::new());
    *keeper.transfers.borrow_mut() = Transfers::Ending(Rc::clone(&ended));
    let keeper = Rc::clone(keeper);
    spawn_local(async move {
        let data = keeper.settings.data.clone();
        if spawn_blocking(move || clear(&data)).await.is_err() {
            tracing::warn!("the thread that erases a transfer's files ended");
        }
        *keeper.transfers.borrow_mut() = Transfers::Free;
        ended.notify_waiters();
    });
}

/// Waits until the files of a transfer that ends are erased.
async fn ended(keeper: &Keeper) -> Result<(), TransferError> {
    let ending = match &*keeper.transfers.borrow() {
        Transfers::Ending(ended) => Rc::clone(ended),
        Transfers::Free | Transfers::Busy(_) | Transfers::Waiting(_) => return Ok(()),
    };
    // On one thread nothing ends between the look and the wait.
    timeout(ERASE_PATIENCE, ending.notified()).await.map_err(|_| TransferError::Busy)
}

/// Erases what a transfer left in the keeper's data. Blocks.
pub fn clear(data: &Path) {
    if let Err(error) = erase(&data.join(TRANSFER_DIRECTORY)) {
        tracing::warn!(%error, "what a backup left in the data directory is not removed");
    }
}

impl Working {
    /// Its number.
    pub const fn id(&self) -> TransferId {
        self.id
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Tells its threads to end.
    pub const fn halt(&self) -> &Halt {
        &self.halt
    }

    /// Ends it, and waits until its files are erased.
    ///
    /// # Errors
    /// When that takes too long; it goes on.
    pub async fn end(self) -> Result<(), TransferError> {
        let keeper = Rc::clone(&self.keeper);
        drop(self);
        ended(&keeper).await
    }

    /// Lets it wait for its next part.
    pub fn wait(mut self, way: Way) {
        let transfer = Transfer { id: self.id, way, touched: Instant::now() };
        *self.keeper.transfers.borrow_mut() = Transfers::Waiting(Box::new(transfer));
        self.kept = true;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.kept {
            // Whoever waited for it is gone: a thread that still works ends too.
            self.halt.call();
            end(&self.keeper);
        }
    }
}

/// The slot of transfers as the keeper holds it.
pub type TransferSlot = RefCell<Transfers>;

/// Makes the file of a backup that is to be fetched.
///
/// # Errors
/// The file system's.
pub fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The next part of a file that is fetched; empty at its end.
///
/// # Errors
/// The file system's.
pub fn next_part(file: &mut File) -> io::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(MAX_PART_BYTES);
    let most = u64::try_from(MAX_PART_BYTES).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut part)?;
    Ok(part)
}

/// Adds a part to a file that is brought.
///
/// # Errors
/// When the part or the directory is too large, or the file cannot be written.
pub fn put(directory: &Path, file: &BroughtFile, bytes: &[u8]) -> Result<(), TransferError> {
    if bytes.len() > MAX_PART_BYTES {
        return Err(TransferError::TooLarge);
    }
    let path = match file {
        BroughtFile::Backup => directory.join(BACKUP_FILE),
        BroughtFile::Journal { directory: number, path } => {
            if *number >= MAX_JOURNALS {
                return Err(TransferError::TooLarge);
            }
            journal_directory(directory, *number).join(path.as_ref())
        }
    };
    if let Some(parent) = path.parent() {
        DirBuilder::new().mode(0o700).recursive(true).create(parent)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    Ok(Careful::new(file)?.write_all(bytes)?)
}

/// Where a journal that is brought lies.
pub fn journal_directory(directory: &Path, number: u8) -> PathBuf {
    directory.join(format!("{JOURNAL_PREFIX}-{number}"))
}
