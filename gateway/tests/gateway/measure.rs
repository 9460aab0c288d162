//! What one HTTP/2 connection may make the gateway hold.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage, token, unknown_token};

/// A body without bytes, whose end never comes, or comes in a frame of its own.
#[derive(Clone, Copy)]
enum Hollow {
    None,
    Open,
    Ends,
    /// So many pieces of 64 KiB.
    Flood(usize),
}

impl http_body::Body for Hollow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Open => Poll::Pending,
            Self::None | Self::Ends | Self::Flood(0) => Poll::Ready(None),
            Self::Flood(left) => {
                *left -= 1;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b' '; 64 * 1024])))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::None)
    }
}

async fn connect(stage: &Stage) -> SendRequest<Hollow> {
    let stream = stage.dial_as(stage.client(b"h2")).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

fn models(token: &str) -> http::request::Builder {
    Request::get("https://localhost/openai/v1/models").header("x-api-key", token)
}

/// A call whose body is announced and never sent.
fn held(token: &str) -> Request<Hollow> {
    Request::post("https://localhost/openai/v1/chat/completions")
        .header("x-api-key", token)
        .header("content-type", "application/json")
        .header("content-length", "10")
        .body(Hollow::Open)
        .unwrap()
}

async fn send(sender: &mut SendRequest<Hollow>, request: Request<Hollow>) -> (u16, String) {
    let answer = timeout(PATIENCE, sender.send_request(request)).await;
    told(&answer.unwrap().unwrap())
}

fn told(answer: &Response<Incoming>) -> (u16, String) {
    let refusal = answer.headers().get("x-strongroom-refusal");
    let code = refusal.map_or("", |value| value.to_str().unwrap());
    (answer.status().as_u16(), code.to_owned())
}

#[tokio::test]
async fn more_than_a_hundred_fields_are_refused_before_the_keeper_is_asked() {
    let mut stage = Stage::set(1).await;
    let mut sender = connect(&stage).await;
    let fields = |count: usize, token: &str| {
        let more = (1..count).fold(models(token), |request, _| request.header("age", ""));
        more.body(Hollow::None).unwrap()
    };
    let refused = (400, "SR-HTTP-001".to_owned());
    assert_eq!(send(&mut sender, fields(101, &token())).await, refused);
    assert_eq!(send(&mut sender, fields(400, &unknown_token())).await, refused);
    assert!(stage.seen.try_recv().is_err(), "something reached the keeper");
    assert_eq!(send(&mut sender, fields(100, &token())).await.0, 200);
}

#[tokio::test]
async fn a_head_that_unpacks_to_more_than_16_kib_is_refused() {
    let stage = Stage::set(1).await;
    let mut sender = connect(&stage).await;
    let head = |bytes: usize| models(&token()).header("x-filler", "a".repeat(bytes));
    assert_eq!(send(&mut sender, head(17_000).body(Hollow::None).unwrap()).await.0, 431);
    assert_eq!(send(&mut sender, head(15_000).body(Hollow::None).unwrap()).await.0, 200);
}

#[tokio::test]
async fn the_bounds_are_told_in_the_first_frame() {
    let stage = Stage::set(1).await;
    let mut stream = stage.dial_as(stage.client(b"h2")).await.unwrap();
    // RFC 9113, 3.4: the preface and an empty SETTINGS frame.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "not SETTINGS");
    let mut settings = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let setting = |id: u8| {
        let found = settings.chunks(6).find(|setting| setting[..2] == [0, id]).unwrap();
        u32::from_be_bytes(found[2..].try_into().unwrap())
    };
    let (streams, head_bytes) = (setting(3), setting(6));
    assert_eq!((streams, head_bytes), (128, 16 * 1024));
}

#[tokio::test]
async fn a_body_that_stays_open_where_none_belongs_is_given_up_soon() {
    let mut stage = Stage::set(1).await;
    let mut sender = connect(&stage).await;
    let open = models(&unknown_token()).body(Hollow::Open).unwrap();
    let begun = tokio::time::Instant::now();
    assert_eq!(send(&mut sender, open).await, (400, "SR-BODY-001".to_owned()));
    // A second; who sends a body that is wanted has 30 between two pieces.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(stage.seen.try_recv().is_err(), "something reached the keeper");
    let announced = models(&token()).header("content-length", "1").body(Hollow::Open).unwrap();
    assert_eq!(send(&mut sender, announced).await, (400, "SR-BODY-001".to_owned()));
}

#[tokio::test]
async fn an_empty_body_may_be_announced_or_end_in_a_frame_of_its_own() {
    let stage = Stage::set(1).await;
    let mut sender = connect(&stage).await;
    let ends = models(&token()).body(Hollow::Ends).unwrap();
    assert_eq!(send(&mut sender, ends).await.0, 200);
    // Its end is not waited for.
    let announced = models(&token()).header("content-length", "0").body(Hollow::Open).unwrap();
    assert_eq!(send(&mut sender, announced).await.0, 200);
}

#[tokio::test]
async fn a_stranger_has_sixteen_requests_under_way_and_no_more() {
    let mut stage = Stage::set(1).await;
    let sender = connect(&stage).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let mut sender = sender.clone();
        calls.spawn(async move { sender.send_request(held(&unknown_token())).await.unwrap() });
    }
    for _ in 0..4 {
        let answer = timeout(PATIENCE, calls.join_next()).await.unwrap();
        assert_eq!(told(&answer.unwrap().unwrap()), (503, "SR-BUSY-001".to_owned()));
    }
    // One more waits for a place as long as one does, and gets none.
    let late = send(&mut sender.clone(), held(&unknown_token())).await;
    assert_eq!(late, (503, "SR-BUSY-001".to_owned()));
    assert!(calls.try_join_next().is_none(), "a place was not held");
    assert!(stage.seen.try_recv().is_err(), "something reached the keeper");
    // Another connection is not concerned, and places that are given up serve again.
    let mut other = connect(&stage).await;
    let good = || models(&token()).body(Hollow::None).unwrap();
    assert_eq!(send(&mut other, good()).await.0, 200);
    calls.shutdown().await;
    assert_eq!(send(&mut sender.clone(), good()).await.0, 200);
}

