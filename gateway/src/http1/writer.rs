//! Writes answers: head and what there is of the body in one TLS record, chunks as they come.
//!
//! Invariant: a body is written exactly by the framing that its head announced, or the connection is not ended cleanly.

use std::io;
use std::task::Poll;

use bytes::BytesMut;
use http::{StatusCode, Version};
use strongroom_socket::write_parts;
use tokio::io::{AsyncWriteExt, WriteHalf};

use crate::answer::{AnswerBody, HeadSink};
use crate::connection::Stream;
use crate::exchange::Ending;

/// Buffers that grew beyond this are given back between answers.
const KEPT_BYTES: usize = 32 * 1024;

/// The writing side of a connection.
pub(super) struct Writer {
    half: WriteHalf<Stream>,
    /// The head that is to go out.
    pub(super) head: TextHead,
    piece: BytesMut,
}

/// An answer's head as text.
#[derive(Default)]
pub(super) struct TextHead {
    text: Vec<u8>,
    status: StatusCode,
    dated: bool,
}

/// How a body is told apart from what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delimited {
    /// There is none, whatever the head says: an answer to `HEAD`, 204, 304.
    Absent,
    ByLength,
    ByChunks,
    /// HTTP/1.0 knows no chunks: by the end of the connection, which is clean only after a whole body.
    ByEnd,
}

/// Whether an answer went out whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Whole,
    /// The connection must be cut.
    Broken,
}

impl HeadSink for TextHead {
    fn begin(&mut self, status: StatusCode) {
        self.text.clear();
        self.dated = false;
        self.status = status;
        self.text.extend_from_slice(b"HTTP/1.1 ");
        self.text.extend_from_slice(status.as_str().as_bytes());
        self.text.push(b' ');
        self.text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        self.text.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, name: &str, value: &[u8]) {
        self.dated |= name == "date";
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.text.extend_from_slice(part);
        }
    }
}

impl TextHead {
    /// Adds framing and connection, and ends the head.
    fn finish(&mut self, length: Option<u64>, delimited: Delimited, close: bool) {
        match (delimited, length) {
            (Delimited::ByChunks, _) => self.line("transfer-encoding", b"chunked"),
            (Delimited::ByLength | Delimited::Absent, Some(length)) if self.may_have_length() => {
                self.line("content-length", length.to_string().as_bytes());
            }
            (Delimited::ByLength | Delimited::Absent | Delimited::ByEnd, _) => {}
        }
        if close {
            self.line("connection", b"close");
        }
        if !self.dated {
            // RFC 9110, 6.6.1.
            let now = httpdate::fmt_http_date(std::time::SystemTime::now());
            self.line("date", now.as_bytes());
        }
        self.text.extend_from_slice(b"\r\n");
    }

    /// RFC 9110, 8.6.
    fn may_have_length(&self) -> bool {
        self.status != StatusCode::NO_CONTENT && self.status != StatusCode::NOT_MODIFIED
    }

    /// How the body is delimited that follows this head.
    pub(super) fn delimit(&self, method: &str, version: Version, length: Option<u64>) -> Delimited {
        if method == "HEAD" || !self.may_have_length() {
            Delimited::Absent
        } else if length.is_some() {
            Delimited::ByLength
        } else if version == Version::HTTP_11 {
            Delimited::ByChunks
        } else {
            Delimited::ByEnd
        }
    }
}

impl Writer {
    pub(super) fn new(half: WriteHalf<Stream>) -> Self {
        Self { half, head: TextHead::default(), piece: BytesMut::new() }
    }

    /// Writes the head and a body that is here.
    pub(super) async fn whole(
        &mut self,
        body: &[u8],
        delimited: Delimited,
        close: bool,
    ) -> io::Result<()> {
        let (length, body) = match delimited {
            Delimited::Absent => (None, &[][..]),
            Delimited::ByLength | Delimited::ByChunks | Delimited::ByEnd => {
                (u64::try_from(body.len()).ok(), body)
            }
        };
        self.head.finish(length, delimited, close);
        write_parts(&mut self.half, [&self.head.text, body, b"", b""]).await
    }

    /// Writes the head and a provider's body as it comes.
    ///
    /// # Errors
    /// When the caller is gone.
    pub(super) async fn relay(
        &mut self,
        body: &mut AnswerBody,
        delimited: Delimited,
        close: bool,
    ) -> io::Result<Written> {
        self.head.finish(body.length(), delimited, close);
        let mut head_waits = true;
        loop {
            let polled = std::future::poll_fn(|cx| {
                match body.poll_piece(cx, &mut self.piece) {
                    // The head does not wait for the body.
                    Poll::Pending if head_waits => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(end) => Poll::Ready(Some(end)),
                }
            });
            let polled = polled.await;
            let end = polled.flatten();
            if delimited == Delimited::Absent && !self.piece.is_empty() {
                self.piece.clear();
            }
            self.write_piece(delimited, end, head_waits).await?;
            head_waits = false;
            match end {
                Some(Ending::Complete) => return Ok(Written::Whole),
                Some(Ending::Broken(_)) => return Ok(Written::Broken),
                None => {}
            }
        }
    }

