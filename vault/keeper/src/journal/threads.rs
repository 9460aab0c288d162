//! Tests: what the pen and the keeping thread do, by hand and as threads, on a disk that is full, is away or takes its time.

use std::fs;
use std::path::Path;
use std::thread;

use strongroom_tlog::{Edge, Entries};
use tempfile::TempDir;

use super::crashes::{NOW, group, in_memory, keep, key, look, prepare, signer};
use super::disk::cuts;
use super::found::Head;
use super::sinks::Sinks;
use super::*;

/// Groups that fill bundles in the middle, at their end, and several at once.
const GROUPS: [usize; 7] = [100, 155, 2, 300, 0, 200, 30];
const TAKEN_AWAY: &str = "the journal's file was taken away";

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What each entry says: how many were refused, and whether that was a gap.
fn told(directory: &Path) -> Vec<(bool, u64)> {
    let place = Place::new(directory);
    let bundles = (0..).map(|index| read::bundle(&place, index).unwrap().unwrap());
    let mut told = Vec::new();
    for bytes in bundles.take_while(|bytes| !bytes.is_empty()) {
        for entry in Entries::of(&bytes) {
            let entry: serde_json::Value = serde_json::from_slice(entry.unwrap()).unwrap();
            if entry["what"] == "gap" {
                assert_eq!(entry["reason"], "the disk is full");
                assert_eq!(entry["since"], rfc3339(NOW));
            }
            told.push((entry["what"] == "gap", entry["refused"].as_u64().unwrap()));
        }
    }
    told
}

// Red when a part of a group stays and is written over or after, when what is refused is not told, and when a full disk ends it all.
#[test]
fn a_disk_that_is_full_for_one_system_call_leaves_no_part_of_a_group() {
    let (mut went_on, mut ended) = (0, 0);
    for call in 0.. {
        let scratch = in_memory();
        let mut prepared = prepare(scratch.path(), Durability::Group);
        cuts::refuse(Some(call));
        let (mut expected, mut lost, mut next) = (Vec::new(), 0, 1);
        for count in GROUPS {
            let written = prepared.pen.write(&group(next, count));
            if prepared.pen.shared.health().is_err() {
                assert!(written.is_err(), "call {call}");
                break;
            }
            let numbers = next..next + count as u64;
            next = numbers.end;
            if written.is_err() {
                lost += count as u64;
            } else if count > 0 {
                expected.extend((lost > 0).then_some((true, lost)));
                lost = 0;
                expected.extend(numbers.map(|number| (false, number)));
            }
            assert!(told(scratch.path()) == expected, "call {call}, {count} entries");
            assert_eq!(prepared.pen.shared.entries(), expected.len() as u64);
        }
        let happened = !cuts::refuses();
        cuts::refuse(None);
        if prepared.pen.shared.health().is_ok() {
            went_on += 1;
            keep(&mut prepared);
            let signed = prepared.ends.1.last().unwrap();
            assert_eq!(signed.size, expected.len() as u64);
        } else {
            ended += 1;
            assert!(told(scratch.path()).starts_with(&expected), "call {call}");
            keep(&mut prepared);
            assert!(prepared.ends.1.last().is_none(), "what is out of order is not signed");
        }
        drop(prepared);
        let found = look(scratch.path(), Head::default()).unwrap();
        assert!(found.entries() >= expected.len() as u64);
        if !happened {
            break;
        }
    }
    // Two names change at a time; and the third bundle of a group is written when its first is in its place.
    assert!(went_on > 15 && ended >= 4, "{went_on}, {ended}");
}

#[test]
fn what_must_last_is_on_the_disk_when_it_is_answered_and_nobody_else_waits_for_it() {
    let scratch = tempfile::tempdir().unwrap();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    drop(cuts::take_unsynced());
    prepared.pen.write(&group(1, 3)).unwrap();
    assert!(!cuts::take_unsynced().is_empty(), "a call waits for no disk");
    let mut lasting = group(4, 1);
    lasting.make_last();
    prepared.pen.write(&lasting).unwrap();
    assert!(cuts::take_unsynced().is_empty());
    lasting.clear();
    assert!(!lasting.must_last());
    drop(prepared);
    let mut prepared = prepare(scratch.path(), Durability::Strict);
    prepared.pen.write(&group(5, 300)).unwrap();
    assert!(cuts::take_unsynced().is_empty());
}

