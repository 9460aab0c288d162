//! The directory of an embedded store: who may read it, who holds it, what names are durable.
//!
//! Invariant: the directory is 0700 before the first file is in it, and every file ends 0600, whatever the umask.
//! Invariant: the directory itself carries the lock, so that holding it writes nothing.
//! Distrusts: anything but plain files and directories in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
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
pub(super) fn make_directory(dir: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(DIR_MODE).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("make the directory")(error)),
    }
    set_mode(dir, DIR_MODE)
}

/// Makes the files that sled would make with the process's umask.
pub(super) fn make_files(dir: &Path) -> Result<(), StoreError> {
    make_directory(&dir.join(BLOBS_DIR))?;
    for name in [DB_FILE, CONF_FILE] {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(dir.join(name))
            .map_err(StoreError::io("make a file"))?;
    }
    Ok(())
}

/// Whether sled ever wrote a log here. An empty log is a creation that was cut short, or a loss:
/// never something to start from silently.
pub(super) fn holds_store(dir: &Path) -> Result<bool, StoreError> {
    match dir.join(DB_FILE).symlink_metadata() {
        Ok(found) if found.is_file() => Ok(found.len() > 0),
        Ok(_) => Err(StoreError::Foreign),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("look for the log")(error)),
    }
}

/// Removes snapshots that were never published. sled writes `snap.N.generating`, syncs and renames
/// it; a crash between leaves a file, mostly empty, that sled then takes for its newest snapshot and
/// refuses to open. The rename is what publishes, so nothing depends on the file. A *published*
/// snapshot that is empty stays, as evidence, and the store does not open.
pub(super) fn sweep_unfinished_snapshots(dir: &Path) -> Result<u64, StoreError> {
    let failed = "sweep unfinished snapshots";
    let mut swept = 0_u64;
    for entry in dir.read_dir().map_err(StoreError::io(failed))? {
        let entry = entry.map_err(StoreError::io(failed))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return Err(StoreError::Foreign) };
        if name.starts_with(SNAPSHOT_PREFIX) && name.ends_with(UNFINISHED_SUFFIX) {
            fs::remove_file(entry.path()).map_err(StoreError::io(failed))?;
            swept = swept.saturating_add(1);
        }
    }
    Ok(swept)
}

/// Sets the modes of everything that sled made.
pub(super) fn tighten(dir: &Path) -> Result<(), StoreError> {
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

/// Makes the names durable: a file whose directory was never synced can vanish with its content.
pub(super) fn sync_names(dir: &Path) -> Result<(), StoreError> {
    sync(&dir.join(CONF_FILE))?;
    sync(&dir.join(BLOBS_DIR))?;
    sync(dir)
}

/// Makes the directory's own name durable: needed once, and a confined process may not be allowed
/// to read the parent later.
pub(super) fn sync_parent(dir: &Path) -> Result<(), StoreError> {
    dir.parent().map_or(Ok(()), sync)
}

/// Syncs one file or directory.
pub(super) fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync a name"))
}

/// By descriptor: the keeper's filter lets no mode be changed by path.
fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(mode)))
        .map_err(StoreError::io("set a mode"))
}

/// sled's log.
pub(super) const DB_FILE: &str = "db";
/// sled's parameters.
const CONF_FILE: &str = "conf";
/// Where sled puts values that are too large for its log.
pub(super) const BLOBS_DIR: &str = "blobs";
const SNAPSHOT_PREFIX: &str = "snap.";
const UNFINISHED_SUFFIX: &str = ".generating";
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
