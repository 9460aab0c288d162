//! Moving a store to another implementation, or into fresh files of the same one, which is how it is compacted.
//!
//! ```text
//! DIR            the store
//! DIR.new        being built and compared; no store, removed by the next move
//! DIR.former     the old store, from the move until somebody who can judge the new one has done so
//! ```
//!
//! No key is needed: rows are copied as they are, and whoever keeps a manifest of them judges the new store by it. That the
//! copy is the original row by row is compared here; that the original was whole is not known here, so it is kept.
//!
//! Invariant: a crash leaves the old store or the new one under the name, or, between two renames, the old one as former:
//! [`settle`] gives it its name back.
//! Invariant: the original is read on a copy, and its bytes are not changed.
//! Distrusts: what lies in the new store, until it was opened again and compared.

use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::batch::Batch;
use crate::check::CheckError;
use crate::choice::{Choice, Kind};
use crate::contract::{MAX_SCAN_RECORDS, Store, StoreError};
use crate::place::sync_parent;
use crate::postgres;
use crate::record::Key;

/// Rows of one batch: few syncs, and far from a batch's limits.
const BATCH_ROWS: usize = 96;

/// Why a store was not moved; it is as it was then.
#[derive(Debug, Clone, Error)]
pub enum MoveError {
    /// The original cannot be read.
    #[error(transparent)]
    Original(#[from] CheckError),
    /// The new store cannot be made or read.
    #[error("the new store: {0}")]
    New(#[from] StoreError),
    /// The new store is not the original.
    #[error("the new store is not the original, row by row")]
    Differs,
    /// Nobody has judged the last move's store yet.
    #[error("the store was moved before, and its vault was not unsealed since")]
    Unjudged,
    /// A database is compacted by its own server.
    #[error("a database's server compacts its tables itself")]
    Database,
}

/// A store that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Rows that were copied.
    pub rows: u64,
    /// The schema that the old store has in its database, where it was in one: nobody removes it.
    pub schema: Option<String>,
}

/// Gives a store its name back that a crash left as former. Somebody must hold the data directory.
///
/// # Errors
/// [`StoreError::Io`].
pub fn settle(dir: &Path) -> Result<(), StoreError> {
    let former = beside(dir, FORMER);
    if !is_there(dir)? && is_there(&former)? {
        fs::rename(&former, dir).map_err(StoreError::io("give the store its name back"))?;
        sync_parent(dir)?;
    }
    Ok(())
}

/// Removes what a move left behind, after the store was judged to be the right one.
///
/// # Errors
/// [`StoreError::Io`].
pub fn forget_former(dir: &Path) -> Result<(), StoreError> {
    remove(&beside(dir, NEW))?;
    remove(&beside(dir, FORMER))
}

/// Builds the store in `dir` anew by `to`, compares it, and puts it in the place of the old one. `progress` hears how many
/// rows are copied, and of how many. Somebody must hold the data directory.
///
/// # Errors
/// [`MoveError`]; the old store stands then.
pub fn move_store(
    dir: &Path,
    (from, to): (&Choice, &Choice),
    name: &[u8; 16],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Moved, MoveError> {
    settle(dir)?;
    let (new, former) = (beside(dir, NEW), beside(dir, FORMER));
    if is_there(&former)? {
        return Err(MoveError::Unjudged);
    }
    if from.kind() == Kind::Postgres && to.kind() == Kind::Postgres {
        return Err(MoveError::Database);
    }
    clear(&new, to)?;
    let built = from.with_copy(dir, |old| build((old, &new), (to, name), progress))?;
    let rows = match built {
        Ok(rows) => rows,
        Err(error) => {
            clear(&new, to)?;
            return Err(error);
        }
    };
    let schema = postgres::schema_of(dir)?;
    fs::rename(dir, &former).map_err(StoreError::io("put the old store aside"))?;
    sync_parent(dir)?;
    fs::rename(&new, dir).map_err(StoreError::io("give the new store its name"))?;
    sync_parent(dir)?;
    Ok(Moved { rows, schema })
}

fn build(
    (old, new): (&dyn Store, &Path),
    (to, name): (&Choice, &[u8; 16]),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, MoveError> {
    let all = old.scan_all(&mut |_, _| ControlFlow::Continue(())).map_err(CheckError::Copy)?;
    let store = to.create(new, name)?;
    let (mut batch, mut rows, mut failed) = (Batch::new(), 0_u64, None);
    old.scan_all(&mut |key, value| {
        batch = std::mem::take(&mut batch).put(key.clone(), value.clone());
        rows = rows.saturating_add(1);
        if batch.ops() < BATCH_ROWS {
            return ControlFlow::Continue(());
        }
        progress(rows, all);
        match store.commit(std::mem::take(&mut batch)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })
    .map_err(CheckError::Copy)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if !batch.is_empty() {
        store.commit(batch)?;
    }
    drop(store);
    let store = to.open(new)?;
    compare(old, &*store)?;
    progress(rows, all);
    Ok(rows)
}

fn compare(old: &dyn Store, new: &dyn Store) -> Result<(), MoveError> {
    let mut last: Option<Key> = None;
    loop {
        let expected = old.scan(b"", last.as_ref(), MAX_SCAN_RECORDS).map_err(CheckError::Copy)?;
        if expected != new.scan(b"", last.as_ref(), MAX_SCAN_RECORDS)? {
            return Err(MoveError::Differs);
        }
        match expected.into_iter().next_back() {
            Some((key, _)) => last = Some(key),
            None => return Ok(()),
        }
    }
}

/// Removes what an earlier move built, in its database too.
fn clear(new: &Path, to: &Choice) -> Result<(), StoreError> {
    if let Choice::Postgres(database) = to
        && is_there(new)?
    {
        postgres::drop_schema_of(new, database)?;
    }
    remove(new)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io("remove an old store")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(StoreError::io("look for a store"))
}

fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

const NEW: &str = ".new";
const FORMER: &str = ".former";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Value;

    const NAME: [u8; 16] = [3; 16];
    const ROWS: u32 = 500;

    fn fill(choice: &Choice, dir: &Path) {
        let store = choice.create(dir, &NAME).unwrap();
        for first in (0..ROWS).step_by(50) {
            let batch = (first..first + 50).fold(Batch::new(), |batch, number| {
                let key = Key::new(&number.to_be_bytes()).unwrap();
                batch.put(key, Value::new(&[7; 300]).unwrap())
            });
            store.commit(batch).unwrap();
        }
    }

    fn rows(choice: &Choice, dir: &Path) -> u64 {
        choice.open(dir).unwrap().scan_all(&mut |_, _| ControlFlow::Continue(())).unwrap()
    }

    fn try_move(dir: &Path, from: &Choice, to: &Choice) -> Result<Moved, MoveError> {
        move_store(dir, (from, to), &NAME, &mut |_, _| {})
    }

    #[test]
    fn a_store_moves_between_kinds_and_not_again_before_it_was_judged() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("store");
        fill(&Choice::Sled, &dir);
        let mut told = Vec::new();
        let mut tell = |rows, all| told.push((rows, all));
        let moved = move_store(&dir, (&Choice::Sled, &Choice::Redb), &NAME, &mut tell).unwrap();
        assert_eq!(moved, Moved { rows: ROWS.into(), schema: None });
        assert!(told.len() > 2 && told.is_sorted(), "{told:?}");
        assert!(told.iter().all(|(_, all)| *all == u64::from(ROWS)), "{told:?}");
        assert_eq!(told.last(), Some(&(ROWS.into(), ROWS.into())));
        assert_eq!(rows(&Choice::Redb, &dir), u64::from(ROWS));
        assert!(matches!(Choice::Sled.open(&dir), Err(StoreError::OtherKind { .. })));
        let again = try_move(&dir, &Choice::Redb, &Choice::Sled);
        assert!(matches!(again, Err(MoveError::Unjudged)), "{again:?}");
        forget_former(&dir).unwrap();
        try_move(&dir, &Choice::Redb, &Choice::Sled).unwrap();
        assert_eq!(rows(&Choice::Sled, &dir), u64::from(ROWS));
    }

    /// What sled's log keeps of values that were overwritten is gone.
    #[test]
    fn a_compacted_store_is_smaller() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("store");
        let store = Choice::Sled.create(&dir, &NAME).unwrap();
        for round in 0..40_u8 {
            let batch = (0..60_u32).fold(Batch::new(), |batch, number| {
                let key = Key::new(&number.to_be_bytes()).unwrap();
                batch.put(key, Value::new(&[round; 8000]).unwrap())
            });
            store.commit(batch).unwrap();
        }
        drop(store);
        let size = |dir: &Path| fs::metadata(dir.join("db")).unwrap().len();
        let before = size(&dir);
        try_move(&dir, &Choice::Sled, &Choice::Sled).unwrap();
        assert!(size(&dir) < before, "{before} → {}", size(&dir));
        assert_eq!(rows(&Choice::Sled, &dir), 60);
    }

    /// Red when the renames are in another order, or nobody settles. Each image is what a crash leaves at that step.
    #[test]
    fn a_crash_at_each_step_leaves_a_whole_store_of_one_kind() {
        for step in 0..5 {
            let scratch = tempfile::tempdir().unwrap();
            let dir = scratch.path().join("store");
            let (new, former) = (beside(&dir, NEW), beside(&dir, FORMER));
            fill(&Choice::Sled, &dir);
            let kind = match step {
                // Half built, of whatever kind; built whole.
                0 => {
                    fs::create_dir(&new).unwrap();
                    fs::write(new.join("db"), "half").unwrap();
                    &Choice::Sled
                }
                1 => {
                    fill(&Choice::Redb, &new);
                    &Choice::Sled
                }
                // Between the renames.
                2 => {
                    fill(&Choice::Redb, &new);
                    fs::rename(&dir, &former).unwrap();
                    &Choice::Sled
                }
                // Behind them; and after the old one was half removed.
                _ => {
                    try_move(&dir, &Choice::Sled, &Choice::Redb).unwrap();
                    if step == 4 {
                        fs::remove_file(former.join("db")).unwrap();
                    }
                    &Choice::Redb
                }
            };
            settle(&dir).unwrap();
            assert_eq!(rows(kind, &dir), u64::from(ROWS), "step {step}");
            forget_former(&dir).unwrap();
            assert!(!new.exists() && !former.exists(), "step {step}");
            try_move(&dir, kind, &Choice::Redb).unwrap();
            assert_eq!(rows(&Choice::Redb, &dir), u64::from(ROWS), "step {step}");
        }
    }

    /// Red when the new store is not compared.
    #[test]
    fn a_new_store_that_is_not_the_original_row_by_row_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
        fill(&Choice::Redb, &one);
        fill(&Choice::Redb, &two);
        let (one, two) = (Choice::Redb.open(&one).unwrap(), Choice::Redb.open(&two).unwrap());
        assert!(compare(&*one, &*two).is_ok());
        let changed = Key::new(&(ROWS - 1).to_be_bytes()).unwrap();
        for batch in [
            Batch::new().put(changed.clone(), Value::new(b"other").unwrap()),
            Batch::new().delete(changed),
        ] {
            two.commit(batch).unwrap();
            assert!(matches!(compare(&*one, &*two), Err(MoveError::Differs)));
            assert!(matches!(compare(&*two, &*one), Err(MoveError::Differs)));
        }
    }
}
