//! The contract as tests: every implementation runs the same claims and the same model.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestRunner};
use strongroom_store::{
    Batch, Key, MAX_BATCH_OPS, MAX_SCAN_RECORDS, MAX_VALUE_BYTES, MemoryStore, Store, StoreError,
    Value,
};

use crate::{key, put, value};

/// Runs every claim on stores that `make` makes empty.
pub(crate) fn conforms(make: impl Fn() -> Arc<dyn Store>) {
    a_committed_value_is_read_back(&*make());
    a_failed_expectation_changes_nothing(&*make());
    expectations_see_exact_values_and_absence(&*make());
    a_batch_above_its_limits_changes_nothing(&*make());
    the_largest_batch_is_taken_whole(&*make());
    a_scan_is_ordered_bounded_and_stays_in_its_prefix(&*make());
    a_full_scan_sees_every_record_once(&*make());
    a_poisoned_store_refuses_everything(&*make());
}

fn a_committed_value_is_read_back(store: &dyn Store) {
    assert_eq!(store.get(&key("a")).unwrap(), None);
    store.commit(put("a", "1").put(key("b"), value(""))).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("1")));
    assert_eq!(store.get(&key("b")).unwrap(), Some(value("")));
    store.commit(Batch::new().delete(key("a")).delete(key("absent"))).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), None);
    store.commit(Batch::new()).unwrap();
}

fn a_failed_expectation_changes_nothing(store: &dyn Store) {
    store.commit(put("a", "1")).unwrap();
    let batch = put("a", "2").put(key("b"), value("1")).expect(key("a"), Some(value("0")));
    assert!(matches!(store.commit(batch), Err(StoreError::Conflict)));
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("1")));
    assert_eq!(store.get(&key("b")).unwrap(), None);
    store.commit(put("a", "2").expect(key("a"), Some(value("1")))).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("2")));
}

fn expectations_see_exact_values_and_absence(store: &dyn Store) {
    store.commit(put("a", "1").expect(key("a"), None)).unwrap();
    let again = store.commit(put("a", "2").expect(key("a"), None));
    assert!(matches!(again, Err(StoreError::Conflict)));
    let prefix = Batch::new().expect(key("a"), Some(value("")));
    assert!(matches!(store.commit(prefix), Err(StoreError::Conflict)));
    let one_of_two = put("b", "1").expect(key("a"), None).expect(key("a"), Some(value("1")));
    assert!(matches!(store.commit(one_of_two), Err(StoreError::Conflict)));
    assert_eq!(store.get(&key("b")).unwrap(), None);
}

fn a_batch_above_its_limits_changes_nothing(store: &dyn Store) {
    let batch = (0..=MAX_BATCH_OPS).fold(Batch::new(), |b, n| b.put(numbered(n), value("1")));
    assert!(matches!(store.commit(batch), Err(StoreError::Limit(_))));
    let full = Value::new(&[1; MAX_VALUE_BYTES]).unwrap();
    let batch = (0..128).fold(Batch::new(), |b, n| b.put(numbered(n), full.clone()));
    assert!(matches!(store.commit(batch), Err(StoreError::Limit(_))));
    assert_eq!(store.scan(b"", None, 1).unwrap(), []);
}

fn the_largest_batch_is_taken_whole(store: &dyn Store) {
    let large = Value::new(&[1; 4000]).unwrap();
    let batch = (0..MAX_BATCH_OPS).fold(Batch::new(), |b, n| b.put(numbered(n), large.clone()));
    store.commit(batch).unwrap();
    assert!((0..MAX_BATCH_OPS).all(|n| store.get(&numbered(n)).unwrap() == Some(large.clone())));
}

fn a_scan_is_ordered_bounded_and_stays_in_its_prefix(store: &dyn Store) {
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

fn a_full_scan_sees_every_record_once(store: &dyn Store) {
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

fn a_poisoned_store_refuses_everything(store: &dyn Store) {
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

pub(crate) fn follows_the_model(
    make: impl Fn() -> Arc<dyn Store>,
    reopen: impl Fn(Arc<dyn Store>) -> Arc<dyn Store>,
    cases: u32,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let mut store = make();
            let mut model = BTreeMap::new();
            for step in steps {
                store = follow(store, &mut model, step, &reopen);
            }
            let all = collect(&*store);
            assert_eq!(all, model.into_iter().collect::<Vec<_>>());
            Ok(())
        })
        .unwrap();
}

fn follow(
    store: Arc<dyn Store>,
    model: &mut BTreeMap<Key, Value>,
    step: Step,
    reopen: &impl Fn(Arc<dyn Store>) -> Arc<dyn Store>,
) -> Arc<dyn Store> {
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

pub(crate) fn collect(store: &dyn Store) -> Vec<(Key, Value)> {
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

#[test]
fn the_memory_store_conforms() {
    conforms(|| Arc::new(MemoryStore::new()));
}

#[test]
fn the_memory_store_follows_the_model() {
    follows_the_model(|| Arc::new(MemoryStore::new()), |store| store, 128);
}
