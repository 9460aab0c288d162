//! Requests that two readers could cut apart in two ways (ledger row 16).
//!
//! Invariant: what is ambiguous is refused, and its connection is not used again.

use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, said, say};
use strongroom_tests::{Appliance, Connection, Ending};

const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// A request with these header lines and this body, as it is.
fn request(token: &str, lines: &str, body: &str) -> String {
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{lines}\r\n\r\n{body}"
    )
}

#[test]
fn ambiguous_framing_is_refused_and_reaches_nobody() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let length = BODY.len();
    let chunked = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let cases: Vec<(String, &str)> = vec![
        (format!("content-length: {length}\r\ncontent-length: {}", length + 1), BODY),
        (format!("content-length: {length}, {length}"), BODY),
        (format!("content-length: +{length}"), BODY),
        ("content-length: -1".to_owned(), BODY),
        (format!("content-length: 0x{length:x}"), BODY),
        ("content-length: 99999999999999999999999".to_owned(), BODY),
        ("content-length: ".to_owned(), BODY),
        (format!("content-length : {length}"), BODY),
        (format!("content-length\t: {length}"), BODY),
        ("transfer-encoding: xchunked".to_owned(), &chunked),
        ("transfer-encoding: gzip, chunked".to_owned(), &chunked),
        ("transfer-encoding: chunked, chunked".to_owned(), &chunked),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked".to_owned(), &chunked),
        ("transfer-encoding: chunked\r\ntransfer-encoding: identity".to_owned(), &chunked),
        ("transfer-encoding:\x0bchunked".to_owned(), &chunked),
        ("transfer-encoding : chunked".to_owned(), &chunked),
        ("transfer-encoding: \"chunked\"".to_owned(), &chunked),
        ("x-folded: a\r\n b\r\ncontent-length: 0".to_owned(), ""),
        (format!(" x-leading: a\r\ncontent-length: {length}"), BODY),
        (format!("x-nul: a\0b\r\ncontent-length: {length}"), BODY),
        (format!("x-cr: a\rb\r\ncontent-length: {length}"), BODY),
        (format!("x name: a\r\ncontent-length: {length}"), BODY),
        (format!(": empty\r\ncontent-length: {length}"), BODY),
        (format!("no-colon\r\ncontent-length: {length}"), BODY),
        (format!("host: other\r\ncontent-length: {length}"), BODY),
    ];
    for (lines, body) in &cases {
        let answer = gate.raw(request(&token, lines, body).as_bytes());
        assert!(matches!(answer.status, 0 | 400), "{lines:?}: {}", answer.story());
    }
    assert_eq!(appliance.providers().counts().requests, 0, "{:#?}", appliance.providers().seen());
    gate.raw(request(&token, &format!("content-length: {length}"), BODY).as_bytes()).is(200);
    // The same length said twice has one reading (RFC 9112, 6.3); it is said once from here on.
    let twice = format!("content-length: {length}\r\ncontent-length: {length}");
    let answer = gate.raw(request(&token, &twice, BODY).as_bytes());
    assert!(matches!(answer.status, 200 | 400), "{}", answer.story());
    assert!(appliance.providers().seen().iter().all(|seen| seen.oddities.is_empty()));
}

#[test]
fn with_both_framings_the_chunks_count_and_the_connection_ends() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let hidden = format!(
        "GET /openai/v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let body = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n{hidden}", BODY.len());
    for (calls, lines) in [
        format!("content-length: {}\r\ntransfer-encoding: chunked", body.len()),
        format!("transfer-encoding: chunked\r\ncontent-length: {}", BODY.len()),
    ]
    .iter()
    .enumerate()
    {
        let mut connection = gate.connect().expect("it listens");
        connection.send(request(&token, lines, &body).as_bytes()).expect("it reads");
        let answer = connection.answer();
        assert!(matches!(answer.status, 200 | 400), "{lines:?}: {}", answer.story());
        // RFC 9112, 6.1: whatever follows on this connection is not to be trusted.
        let second = connection.answer();
        assert_eq!((second.status, second.ending), (0, Ending::Cut), "{}", second.story());
        assert!(appliance.providers().counts().requests <= calls as u64 + 1);
    }
    for seen in appliance.providers().seen() {
        assert_eq!((seen.body.as_deref(), seen.oddities.len()), (Some(BODY), 0), "{seen:#?}");
    }
}

