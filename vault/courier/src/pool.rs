//! Idle connections to providers, the last one used first.
//!
//! Invariant: a connection serves one credential at one destination for its life: whatever a provider's desync leaves in it
//! cannot reach another tenant. It knows what it was made for, and that is compared whole, not by a digest.
//! Invariant: a connection that ended, or speaks unasked, is dropped before a request is written to it.
//! Invariant: the number of idle connections is bounded, per key and in total, and so is their age.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use strongroom_policy::destination::Destination;
use strongroom_policy::id::CredentialId;
use tokio::io::{AsyncRead, ReadBuf, ReadHalf, WriteHalf};

use crate::tls::TlsStream;

/// Idle connections kept for one key: fewer than calls run at once would mean a handshake for each of the rest.
pub const MAX_IDLE_PER_KEY: usize = 256;
/// Idle connections kept in all: they are descriptors, and about 10 KiB of memory each.
pub const MAX_IDLE: usize = 1024;
/// Providers close idle connections after a minute or more; half of that never races them.
pub const IDLE_EXPIRY: Duration = Duration::from_secs(30);

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// Whose key goes over it.
    pub credential: CredentialId,
    /// Of that credential.
    pub version: u64,
    /// Host, port, TLS name, authorities and all else that is bound to the credential.
    pub destination: &'a Arc<Destination>,
}

/// A connection, its two directions, and what it was made for.
pub struct Connection {
    /// From the provider.
    pub reading: ReadHalf<TlsStream>,
    /// To the provider.
    pub writing: WriteHalf<TlsStream>,
    /// Never changes.
    pub made_for: Box<MadeFor>,
}

/// What a connection was made for, for good.
#[derive(Debug)]
pub struct MadeFor {
    credential: CredentialId,
    version: u64,
    destination: Arc<Destination>,
}

/// The idle connections.
#[derive(Default)]
pub struct Pool {
    shelves: Mutex<Shelves>,
}

#[derive(Default)]
struct Shelves {
    /// Per key, the longest idle first; no list is empty.
    by_key: HashMap<Key, Vec<Idle>>,
    total: usize,
}

/// Finds connections; each is compared with the whole purpose before it is taken.
type Key = (CredentialId, u64);

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Connection {
    /// Takes a new connection over.
    pub fn new(stream: TlsStream, purpose: &Purpose<'_>) -> Self {
        let (reading, writing) = tokio::io::split(stream);
        Self { reading, writing, made_for: Box::new(MadeFor::new(purpose)) }
    }
}

impl MadeFor {
    fn new(purpose: &Purpose<'_>) -> Self {
        let Purpose { credential, version, destination } = *purpose;
        Self { credential, version, destination: Arc::clone(destination) }
    }

    fn serves(&self, purpose: &Purpose<'_>) -> bool {
        let Purpose { credential, version, destination } = purpose;
        self.credential == *credential
            && self.version == *version
            // Mostly the same allocation, which `Arc` looks for first.
            && self.destination == **destination
    }

    fn key(&self) -> Key {
        (self.credential, self.version)
    }
}

impl Pool {
    /// The live connection that was used last for this purpose.
    pub fn take(&self, purpose: &Purpose<'_>, now: Instant) -> Option<Connection> {
        loop {
            // The lock is not held while the connection is looked at, which is a system call.
            let mut idle = self.lock().pop((purpose.credential, purpose.version))?;
            // A credential's destination is frozen with its version: a connection to another one is of no use to anyone.
            if now.saturating_duration_since(idle.since) < IDLE_EXPIRY
                && idle.connection.made_for.serves(purpose)
                && is_quiet(&mut idle.connection.reading)
            {
                return Some(idle.connection);
            }
        }
    }

    /// Keeps a connection whose last answer ended cleanly, with nothing after it. Over a bound the longest idle one goes.
    pub fn put(&self, connection: Connection, now: Instant) {
        // Dropped after the lock: closing is a system call.
        let _displaced = self.lock().push(Idle { connection, since: now });
    }

    /// Drops what has been idle for too long; to be called every few seconds.
    pub fn sweep(&self, now: Instant) {
        let expired = self.lock().drain_expired(now);
        drop(expired);
    }

