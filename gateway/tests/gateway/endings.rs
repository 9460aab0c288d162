//! Calls that end early, on either side.

use strongroom_gateway::gateway::Broken;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::{BODY, Seen, Stage, chat, large_body, read_to_close};

#[tokio::test]
async fn a_call_without_an_answer_is_refused_in_the_dialect() {
    let stage = Stage::set(1).await;
    let answer = stage.send(&chat("abort", BODY)).await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(answer.contains("x-strongroom-refusal: SR-UPSTREAM-004"), "{answer}");
    assert!(answer.contains("x-strongroom-call: cal_"), "{answer}");
    assert!(answer.contains(r#"{"error":{"code":"SR-UPSTREAM-004""#), "{answer}");
    stage.lanes_come_back(1).await;
}

#[tokio::test]
async fn a_stream_that_broke_tells_why_and_does_not_end_cleanly() {
    let stage = Stage::set(1).await;
    let answer = stage.send(&chat("broken-stream", BODY)).await;
    assert!(answer.contains("data: {\"n\":0}"), "{answer}");
    assert!(answer.contains("SR-UPSTREAM-005"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    stage.lanes_come_back(1).await;
}

#[tokio::test]
async fn nothing_is_added_to_half_an_event_or_to_a_body_of_known_length() {
    let stage = Stage::set(1).await;
    for act in ["broken-event", "broken-length"] {
        let answer = stage.send(&chat(act, BODY)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains("SR-UPSTREAM"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
        stage.lanes_come_back(1).await;
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_has_ended() {
    let mut stage = Stage::set(1).await;
    let body = large_body(2_000_000);
    let answer = stage.send(&chat("early", &body)).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{}", &answer[..200.min(answer.len())]);
    while !matches!(stage.next().await, Seen::Cancel | Seen::BodyEnd) {}
    stage.lanes_come_back(1).await;
    let answer = stage.send(&chat("early-abort", &body)).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{}", &answer[..200.min(answer.len())]);
    stage.lanes_come_back(1).await;
    assert!(stage.send(&chat("plain", BODY)).await.ends_with(BODY));
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_the_stream_and_the_lane_serves_again() {
    let mut stage = Stage::set(1).await;
    let mut stream = stage.dial().await;
    stream.write_all(chat("endless", BODY).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(8).any(|bytes| bytes == b"{\"n\":0}\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    drop(stream);
    while !matches!(stage.next().await, Seen::Cancel) {}
    stage.lanes_come_back(1).await;
    assert!(stage.send(&chat("plain", BODY)).await.ends_with(BODY));
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_answer_cancels_the_call() {
    let mut stage = Stage::set(1).await;
    let mut stream = stage.dial().await;
    stream.write_all(chat("silent", BODY).as_bytes()).await.unwrap();
    while !matches!(stage.next().await, Seen::BodyEnd) {}
    drop(stream);
    while !matches!(stage.next().await, Seen::Cancel) {}
    stage.lanes_come_back(1).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_within_its_upload_cancels_the_call() {
    let mut stage = Stage::set(1).await;
    let token = crate::stage::token();
    let mut stream = stage.dial().await;
    let opening = format!(
        "POST /google/upload/v1beta/files HTTP/1.1\r\nhost: localhost\r\nx-goog-api-key: {token}\r\n\
         content-type: video/mp4\r\ncontent-length: 10000000\r\n\r\n{}",
        "z".repeat(300_000)
    );
    stream.write_all(opening.as_bytes()).await.unwrap();
    while !matches!(stage.next().await, Seen::Body) {}
    drop(stream);
    while !matches!(stage.next().await, Seen::Cancel) {}
    stage.lanes_come_back(1).await;
}

#[tokio::test]
async fn a_lane_that_dies_is_told_to_the_caller_and_to_the_supervisor() {
    let mut stage = Stage::set(1).await;
    let answer = stage.send(&chat("die", BODY)).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("SR-COURIER-001"), "{answer}");
    assert_eq!(stage.broke.recv().await, Some(Broken::Lanes));
}

#[tokio::test]
async fn a_stop_lets_the_call_under_way_end() {
    let mut stage = Stage::set(1).await;
    let mut stream = stage.dial().await;
    let body = large_body(90_000);
    let request = chat("plain", &body);
    let (first, second) = request.split_at(request.len() - 10);
    stream.write_all(first.as_bytes()).await.unwrap();
    assert!(matches!(stage.next().await, Seen::Identify));
    stage.stop.send(true).unwrap();
    stream.write_all(second.as_bytes()).await.unwrap();
    let (answer, _) = read_to_close(&mut stream).await;
    assert!(answer.ends_with(&body), "{}", &answer[..200.min(answer.len())]);
}
