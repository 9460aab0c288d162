//! A disk that fails: from one write or sync on, each one answers EIO or ENOSPC, from outside the process.
//!
//! `strace` answers in the kernel's place, and counts the calls of each thread by itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use strongroom_store::{Batch, Choice, StoreError};

use crate::power::assert_holds;
use crate::{NAME, child, key, mount, put};

const WRITES: usize = 12;
const CALLS: &str = "pwrite64,fsync,fdatasync,sync_file_range,ftruncate";
/// No run makes more calls in one thread.
const MOST_CALLS: u32 = 400;

/// Not a test by itself: the child, whose disk fails, acknowledging on stderr.
#[test]
fn writer_to_a_failing_disk() {
    let Some((choice, dir)) = child::task() else { return };
    let store = choice.open(&dir).unwrap();
    let mut say = std::io::stderr();
    for number in 0..WRITES {
        match store.commit(put(&format!("k{number}"), &text(number))) {
            Ok(()) => writeln!(say, "ack {number}").unwrap(),
            Err(error) => {
                let later = store.commit(Batch::new().delete(key("k0")));
                assert!(matches!(later, Err(StoreError::Poisoned)), "{error} {later:?}");
                // As the keeper does: it ends, and opens the store anew.
                std::process::exit(1);
            }
        }
    }
    writeln!(say, "all").unwrap();
    std::process::exit(0);
}

fn text(number: usize) -> String {
    format!("{number:04}").repeat(700)
}

/// Runs the child with its disk failing from the `call`-th on; how many writes it acknowledged, and whether all.
fn run(place: (&Choice, &Path), error: &str, call: u32) -> (usize, bool) {
    let inject = format!("inject={CALLS}:error={error}:when={call}+");
    let trace = format!("trace={CALLS}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let mut child = child::start_under(&strace, "faults::writer_to_a_failing_disk", place);
    let pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || BufReader::new(pipe).lines().collect::<Vec<_>>());
    let ended = child::end(&mut child);
    let lines: Vec<String> = reader.join().unwrap().into_iter().map(Result::unwrap).collect();
    assert!(ended.is_some(), "it hung: {lines:?}");
    let acknowledged = lines.iter().filter(|line| line.starts_with("ack ")).count();
    (acknowledged, lines.iter().any(|line| line == "all"))
}

fn fail(choice: &Choice) {
    if !mount::run(std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"])) {
        strongroom_soak::skipped("strace is needed");
        return;
    }
    let step = if strongroom_soak::size(0, 1) == 1 { 1 } else { 5 };
    let (mut failures, mut refused) = (0, 0);
    for error in ["EIO", "ENOSPC"] {
        for call in (1..MOST_CALLS).step_by(step) {
            let scratch = tempfile::tempdir().unwrap();
            let dir = scratch.path().join("store");
            drop(choice.create(&dir, &NAME).unwrap());
            let (acknowledged, all) = run((choice, &dir), error, call);
            if all {
                break;
            }
            failures += 1;
            refused += u32::from(acknowledged < WRITES);
            judge(choice, &dir, acknowledged);
        }
    }
    assert!(failures > 4 && refused == failures, "{refused} of {failures}");
    let suite = format!("store {}", choice.kind());
    strongroom_soak::tell(&suite, "disks failing from one call on, 0 acknowledged lost", failures);
}

/// All that was acknowledged is there, perhaps the one write that was under way, and nothing else.
fn judge(choice: &Choice, dir: &Path, acknowledged: usize) {
    let store = choice.open(dir).unwrap();
    let under_way = store.get(&key(&format!("k{acknowledged}"))).unwrap().is_some();
    let count = acknowledged + usize::from(under_way);
    let expected: BTreeMap<String, String> =
        (0..count).map(|number| (format!("k{number}"), text(number))).collect();
    assert_holds(&*store, &expected);
}

#[test]
fn a_disk_that_fails_under_sled_loses_nothing_acknowledged() {
    fail(&Choice::Sled);
}

#[test]
fn a_disk_that_fails_under_redb_loses_nothing_acknowledged() {
    fail(&Choice::Redb);
}
