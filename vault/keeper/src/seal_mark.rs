//! "An operator sealed it": an empty file that stands from before the keys are dropped until somebody opens the vault.
//!
//! The file takes no block, so that a full disk takes it. After a panic seal the supervisor or the operator's tool writes it.
//!
//! Invariant: it is durable when it was written without an error; while it stands nothing opens the vault unattended.
//! Invariant: whoever writes late writes what is wanted then: a disk that was slow to take an earlier mark away does not take a later one.
//! Invariant: a mark that cannot be looked for counts as standing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use strongroom_protocol::operator::SEAL_MARK;

/// Whether it is to stand, also while the disk does not take it.
#[derive(Debug, Default)]
pub struct Mark {
    wanted: AtomicBool,
    turn: Mutex<()>,
}

impl Mark {
    /// An operator sealed the vault, or somebody opened it.
    pub fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Release);
    }

    /// Whether an operator sealed the vault and nobody opened it since.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Makes the disk say so, one after another. Blocks.
    ///
    /// # Errors
    /// When it is not known to be on the disk, or may still stand.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_wanted() { set(data) } else { clear(data) }
    }
}

#[cfg(test)]
impl Mark {
    /// A disk that does not answer, as long as this is held.
    pub(crate) fn stall(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turn.lock().unwrap()
    }
}

/// Sets it. Blocks. One that stands already may be the supervisor's, which this process cannot open: it counts, and what makes
/// it durable is its directory.
fn set(data: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join(SEAL_MARK)) {
        Ok(mark) => mark.sync_all()?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    File::open(data)?.sync_all()
}

/// Takes it away. Blocks.
fn clear(data: &Path) -> io::Result<()> {
    match fs::remove_file(data.join(SEAL_MARK)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(data)?.sync_all(),
    }
}

/// Whether it stands. Blocks.
pub fn stands(data: &Path) -> bool {
    !matches!(fs::symlink_metadata(data.join(SEAL_MARK)), Err(error) if error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red when a writer does what was wanted when it was begun.
    #[test]
    fn a_late_writer_does_what_is_wanted_now() {
        let scratch = tempfile::tempdir().unwrap();
        let mark = std::sync::Arc::new(Mark::default());
        let turn = mark.turn.lock().unwrap();
        let (late, data) = (std::sync::Arc::clone(&mark), scratch.path().to_path_buf());
        let (says, said) = std::sync::mpsc::channel();
        let late = std::thread::spawn(move || {
            says.send(nix::unistd::gettid()).unwrap();
            late.write(&data)
        });
        let about = format!("/proc/self/task/{}/stat", said.recv().unwrap());
        while !fs::read_to_string(&about).unwrap().contains(") S ") {
            std::thread::yield_now();
        }
        mark.want(true);
        drop(turn);
        late.join().unwrap().unwrap();
        assert!(stands(scratch.path()));
        mark.want(false);
        mark.write(scratch.path()).unwrap();
        assert!(!stands(scratch.path()));
    }

    #[test]
    fn a_mark_stands_until_it_is_taken_away_and_counts_when_it_cannot_be_looked_for() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(!stands(scratch.path()));
        clear(scratch.path()).unwrap();
        for _ in 0..2 {
            set(scratch.path()).unwrap();
            assert!(stands(scratch.path()));
        }
        clear(scratch.path()).unwrap();
        assert!(!stands(scratch.path()));
        // One that cannot be opened is one all the same.
        std::os::unix::fs::symlink("nowhere", scratch.path().join(SEAL_MARK)).unwrap();
        set(scratch.path()).unwrap();
        assert!(stands(scratch.path()));
        clear(scratch.path()).unwrap();
        assert!(!stands(scratch.path()));
        let file = scratch.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(set(&file).is_err() && stands(&file), "a place that is no directory");
    }
}
