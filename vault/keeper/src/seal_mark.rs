//! "An operator sealed it": an empty file that stands from before the keys are dropped until somebody opens the vault.
//!
//! The file takes no block, so that a full disk takes it. After a panic seal the supervisor or the operator's tool writes it.
//!
//! Invariant: it is durable when [`set`] answers; while it stands nothing opens the vault unattended.
//! Invariant: a mark that cannot be looked for counts as standing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use strongroom_protocol::operator::SEAL_MARK;

/// Sets it. Blocks. One that stands already may be the supervisor's, which this process cannot open: it counts, and what makes
/// it durable is its directory.
///
/// # Errors
/// When it is not known to be on the disk.
pub fn set(data: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join(SEAL_MARK)) {
        Ok(mark) => mark.sync_all()?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    File::open(data)?.sync_all()
}

/// Takes it away. Blocks.
///
/// # Errors
/// When it may still stand.
pub fn clear(data: &Path) -> io::Result<()> {
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
