//! Reads a request's head out of its bytes, and how its body is framed.
//!
//! Invariant: the head is read once, and framing that has two readings is no framing.
//! Distrusts: every byte.

use bytes::BytesMut;
use http::{StatusCode, Version};
use strongroom_http1::{Framing, decimal};

use crate::connection::MAX_HEADERS;
use crate::request::{Lines, RequestHead};

/// A request as its head announces it.
pub(crate) struct Announced<'r> {
    pub(crate) head: RequestHead<'r>,
    /// `None` when it is ambiguous: the request is refused and nothing more is read on its connection.
    pub(crate) framing: Option<Framing>,
    /// Whether the caller wants the connection closed after the answer, or speaks HTTP/1.0.
    pub(crate) close: bool,
    /// Whether it waits for `100 Continue` before it sends the body.
    pub(crate) expects: bool,
}

/// Lowers the names of a head's lines in place, so that all comparing is of bytes.
pub(crate) fn lower_names(head: &mut BytesMut) {
    let mut at = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    while let Some(line) = head.get_mut(at..).filter(|line| !line.is_empty()) {
        let end = memchr::memchr(b'\n', line).map_or(line.len(), |end| end + 1);
        let name = memchr::memchr(b':', line.get(..end).unwrap_or_default()).unwrap_or(0);
        if let Some(name) = line.get_mut(..name) {
            name.make_ascii_lowercase();
        }
        at += end;
    }
}

/// Parses a head whose names were lowered.
///
/// # Errors
/// The status of the answer to what is no request; the connection is then of no more use.
pub(crate) fn parse(head: &[u8]) -> Result<Announced<'_>, StatusCode> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut slots);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Ok(_) | Err(_) => return Err(StatusCode::BAD_REQUEST),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(StatusCode::BAD_REQUEST);
    };
    let version = if version == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let lines: Lines<'_> = request.headers.iter().map(|line| (line.name, line.value)).collect();
    let (authority, target) = split_target(target).ok_or(StatusCode::BAD_REQUEST)?;
    let connection = ConnectionLines::of(&lines);
    let close = version == Version::HTTP_10 || connection.close;
    let expects = version == Version::HTTP_11 && connection.expects;
    let framing = connection.framing(version);
    let head = RequestHead { method, target, authority, version, lines };
    Ok(Announced { head, framing, close, expects })
}

/// The lines that are about the connection, gathered in one pass.
#[derive(Default)]
struct ConnectionLines<'r> {
    coding: Option<&'r [u8]>,
    length: Option<&'r [u8]>,
    /// A second coding or length.
    twice: bool,
    close: bool,
    expects: bool,
}

impl<'r> ConnectionLines<'r> {
    fn of(lines: &Lines<'r>) -> Self {
        let closes = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"close");
        let mut found = Self::default();
        for (name, value) in lines.iter() {
            match name {
                "transfer-encoding" => found.twice |= found.coding.replace(value).is_some(),
                "content-length" => found.twice |= found.length.replace(value).is_some(),
                "connection" => found.close |= value.split(|byte| *byte == b',').any(closes),
                "expect" => found.expects |= value.eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        found
    }

    /// RFC 9112, 6.3, without what it only tolerates: one length or one `chunked`, and never both.
    fn framing(&self, version: Version) -> Option<Framing> {
        match (self.coding, self.length) {
            _ if self.twice => None,
            (None, None) => Some(Framing::Empty),
            (None, Some(length)) => match decimal(length)? {
                0 => Some(Framing::Empty),
                length => Some(Framing::Length(length)),
            },
            (Some(coding), None) => (version == Version::HTTP_11
                && coding.eq_ignore_ascii_case(b"chunked"))
            .then_some(Framing::Chunked),
            (Some(_), Some(_)) => None,
        }
    }
}

/// The authority of an absolute target, and path with query (RFC 9112, 3.2). The other forms are for proxies.
fn split_target(target: &str) -> Option<(Option<&str>, &str)> {
    if target.starts_with('/') {
        return Some((None, target));
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let slash = rest.find('/').filter(|slash| *slash > 0)?;
    let (authority, target) = rest.split_at_checked(slash)?;
    Some((Some(authority), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lines: &str) -> Option<Framing> {
        parse(format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes()).unwrap().framing
    }

    #[test]
    fn one_framing_is_read_and_two_are_none() {
        assert_eq!(with("host: a"), Some(Framing::Empty));
        assert_eq!(with("content-length: 0"), Some(Framing::Empty));
        assert_eq!(with("content-length: 5"), Some(Framing::Length(5)));
        assert_eq!(with("transfer-encoding: Chunked"), Some(Framing::Chunked));
        for bad in [
            "content-length: 5\r\ncontent-length: 5",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 5",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: identity",
            "transfer-encoding:",
            "content-length: +5",
            "content-length:",
        ] {
            assert_eq!(with(bad), None, "{bad}");
        }
        let old = b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(parse(old).unwrap().framing, None);
    }

    #[test]
    fn names_are_lowered_and_nothing_else() {
        let mut head = BytesMut::from(
            "POST /A:B HTTP/1.1\r\nHost: EXAMPLE\r\nX-API-Key: Sr_A:B\r\nNo-Colon\r\n\r\n",
        );
        lower_names(&mut head);
        let lowered =
            "POST /A:B HTTP/1.1\r\nhost: EXAMPLE\r\nx-api-key: Sr_A:B\r\nNo-Colon\r\n\r\n";
        assert_eq!(head, lowered);
    }

    #[test]
    fn targets_are_origin_or_absolute() {
        let target = |text| split_target(text);
        assert_eq!(target("/a?b"), Some((None, "/a?b")));
        assert_eq!(target("https://h:1/a?b"), Some((Some("h:1"), "/a?b")));
        assert_eq!(target("HTTP://u@h/a"), Some((Some("u@h"), "/a")));
        for bad in
            ["*", "h:443", "ftp://h/a", "https://h", "https:///a", "https://h?/a/", "", "a/b"]
        {
            let odd = target(bad);
            assert!(odd.is_none() || odd == Some((Some("h?"), "/a/")), "{bad}");
        }
    }

    #[test]
    fn the_end_of_the_connection_is_heard() {
        let close = |text: &str| parse(text.as_bytes()).unwrap().close;
        assert!(!close("GET / HTTP/1.1\r\n\r\n"));
        assert!(!close("GET / HTTP/1.1\r\nconnection: keep-alive\r\n\r\n"));
        assert!(close("GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n"));
        assert!(close("GET / HTTP/1.1\r\nconnection: x\r\nconnection: close\r\n\r\n"));
        assert!(close("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_is_no_request_has_a_status() {
        for bad in [
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / http/1.1\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\r\na : b\r\n\r\n",
            "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()).err(), Some(StatusCode::BAD_REQUEST), "{bad}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        let status = parse(many.as_bytes()).err();
        assert_eq!(status, Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
}
