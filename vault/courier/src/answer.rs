//! Reads the head of a provider's HTTP/1.1 answer, strictly, and says which part of it a caller may see.
//!
//! Invariant: an answer whose length could be read in two ways is refused, never guessed.
//! Invariant: a header passes only when it is listed; its value still has to be scrubbed.
//! Invariant: the body is in the clear: an encoded one could hide an echo of the key and is refused.
//!
//! Trusts: nobody.
//! Distrusts: every byte of the head.

mod listed;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use strongroom_http1::{BadFraming, BadHead, Framing, HeadSearch, decimal};

/// Largest head, and largest sum of interim heads, in bytes.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most header lines.
pub const MAX_HEADERS: usize = 128;

/// What an answer's head says.
#[derive(Debug)]
pub struct Head {
    /// 200 to 599.
    pub status: u16,
    /// The listed headers in their order, names in lower case; hop-by-hop, cookie and credential headers are gone.
    pub headers: Vec<(Cow<'static, str>, Bytes)>,
    /// How the body ends.
    pub framing: Framing,
    /// What the body is, for the meter.
    pub media: Media,
    /// Whether the provider lets the connection be used again after the body.
    pub keep_alive: KeepAlive,
    /// `location`, kept apart: redirects are followed inside the vault or refused, never handed on.
    pub location: Option<Bytes>,
    /// `x-goog-upload-url`, kept apart: it names Google's origin and must be rewritten to ours.
    pub upload_url: Option<Bytes>,
}

/// What a body is, as far as metering cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `text/event-stream`.
    Events,
    /// `application/json` and `…+json`.
    Json,
    /// Anything else.
    Other,
}

/// Whether a connection may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// After the body's end, when nothing follows it.
    Reusable,
    /// Never.
    Closing,
}

/// What the request's method means for the answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `HEAD`: no body whatever the headers say.
    Head,
    /// Any other method.
    Body,
}

/// Why an answer is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Head over its limits.
    #[error("the head of the answer is too large")]
    TooLarge,
    /// Not HTTP/1.x, bare line feeds, folded lines, control bytes, a status outside 100 to 599.
    #[error("the head of the answer is malformed")]
    Malformed,
    /// Two lengths, a length beside chunks, or another transfer coding.
    #[error("the length of the answer is ambiguous")]
    Ambiguous,
    /// 101, or more interim answers than anyone needs.
    #[error("the provider switched protocols or sent too many interim answers")]
    Interim,
    /// A content encoding although none was accepted.
    #[error("the answer is encoded although identity was asked for")]
    Encoded,
    /// A bad chunk size, missing line end, or oversized trailer.
    #[error("the chunks of the answer are malformed")]
    Chunks,
    /// The connection ended before the body did.
    #[error("the answer was cut off")]
    Cut,
}

impl From<BadFraming> for Broken {
    fn from(bad: BadFraming) -> Self {
        match bad {
            BadFraming::Chunks => Self::Chunks,
            BadFraming::Cut => Self::Cut,
        }
    }
}

impl From<BadHead> for Broken {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::TooLarge => Self::TooLarge,
            BadHead::Malformed => Self::Malformed,
        }
    }
}

/// Reads heads from one connection.
#[derive(Debug)]
pub struct Reader {
    asked: Asked,
    search: HeadSearch,
    /// Bytes spent on interim answers.
    interim_bytes: usize,
}

impl Reader {
    /// Starts before the first byte of an answer.
    pub fn new(asked: Asked) -> Self {
        Self { asked, search: HeadSearch::default(), interim_bytes: 0 }
    }

