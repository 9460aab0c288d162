//! The check before a start: open a copy of the store and read all of it, leaving the original alone.
//!
//! Invariant: the original's bytes, names and modes are the same afterwards, whatever happens here.
//! Invariant: the copy is in a directory of mode 0700 and is removed; what an aborted check left is removed by the next.
//! Trusts: nothing in the files. sled panics on most damage, which aborts a release build, and redb may: run
//! this in a process of its own, with a time-out, and take any end but success as a refusal.
//! Distrusts: success too: sled drops the tail of a damaged log without a word. Compare
//! [`Report::records`] with a count that is kept elsewhere.

use std::fs::{self, DirBuilder};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::choice::Choice;
use crate::contract::{Store, StoreError};
use crate::place::Hold;
use crate::postgres::Snapshot;

impl Choice {
    /// Copies the store in `dir` to `<dir>.check` beside it, opens the copy and reads every record.
    /// Holds the original meanwhile, so that no one writes to it.
    ///
    /// # Errors
    /// [`CheckError`]: there is no store, it is in use, it cannot be copied, or the copy is damaged.
    ///
    /// # Panics
    /// sled panics on most damage; see the module's text.
    pub fn check(&self, dir: &Path) -> Result<Report, CheckError> {
        let records =
            self.with_copy(dir, |store| store.scan_all(&mut |_, _| ControlFlow::Continue(())))?;
        Ok(Report { records: records.map_err(CheckError::Copy)? })
    }

    /// Lends the opened copy of the store in `dir`, so that it can be judged before the original is opened: opening makes
    /// sled rewrite a log that it finds damaged and redb repair a file that was not closed, and those are the evidence.
    /// Of a database it is one snapshot instead of a copy.
    ///
    /// # Errors
    /// As [`Choice::check`].
    ///
    /// # Panics
    /// As [`Choice::check`].
    pub fn with_copy<T>(
        &self,
        dir: &Path,
        see: impl FnOnce(&dyn Store) -> T,
    ) -> Result<T, CheckError> {
        self.suits(dir).map_err(CheckError::Original)?;
        match self {
            Self::Sled | Self::Redb => self.with_copied_files(dir, see),
            // A snapshot changes nothing: the server's own transaction is the copy.
            Self::Postgres(database) => {
                let snapshot = Snapshot::take(dir, database).map_err(CheckError::Original)?;
                Ok(see(&snapshot))
            }
        }
    }

    fn with_copied_files<T>(
        &self,
        dir: &Path,
        see: impl FnOnce(&dyn Store) -> T,
    ) -> Result<T, CheckError> {
        let hold = Hold::take(dir).map_err(CheckError::Original)?;
        let scratch = Scratch::beside(hold.dir())?;
        copy(hold.dir(), &scratch.0, Depth::Top)?;
        // `open` also does to the copy what it will do to the original: drop unpublished snapshots.
        let store = self.open(&scratch.0).map_err(CheckError::Copy)?;
        let seen = see(&*store);
        drop(store);
        Ok(seen)
    }
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Records in the store.
    pub records: u64,
}

/// Why a store did not pass.
#[derive(Debug, Clone, Error)]
pub enum CheckError {
    /// The original cannot be held: missing or in use.
    #[error(transparent)]
    Original(StoreError),
    /// The copy does not open or does not read to its end.
    #[error("the store does not pass its check: {0}")]
    Copy(StoreError),
    /// There is something in the directory that no store makes.
    #[error("the store's directory holds something that is not a plain file")]
    Unexpected,
    /// The copy cannot be made.
    #[error("{act} failed: {kind}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// What the system said.
        kind: io::ErrorKind,
    },
}

impl CheckError {
    fn io(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { act, kind: error.kind() }
    }
}

/// The copy's directory, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn beside(dir: &Path) -> Result<Self, CheckError> {
        let mut name = dir.as_os_str().to_owned();
        name.push(SCRATCH_SUFFIX);
        let path = PathBuf::from(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CheckError::io("remove the last check's copy")(error));
            }
            Ok(()) | Err(_) => {}
        }
        make_directory(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is sealed and private, and the next check removes it.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// How deep a copy is: a store is one directory with one level below.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Top,
    Below,
}

fn copy(from: &Path, to: &Path, depth: Depth) -> Result<(), CheckError> {
    let failed = "copy the store";
    for entry in from.read_dir().map_err(CheckError::io(failed))? {
        let entry = entry.map_err(CheckError::io(failed))?;
        let kind = entry.file_type().map_err(CheckError::io(failed))?;
        let target = to.join(entry.file_name());
        if kind.is_file() {
            fs::copy(entry.path(), &target).map_err(CheckError::io(failed))?;
        } else if kind.is_dir() && depth == Depth::Top {
            make_directory(&target)?;
            copy(&entry.path(), &target, Depth::Below)?;
        } else {
            return Err(CheckError::Unexpected);
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), CheckError> {
    DirBuilder::new().mode(0o700).create(path).map_err(CheckError::io("make the copy's directory"))
}

/// What the copy's directory is called after the store's.
const SCRATCH_SUFFIX: &str = ".check";
