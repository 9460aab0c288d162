//! Counters in Prometheus' text form, on a local listener of their own.
//!
//! Invariant: labels come from closed sets and the keeper's list of providers, never from a request.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use strongroom_policy::name::ProviderName;
use strongroom_policy::provider::Origin;
use strongroom_policy::refusal::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::gateway::Gateway;
use crate::lanes::Lanes;

/// Most providers that are counted by name.
const MAX_PROVIDERS: usize = 64;
/// Largest question.
const MAX_REQUEST_BYTES: usize = 4096;
/// How long one may take.
const REQUEST_WAIT: Duration = Duration::from_secs(2);

/// What happened so far.
#[derive(Default)]
pub struct Metrics {
    providers: RwLock<Vec<Arc<Provider>>>,
    refusals: Refusals,
    /// Bytes of answers.
    pub(crate) answered_bytes: Arc<AtomicU64>,
    /// Bytes of request bodies that were read here.
    read_bytes: AtomicU64,
    asks: AtomicU64,
    ask_microseconds: AtomicU64,
    /// Connections now.
    pub(crate) connections: AtomicU64,
    /// Connections that were closed at once, for lack of room.
    pub(crate) turned_away: AtomicU64,
}

struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

struct Provider {
    name: ProviderName,
    /// By the first digit of the status, from 2.
    by_class: [AtomicU64; 4],
}

impl Metrics {
    /// Counts an answer of a provider.
    pub(crate) fn answered(&self, name: &ProviderName, status: u16) {
        let Some(provider) = self.provider(name) else { return };
        let class = usize::from(status / 100).saturating_sub(2).min(3);
        if let Some(count) = provider.by_class.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, refusal: Refusal) {
        let place = Refusal::ALL.iter().position(|known| *known == refusal);
        if let Some(count) = place.and_then(|place| self.refusals.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts bytes of a request body.
    pub(crate) fn read(&self, bytes: usize) {
        self.read_bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts one question to the keeper and how long it took.
    pub(crate) fn asked(&self, took: Duration) {
        self.asks.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.ask_microseconds.fetch_add(micros, Ordering::Relaxed);
    }

    fn provider(&self, name: &ProviderName) -> Option<Arc<Provider>> {
        let known = self.providers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = known.iter().find(|provider| provider.name == *name) {
            return Some(Arc::clone(provider));
        }
        drop(known);
        let mut known = self.providers.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_PROVIDERS || known.iter().any(|provider| provider.name == *name) {
            return None;
        }
        let provider = Arc::new(Provider { name: name.clone(), by_class: Default::default() });
        known.push(Arc::clone(&provider));
        Some(provider)
    }

    /// The whole page.
    pub fn page(&self, gateway: &Gateway) -> String {
        let mut page = String::with_capacity(4096);
        let plain = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        for (name, kind, value) in [
            ("strongroom_asks_under_way", "gauge", number(gateway.keeper.under_way())),
            ("strongroom_asks_total", "counter", plain(&self.asks)),
            ("strongroom_ask_microseconds_total", "counter", plain(&self.ask_microseconds)),
            ("strongroom_connections", "gauge", plain(&self.connections)),
            ("strongroom_connections_turned_away_total", "counter", plain(&self.turned_away)),
            ("strongroom_request_bytes_total", "counter", plain(&self.read_bytes)),
            ("strongroom_answer_bytes_total", "counter", plain(&self.answered_bytes)),
        ] {
            let _ = writeln!(page, "# TYPE {name} {kind}\n{name} {value}");
        }
        for (name, count) in [
            ("strongroom_lanes_idle", Lanes::idle as fn(&Lanes) -> usize),
            ("strongroom_lanes_alive", Lanes::alive),
        ] {
            let _ = writeln!(page, "# TYPE {name} gauge");
            for origin in Origin::ALL {
                let (of, count) = (origin.name(), count(gateway.couriers.of(origin)));
                let _ = writeln!(page, "{name}{{courier=\"{of}\"}} {count}");
            }
        }
        self.labelled(&mut page);
        page
    }

    fn labelled(&self, page: &mut String) {
        let _ = writeln!(page, "# TYPE strongroom_calls_total counter");
        let known = self.providers.read().unwrap_or_else(PoisonError::into_inner);
        for provider in known.iter() {
            for (class, count) in (2..).zip(&provider.by_class) {
                let (name, count) = (&provider.name, count.load(Ordering::Relaxed));
                let _ = writeln!(
                    page,
                    "strongroom_calls_total{{provider=\"{name}\",status=\"{class}xx\"}} {count}"
                );
            }
        }
        drop(known);
        let _ = writeln!(page, "# TYPE strongroom_refusals_total counter");
        for (refusal, count) in Refusal::ALL.iter().zip(&self.refusals.0) {
            let (code, count) = (refusal.code(), count.load(Ordering::Relaxed));
            if count > 0 {
                let _ = writeln!(page, "strongroom_refusals_total{{code=\"{code}\"}} {count}");
            }
        }
    }
}

/// Answers `GET /metrics`, one question at a time: there is one scraper.
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                drop(timeout(REQUEST_WAIT, answer(stream, &gateway)).await);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, gateway: &Gateway) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, page) = if request.starts_with(b"GET /metrics HTTP/1.") {
        ("200 OK", gateway.metrics.page(gateway))
    } else {
        ("404 Not Found", String::new())
    };
    let length = page.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{page}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
