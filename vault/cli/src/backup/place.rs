//! Where scheduled backups go: a directory that an operator prepared, told by a marker that lies on its disk.
//!
//! Invariant: nothing is written into a directory without the marker: where a disk is not mounted it is the one below.

use std::path::Path;

use crate::failure::{Code, Failure, Outcome};
use crate::files;

/// The marker's name.
const MARKER: &str = ".strongroom-backups";
const TEXT: &[u8] = b"Strongroom writes its scheduled backups here. Without this file it takes the disk for not mounted.\n";

/// Prepares a directory, and makes it if it is not there.
pub(super) fn prepare(directory: &Path) -> Outcome {
    if !directory.exists() {
        files::directory(directory, 0o700)?;
    }
    let marker = directory.join(MARKER);
    if marker.symlink_metadata().is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    files::create(&marker, TEXT, 0o600)
}

/// That a directory is one that was prepared.
pub(super) fn check(directory: &Path) -> Outcome {
    match directory.join(MARKER).symlink_metadata() {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) | Err(_) => {
            let place = directory.display();
            let what = format!(
                "{place} holds no {MARKER}: it was not prepared, or its disk is not mounted"
            );
            let next = format!("mount it; the first time then 'strongroom backup init {place}'");
            Err(Failure::new(Code::BackupPlace, what).next(next))
        }
    }
}
