//! An answer before it is put on the wire: a status, headers, and a body whole or in pieces.
//!
//! Invariant: framing headers are not in `headers`; `script` alone adds them.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// What an API answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The reason phrase, if it is not to be empty.
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
    /// How long to wait before the first byte.
    pub(crate) first: Duration,
    /// How long to wait between pieces.
    pub(crate) between: Duration,
}

/// How the body is sent.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// With a content-length.
    Whole(Bytes),
    /// Chunked, each piece written and flushed for itself.
    Pieces(Vec<Bytes>),
    /// Chunked, everything in one write.
    Burst(Vec<Bytes>),
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            reason: reason(status).to_owned(),
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: Body::Whole(body.into()),
            first: Duration::ZERO,
            between: Duration::ZERO,
        }
    }

    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    /// JSON in lines and indents, as OpenAI and Google send it.
    pub(crate) fn pretty(status: u16, content_type: &str, value: &Value) -> Self {
        Self::new(status, content_type, format!("{value:#}\n"))
    }

    pub(crate) fn events(content_type: &str, events: Vec<Bytes>) -> Self {
        let mut reply = Self::new(200, content_type, Bytes::new());
        reply.body = Body::Pieces(events);
        reply.with("cache-control", "no-cache")
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The body as one run of bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.body {
            Body::Whole(bytes) => bytes.clone(),
            Body::Pieces(pieces) | Body::Burst(pieces) => pieces.concat().into(),
        }
    }
}

/// A server-sent event without a name.
pub(crate) fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

/// A server-sent event with a name.
pub(crate) fn event(name: &str, value: &Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {value}\n\n"))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        529 => "Overloaded",
        _ => "",
    }
}
