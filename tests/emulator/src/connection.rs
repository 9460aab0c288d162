//! Serves one client connection: request after request, answer after answer.
//!
//! Invariant: every request that was begun is ended in the log, whatever becomes of it.
//! Distrusts: the client's framing (see `wire`); its leaving is an event, not an error.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Duration, Instant},
};
use tokio_rustls::server::TlsStream;

use crate::{
    Api,
    answer::answer,
    bench::{self, Fast},
    day::Day,
    request::Call,
    script::Act,
    seen::Outcome,
    wire::{Extent, Head, ReadError, Wire},
    world::World,
};

/// How much of a body is looked at for a wish to be refused early.
const EARLY_BYTES: usize = 4096;

/// A stream that can be reset.
pub(crate) trait Resettable: AsyncRead + AsyncWrite + Unpin {
    /// Makes the next close a reset.
    fn reset_on_close(&self);
}

impl Resettable for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        // Where the option is refused the close is a plain one, and the client's test says so.
        let _refused = self.get_ref().0.set_zero_linger();
    }
}

/// What one connection knows of itself.
pub(crate) struct Connection {
    pub(crate) number: u64,
    pub(crate) sni: Option<String>,
    pub(crate) bench: bool,
}

/// Serves until the client or a day ends it.
pub(crate) async fn serve<S: Resettable>(stream: S, about: Connection, world: Arc<World>) {
    let mut wire = Wire::new(stream);
    loop {
        if about.bench {
            match bench::serve(&mut wire, &world).await {
                Fast::Served => continue,
                Fast::Gone => return,
                Fast::NotBench => {}
            }
        }
        match wire.head().await {
            Ok(head) => {
                if !exchange(&mut wire, head, &about, &world).await {
                    return;
                }
            }
            Err(ReadError::Closed) => return wire.close().await,
            Err(error) => {
                world.log.malformed();
                play(&mut wire, Api::nonsense(&error.to_string())).await;
                return;
            }
        }
    }
}

/// One request and its answer; `false` when the connection is done.
async fn exchange<S: Resettable>(
    wire: &mut Wire<S>,
    head: Head,
    about: &Connection,
    world: &World,
) -> bool {
    let id = world.log.began(about.number, about.sni.clone(), &head);
    let (mut body, mut oddities) = (Vec::new(), Vec::new());
    let read = read_body(wire, &head, &mut body, &mut oddities).await;
    world.log.body_read(id, &body, matches!(read, Ok(Body::Whole)), oddities);
    if let Err(error) = &read {
        let outcome = match error {
            ReadError::Left(_) | ReadError::Closed => Outcome::Cancelled,
            ReadError::Malformed(_) | ReadError::TooLarge => Outcome::Malformed,
        };
        if outcome == Outcome::Malformed {
            play(wire, Api::nonsense(&error.to_string())).await;
        }
        world.log.ended(id, outcome);
        return false;
    }
    let mut call = Call::read(&head, Bytes::from(body), &world.keys());
    if matches!(read, Ok(Body::Early)) {
        call.day = Day::Early413;
    }
    let answer = answer(&call, world);
    world.log.judged(id, call.api, answer.authorised, answer.status);
    let mut acts = answer.acts;
    if !head.keep_alive {
        acts.push(Act::Close);
    }
    let ended = play(wire, acts).await;
    world.log.ended(
        id,
        match ended {
            Ended::Kept | Ended::Closed => Outcome::Finished,
            Ended::ClientLeft => Outcome::Cancelled,
            Ended::Cut => Outcome::Cut,
        },
    );
    ended == Ended::Kept
}

enum Body {
    Whole,
    /// The request asked to be refused before its body was read.
    Early,
}

async fn read_body<S: Resettable>(
    wire: &mut Wire<S>,
    head: &Head,
    body: &mut Vec<u8>,
    oddities: &mut Vec<String>,
) -> Result<Body, ReadError> {
    let wish = "emu-early-413";
    if head.target.contains(wish) || head.headers.iter().any(|(_, value)| value.contains(wish)) {
        return Ok(Body::Early);
    }
    if head.body == Extent::Length(0) {
        return Ok(Body::Whole);
    }
    let expects = head.headers.iter().any(|(n, v)| n == "expect" && v.contains("100"));
    if expects && wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
        return Err(ReadError::Left("before the body".to_owned()));
    }
    if wire.held.is_empty() && !wire.more().await.unwrap_or(false) {
        return Err(ReadError::Left("before the body".to_owned()));
    }
    let beginning = &wire.held[..wire.held.len().min(EARLY_BYTES)];
    if memchr::memmem::find(beginning, wish.as_bytes()).is_some() {
        body.extend_from_slice(beginning);
        return Ok(Body::Early);
    }
    wire.body(head.body, body, oddities).await.map(|()| Body::Whole)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Kept,
    Closed,
    ClientLeft,
    Cut,
}

async fn play<S: Resettable>(wire: &mut Wire<S>, acts: Vec<Act>) -> Ended {
    // Pauses are counted from each other, not from when the writing happened to be done.
    let mut clock = Instant::now();
    for act in acts {
        match act {
            Act::Write(bytes) => {
                if wire.write(&bytes).await.is_err() {
                    return Ended::ClientLeft;
                }
            }
            Act::Wait(pause) => {
                clock = (clock + pause).max(Instant::now() + pause.min(Duration::from_millis(1)));
                if !wire.wait(clock).await {
                    return Ended::ClientLeft;
                }
            }
            Act::Reset => {
                wire.stream().reset_on_close();
                return Ended::Cut;
            }
            Act::Close => {
                wire.close().await;
                return Ended::Closed;
            }
            Act::BreakOff => {
                wire.close().await;
                return Ended::Cut;
            }
            Act::CloseAfterReading => {
                wire.close_after_reading().await;
                return Ended::Closed;
            }
            Act::Hang => return Ended::Cut,
        }
    }
    Ended::Kept
}
