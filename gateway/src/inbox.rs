//! Reads the courier's frames from a lane.
//!
//! Invariant: memory is bounded by one frame and one gathering; a frame that does not belong here breaks the lane.
//! Trusts: the courier to end each exchange. Distrusts: its bytes' form.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::{
    Abort, FrameHeader, FrameKind, HEADER_BYTES, MAX_PAYLOAD_BYTES, decode,
};
use strongroom_socket::Reader;
use tokio::io::AsyncReadExt;

/// How much is gathered for one write to the caller.
const GATHER_BYTES: usize = 128 * 1024;
/// What a read takes at first: most answers and every pause of a stream fit.
const SMALL_READ_BYTES: usize = 16 * 1024;
/// What a read takes once a small one came back full.
const LARGE_READ_BYTES: usize = MAX_PAYLOAD_BYTES + HEADER_BYTES;

/// One lane's incoming direction.
pub(crate) struct Inbox {
    reader: Reader,
    buffer: BytesMut,
    /// Bytes of the current `Chunk` that have not come yet.
    chunk_left: usize,
    read_bytes: usize,
    head_seen: bool,
}

/// How an exchange ended on the courier's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// The answer is complete.
    End,
    /// There is none, or no more of it.
    Abort(Refusal),
}

/// The next thing in the buffer.
enum Next {
    /// The payload of the answer's head.
    Answer(BytesMut),
    /// So many bytes of a chunk stand in front.
    Data(usize),
    Terminal(Terminal),
    /// More bytes are needed.
    Nothing,
}

impl Inbox {
    pub(crate) fn new(reader: Reader) -> Self {
        let buffer = BytesMut::new();
        Self { reader, buffer, chunk_left: 0, read_bytes: SMALL_READ_BYTES, head_seen: false }
    }

    /// Prepares for the next exchange; false when bytes are left over, which nobody should have sent.
    pub(crate) fn rest(&mut self) -> bool {
        let clean = self.buffer.is_empty() && self.chunk_left == 0;
        // Hundreds of idle lanes must not hold their largest buffers.
        if self.buffer.capacity() > SMALL_READ_BYTES {
            self.buffer = BytesMut::new();
        }
        self.read_bytes = SMALL_READ_BYTES;
        self.head_seen = false;
        clean
    }

    /// Waits for the payload of the answer's head, or for the end of the exchange without one.
    ///
    /// # Errors
    /// When the lane is broken.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Result<BytesMut, Terminal>>> {
        loop {
            match self.next()? {
                Next::Answer(payload) => return Poll::Ready(Ok(Ok(payload))),
                Next::Terminal(Terminal::Abort(refusal)) => {
                    return Poll::Ready(Ok(Err(Terminal::Abort(refusal))));
                }
                Next::Terminal(Terminal::End) | Next::Data(_) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Next::Nothing => std::task::ready!(self.poll_fill(cx))?,
            }
        }
    }

    /// Appends to `data` all that is readable now of the answer's body, and never waits for more once there is something.
    ///
    /// # Errors
    /// When the lane is broken.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut BytesMut,
    ) -> Poll<io::Result<Option<Terminal>>> {
        let before = data.len();
        loop {
            match self.next()? {
                Next::Data(length) => {
                    data.extend_from_slice(self.buffer.get(..length).unwrap_or_default());
                    self.buffer.advance(length);
                }
                Next::Terminal(terminal) => return Poll::Ready(Ok(Some(terminal))),
                Next::Answer(_) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Next::Nothing if data.len() - before >= GATHER_BYTES => break,
                Next::Nothing => match self.poll_fill(cx) {
                    Poll::Ready(filled) => filled?,
                    Poll::Pending if data.len() == before => return Poll::Pending,
                    Poll::Pending => break,
                },
            }
        }
        Poll::Ready(Ok(None))
    }

    /// Throws away what still comes of a cancelled exchange, up to its terminal frame.
    ///
    /// # Errors
    /// When the lane is broken.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.next()? {
                Next::Answer(_) => {}
                Next::Data(length) => self.buffer.advance(length),
                Next::Terminal(_) => return Poll::Ready(Ok(())),
                Next::Nothing => std::task::ready!(self.poll_fill(cx))?,
            }
        }
    }

    /// Reads one frame's header, or the rest of a chunk, from the buffer.
    fn next(&mut self) -> io::Result<Next> {
        loop {
            if self.chunk_left > 0 {
                let here = self.chunk_left.min(self.buffer.len());
                self.chunk_left -= here;
                return Ok(if here == 0 { Next::Nothing } else { Next::Data(here) });
            }
            let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else {
                return Ok(Next::Nothing);
            };
            let header = FrameHeader::parse(*header).map_err(invalid)?;
            match header.kind {
                FrameKind::Chunk if self.head_seen => {
                    self.buffer.advance(HEADER_BYTES);
                    self.chunk_left = header.length;
                }
                FrameKind::End if self.head_seen => {
                    self.buffer.advance(HEADER_BYTES);
                    return Ok(Next::Terminal(Terminal::End));
                }
                FrameKind::Answer if !self.head_seen => return Ok(self.answer(header.length)),
                FrameKind::Abort => return self.abort(header.length),
                FrameKind::Chunk
                | FrameKind::End
                | FrameKind::Answer
                | FrameKind::Head
                | FrameKind::Body
                | FrameKind::BodyEnd
                | FrameKind::Cancel => {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }

    fn answer(&mut self, length: usize) -> Next {
        if self.buffer.len() < HEADER_BYTES + length {
            return Next::Nothing;
        }
        self.buffer.advance(HEADER_BYTES);
        self.head_seen = true;
        Next::Answer(self.buffer.split_to(length))
    }

    fn abort(&mut self, length: usize) -> io::Result<Next> {
        let Some(payload) = self.buffer.get(HEADER_BYTES..HEADER_BYTES + length) else {
            return Ok(Next::Nothing);
        };
        let Abort { refusal } = decode::<Abort>(payload).map_err(invalid)?;
        self.buffer.advance(HEADER_BYTES + length);
        Ok(Next::Terminal(Terminal::Abort(refusal)))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.capacity() - self.buffer.len() < self.read_bytes / 2 {
            self.buffer.reserve(self.read_bytes);
        }
        let room = self.buffer.capacity() - self.buffer.len();
        // The future keeps nothing between polls, so it can be made anew for each.
        match std::task::ready!(pin!(self.reader.read_buf(&mut self.buffer)).poll(cx))? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => {
                if read == room {
                    self.read_bytes = LARGE_READ_BYTES;
                }
                Poll::Ready(Ok(()))
            }
        }
    }
}

fn invalid(error: strongroom_protocol::frame::FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
