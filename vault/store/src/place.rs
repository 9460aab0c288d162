//! The directory of a store: who may read it, who holds it, what names are durable.
//!
//! Invariant: the directory is 0700 before the first file is in it, and every file ends 0600, whatever the umask.
//! Invariant: the directory itself carries the lock, so that holding it writes nothing.
//! Distrusts: anything but plain files and directories in it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::contract::StoreError;

/// Exclusive use of a store's directory, until dropped or until the process ends.
pub(crate) struct Hold {
    dir: PathBuf,
    lock: File,
}

impl Hold {
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        // Not resolved by name: the keeper's filter reads no links, and the lock is on the directory itself.
        let dir = std::path::absolute(dir).map_err(StoreError::io("find the directory"))?;
        let lock = File::open(&dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Missing,
            _ => StoreError::io("open the directory")(error),
        })?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock the directory")(error)),
        }
    }

    /// The absolute path.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Closing is not enough at once: a child between fork and exec still has the descriptor.
        // If it fails, closing does it a moment later.
        drop(self.lock.unlock());
    }
}

/// Makes the directory if it is not there; 0700 either way.
pub(crate) fn make_directory(dir: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("make the directory")(error)),
    }
    set_mode(dir, DIR_MODE)
}

/// Makes a file that only we read, or leaves the one that is there.
pub(crate) fn make_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
        .map_err(StoreError::io("make a file"))
}

/// The length of a plain file, `None` when there is none.
pub(crate) fn length(path: &Path) -> Result<Option<u64>, StoreError> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(StoreError::Foreign),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("look for a file")(error)),
    }
}

/// Sets the modes of everything in a store's directory.
pub(crate) fn tighten(dir: &Path) -> Result<(), StoreError> {
    set_mode(dir, DIR_MODE)?;
    for entry in dir.read_dir().map_err(StoreError::io("list the directory"))? {
        let entry = entry.map_err(StoreError::io("list the directory"))?;
        let kind = entry.file_type().map_err(StoreError::io("list the directory"))?;
        if kind.is_file() {
            set_mode(&entry.path(), FILE_MODE)?;
        } else if kind.is_dir() {
            set_mode(&entry.path(), DIR_MODE)?;
        } else {
            return Err(StoreError::Foreign);
        }
    }
    Ok(())
}

/// Makes the directory's own name durable: needed once, and a confined process may not be allowed
/// to read the parent later.
pub(crate) fn sync_parent(dir: &Path) -> Result<(), StoreError> {
    dir.parent().map_or(Ok(()), sync)
}

/// Syncs one file or directory.
pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync a name"))
}

/// By descriptor: the keeper's filter lets no mode be changed by path.
fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(mode)))
        .map_err(StoreError::io("set a mode"))
}

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
