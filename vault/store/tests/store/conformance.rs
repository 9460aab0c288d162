//! The contract as tests: every implementation runs the same claims and the same model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use strongroom_store::{
    Batch, Key, MAX_BATCH_OPS, MAX_SCAN_RECORDS, MAX_VALUE_BYTES, MemoryStore, SledStore, Store,
    StoreError, Value,
};

use crate::{key, put, value};

/// Runs every claim on stores that `make` makes empty.
pub(crate) fn conforms<S: Store>(make: impl Fn() -> S) {
    a_committed_value_is_read_back(&make());
    a_failed_expectation_changes_nothing(&make());
    expectations_see_exact_values_and_absence(&make());
    a_batch_above_its_limits_changes_nothing(&make());
    the_largest_batch_is_taken_whole(&make());
    a_scan_is_ordered_bounded_and_stays_in_its_prefix(&make());
    a_full_scan_sees_every_record_once(&make());
    a_poisoned_store_refuses_everything(&make());
}

fn a_committed_value_is_read_back(store: &impl Store) {
    assert_eq!(store.get(&key("a")).unwrap(), None);
    store.commit(put("a", "1").put(key("b"), value(""))).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("1")));
    assert_eq!(store.get(&key("b")).unwrap(), Some(value("")));
    store.commit(Batch::new().delete(key("a")).delete(key("absent"))).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), None);
    store.commit(Batch::new()).unwrap();
}

fn a_failed_expectation_changes_nothing(store: &impl Store) {
    store.commit(put("a", "1")).unwrap();
    let batch = put("a", "2").put(key("b"), value("1")).expect(key("a"), Some(value("0")));
    assert!(matches!(store.commit(batch), Err(StoreError::Conflict)));
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("1")));
    assert_eq!(store.get(&key("b")).unwrap(), None);
    store.commit(put("a", "2").expect(key("a"), Some(value("1")))).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("2")));
}

fn expectations_see_exact_values_and_absence(store: &impl Store) {
    store.commit(put("a", "1").expect(key("a"), None)).unwrap();
    let again = store.commit(put("a", "2").expect(key("a"), None));
    assert!(matches!(again, Err(StoreError::Conflict)));
    let prefix = Batch::new().expect(key("a"), Some(value("")));
    assert!(matches!(store.commit(prefix), Err(StoreError::Conflict)));
    let one_of_two = put("b", "1").expect(key("a"), None).expect(key("a"), Some(value("1")));
    assert!(matches!(store.commit(one_of_two), Err(StoreError::Conflict)));
    assert_eq!(store.get(&key("b")).unwrap(), None);
}

fn a_batch_above_its_limits_changes_nothing(store: &impl Store) {
    let batch = (0..=MAX_BATCH_OPS).fold(Batch::new(), |b, n| b.put(numbered(n), value("1")));
    assert!(matches!(store.commit(batch), Err(StoreError::Limit(_))));
    let full = Value::new(&[1; MAX_VALUE_BYTES]).unwrap();
    let batch = (0..128).fold(Batch::new(), |b, n| b.put(numbered(n), full.clone()));
    assert!(matches!(store.commit(batch), Err(StoreError::Limit(_))));
    assert_eq!(store.scan(b"", None, 1).unwrap(), []);
}

fn the_largest_batch_is_taken_whole(store: &impl Store) {
    let large = Value::new(&[1; 4000]).unwrap();
    let batch = (0..MAX_BATCH_OPS).fold(Batch::new(), |b, n| b.put(numbered(n), large.clone()));
    store.commit(batch).unwrap();
    assert!((0..MAX_BATCH_OPS).all(|n| store.get(&numbered(n)).unwrap() == Some(large.clone())));
}

fn a_scan_is_ordered_bounded_and_stays_in_its_prefix(store: &impl Store) {
    let names = ["a", "b", "b/1", "b/2", "b/3", "b0", "c"];
    store.commit(names.iter().fold(Batch::new(), |b, name| b.put(key(name), value("v")))).unwrap();
    let found = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let page = store.scan(prefix.as_bytes(), after.map(key).as_ref(), limit).unwrap();
        page.iter().map(|(k, _)| String::from_utf8(k.as_bytes().to_vec()).unwrap()).collect()
    };
    assert_eq!(found("b/", None, 10), ["b/1", "b/2", "b/3"]);
    assert_eq!(found("b/", None, 2), ["b/1", "b/2"]);
    assert_eq!(found("b/", Some("b/2"), 10), ["b/3"]);
    assert_eq!(found("b/", Some("a"), 10), ["b/1", "b/2", "b/3"]);
    assert_eq!(found("b/", Some("c"), 10), [""; 0]);
    assert_eq!(found("", Some("b0"), 10), ["c"]);
    assert_eq!(found("", None, 0), [""; 0]);
    assert_eq!(found("zz", None, 10), [""; 0]);
}

