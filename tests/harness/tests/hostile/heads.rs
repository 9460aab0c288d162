//! Headers that authenticate, route or ask for powers (attack rows 22 and 25).
//!
//! Invariant: one token, ours; nothing that is not listed travels; nothing is read endlessly.

use std::time::{Duration, Instant};

use strongroom_emulator::Api;
use strongroom_protocol::token::write_token;
use strongroom_tests::speak::{Shape, models, say};
use strongroom_tests::{Appliance, Ending, Request};

#[test]
fn exactly_one_token_of_ours_is_taken_and_a_foreign_key_is_never_kept() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let other = appliance.token("other", &[]);
    let foreign = "sk-ant-api03-a-real-looking-key-that-is-not-ours-0123456789";
    let ask = |headers: &[(&str, &str)]| {
        let request =
            Request::get("/anthropic/v1/models").header("anthropic-version", "2023-06-01");
        gate.call(
            &headers.iter().fold(request, |request, (name, value)| request.header(name, value)),
        )
    };
    let bearer = format!("Bearer {token}");
    ask(&[("authorization", &bearer)]).is(200);
    ask(&[("x-api-key", &token)]).is(200);
    ask(&[("x-goog-api-key", &token)]).is(200);
    // Claude Code sends both; one value however often is one value.
    ask(&[("authorization", &bearer), ("x-api-key", &token), ("api-key", &token)]).is(200);
    // A header that no provider here reads is no second key; it does not travel either.
    ask(&[("authorization", &bearer), ("xi-api-key", foreign), ("cookie", foreign)]).is(200);
    ask(&[]).refused(401, "SR-TOKEN-001");
    for two in [
        &[("authorization", bearer.as_str()), ("x-api-key", other.as_str())][..],
        &[("authorization", bearer.as_str()), ("x-api-key", foreign)],
        &[("x-api-key", foreign)],
        &[("x-api-key", token.as_str()), ("x-api-key", other.as_str())],
        &[("authorization", bearer.as_str()), ("authorization", "Bearer x")],
        &[("authorization", "Basic c3I6eA==")],
    ] {
        let answer = ask(two).refused(401, "SR-TOKEN-002");
        assert!(answer.text().contains("ANTHROPIC_API_KEY"), "{}", answer.text());
        assert!(!answer.text().contains(foreign), "the foreign key is told back");
    }
    let mut damaged = token.clone().into_bytes();
    damaged[20] = if damaged[20] == b'a' { b'b' } else { b'a' };
    // Ours, but mistyped or cut short: it is not called somebody else's.
    ask(&[("x-api-key", &String::from_utf8_lossy(&damaged))]).refused(401, "SR-TOKEN-003");
    ask(&[("x-api-key", "sr_short")]).refused(401, "SR-TOKEN-003");
    let unknown = write_token(&[9; 32]);
    let unknown = unknown.expose(|text| String::from_utf8_lossy(text).into_owned());
    ask(&[("x-api-key", &unknown)]).refused(401, "SR-TOKEN-003");
    for file in strongroom_tests::journal::files(appliance.scratch()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(foreign) && !text.contains(&unknown), "{}", file.display());
    }
    for seen in appliance.seen(|_, counts| counts.finished == 5) {
        assert!(seen.authorised && !seen.mentions(&token) && !seen.mentions(foreign), "{seen:#?}");
    }
}