    async fn write_piece(
        &mut self,
        delimited: Delimited,
        end: Option<Ending>,
        with_head: bool,
    ) -> io::Result<()> {
        let head: &[u8] = if with_head { &self.head.text } else { b"" };
        let chunked = delimited == Delimited::ByChunks;
        let last = chunked && end == Some(Ending::Complete);
        let mut size = [0; SIZE_BYTES];
        let (size, tail): (&[u8], &[u8]) = match (chunked, self.piece.is_empty(), last) {
            (false, _, _) | (true, true, false) => (b"", b""),
            (true, true, true) => (b"", b"0\r\n\r\n"),
            (true, false, false) => (size_line(self.piece.len(), &mut size), b"\r\n"),
            (true, false, true) => (size_line(self.piece.len(), &mut size), b"\r\n0\r\n\r\n"),
        };
        let written = write_parts(&mut self.half, [head, size, &self.piece, tail]).await;
        self.piece.clear();
        written
    }

    /// Between answers: large buffers go.
    pub(super) fn rest(&mut self) {
        if self.piece.capacity() > KEPT_BYTES {
            self.piece = BytesMut::new();
        }
        if self.head.text.capacity() > KEPT_BYTES {
            self.head.text = Vec::new();
        }
    }

    /// Where a head is written, and the socket, for what goes out before it.
    pub(super) fn halves(&mut self) -> (&mut TextHead, &mut WriteHalf<Stream>) {
        (&mut self.head, &mut self.half)
    }

    /// Says that nothing more comes.
    pub(super) async fn end(&mut self) {
        drop(self.half.shutdown().await);
    }
}

/// Tells a caller to send its body (RFC 9110, 15.2.1).
pub(super) async fn invite(half: &mut WriteHalf<Stream>) -> io::Result<()> {
    write_parts(half, [b"HTTP/1.1 100 Continue\r\n\r\n", b"", b"", b""]).await
}

/// Sixteen digits and CRLF.
const SIZE_BYTES: usize = 18;

/// A chunk's size line (RFC 9112, 7.1).
fn size_line(length: usize, room: &mut [u8; SIZE_BYTES]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (mut at, mut left) = (SIZE_BYTES - 2, length);
    room[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        room[at] = DIGITS[left % 16];
        left /= 16;
        if left == 0 {
            return &room[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_hexadecimal() {
        for length in [0, 1, 9, 10, 15, 16, 255, 256, 65_536, usize::MAX] {
            let mut room = [0; SIZE_BYTES];
            assert_eq!(size_line(length, &mut room), format!("{length:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_head_says_one_framing_and_what_must_have_none_has_none() {
        let head = |status, method: &str, version, length| {
            let mut head = TextHead::default();
            head.begin(status);
            head.line("date", b"now");
            let delimited = head.delimit(method, version, length);
            head.finish(length, delimited, version == Version::HTTP_10);
            (delimited, String::from_utf8(head.text).unwrap())
        };
        let ok = StatusCode::OK;
        let (known, chunks) = ("content-length: 5\r\n", "transfer-encoding: chunked\r\n");
        let close = "connection: close\r\n";
        for (given, delimited, lines) in [
            ((ok, "GET", Version::HTTP_11, Some(5)), Delimited::ByLength, known.to_owned()),
            ((ok, "GET", Version::HTTP_11, None), Delimited::ByChunks, chunks.to_owned()),
            ((ok, "GET", Version::HTTP_10, None), Delimited::ByEnd, close.to_owned()),
            ((ok, "GET", Version::HTTP_10, Some(5)), Delimited::ByLength, known.to_owned() + close),
            ((ok, "HEAD", Version::HTTP_11, Some(5)), Delimited::Absent, known.to_owned()),
        ] {
            let (status, method, version, length) = given;
            let expected = format!("HTTP/1.1 200 OK\r\ndate: now\r\n{lines}\r\n");
            assert_eq!(head(status, method, version, length), (delimited, expected));
        }
        let none = head(StatusCode::NO_CONTENT, "GET", Version::HTTP_11, Some(0));
        assert_eq!(
            none,
            (Delimited::Absent, "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n".to_owned())
        );
    }
}
