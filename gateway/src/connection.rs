//! One TLS connection: its HTTP version, its limits, its end.
//!
//! Invariant: strangers (connections on which the keeper has admitted nobody) are few and short-lived, and never take
//! the place of a connection that has called.
//! Invariant: until then few requests are under way on one connection, and none waits without room for what it holds.
//! Distrusts: the peer, in every byte and in its pace.

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use strongroom_policy::refusal::Refusal;
use strongroom_socket::OneSlice;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError, watch};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use crate::budget::{BodyBudget, Share};
use crate::gateway::Gateway;
use crate::{http1, http2};

/// The bytes of a connection, decrypted.
pub(crate) type Stream = TlsStream<OneSlice<TcpStream>>;

/// From the handshake to the first request's head; and how long a stranger is listened to.
pub(crate) const FIRST_HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a connection rests between requests.
pub(crate) const IDLE_WAIT: Duration = Duration::from_secs(75);
/// Longest wait for an answer's head, with a body of any size before it: against a courier that hangs.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_hours(2);
/// Most header lines, of either version.
pub(crate) const MAX_HEADERS: usize = 100;
/// Requests under way on one HTTP/2 connection before the keeper has identified a caller on it.
const STRANGER_REQUESTS: usize = 16;
/// How long one request more waits: a known caller's first burst needs one answer of the keeper.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// Whoever is at the other end, as the calls see it.
pub(crate) struct Visitor {
    /// Its address.
    pub(crate) address: IpAddr,
    /// What its bodies may hold.
    pub(crate) share: Share,
    /// How many requests have come.
    pub(crate) requests: AtomicU64,
    /// For requests of a stranger; closed once the keeper has identified a caller here.
    places: Semaphore,
    stranger: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Visitor {
    pub(crate) fn new(stranger: OwnedSemaphorePermit, address: IpAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
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

    /// Whether the keeper has identified nobody here yet.
    pub(crate) fn is_stranger(&self) -> bool {
        !self.places.is_closed()
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
        let ahead = ahead.min(http2::STREAM_WINDOW_BYTES.into());
        let _room = bodies.for_stranger(ahead).ok_or(Refusal::Busy)?;
        match timeout(PLACE_WAIT, self.places.acquire()).await {
            Ok(place) => Ok(place.ok()),
            Err(_) => Err(Refusal::Busy),
        }
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    stream: Stream,
    inside: (Arc<Gateway>, Router),
    visitor: Arc<Visitor>,
    stop: watch::Receiver<bool>,
) {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, inside, visitor, stop).await;
    } else {
        http1::serve(stream, inside, &visitor, stop).await;
    }
}
