//! The writer's promises, seen through a recording witness.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::Sender;

use super::*;
use crate::memory::MemoryStore;
use crate::record::{Key, Value};

/// What the witness and the store saw, in order.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Before(Vec<(&'static str, &'static str, &'static str)>),
    Store,
    After,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Before,
    Store,
    After,
}

/// A store and a witness that write into one list, and fail where they are told to.
struct Stage {
    store: MemoryStore,
    fault: Mutex<Fault>,
    events: Mutex<Vec<Event>>,
}

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::new(),
            fault: Mutex::new(Fault::None),
            events: Mutex::default(),
        })
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn fails(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == fault
    }

    fn events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

impl Store for Stage {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.store.get(key)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.store.scan(prefix, after, limit)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        if self.fails(Fault::Store) {
            return Err(StoreError::Io { act: "test", kind: io::ErrorKind::StorageFull });
        }
        self.store.commit(batch)?;
        self.note(Event::Store);
        Ok(())
    }

    fn poison(&self) {
        self.store.poison();
    }
}

struct Recorder {
    stage: Arc<Stage>,
    /// Each group tells that it has begun, then waits to be let through.
    gate: Option<(Sender<()>, Receiver<()>)>,
}

impl Witness for Recorder {
    fn before(&mut self, changes: &[Change]) -> Result<Option<(Key, Value)>, WitnessError> {
        if let Some((begun, go)) = &self.gate {
            begun.send(()).unwrap();
            go.recv_timeout(PATIENCE).unwrap();
        }
        let told = |value: &Option<Value>| -> &'static str {
            value
                .as_ref()
                .map_or("-", |value| String::from_utf8(value.as_bytes().to_vec()).unwrap().leak())
        };
        let seen = changes.iter().map(|change| {
            let key = String::from_utf8(change.key.as_bytes().to_vec()).unwrap().leak();
            (&*key, told(&change.before), told(&change.after))
        });
        self.stage.note(Event::Before(seen.collect()));
        if self.stage.fails(Fault::Before) {
            return Err(WitnessError::new(io::Error::other("the manifest is full")));
        }
        Ok(None)
    }

    fn after(&mut self) -> Result<(), WitnessError> {
        self.stage.note(Event::After);
        if self.stage.fails(Fault::After) {
            return Err(WitnessError::new(io::Error::other("the manifest failed")));
        }
        Ok(())
    }
}

fn open(stage: &Arc<Stage>) -> GroupCommit {
    let recorder = Recorder { stage: Arc::clone(stage), gate: None };
    GroupCommit::start(Arc::clone(stage) as Arc<dyn Store>, recorder).unwrap()
}

/// A writer that stands in its first group until `Sender` speaks.
fn gated(stage: &Arc<Stage>) -> (GroupCommit, Receiver<()>, Sender<()>) {
    let (begin, begun) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let recorder = Recorder { stage: Arc::clone(stage), gate: Some((begin, wait)) };
    (GroupCommit::start(Arc::clone(stage) as Arc<dyn Store>, recorder).unwrap(), begun, go)
}

fn submit(group: &GroupCommit, batch: Batch) -> Receiver<Result<(), StoreError>> {
    let (answer, outcome) = mpsc::channel();
    group.submit(batch, move |result| answer.send(result).unwrap());
    outcome
}

fn outcome(receiver: &Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
    receiver.recv_timeout(PATIENCE).unwrap()
}

fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).unwrap()
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes()).unwrap()
}

fn put(name: &str, text: &str) -> Batch {
    Batch::new().put(key(name), value(text))
}

#[test]
fn the_intent_comes_before_the_store_and_the_confirmation_before_the_reply() {
    let stage = Stage::new();
    let group = open(&stage);
    group.commit(put("a", "1")).unwrap();
    let first = [Event::Before(vec![("a", "-", "1")]), Event::Store, Event::After];
    assert_eq!(stage.events(), first);
    group.commit(put("a", "2").put(key("b"), value("1"))).unwrap();
    group.commit(Batch::new().delete(key("a"))).unwrap();
    let later = [
        Event::Before(vec![("a", "1", "2"), ("b", "-", "1")]),
        Event::Store,
        Event::After,
        Event::Before(vec![("a", "2", "-")]),
        Event::Store,
        Event::After,
    ];
    assert_eq!(stage.events(), later);
}

