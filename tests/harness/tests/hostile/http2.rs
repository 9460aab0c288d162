//! HTTP/2: many calls on one connection, breaks, give-ups and floods of resets (CVE-2023-44487).
//!
//! Invariant: a stream that died is reset, never ended; one caller's streams do not disturb the next connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, said};
use strongroom_tests::{Appliance, PATIENCE, Request, until};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

type Sender = SendRequest<Full<Bytes>>;

async fn connect(appliance: &Appliance) -> Sender {
    let gate = appliance.gate_speaking(&["h2"]);
    let (config, name) = gate.tls();
    let tcp = TcpStream::connect(gate.address()).await.expect("it listens");
    let tls = TlsConnector::from(config).connect(name, tcp).await.expect("a handshake");
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(tls)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn chat(token: &str, model: &str, text: &str, shape: Shape) -> http::Request<Full<Bytes>> {
    let stream = shape == Shape::Streamed;
    let body = serde_json::json!({"model": model, "stream": stream,
        "messages": [{"role": "user", "content": text}]});
    http::Request::post("https://localhost/openai/v1/chat/completions")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a request")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

// Red when a stream that is reset takes its attempt to sign in with it: then guessing costs nothing.
#[test]
fn whoever_resets_a_sign_in_before_its_answer_is_counted_all_the_same() {
    let (appliance, _) = Appliance::stocked();
    let gate = appliance.gate();
    let post = |path: &str, body: serde_json::Value| {
        let request =
            Request::new("POST", path).body("application/json", body.to_string().as_bytes());
        gate.call(&request)
    };
    let password = "five random words of mine";
    appliance.cli(&["user", "create", "alice"], b"").ok();
    let ticket = appliance.json(&["user", "invite", "alice"], b"")["invitation"].clone();
    let redeemed = json!({"invitation": ticket, "password": password});
    post("/api/v1/invitations/redeem", redeemed).is(204);
    let alice = || post("/api/v1/sign-in", json!({"login": "alice", "password": password}));
    alice().is(200);
    // The right password is no failure: only those that nobody waited for can make it refused.
    until("the network has to wait", || {
        runtime().block_on(async {
            let mut sender = connect(&appliance).await;
            let guess = json!({"login": "nobody", "password": password}).to_string();
            let request = http::Request::post("https://localhost/api/v1/sign-in")
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(guess)))
                .expect("a request");
            let reset = timeout(BEFORE_IT_IS_HASHED, sender.send_request(request)).await;
            drop(reset);
        });
        (alice().status == 429).then_some(())
    });
}

/// A password takes longer.
const BEFORE_IT_IS_HASHED: Duration = Duration::from_millis(15);

#[test]
fn many_calls_share_a_connection_and_each_has_its_own_answer() {
    let (appliance, token) = Appliance::stocked();
    runtime().block_on(async {
        let sender = connect(&appliance).await;
        let mut calls = JoinSet::new();
        for turn in 0..60 {
            let shape = if turn % 2 == 0 { Shape::Plain } else { Shape::Streamed };
            let text = format!("this is call number {turn} of many");
            let (mut sender, request) = (sender.clone(), chat(&token, "m", &text, shape));
            calls.spawn(async move {
                let answer = sender.send_request(request).await.expect("an answer");
                let status = answer.status();
                let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
                let body = String::from_utf8_lossy(&body).into_owned();
                assert_eq!(
                    (status.as_u16(), said(Api::OpenAi, shape, &body)),
                    (200, text),
                    "{body}"
                );
            });
        }
        while let Some(done) = timeout(PATIENCE, calls.join_next()).await.expect("in time") {
            done.expect("no call fails");
        }
    });
}

#[test]
fn a_broken_stream_is_reset_and_never_ended() {
    let (appliance, token) = Appliance::stocked();
    runtime().block_on(async {
        let mut sender = connect(&appliance).await;
        for model in ["emu-cut-2", "emu-fin-2"] {
            let request = chat(&token, model, "one two three four five six", Shape::Streamed);
            let answer = sender.send_request(request).await.expect("a head");
            let mut body = answer.into_body();
            let mut seen = Vec::new();
            let end = loop {
                match timeout(PATIENCE, body.frame()).await.expect("in time") {
                    Some(Ok(frame)) => seen.extend_from_slice(frame.data_ref().expect("data")),
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            };
            let text = String::from_utf8_lossy(&seen);
            assert!(end.is_some() && !text.contains("[DONE]"), "{model}: {text}");
            assert!(text.contains("SR-UPSTREAM-005"), "{model}: {text}");
        }
        // The connection itself is whole.
        let request = chat(&token, "m", "still here", Shape::Plain);
        assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
    });
}

#[test]
fn whoever_resets_a_stream_ends_the_providers_call_and_a_flood_of_them_ends_the_connection() {
    let (appliance, token) = Appliance::stocked();
    runtime().block_on(async {
        let mut sender = connect(&appliance).await;
        let request = chat(&token, "emu-paced-100-2000", "go on", Shape::Streamed);
        let answer = sender.send_request(request).await.expect("a head");
        drop(answer);
        drop(sender);
        for _ in 0..3 {
            let mut sender = connect(&appliance).await;
            for _ in 0..200 {
                let request = chat(&token, "emu-silent", "x", Shape::Plain);
                let call = sender.send_request(request);
                // Long enough to be sent, too short to be answered.
                drop(timeout(Duration::from_micros(300), call).await);
                if sender.ready().await.is_err() {
                    break;
                }
            }
        }
    });
    appliance.seen(|_, counts| counts.open == 0 && counts.cancelled > 0);
    let request = Request::get("/openai/v1/models").bearer(&token);
    appliance.gate().call(&request).is(200);
}

#[test]
fn pseudo_headers_and_hop_by_hop_headers_say_nothing_new() {
    let (appliance, token) = Appliance::stocked();
    runtime().block_on(async {
        let mut sender = connect(&appliance).await;
        let with = |uri: &str, name: &'static str, value: &'static str| {
            http::Request::get(uri)
                .header("authorization", format!("Bearer {token}"))
                .header(name, value)
                .body(Full::new(Bytes::new()))
                .expect("a request")
        };
        for (uri, name, value, statuses) in [
            ("https://localhost/openai/v1/models", "x-app", "cli", [200, 200]),
            ("https://evil.example/openai/v1/models", "x-app", "cli", [200, 400]),
            ("https://localhost/openai/v1/models", "host", "evil.example", [400, 400]),
            ("https://user@localhost/openai/v1/models", "x-app", "cli", [400, 200]),
            ("https://localhost/openai/v1/models", "te", "trailers", [200, 200]),
        ] {
            let Ok(answer) = sender.send_request(with(uri, name, value)).await else {
                sender = connect(&appliance).await;
                continue;
            };
            assert!(
                statuses.contains(&answer.status().as_u16()),
                "{uri} {name}: {}",
                answer.status()
            );
        }
    });
    for seen in appliance.providers().seen() {
        assert_eq!((seen.host.as_str(), seen.path.as_str()), ("api.openai.com", "/v1/models"));
        assert!(!seen.mentions("evil") && !seen.mentions("trailers"), "{seen:#?}");
    }
}
