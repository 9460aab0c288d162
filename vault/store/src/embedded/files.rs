//! The files of sled's store: which there are, and what a crash leaves of them.
//!
//! Invariant: nothing is removed that sled ever published.

use std::fs;
use std::path::Path;

use crate::contract::StoreError;
use crate::place::{length, make_directory, make_file, sync};

/// Makes the files that sled would make with the process's umask.
pub(super) fn make_files(dir: &Path) -> Result<(), StoreError> {
    make_directory(&dir.join(BLOBS_DIR))?;
    for name in [DB_FILE, CONF_FILE] {
        drop(make_file(&dir.join(name))?);
    }
    Ok(())
}

/// Whether sled ever wrote a log here. An empty log is a creation that was cut short, or a loss:
/// never something to start from silently.
pub(crate) fn holds_store(dir: &Path) -> Result<bool, StoreError> {
    Ok(length(&dir.join(DB_FILE))?.is_some_and(|length| length > 0))
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

/// Makes the names durable: a file whose directory was never synced can vanish with its content.
pub(super) fn sync_names(dir: &Path) -> Result<(), StoreError> {
    sync(&dir.join(CONF_FILE))?;
    sync(&dir.join(BLOBS_DIR))?;
    sync(dir)
}

/// sled's log.
pub(crate) const DB_FILE: &str = "db";
/// sled's parameters.
const CONF_FILE: &str = "conf";
/// Where sled puts values that are too large for its log.
pub(super) const BLOBS_DIR: &str = "blobs";
const SNAPSHOT_PREFIX: &str = "snap.";
const UNFINISHED_SUFFIX: &str = ".generating";
