//! Reads HTTP/1.1 requests from a byte stream and writes bytes back.
//!
//! Invariant: heads end at `MAX_HEAD_BYTES`, bodies at `MAX_BODY_BYTES`, every read at `IDLE`.
//! Invariant: a request whose framing is in doubt is refused, never guessed (RFC 9112, 6.3).
//! Trusts: nothing. Distrusts: the proxy under test; whatever is odd about it is noted.

use std::{io, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Larger than any proxy should send, so that what is refused is refused by the proxy.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// The largest body that is kept, in memory, for one request.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
const MAX_HEADERS: usize = 256;
/// One TLS record.
const READ_BYTES: usize = 16 * 1024;
const IDLE: Duration = Duration::from_mins(5);
/// Long enough for a refused upload to notice the answer before the connection goes.
const LINGER: Duration = Duration::from_secs(2);

/// A byte stream with what was read ahead of need.
pub(crate) struct Wire<S> {
    stream: S,
    pub(crate) held: BytesMut,
}

/// The head of one request.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// What a careful proxy would not have sent.
    pub(crate) oddities: Vec<String>,
    pub(crate) keep_alive: bool,
    pub(crate) body: Extent,
}

/// How the body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Length(usize),
    Chunked,
}

/// Why a request could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the client closed between requests")]
    Closed,
    #[error("the client left in the middle of a request: {0}")]
    Left(String),
    #[error("{0}")]
    Malformed(String),
    #[error("the body is longer than the emulator keeps")]
    TooLarge,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, held: BytesMut::with_capacity(READ_BYTES) }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// Reads more; `false` at the stream's end.
    pub(crate) async fn more(&mut self) -> io::Result<bool> {
        // Bounded by its callers, which stop asking once their own limit is reached.
        self.held.reserve(READ_BYTES);
        match tokio::time::timeout(IDLE, self.stream.read_buf(&mut self.held)).await {
            Ok(read) => Ok(read? > 0),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }

    /// Takes the next head off the stream.
    pub(crate) async fn head(&mut self) -> Result<Head, ReadError> {
        let mut searched: usize = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.held[searched..], b"\r\n\r\n") {
                let head = self.held.split_to(searched + at + 4);
                return parse_head(&head);
            }
            searched = self.held.len().saturating_sub(3);
            if self.held.len() > MAX_HEAD_BYTES {
                return Err(ReadError::Malformed("the head is too long".to_owned()));
            }
            match self.more().await {
                Ok(true) => {}
                Ok(false) | Err(_) if self.held.is_empty() => return Err(ReadError::Closed),
                Ok(false) => return Err(ReadError::Left("within the head".to_owned())),
                Err(error) => return Err(ReadError::Left(error.to_string())),
            }
        }
    }

    /// Appends the body to `kept`, as far as it comes.
    pub(crate) async fn body(
        &mut self,
        extent: Extent,
        kept: &mut Vec<u8>,
        oddities: &mut Vec<String>,
    ) -> Result<(), ReadError> {
        match extent {
            Extent::Length(length) => self.take(length, kept).await,
            Extent::Chunked => self.chunks(kept, oddities).await,
        }
    }

    async fn take(&mut self, length: usize, kept: &mut Vec<u8>) -> Result<(), ReadError> {
        if length > MAX_BODY_BYTES.saturating_sub(kept.len()) {
            return Err(ReadError::TooLarge);
        }
        let mut missing = length;
        while missing > 0 {
            if self.held.is_empty() {
                self.more_of_body().await?;
            }
            let piece = self.held.split_to(missing.min(self.held.len()));
            missing -= piece.len();
            kept.extend_from_slice(&piece);
        }
        Ok(())
    }

    async fn chunks(
        &mut self,
        kept: &mut Vec<u8>,
        oddities: &mut Vec<String>,
    ) -> Result<(), ReadError> {
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default();
            if digits.len() != line.len() {
                oddities.push(format!("chunk extension {line:?}"));
            }
            let hexadecimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(digits, 16).ok().filter(|_| hexadecimal);
            let size = size.ok_or_else(|| ReadError::Malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                return self.trailers(oddities).await;
            }
            self.take(size, kept).await?;
            if !self.line().await?.is_empty() {
                return Err(ReadError::Malformed("no CRLF after a chunk".to_owned()));
            }
        }
    }

    async fn trailers(&mut self, oddities: &mut Vec<String>) -> Result<(), ReadError> {
        for _ in 0..MAX_HEADERS {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            oddities.push(format!("trailer {line:?}"));
        }
        Err(ReadError::Malformed("too many trailers".to_owned()))
    }

    async fn line(&mut self) -> Result<String, ReadError> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.held, b"\r\n") {
                let line = self.held.split_to(at);
                self.held.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.held.len() > 4096 {
                return Err(ReadError::Malformed("a chunk line is too long".to_owned()));
            }
            self.more_of_body().await?;
        }
    }

    async fn more_of_body(&mut self) -> Result<(), ReadError> {
        match self.more().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(ReadError::Left("within the body".to_owned())),
            Err(error) => Err(ReadError::Left(error.to_string())),
        }
    }

    /// Writes and flushes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let all = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(IDLE, all).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes while reading away whatever comes, as a server must that answers an unread body:
    /// closing on unread bytes resets the connection and takes the answer with it.
    pub(crate) async fn close_after_reading(&mut self) {
        let closed = self.stream.shutdown().await.is_ok();
        let drain = async {
            while closed && matches!(self.stream.read_buf(&mut self.held).await, Ok(1..)) {
                self.held.clear();
            }
        };
        // Past the linger the client has had its chance; nothing is left to report.
        let _late = tokio::time::timeout(LINGER, drain).await;
    }

    pub(crate) async fn close(&mut self) {
        // A client that is already gone cannot be told goodbye; that is no news here.
        let _gone = tokio::time::timeout(LINGER, self.stream.shutdown()).await;
    }

    /// Waits, unless the client goes away first; `false` then. Bytes that arrive are kept.
    pub(crate) async fn wait(&mut self, until: tokio::time::Instant) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                read = self.stream.read_buf(&mut self.held) => {
                    if !matches!(read, Ok(1..)) || self.held.len() > MAX_HEAD_BYTES {
                        return false;
                    }
                }
            }
        }
    }
}

