//! One HTTP/2 connection, served by hyper.
//!
//! Distrusts: the peer, in every byte and in its pace.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::answer::{HeadSink, ReplyBody};
use crate::api::Client;
use crate::call::{call, give_up};
use crate::connection::{ANSWER_WAIT, FIRST_HEAD_WAIT, IDLE_WAIT, Stream, Visitor};
use crate::gateway::Gateway;
use crate::incoming::{Incoming, Kept, Shelf};
use crate::place::Prefix;
use crate::request::RequestHead;
use crate::routes::prefix_of;

/// Largest head, unpacked (RFC 9113, 6.5.2): one byte on the wire can name a whole field.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Requests under way on one connection.
const MAX_STREAMS: u32 = 128;
/// A peer that resets streams faster than they are accepted (CVE-2023-44487) or provokes resets (CVE-2025-8671).
const MAX_RESETS: usize = 64;
/// What one stream may send ahead of its reader.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What one connection may send ahead of its readers.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Serves a connection to its end.
pub(crate) async fn serve(
    stream: Stream,
    (gateway, pages): (Arc<Gateway>, Router),
    visitor: Arc<Visitor>,
    stop: watch::Receiver<bool>,
) {
    let door = Door { gateway, pages, visitor: Arc::clone(&visitor) };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    attend(builder.serve_connection(TokioIo::new(stream), door), &visitor, stop).await;
}

/// Hands requests to where they belong.
#[derive(Clone)]
struct Door {
    gateway: Arc<Gateway>,
    pages: Router,
    visitor: Arc<Visitor>,
}

type Making = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service<Request<hyper::body::Incoming>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Making;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Making {
        self.visitor.requests.fetch_add(1, Ordering::Relaxed);
        let mut door = self.clone();
        Box::pin(async move {
            if let Some(prefix) = prefix_of(request.uri().path()) {
                return Ok(door.make(prefix, request).await);
            }
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Client(door.visitor.address));
            tower::Service::call(&mut door.pages, request).await
        })
    }
}

impl Door {
    async fn make(
        &self,
        prefix: Prefix,
        request: Request<hyper::body::Incoming>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let shelf = Shelf::default();
        let body = Incoming::Http2(Kept::new(body, &shelf));
        let head = RequestHead {
            method: parts.method.as_str(),
            target: parts.uri.path_and_query().map_or("/", |target| target.as_str()),
            authority: parts.uri.authority().map(http::uri::Authority::as_str),
            version: parts.version,
            lines: parts
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes()))
                .collect(),
        };
        let mut sink = MapSink::default();
        let here = (&*self.gateway, &*self.visitor);
        let making = call(here, prefix, &head, body, &mut sink);
        let reply = match timeout(ANSWER_WAIT, making).await {
            Ok(reply) => reply,
            Err(_) => give_up(&self.gateway, prefix, &mut sink),
        };
        match reply {
            // RFC 9110, 9.3.2; a body would be an error of ours (RFC 9113, 8.1.1).
            ReplyBody::Ours(_) if parts.method == Method::HEAD => sink.response(Body::empty()),
            ReplyBody::Ours(text) => {
                sink.response(Body::new(Answering { body: Body::from(text), shelf }))
            }
            ReplyBody::Provider(body) => {
                if let Some(length) = body.length() {
                    sink.0.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
                sink.response(Body::new(Answering { body: *body, shelf }))
            }
        }
    }
}

/// An answer's body, and its request's.
struct Answering<B> {
    body: B,
    shelf: Shelf,
}

impl<B> Drop for Answering<B> {
    fn drop(&mut self) {
        self.shelf.answered();
    }
}

impl<B: http_body::Body + Unpin> http_body::Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's head as hyper has it.
#[derive(Default)]
pub(crate) struct MapSink(Response<()>);

impl MapSink {
    /// Puts a body under the head.
    pub(crate) fn response<B>(self, body: B) -> Response<B> {
        self.0.map(|()| body)
    }
}

impl HeadSink for MapSink {
    fn begin(&mut self, status: StatusCode) {
        *self.0.status_mut() = status;
    }

    fn line(&mut self, name: &str, value: &[u8]) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            self.0.headers_mut().append(name, value);
        }
    }
}

type Connection = http2::Connection<TokioIo<Stream>, Door, TokioExecutor>;

/// Drives a connection; asks it to end when it rests too long or the process stops.
async fn attend(connection: Connection, visitor: &Visitor, mut stop: watch::Receiver<bool>) {
    let mut connection = std::pin::pin!(connection);
    let first = tokio::time::sleep(FIRST_HEAD_WAIT);
    let mut rest = std::pin::pin!(first);
    let mut seen = 0;
    let mut ending = *stop.borrow();
    if ending {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = &mut rest, if !ending => {
                let requests = visitor.requests.load(Ordering::Relaxed);
                if requests == 0 {
                    return;
                }
                // A stranger, or no new request since the last look: what is under way still ends in peace.
                ending = requests == seen || visitor.is_stranger();
                seen = requests;
                rest.set(tokio::time::sleep(IDLE_WAIT));
            }
            _ = stop.changed(), if !ending => ending = true,
        }
        if ending {
            connection.as_mut().graceful_shutdown();
        }
    }
}
