//! Bodies that two parsers read differently, and bodies that are too much (attack rows 20, 21 and 25).
//!
//! Invariant: what cannot be judged in one way is refused before a byte of it leaves.

use serde_json::json;
use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, said, say};
use strongroom_tests::{Answer, Appliance, Gate, Request};

const DIFFERENTIALS: &[&[u8]] = &[
    br#"{"model":"a","Model":"b"}"#,
    br#"{"model":"a","model":"b"}"#,
    br#"{"model":"a","\u006dodel":"b"}"#,
    br#"{"model":"a","mo\u0064el":"b"}"#,
    br#"{"MODEL":"a"}"#,
    br#"{"model":"a","maxTokens":5}"#,
    br#"{"model":"a","max_tokens":1,"maxTokens":99999}"#,
    "{\"model\":\"a\",\"\u{17f}tream\":true}".as_bytes(),
    "{\"model\":\"a\",\"\u{ff4d}odel\":\"x\"}".as_bytes(),
    b"\xef\xbb\xbf{\"model\":\"a\"}",
    b"\xff\xfe{\0}\0",
    br#"{"model":"a","n":NaN}"#,
    br#"{"model":"a","n":1e999}"#,
    br#"{"model":"a","n":01}"#,
    br#"{"model":"a","n":"9"}"#,
    br#"{"model":"a"}{"model":"b"}"#,
    br#"{"model":"a"} x"#,
    br#"{"model":"a",}"#,
    br#"[{"model":"a"}]"#,
    br#"{"model":["a","b"]}"#,
    br#"{"model":"a","models":["b"]}"#,
    br#"{"model":null}"#,
    br#"{"model":"a\u0000"}"#,
    br#"{"model":"a","stream":"true"}"#,
    br#"{"model":"a","tools":[],"tools":[{"type":"mcp"}]}"#,
    br#"{"model":"a","tools":[{"type":"function","Type":"mcp"}]}"#,
    br#"{"model":"a","x":"\ud800"}"#,
    b"{\"model\":\"a\",\"x\":\"\xc0\xaf\"}",
    b"{\"model\":\"a\",\"x\":\"\n\"}",
    b"{\"model\":\"a\"}\0",
    br#"{"model":"a""#,
    b"",
];

fn post(gate: &Gate, token: &str, content_type: &str, body: &[u8]) -> Answer {
    let request = Request::new("POST", "/openai/v1/chat/completions").bearer(token);
    gate.call(&request.body(content_type, body))
}

#[test]
fn bodies_that_parsers_read_differently_reach_nobody() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for body in DIFFERENTIALS {
        let answer = post(&gate, &token, "application/json", body);
        assert_eq!(
            (answer.status, answer.refusal()),
            (400, Some("SR-BODY-001")),
            "{} {}",
            String::from_utf8_lossy(body),
            answer.story()
        );
    }
    let deep = format!("{{\"model\":\"m\",\"metadata\":{}{}}}", "[".repeat(200), "]".repeat(200));
    post(&gate, &token, "application/json", deep.as_bytes()).refused(400, "SR-BODY-001");
    // The model of the path and that of the body are one.
    let other = json!({"model": "gemini-9-ultra", "contents": []});
    let request = Request::post("/google/v1beta/models/gemini-1:generateContent", &other);
    gate.call(&request.bearer(&token)).refused(400, "SR-BODY-001");
    assert_eq!(appliance.providers().counts().requests, 0, "{:#?}", appliance.providers().seen());
}

#[test]
fn encodings_and_types_that_are_not_read_are_not_sent() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let body = br#"{"model":"m","messages":[]}"#;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "application/jsonx",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "",
    ] {
        let answer = post(&gate, &token, content_type, body);
        assert_eq!(answer.status, 415, "{content_type}: {}", answer.story());
    }
    for encoding in ["gzip", "br", "deflate", "gzip, identity", "zstd"] {
        let request = Request::new("POST", "/openai/v1/chat/completions").bearer(&token);
        let request = request.body("application/json", body).header("content-encoding", encoding);
        gate.call(&request).refused(415, "SR-BODY-002");
    }
    let empty = Request::get("/openai/v1/models").bearer(&token).body("application/json", b"{}");
    gate.call(&empty).refused(400, "SR-BODY-001");
    assert_eq!(appliance.providers().counts().requests, 0);
    post(
        &gate,
        &token,
        "application/json; charset=utf-8",
        br#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#,
    )
    .is(200);
}