fn a_full_scan_sees_every_record_once(store: &impl Store) {
    let total = MAX_SCAN_RECORDS * 2 + 7;
    for chunk in (0..total).collect::<Vec<_>>().chunks(MAX_BATCH_OPS) {
        let batch = chunk.iter().fold(Batch::new(), |b, n| b.put(numbered(*n), value("v")));
        store.commit(batch).unwrap();
    }
    assert_eq!(store.scan(b"", None, usize::MAX).unwrap().len(), MAX_SCAN_RECORDS);
    let mut seen = Vec::new();
    let count = store.scan_all(&mut |key, _| {
        seen.push(key.clone());
        ControlFlow::Continue(())
    });
    assert_eq!(count.unwrap(), total as u64);
    assert_eq!(seen, (0..total).map(numbered).collect::<Vec<_>>());
    assert_eq!(store.scan_all(&mut |_, _| ControlFlow::Break(())).unwrap(), 1);
}

fn a_poisoned_store_refuses_everything(store: &impl Store) {
    store.commit(put("a", "1")).unwrap();
    store.poison();
    assert!(matches!(store.get(&key("a")), Err(StoreError::Poisoned)));
    assert!(matches!(store.scan(b"", None, 1), Err(StoreError::Poisoned)));
    assert!(matches!(store.commit(put("a", "2")), Err(StoreError::Poisoned)));
    assert!(matches!(store.commit(Batch::new()), Err(StoreError::Poisoned)));
}

/// One step of the model test.
#[derive(Debug, Clone)]
enum Step {
    Write { writes: Vec<(u8, Option<u16>)>, expects: Option<(u8, Option<u16>)> },
    Scan { prefix: u8, after: Option<u8>, limit: usize },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few keys, so that steps meet; lengths reach the limit, so that pages split.
    let cell = || (0..40_u8, proptest::option::weighted(0.7, 0..=8192_u16));
    let step = prop_oneof![
        8 => (proptest::collection::vec(cell(), 0..12), proptest::option::weighted(0.3, cell()))
            .prop_map(|(writes, expects)| Step::Write { writes, expects }),
        4 => (0..4_u8, proptest::option::of(0..40_u8), 0..50_usize)
            .prop_map(|(prefix, after, limit)| Step::Scan { prefix, after, limit }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Keys of different lengths, in four families.
fn cell_key(number: u8) -> Key {
    let mut bytes = vec![number % 4];
    bytes.extend(std::iter::repeat_n(number, usize::from(number) * 6 + 1));
    Key::new(&bytes).unwrap()
}

fn cell_value(length: u16) -> Value {
    Value::new(&vec![length.to_be_bytes()[1]; usize::from(length)]).unwrap()
}

fn follows_the_model<S: Store>(make: impl Fn() -> S, reopen: impl Fn(S) -> S, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let mut store = make();
            let mut model = BTreeMap::new();
            for step in steps {
                store = follow(store, &mut model, step, &reopen);
            }
            let all = collect(&store);
            assert_eq!(all, model.into_iter().collect::<Vec<_>>());
            Ok(())
        })
        .unwrap();
}

fn follow<S: Store>(
    store: S,
    model: &mut BTreeMap<Key, Value>,
    step: Step,
    reopen: &impl Fn(S) -> S,
) -> S {
    match step {
        Step::Write { writes, expects } => {
            let mut batch = Batch::new();
            let mut next = model.clone();
            for (number, length) in writes {
                let key = cell_key(number);
                if let Some(length) = length {
                    batch = batch.put(key.clone(), cell_value(length));
                    next.insert(key, cell_value(length));
                } else {
                    batch = batch.delete(key.clone());
                    next.remove(&key);
                }
            }
            // Half of the expectations are true ones.
            let expected = expects.map(|(number, length)| {
                let held = model.get(&cell_key(number)).cloned();
                (cell_key(number), if number % 2 == 0 { held } else { length.map(cell_value) })
            });
            let holds =
                expected.as_ref().is_none_or(|(key, value)| model.get(key) == value.as_ref());
            if let Some((key, value)) = expected {
                batch = batch.expect(key, value);
            }
            match store.commit(batch) {
                Ok(()) => assert!(holds),
                Err(StoreError::Conflict) => assert!(!holds),
                Err(error) => panic!("{error}"),
            }
            if holds {
                *model = next;
            }
            store
        }
        Step::Scan { prefix, after, limit } => {
            let after = after.map(cell_key);
            let expected: Vec<_> = model
                .iter()
                .filter(|(key, _)| key.as_bytes().starts_with(&[prefix]))
                .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
                .take(limit)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            assert_eq!(store.scan(&[prefix], after.as_ref(), limit).unwrap(), expected);
            store
        }
        Step::Reopen => reopen(store),
    }
}

fn collect(store: &impl Store) -> Vec<(Key, Value)> {
    let mut all = Vec::new();
    store
        .scan_all(&mut |key, value| {
            all.push((key.clone(), value.clone()));
            ControlFlow::Continue(())
        })
        .unwrap();
    all
}

fn numbered(number: usize) -> Key {
    Key::new(format!("k{number:05}").as_bytes()).unwrap()
}

/// A fresh place for each store.
struct Places {
    scratch: tempfile::TempDir,
    made: std::cell::Cell<u32>,
}

impl Places {
    fn new() -> Self {
        Self { scratch: tempfile::tempdir().unwrap(), made: std::cell::Cell::new(0) }
    }

