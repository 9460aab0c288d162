//! Idle connections to providers, the last one used first.
//!
//! Invariant: a connection serves one credential at one destination for its life: whatever a provider's desync leaves in it
//! cannot reach another tenant.
//! Invariant: a connection that ended, or speaks unasked, is dropped before a request is written to it.
//! Invariant: the number of idle connections is bounded, per key and in total, and so is their age.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use strongroom_policy::destination::Destination;
use tokio::io::{AsyncRead, ReadBuf};

use crate::tls::{TlsStream, digest_authorities};

/// Idle connections kept for one key: fewer than calls run at once would mean a handshake for each of the rest.
pub const MAX_IDLE_PER_KEY: usize = 256;
/// Idle connections kept in all: they are descriptors, and about 10 KiB of memory each.
pub const MAX_IDLE: usize = 1024;
/// Providers close idle connections after a minute or more; half of that never races them.
pub const IDLE_EXPIRY: Duration = Duration::from_secs(30);

/// What a connection was made for: destination, TLS name, authorities, credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolKey([u8; 32]);

/// The idle connections.
#[derive(Default)]
pub struct Pool {
    shelves: Mutex<Shelves>,
}

#[derive(Default)]
struct Shelves {
    /// Per key, the longest idle first; no list is empty.
    by_key: HashMap<PoolKey, Vec<Idle>>,
    total: usize,
}

struct Idle {
    stream: TlsStream,
    since: Instant,
}

impl PoolKey {
    /// Derives the key of a connection that `credential` uses at `destination`.
    pub fn derive(destination: &Destination, credential: &[u8]) -> Self {
        let mut digest = Sha256::new();
        let host: &str = destination.host.as_ref();
        let tls_name: &str = destination.tls_name.as_ref();
        for part in
            [host.as_bytes(), &destination.port.to_be_bytes(), tls_name.as_bytes(), credential]
        {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        if !destination.extra_authorities.is_empty() {
            digest.update(digest_authorities(&destination.extra_authorities));
        }
        Self(digest.finalize().into())
    }
}

impl Pool {
    /// The live connection that was used last for `key`.
    pub fn take(&self, key: &PoolKey, now: Instant) -> Option<TlsStream> {
        loop {
            // The lock is not held while the connection is looked at, which is a system call.
            let mut idle = self.lock().pop(key)?;
            if now.saturating_duration_since(idle.since) < IDLE_EXPIRY && is_quiet(&mut idle.stream)
            {
                return Some(idle.stream);
            }
        }
    }

