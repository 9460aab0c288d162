//! A provider's key: at rest nowhere, during a call in the courier alone, and gone after it.

use strongroom_emulator::Api;
use strongroom_tests::client::Body;
use strongroom_tests::speak::{Shape, provider, say};
use strongroom_tests::{Appliance, Part, canary};

use crate::{gone, is_root, nowhere, processes, seen};

/// Errors, breaks, redirects and echoes.
const UNUSUAL: [&str; 9] = [
    "emu-status-401",
    "emu-cut-2",
    "emu-redirect-same",
    "emu-badhead",
    "emu-echo-key-raw-at-error",
    "emu-echo-key-raw-at-text",
    "emu-echo-key-base64-0-at-text-split-7",
    "emu-echo-key-hex-lower-at-stream",
    "emu-echo-key-percent-upper-at-error",
];

// Red when the courier keeps a copy of what it redeemed, and when it keeps a connection over which the key came back.
#[test]
fn a_providers_key_is_in_the_courier_while_its_call_runs_and_a_second_later_nowhere() {
    if !is_root() {
        return;
    }
    let (appliance, token) = Appliance::stocked();
    let needles = canary::needles();
    nowhere(&appliance, &needles, "before the first call");
    for api in Api::ALL {
        for shape in [Shape::Plain, Shape::Streamed] {
            let request = say(api, &token, "a-model", "hello there", shape);
            appliance.gate().call(&request).is(200);
            nowhere(&appliance, &needles, &format!("after a call of {api:?}, {shape:?}"));
        }
    }
    // Calls that go wrong, and answers that have the key in them, which the courier reads before it masks it.
    for (turn, model) in UNUSUAL.iter().enumerate() {
        let shape = [Shape::Plain, Shape::Streamed][turn % 2];
        let request = say(Api::ALL[turn % 4], &token, model, "one two three four", shape);
        let answer = appliance.gate().call(&request);
        assert!(answer.status != 0, "{model}: {}", answer.story());
        nowhere(&appliance, &needles, &format!("after {model}"));
    }
    appliance.cli(&["credential", "test", provider(Api::OpenAi)], b"").ok();
    nowhere(&appliance, &needles, "after an operator's test");

    let mut connection = appliance.gate().connect().expect("a connection");
    let stream = say(Api::OpenAi, &token, "emu-paced-100-2000", "hello", Shape::Streamed);
    connection.send(&stream.bytes("localhost")).expect("sent");
    let (status, _, framing) = connection.head().expect("an answer");
    assert_eq!(status, 200);
    let (mut body, mut read) = (Body::new(framing), Vec::new());
    assert!(connection.await_text(&mut body, &mut read, "data:"), "it streams");
    let courier = appliance.pid(Part::Courier).expect("it runs");
    seen(("courier", courier), &needles);
    let others = processes(&appliance).into_iter().filter(|(_, pid)| *pid != courier);
    gone(others.collect(), &needles, "while a stream runs");
    connection.drop_now();
    appliance.journaled("the call is closed", |entries| {
        let closed = entries.iter().filter(|entry| entry["what"] == "close").count();
        (closed > 8 + UNUSUAL.len()).then_some(())
    });
    nowhere(&appliance, &needles, "after a stream that was given up");
}
