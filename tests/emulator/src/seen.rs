//! What the emulator saw of each request, and how each ended.
//!
//! Invariant: at most `MAX_SEEN` requests are remembered, each with at most `MAX_SEEN_BODY_BYTES`
//! of its body; the counts go on.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::{Api, wire::Head};

const MAX_SEEN: usize = 4096;
const MAX_SEEN_BODY_BYTES: usize = 64 * 1024;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is still being read or answered.
    Open,
    /// The whole answer was written.
    Finished,
    /// The client left before its request or our answer was complete.
    Cancelled,
    /// The emulator broke off on purpose.
    Cut,
    /// The request was no HTTP that a careful server takes.
    Malformed,
}

/// One request, as it came.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Rises by one with each request.
    pub id: u64,
    /// Which connection carried it; reuse shows as a repeated number.
    pub connection: u64,
    /// The server name of the TLS handshake.
    pub sni: Option<String>,
    /// The API it was taken for.
    pub api: Option<Api>,
    /// The request method.
    pub method: String,
    /// The `host` header.
    pub host: String,
    /// The target up to the question mark, as it came.
    pub path: String,
    /// The target after the question mark, as it came.
    pub query: Option<String>,
    /// All headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Whether the key was one of the accepted ones.
    pub authorised: bool,
    /// How many body bytes arrived, without framing.
    pub body_bytes: usize,
    /// Their SHA-256, in hex.
    pub body_sha256: String,
    /// Whether the body arrived to its end.
    pub body_complete: bool,
    /// The body, if it is short enough and UTF-8.
    pub body: Option<String>,
    /// The body in base64, if it is short enough and not UTF-8.
    pub body_base64: Option<String>,
    /// What a careful proxy would not have sent: doubled headers, trailers, odd targets.
    pub oddities: Vec<String>,
    /// The status that was or would have been answered.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the client went away before the end.
    pub client_left: bool,
    /// When the head was read, in milliseconds since 1970.
    pub at_unix_ms: u128,
    /// How long it took, in milliseconds, once ended.
    pub lasted_ms: Option<u128>,
    #[serde(skip)]
    started: Instant,
}

impl Seen {
    /// The value of a header, if it came exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// Whether any header, the target or the kept body contains `text`.
    pub fn mentions(&self, text: &str) -> bool {
        self.path.contains(text)
            || self.query.as_deref().is_some_and(|query| query.contains(text))
            || self.headers.iter().any(|(_, value)| value.contains(text))
            || self.body.as_deref().is_some_and(|body| body.contains(text))
    }
}

/// How many requests came and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// TCP connections accepted.
    pub connections: u64,
    /// TLS handshakes that failed.
    pub failed_handshakes: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Requests not yet ended.
    pub open: u64,
    /// See [`Outcome::Finished`].
    pub finished: u64,
    /// See [`Outcome::Cancelled`].
    pub cancelled: u64,
    /// See [`Outcome::Cut`].
    pub cut: u64,
    /// See [`Outcome::Malformed`].
    pub malformed: u64,
}

/// The memory of all requests.
#[derive(Default)]
pub(crate) struct Log {
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    seen: VecDeque<Seen>,
    counts: Counts,
    next_id: u64,
}

impl Log {
    pub(crate) fn connected(&self) -> u64 {
        let mut kept = self.kept();
        kept.counts.connections += 1;
        kept.counts.connections
    }

    pub(crate) fn handshake_failed(&self) {
        self.kept().counts.failed_handshakes += 1;
        self.changed.notify_waiters();
    }

    pub(crate) fn began(&self, connection: u64, sni: Option<String>, head: &Head) -> u64 {
        let (path, query) = match head.target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (head.target.clone(), None),
        };
        let host = head.headers.iter().find(|(name, _)| name == "host");
        let host = host.map(|(_, value)| value.clone()).unwrap_or_default();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        let mut kept = self.kept();
        let id = kept.next_id;
        kept.next_id += 1;
        kept.counts.requests += 1;
        kept.counts.open += 1;
        if kept.seen.len() == MAX_SEEN {
            kept.seen.pop_front();
        }
        kept.seen.push_back(Seen {
            id,
            connection,
            sni,
            api: None,
            method: head.method.clone(),
            host,
            path,
            query,
            headers: head.headers.clone(),
            authorised: false,
            body_bytes: 0,
            body_sha256: String::new(),
            body_complete: false,
            body: None,
            body_base64: None,
            oddities: head.oddities.clone(),
            status: None,
            outcome: Outcome::Open,
            client_left: false,
            at_unix_ms: at,
            lasted_ms: None,
            started: Instant::now(),
        });
        drop(kept);
        self.changed.notify_waiters();
        id
    }

    pub(crate) fn body_read(&self, id: u64, body: &[u8], complete: bool, oddities: Vec<String>) {
        let digest = hex::encode(Sha256::digest(body));
        self.edit(id, |seen| {
            seen.body_bytes = body.len();
            seen.body_sha256 = digest;
            seen.body_complete = complete;
            seen.oddities.extend(oddities);
            if body.len() <= MAX_SEEN_BODY_BYTES {
                match std::str::from_utf8(body) {
                    Ok(text) => seen.body = Some(text.to_owned()),
                    Err(_) => seen.body_base64 = Some(STANDARD.encode(body)),
                }
            }
        });
    }

    pub(crate) fn judged(&self, id: u64, api: Api, authorised: bool, status: u16) {
        self.edit(id, |seen| {
            seen.api = Some(api);
            seen.authorised = authorised;
            seen.status = Some(status);
        });
    }

    pub(crate) fn ended(&self, id: u64, outcome: Outcome) {
        {
            let mut kept = self.kept();
            kept.counts.open = kept.counts.open.saturating_sub(1);
            match outcome {
                Outcome::Open => {}
                Outcome::Finished => kept.counts.finished += 1,
                Outcome::Cancelled => kept.counts.cancelled += 1,
                Outcome::Cut => kept.counts.cut += 1,
                Outcome::Malformed => kept.counts.malformed += 1,
            }
        }
        self.edit(id, |seen| {
            seen.outcome = outcome;
            seen.client_left = outcome == Outcome::Cancelled;
            seen.lasted_ms = Some(seen.started.elapsed().as_millis());
        });
    }

    pub(crate) fn malformed(&self) {
        self.kept().counts.malformed += 1;
        self.changed.notify_waiters();
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.kept().seen.iter().cloned().collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.kept().counts
    }

    /// Forgets the requests and starts counting anew; those still open stay counted as open.
    pub(crate) fn clear(&self) {
        let mut kept = self.kept();
        kept.seen.clear();
        kept.counts = Counts {
            open: kept.counts.open,
            connections: kept.counts.connections,
            ..Counts::default()
        };
    }

    /// Waits until `enough` holds of what was seen; `None` if it never does.
    pub(crate) async fn until(
        &self,
        patience: Duration,
        enough: impl Fn(&[Seen], Counts) -> bool,
    ) -> Option<Vec<Seen>> {
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                // Registered before looking, so that a change in between is not missed.
                changed.as_mut().enable();
                let seen = self.all();
                if enough(&seen, self.counts()) {
                    return seen;
                }
                changed.await;
            }
        };
        tokio::time::timeout(patience, wait).await.ok()
    }

    fn edit(&self, id: u64, edit: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.kept().seen.iter_mut().rev().find(|seen| seen.id == id) {
            edit(seen);
        }
        self.changed.notify_waiters();
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics while holding the log")
    }
}
