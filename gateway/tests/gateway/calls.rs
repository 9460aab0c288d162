//! Calls that go well, and what keeper and courier see of them.

use std::fmt::Write;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use strongroom_policy::claims::Length;
use strongroom_policy::name::BetaName;
use strongroom_protocol::ask::VaultState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::{BODY, FIRST_DEFINED, Seen, Stage, chat, large_body, token};

#[tokio::test]
async fn a_call_goes_through_and_only_listed_headers_travel() {
    let mut stage = Stage::set(2).await;
    let answer = stage.send(&chat("plain", BODY)).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(BODY), "{answer}");
    assert!(answer.contains("x-strongroom-call: cal_01010101"), "{answer}");
    assert!(answer.contains("x-request-id: req_1"), "{answer}");
    assert!(!answer.contains("set-cookie"), "{answer}");
    assert!(!answer.contains("SR-FALSE"), "{answer}");
    let Seen::Call(call) = stage.next().await else { panic!("no call") };
    assert_eq!(call.target.as_str(), "/v1/chat/completions");
    assert_eq!(call.claims.model.unwrap().as_ref() as &str, "gpt-4o");
    assert_eq!(call.length, Length::Known(u64::try_from(BODY.len()).unwrap()));
    let Seen::Head(head, _) = stage.next().await else { panic!("no head") };
    let names: Vec<_> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["content-type", "x-client-request-id"]);
    stage.lanes_come_back(2).await;
}

// Red when both kinds of calls share lanes.
#[tokio::test]
async fn a_call_to_an_operator_defined_provider_takes_a_lane_to_its_own_courier() {
    let mut stage = Stage::set(2).await;
    for (prefix, defined) in [("/openai/", false), ("/p/mine/", true), ("/openai/", false)] {
        let request = chat("plain", BODY).replace("/openai/", prefix);
        let answer = stage.send(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let lane = loop {
            if let Seen::Head(_, lane) = stage.next().await {
                break lane;
            }
        };
        assert_eq!(lane >= FIRST_DEFINED, defined, "{prefix} by lane {lane}");
    }
}

#[tokio::test]
async fn the_two_halves_of_a_lane_meet_again_after_large_bodies() {
    let stage = Stage::set(1).await;
    for text in [50_000, 70_000, 3_000_000] {
        let body = large_body(text);
        let answer = stage.send(&chat("plain", &body)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{}", &answer[..200.min(answer.len())]);
        assert!(answer.ends_with(&body));
        stage.lanes_come_back(1).await;
    }
}

#[tokio::test]
async fn one_connection_makes_many_calls_on_one_lane() {
    let mut stage = Stage::set(1).await;
    let mut stream = stage.dial().await;
    let request = chat("late-end", BODY).replace("connection: close\r\n", "");
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{}") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
    }
    stage.lanes_come_back(1).await;
    assert_eq!(stage.gateway.couriers.built_in.alive(), 1);
    while let Ok(seen) = stage.seen.try_recv() {
        assert!(!matches!(seen, Seen::Cancel), "a complete answer was cancelled");
    }
}

#[tokio::test]
async fn what_is_ready_goes_out_as_one_piece() {
    let stage = Stage::set(1).await;
    let answer = stage.send(&chat("burst", BODY)).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("x-accel-buffering: no"), "{head}");
    assert_eq!(body.matches("data: ").count(), 64);
    // Chunked coding shows the pieces: 64 frames of the courier, written at once, are one.
    let pieces = body.lines().filter(|line| u32::from_str_radix(line, 16).is_ok()).count();
    assert!(pieces <= 3, "{pieces} pieces\n{body}");
}

#[tokio::test]
async fn a_large_body_is_read_only_after_the_keeper_knows_the_caller() {
    let mut stage = Stage::set(1).await;
    let answer = stage.send(&chat("plain", &large_body(100_000))).await;
    assert!(answer.starts_with("HTTP/1.1 200"));
    assert!(matches!(stage.next().await, Seen::Identify));
    assert!(matches!(stage.next().await, Seen::Call(_)));
}

#[tokio::test]
async fn chunked_json_is_known_to_its_last_byte() {
    let mut stage = Stage::set(1).await;
    let body = large_body(150_000);
    let request = chat("plain", "");
    let request = request.replace("content-length: 0", "transfer-encoding: chunked");
    let mut chunks = String::new();
    for part in body.as_bytes().chunks(40_000) {
        let (length, text) = (part.len(), std::str::from_utf8(part).unwrap());
        write!(chunks, "{length:x}\r\n{text}\r\n").unwrap();
    }
    let answer = stage.send(&format!("{request}{chunks}0\r\n\r\n")).await;
    assert!(answer.ends_with(&body));
    assert!(matches!(stage.next().await, Seen::Identify));
    let Seen::Call(call) = stage.next().await else { panic!("no call") };
    assert_eq!(call.length, Length::Known(u64::try_from(body.len()).unwrap()));
}