fn parse_head(bytes: &BytesMut) -> Result<Head, ReadError> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    parsed.parse(bytes).map_err(|error| ReadError::Malformed(error.to_string()))?;
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
        .collect();
    let target = parsed.path.unwrap_or_default().to_owned();
    let mut oddities = oddities_of(&target, &headers);
    let body = extent_of(&headers)?;
    let connection = joined(&headers, "connection").to_ascii_lowercase();
    let keep_alive = parsed.version == Some(1) && !connection.contains("close");
    if parsed.version != Some(1) {
        oddities.push("not HTTP/1.1".to_owned());
    }
    let method = parsed.method.unwrap_or_default().to_owned();
    Ok(Head { method, target, headers, oddities, keep_alive, body })
}

fn extent_of(headers: &[(String, String)]) -> Result<Extent, ReadError> {
    let refuse = |text: &str| Err(ReadError::Malformed(text.to_owned()));
    let lengths: Vec<&String> = values(headers, "content-length").collect();
    let codings: Vec<&String> = values(headers, "transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Extent::Length(0)),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Extent::Chunked),
        ([], _) => refuse("transfer-encoding is not just chunked"),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => match length.parse() {
            Ok(length) => Ok(Extent::Length(length)),
            Err(_) => refuse("content-length is no number"),
        },
        (_, []) => refuse("content-length is doubtful"),
        _ => refuse("content-length beside transfer-encoding"),
    }
}

fn oddities_of(target: &str, headers: &[(String, String)]) -> Vec<String> {
    let mut oddities = Vec::new();
    if !target.starts_with('/') {
        oddities.push(format!("target {target:?}"));
    }
    if target.bytes().any(|byte| !byte.is_ascii_graphic()) {
        oddities.push("target holds unprintable bytes".to_owned());
    }
    for (index, (name, _)) in headers.iter().enumerate() {
        if headers[..index].iter().any(|(earlier, _)| earlier == name) {
            oddities.push(format!("header {name} twice"));
        }
    }
    for name in ["te", "trailer", "upgrade", "proxy-authorization", "proxy-connection", "cookie"] {
        if values(headers, name).next().is_some() {
            oddities.push(format!("header {name}"));
        }
    }
    oddities
}

fn values<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a String> {
    headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value)
}

fn joined(headers: &[(String, String)], name: &str) -> String {
    values(headers, name).cloned().collect::<Vec<_>>().join(", ")
}

/// Bytes in chunked framing.
pub(crate) fn chunk(bytes: &[u8]) -> Bytes {
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    framed.into()
}