    /// How many connections are idle.
    pub fn len(&self) -> usize {
        self.lock().total
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    fn pop(&mut self, key: Key) -> Option<Idle> {
        let shelf = self.by_key.get_mut(&key)?;
        let idle = shelf.pop()?;
        if shelf.is_empty() {
            self.by_key.remove(&key);
        }
        self.total -= 1;
        Some(idle)
    }

    fn push(&mut self, idle: Idle) -> Option<Idle> {
        let key = idle.connection.made_for.key();
        let full_shelf = self.by_key.get(&key).is_some_and(|shelf| shelf.len() >= MAX_IDLE_PER_KEY);
        let displaced = if full_shelf {
            self.remove_oldest(key)
        } else if self.total >= MAX_IDLE {
            self.longest_idle_key().and_then(|oldest| self.remove_oldest(oldest))
        } else {
            None
        };
        self.by_key.entry(key).or_default().push(idle);
        self.total += 1;
        displaced
    }

    fn longest_idle_key(&self) -> Option<Key> {
        let first = |shelf: &Vec<Idle>| shelf.first().map(|idle| idle.since);
        self.by_key.iter().min_by_key(|(_, shelf)| first(shelf)).map(|(key, _)| *key)
    }

    fn remove_oldest(&mut self, key: Key) -> Option<Idle> {
        let shelf = self.by_key.get_mut(&key)?;
        let oldest = (!shelf.is_empty()).then(|| shelf.remove(0))?;
        if shelf.is_empty() {
            self.by_key.remove(&key);
        }
        self.total -= 1;
        Some(oldest)
    }

    fn drain_expired(&mut self, now: Instant) -> Vec<Idle> {
        let mut expired = Vec::new();
        self.by_key.retain(|_, shelf| {
            let kept = |idle: &Idle| now.saturating_duration_since(idle.since) < IDLE_EXPIRY;
            let live = shelf.iter().position(kept).unwrap_or(shelf.len());
            expired.extend(shelf.drain(..live));
            !shelf.is_empty()
        });
        self.total -= expired.len();
        expired
    }
}

/// Whether the peer has neither ended the connection nor said anything. TLS 1.3 tickets are taken in on the way.
fn is_quiet(reading: &mut ReadHalf<TlsStream>) -> bool {
    let mut byte = [0; 1];
    let mut unasked = ReadBuf::new(&mut byte);
    let looked = Pin::new(reading).poll_read(&mut Context::from_waker(Waker::noop()), &mut unasked);
    matches!(looked, Poll::Pending)
}

#[cfg(test)]
mod tests {
    use rustls::version::TLS13;
    use strongroom_policy::destination::{Injection, Reach};
    use strongroom_policy::name::HostName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::tls::Tls;
    use crate::tls::tests::{Server, ServerStream};

    fn destination() -> Arc<Destination> {
        Arc::new(Destination {
            host: HostName::parse("api.example.com").unwrap(),
            port: 443,
            tls_name: HostName::parse("api.example.com").unwrap(),
            extra_authorities: Vec::new(),
            reach: Reach::Public,
            base_path: String::new(),
            injection: Injection::Bearer,
            fixed_headers: Vec::new(),
        })
    }

    fn purpose(destination: &Arc<Destination>, credential: u8) -> Purpose<'_> {
        let credential = CredentialId::from_random([credential; 16]);
        Purpose { credential, version: 1, destination }
    }

    async fn pair(server: &Server, tls: &Tls) -> (TlsStream, ServerStream) {
        let (ours, theirs) = server.meet(tls, "provider.example", &server.authority).await;
        (ours.unwrap(), theirs.unwrap())
    }