#[test]
fn a_checkpoint_comes_after_the_names_of_the_bundles_it_covers() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let mut prepared = prepare(root, Durability::Group);
    prepared.pen.write(&group(1, 600)).unwrap();
    drop(cuts::take_directories());
    keep(&mut prepared);
    let (tile, entries) = (root.join("tile"), root.join("tile/entries"));
    assert_eq!(cuts::take_directories(), [&entries, root, &tile, root]);
    prepared.pen.write(&group(601, 100)).unwrap();
    keep(&mut prepared);
    assert_eq!(cuts::take_directories(), [root], "that of the checkpoint");
    drop(prepared);
    let mut prepared = prepare(root, Durability::Strict);
    drop(cuts::take_directories());
    prepared.pen.write(&group(701, 100)).unwrap();
    assert_eq!(cuts::take_directories(), [&entries, root], "before it is answered");
}

#[test]
fn a_checkpoint_is_due_for_much_for_who_waits_at_the_end_and_after_a_while() {
    let scratch = in_memory();
    let mut prepared = prepare(scratch.path(), Durability::Group);
    let mut entries = 0;
    let mut grow = |prepared: &mut Prepared, count: usize| {
        prepared.pen.write(&group(entries + 1, count)).unwrap();
        entries += count as u64;
        keep(prepared);
        (entries, prepared.ends.1.last().unwrap())
    };
    // The first one, of whatever there is.
    let (all, signed) = grow(&mut prepared, 1);
    assert_eq!(signed.size, all);
    prepared.ends.0.hasten();
    keep(&mut prepared);
    assert!(Arc::ptr_eq(&signed, &prepared.ends.1.last().unwrap()), "there is nothing new");
    let (all, signed) = grow(&mut prepared, 64);
    assert_eq!(signed.size, all);
    prepared.ends.0.hasten();
    let (all, signed) = grow(&mut prepared, 1);
    assert_eq!(signed.size, all);
    // Not at once otherwise: that is seen when the machine is not slower than the while.
    for attempt in 0.. {
        assert!(attempt < 50, "the machine is too slow");
        prepared.ends.0.hasten();
        let begun = Instant::now();
        let (before, _) = grow(&mut prepared, 1);
        let (all, signed) = grow(&mut prepared, 63);
        if begun.elapsed() < Duration::from_millis(700) {
            assert_eq!(signed.size, before);
            assert!(!prepared.keeping.has_kept_all(), "it looks again before something comes");
            let waited = Instant::now();
            while prepared.ends.1.last().unwrap().size < all {
                assert!(waited.elapsed() < Duration::from_secs(30), "it is never due");
                keep(&mut prepared);
            }
            assert!(prepared.keeping.has_kept_all(), "it is at rest, and hashes no tree again");
            break;
        }
    }
    prepared.ends.0.end();
    let (all, signed) = grow(&mut prepared, 1);
    assert_eq!(signed.size, all);
}

#[test]
fn a_tail_that_is_not_under_its_name_is_not_signed() {
    let takings: [fn(&Path); 3] = [
        |tail| fs::remove_file(tail).unwrap(),
        |tail| fs::rename(tail, tail.with_extension("away")).unwrap(),
        |tail| {
            fs::copy(tail, tail.with_extension("copy")).unwrap();
            fs::rename(tail.with_extension("copy"), tail).unwrap();
        },
    ];
    for take in takings {
        let scratch = tempfile::tempdir().unwrap();
        let mut prepared = prepare(scratch.path(), Durability::Group);
        let (tail, shared) = (prepared.pen.place.tail(), Arc::clone(&prepared.ends.0));
        prepared.pen.write(&group(1, 3)).unwrap();
        assert!(shared.is_in_place(&tail));
        take(&tail);
        assert!(!shared.is_in_place(&tail));
        keep(&mut prepared);
        assert_eq!(shared.health(), Err(JournalError::Broken(TAKEN_AWAY)));
        assert!(prepared.ends.1.last().is_none());
        assert!(prepared.pen.write(&group(4, 1)).is_err());
    }
}

fn shared(directory: &Path) -> Shared {
    let place = Place::new(directory);
    let tail = Arc::new(disk::create(&place.tail()).unwrap());
    let (words, _) = LastWords::open(&place).unwrap();
    Shared::new(Edge::empty(), tail, words, Sinks::default())
}

fn leaves(count: usize) -> Vec<strongroom_tlog::Hash> {
    vec![strongroom_tlog::Hash([1; 32]); count]
}

