//! The provider's answer on its way to the caller.
//!
//! Invariant: an answer that broke off never ends cleanly: the caller's connection or stream is reset.
//! Invariant: what is ready goes out as one piece; nothing waits for more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::AnswerHead;
use tokio::time::{Sleep, sleep};

use crate::exchange::{Ending, Exchange};
use crate::wording::{Stream, event};

/// Headers that belong to one connection (RFC 9110, 7.6.1), or are written here.
const NOT_CARRIED: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::TE,
    header::UPGRADE,
    header::SET_COOKIE,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
];

/// Headers that only we say.
const OURS: &str = "x-strongroom-";

/// Turns an answer's head and the exchange that brings its body into an HTTP answer.
///
/// # Errors
/// [`Refusal::ProviderBroken`] for a status that no final answer has.
pub(crate) fn respond(
    head: AnswerHead,
    exchange: Exchange,
    call: CallId,
    told: Told,
) -> Result<Response, Refusal> {
    let status = StatusCode::from_u16(head.status).map_err(|_| Refusal::ProviderBroken)?;
    if status.is_informational() {
        return Err(Refusal::ProviderBroken);
    }
    let headers = headers(head.headers, head.length, call);
    let events = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let body = AnswerBody {
        exchange,
        left: head.length,
        ended: None,
        events: events.then_some(Events { told: told.clone(), tail: *b"\n\n" }),
        passed: told.passed,
        pause: None,
    };
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if events {
        // Proxies in front of us must not gather a stream.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    Ok(response)
}

/// What the end of a stream needs to be told.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) dialect: Dialect,
    pub(crate) stream: Stream,
    /// Counts the bytes that passed.
    pub(crate) passed: Arc<AtomicU64>,
}

fn headers(list: Vec<(String, String)>, length: Option<u64>, call: CallId) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(list.len() + 4);
    for (name, value) in list {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_maybe_shared(Bytes::from(value));
        if let (Ok(name), Ok(value)) = (name, value)
            && !NOT_CARRIED.contains(&name)
            && !name.as_str().starts_with(OURS)
        {
            headers.append(name, value);
        }
    }
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(call) = HeaderValue::from_maybe_shared(Bytes::from(call.to_string())) {
        headers.insert("x-strongroom-call", call);
    }
    headers
}

/// The body of an answer.
struct AnswerBody {
    exchange: Exchange,
    /// What is still to come, when the length was said.
    left: Option<u64>,
    ended: Option<Ending>,
    /// Of a stream of events, until its last words.
    events: Option<Events>,
    passed: Arc<AtomicU64>,
    /// Before the body fails.
    pause: Option<Pin<Box<Sleep>>>,
}

/// A failing body makes the HTTP layer throw away what it has not written yet: the head, the last event.
const BREAK_PAUSE: Duration = Duration::from_millis(50);

struct Events {
    told: Told,
    /// The last two bytes: an event of ours may only stand between two of the provider's.
    tail: [u8; 2],
}

/// The answer ended before its end. The reason was told, or cannot be.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0:?}")]
pub(crate) struct BrokeOff(Refusal);

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        if self.ended.is_none() {
            let (data, ended) = std::task::ready!(self.exchange.poll_body(cx));
            self.ended = ended;
            if !data.is_empty() {
                self.count(&data);
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        let Some(Ending::Broken(refusal)) = self.ended else { return Poll::Ready(None) };
        if let Some(event) = self.last_words(refusal) {
            return Poll::Ready(Some(Ok(Frame::data(event))));
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(BREAK_PAUSE)));
        std::task::ready!(pause.as_mut().poll(cx));
        Poll::Ready(Some(Err(BrokeOff(refusal))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended == Some(Ending::Complete)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

impl AnswerBody {
    fn count(&mut self, data: &Bytes) {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.passed.fetch_add(length, Ordering::Relaxed);
        self.left = self.left.map(|left| left.saturating_sub(length));
        if let Some(events) = &mut self.events {
            for byte in data.get(data.len().saturating_sub(2)..).unwrap_or_default() {
                events.tail = [events.tail[1], *byte];
            }
        }
    }

    /// Once, and only between two events: half an event and ours would make a third that nobody sent.
    fn last_words(&mut self, refusal: Refusal) -> Option<Bytes> {
        let Events { told, tail } = self.events.take()?;
        let between = matches!(&tail, b"\n\n" | b"\r\r");
        (between && self.left.is_none()).then(|| event(told.dialect, told.stream, refusal))
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // The HTTP layer stops asking once all announced bytes are there.
        if self.left == Some(0) {
            self.exchange.let_end();
        }
    }
}