#[test]
fn waiting_batches_become_one_group_and_a_refused_one_harms_no_other() {
    let stage = Stage::new();
    let (group, begun, go) = gated(&stage);
    let first = submit(&group, put("first", "1"));
    begun.recv_timeout(PATIENCE).unwrap();
    let waiting = [
        submit(&group, put("a", "1")),
        submit(&group, put("a", "2").expect(key("a"), Some(value("1")))),
        submit(&group, put("a", "lost").put(key("b"), value("lost")).expect(key("a"), None)),
        submit(&group, put("c", "1").expect(key("b"), None)),
        submit(&group, Batch::new().expect(key("first"), Some(value("1")))),
        submit(&group, Batch::new().delete(key("absent"))),
    ];
    go.send(()).unwrap();
    outcome(&first).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    assert!(waiting[0].try_recv().is_err(), "answered before the group was durable");
    assert!(waiting[2].try_recv().is_err(), "refused by what is not durable");
    go.send(()).unwrap();
    let told: Vec<bool> = waiting.iter().map(|receiver| outcome(receiver).is_ok()).collect();
    assert_eq!(told, [true, true, false, true, true, true]);
    let expected = [
        Event::Before(vec![("first", "-", "1")]),
        Event::Store,
        Event::After,
        Event::Before(vec![("a", "-", "2"), ("c", "-", "1")]),
        Event::Store,
        Event::After,
    ];
    assert_eq!(stage.events(), expected);
}

#[test]
fn a_group_never_exceeds_the_limit_of_a_batch() {
    let stage = Stage::new();
    let (group, begun, go) = gated(&stage);
    let first = submit(&group, put("first", "1"));
    begun.recv_timeout(PATIENCE).unwrap();
    let large = |letter: &str| {
        (0..200).fold(Batch::new(), |batch, n| batch.put(key(&format!("{letter}{n}")), value("1")))
    };
    let waiting = [submit(&group, large("a")), submit(&group, large("b"))];
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    outcome(&first).unwrap();
    for receiver in &waiting {
        outcome(receiver).unwrap();
    }
    let sizes: Vec<usize> = stage
        .events()
        .iter()
        .filter_map(|event| if let Event::Before(seen) = event { Some(seen.len()) } else { None })
        .collect();
    assert_eq!(sizes, [1, 200, 200]);
}

#[test]
fn a_refusing_witness_refuses_the_group_and_leaves_the_store_usable() {
    let stage = Stage::new();
    let group = open(&stage);
    *stage.fault.lock().unwrap() = Fault::Before;
    assert!(matches!(group.commit(put("a", "1")), Err(StoreError::Refused(_))));
    assert_eq!(stage.get(&key("a")).unwrap(), None);
    *stage.fault.lock().unwrap() = Fault::None;
    group.commit(put("a", "1")).unwrap();
    assert_eq!(stage.get(&key("a")).unwrap(), Some(value("1")));
}

#[test]
fn a_failed_confirmation_poisons_the_store() {
    let stage = Stage::new();
    let group = open(&stage);
    *stage.fault.lock().unwrap() = Fault::After;
    assert!(matches!(group.commit(put("a", "1")), Err(StoreError::Poisoned)));
    *stage.fault.lock().unwrap() = Fault::None;
    assert!(matches!(group.commit(put("b", "1")), Err(StoreError::Poisoned)));
    assert!(matches!(stage.get(&key("a")), Err(StoreError::Poisoned)));
}

#[test]
fn a_failed_store_after_the_intent_poisons_the_store() {
    let stage = Stage::new();
    let group = open(&stage);
    *stage.fault.lock().unwrap() = Fault::Store;
    assert!(matches!(group.commit(put("a", "1")), Err(StoreError::Io { .. })));
    *stage.fault.lock().unwrap() = Fault::None;
    assert!(matches!(group.commit(put("a", "1")), Err(StoreError::Poisoned)));
    assert!(!stage.events().contains(&Event::After));
}

#[test]
fn a_foreign_write_under_the_writer_is_noticed() {
    let stage = Stage::new();
    let (group, begun, go) = gated(&stage);
    let first = submit(&group, put("a", "1"));
    begun.recv_timeout(PATIENCE).unwrap();
    stage.store.commit(put("a", "foreign")).unwrap();
    go.send(()).unwrap();
    assert!(matches!(outcome(&first), Err(StoreError::Conflict)));
    assert!(matches!(stage.get(&key("a")), Err(StoreError::Poisoned)));
}