#[test]
fn only_listed_headers_travel_and_capabilities_do_not() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let dropped = [
        ("cookie", "a=b"),
        ("openai-organization", "org-evil"),
        ("openai-project", "proj-evil"),
        ("x-goog-user-project", "evil"),
        ("x-http-method-override", "DELETE"),
        ("x-forwarded-for", "::1"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=::1"),
        ("via", "1.1 evil"),
        ("referer", "https://evil.example"),
        ("origin", "https://evil.example"),
        ("range", "bytes=0-1"),
        ("if-range", "x"),
        ("if-none-match", "x"),
        ("accept-encoding", "gzip, br"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic evil"),
        ("x-amz-security-token", "evil"),
        ("connection", "x-stainless-lang"),
        ("keep-alive", "timeout=5"),
        ("x-strongroom-credential", "openai"),
    ];
    let kept = [("x-stainless-lang", "python"), ("user-agent", "tests/1"), ("openai-beta", "a=v1")];
    let request = say(Api::OpenAi, &token, "m", "hi", Shape::Plain);
    let add = |request: Request, (name, value): &(&str, &str)| request.header(name, value);
    let request = kept.iter().fold(dropped.iter().fold(request, add), add);
    gate.call(&request).is(200);
    let seen = appliance.seen(|_, counts| counts.finished == 1);
    let allowed = ["host", "accept-encoding", "authorization", "content-length", "content-type"];
    for (name, value) in &seen[0].headers {
        let listed =
            allowed.contains(&name.as_str()) || kept.iter().any(|(known, _)| known == name);
        assert!(listed, "{name}: {value} travelled");
    }
    assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
    assert_eq!(seen[0].header("user-agent"), Some("tests/1"));
    assert!(!seen[0].mentions("evil"), "{:#?}", seen[0]);
    // What could split a header, or be read twice, refuses the request.
    for (name, value) in
        [("x-stainless-a", "caf\u{e9}"), ("user-agent", "a\tb"), ("x-app", "\u{7f}")]
    {
        let answer =
            gate.call(&say(Api::OpenAi, &token, "m", "hi", Shape::Plain).header(name, value));
        assert_eq!(answer.status, 400, "{name}: {}", answer.story());
    }
    let twice = say(Api::OpenAi, &token, "m", "hi", Shape::Plain);
    let twice = twice.header("user-agent", "a").header("user-agent", "b");
    gate.call(&twice).refused(400, "SR-HTTP-001");
    assert_eq!(appliance.providers().counts().requests, 1);
}

#[test]
fn an_idempotency_key_is_one_persons_own() {
    let appliance = Appliance::start(&strongroom_tests::Options::default());
    appliance.json(&["workspace", "create", "team"], b"");
    for person in ["anna", "ben"] {
        appliance.json(&["user", "create", person], b"");
        appliance.json(&["workspace", "join", "team", person], b"");
    }
    appliance.deposit(Api::OpenAi, &["--for", "workspace:team", "--no-test"]);
    let [anna, ben] = ["anna", "ben"].map(|person| appliance.token(person, &["--user", person]));
    let annas_second = appliance.token("second", &["--user", "anna"]);
    let gate = appliance.gate();
    for token in [&anna, &anna, &annas_second, &ben] {
        let request = say(Api::OpenAi, token, "m", "hi", Shape::Plain);
        gate.call(&request.header("idempotency-key", "order-4711")).is(200);
    }
    let seen = appliance.seen(|_, counts| counts.finished == 4);
    let keys: Vec<_> =
        seen.iter().map(|one| one.header("idempotency-key").expect("it travels")).collect();
    assert!(keys[0] == keys[1] && keys[1] == keys[2], "{keys:?}");
    assert!(keys[0] != keys[3] && !keys[0].contains("4711"), "{keys:?}");
}

#[test]
fn upgrades_are_answered_426_at_once() {
    let (appliance, token) = Appliance::stocked();
    for path in ["/openai/v1/realtime", "/openai/v1/responses", "/google/ws/x"] {
        let request = Request::get(path)
            .bearer(&token)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-x");
        appliance.gate().call(&request).refused(426, "SR-HTTP-004");
    }
    assert_eq!(appliance.providers().counts().requests, 0);
}

#[test]
fn a_huge_head_and_a_slow_one_are_cut_off() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let huge = models(Api::OpenAi, &token).header("x-app", &"a".repeat(80 * 1024));
    assert!(matches!(gate.call(&huge).status, 0 | 400 | 431));
    let many = (0..200).fold(models(Api::OpenAi, &token), |request, turn| {
        request.header(&format!("x-many-{turn}"), "a")
    });
    assert!(matches!(gate.call(&many).status, 0 | 400 | 431));
    let long =
        Request::get(&format!("/openai/v1/models?limit={}", "1".repeat(9000))).bearer(&token);
    assert!(matches!(gate.call(&long).status, 0 | 400 | 414));
    // A stranger who never finishes the first head.
    let mut slow = gate.connect().expect("it listens");
    slow.send(b"GET /openai/v1/models HTTP/1.1\r\nhost: localhost\r\nx-slow: ").expect("it reads");
    slow.patience(Duration::from_mins(1));
    let begun = Instant::now();
    let answer = slow.answer();
    assert_ne!(answer.ending, Ending::Silent, "still open after {:?}", begun.elapsed());
    // Ten seconds; a caller who is known would have 75.
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    assert_eq!(appliance.providers().counts().requests, 0);
}

#[test]
fn a_strangers_large_body_is_not_read() {
    let (appliance, _token) = Appliance::stocked();
    let unknown = write_token(&[3; 32]);
    let unknown = unknown.expose(|text| String::from_utf8_lossy(text).into_owned());
    let mut connection = appliance.gate().connect().expect("it listens");
    let head = format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {unknown}\r\n\
         content-type: application/json\r\ncontent-length: 30000000\r\n\r\n{{\"model\":\""
    );
    connection.send(head.as_bytes()).expect("it reads");
    // Not another byte is sent, and the answer comes all the same.
    connection.answer().refused(401, "SR-TOKEN-003");
}
