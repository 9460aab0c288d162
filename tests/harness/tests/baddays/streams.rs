//! Streams that break, wait or are given up.
//!
//! Invariant: a stream that died is an error at the client, in words of its own dialect, and never `[DONE]`.

use std::time::{Duration, Instant};

use strongroom_emulator::{Api, Outcome};
use strongroom_tests::client::Body;
use strongroom_tests::speak::{Shape, events, said, say};
use strongroom_tests::{Appliance, Connection, Ending, Options, PROMPT, Piece, Request};

#[test]
fn a_cut_stream_is_an_error_at_the_client_and_never_looks_finished() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for api in Api::ALL {
        for model in ["emu-cut-2", "emu-fin-2", "emu-cut-0"] {
            let request = say(api, &token, model, "one two three four five six", Shape::Streamed);
            let answer = gate.call(&request);
            if answer.status == 502 {
                assert_eq!(answer.refusal(), Some("SR-UPSTREAM-005"), "{}", answer.story());
                continue;
            }
            let text = answer.text();
            assert_eq!(
                (answer.status, answer.ending),
                (200, Ending::Cut),
                "{api:?} {model}: {text}"
            );
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
            assert!(text.contains("SR-UPSTREAM-005"), "{api:?} {model}: {text}");
            let last = events(&text).pop().expect("an event");
            assert!(last.get("error").is_some(), "the last event is an error: {last}");
        }
        for model in ["emu-cut-1", "emu-truncated", "emu-fin-1"] {
            let answer = gate.call(&say(api, &token, model, "one two three four", Shape::Plain));
            let refused = answer.refusal() == Some("SR-UPSTREAM-005");
            assert!(refused || answer.ending == Ending::Cut, "{api:?} {model}: {}", answer.story());
        }
    }
    let ends = appliance.journaled("all calls are closed", |entries| {
        let closed: Vec<_> = entries.iter().filter(|entry| entry["what"] == "close").collect();
        let ends: Vec<_> = closed.iter().map(|entry| entry["end"].to_string()).collect();
        (ends.len() == 24).then_some(ends)
    });
    assert!(ends.iter().all(|end| end.contains("SR-UPSTREAM")), "{ends:?}");
}

#[test]
fn a_midstream_error_of_the_provider_is_its_own_and_passes() {
    let (appliance, token) = Appliance::stocked();
    for api in Api::ALL {
        let request =
            say(api, &token, "emu-midstream-error", "one two three four", Shape::Streamed);
        let answer = appliance.gate().call(&request).is(200);
        assert!(!answer.text().contains("SR-"), "{api:?}: {}", answer.text());
        assert!(answer.text().contains("error"), "{api:?}: {}", answer.text());
    }
}

#[test]
fn a_slow_provider_is_waited_for_and_pieces_are_passed_on_as_they_come() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let slow = say(Api::Anthropic, &token, "emu-slow-first-1500", "hello there", Shape::Plain);
    let begun = Instant::now();
    let answer = gate.call(&slow).is(200);
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    assert_eq!(said(Api::Anthropic, Shape::Plain, &answer.text()), "hello there");
    // More pieces than anybody waits for: the second is here while the provider still has most of them.
    let (mut connection, mut body) = begin(&appliance, &token, "emu-paced-50-20000");
    assert!(connection.await_text(&mut body, &mut Vec::new(), "\"1 \""), "it was held back");
    assert_eq!(appliance.providers().counts().open, 1);
    connection.drop_now();
    // And all of them come.
    let (mut connection, mut body) = begin(&appliance, &token, "emu-paced-50-40");
    let mut seen = Vec::new();
    assert_eq!(connection.rest(&mut body, &mut seen), Ending::Complete);
    let text = String::from_utf8_lossy(&seen);
    assert_eq!(said(Api::OpenAi, Shape::Streamed, &text).split_whitespace().count(), 40);
}

#[test]
fn whoever_goes_away_ends_the_providers_call_at_once() {
    let (appliance, token) = Appliance::stocked();
    // In the middle of a stream.
    let (mut connection, mut body) = begin(&appliance, &token, "emu-paced-100-2000");
    let Piece::Data(_) = connection.piece(&mut body) else { panic!("it streams") };
    let left = Instant::now();
    connection.drop_now();
    let seen = appliance.seen(|seen, _| seen.iter().any(|one| one.outcome == Outcome::Cancelled));
    assert!(left.elapsed() < PROMPT, "{:?}", left.elapsed());
    assert_eq!(seen.len(), 1);
    // Before the first byte of a plain answer.
    let gate = appliance.gate();
    let mut connection = gate.connect().expect("it listens");
    let request = say(Api::OpenAi, &token, "emu-silent", "hi", Shape::Plain);
    connection.send(&request.bytes("localhost")).expect("it reads");
    appliance.seen(|seen, _| seen.len() == 2 && seen[1].body_complete);
    let left = Instant::now();
    connection.drop_now();
    appliance.seen(|_, counts| counts.cancelled == 2);
    assert!(left.elapsed() < PROMPT, "{:?}", left.elapsed());
    appliance.journaled("both are closed as cancelled", |entries| {
        let cancelled = entries.iter().filter(|entry| entry["end"] == "SR-CANCEL-001").count();
        (cancelled == 2).then_some(())
    });
    // The lanes are free again: more calls than there are lanes.
    for _ in 0..40 {
        gate.call(&say(Api::OpenAi, &token, "m", "hi", Shape::Plain)).is(200);
    }
}

#[test]
fn many_give_up_at_once_and_the_next_call_is_served() {
    let (appliance, token) = Appliance::stocked();
    for _ in 0..3 {
        let open: Vec<_> =
            (0..12).map(|_| begin(&appliance, &token, "emu-paced-100-2000")).collect();
        for (connection, _) in open {
            connection.drop_now();
        }
    }
    appliance.seen(|_, counts| counts.cancelled == 36 && counts.open == 0);
    let request = say(Api::OpenAi, &token, "m", "still here", Shape::Plain);
    let answer = appliance.gate().call(&request).is(200);
    assert_eq!(said(Api::OpenAi, Shape::Plain, &answer.text()), "still here");
}

#[test]
fn with_all_lanes_taken_a_call_is_told_so_and_health_is_still_answered() {
    let appliance = Appliance::start(&Options { lanes: 2, ..Options::default() });
    let token = appliance.stock();
    let mut open: Vec<_> =
        (0..2).map(|_| begin(&appliance, &token, "emu-paced-100-2000")).collect();
    let gate = appliance.gate();
    let request = say(Api::OpenAi, &token, "m", "hi", Shape::Plain);
    let begun = Instant::now();
    gate.call(&request).refused(503, "SR-BUSY-001");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    gate.call(&Request::get("/healthz")).is(200);
    let (connection, _) = open.pop().expect("two are open");
    connection.drop_now();
    gate.call(&request).is(200);
}

/// Begins a stream and reads its head.
fn begin(appliance: &Appliance, token: &str, model: &str) -> (Connection, Body) {
    let mut connection = appliance.gate().connect().expect("it listens");
    let request = say(Api::OpenAi, token, model, "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (status, _, framing) = connection.head().expect("a head");
    assert_eq!(status, 200);
    (connection, Body::new(framing))
}
