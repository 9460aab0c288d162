//! The memory of all processes, read as root reads it: which secrets are there, and for how long.
//!
//! `/proc/PID/mem` is what is read. A debugger's `gcore` and ptrace see no more: the kernel serves all three by the same function,
//! under the same check; [`dumps`] tries both, and a core file.
//!
//! Invariant: a search that finds nothing counts only beside one that finds what was planted.
//! Invariant: what must be gone is waited for, [`GONE_WITHIN`] at most.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, with a sentence, and says what it skips"
)]

mod dumps;
mod keys;
mod planted;
mod provider_keys;

use std::time::{Duration, Instant};

use nix::unistd::Pid;
use strongroom_tests::patience::within;
use strongroom_tests::processes::{Searched, search_memory};
use strongroom_tests::{Appliance, Part};

pub(crate) type Needles = Vec<(String, Vec<u8>)>;

/// What is claimed of a key after its call, and of whatever else must be gone.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(1);

/// Whether this user may read other processes' memory; else a test here says that it is skipped.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    if !root {
        strongroom_soak::skipped("only root reads another user's memory");
    }
    root
}

/// All processes of an appliance by name, the supervisor among them.
pub(crate) fn processes(appliance: &Appliance) -> Vec<(String, Pid)> {
    let mut all = vec![("supervisor".to_owned(), appliance.supervisor())];
    let parts = Part::ALL
        .iter()
        .map(|part| (format!("{part:?}"), appliance.pid(*part).expect("the process runs")));
    all.extend(parts);
    all
}

/// Searches the memory of a process.
pub(crate) fn search(pid: Pid, needles: &Needles) -> Searched {
    let searched = search_memory(pid, needles).expect("root reads all memory");
    assert!(searched.read_bytes > 256 * 1024, "{searched:?}");
    searched
}

/// Waits until no process of an appliance holds any of the needles.
#[track_caller]
pub(crate) fn nowhere(appliance: &Appliance, needles: &Needles, when: &str) {
    gone(processes(appliance), needles, when);
}

/// Waits until no process of these holds any of the needles. The last search of each is one that began when the time was over.
#[track_caller]
pub(crate) fn gone(mut those: Vec<(String, Pid)>, needles: &Needles, when: &str) {
    let since = Instant::now();
    let mut hits = Vec::new();
    let mut is_over = false;
    while !those.is_empty() && !is_over {
        is_over = since.elapsed() > GONE_WITHIN;
        hits.clear();
        those.retain(|(name, pid)| {
            let found = search(*pid, needles).hits;
            hits.extend(found.iter().map(|hit| format!("{name}: {hit}")));
            !found.is_empty()
        });
    }
    assert!(those.is_empty(), "{when}, after {GONE_WITHIN:?}: {hits:#?}");
}

/// Waits until a process's memory holds one of the needles.
#[track_caller]
pub(crate) fn seen((name, pid): (&str, Pid), needles: &Needles) {
    let found = within(strongroom_tests::PATIENCE, || {
        (!search(pid, needles).hits.is_empty()).then_some(())
    });
    assert!(found.is_some(), "never in the {name}: the search is blind");
}
