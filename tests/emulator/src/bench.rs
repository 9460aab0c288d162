//! Precomputed answers, and a way to serve them without building a request or recording it.
//!
//! Invariant: the key is checked on this way too, or a measurement would prove nothing.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Api,
    day::Bench,
    reply::data,
    script::Act,
    wire::{Wire, chunk},
    world::World,
};

const CHUNKS: usize = 64;
const PACE: Duration = Duration::from_millis(5);
/// A longer request goes the ordinary way.
const MAX_FAST_BYTES: usize = 1024 * 1024;

/// What became of an attempt to serve fast.
pub(crate) enum Fast {
    Served,
    /// Nothing was taken off the wire.
    NotBench,
    Gone,
}

/// Serves the next request if it is a measurement.
pub(crate) async fn serve<S>(wire: &mut Wire<S>, world: &World) -> Fast
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (which, length) = loop {
        match measure(&wire.held, world) {
            Measure::Whole(which, length) => break (which, length),
            Measure::Other => return Fast::NotBench,
            Measure::Partial if wire.held.len() > MAX_FAST_BYTES => return Fast::NotBench,
            Measure::Partial => match wire.more().await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Fast::Gone,
            },
        }
    };
    wire.held.advance(length);
    let written = match which {
        Bench::Plain => wire.write(&ready().plain).await.is_ok(),
        Bench::Burst => wire.write(&ready().burst).await.is_ok(),
        Bench::Paced => paced(wire).await,
    };
    if written { Fast::Served } else { Fast::Gone }
}

async fn paced<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> bool {
    let ready = ready();
    if wire.write(&ready.stream_head).await.is_err() {
        return false;
    }
    // Paced against a fixed start, so that one late wake-up does not delay all that follow.
    let started = Instant::now();
    for (index, piece) in (0_u32..).zip(&ready.chunks) {
        let due = tokio::time::Instant::from_std(started + PACE * index);
        if !wire.wait(due).await || wire.write(piece).await.is_err() {
            return false;
        }
    }
    wire.write(b"0\r\n\r\n").await.is_ok()
}

enum Measure {
    Whole(Bench, usize),
    Partial,
    Other,
}

fn measure(held: &[u8], world: &World) -> Measure {
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Request::new(&mut slots);
    let head = match parsed.parse(held) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Measure::Partial,
        Err(_) => return Measure::Other,
    };
    let mut length = None;
    let mut opened = false;
    for header in parsed.headers.iter() {
        let value = || std::str::from_utf8(header.value).ok();
        if header.name.eq_ignore_ascii_case("content-length") {
            length = value().and_then(|value| value.parse::<usize>().ok());
        } else if header.name.eq_ignore_ascii_case("authorization") {
            let key = value().and_then(|value| value.strip_prefix("Bearer "));
            opened = key.is_some_and(|key| world.opens(Api::OpenAi, key));
        }
    }
    let short = |length: &usize| opened && *length <= MAX_FAST_BYTES;
    let Some(length) = length.filter(short) else { return Measure::Other };
    let Some(body) = held.get(head..head + length) else {
        return Measure::Partial;
    };
    match which(body) {
        Some(which) => Measure::Whole(which, head + length),
        None => Measure::Other,
    }
}

fn which(body: &[u8]) -> Option<Bench> {
    let at = memchr::memmem::find(body, b"bench-")?;
    match body.get(at + 6..at + 11)? {
        b"plain" => Some(Bench::Plain),
        b"burst" => Some(Bench::Burst),
        b"paced" => Some(Bench::Paced),
        _ => None,
    }
}

/// The same answers for the ordinary way.
pub(crate) fn acts(which: Bench) -> Vec<Act> {
    let ready = ready();
    match which {
        Bench::Plain => vec![Act::Write(ready.plain.clone())],
        Bench::Burst => vec![Act::Write(ready.burst.clone())],
        Bench::Paced => {
            let mut acts = vec![Act::Write(ready.stream_head.clone())];
            for piece in &ready.chunks {
                acts.extend([Act::Write(piece.clone()), Act::Wait(PACE)]);
            }
            acts.push(Act::Write(Bytes::from_static(b"0\r\n\r\n")));
            acts
        }
    }
}

struct Ready {
    plain: Bytes,
    burst: Bytes,
    stream_head: Bytes,
    chunks: Vec<Bytes>,
}

fn ready() -> &'static Ready {
    static READY: OnceLock<Ready> = OnceLock::new();
    READY.get_or_init(|| {
        let usage = json!({"prompt_tokens": 12, "completion_tokens": 64, "total_tokens": 76});
        let plain = json!({
            "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_700_000_000,
            "model": "bench-plain", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": "measured words ".repeat(50)}}],
        })
        .to_string();
        let head = "HTTP/1.1 200 OK\r\nx-request-id: req_bench\r\nopenai-processing-ms: 1\r\n";
        let plain = format!(
            "{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{plain}",
            plain.len()
        );
        let stream_head: Bytes = format!(
            "{head}content-type: text/event-stream; charset=utf-8\r\n\
             transfer-encoding: chunked\r\n\r\n"
        )
        .into();
        let mut chunks: Vec<Bytes> = (0..CHUNKS).map(|index| chunk(&delta(index))).collect();
        if let Some(last) = chunks.last_mut() {
            let done = [&delta(CHUNKS - 1)[..], b"data: [DONE]\n\n"].concat();
            *last = chunk(&done);
        }
        let burst = [&stream_head[..], &chunks.concat(), b"0\r\n\r\n"].concat().into();
        Ready { plain: plain.into(), burst, stream_head, chunks }
    })
}

fn delta(index: usize) -> Bytes {
    let finish = (index == CHUNKS - 1).then_some("stop");
    data(&json!({
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": "bench-paced", "choices": [{"index": 0, "finish_reason": finish,
            "delta": {"content": format!("word {index} ")}}],
    }))
}