    /// Takes the head off `buffer` once it is there; `None` asks for more bytes. Interim answers are skipped.
    ///
    /// # Errors
    /// When the answer must not be passed on; the connection is then to be dropped.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<Head>, Broken> {
        while let Some(length) = self.search.find(buffer, MAX_HEAD_BYTES)? {
            let head = buffer.split_to(length).freeze();
            if let Some(head) = parse(&head, self.asked)? {
                return Ok(Some(head));
            }
            self.interim_bytes += head.len();
            if self.interim_bytes > MAX_HEAD_BYTES {
                return Err(Broken::Interim);
            }
        }
        Ok(None)
    }
}

/// `None` for an interim answer.
fn parse(head: &Bytes, asked: Asked) -> Result<Option<Head>, Broken> {
    // The room for lines is 4 KiB; clearing it would take longer than parsing.
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut response, head, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Broken::TooLarge),
        Ok(_) | Err(_) => return Err(Broken::Malformed),
    }
    let (Some(version), Some(status)) = (response.version, response.code) else {
        return Err(Broken::Malformed);
    };
    match status {
        101 => return Err(Broken::Interim),
        100..=199 => return Ok(None),
        200..=599 => {}
        _ => return Err(Broken::Malformed),
    }
    let mut seen = Seen::default();
    let mut headers = Vec::with_capacity(response.headers.len());
    let (mut location, mut upload_url) = (None, None);
    for line in response.headers.iter() {
        if seen.framing_header(line.name, line.value)? {
            continue;
        }
        let value = head.slice_ref(line.value);
        match listed::passing_name(line.name) {
            Some(name) if name == "x-goog-upload-url" => upload_url = Some(value),
            // Others of that family (`x-goog-upload-control-url`) lead past us too, and no SDK reads them.
            Some(name) if name.ends_with("-url") => {}
            Some(name) => headers.push((name, value)),
            None if line.name.eq_ignore_ascii_case("location") => location = Some(value),
            None => {}
        }
    }
    let framing = seen.framing(status, version, asked)?;
    let reusable = version == 1 && !seen.close && framing != Framing::UntilClose;
    Ok(Some(Head {
        status,
        headers,
        framing,
        media: seen.media,
        keep_alive: if reusable { KeepAlive::Reusable } else { KeepAlive::Closing },
        location,
        upload_url,
    }))
}

/// What the headers said about length and connection so far.
#[derive(Debug)]
struct Seen {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    media: Media,
}

impl Default for Seen {
    fn default() -> Self {
        Self { length: None, chunked: false, close: false, media: Media::Other }
    }
}

impl Seen {
    /// Whether the header was about framing and is done with.
    fn framing_header(&mut self, name: &str, value: &[u8]) -> Result<bool, Broken> {
        if name.eq_ignore_ascii_case("content-length") {
            let length = decimal(value).ok_or(Broken::Ambiguous)?;
            if self.length.is_some_and(|earlier| earlier != length) {
                return Err(Broken::Ambiguous);
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Broken::Ambiguous);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            self.close |= value
                .split(|&byte| byte == b',')
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        } else if name.eq_ignore_ascii_case("content-encoding") {
            if !value.is_empty() && !value.eq_ignore_ascii_case(b"identity") {
                return Err(Broken::Encoded);
            }
        } else {
            if name.eq_ignore_ascii_case("content-type") {
                self.media = media(value);
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn framing(&self, status: u16, version: u8, asked: Asked) -> Result<Framing, Broken> {
        if self.chunked && (self.length.is_some() || version == 0) {
            return Err(Broken::Ambiguous);
        }
        if asked == Asked::Head || status == 204 || status == 304 {
            return Ok(Framing::Empty);
        }
        Ok(match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(0)) => Framing::Empty,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::UntilClose,
        })
    }
}

fn media(content_type: &[u8]) -> Media {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let ends = |end: &[u8]| {
        essence.len() >= end.len() && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end)
    };
    if essence.eq_ignore_ascii_case(b"text/event-stream") {
        Media::Events
    } else if ends(b"/json") || ends(b"+json") {
        Media::Json
    } else {
        Media::Other
    }
}

#[cfg(test)]
mod tests;