#[test]
fn a_full_queue_and_a_large_batch_are_refused_at_once() {
    let stage = Stage::new();
    let (group, begun, go) = gated(&stage);
    let first = submit(&group, put("first", "1"));
    begun.recv_timeout(PATIENCE).unwrap();
    let waiting: Vec<_> =
        (0..QUEUE_BATCHES).map(|n| submit(&group, put(&format!("k{n}"), "1"))).collect();
    let busy = submit(&group, put("late", "1"));
    assert!(matches!(busy.try_recv(), Ok(Err(StoreError::Busy))));
    let large = (0..300).fold(Batch::new(), |b, n| b.delete(key(&format!("k{n}"))));
    assert!(matches!(submit(&group, large).try_recv(), Ok(Err(StoreError::Limit(_)))));
    // The first write, the largest group, and the one batch that it had no room for.
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    outcome(&first).unwrap();
    for receiver in &waiting {
        outcome(receiver).unwrap();
    }
}

#[test]
fn work_at_rest_sees_what_was_submitted_before_it_and_nothing_after() {
    let stage = Stage::new();
    let (group, begun, go) = gated(&stage);
    let first = submit(&group, put("a", "1"));
    begun.recv_timeout(PATIENCE).unwrap();
    let before = submit(&group, put("a", "2"));
    let (answer, seen) = mpsc::channel();
    group.at_rest(move |store| answer.send(store.get(&key("a"))).unwrap()).unwrap();
    let after = submit(&group, put("a", "3"));
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    for receiver in [&first, &before, &after] {
        outcome(receiver).unwrap();
    }
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap().unwrap(), Some(value("2")));
    let told = |before, after| Event::Before(vec![("a", before, after)]);
    let groups: Vec<Event> =
        stage.events().into_iter().filter(|event| matches!(event, Event::Before(_))).collect();
    assert_eq!(groups, [told("-", "1"), told("1", "2"), told("2", "3")]);
}

#[test]
fn work_at_rest_is_bounded_and_is_dropped_unrun_when_there_is_no_writer() {
    let stage = Stage::new();
    let (group, begun, go) = gated(&stage);
    let first = submit(&group, put("first", "1"));
    begun.recv_timeout(PATIENCE).unwrap();
    let (answer, seen) = mpsc::channel();
    for _ in 0..QUEUE_BATCHES {
        let answer = answer.clone();
        group.at_rest(move |_| answer.send(()).unwrap()).unwrap();
    }
    assert!(matches!(group.at_rest(|_| panic!("one too many")), Err(StoreError::Busy)));
    go.send(()).unwrap();
    outcome(&first).unwrap();
    drop(answer);
    drop(group);
    assert_eq!(seen.iter().count(), QUEUE_BATCHES);
    let bombed = GroupCommit::start(Stage::new(), Bomb).unwrap();
    assert!(matches!(bombed.commit(put("a", "1")), Err(StoreError::Stopped)));
    let (answer, seen) = mpsc::channel::<()>();
    let refused = bombed.at_rest(move |_| answer.send(()).unwrap());
    assert!(refused.is_ok() || matches!(refused, Err(StoreError::Stopped)));
    assert!(matches!(seen.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected)));
}

#[test]
fn a_writer_that_ends_writes_what_is_queued_first() {
    let stage = Stage::new();
    let group = open(&stage);
    let waiting: Vec<_> = (0..50).map(|n| submit(&group, put(&format!("k{n}"), "1"))).collect();
    drop(group);
    for receiver in &waiting {
        outcome(receiver).unwrap();
    }
}

#[test]
fn a_writer_that_panics_answers_everyone() {
    let group = GroupCommit::start(Stage::new(), Bomb).unwrap();
    assert!(matches!(group.commit(put("a", "1")), Err(StoreError::Stopped)));
    assert!(matches!(group.commit(put("a", "1")), Err(StoreError::Stopped)));
}

/// A witness that ends its writer.
struct Bomb;

impl Witness for Bomb {
    fn before(&mut self, _changes: &[Change]) -> Result<Option<(Key, Value)>, WitnessError> {
        panic!("on purpose");
    }

    fn after(&mut self) -> Result<(), WitnessError> {
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
