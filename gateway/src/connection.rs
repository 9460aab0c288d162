//! One TLS connection: its HTTP version, its limits, its end.
//!
//! Invariant: strangers (connections on which the keeper has admitted nobody) are few and short-lived, and never take
//! the place of a connection that has called.
//! Invariant: until then few requests are under way on one connection, and none waits without room for what it holds.
//! Distrusts: the peer, in every byte and in its pace.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use strongroom_policy::refusal::Refusal;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError, watch};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::budget::{BodyBudget, Share};

/// From the handshake to the first request's head.
const FIRST_HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a connection rests between requests.
const IDLE_WAIT: Duration = Duration::from_secs(75);
/// Most header lines. The HTTP/1 parser counts them itself; HTTP/2 has no such bound of its own.
pub(crate) const MAX_HEADERS: usize = 100;
/// Largest HTTP/1 head; a connection has one.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Largest HTTP/2 head, unpacked (RFC 9113, 6.5.2): one byte on the wire can name a whole field.
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// HTTP/1 reads bodies through this buffer.
const BUFFER_BYTES: usize = 256 * 1024;
/// Requests under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Of these, before the keeper has identified a caller on it.
const STRANGER_REQUESTS: usize = 16;
/// How long one request more waits: a known caller's first burst needs one answer of the keeper.
const PLACE_WAIT: Duration = Duration::from_secs(1);
/// A peer that resets streams faster than they are accepted (CVE-2023-44487) or provokes resets (CVE-2025-8671).
const MAX_RESETS: usize = 64;
/// What one HTTP/2 stream may send ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// What one HTTP/2 connection may send ahead of its readers.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Whoever is at the other end, as the calls see it.
pub(crate) struct Visitor {
    /// What its bodies may hold.
    pub(crate) share: Share,
    requests: AtomicU64,
    /// For requests of a stranger; closed once the keeper has identified a caller here.
    places: Semaphore,
    stranger: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Visitor {
    pub(crate) fn new(stranger: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self {
            share: BodyBudget::share(),
            requests: AtomicU64::new(0),
            places: Semaphore::new(STRANGER_REQUESTS),
            stranger: Mutex::new(Some(stranger)),
        })
    }

    /// The keeper has identified a caller here: the stranger's place is free for the next one.
    pub(crate) fn is_known(&self) {
        if !self.places.is_closed() {
            self.places.close();
            *self.stranger.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// A stranger's request takes a place, before anything of it is waited for; a known caller's needs none.
    /// `ahead` is what its body may send until it is read.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when too many are under way.
    pub(crate) async fn place(
        &self,
        bodies: &BodyBudget,
        ahead: u64,
    ) -> Result<Option<SemaphorePermit<'_>>, Refusal> {
        match self.places.try_acquire() {
            Ok(place) => return Ok(Some(place)),
            Err(TryAcquireError::Closed) => return Ok(None),
            Err(TryAcquireError::NoPermits) => {}
        }
        let ahead = ahead.min(STREAM_WINDOW_BYTES.into());
        let _room = bodies.for_stranger(ahead).ok_or(Refusal::Busy)?;
        match timeout(PLACE_WAIT, self.places.acquire()).await {
            Ok(place) => Ok(place.ok()),
            Err(_) => Err(Refusal::Busy),
        }
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Hands requests to the router, each with its visitor.
#[derive(Clone)]
struct Door {
    router: Router,
    visitor: Arc<Visitor>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl Service<http::Request<Incoming>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: http::Request<Incoming>) -> Answering {
        self.visitor.requests.fetch_add(1, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.visitor));
        Box::pin(tower::Service::call(&mut self.router.clone(), request))
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    stream: TlsStream<TcpStream>,
    router: Router,
    visitor: Arc<Visitor>,
    stop: watch::Receiver<bool>,
) {
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let door = Door { router, visitor: Arc::clone(&visitor) };
    let stream = TokioIo::new(stream);
    if h2 {
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
        let connection = builder.serve_connection(stream, door);
        attend(connection, http2::Connection::graceful_shutdown, &visitor, stop).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .half_close(false)
            .header_read_timeout(IDLE_WAIT)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(BUFFER_BYTES);
        let connection = builder.serve_connection(stream, door);
        attend(connection, http1::Connection::graceful_shutdown, &visitor, stop).await;
    }
}

/// Drives a connection; asks it to end when it rests too long or the process stops.
async fn attend<C, T, E>(
    connection: C,
    end: impl Fn(Pin<&mut C>),
    visitor: &Visitor,
    mut stop: watch::Receiver<bool>,
) where
    C: Future<Output = Result<T, E>>,
{
    let mut connection = std::pin::pin!(connection);
    let first = tokio::time::sleep(FIRST_HEAD_WAIT);
    let mut rest = std::pin::pin!(first);
    let mut seen = 0;
    let mut ending = *stop.borrow();
    if ending {
        end(connection.as_mut());
    }
    loop {
        tokio::select! {
            biased;
            _ = &mut connection => return,
            () = &mut rest, if !ending => {
                let requests = visitor.requests();
                if requests == 0 {
                    return;
                }
                // A stranger, or no new request since the last look: what is under way still ends in peace.
                ending = requests == seen || !visitor.places.is_closed();
                seen = requests;
                rest.set(tokio::time::sleep(IDLE_WAIT));
            }
            _ = stop.changed(), if !ending => ending = true,
        }
        if ending {
            end(connection.as_mut());
        }
    }
}