    fn current(&self) -> std::path::PathBuf {
        self.scratch.path().join(self.made.get().to_string())
    }

    fn make(&self) -> SledStore {
        self.made.set(self.made.get() + 1);
        SledStore::create(&self.current()).unwrap()
    }
}

#[test]
fn the_memory_store_conforms() {
    conforms(MemoryStore::new);
}

#[test]
fn the_embedded_store_conforms() {
    let places = Places::new();
    conforms(|| places.make());
}

#[test]
fn the_memory_store_follows_the_model() {
    follows_the_model(MemoryStore::new, |store| store, 128);
}

#[test]
fn the_embedded_store_follows_the_model_across_openings() {
    let places = Places::new();
    let reopen = |store| {
        drop(store);
        SledStore::open(&places.current()).unwrap()
    };
    follows_the_model(|| places.make(), reopen, 24);
}

#[test]
fn a_second_handle_on_the_same_store_is_refused() {
    let places = Places::new();
    let store = places.make();
    let dir = places.current();
    assert!(matches!(SledStore::open(&dir), Err(StoreError::InUse)));
    assert!(matches!(SledStore::create(&dir), Err(StoreError::InUse)));
    drop(store);
    drop(SledStore::open(&dir).unwrap());
    assert!(matches!(SledStore::create(&dir), Err(StoreError::Exists)));
}

#[test]
fn a_store_that_is_gone_is_missing_and_never_made_anew() {
    let places = Places::new();
    drop(places.make());
    let dir = places.current();
    std::fs::write(dir.join("db"), b"").unwrap();
    assert!(matches!(SledStore::open(&dir), Err(StoreError::Missing)));
    std::fs::remove_file(dir.join("db")).unwrap();
    assert!(matches!(SledStore::open(&dir), Err(StoreError::Missing)));
    assert!(!dir.join("db").exists());
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(matches!(SledStore::open(&dir), Err(StoreError::Missing)));
    assert!(!dir.exists());
}

#[test]
fn nobody_else_may_read_the_files_even_if_the_modes_were_loosened() {
    let places = Places::new();
    let store = places.make();
    let dir = places.current();
    store.commit(put("a", "1")).unwrap();
    assert_private(&dir);
    drop(store);
    for path in tree(&dir) {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    // Opened twice, because a second opening writes a snapshot.
    drop(SledStore::open(&dir).unwrap());
    let store = SledStore::open(&dir).unwrap();
    store.commit(put("b", "1")).unwrap();
    assert!(tree(&dir).iter().any(|path| path.to_string_lossy().contains("snap.")));
    assert_private(&dir);
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

#[test]
fn every_acknowledgement_follows_an_fsync_of_its_own() {
    let places = Places::new();
    let store = places.make();
    assert_eq!((store.commits(), store.fsyncs()), (0, 1));
    for round in 1..=20_u64 {
        store.commit(put("a", &round.to_string())).unwrap();
        assert_eq!((store.commits(), store.fsyncs()), (round, round + 1));
    }
    let conflict = store.commit(put("a", "x").expect(key("a"), None));
    assert!(matches!(conflict, Err(StoreError::Conflict)));
    assert_eq!((store.commits(), store.fsyncs()), (20, 21));
}

#[test]
fn an_unfinished_snapshot_does_not_block_the_store_and_an_empty_published_one_does() {
    let places = Places::new();
    let store = places.make();
    store.commit(put("a", "1")).unwrap();
    drop(store);
    let dir = places.current();
    let unfinished = dir.join("snap.FFFFFFFFFFFFFFF0.generating");
    std::fs::write(&unfinished, b"").unwrap();
    let store = SledStore::open(&dir).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("1")));
    assert!(!unfinished.exists());
    drop(store);
    let empty = dir.join("snap.FFFFFFFFFFFFFFF0");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(SledStore::open(&dir), Err(StoreError::Corrupt)));
    assert!(empty.exists());
}
