//! The reading side of a provider's connection.
//!
//! Invariant: one reading takes what is there, up to a bound, and never waits for more.
//! Invariant: an end with `close_notify` and one without are told apart.
//!
//! Distrusts: every byte.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, ReadHalf};

use crate::answer::{Asked, Head, Reader};
use crate::tls::TlsStream;
use crate::wiped::{READ_BYTES, ReadBuffer};

pub(super) struct Source {
    half: ReadHalf<TlsStream>,
    /// Decrypted and not yet decoded.
    pub(super) buffer: ReadBuffer,
    head: Reader,
    ended: Option<Ended>,
    spoke: bool,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With `close_notify`.
    Cleanly,
    /// Cut, or with an error.
    Broken,
}

/// Why there is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The connection ended before the first byte.
    Silent,
    /// It ended within the head, or the head is not to be passed on.
    Broken,
}

impl Source {
    pub(super) fn new(half: ReadHalf<TlsStream>, mut buffer: ReadBuffer) -> Self {
        // Nothing that another connection said is ever taken for this one's.
        buffer.bytes.clear();
        Self { half, buffer, head: Reader::new(Asked::Body), ended: None, spoke: false }
    }

    /// Reads the answer's head; can be abandoned and begun again.
    pub(super) async fn head(&mut self) -> Result<Head, NoHead> {
        loop {
            match self.head.read(&mut self.buffer.bytes) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(error) => {
                    tracing::info!(%error, "an answer is refused");
                    return Err(NoHead::Broken);
                }
            }
            if self.fill().await.is_err() {
                return Err(if self.spoke { NoHead::Broken } else { NoHead::Silent });
            }
        }
    }

    /// Waits for bytes, then takes all that are there: a burst of small TLS records becomes one piece.
    ///
    /// # Errors
    /// When the connection has ended; what came before was given first.
    pub(super) async fn fill(&mut self) -> Result<(), Ended> {
        if let Some(ended) = self.ended {
            return Err(ended);
        }
        let before = self.buffer.bytes.len();
        let Self { half, buffer, ended, .. } = self;
        poll_fn(|cx| {
            while buffer.bytes.len() < MAX_GATHERED_BYTES && ended.is_none() {
                if buffer.bytes.capacity() - buffer.bytes.len() < LEAST_ROOM_BYTES {
                    buffer.make_room(buffer.bytes.len().clamp(READ_BYTES, MAX_GATHERED_BYTES));
                }
                match pin!(half.read_buf(&mut buffer.bytes)).poll(cx) {
                    Poll::Ready(Ok(0)) => *ended = Some(Ended::Cleanly),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => {
                        if error.kind() != io::ErrorKind::UnexpectedEof {
                            tracing::debug!(%error, "a provider's connection broke");
                        }
                        *ended = Some(Ended::Broken);
                    }
                    Poll::Pending if buffer.bytes.len() > before => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        })
        .await;
        match self.ended {
            Some(ended) if self.buffer.bytes.len() == before => Err(ended),
            Some(_) | None => {
                self.spoke = true;
                Ok(())
            }
        }
    }

    /// The connection's half, when it is open and nothing is left in it; and the buffer.
    pub(super) fn into_parts(self) -> (Option<ReadHalf<TlsStream>>, ReadBuffer) {
        let reusable = self.ended.is_none() && self.buffer.bytes.is_empty();
        (reusable.then_some(self.half), self.buffer)
    }
}

/// What one piece is at most; a frame holds as much. A head over its own limit is refused by its reader.
const MAX_GATHERED_BYTES: usize = 64 * 1024;
/// Less room than this is not worth a read.
const LEAST_ROOM_BYTES: usize = 2 * 1024;
