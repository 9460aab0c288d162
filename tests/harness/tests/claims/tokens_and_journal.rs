//! API tokens and the record of every call: AUTH-07, LYNX-08, AUTH-10.
//!
//! Invariant: what is asserted of the journal is read from its file.

use std::fs;
use std::os::unix::fs::MetadataExt;

use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, models, say};
use strongroom_tests::{Appliance, Request, canary, journal, until};

#[test]
fn auth_07_and_lynx_08_a_token_is_stored_as_a_hash_scoped_and_expiring() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let first = fs::read_to_string(appliance.data().join("token")).expect("the first token");
    let narrow =
        appliance.token("narrow", &["--providers", "openai", "--models", "gpt-4o*", "--rate", "4"]);
    assert!(token.starts_with("sr_") && token.len() == 52, "{} bytes", token.len());
    gate.call(&models(Api::Xai, &narrow)).refused(403, "SR-PROVIDER-002");
    let chat = |model: &str| say(Api::OpenAi, &narrow, model, "hi", Shape::Plain);
    gate.call(&chat("gpt-4o-mini")).is(200);
    gate.call(&chat("o3")).refused(403, "SR-POLICY-002");
    gate.call(&chat("gpt-4o")).is(200);
    let limited = gate.call(&chat("gpt-4o")).refused(429, "SR-RATE-001");
    assert!(limited.header("retry-after").is_some(), "{}", limited.story());
    let short = appliance.token("short", &["--expires", "1s"]);
    until("the token expires", || {
        let answer = gate.call(&models(Api::OpenAi, &short));
        (answer.refusal() == Some("SR-TOKEN-004")).then_some(())
    });
    appliance.cli(&["seal"], b"").ok();
    let texts =
        [&token, &narrow, &short].map(|text| ("token".to_owned(), text.clone().into_bytes()));
    for file in journal::files(&appliance.data().join("vault")) {
        let found = canary::found(&fs::read(&file).expect("a file"), &texts);
        assert!(found.is_empty(), "a token stands in {}", file.display());
    }
    // The one file that holds a token is its owner's alone.
    let mode = fs::metadata(appliance.data().join("token")).expect("a file").mode() & 0o777;
    assert_eq!((mode, first.trim().len()), (0o600, 52));
}

#[test]
fn auth_10_every_call_stands_in_the_journal_twice_and_no_call_escapes_it() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let mut ids = Vec::new();
    for turn in 0..20 {
        let api = Api::ALL[turn % 4];
        let model = ["m", "emu-status-500", "emu-cut-1", "emu-status-429"][turn % 4];
        let answer = gate.call(&say(api, &token, model, "hi", Shape::Plain));
        ids.push(answer.call_id().expect("every answer names its call").to_owned());
    }
    // A refusal of a known token is recorded, too.
    let refused = gate.call(&Request::get("/openai/v1/files?evil=1").bearer(&token));
    let refused = refused.refused(400, "SR-PATH-002");
    let refused = refused.call_id().expect("a recorded refusal has a name").to_owned();
    // Nobody waits for the entry of a refusal, which releases nothing: it may follow its answer.
    let entries = appliance.journaled("every call is closed, the refusal there", |entries| {
        let closed = entries.iter().filter(|entry| entry["what"] == "close").count();
        let told = !journal::about(entries, "refuse", &refused).is_empty();
        (closed == ids.len() && told).then(|| entries.to_vec())
    });
    for id in &ids {
        assert_eq!(journal::about(&entries, "admit", id).len(), 1, "{id}");
        assert_eq!(journal::about(&entries, "close", id).len(), 1, "{id}");
    }
    assert_eq!(journal::about(&entries, "refuse", &refused).len(), 1);
    let tail = appliance.cli(&["audit", "tail", "-n", "100", "--json"], b"").ok();
    for id in &ids {
        assert_eq!(tail.stdout.matches(id.as_str()).count(), 2);
    }
    let admitted = entries.iter().filter(|entry| entry["what"] == "admit").count() as u64;
    assert_eq!(appliance.providers().counts().requests, admitted, "no request without its entry");
}
