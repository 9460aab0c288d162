//! AUTH-02 in part: a tenant's own rules, decided in the vault, explained, and held against past calls.
//!
//! Invariant: sharing a key gives its use and nothing else; what denies wins.

use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::client::Body;
use strongroom_tests::speak::{Request, Shape, models, say};
use strongroom_tests::{Appliance, Ending};

const SHARE: &str = "[[rule]]\nname = \"share\"\neffect = \"allow\"\nwho = \"user:bob\"\nkeys = \"credential:openai\"\n";

fn no_mini(who: &str) -> String {
    format!(
        "[[rule]]\nname = \"no-mini\"\neffect = \"deny\"\nwho = \"{who}\"\nkeys = \"provider:openai\"\n\
         models = [\"gpt-4o-mini*\"]\n"
    )
}

/// An appliance with the first person's keys, their token, and a token of another person.
fn scene() -> (Appliance, String, String) {
    let (appliance, owner) = Appliance::stocked();
    appliance.cli(&["user", "create", "bob"], b"").ok();
    let bob = appliance.token("bobs", &["--user", "bob"]);
    (appliance, owner, bob)
}

fn apply(appliance: &Appliance, version: u64, rules: &str) -> Value {
    let text = format!("version = {version}\n{rules}");
    appliance.json(&["policy", "apply", "-", "--yes"], text.as_bytes())
}

fn chat(token: &str, model: &str) -> Request {
    say(Api::OpenAi, token, model, "hello", Shape::Plain)
}

#[test]
fn auth_02_a_key_is_shared_by_a_rule_and_what_is_taken_back_stops_at_once() {
    let (appliance, owner, bob) = scene();
    let gate = appliance.gate();
    let files = |token: &str| Request::get("/openai/v1/files").bearer(token);
    gate.call(&models(Api::OpenAi, &bob)).refused(404, "SR-CREDENTIAL-001");
    gate.call(&files(&owner)).is(200);

    assert_eq!(apply(&appliance, 0, SHARE)["version"], 1);
    gate.call(&chat(&bob, "gpt-4o-mini")).is(200);
    gate.call(&models(Api::Anthropic, &bob)).refused(404, "SR-CREDENTIAL-001");
    // Stored objects would be everybody's: nobody reaches them while the key is shared, its owner included.
    for token in [&owner, &bob] {
        gate.call(&files(token)).refused(403, "SR-POLICY-001");
    }
    let who = ["policy", "explain", "--token", "bobs", "openai", "POST", "/v1/chat/completions"];
    let told = appliance.json(&[&who[..], &["--model", "gpt-4o-mini"]].concat(), b"");
    assert_eq!(
        (&told["permitted"], &told["rule"]),
        (&true.into(), &"tenant.share".into()),
        "{told}"
    );
    let admitted = appliance.journaled("the rule is told", |entries| {
        let by_rule = |entry: &&Value| entry["rule"] == "tenant.share";
        entries.iter().rfind(by_rule).cloned()
    });
    assert_eq!(admitted["what"], "admit");

    // What runs when the rule goes is stopped.
    let mut connection = gate.connect().expect("it listens");
    let request = say(Api::OpenAi, &bob, "emu-paced-20-400", "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (_, _, framing) = connection.head().expect("a head");
    let (mut body, mut seen) = (Body::new(framing), Vec::new());
    assert!(connection.await_text(&mut body, &mut seen, "content"));
    apply(&appliance, 1, "");
    assert_ne!(connection.rest(&mut body, &mut seen), Ending::Complete);
    gate.call(&models(Api::OpenAi, &bob)).refused(404, "SR-CREDENTIAL-001");
    gate.call(&files(&owner)).is(200);
}

#[test]
fn auth_02_what_denies_wins_is_named_and_survives_a_restart() {
    let (mut appliance, owner, bob) = scene();
    appliance.gate().call(&chat(&owner, "gpt-4o-mini")).is(200);
    let text = format!("version = 0\n{SHARE}{}", no_mini("anyone"));
    let would = appliance.json(&["policy", "simulate", "-", "--since", "1h"], text.as_bytes());
    assert_eq!(
        (&would["refused"], &would["by_rule"][0]["rule"]),
        (&1.into(), &"no-mini".into()),
        "{would}"
    );
    let shown = appliance.json(&["policy", "show"], b"");
    assert_eq!(shown["version"], 0, "checking and simulating put nothing in force");

    apply(&appliance, 0, &format!("{SHARE}{}", no_mini("anyone")));
    for token in [&owner, &bob] {
        let answer = appliance.gate().call(&chat(token, "gpt-4o-mini"));
        assert!(answer.text().contains("rule tenant.no-mini"), "{}", answer.story());
        answer.refused(403, "SR-POLICY-005");
        appliance.gate().call(&chat(token, "gpt-4o")).is(200);
    }
    // A model that nobody can read might be the one.
    appliance.gate().call(&models(Api::OpenAi, &owner)).refused(403, "SR-POLICY-005");
    let what = ["policy", "explain", "--token", "bobs", "openai", "GET", "/v1/models"];
    let told = appliance.json(&what, b"");
    assert_eq!(told["rule"], "tenant.no-mini", "{told}");
    let rows = told["considered"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{told}");

    appliance.stop();
    appliance.up();
    appliance.wait_ready();
    appliance.gate().call(&chat(&owner, "gpt-4o-mini")).refused(403, "SR-POLICY-005");
    appliance.gate().call(&chat(&bob, "gpt-4o")).is(200);
}

#[test]
fn auth_02_rules_are_replaced_as_a_whole_from_the_version_that_was_seen() {
    let (appliance, _, bob) = scene();
    apply(&appliance, 0, SHARE);
    let shown = appliance.cli(&["policy", "show"], b"").ok().stdout;
    assert!(shown.contains("version = 1") && shown.contains("who = \"user:bob\""), "{shown}");
    let same = appliance.json(&["policy", "apply", "-", "--yes"], shown.as_bytes());
    assert_eq!(same["version"], 1, "the same text changes nothing");
    for (text, said) in [
        ("version = 0\n".to_owned(), "made from version 0"),
        (format!("version = 1\n{SHARE}{SHARE}"), "two rules are called 'share'"),
        (format!("version = 1\n{}", SHARE.replace("bob", "eve")), "there is no user 'eve'"),
        (
            format!("version = 1\n{}", SHARE.replace("credential:openai", "anything")),
            "it must say which",
        ),
        (format!("version = 1\n{SHARE}color = 1\n"), "unknown field `color`"),
    ] {
        for verb in ["check", "apply"] {
            let mut arguments = vec!["policy", verb, "-"];
            arguments.extend((verb == "apply").then_some("--yes"));
            let refused = appliance.cli(&arguments, text.as_bytes());
            assert_eq!(refused.code, 1, "{verb} {text}");
            assert!(refused.stderr.contains(said), "{verb} {said}: {}", refused.stderr);
        }
    }
    appliance.gate().call(&chat(&bob, "gpt-4o")).is(200);
}