    /// Keeps a connection whose last answer ended cleanly, with nothing after it. Over a bound the longest idle one goes.
    pub fn put(&self, key: PoolKey, stream: TlsStream, now: Instant) {
        // Dropped after the lock: closing is a system call.
        let _displaced = self.lock().push(key, Idle { stream, since: now });
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
    fn pop(&mut self, key: &PoolKey) -> Option<Idle> {
        let shelf = self.by_key.get_mut(key)?;
        let idle = shelf.pop()?;
        if shelf.is_empty() {
            self.by_key.remove(key);
        }
        self.total -= 1;
        Some(idle)
    }

    fn push(&mut self, key: PoolKey, idle: Idle) -> Option<Idle> {
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

    fn longest_idle_key(&self) -> Option<PoolKey> {
        let first = |shelf: &Vec<Idle>| shelf.first().map(|idle| idle.since);
        self.by_key.iter().min_by_key(|(_, shelf)| first(shelf)).map(|(key, _)| *key)
    }

    fn remove_oldest(&mut self, key: PoolKey) -> Option<Idle> {
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
fn is_quiet(stream: &mut TlsStream) -> bool {
    let mut byte = [0; 1];
    let mut unasked = ReadBuf::new(&mut byte);
    let looked = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut unasked);
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

    fn destination() -> Destination {
        Destination {
            host: HostName::parse("api.example.com").unwrap(),
            port: 443,
            tls_name: HostName::parse("api.example.com").unwrap(),
            extra_authorities: Vec::new(),
            reach: Reach::Public,
            base_path: String::new(),
            injection: Injection::Bearer,
            fixed_headers: Vec::new(),
        }
    }

    async fn pair(server: &Server, tls: &Tls) -> (TlsStream, ServerStream) {
        let (ours, theirs) = server.meet(tls, "provider.example", &server.authority).await;
        (ours.unwrap(), theirs.unwrap())
    }

    async fn hear(ours: &mut TlsStream, theirs: &mut ServerStream, word: &[u8]) {
        theirs.write_all(word).await.unwrap();
        theirs.flush().await.unwrap();
        let mut heard = vec![0; word.len()];
        ours.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, word);
    }

    #[test]
    fn every_part_of_a_destination_and_the_credential_make_another_key() {
        let plain = destination();
        let other = |change: fn(&mut Destination)| {
            let mut changed = destination();
            change(&mut changed);
            PoolKey::derive(&changed, b"one")
        };
        let keys = [
            PoolKey::derive(&plain, b"one"),
            PoolKey::derive(&plain, b"two"),
            other(|to| to.host = HostName::parse("b.example.com").unwrap()),
            other(|to| to.port = 8443),
            other(|to| to.tls_name = HostName::parse("b.example.com").unwrap()),
            other(|to| to.extra_authorities = vec![b"ca".to_vec()]),
            other(|to| to.extra_authorities = vec![b"c".to_vec(), b"a".to_vec()]),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(PoolKey::derive(&plain, b"one"), keys[0]);
    }

    #[tokio::test]
    async fn the_last_used_connection_comes_first_and_only_for_its_key() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let (key, other) =
            (PoolKey::derive(&destination(), b"one"), PoolKey::derive(&destination(), b"two"));
        let now = Instant::now();
        let ((first, _first_peer), (second, mut second_peer)) =
            (pair(&server, &tls).await, pair(&server, &tls).await);
        pool.put(key, first, now);
        pool.put(key, second, now);
        assert!(pool.take(&other, now).is_none());
        let mut taken = pool.take(&key, now).unwrap();
        hear(&mut taken, &mut second_peer, b"still the second").await;
        assert_eq!(pool.len(), 1);
    }

    #[tokio::test]
    async fn a_connection_that_ended_or_speaks_unasked_is_not_reused() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let key = PoolKey::derive(&destination(), b"one");
        let now = Instant::now();
        for unasked in [&b"HTTP/1.1 200 OK\r\n"[..], b""] {
            let (mut ours, mut theirs) = pair(&server, &tls).await;
            hear(&mut ours, &mut theirs, b"hello").await;
            theirs.write_all(unasked).await.unwrap();
            theirs.flush().await.unwrap();
            if unasked.is_empty() {
                theirs.shutdown().await.unwrap();
            }
            ours.get_ref().0.readable().await.unwrap();
            pool.put(key, ours, now);
            assert!(pool.take(&key, now).is_none(), "{unasked:?}");
            assert!(pool.is_empty());
        }
    }

    #[tokio::test]
    async fn idle_connections_expire_and_are_swept() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let key = PoolKey::derive(&destination(), b"one");
        let now = Instant::now();
        let (old, _old_peer) = pair(&server, &tls).await;
        let (young, _young_peer) = pair(&server, &tls).await;
        pool.put(key, old, now);
        pool.put(key, young, now + IDLE_EXPIRY / 2);
        pool.sweep(now + IDLE_EXPIRY);
        assert_eq!(pool.len(), 1);
        assert!(pool.take(&key, now + IDLE_EXPIRY * 2).is_none());
        assert!(pool.is_empty());
    }

    #[tokio::test]
    async fn one_keys_shelf_is_bounded_and_the_longest_idle_goes() {
        let (server, tls, pool) =
            (Server::start(&[], &[&TLS13]).await, Tls::new().unwrap(), Pool::default());
        let key = PoolKey::derive(&destination(), b"one");
        let now = Instant::now();
        let mut peers = Vec::new();
        for _ in 0..=MAX_IDLE_PER_KEY {
            let (ours, theirs) = pair(&server, &tls).await;
            pool.put(key, ours, now);
            peers.push(theirs);
        }
        assert_eq!(pool.len(), MAX_IDLE_PER_KEY);
        // The first was closed by us; the second is still there.
        assert!(peers[0].read(&mut [0; 1]).await.map_or(true, |read| read == 0));
    }
}