#[test]
fn a_body_over_the_limit_is_refused_at_once_and_one_below_it_passes() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let announce = |length: u64| {
        format!(
            "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut connection = gate.connect().expect("it listens");
    connection.send(announce(32 * 1024 * 1024 + 1).as_bytes()).expect("it reads");
    connection.answer().refused(413, "SR-BODY-003");
    // Unannounced: it is counted as it comes.
    let mut connection = gate.connect().expect("it listens");
    let head = announce(0).replace("content-length: 0", "transfer-encoding: chunked");
    connection.send(head.as_bytes()).expect("it reads");
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    let sent = (0..40).take_while(|_| connection.send(chunk.as_bytes()).is_ok()).count();
    assert!(sent >= 8, "the socket took {sent} MiB");
    let answer = connection.answer();
    assert!(
        matches!((answer.status, answer.refusal()), (413, Some("SR-BODY-003")) | (0, None)),
        "{}",
        answer.story()
    );
    assert_eq!(appliance.providers().counts().requests, 0);
    let text = "x".repeat(31 * 1024 * 1024);
    let answer =
        gate.call(&say(Api::OpenAi, &token, "emu-usage-missing", &text, Shape::Plain)).is(200);
    assert_eq!(said(Api::OpenAi, Shape::Plain, &answer.text()).len(), text.len());
}

#[test]
fn curl_hears_why_its_large_body_is_refused_over_either_version() {
    let (appliance, token) = Appliance::stocked();
    let body = appliance.scratch().join("large.json");
    std::fs::write(&body, " ".repeat(36_000_000)).unwrap();
    for version in ["--http1.1", "--http2"] {
        let curl = std::process::Command::new("curl")
            .args([version, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(appliance.authority())
            .args(["-H", &format!("authorization: Bearer {token}")])
            .args(["-H", "content-type: application/json", "--data-binary"])
            .arg(format!("@{}", body.display()))
            .arg(format!("{}/openai/v1/chat/completions", appliance.url()))
            .output()
            .expect("curl is installed");
        let told = String::from_utf8_lossy(&curl.stderr);
        assert_eq!(String::from_utf8_lossy(&curl.stdout), "413", "{version}: {told}");
    }
}

#[test]
fn forms_that_parsers_read_differently_reach_nobody() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let model = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n";
    let file = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\ncontent-type: audio/mpeg\r\n\r\nabc\r\n";
    let end = "--b--\r\n";
    let send = |content_type: &str, body: &str| {
        let request = Request::new("POST", "/openai/v1/audio/transcriptions").bearer(&token);
        gate.call(&request.body(content_type, body.as_bytes()))
    };
    let form = "multipart/form-data; boundary=b";
    for body in [
        format!("{file}{model}{model}{end}"),
        format!("{model}{model}{file}{end}"),
        format!("{model}{}{file}{end}", model.replace("\"model\"", "\"Model\"")),
        format!("{}{file}{end}", model.replace("\"model\"", "\"model\"; filename=\"x\"")),
        format!("{model}{file}"),
        format!("{model}{file}{end}trailing"),
        format!("preamble\r\n{model}{file}{end}"),
        format!("{model}{file}{end}").replace("\r\n", "\n"),
        format!("{}{file}{end}", model.replace("; name", ";name*=utf-8''x; name")),
    ] {
        let answer = send(form, &body);
        assert_eq!(answer.refusal(), Some("SR-BODY-001"), "{body:?} {}", answer.story());
    }
    for content_type in [
        "multipart/form-data",
        "multipart/mixed; boundary=b",
        "multipart/form-data; boundary=b; boundary=c",
    ] {
        let answer = send(content_type, &format!("{model}{file}{end}"));
        assert!(matches!(answer.status, 400 | 415), "{content_type}: {}", answer.story());
    }
    assert_eq!(appliance.providers().counts().requests, 0, "{:#?}", appliance.providers().seen());
    let answer = send(form, &format!("{model}{file}{end}")).is(200);
    assert!(answer.json()["text"].is_string(), "{}", answer.text());
    send(form, &format!("{file}{model}{end}")).is(200);
    // A model rule holds in forms, too, wherever the model stands.
    let narrow = appliance.token("narrow", &["--models", "gpt-*"]);
    let large = file.replace("abc", &"y".repeat(300_000));
    for body in [format!("{model}{file}{end}"), format!("{large}{model}{end}")] {
        let request = Request::new("POST", "/openai/v1/audio/transcriptions").bearer(&narrow);
        gate.call(&request.body(form, body.as_bytes())).refused(403, "SR-POLICY-002");
    }
}
