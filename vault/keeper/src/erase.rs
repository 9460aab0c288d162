//! Removing directories in which a keyring lay, so that no copy of it lingers in freed blocks.
//!
//! A backup begins with a whole keyring, and whatever is restored from it holds another one. Keys that are destroyed later
//! must not live on there: what such a directory holds is overwritten and synced before its names go.
//!
//! Invariant: a name goes only after the sync of what overwrote its bytes; where that fails the directory stays, and the
//! next try begins with it.
//! Limit: flash remapping, copy-on-write file systems and snapshots keep what they keep.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// How far from a file's start keys can lie: two slots of a keyring, or the header of a backup.
const REACH_BYTES: u64 = 8 * 1024 * 1024 + 64 * 1024;
/// Looked at and written at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// How directories of journals are called, which hold no keys and may hold very many files.
pub const JOURNAL_PREFIX: &str = "journal";

/// Overwrites what a directory holds and removes it; it may not be there. Blocks.
///
/// # Errors
/// The file system's; what was not overwritten is still there then.
pub fn erase(directory: &Path) -> io::Result<()> {
    match overwrite(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    fs::remove_dir_all(directory)
}

fn overwrite(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !entry.file_name().to_string_lossy().starts_with(JOURNAL_PREFIX) {
                overwrite(&entry.path())?;
            }
        } else if kind.is_file() {
            blank(&entry.path())?;
        }
    }
    Ok(())
}

/// Zeros over whatever is not zero, so that no hole of a sparse file is filled.
fn blank(path: &Path) -> io::Result<()> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits();
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let (mut at, mut block) = (0_u64, vec![0_u8; BLOCK_BYTES]);
    let mut written = false;
    while at < REACH_BYTES {
        let found = read_block(&file, &mut block, at)?;
        let bytes = block.get_mut(..found).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            bytes.fill(0);
            file.write_all_at(bytes, at)?;
            written = true;
        }
        if found < BLOCK_BYTES {
            break;
        }
        at = at.saturating_add(u64::try_from(found).unwrap_or(u64::MAX));
    }
    if written { file.sync_data() } else { Ok(()) }
}

fn read_block(file: &File, block: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(room) = block.get_mut(filled..).filter(|room| !room.is_empty()) {
        let from = at.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match file.read_at(room, from) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Second names for files, by which tests see what lay in them when their first name went.
#[cfg(test)]
pub(crate) mod afterlife {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Gives each file below `directory`, journals apart, a second name in `to`; answers how many there are.
    pub(crate) fn link(directory: &Path, to: &Path) -> usize {
        fs::create_dir_all(to).unwrap();
        let mut linked = 0;
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() && !name.starts_with(super::JOURNAL_PREFIX) {
                linked += link(&entry.path(), &to.join(name));
            } else if entry.path().is_file() {
                fs::hard_link(entry.path(), to.join(name)).unwrap();
                linked += 1;
            }
        }
        linked
    }

    /// The files that still hold something.
    pub(crate) fn legible(to: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(to).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(legible(&path));
            } else if fs::read(&path).unwrap().iter().any(|byte| *byte != 0) {
                found.push(path);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::scratch::Scratch;

    /// Red when the files are unlinked only.
    #[test]
    fn what_is_erased_is_blank_wherever_else_it_is_named_and_links_are_not_followed() {
        let scratch = Scratch::make();
        let (place, beside) = (scratch.path("place"), scratch.path("beside"));
        fs::create_dir_all(place.join("store")).unwrap();
        fs::create_dir_all(place.join("journal-0/tile")).unwrap();
        fs::write(&beside, "not ours").unwrap();
        std::os::unix::fs::symlink(&beside, place.join("link")).unwrap();
        fs::write(place.join("keyring"), vec![7; 3 * BLOCK_BYTES + 5]).unwrap();
        fs::write(place.join("store/db"), "sealed").unwrap();
        fs::write(place.join("empty"), "").unwrap();
        fs::write(place.join("journal-0/tile/0"), "an entry").unwrap();
        let sparse = File::create(place.join("sparse")).unwrap();
        sparse.set_len(REACH_BYTES * 2).unwrap();
        sparse.write_all_at(b"x", BLOCK_BYTES as u64 * 100).unwrap();
        let linked = scratch.path("linked");
        // The link's target is linked too, under the link's name.
        assert_eq!(afterlife::link(&place, &linked), 5);
        erase(&place).unwrap();
        assert!(!place.exists());
        assert_eq!(afterlife::legible(&linked), [linked.join("link")]);
        assert_eq!(fs::read(&beside).unwrap(), b"not ours");
        let kept =
            std::os::unix::fs::MetadataExt::blocks(&fs::metadata(linked.join("sparse")).unwrap());
        assert!(kept * 512 <= 2 * BLOCK_BYTES as u64, "no hole was filled");
        erase(&place).unwrap();
    }
}
