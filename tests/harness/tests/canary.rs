//! The canary test: keys that are easy to find, a thousand calls, and a search of everything outside the vault.
//!
//! Invariant: no form of a key is in the gateway's memory, on the disk, in a log, a metric or an answer.
//!
//! `SR_CANARY_CALLS` sets the number of calls (200 by default).
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, with a sentence, and says what it skips"
)]

use std::fs;

use strongroom_emulator::Api;
use strongroom_emulator::echo::{Encoding, Place};
use strongroom_tests::processes::search_memory;
use strongroom_tests::speak::{Shape, models, provider, say};
use strongroom_tests::{Appliance, Gate, Part, canary, journal};

type Needles = [(String, Vec<u8>)];

#[test]
fn no_form_of_a_key_leaves_the_vault() {
    let calls = std::env::var("SR_CANARY_CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let (appliance, token) = Appliance::stocked();
    let needles = canary::needles();
    let gate = appliance.gate();
    for turn in 0..calls {
        call(&gate, &token, turn, &needles);
    }
    // Each key was opened, used and shown to its provider; else nothing is proved.
    for api in Api::ALL {
        gate.call(&models(api, &token)).is(200);
        let tested = appliance.cli(&["credential", "test", provider(api), "--json"], b"").ok();
        nowhere("the operator's tool", (tested.stdout + &tested.stderr).as_bytes(), &needles);
    }
    memory(&appliance, Part::Gateway, &needles);
    // The keeper's keys lie in pages that nobody can read, or are wiped after each use.
    memory(&appliance, Part::Keeper, &needles);
    // The search can fail: it finds what every gateway has in its memory.
    let common = vec![("a header of ours".to_owned(), b"x-strongroom-refusal".to_vec())];
    let searched = search_memory(appliance.pid(Part::Gateway).expect("it runs"), &common);
    assert!(searched.is_none_or(|searched| !searched.hits.is_empty()));
    nowhere("the metrics", appliance.metrics().as_bytes(), &needles);
    nowhere("the log", appliance.log().as_bytes(), &needles);
    for part in Part::ALL {
        let pid = appliance.pid(part).expect("it runs");
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            nowhere(&format!("{part:?}'s {file}"), &bytes, &needles);
        }
    }
    let doctor = appliance.cli(&["doctor", "--json"], b"");
    nowhere("doctor", doctor.stdout.as_bytes(), &needles);
    for file in journal::files(appliance.data()) {
        let bytes = fs::read(&file).unwrap_or_default();
        nowhere(&file.display().to_string(), &bytes, &needles);
    }
    let cores = journal::files(appliance.data()).into_iter().filter(|file| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))
    });
    assert_eq!(cores.count(), 0);
}

/// One call of the many kinds, echoes of the key in every form and place among them.
fn call(gate: &Gate, token: &str, turn: usize, needles: &Needles) {
    let api = Api::ALL[turn % 4];
    let shape = if (turn / 4).is_multiple_of(2) { Shape::Plain } else { Shape::Streamed };
    let encoding = Encoding::ALL[turn / 8 % Encoding::ALL.len()].name();
    let place = Place::ALL[turn / 4 % Place::ALL.len()].name();
    let model = match turn % 5 {
        0 => "an-ordinary-model".to_owned(),
        1 => format!("emu-echo-key-{encoding}-at-{place}-split-{}", 1 + turn % 37),
        2 => "emu-status-401".to_owned(),
        _ => format!("emu-echo-key-{encoding}-at-{place}"),
    };
    let answer = gate.call(&say(api, token, &model, "hello there, how are you", shape));
    let found = canary::found(&answer.visible(), needles);
    assert!(found.is_empty(), "{api:?} {model} {shape:?}: {found:?}\n{}", answer.story());
}

fn nowhere(place: &str, bytes: &[u8], needles: &Needles) {
    let found = canary::found(bytes, needles);
    assert!(found.is_empty(), "{found:?} in {place}");
}

fn memory(appliance: &Appliance, part: Part, needles: &Needles) {
    let pid = appliance.pid(part).expect("it runs");
    match search_memory(pid, needles) {
        None => eprintln!("skipped: this user may not read the memory of the {part:?}"),
        Some(searched) => {
            assert!(searched.hits.is_empty(), "{part:?}: {:#?}", searched.hits);
            assert!(searched.read_bytes > 1024 * 1024, "{part:?}: {searched:?}");
        }
    }
}