// Red when the keeping thread sleeps through what somebody waits for, or is never at rest.
#[test]
fn the_keeping_thread_wakes_for_whoever_waits_and_rests_otherwise() {
    let (short, long) = (Duration::from_millis(30), Duration::from_mins(1));
    let timed = |act: &dyn Fn()| {
        let begun = Instant::now();
        act();
        begun.elapsed()
    };
    let at_once = |act: &dyn Fn()| assert!(timed(act) < long / 2, "it waits");
    let waits = |act: &dyn Fn()| assert!(timed(act) >= short, "it does not wait");
    let scratch = tempfile::tempdir().unwrap();
    let shared = shared(scratch.path());
    let tail = Place::new(scratch.path()).tail();
    let take = |patience| shared.take(&tail, patience);
    waits(&|| assert!(!shared.comes(short)));
    waits(&|| shared.rest(short));
    waits(&|| assert!(!take(short).wished));
    shared.grow(&leaves(1), None).unwrap();
    at_once(&|| assert!(shared.comes(long)));
    waits(&|| shared.rest(short));
    waits(&|| assert_eq!(take(short).size.0, 1));
    waits(&|| assert!(!shared.comes(short)));
    shared.grow(&leaves(64), None).unwrap();
    at_once(&|| assert_eq!(take(long).size.0, 65));
    shared.hasten();
    at_once(&|| assert!(shared.comes(long)));
    at_once(&|| shared.rest(long));
    at_once(&|| assert!(take(long).wished));
    waits(&|| assert!(!take(short).wished, "it was taken"));
    shared.end();
    at_once(&|| assert!(shared.comes(long)));
    at_once(&|| shared.rest(long));
    at_once(&|| assert!(take(long).last));
}

#[test]
fn somebody_who_comes_while_the_keeping_thread_waits_wakes_it() {
    let scratch = tempfile::tempdir().unwrap();
    let shared = shared(scratch.path());
    let tail = Place::new(scratch.path()).tail();
    let long = Duration::from_mins(1);
    let begun = Instant::now();
    let wakes = |wait: &(dyn Fn() + Sync), wake: &dyn Fn()| {
        thread::scope(|scope| {
            let waiting = scope.spawn(wait);
            // Most likely it waits by then; if not, it finds what it waits for.
            thread::sleep(Duration::from_millis(20));
            wake();
            waiting.join().unwrap();
        });
        assert!(begun.elapsed() < long / 2, "it sleeps on");
    };
    wakes(&|| assert!(shared.comes(long)), &|| {
        shared.grow(&leaves(1), None).unwrap();
    });
    wakes(&|| assert_eq!(shared.take(&tail, long).size.0, 65), &|| {
        shared.grow(&leaves(64), None).unwrap();
    });
    wakes(&|| assert!(shared.take(&tail, long).wished), &|| shared.hasten());
    wakes(&|| shared.rest(long), &|| shared.hasten());
    assert!(shared.take(&tail, long).wished);
    wakes(&|| assert!(shared.take(&tail, long).last), &|| shared.end());
}

// Red when a disk that does not answer refuses nobody, or one that is not asked refuses anybody.
#[test]
fn a_disk_that_is_asked_and_does_not_answer_ends_service_until_it_does() {
    let scratch = tempfile::tempdir().unwrap();
    let shared = shared(scratch.path());
    let begun = Instant::now();
    shared.ask(|| {
        let first = shared.serves();
        assert!(first.is_ok() || begun.elapsed() > Duration::from_secs(1));
        until("it stalls", || shared.serves() == Err(JournalError::Stalled));
        assert!(begun.elapsed() > Duration::from_secs(1));
        thread::sleep(Duration::from_millis(5));
        assert_eq!(shared.serves(), Err(JournalError::Stalled), "it has not answered yet");
    });
    assert_eq!(shared.serves(), Ok(()));
    // Said once for each time: what is said last comes after all of it.
    shared.stalls();
    shared.answers();
    shared.stalls();
    shared.stalls();
    shared.stop(TAKEN_AWAY);
    shared.stop("the disk is full");
    assert_eq!(shared.serves(), Err(JournalError::Broken(TAKEN_AWAY)));
    until("all is said", || shared.words().kept() >= 3);
    let (_, found) = LastWords::open(&Place::new(scratch.path())).unwrap();
    let reasons: Vec<_> = found.iter().map(|one| one.reason).collect();
    let stalled = "the disk did not answer in time";
    assert_eq!(reasons, [stalled, stalled, TAKEN_AWAY]);
}

fn started(scratch: &TempDir) -> (Journal, Unfinished) {
    started_by(scratch, &Manner::default())
}

fn started_by(scratch: &TempDir, manner: &Manner) -> (Journal, Unfinished) {
    let verifier = signer().verifier();
    let found = Found::look(scratch.path(), key(), &verifier, Head::default()).unwrap();
    Journal::start(found, signer(), manner).unwrap()
}

fn record(journal: &Journal, count: usize) {
    let entries: Vec<_> = (0..count).map(|_| Entry::Seal { reason: "test" }).collect();
    journal.record_blocking(&entries, NOW).unwrap();
}

