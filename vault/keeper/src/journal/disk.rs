//! The system calls that change the journal's directory, one function each, so that a test can cut between any two.
//!
//! Invariant: a file that is replaced appears whole, by its name, and is durable when the function answers.
//! Distrusts: what lies in the directory: no link is followed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};

/// Makes a new, empty file.
pub(super) fn create(path: &Path) -> io::Result<File> {
    step()?;
    options().append(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file to append to it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    options().append(true).open(path)
}

/// Appends all of it.
pub(super) fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    cuts::half_write(file, bytes)?;
    file.write_all(bytes)
}

/// Cuts a file's end off.
pub(super) fn truncate(file: &File, length: u64) -> io::Result<()> {
    step()?;
    file.set_len(length)
}

/// Hands a file's bytes to the disk.
pub(super) fn sync(file: &File) -> io::Result<()> {
    step()?;
    file.sync_data()?;
    #[cfg(test)]
    cuts::synced(file)?;
    Ok(())
}

/// Hands a directory's names to the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    step()?;
    #[cfg(test)]
    cuts::directory_synced(path);
    File::open(path)?.sync_all()
}

/// Gives a file another name; what had it is gone.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    fs::rename(from, to)
}

/// Takes a file away, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the directory of a file, and those above it up to `root`, durable when it answers.
pub(super) fn make_directory_of(path: &Path, root: &Path) -> io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    if directory == root || directory.is_dir() {
        return Ok(());
    }
    make_directory_of(directory, root)?;
    step()?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    sync_directory(directory.parent().unwrap_or(root))
}

/// Writes a file that can be made again out of others: under its own name, and without asking the disk for it. After a power cut it
/// may be missing or torn.
pub(super) fn lay(path: &Path, bytes: &[u8]) -> io::Result<()> {
    step()?;
    let file = options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    write(&file, bytes)
}

/// Puts bytes in the place of a small file, durable when it answers. They go into the file that had the name before the last time,
/// and the two change names: nothing is made or unlinked, which costs some file systems more than all the rest.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let spare = path.with_extension("new");
    step()?;
    let file = options().write(true).create(true).truncate(false).mode(0o600).open(&spare)?;
    overwrite(&file, bytes)?;
    sync(&file)?;
    exchange(&spare, path)?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Writes over what is in a file.
fn overwrite(file: &File, bytes: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    cuts::half_overwrite(file, bytes)?;
    file.write_all_at(bytes, 0)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if file.metadata()?.len() > length {
        truncate(file, length)?;
    }
    Ok(())
}

/// Has two files change names; where there is no second one, or the file system cannot, it is a rename.
fn exchange(from: &Path, to: &Path) -> io::Result<()> {
    step()?;
    let flags = RenameFlags::RENAME_EXCHANGE;
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) {
        Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS) => fs::rename(from, to),
        exchanged => Ok(exchanged?),
    }
}

/// A file of the journal is never a link: one planted in its place would move our writes elsewhere.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
    options
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "a test's step fails where it cuts")]
const fn step() -> io::Result<()> {
    Ok(())
}
#[cfg(test)]
use cuts::step;

/// The crash that a test plays: from a chosen system call on nothing happens any more.
#[cfg(test)]
pub(super) mod cuts {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::{self, Write};
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::path::{Path, PathBuf};

    use nix::errno::Errno;

    thread_local! {
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static REFUSED: Cell<Option<usize>> = const { Cell::new(None) };
        static UNSYNCED: RefCell<BTreeMap<u64, u64>> = const { RefCell::new(BTreeMap::new()) };
        static DIRECTORIES: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
    }

    /// From the `calls`-th system call of this thread on, nothing is done.
    pub(in super::super) fn after(calls: Option<usize>) {
        LEFT.set(calls);
    }

    /// The `call`-th system call of this thread finds the disk full; those after it are done.
    pub(in super::super) fn refuse(call: Option<usize>) {
        REFUSED.set(call);
    }

    /// Whether a call is still to be refused.
    pub(in super::super) fn refuses() -> bool {
        REFUSED.get().is_some()
    }

    /// Whether the cut has happened.
    pub(in super::super) fn happened() -> bool {
        LEFT.get() == Some(0)
    }

    /// What of each file, by inode, is on the disk for certain; forgets it.
    pub(in super::super) fn take_unsynced() -> BTreeMap<u64, u64> {
        UNSYNCED.take()
    }

    /// Which directories' names were handed to the disk since the last time, in that order.
    pub(in super::super) fn take_directories() -> Vec<PathBuf> {
        DIRECTORIES.take()
    }

    pub(super) fn directory_synced(path: &Path) {
        DIRECTORIES.with_borrow_mut(|directories| directories.push(path.to_path_buf()));
    }

    pub(super) fn step() -> io::Result<()> {
        if let Some(left) = REFUSED.get() {
            REFUSED.set(left.checked_sub(1));
            if left == 0 {
                return Err(Errno::ENOSPC.into());
            }
        }
        match LEFT.get() {
            Some(0) => Err(io::Error::other("the machine is dead")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn half_write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
        let about = file.metadata()?;
        UNSYNCED.with_borrow_mut(|unsynced| {
            unsynced.entry(about.ino()).or_insert(about.len());
        });
        if let Err(error) = step() {
            if error.kind() == io::ErrorKind::StorageFull {
                file.write_all(&bytes[..bytes.len() / 2])?;
            }
            return Err(error);
        }
        if happened() {
            // The last call before the cut is done in half.
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::other("the machine is dead"));
        }
        Ok(())
    }

    /// What is written over is in doubt as a whole until it is synced.
    pub(super) fn half_overwrite(file: &File, bytes: &[u8]) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        UNSYNCED.with_borrow_mut(|unsynced| unsynced.insert(inode, 0));
        step()?;
        if happened() {
            file.write_all_at(&bytes[..bytes.len() / 2], 0)?;
            return Err(io::Error::other("the machine is dead"));
        }
        Ok(())
    }

    pub(super) fn synced(file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        UNSYNCED.with_borrow_mut(|unsynced| unsynced.remove(&inode));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
