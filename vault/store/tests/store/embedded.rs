//! What both embedded stores promise of their files, on top of the contract.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use strongroom_store::{Choice, Kind, Store, StoreError};

use crate::conformance::{conforms, follows_the_model};
use crate::{NAME, key, put, value};

/// A fresh place for each store.
pub(crate) struct Places {
    choice: Choice,
    scratch: tempfile::TempDir,
    made: std::cell::Cell<u32>,
}

impl Places {
    pub(crate) fn new(choice: Choice) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        Self { choice, scratch, made: std::cell::Cell::new(0) }
    }

    pub(crate) fn current(&self) -> std::path::PathBuf {
        self.scratch.path().join(self.made.get().to_string())
    }

    fn make(&self) -> Arc<dyn Store> {
        self.made.set(self.made.get() + 1);
        self.choice.create(&self.current(), &NAME).unwrap()
    }

    fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.choice.open(&self.current())
    }
}

/// The file without which there is no store.
fn main_file(choice: &Choice) -> &'static str {
    match choice.kind() {
        Kind::Sled => "db",
        Kind::Redb => "records.redb",
        Kind::Postgres => "postgres",
    }
}

#[test]
fn sled_conforms() {
    let places = Places::new(Choice::Sled);
    conforms(|| places.make());
}

#[test]
fn redb_conforms() {
    let places = Places::new(Choice::Redb);
    conforms(|| places.make());
}

fn across_openings(choice: Choice) {
    let places = Places::new(choice);
    let reopen = |store| {
        drop(store);
        places.open().unwrap()
    };
    follows_the_model(|| places.make(), reopen, 24);
}

#[test]
fn sled_follows_the_model_across_openings() {
    across_openings(Choice::Sled);
}

#[test]
fn redb_follows_the_model_across_openings() {
    across_openings(Choice::Redb);
}

#[test]
fn a_second_handle_on_the_same_store_is_refused() {
    for choice in [Choice::Sled, Choice::Redb] {
        let places = Places::new(choice.clone());
        let store = places.make();
        let dir = places.current();
        assert!(matches!(places.open(), Err(StoreError::InUse)));
        drop(store);
        drop(places.open().unwrap());
        assert!(matches!(choice.create(&dir, &NAME), Err(StoreError::Exists)));
    }
}

// Red when a choice opens without asking which kind it finds.
#[test]
fn a_store_is_opened_by_the_kind_that_made_it_and_by_no_other() {
    for (made, other) in [(Choice::Sled, Choice::Redb), (Choice::Redb, Choice::Sled)] {
        let places = Places::new(made.clone());
        drop(places.make());
        let refused = other.open(&places.current());
        let Err(StoreError::OtherKind { found, chosen }) = refused else { panic!("opened") };
        assert_eq!((found, chosen), (made.kind(), other.kind()));
        assert!(matches!(other.create(&places.current(), &NAME), Err(StoreError::Exists)));
        assert!(other.check(&places.current()).is_err());
        drop(places.open().unwrap());
    }
}

#[test]
fn a_store_that_is_gone_is_missing_and_never_made_anew() {
    for choice in [Choice::Sled, Choice::Redb] {
        let places = Places::new(choice.clone());
        drop(places.make());
        let dir = places.current();
        let file = dir.join(main_file(&choice));
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(places.open(), Err(StoreError::Missing)));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(places.open(), Err(StoreError::Missing)));
        assert!(!file.exists());
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(matches!(places.open(), Err(StoreError::Missing)));
        assert!(!dir.exists());
    }
}

#[test]
fn nobody_else_may_read_the_files_even_if_the_modes_were_loosened() {
    for choice in [Choice::Sled, Choice::Redb] {
        let places = Places::new(choice);
        let store = places.make();
        let dir = places.current();
        store.commit(put("a", "1")).unwrap();
        assert_private(&dir);
        drop(store);
        for path in tree(&dir) {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        // Opened twice, because a second opening makes sled write a snapshot.
        drop(places.open().unwrap());
        let store = places.open().unwrap();
        store.commit(put("b", "1")).unwrap();
        assert_eq!(store.get(&key("a")).unwrap(), Some(value("1")));
        assert_private(&dir);
    }
}

fn assert_private(dir: &Path) {
    for path in tree(dir) {
        let found = path.metadata().unwrap();
        let expected = if found.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(found.permissions().mode() & 0o7777, expected, "{}", path.display());
    }
}

/// The directory and everything in it.
pub(crate) fn tree(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(tree(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
