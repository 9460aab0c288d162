//! What the HTTP/1.1 loop owes its callers beyond a plain call.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::stage::{
    BODY, PATIENCE, Seen, Stage, chat, large_body, read_to_close, token, unknown_token,
};

/// Reads until the text is there.
async fn read_until(stream: &mut TlsStream<TcpStream>, text: &str) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&bytes).contains(text) {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed before {text:?}");
        }
    };
    timeout(PATIENCE, read).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn kept(request: &str) -> String {
    request.replace("connection: close\r\n", "")
}

#[tokio::test]
async fn a_caller_that_waits_is_told_to_go_on_and_one_that_is_refused_is_not() {
    let stage = Stage::set(1).await;
    let request = kept(&chat("plain", BODY)).replace("host:", "expect: 100-Continue\r\nhost:");
    let (head, body) = request.split_at(request.find("\r\n\r\n").unwrap() + 4);
    let mut stream = stage.dial().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, BODY).await.starts_with("HTTP/1.1 200 OK"));
    // Whoever sends the body unasked is not told anything.
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, BODY).await.starts_with("HTTP/1.1 200 OK"));
    let bearer = format!("authorization: Bearer {}\r\n", token());
    let mut stream = stage.dial().await;
    stream.write_all(head.replace(&bearer, "").as_bytes()).await.unwrap();
    let (answer, _) = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn http_1_0_gets_no_chunks_and_an_end_that_tells_whole_from_broken() {
    let stage = Stage::set(1).await;
    for (act, whole) in [("burst", true), ("broken-stream", false), ("plain", true)] {
        let request = kept(&chat(act, BODY)).replace(" HTTP/1.1\r\n", " HTTP/1.0\r\n");
        let mut stream = stage.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let (answer, clean) = read_to_close(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(!answer.contains("transfer-encoding"), "{answer}");
        assert_eq!(clean, whole, "{act}: {answer}");
        stage.lanes_come_back(1).await;
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_ends_its_connection_after_the_answer() {
    let mut stage = Stage::set(1).await;
    let body = large_body(3_000_000);
    for request in [
        kept(&chat("plain", &body)).replace("/v1/chat", "/v1/nowhere"),
        kept(&chat("plain", &body)).replace("/openai/", "/nowhere/"),
    ] {
        let mut stream = stage.dial().await;
        // All of it, and another request that must not be read out of the body's place.
        let all = request.clone() + &kept(&chat("plain", BODY));
        stream.write_all(all.as_bytes()).await.unwrap();
        let (answer, clean) = read_to_close(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!((answer.matches("HTTP/1.1").count(), clean), (1, true), "{answer}");
    }
    stage.seen.close();
    assert!(stage.seen.recv().await.is_none(), "something reached the keeper");
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let stage = Stage::set(1).await;
    let mut stream = stage.dial().await;
    for path in ["/healthz", "/openai/v1/models"] {
        let head =
            format!("HEAD {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", token());
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    // What follows is the next answer, not a body.
    stream.write_all(b"\r\nGET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "ok\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\ndate: "), "{answer}");
}

#[tokio::test]
async fn never_more_than_was_announced_is_sent() {
    let stage = Stage::set(1).await;
    let mut stream = stage.dial().await;
    stream.write_all(kept(&chat("too-much", BODY)).as_bytes()).await.unwrap();
    let (answer, clean) = read_to_close(&mut stream).await;
    assert!(answer.contains("content-length: 2\r\n") && !answer.contains("more"), "{answer}");
    assert!(!clean, "{answer}");
    stage.lanes_come_back(1).await;
}

#[tokio::test]
async fn a_stranger_is_not_listened_to_for_long_and_a_caller_is() {
    let mut stage = Stage::set(1).await;
    let begun = Instant::now();
    let (mut stranger, mut caller) = (stage.dial().await, stage.dial().await);
    let unknown = kept(&chat("plain", BODY)).replace(&token(), &unknown_token());
    stranger.write_all(unknown.as_bytes()).await.unwrap();
    read_until(&mut stranger, "SR-TOKEN-003").await;
    caller.write_all(kept(&chat("plain", BODY)).as_bytes()).await.unwrap();
    read_until(&mut caller, BODY).await;
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_mins(1), stranger.read_to_end(&mut rest)).await;
    assert!(ended.unwrap().is_ok(), "not a clean end");
    assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
    caller.write_all(kept(&chat("plain", BODY)).as_bytes()).await.unwrap();
    read_until(&mut caller, BODY).await;
    while !matches!(stage.next().await, Seen::Head(..)) {}
}

#[tokio::test]
async fn whoever_floods_behind_a_call_is_cut_off_and_the_call_cancelled() {
    let mut stage = Stage::set(1).await;
    let mut stream = stage.dial().await;
    // A call that streams until it is cancelled.
    stream.write_all(kept(&chat("endless", BODY)).as_bytes()).await.unwrap();
    read_until(&mut stream, "{\"n\":0}").await;
    let next = kept(&chat("plain", BODY));
    stream.write_all(next.as_bytes()).await.unwrap();
    drop(stream.write_all("x".repeat(64 * 1024).as_bytes()).await);
    while !matches!(stage.next().await, Seen::Cancel) {}
    let (_, clean) = read_to_close(&mut stream).await;
    assert!(!clean, "a cancelled call looks whole");
    stage.lanes_come_back(1).await;
}

#[tokio::test]
async fn broken_chunks_behind_a_streaming_form_are_refused_and_not_only_cut() {
    let stage = Stage::set(1).await;
    let part = |name: &str, more: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{value}\r\n")
    };
    let file = part("file", "; filename=\"a.wav\"", &"y".repeat(100_000));
    let body = part("model", "", "whisper-1") + &file;
    let head = format!(
        "POST /openai/v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\nx-api-key: {}\r\n\
         content-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n",
        token()
    );
    for _ in 0..10 {
        let mut stream = stage.dial().await;
        let opening = format!("{head}{:x}\r\n{body}\r\n", body.len());
        stream.write_all(opening.as_bytes()).await.unwrap();
        stream.write_all(b"zz\r\nnot a chunk\r\n").await.unwrap();
        let (answer, _) = read_to_close(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
        assert!(answer.contains("SR-BODY-001"), "{answer}");
        stage.lanes_come_back(1).await;
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole_though_its_caller_sends_on() {
    let stage = Stage::set(1).await;
    let body = large_body(2_000_000);
    let mut stream = stage.dial().await;
    stream.write_all(chat("plain", &body).as_bytes()).await.unwrap();
    // The rest of the answer waits in the gateway's socket; what is sent now would lie unread when that closes.
    let mut first = vec![0; 100];
    stream.read_exact(&mut first).await.unwrap();
    let closed = async {
        while connections(&stage) != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(Duration::from_millis(500), closed).await.is_err(), "closed too early");
    stream.write_all(&b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10)).await.unwrap();
    let (answer, _) = read_to_close(&mut stream).await;
    assert!(answer.ends_with(&body[body.len() - 20..]), "{} bytes", answer.len());
}

/// Connections as the counters have them.
fn connections(stage: &Stage) -> usize {
    let page = stage.gateway.metrics.page(&stage.gateway);
    let line = page.lines().find_map(|line| line.strip_prefix("strongroom_connections "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_stranger_who_always_asks_and_hardly_reads_is_shown_out() {
    let stage = Stage::set(1).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let tcp = socket.connect(([127, 0, 0, 1], stage.port).into()).await.unwrap();
    let stream = stage.dial_over(tcp).await;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let flood = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n".repeat(500);
    let asking = tokio::spawn(async move { while writer.write_all(&flood).await.is_ok() {} });
    let reading = tokio::spawn(async move {
        let mut some = vec![0; 512];
        while reader.read(&mut some).await.is_ok_and(|read| read > 0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let gone = timeout(Duration::from_mins(1), async {
        while connections(&stage) != 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    while connections(&stage) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(gone.await.is_ok(), "still there after a minute");
    asking.abort();
    reading.abort();
}
