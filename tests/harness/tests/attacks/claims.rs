//! A captured gateway that lies: about a body, about whose call it is, and in the headers that it sends along.
//!
//! Invariant: what a provider got whole is what was judged, with the key and the headers of our own making.

use strongroom_emulator::Api;
use strongroom_policy::claims::Length;
use strongroom_policy::name::Label;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::target::Target;
use strongroom_protocol::ask::{Answer, CallAsk, Refused};
use strongroom_protocol::call::FrameKind;
use strongroom_tests::captured::Socket;
use strongroom_tests::{Part, canary};

use crate::scene::Scene;
use crate::speech::{
    BODY, Ended, JSON, ask, asking, chat, ended, exchange, frame_of, head, provider, ticket,
};

/// Bodies that are not what was claimed of them.
const LIES: &[&str] = &[
    r#"{"model":"x","messages":[{"role":"user","content":"hello there"}]}"#,
    r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    r#"{"model":"m","n":9,"messages":[{"role":"user","content":"hello th"}]}"#,
    r#"{"model":"m","store":true,"messages":[{"role":"user","content":""}]}"#,
    r#"{"model":"m","service_tier":"priority","messages":[{"content":""}]}"#,
    r#"{"model":"m","web_search_options":{},"messages":[{"content":"hi"}]}"#,
    r#"{"model":"m","model":"x","messages":[{"role":"user","content":""}]}"#,
    r#"{"model":"m","Model":"x","messages":[{"role":"user","content":""}]}"#,
    r#"{"messages":[{"role":"user","content":"there is no model at all"}]}"#,
    r#"{"model":"m","messages":[{"role":"user","content":"hello there"}]"#,
    r#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}{"#,
    // What costs more than was claimed.
    r#"{"model":"m","max_tokens":900000,"messages":[{"content":"hello"}]}"#,
    r#"{"model":"m","prediction":{"content":"hi"},"messages":[{"content":""}]}"#,
    r#"{"model":"m","messages":[{"content":[{"image_url":"data:,hello"}]}]}"#,
    r#"["m"]"#,
    "",
];