#[tokio::test]
async fn a_caller_whom_the_keeper_knows_needs_no_place() {
    let stage = Stage::set(4).await;
    let mut sender = connect(&stage).await;
    let good = || models(&token()).body(Hollow::None).unwrap();
    // A first burst waits for the keeper's first answer, and is not refused.
    let mut burst = JoinSet::new();
    for _ in 0..60 {
        let mut sender = sender.clone();
        burst.spawn(async move { sender.send_request(good()).await.unwrap().status().as_u16() });
    }
    assert_eq!(burst.join_all().await, [200; 60]);
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let mut sender = sender.clone();
        calls.spawn(async move { sender.send_request(held(&token())).await.unwrap() });
    }
    assert_eq!(send(&mut sender, good()).await.0, 200);
    assert!(calls.try_join_next().is_none(), "a call was refused");
}

#[tokio::test]
async fn a_refusal_arrives_whole_though_its_request_s_body_is_not_read() {
    let stage = Stage::set(1).await;
    let large = || {
        let request = Request::post("https://localhost/openai/v1/chat/completions")
            .header("x-api-key", token())
            .header("content-type", "application/json")
            .header("content-length", (600 * 64 * 1024).to_string());
        request.body(Hollow::Flood(600)).unwrap()
    };
    for _ in 0..5 {
        let mut sender = connect(&stage).await;
        let answer = sender.send_request(large()).await.unwrap();
        assert_eq!(told(&answer), (413, "SR-BODY-003".to_owned()));
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert!(body.starts_with(b"{\"error\""), "{body:?}");
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_breaks_no_stream() {
    let stage = Stage::set(1).await;
    let mut sender = connect(&stage).await;
    for (path, token, expected) in [
        ("/openai/v1/models", token(), (405, "SR-HTTP-003")),
        ("/openai/v1/models", "sk-x".to_owned(), (401, "SR-TOKEN-002")),
        ("/healthz", token(), (200, "")),
    ] {
        let request = Request::head(format!("https://localhost{path}")).header("x-api-key", token);
        let answer = sender.send_request(request.body(Hollow::None).unwrap()).await.unwrap();
        assert_eq!(told(&answer), (expected.0, expected.1.to_owned()));
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert!(body.is_empty(), "{body:?}");
    }
}
