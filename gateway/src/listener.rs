//! Accepts connections, completes TLS, and ends them all when the process stops.
//!
//! Invariant: connections, strangers and handshakes are bounded; beyond the bound a connection is closed at once.
//! Invariant: TLS 1.3 and nothing older.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ServerConfig;
use strongroom_socket::OneSlice;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::connection::{Visitor, serve};
use crate::gateway::Gateway;
use crate::routes::pages;

/// How long a handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a peer may leave bytes unacknowledged, or its window closed.
const STALL_MILLISECONDS: u32 = 120_000;
/// How long calls under way may take when the process stops.
const DRAIN_WAIT: Duration = Duration::from_secs(5);

/// The public listener.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Certificate, versions, protocols.
    pub tls: Arc<ServerConfig>,
    /// Most connections at a time; a quarter of them may be strangers.
    pub max_connections: usize,
    /// Whom to tell of a vulnerability.
    pub security_contact: Option<String>,
}

impl Listener {
    /// Serves until `stop` turns true, then lets calls under way end.
    pub async fn serve(self, gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
        let pages = pages(Arc::clone(&gateway), self.security_contact);
        let places = Arc::new(Semaphore::new(self.max_connections));
        let strangers = Arc::new(Semaphore::new((self.max_connections / 4).max(1)));
        let acceptor = TlsAcceptor::from(self.tls);
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                _ = stop.changed() => break,
                accepted = self.socket.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors or a peer that is gone already: both pass.
                        tracing::warn!(%error, "accept");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let permits = Arc::clone(&places)
                .try_acquire_owned()
                .and_then(|place| Ok((place, Arc::clone(&strangers).try_acquire_owned()?)));
            let Ok((place, stranger)) = permits else {
                gateway.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let visitor = Visitor::new(stranger, peer.ip());
            let guest = Guest::new(place, &gateway);
            let inside = (Arc::clone(&gateway), pages.clone());
            let welcome = welcome(acceptor.clone(), stream, inside, visitor, stop.clone());
            tokio::spawn(async move {
                welcome.await;
                drop(guest);
            });
        }
        drop(self.socket);
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        drop(timeout(DRAIN_WAIT, places.acquire_many(all)).await);
    }
}

/// A connection's place, counted as long as it lives.
struct Guest {
    _place: OwnedSemaphorePermit,
    gateway: Arc<Gateway>,
}

impl Guest {
    fn new(place: OwnedSemaphorePermit, gateway: &Arc<Gateway>) -> Self {
        count(gateway).fetch_add(1, Ordering::Relaxed);
        Self { _place: place, gateway: Arc::clone(gateway) }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        count(&self.gateway).fetch_sub(1, Ordering::Relaxed);
    }
}

fn count(gateway: &Gateway) -> &AtomicU64 {
    &gateway.metrics.connections
}

async fn welcome(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    inside: (Arc<Gateway>, Router),
    visitor: Arc<Visitor>,
    stop: watch::Receiver<bool>,
) {
    drop(stream.set_nodelay(true));
    let _ = setsockopt(&stream, sockopt::TcpUserTimeout, &STALL_MILLISECONDS);
    if let Ok(Ok(stream)) = timeout(HANDSHAKE_WAIT, acceptor.accept(OneSlice(stream))).await {
        serve(stream, inside, visitor, stop).await;
    }
}
