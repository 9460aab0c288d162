//! Answers that are errors, encodings that hide things, providers that are not there, tokens and vaults that are closed.
//!
//! Invariant: what the provider said stays the provider's; what we say has our code on it.

use std::time::{Duration, Instant};

use strongroom_emulator::Api;
use strongroom_tests::client::Body;
use strongroom_tests::speak::{Shape, models, said, say};
use strongroom_tests::{Appliance, Ending, Part, until};

#[test]
fn a_providers_errors_pass_as_they_are() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for api in Api::ALL {
        for status in [400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 529] {
            let model = format!("emu-status-{status}");
            let answer = gate.call(&say(api, &token, &model, "hi", Shape::Plain)).is(status);
            assert!(answer.refusal().is_none(), "{}", answer.story());
            assert!(answer.call_id().is_some() && answer.json().get("error").is_some());
            let waits = answer.header("retry-after").is_some();
            // Gemini says it in the body.
            assert!(status != 429 || waits || api == Api::Gemini, "{}", answer.story());
        }
        let early = say(api, &token, "emu-early-413", &"x".repeat(3_000_000), Shape::Plain);
        assert_eq!(gate.call(&early).status, 413, "{api:?}");
    }
}

#[test]
fn an_answer_that_is_encoded_unasked_is_refused() {
    let (appliance, token) = Appliance::stocked();
    for api in Api::ALL {
        let answer = appliance.gate().call(&say(api, &token, "emu-gzip", "hi there", Shape::Plain));
        answer.refused(502, "SR-UPSTREAM-005");
    }
}

#[test]
fn a_provider_that_is_down_is_502_and_one_that_is_back_is_served() {
    let (mut appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &token)).is(200);
    appliance.stop_providers();
    for api in Api::ALL {
        let answer = gate.call(&models(api, &token));
        assert_eq!(answer.status, 502, "{}", answer.story());
        assert!(answer.header("x-should-retry").is_none(), "a later try may pass");
    }
    appliance.start_providers();
    for api in Api::ALL {
        gate.call(&models(api, &token)).is(200);
    }
}

#[test]
fn sealing_stops_running_streams_and_answers_503_until_unsealed() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let mut connection = gate.connect().expect("it listens");
    let request = say(Api::Anthropic, &token, "emu-paced-50-2000", "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (_, _, framing) = connection.head().expect("a head");
    let (mut body, mut seen) = (Body::new(framing), Vec::new());
    assert!(connection.await_text(&mut body, &mut seen, "content_block_delta"));
    appliance.cli(&["seal"], b"").ok();
    assert_eq!(connection.rest(&mut body, &mut seen), Ending::Cut);
    assert!(String::from_utf8_lossy(&seen).contains("SR-RECALL-001"));
    let answer = until("the gateway knows", || {
        let answer = gate.call(&models(Api::OpenAi, &token));
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(answer.refusal(), Some("SR-SEALED-001"));
    appliance.unseal();
    appliance.wait_ready();
    gate.call(&models(Api::OpenAi, &token)).is(200);
}

#[test]
fn a_revoked_token_and_a_disabled_person_stop_at_the_very_next_call() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let doomed = appliance.token("doomed", &["--rate", "10000"]);
    let mut connection = gate.connect().expect("it listens");
    let request = say(Api::Xai, &doomed, "emu-paced-50-2000", "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (_, _, framing) = connection.head().expect("a head");
    let (mut body, mut seen) = (Body::new(framing), Vec::new());
    assert!(connection.await_text(&mut body, &mut seen, "content"));
    // A connection that was opened with the token is no way round its end.
    let mut kept = gate.connect().expect("it listens");
    assert_eq!(kept.call(&models(Api::OpenAi, &doomed)).status, 200);
    appliance.cli(&["token", "revoke", "doomed", "--yes"], b"").ok();
    kept.call(&models(Api::OpenAi, &doomed)).refused(401, "SR-TOKEN-003");
    assert_eq!(connection.rest(&mut body, &mut seen), Ending::Cut);
    let text = String::from_utf8_lossy(&seen).into_owned();
    assert!(text.contains("SR-RECALL-001") && !text.contains("[DONE]"), "{text}");
    gate.call(&models(Api::OpenAi, &token)).is(200);

    let people = appliance.json(&["user", "list"], b"");
    let name = people["users"][0]["label"].as_str().expect("a name");
    appliance.cli(&["user", "disable", name, "--yes"], b"").ok();
    gate.call(&models(Api::OpenAi, &token)).refused(401, "SR-TOKEN-003");
    appliance.cli(&["user", "enable", name], b"").ok();
    gate.call(&models(Api::OpenAi, &token)).is(200);
}

/// Ends an appliance while a stream is under way; how long that took.
fn control_c(hurried: bool) -> Duration {
    let (mut appliance, token) = Appliance::stocked();
    let mut connection = appliance.gate().connect().expect("it listens");
    let request = say(Api::OpenAi, &token, "emu-paced-50-2000", "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (_, _, framing) = connection.head().expect("a head");
    let (mut body, mut seen) = (Body::new(framing), Vec::new());
    assert!(connection.await_text(&mut body, &mut seen, "content"));
    let begun = Instant::now();
    appliance.control_c();
    until("it says so", || appliance.log().contains("Control-C again stops").then_some(()));
    // The stream goes on: a later piece comes.
    assert!(connection.await_text(&mut body, &mut seen, "\"20 \""));
    if hurried {
        appliance.control_c();
    }
    assert_eq!(connection.rest(&mut body, &mut seen), Ending::Cut);
    assert_eq!(until("it has ended", || appliance.ended()), 0);
    let took = begun.elapsed();
    let entries = appliance.entries();
    let ends: Vec<_> = entries.iter().filter(|one| one["what"] == "close").collect();
    assert!(ends.iter().any(|one| one["end"] == "SR-CANCEL-001") || hurried, "{ends:?}");
    took
}

#[test]
fn control_c_lets_calls_end_and_journals_their_ends_and_a_second_one_stops_at_once() {
    let patient = control_c(false);
    assert!(patient >= CALLS_END, "{patient:?}");
    // Who does not wait for them ends sooner; the machine may hold that up, but not each time.
    let hurried = (0..3).map(|_| control_c(true)).find(|took| *took < CALLS_END);
    assert!(hurried.is_some(), "a second one is as slow as one that waits {patient:?}");
}

/// What calls have for their ends.
const CALLS_END: Duration = Duration::from_secs(5);

#[test]
fn a_lost_courier_ends_what_ran_and_the_next_one_serves() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let mut connection = gate.connect().expect("it listens");
    let request = say(Api::OpenAi, &token, "emu-paced-50-2000", "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (_, _, framing) = connection.head().expect("a head");
    let (mut body, mut seen) = (Body::new(framing), Vec::new());
    assert!(connection.await_text(&mut body, &mut seen, "content"));
    appliance.kill(Part::Courier);
    assert_eq!(connection.rest(&mut body, &mut seen), Ending::Cut);
    assert!(!String::from_utf8_lossy(&seen).contains("[DONE]"));
    appliance.seen(|seen, _| seen.iter().any(|one| one.client_left));
    appliance.wait_ready();
    let answer = until("calls are served again", || {
        let mut connection = gate.connect().ok()?;
        let answer = connection.call(&say(Api::OpenAi, &token, "m", "back", Shape::Plain));
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(said(Api::OpenAi, Shape::Plain, &answer.text()), "back");
}
