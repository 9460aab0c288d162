//! The host's clock jumps, by hours, years and to both ends of what the kernel takes, under the real processes.
//!
//! Invariant: what has a time-out has it by the clock that only goes forward; a jump makes it neither longer nor shorter.
//! Invariant: what has a date goes by the clock of the day: set back, a token whose date is over acts again, which is stated.
//!
//! Moving a process's clocks needs root.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strongroom_emulator::Api;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::TICKET_LIFE;
use strongroom_tests::appliance::Vault;
use strongroom_tests::captured::{Door, Socket};
use strongroom_tests::clock::{Ahead, Clocks};
use strongroom_tests::speak::{Shape, models, say};
use strongroom_tests::{Appliance, Options, Part, until};

use crate::neighbour::is_root;
use crate::scene::Scene;
use crate::speech::{BODY, Ended, JSON, asking, chat, ended, exchange, ticket};

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;
/// The kernel sets no clock beyond the year 2232.
const LATEST: i64 = 262 * YEAR;
/// How long shares that were brought wait for the others: `STANDARD_LIFE` of a ceremony, and a second.
const ATTEMPT: i64 = 601;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    i64::try_from(since.as_secs()).expect("it is small")
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).expect("it is small")
}

/// Of a part that runs; `None`, and said, where they cannot be moved.
fn clocks(appliance: &Appliance, part: Part) -> Option<Clocks> {
    let clocks = Clocks::of(until("it runs", || appliance.pid(part)));
    if clocks.is_none() {
        strongroom_soak::skipped("this machine's clocks are not moved: that code is for x86-64");
    }
    clocks
}

/// The year in a journal's entry.
fn year(entry: &serde_json::Value) -> i64 {
    let time = entry["t"].as_str().expect("each entry has a time");
    time.split('-').next().and_then(|year| year.parse().ok()).expect("a year")
}

#[test]
fn jumps_of_the_hosts_clock_lose_no_entry_and_end_no_process() {
    if !is_root() {
        return;
    }
    let (mut appliance, token) = Appliance::stocked();
    let pids = Part::ALL.map(|part| appliance.pid(part));
    let Some(all) = Part::ALL.map(|part| clocks(&appliance, part)).into_iter().collect() else {
        return;
    };
    let all: Vec<Clocks> = all;
    let mut gate = appliance.gate().connect().expect("it listens");
    let mut calls = Vec::new();
    let to_the_beginning = 1 - now();
    let to_the_end = LATEST - now() - HOUR;
    let jumps = [HOUR, -HOUR, YEAR, -YEAR, 0, to_the_beginning, to_the_end, to_the_beginning, 0];
    for (turn, day) in jumps.into_iter().enumerate() {
        for one in &all {
            one.set(Ahead { day, span: 0 });
        }
        // Over a connection of before, and a new one.
        let request = say(Api::OpenAi, &token, "m", "hi", Shape::Plain);
        for answer in [gate.call(&request), appliance.gate().call(&request)] {
            // A provider's certificate is not good at all times, and that is the answer then.
            let right = answer.status == 200 || (day.abs() > YEAR && answer.status == 502);
            assert!(right, "{day} s ahead: {answer:?}");
            calls.push(answer.call_id().expect("every answer names its call").to_owned());
        }
        appliance.token(&format!("made-{turn}"), &[]);
        let entries = appliance.journaled("both calls are closed", |entries| {
            let of = |call: &String, what: &str| {
                entries.iter().any(|entry| entry["call"] == **call && entry["what"] == what)
            };
            calls
                .iter()
                .all(|call| of(call, "admit") && of(call, "close"))
                .then(|| entries.to_vec())
        });
        // The journal says what the clock said: about the right year.
        let expected = 1970 + (now() + day) / (YEAR + 6 * HOUR);
        let newest = year(entries.last().expect("there are some"));
        assert!((newest - expected).abs() <= 1, "{newest} instead of {expected}");
        appliance.cli(&["audit", "verify"], b"").ok();
        assert_eq!(Part::ALL.map(|part| appliance.pid(part)), pids, "{day} s ahead");
    }
    // Sealed in one century and opened in another, by the same keeper and by the next.
    for one in &all {
        one.set(Ahead { day: to_the_end, span: 0 });
    }
    appliance.cli(&["seal"], b"").ok();
    for one in &all {
        one.set(Ahead { day: to_the_beginning, span: 0 });
    }
    appliance.unseal();
    appliance.wait_ready();
    appliance.stop();
    appliance.up();
    appliance.wait_ready();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    appliance.cli(&["audit", "verify"], b"").ok();
    let entries = appliance.entries();
    for call in calls {
        let of = entries.iter().filter(|entry| entry["call"] == *call);
        assert_eq!(of.count(), 2, "{call}");
    }
}

