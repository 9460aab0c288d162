//! An appliance that nobody calls lets the processor sleep.
//!
//! Invariant: what is counted is how often a thread goes to sleep, which the kernel counts whoever else is busy.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use strongroom_emulator::Api;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Part, until};

const WINDOW: Duration = Duration::from_secs(5);

/// How often a process may wake within a window: about twice what it does, and less than one clock of a tick each half second costs
/// it besides.
const MOST: [(&str, u64); 5] =
    [("supervisor", 4), ("gateway", 6), ("courier", 12), ("courier-defined", 12), ("keeper", 25)];

/// The embedded store's own threads wake each second whatever we do.
const STORES_OWN: &str = "sled-io-";

/// How often all threads of a process went to sleep so far.
fn rests(pid: Pid) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let own = statuses.filter(|status| !status.starts_with(&format!("Name:\t{STORES_OWN}")));
    own.map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    })
    .sum()
}

#[test]
fn an_appliance_that_nobody_calls_hardly_wakes() {
    let (appliance, token) = Appliance::stocked();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    let part = |part| appliance.pid(part).expect("it runs");
    let pids = [
        appliance.supervisor(),
        part(Part::Gateway),
        part(Part::Courier),
        part(Part::CourierDefined),
        part(Part::Keeper),
    ];
    let mut last = String::new();
    // What the call left behind comes to rest first; on a bad day each window tells more than there was.
    let rested = strongroom_tests::patience::within(36 * WINDOW, || {
        let (begun, before) = (Instant::now(), pids.map(rests));
        sleep(WINDOW);
        let after = pids.map(rests);
        // A busy machine lets the test itself sleep for longer.
        let took = begun.elapsed().as_millis();
        let woke: Vec<_> = (MOST.iter().zip(before.iter().zip(after)))
            .map(|((name, most), (before, after))| {
                // A thread that ended took its count along: such a window tells nothing.
                let woke = after.checked_sub(*before).unwrap_or(u64::MAX);
                let most = (u128::from(*most) * took).div_ceil(WINDOW.as_millis());
                (*name, u128::from(woke), most)
            })
            .collect();
        last = format!("{woke:?}");
        woke.iter().all(|(_, woke, most)| woke <= most).then_some(woke)
    });
    let rested = rested.unwrap_or_else(|| panic!("within {WINDOW:?} (woke, at most): {last}"));
    for (name, woke, _) in rested {
        strongroom_soak::tell("idle", &format!("{name} woke in {WINDOW:?}"), woke);
    }
    until("it still answers", || {
        let mut connection = appliance.gate().connect().ok()?;
        (connection.call(&models(Api::OpenAi, &token)).status == 200).then_some(())
    });
}