    async fn hear(ours: &mut (impl AsyncRead + Unpin), theirs: &mut ServerStream, word: &[u8]) {
        theirs.write_all(word).await.unwrap();
        theirs.flush().await.unwrap();
        let mut heard = vec![0; word.len()];
        ours.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, word);
    }

    #[test]
    fn another_part_of_a_destination_or_another_credential_is_another_purpose() {
        let plain = destination();
        let made_for = MadeFor::new(&purpose(&plain, 1));
        assert!(made_for.serves(&purpose(&destination(), 1)));
        assert!(!made_for.serves(&purpose(&plain, 2)));
        assert!(!made_for.serves(&Purpose { version: 2, ..purpose(&plain, 1) }));
        let changes: [fn(&mut Destination); 6] = [
            |to| to.host = HostName::parse("b.example.com").unwrap(),
            |to| to.port = 8443,
            |to| to.tls_name = HostName::parse("b.example.com").unwrap(),
            |to| to.extra_authorities = vec![b"ca".to_vec()],
            |to| to.reach = Reach::Private,
            |to| to.base_path = "/base".to_owned(),
        ];
        for (which, change) in changes.iter().enumerate() {
            let mut changed = destination();
            change(Arc::make_mut(&mut changed));
            assert!(!made_for.serves(&purpose(&changed, 1)), "{which}");
        }
    }

    #[tokio::test]
    async fn the_last_used_connection_comes_first_and_only_for_its_purpose() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let to = destination();
        let (one, two) = (purpose(&to, 1), purpose(&to, 2));
        let now = Instant::now();
        let ((first, _first_peer), (second, mut second_peer)) =
            (pair(&server, &tls).await, pair(&server, &tls).await);
        pool.put(Connection::new(first, &one), now);
        pool.put(Connection::new(second, &one), now);
        assert!(pool.take(&two, now).is_none());
        let mut taken = pool.take(&one, now).unwrap();
        hear(&mut taken.reading, &mut second_peer, b"still the second").await;
        assert_eq!(pool.len(), 1);
        let mut elsewhere = destination();
        Arc::make_mut(&mut elsewhere).port = 8443;
        assert!(pool.take(&Purpose { destination: &elsewhere, ..one }, now).is_none());
        assert!(pool.is_empty(), "nobody else could use it");
    }

    #[tokio::test]
    async fn a_connection_that_ended_or_speaks_unasked_is_not_reused() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let to = destination();
        let now = Instant::now();
        for unasked in [&b"HTTP/1.1 200 OK\r\n"[..], b""] {
            let (mut ours, mut theirs) = pair(&server, &tls).await;
            hear(&mut ours, &mut theirs, b"hello").await;
            theirs.write_all(unasked).await.unwrap();
            theirs.flush().await.unwrap();
            if unasked.is_empty() {
                theirs.shutdown().await.unwrap();
            }
            ours.get_ref().0.0.readable().await.unwrap();
            pool.put(Connection::new(ours, &purpose(&to, 1)), now);
            assert!(pool.take(&purpose(&to, 1), now).is_none(), "{unasked:?}");
            assert!(pool.is_empty());
        }
    }

    #[tokio::test]
    async fn idle_connections_expire_and_are_swept() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let to = destination();
        let now = Instant::now();
        let (old, _old_peer) = pair(&server, &tls).await;
        let (young, _young_peer) = pair(&server, &tls).await;
        pool.put(Connection::new(old, &purpose(&to, 1)), now);
        pool.put(Connection::new(young, &purpose(&to, 1)), now + IDLE_EXPIRY / 2);
        pool.sweep(now + IDLE_EXPIRY);
        assert_eq!(pool.len(), 1);
        assert!(pool.take(&purpose(&to, 1), now + IDLE_EXPIRY * 2).is_none());
        assert!(pool.is_empty());
    }

    #[tokio::test]
    async fn one_keys_shelf_is_bounded_and_the_longest_idle_goes() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let to = destination();
        let now = Instant::now();
        let mut peers = Vec::new();
        for _ in 0..=MAX_IDLE_PER_KEY {
            let (ours, theirs) = pair(&server, &tls).await;
            pool.put(Connection::new(ours, &purpose(&to, 1)), now);
            peers.push(theirs);
        }
        assert_eq!(pool.len(), MAX_IDLE_PER_KEY);
        // The first was closed by us; the second is still there.
        assert!(peers[0].read(&mut [0; 1]).await.map_or(true, |read| read == 0));
    }
}