#[test]
fn a_ticket_lives_ten_seconds_whatever_the_clock_of_the_day_says() {
    if !is_root() {
        return;
    }
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let Some(clocks) = clocks(&scene.appliance, Part::Keeper) else { return };
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let token = scene.token.as_bytes();
    let life = seconds(TICKET_LIFE);
    // None is shortened by a jump forward, and none that was spent is good again after a jump back.
    let redeem = |lane: &mut Door, ticket| {
        lane.send(&exchange(ticket, &[JSON], BODY)).expect("the courier reads");
        ended(lane)
    };
    let good = until("the test itself is quick enough", || {
        let begun = Instant::now();
        clocks.set(Ahead::default());
        let (good, _) = ticket(&mut keeper, chat(token));
        clocks.set(Ahead { day: YEAR, span: 0 });
        let end = redeem(&mut lane, good);
        let in_time = begun.elapsed() < TICKET_LIFE;
        assert!(end == Ended::Whole(200) || !in_time, "{end:?}");
        in_time.then_some(good)
    });
    clocks.set(Ahead { day: -YEAR, span: 0 });
    let unknown = Ended::Aborted(Refusal::TicketUnknown);
    assert_eq!(redeem(&mut lane, good), unknown, "a spent one");
    // Its ten seconds are over, in which the clock was set back by more.
    let (late, _) = ticket(&mut keeper, chat(token));
    clocks.set(Ahead { day: -YEAR - HOUR, span: life });
    assert_eq!(redeem(&mut lane, late), unknown, "one that is over");
    drop((keeper, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

#[test]
fn shares_that_were_brought_wait_ten_minutes_whatever_the_clock_of_the_day_says() {
    if !is_root() {
        return;
    }
    let appliance = Appliance::start(&Options { vault: Vault::None, ..Options::default() });
    let out = appliance.scratch().join("shares");
    let words = ["init", "--shares", "3", "--threshold", "2", "--plain-shares", "--out"];
    let words = [&words[..], &[out.to_str().expect("text")]].concat();
    appliance.cli(&words, b"plain shares\n").ok();
    let share = |number: usize| {
        fs::read_to_string(out.join(format!("share-{number}.txt"))).expect("a share")
    };
    for number in [1, 2] {
        appliance.cli(&["share", "verify", "-"], share(number).as_bytes());
    }
    appliance.wait_ready();
    appliance.cli(&["seal"], b"").ok();
    let Some(clocks) = clocks(&appliance, Part::Keeper) else { return };
    let give = |number| appliance.cli(&["unseal", "-", "--json"], share(number).as_bytes());
    assert_eq!(give(1).code, 3, "one is not enough");
    clocks.set(Ahead { day: -YEAR, span: ATTEMPT });
    // The first one has gone: with the second there is one again.
    let second = give(2);
    assert_eq!((second.code, second.stdout.contains("\"accepted\":[2]")), (3, true), "{second:?}");
    // And it is not thrown away before its time.
    clocks.set(Ahead { day: YEAR, span: ATTEMPT + 60 });
    assert_eq!(give(3).code, 0);
    appliance.wait_ready();
}

#[test]
fn a_token_with_a_date_goes_by_the_clock_of_the_day_forwards_and_back() {
    if !is_root() {
        return;
    }
    let (appliance, lasting) = Appliance::stocked();
    let dated = appliance.token("dated", &["--expires", "1h"]);
    let Some(clocks) = clocks(&appliance, Part::Keeper) else { return };
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &dated)).is(200);
    clocks.set(Ahead { day: 2 * HOUR, span: 0 });
    gate.call(&models(Api::OpenAi, &dated)).refused(401, "SR-TOKEN-004");
    gate.call(&models(Api::OpenAi, &lasting)).is(200);
    // The limit that SECURITY.md states.
    clocks.set(Ahead { day: 0, span: 0 });
    gate.call(&models(Api::OpenAi, &dated)).is(200);
    // What was revoked stays so.
    appliance.json(&["token", "revoke", "dated", "--yes"], b"");
    clocks.set(Ahead { day: -YEAR, span: 0 });
    gate.call(&models(Api::OpenAi, &dated)).refused(401, "SR-TOKEN-003");
}
