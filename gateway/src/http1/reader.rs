//! The reading side of an HTTP/1.1 connection: heads, bodies, and whether the peer is still there.
//!
//! Invariant: what is read ahead of its use is bounded by [`MAX_AHEAD_BYTES`] and one head.
//! Distrusts: the peer, in every byte and in its pace.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use strongroom_http1::{BadHead, Body, Framing, HeadSearch, Progress};
use tokio::io::{AsyncReadExt, ReadHalf};

use super::parse::lower_names;
use crate::connection::Stream;
use crate::incoming::BodyFault;

/// Largest head.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// What a peer may send ahead of the answer to what it sent before: some ten pipelined calls.
const MAX_AHEAD_BYTES: usize = 16 * 1024;
/// What a read asks for.
const READ_BYTES: usize = 8 * 1024;
/// Less room than this is not worth a read.
const LEAST_ROOM_BYTES: usize = 2 * 1024;
/// What is gathered of a body before it is passed on.
const PIECE_BYTES: usize = 64 * 1024;

/// Reads one connection.
pub(crate) struct Reader {
    half: ReadHalf<Stream>,
    buffer: BytesMut,
    search: HeadSearch,
    /// Of the request under way.
    body: Body,
    /// What follows in the buffer is told apart by nobody: the body's framing was broken.
    malformed: bool,
    ended: bool,
}

/// Why there is no further head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The peer is gone.
    Gone,
    /// What came is none.
    Bad(BadHead),
}

/// The peer is gone.
struct Ended;

impl Reader {
    pub(super) fn new(half: ReadHalf<Stream>) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            search: HeadSearch::default(),
            body: Body::new(Framing::Empty),
            malformed: false,
            ended: false,
        }
    }

    /// Waits for a whole head; its names come in lower case.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, NoHead>> {
        loop {
            // RFC 9112, 2.2: empty lines before a request are skipped.
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
                self.search = HeadSearch::default();
            }
            match self.search.find(&self.buffer, MAX_HEAD_BYTES) {
                Ok(Some(length)) => {
                    let mut head = self.buffer.split_to(length);
                    lower_names(&mut head);
                    return Poll::Ready(Ok(head.freeze()));
                }
                Ok(None) => {}
                Err(bad) => return Poll::Ready(Err(NoHead::Bad(bad))),
            }
            if std::task::ready!(self.poll_fill(cx)).is_err() {
                return Poll::Ready(Err(NoHead::Gone));
            }
        }
    }

    /// Begins the body of the request whose head was read, and takes what came with the head.
    ///
    /// # Errors
    /// When it is malformed already.
    pub(super) fn begin_body(&mut self, framing: Framing) -> Result<Bytes, BodyFault> {
        self.body = Body::new(framing);
        self.take_buffered()
    }

    /// Whether all of the body was taken.
    pub(super) fn body_is_over(&self) -> bool {
        self.body.progress() == Progress::Over
    }

    /// The next bytes of the body, as many as are there; `None` at its end.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, BodyFault> {
        loop {
            let data = self.take_buffered()?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
            if self.body_is_over() {
                return Ok(None);
            }
            let filled = std::future::poll_fn(|cx| self.poll_gather(cx));
            filled.await.map_err(|Ended| BodyFault::Gone)?;
        }
    }

    /// Waits for the peer to leave, or to send beyond the bound: behind bytes that are not read its leaving would not be
    /// seen, and its call would go on for nobody. What it sends within the bound stays for later.
    ///
    /// Behind a broken body the peer is not watched any more: it is owed the refusal, and its connection ends with that.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.malformed {
            return Poll::Pending;
        }
        while self.buffer.len() < MAX_AHEAD_BYTES {
            if std::task::ready!(self.poll_fill(cx)).is_err() {
                break;
            }
        }
        Poll::Ready(())
    }

    /// Between requests: a large buffer goes. Its capacity is what is left behind the last head; what lies before counts too.
    pub(super) fn rest(&mut self) {
        if self.buffer.is_empty() && self.buffer.try_reclaim(MAX_AHEAD_BYTES) {
            self.buffer = BytesMut::new();
        }
    }

    /// Throws away what comes; yields how much it was, zero at the end.
    pub(super) async fn discard(&mut self) -> usize {
        self.buffer.clear();
        match std::future::poll_fn(|cx| self.poll_fill(cx)).await {
            Ok(()) => self.buffer.len(),
            Err(Ended) => 0,
        }
    }

    fn take_buffered(&mut self) -> Result<Bytes, BodyFault> {
        let decoded = self.body.decode(&mut self.buffer);
        self.malformed |= decoded.is_err();
        decoded.map(|decoded| decoded.data).map_err(|_| BodyFault::Malformed)
    }

    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        std::task::ready!(self.poll_fill(cx))?;
        while self.buffer.len() < PIECE_BYTES
            && let Poll::Ready(Ok(())) = self.poll_fill(cx)
        {}
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.ended {
            return Poll::Ready(Err(Ended));
        }
        if self.buffer.capacity() - self.buffer.len() < LEAST_ROOM_BYTES {
            self.buffer.reserve(READ_BYTES);
        }
        // The future keeps nothing between polls, so it can be made anew for each.
        match std::task::ready!(pin!(self.half.read_buf(&mut self.buffer)).poll(cx)) {
            Ok(read) if read > 0 => Poll::Ready(Ok(())),
            Ok(_) | Err(_) => {
                self.ended = true;
                Poll::Ready(Err(Ended))
            }
        }
    }
}