/// A form of these parts, and its request.
fn form(path: &str, parts: &[(&str, &str, &str)]) -> (String, String) {
    let mut body = String::new();
    for (name, more, value) in parts {
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"{more}");
        for text in ["--b\r\n", &disposition, "\r\n\r\n", value, "\r\n"] {
            body.push_str(text);
        }
    }
    body.push_str("--b--\r\n");
    let (token, length) = (token(), body.len());
    let request = format!(
        "POST /openai/v1/{path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {token}\r\n\
         content-type: multipart/form-data; boundary=b\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    (request, body)
}

#[tokio::test]
async fn a_form_names_its_model_before_its_file_or_after_it() {
    let mut stage = Stage::set(1).await;
    let large = "y".repeat(400_000);
    let model = ("model", "", "whisper-1");
    let file = ("file", "; filename=\"a.wav\"", large.as_str());
    for parts in [[model, file], [file, model]] {
        let (request, body) = form("audio/transcriptions", &parts);
        let answer = stage.send(&request).await;
        assert!(answer.ends_with(&body), "{}", &answer[..300.min(answer.len())]);
        assert!(matches!(stage.next().await, Seen::Identify));
        let Seen::Call(call) = stage.next().await else { panic!("no call") };
        assert_eq!(call.claims.model.unwrap().as_ref() as &str, "whisper-1");
        assert_eq!(call.length, Length::Known(u64::try_from(body.len()).unwrap()));
        while !matches!(stage.next().await, Seen::BodyEnd) {}
        stage.lanes_come_back(1).await;
    }
}

#[tokio::test]
async fn an_upload_goes_on_from_its_file_without_being_held() {
    let mut stage = Stage::set(1).await;
    let large = "y".repeat(400_000);
    let parts = [("purpose", "", "batch"), ("file", "; filename=\"a.jsonl\"", large.as_str())];
    let (request, body) = form("files", &parts);
    let (opening, rest) = request.split_at(request.len() - 100_000);
    let mut stream = stage.dial().await;
    stream.write_all(opening.as_bytes()).await.unwrap();
    // The courier has the beginning before the end has come.
    while !matches!(stage.next().await, Seen::Body) {}
    stream.write_all(rest.as_bytes()).await.unwrap();
    let (answer, _) = crate::stage::read_to_close(&mut stream).await;
    assert!(answer.ends_with(&body), "{}", &answer[..300.min(answer.len())]);
    stage.lanes_come_back(1).await;
}

#[tokio::test]
async fn a_google_key_in_the_query_is_our_token_and_stays_here() {
    let mut stage = Stage::set(1).await;
    let token = token();
    let answer = stage
        .send(&format!(
            "GET /google/v1beta/models?pageSize=1&key={token} HTTP/1.1\r\nhost: localhost\r\n\
             connection: close\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let Seen::Call(call) = stage.next().await else { panic!("no call") };
    assert_eq!(call.target.as_str(), "/v1beta/models?pageSize=1");
    assert_eq!(call.length, Length::Known(0));
}

#[tokio::test]
async fn betas_are_told_to_the_keeper_and_do_not_travel() {
    let mut stage = Stage::set(1).await;
    let token = token();
    let answer = stage
        .send(&format!(
            "POST /anthropic/v1/messages?beta=true HTTP/1.1\r\nhost: localhost\r\nx-api-key: {token}\r\n\
             anthropic-version: 2023-06-01\r\nanthropic-beta: a-1,b-2\r\ncontent-type: application/json\r\n\
             content-length: 15\r\nconnection: close\r\n\r\n{{\"model\":\"c-1\"}}"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let Seen::Call(call) = stage.next().await else { panic!("no call") };
    assert_eq!(call.betas, ["a-1", "b-2"].map(|name| BetaName::parse(name).unwrap()));
    let Seen::Head(head, _) = stage.next().await else { panic!("no head") };
    assert!(head.headers.iter().all(|(name, _)| name != "anthropic-beta"));
}

#[tokio::test]
async fn http_2_carries_calls_too() {
    let stage = Stage::set(4).await;
    let stream = stage.dial_as(stage.client(b"h2")).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::post("https://localhost/openai/v1/chat/completions")
            .header("authorization", format!("Bearer {}", token()))
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from_static(BODY.as_bytes())))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, BODY.as_bytes());
    }
    stage.lanes_come_back(4).await;
}

#[tokio::test]
async fn whom_to_tell_of_a_vulnerability_is_told_to_everybody() {
    let stage = Stage::set(1).await;
    let request =
        "GET /.well-known/security.txt HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = stage.send(request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: text/plain; charset=utf-8\r\n"), "{answer}");
    let (_, first) = answer.split_once("\r\n\r\nContact: mailto:security@example.com\n").unwrap();
    let first = first.to_owned();
    assert!(first.starts_with("Expires: 20") && first.ends_with("Z\n"), "{answer}");
    // The time is the request's, not the start's.
    let begun = std::time::Instant::now();
    while stage.send(request).await.ends_with(&first) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{first}");
    }
}

#[tokio::test]
async fn health_says_ready_or_not_and_nothing_more() {
    let mut stage = Stage::set(1).await;
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(stage.send(request).await.ends_with("\r\n\r\nok\n"));
    for state in [VaultState::Sealed, VaultState::Uninitialised, VaultState::Faulty] {
        stage.turn(state).await;
        let answer = stage.send(request).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nunavailable\n"), "{answer}");
    }
}