#[test]
fn a_captured_gateway_that_lies_about_a_body_gets_no_whole_request_to_a_provider() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let token = scene.token.as_bytes();
    let mut lie = |claimed: CallAsk,
                   exchanged: &dyn Fn(strongroom_protocol::ask::Ticket) -> Vec<u8>,
                   what: &str| {
        let (ticket, _) = ticket(&mut keeper, claimed);
        lane.send(&exchanged(ticket)).expect("the courier reads");
        assert_eq!(ended(&mut lane), Ended::Aborted(Refusal::BodyMismatch), "{what}");
    };
    for body in LIES {
        // As long as was said, and of a length of its own that was said.
        let padded = format!("{body:<width$}", width = BODY.len());
        if padded.len() == BODY.len() {
            lie(chat(token), &|ticket| exchange(ticket, &[JSON], padded.as_bytes()), body);
        }
        let claimed = CallAsk { length: Length::Known(body.len() as u64), ..chat(token) };
        let length = claimed.length;
        let own = |ticket| {
            let body = frame_of(FrameKind::Body, body.as_bytes());
            [head(ticket, &[JSON], length), body, frame_of(FrameKind::BodyEnd, b"")].concat()
        };
        lie(claimed, &own, body);
    }
    let body = || frame_of(FrameKind::Body, BODY);
    let end = || frame_of(FrameKind::BodyEnd, b"");
    let known = Length::Known(BODY.len() as u64);
    lie(
        chat(token),
        &|t| [head(t, &[JSON], known), body(), body(), end()].concat(),
        "twice as long",
    );
    lie(chat(token), &|t| [head(t, &[JSON], known), end()].concat(), "without a body");
    lie(chat(token), &|t| [head(t, &[JSON], Length::Chunked), body(), end()].concat(), "chunked");
    let more = Length::Known(BODY.len() as u64 + 1);
    lie(chat(token), &|t| [head(t, &[JSON], more), body(), end()].concat(), "another length");
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[JSON, JSON],
        &[JSON, ("content-type", "text/plain")],
    ] {
        lie(chat(token), &|t| [head(t, headers, known), body(), end()].concat(), "another type");
    }
    let seen = scene.appliance.providers().seen();
    assert!(seen.iter().all(|seen| !seen.body_complete), "{seen:#?}");
    // The truth passes.
    let (ticket, _) = ticket(&mut keeper, chat(token));
    lane.send(&exchange(ticket, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Whole(200));
    drop((keeper, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

#[test]
fn a_captured_gateway_reaches_no_path_key_or_credential_of_others() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let mut keeper = asking(&captured);
    let token = scene.token.as_bytes();
    let mut refused = |call: CallAsk| match ask(&mut keeper, call) {
        Answer::Refused(refused) => Refused { call: None, ..refused },
        other => panic!("{other:?}"),
    };
    // Ben's credential, by its id and by its label, looks like one that is not there.
    let of = |choice: Option<&str>, name: &str| {
        let choice = choice.map(|choice| Label::parse(choice).expect("a label"));
        CallAsk { choice, provider: provider(name), ..chat(token) }
    };
    let nobodys = "crd_00000000000000000000000000000000";
    for name in ["google", "openai"] {
        let expected = refused(of(Some(nobodys), name));
        assert_eq!(expected.refusal, Refusal::CredentialMissing);
        for choice in [scene.bens.as_str(), "bens"] {
            assert_eq!(refused(of(Some(choice), name)), expected, "{name} {choice}");
        }
    }
    assert_eq!(refused(of(None, "google")).refusal, Refusal::CredentialMissing);
    for target in [
        "/v1/organization/admin_api_keys",
        "/v1/organization/projects/p/api_keys",
        "/v1/realtime/sessions",
        "/v1/chat/completions/extra",
        "/",
    ] {
        let target = Target::parse(target).expect("it is canonical");
        let answer = refused(CallAsk { target: target.clone(), ..chat(token) });
        assert_eq!(answer.refusal, Refusal::PathUnknown, "{target:?}");
    }
    for name in ["nobody", "evil", "emulator"] {
        assert_eq!(refused(of(None, name)).refusal, Refusal::ProviderUnknown);
    }
    for proof in
        [&b""[..], b"sr_", &[0; 300], scene.bens.as_bytes(), token.split_at(token.len() - 1).0]
    {
        assert_eq!(refused(chat(proof)).refusal, Refusal::TokenInvalid);
    }
    assert_eq!(scene.appliance.providers().counts().requests, 0);
    drop(keeper);
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

/// What a captured gateway may try to send along.
fn headers() -> Vec<(String, String)> {
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut all = vec![
        own("authorization", "Bearer mine"),
        own("x-api-key", "mine"),
        own("x-goog-api-key", "mine"),
        own("Authorization", "Bearer mine"),
        own("host", "evil.example"),
        own(":authority", "evil.example"),
        own("content-length", "0"),
        own("transfer-encoding", "chunked"),
        own("connection", "upgrade"),
        own("upgrade", "websocket"),
        own("expect", "100-continue"),
        own("trailer", "x"),
        own("te", "trailers"),
        own("proxy-authorization", "Basic bWluZQ=="),
        own("forwarded", "host=evil.example"),
        own("x-forwarded-host", "evil.example"),
        own("x-http-method-override", "DELETE"),
        own("x-original-url", "/v1/files"),
        own("cookie", "mine"),
        own("openai-organization", "org-evil"),
        own("openai-project", "evil"),
        own("anthropic-beta", "evil-2025-01-01"),
        own("content-encoding", "gzip"),
        own("range", "bytes=0-1"),
        own("accept-encoding", "gzip"),
    ];
    for value in [
        "x\r\nauthorization: Bearer mine",
        "x\nhost: evil.example",
        "x\r\n\r\nGET /v1/files HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "x\r",
        "x\0y",
    ] {
        all.push(own("user-agent", value));
        all.push(own(&format!("user-agent: {value}"), "evil"));
    }
    all.push(own("", "evil"));
    all.push(own("user agent", "evil"));
    all.push(own("user-agent:", "evil"));
    all
}

#[test]
fn a_captured_gateway_adds_no_line_and_no_header_to_a_request() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let mut made = 0;
    for (name, value) in headers() {
        let (ticket, _) = ticket(&mut keeper, chat(scene.token.as_bytes()));
        lane.send(&exchange(ticket, &[JSON, (&name, &value)], BODY)).expect("the courier reads");
        match ended(&mut lane) {
            Ended::Whole(200) => made += 1,
            Ended::Aborted(
                Refusal::HeadInvalid | Refusal::BodyMismatch | Refusal::BodyUnsupported,
            ) => {}
            other => panic!("{name:?}: {value:?}: {other:?}"),
        }
    }
    // More headers than a head may have.
    let (ticket, _) = ticket(&mut keeper, chat(scene.token.as_bytes()));
    let many = vec![("accept", "*/*"); 101];
    lane.send(&exchange(ticket, &many, BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Aborted(Refusal::BodyMismatch));
    let seen = scene.appliance.providers().seen();
    assert_eq!(seen.len(), made, "one request for one call");
    assert!(made > 10, "most of what is tried is dropped, and the call is made: {made}");
    for seen in seen {
        let key = format!("Bearer {}", canary::key(Api::OpenAi));
        assert_eq!(seen.header("authorization"), Some(key.as_str()), "{seen:#?}");
        assert_eq!(seen.header("content-length"), Some(BODY.len().to_string().as_str()));
        assert_eq!(seen.body.as_deref().map(str::as_bytes), Some(BODY));
        assert!(seen.oddities.is_empty(), "{seen:#?}");
        let told = format!("{:?}", seen.headers);
        for trace in ["mine", "evil", "gzip", "upgrade", "chunked", "100-continue", "DELETE"] {
            assert!(!told.contains(trace), "{trace}: {told}");
        }
    }
    drop((keeper, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}
