//! AUTH-02 in part: a tenant's own rules, decided in the vault, explained, and held against past calls.
//!
//! Invariant: sharing a key gives its use and nothing else; what denies wins.

use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::client::{Body, Connection};
use strongroom_tests::speak::{Request, Shape, models, say};
use strongroom_tests::{Appliance, Ending, Gate};

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

fn in_force(appliance: &Appliance) -> u64 {
    appliance.json(&["policy", "show"], b"")["version"].as_u64().expect("a version")
}

fn apply(appliance: &Appliance, rules: &str) {
    let text = format!("version = {}\n{rules}", in_force(appliance));
    let applied = appliance.json(&["policy", "apply", "-", "--yes"], text.as_bytes());
    assert_eq!(applied["version"], in_force(appliance), "{applied}");
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

    apply(&appliance, SHARE);
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

    apply(&appliance, "");
    gate.call(&models(Api::OpenAi, &bob)).refused(404, "SR-CREDENTIAL-001");
    gate.call(&files(&owner)).is(200);
}

/// A stream of a minute and a half, of which something has come.
struct Stream {
    connection: Connection,
    body: Body,
    seen: Vec<u8>,
}

impl Stream {
    fn begin(gate: &Gate, token: &str) -> Self {
        let mut connection = gate.connect().expect("it listens");
        let request = say(Api::OpenAi, token, "emu-paced-20-4500", "go on", Shape::Streamed);
        connection.send(&request.bytes("localhost")).expect("it reads");
        let (status, _, framing) = connection.head().expect("a head");
        assert_eq!(status, 200);
        let (mut body, mut seen) = (Body::new(framing), Vec::new());
        assert!(connection.await_text(&mut body, &mut seen, "content"));
        Self { connection, body, seen }
    }

    fn cut_off(mut self, what: &str) {
        let ending = self.connection.rest(&mut self.body, &mut self.seen);
        assert_eq!(ending, Ending::Cut, "{what}");
    }
}

#[test]
fn auth_02_a_stream_ends_with_what_allowed_it() {
    let (appliance, owner, bob) = scene();
    let gate = appliance.gate();
    let people = appliance.json(&["user", "list"], b"");
    let mut names = people["users"].as_array().into_iter().flatten().map(|row| &row["label"]);
    let owners_name = names.find(|name| **name != "bob").and_then(Value::as_str).expect("a name");
    appliance.cli(&["workspace", "create", "team"], b"").ok();
    let team = |verb: &str| {
        let mut arguments = vec!["workspace", verb, "team", "bob"];
        arguments.extend((verb == "leave").then_some("--yes"));
        appliance.cli(&arguments, b"").ok();
    };

    apply(&appliance, SHARE);
    let (shared, own) = (Stream::begin(&gate, &bob), Stream::begin(&gate, &owner));
    apply(&appliance, &format!("{SHARE}models = [\"gpt-4o*\"]\n"));
    shared.cut_off("it was narrowed");

    apply(&appliance, SHARE);
    let shared = Stream::begin(&gate, &bob);
    apply(&appliance, "");
    shared.cut_off("it was taken back");

    apply(&appliance, &SHARE.replace("user:bob", "workspace:team"));
    team("join");
    let shared = Stream::begin(&gate, &bob);
    team("leave");
    shared.cut_off("who used it left the workspace that it was shared with");

    apply(&appliance, &no_mini("anyone").replace("gpt-4o-mini*", "emu-*"));
    own.cut_off("it was denied");

    apply(&appliance, SHARE);
    let (shared, own) = (Stream::begin(&gate, &bob), Stream::begin(&gate, &owner));
    appliance.cli(&["user", "disable", owners_name, "--yes"], b"").ok();
    shared.cut_off("its owner was disabled");
    own.cut_off("who made it was disabled");
    gate.call(&chat(&bob, "gpt-4o")).refused(404, "SR-CREDENTIAL-001");
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

    apply(&appliance, &format!("{SHARE}{}", no_mini("anyone")));
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
    apply(&appliance, SHARE);
    let version = in_force(&appliance);
    let shown = appliance.cli(&["policy", "show"], b"").ok().stdout;
    assert!(
        shown.contains(&format!("version = {version}")) && shown.contains("who = \"user:bob\""),
        "{shown}"
    );
    let same = appliance.json(&["policy", "apply", "-", "--yes"], shown.as_bytes());
    assert_eq!(same["version"], version, "the same text changes nothing");
    for (text, said) in [
        ("version = 0\n".to_owned(), "made from version 0"),
        (format!("version = {version}\n{SHARE}{SHARE}"), "two rules are called 'share'"),
        (format!("version = {version}\n{}", SHARE.replace("bob", "eve")), "there is no user 'eve'"),
        (
            format!("version = {version}\n{}", SHARE.replace("credential:openai", "anything")),
            "it must say which",
        ),
        (format!("version = {version}\n{SHARE}color = 1\n"), "unknown field `color`"),
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