fn covered(journal: &Journal) -> u64 {
    journal.checkpoint().map_or(0, |signed| signed.size)
}

// Red when what came while nothing else follows waits for its checkpoint until something does.
#[test]
fn every_entry_is_under_a_checkpoint_before_long_whether_or_not_others_follow() {
    let scratch = tempfile::tempdir().unwrap();
    let (journal, _) = started(&scratch);
    for all in 1..4 {
        record(&journal, 1);
        until("it is signed", || covered(&journal) == all);
    }
    assert_eq!(journal.entries(), 3);
    // One that comes to an idle journal is signed long before the thread would look by itself.
    let mut times = Vec::new();
    while times.iter().all(|took| *took >= Duration::from_millis(600)) {
        assert!(times.len() < 6, "{times:?}");
        thread::sleep(Duration::from_millis(1200));
        record(&journal, 1);
        let begun = Instant::now();
        until("it is signed", || covered(&journal) == journal.entries());
        times.push(begun.elapsed());
    }
    record(&journal, 1);
    journal.finish();
    assert_eq!(covered(&journal), journal.entries());
    assert!(journal.record_blocking(&[Entry::Seal { reason: "test" }], NOW).is_err());
    let found = look(scratch.path(), Head::default()).unwrap();
    assert_eq!(found.entries(), journal.entries());
}

#[test]
fn an_idle_journal_whose_file_is_taken_away_is_out_of_order_and_says_so_when_it_is_opened() {
    let scratch = tempfile::tempdir().unwrap();
    let place = Place::new(scratch.path());
    let (journal, unfinished) = started(&scratch);
    assert_eq!(unfinished, Unfinished::default());
    record(&journal, 1);
    until("it is signed", || covered(&journal) == 1);
    assert_eq!(journal.last_words(), 0);
    fs::rename(place.tail(), scratch.path().join("away")).unwrap();
    until("it is seen", || journal.health() == Err(JournalError::Broken(TAKEN_AWAY)));
    until("it is said", || journal.last_words() == 1);
    journal.finish();
    drop(journal);
    fs::rename(scratch.path().join("away"), place.tail()).unwrap();
    let (journal, unfinished) = started(&scratch);
    assert_eq!(unfinished.stops.len(), 1);
    assert_eq!(unfinished.stops[0].1, TAKEN_AWAY);
    journal.finish();
    Journal::empty_reserve(&place).unwrap();
    assert_eq!(started(&scratch).1, Unfinished::default());
}

#[test]
fn a_journal_knows_what_was_mended_and_which_of_its_entries_are_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let (journal, _) = started(&scratch);
    assert_eq!((journal.cut_bytes(), journal.made_tiles(), journal.first_kept()), (0, 0, 1));
    record(&journal, 300);
    journal.finish();
    drop(journal);
    let tail = Place::new(scratch.path()).tail();
    let torn = [fs::read(&tail).unwrap(), b"\x01\x00half an entry".to_vec()].concat();
    fs::write(&tail, torn).unwrap();
    fs::remove_file(scratch.path().join("tile/0/000")).unwrap();
    let (journal, _) = started(&scratch);
    assert_eq!((journal.cut_bytes(), journal.made_tiles(), journal.entries()), (15, 1, 300));
    for (below, first) in [(2, 513), (1, 513), (3, 769)] {
        journal.archived_below(below);
        assert_eq!(journal.first_kept(), first);
    }
    journal.finish();
}

#[test]
fn a_journal_says_how_its_sinks_are_and_each_change_once() {
    let scratch = tempfile::tempdir().unwrap();
    let wish: sinks::SinkWish = "ocsf,required,/dev/full".parse().unwrap();
    let manner = Manner { sinks: Arc::new([wish.open().unwrap()]), ..Manner::default() };
    let (journal, _) = started_by(&scratch, &manner);
    let health = journal.sinks();
    assert_eq!((health.len(), &*health[0].name), (1, "ocsf /dev/full"));
    assert_eq!((journal.health(), journal.sink_changes()), (Ok(()), vec![]));
    record(&journal, 1);
    until("it fails", || journal.health() == Err(JournalError::Sink));
    assert!(journal.sinks()[0].fails.is_some());
    let fails = ("ocsf /dev/full".to_owned(), SinkState::Fails, 0);
    assert_eq!((journal.sink_changes(), journal.sink_changes()), (vec![fails], vec![]));
    until("it is said", || journal.last_words() == 1);
    journal.finish();
    assert_eq!(covered(&journal), 1, "what no sink takes is in the journal all the same");
}