#[test]
fn broken_chunks_are_refused_and_reach_nobody() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let length = BODY.len();
    for body in [
        format!("0x{length:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("-{length:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("+{length:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("FFFFFFFFFFFFFFFFF\r\n{BODY}\r\n0\r\n\r\n"),
        format!("FFFFFFFFFFFFFFFF\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{length:x}\r\n{BODY}0\r\n\r\n"),
        format!("{length:x}\n{BODY}\r\n0\r\n\r\n"),
        format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", length - 1),
        format!("\r\n{BODY}\r\n0\r\n\r\n"),
        format!("zz\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{length:x};{}\r\n{BODY}\r\n0\r\n\r\n", "x".repeat(100_000)),
    ] {
        let answer = gate.raw(request(&token, "transfer-encoding: chunked", &body).as_bytes());
        let shown: String = body.chars().take(40).collect();
        assert!(matches!(answer.status, 0 | 400..500), "{shown:?}: {}", answer.story());
    }
    // Cut off in the middle: nothing of it is sent on.
    let mut connection = gate.connect().expect("it listens");
    let cut = format!("{length:x}\r\n{}", &BODY[..20]);
    connection
        .send(request(&token, "transfer-encoding: chunked", &cut).as_bytes())
        .expect("it reads");
    connection.drop_now();
    assert_eq!(appliance.providers().counts().requests, 0, "{:#?}", appliance.providers().seen());
    let whole = format!(
        "5\r\n{}\r\n{:x}\r\n{}\r\n0\r\nx-trailer: a\r\nauthorization: Bearer x\r\n\r\n",
        &BODY[..5],
        length - 5,
        &BODY[5..]
    );
    gate.raw(request(&token, "transfer-encoding: chunked", &whole).as_bytes()).is(200);
    let seen = appliance.seen(|_, counts| counts.finished == 1);
    assert_eq!((seen[0].body.as_deref(), seen[0].oddities.len()), (Some(BODY), 0), "{seen:#?}");
    assert!(!seen[0].mentions("x-trailer"));
}

#[test]
fn odd_request_lines_are_refused() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let head = format!("host: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    for line in [
        "GET  /openai/v1/models HTTP/1.1",
        "GET /openai/v1/models  HTTP/1.1",
        "GET /openai/v1/models HTTP/1.1 ",
        "GET /openai/v1/models HTTP/1.2",
        "GET /openai/v1/models HTTP/2.0",
        "GET /openai/v1/models http/1.1",
        "GET /openai/v1/models",
        "GET /openai/v1/mo dels HTTP/1.1",
        "GET\t/openai/v1/models HTTP/1.1",
        "get /openai/v1/models HTTP/1.1",
        "PROPFIND /openai/v1/models HTTP/1.1",
        "TRACE /openai/v1/models HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "CONNECT api.openai.com:443 HTTP/1.1",
        "GET * HTTP/1.1",
        "PRI * HTTP/2.0",
        "\u{16}\u{3}\u{1}",
    ] {
        let answer = gate.raw(format!("{line}\r\n{head}").as_bytes());
        assert!(matches!(answer.status, 0 | 400..500), "{line:?}: {}", answer.story());
    }
    assert_eq!(appliance.providers().counts().requests, 0, "{:#?}", appliance.providers().seen());
}

#[test]
fn pipelined_calls_are_answered_one_by_one_and_in_their_order() {
    let (appliance, token) = Appliance::stocked();
    let mut connection = appliance.gate().connect().expect("it listens");
    let mut bytes = Vec::new();
    for turn in 0..5 {
        let text = format!("number {turn} of the pipeline");
        bytes.extend(say(Api::OpenAi, &token, "m", &text, Shape::Plain).bytes("localhost"));
    }
    connection.send(&bytes).expect("it reads");
    for turn in 0..5 {
        let answer = connection.answer();
        assert_eq!((answer.status, answer.ending), (200, Ending::Complete));
        let text = said(Api::OpenAi, Shape::Plain, &answer.text());
        assert_eq!(text, format!("number {turn} of the pipeline"));
    }
    nothing_more(connection);
}

/// Asks for something small: its answer must be the next one.
fn nothing_more(mut connection: Connection) {
    let answer = connection.call(&strongroom_tests::Request::get("/healthz"));
    assert_eq!(answer.text(), "ok\n");
}
