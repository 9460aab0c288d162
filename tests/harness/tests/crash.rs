//! Each process killed in turn, under load: what was acknowledged is there, what was answered is recorded.
//!
//! Invariant: no call is released without its journal entry, whichever process dies when.
//!
//! `SR_CRASH_ROUNDS` sets the number of kills (6 by default).
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, models, say};
use strongroom_tests::{Appliance, Ending, Part, processes, until};

const CALLERS: usize = 3;

/// What the clients saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    answered: AtomicUsize,
    /// Calls of which a whole 200 came.
    calls: Mutex<Vec<String>>,
    /// Users that the operator was told to be made.
    users: Mutex<Vec<String>>,
}

#[test]
fn what_was_acknowledged_survives_the_death_of_every_process() {
    let rounds = std::env::var("SR_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let (appliance, token) = Appliance::stocked();
    let seen = Seen::default();
    thread::scope(|scope| {
        for number in 0..CALLERS {
            let (appliance, token, seen) = (&appliance, token.as_str(), &seen);
            scope.spawn(move || call_on(appliance, token, seen, number));
        }
        scope.spawn(|| make_users(&appliance, &seen));
        // Whatever happens in here, the callers are told to stop.
        let _stop = StopOnDrop(&seen.stop);
        for round in 0..rounds {
            let part =
                [Part::Courier, Part::Gateway, Part::CourierDefined, Part::Keeper][round % 4];
            under_load(&seen);
            let killed = appliance.kill(part);
            until("another process has taken its place", || {
                appliance.pid(part).filter(|pid| *pid != killed)
            });
            if part == Part::Keeper {
                appliance.wait_state("sealed");
                appliance.unseal();
            }
            appliance.wait_ready();
        }
        under_load(&seen);
    });
    check(&appliance, &token, &seen);
}

#[test]
fn a_supervisor_that_dies_takes_all_with_it_and_the_next_start_finds_all_there() {
    let (mut appliance, token) = Appliance::stocked();
    for round in 0..3 {
        let name = format!("user-{round}");
        appliance.json(&["user", "create", &name], b"");
        let started = appliance.kill_supervisor();
        assert_eq!(started.len(), Part::ALL.len());
        until("all of them are gone", || {
            started.iter().all(|pid| !processes::runs(*pid)).then_some(())
        });
        appliance.up();
        appliance.wait_ready();
        let list = appliance.json(&["user", "list"], b"").to_string();
        assert!(list.contains(&name), "{name} was acknowledged and is gone: {list}");
        appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until calls pass.
fn under_load(seen: &Seen) {
    let from = seen.answered.load(Ordering::Relaxed);
    until("calls are answered", || {
        (seen.answered.load(Ordering::Relaxed) > from + 5).then_some(())
    });
}

fn call_on(appliance: &Appliance, token: &str, seen: &Seen, number: usize) {
    let gate = appliance.gate();
    let mut turn = number;
    while !seen.stop.load(Ordering::Relaxed) {
        turn += 1;
        let api = Api::ALL[turn % 4];
        let (model, shape) = if turn.is_multiple_of(3) {
            ("emu-paced-5-20", Shape::Streamed)
        } else {
            ("m", Shape::Plain)
        };
        let Ok(mut connection) = gate.connect() else {
            thread::yield_now();
            continue;
        };
        let answer = connection.call(&say(api, token, model, "hi there", shape));
        if answer.status == 200 && answer.ending == Ending::Complete {
            let call = answer.call_id().expect("every answer names its call").to_owned();
            seen.calls.lock().expect("no caller panics").push(call);
            seen.answered.fetch_add(1, Ordering::Relaxed);
        } else {
            // A refusal or a cut: both are honest. What must not be is a good answer cut short.
            assert!(answer.status != 200 || answer.ending != Ending::Silent, "{}", answer.story());
        }
    }
}

fn make_users(appliance: &Appliance, seen: &Seen) {
    let mut turn = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        turn += 1;
        let name = format!("user-{turn}");
        if appliance.cli(&["user", "create", &name], b"").code == 0 {
            seen.users.lock().expect("nobody panics").push(name);
        }
    }
}

fn check(appliance: &Appliance, token: &str, seen: &Seen) {
    let users = seen.users.lock().expect("nobody panics");
    let list = appliance.json(&["user", "list"], b"");
    let known: BTreeSet<&str> = list["users"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|row| row["label"].as_str())
        .collect();
    assert!(users.len() > 3, "{} users were made", users.len());
    for name in users.iter() {
        assert!(known.contains(name.as_str()), "{name} was acknowledged and is gone");
    }
    appliance.gate().call(&models(Api::OpenAi, token)).is(200);

    let entries = appliance.journaled("every admitted call has an end", |entries| {
        let ended = ids(entries, &["close", "lost"]);
        ids(entries, &["admit"]).is_subset(&ended).then(|| entries.to_vec())
    });
    let admitted = ids(&entries, &["admit"]);
    let calls = seen.calls.lock().expect("nobody panics");
    assert!(calls.len() > 20, "{} calls were answered", calls.len());
    for call in calls.iter() {
        assert!(admitted.contains(call.as_str()), "{call} was answered and is not in the journal");
    }
    let reached = appliance.providers().counts().requests;
    assert!(reached <= admitted.len() as u64, "{reached} requests, {} entries", admitted.len());
}

fn ids<'e>(entries: &'e [Value], kinds: &[&str]) -> BTreeSet<&'e str> {
    let fits = |entry: &&Value| entry["what"].as_str().is_some_and(|what| kinds.contains(&what));
    entries.iter().filter(fits).filter_map(|entry| entry["call"].as_str()).collect()
}
