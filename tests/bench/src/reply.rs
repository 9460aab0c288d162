//! Reads one HTTP/1.1 reply as its bytes come, and says when it is whole.
//!
//! Invariant: a reply is whole only with its length or its last chunk; anything else is an error.
//! Invariant: head and body are bounded.

use anyhow::{Context as _, Result, bail, ensure};

/// Longer than any reply of the emulator's measurements.
const MAX_BODY_BYTES: usize = 1024 * 1024;
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// A reply that is being read. Kept and cleared between replies, so that its buffers are reused.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    head: Vec<u8>,
    body: Vec<u8>,
    status: u16,
    state: State,
}

/// Whether more bytes are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Whole,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Length(usize),
    Size {
        value: usize,
        digits: u8,
    },
    Extension(usize),
    SizeFeed(usize),
    Data(usize),
    DataReturn,
    DataFeed,
    LastReturn,
    LastFeed,
    Whole,
}

impl Reply {
    /// Forgets the reply, keeps the buffers.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.body.clear();
        self.state = State::Head;
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The body so far, without its chunks' frames.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the next bytes off the wire.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<Progress> {
        if self.state == State::Head {
            let known = self.head.len();
            self.head.extend_from_slice(bytes);
            let from = known.saturating_sub(3);
            let Some(at) = memchr::memmem::find(&self.head[from..], b"\r\n\r\n") else {
                ensure!(self.head.len() <= MAX_HEAD_BYTES, "the head is too long");
                return Ok(Progress::More);
            };
            let end = from + at + 4;
            bytes = &bytes[end - known..];
            self.head.truncate(end);
            self.open()?;
        }
        while let Some((first, rest)) = bytes.split_first() {
            let taken = self.take_data(bytes)?;
            if taken > 0 {
                bytes = &bytes[taken..];
                continue;
            }
            self.state = self.state.step(*first)?;
            bytes = rest;
        }
        Ok(if self.state == State::Whole { Progress::Whole } else { Progress::More })
    }

    fn open(&mut self) -> Result<()> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut slots);
        ensure!(parsed.parse(&self.head)?.is_complete(), "the head has no end");
        self.status = parsed.code.context("a reply without status")?;
        let mut state = None;
        for header in parsed.headers.iter() {
            let value = std::str::from_utf8(header.value)?.trim();
            if header.name.eq_ignore_ascii_case("content-length") {
                ensure!(state.is_none(), "two framings");
                state = Some(State::Length(value.parse()?));
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                ensure!(state.is_none() && value == "chunked", "framing {value}");
                state = Some(State::Size { value: 0, digits: 0 });
            }
        }
        self.state = match state.context("a reply without framing")? {
            State::Length(0) => State::Whole,
            State::Length(length) if length > MAX_BODY_BYTES => bail!("a body of {length} bytes"),
            other => other,
        };
        Ok(())
    }

    fn take_data(&mut self, bytes: &[u8]) -> Result<usize> {
        let (missing, chunked) = match self.state {
            State::Length(missing) => (missing, false),
            State::Data(missing) => (missing, true),
            _ => return Ok(0),
        };
        let taken = missing.min(bytes.len());
        ensure!(self.body.len() + taken <= MAX_BODY_BYTES, "the body is too long");
        self.body.extend_from_slice(&bytes[..taken]);
        let left = missing - taken;
        self.state = match (chunked, left) {
            (true, 0) => State::DataReturn,
            (true, _) => State::Data(left),
            (false, 0) => State::Whole,
            (false, _) => State::Length(left),
        };
        Ok(taken)
    }
}

impl State {
    /// One byte of the frames between the data (RFC 9112, 7.1); trailers do not occur here.
    fn step(self, byte: u8) -> Result<Self> {
        let next = match (self, byte) {
            (Self::Size { value, digits: 1.. } | Self::Extension(value), b'\r') => {
                Self::SizeFeed(value)
            }
            (Self::Size { value, digits: 1.. }, b';') | (Self::Extension(value), _) => {
                Self::Extension(value)
            }
            (Self::Size { value, digits: digits @ 0..8 }, _) => {
                let digit = char::from(byte).to_digit(16).context("not a chunk's size")?;
                Self::Size { value: value * 16 + usize::try_from(digit)?, digits: digits + 1 }
            }
            (Self::SizeFeed(0), b'\n') => Self::LastReturn,
            (Self::SizeFeed(value), b'\n') => Self::Data(value),
            (Self::DataReturn, b'\r') => Self::DataFeed,
            (Self::DataFeed, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::LastReturn, b'\r') => Self::LastFeed,
            (Self::LastFeed, b'\n') => Self::Whole,
            (Self::Whole, _) => bail!("bytes after the reply's end"),
            (state, byte) => bail!("byte {byte:#04x} in {state:?}"),
        };
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::{Progress, Reply};

    const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n";

    #[test]
    fn a_reply_is_whole_at_its_last_byte_however_it_is_cut() {
        for (wire, body) in [(PLAIN, &b"hello"[..]), (CHUNKED, b"hello!")] {
            for cut in 1..wire.len() {
                let mut reply = Reply::default();
                assert_eq!(reply.feed(&wire[..cut]).unwrap(), Progress::More, "{cut}");
                assert_eq!(reply.feed(&wire[cut..]).unwrap(), Progress::Whole, "{cut}");
                assert_eq!((reply.status(), reply.body()), (200, body));
                reply.clear();
                assert_eq!(reply.feed(wire).unwrap(), Progress::Whole);
            }
        }
    }

    #[test]
    fn what_is_not_framed_as_announced_is_an_error() {
        let bad: [&[u8]; 6] = [
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nx",
        ];
        for wire in bad {
            assert!(Reply::default().feed(wire).is_err(), "{}", String::from_utf8_lossy(wire));
        }
    }
}
