//! What the process opens before it confines itself, and what it runs afterwards.
//!
//! Invariant: every file is read and every connection made in [`open`]; [`run`] opens nothing.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use strongroom_socket::split;
use strongroom_sys::inherited::{take_tcp_listener, take_unix_stream};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::gateway::{Broken, Gateway};
use crate::keeper_link::KeeperLink;
use crate::lanes::{Couriers, Lanes};
use crate::listener::Listener;
use crate::metrics;
use crate::settings::Settings;

/// Everything from outside that the process will ever hold, besides callers' connections.
pub struct Opened {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    ask: UnixStream,
    lanes: [Vec<UnixStream>; 2],
    metrics: Option<TcpListener>,
    ready: Option<UnixStream>,
    max_connections: usize,
    security_contact: Option<String>,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As it was told.
    Stopped,
    /// Start it again.
    Broken(Broken),
}

/// Descriptors for the runtime, the log and the listeners.
const OTHER_DESCRIPTORS: usize = 64;
/// How long the first snapshot may take.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(2);
/// How long answers that broke off may take to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Reads the certificate, takes the listeners, dials keeper and couriers.
///
/// # Errors
/// The first thing that cannot be had.
pub fn open(settings: &Settings) -> anyhow::Result<Opened> {
    // A lane without room to write holds a second descriptor (`vault/socket`).
    let inside = 2 * 2 * (settings.lanes + 1) + OTHER_DESCRIPTORS;
    let room = raise_descriptor_limit()?.saturating_sub(inside);
    anyhow::ensure!(room > 0, "the limit of open files leaves no room beside the lanes");
    let dial = |path: &Path| {
        UnixStream::connect(path).with_context(|| format!("connect to {}", path.display()))
    };
    let lanes = |path| (0..=settings.lanes).map(|_| dial(path)).collect::<Result<Vec<_>, _>>();
    let without = |error: anyhow::Error| {
        tracing::warn!("{error:#}: calls to operator-defined providers are refused");
        Vec::new()
    };
    if room < settings.max_connections {
        tracing::warn!(room, "the limit of open files lowers max-connections");
    }
    Ok(Opened {
        listener: take_tcp_listener(settings.listener_fd)?,
        tls: tls(&settings.cert, &settings.key)?,
        ask: dial(&settings.ask)?,
        lanes: [lanes(&settings.call)?, lanes(&settings.call_defined).unwrap_or_else(without)],
        metrics: settings.metrics_listener_fd.map(take_tcp_listener).transpose()?,
        ready: settings.ready_fd.map(take_unix_stream).transpose()?,
        max_connections: settings.max_connections.min(room),
        security_contact: settings.security_contact.clone(),
    })
}

/// TLS 1.3 alone, HTTP/2 before HTTP/1.1, no early data.
///
/// # Errors
/// When the files hold no certificate with its key.
pub fn tls(cert: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("read {}", cert.display()))?;
    let key =
        PrivateKeyDer::from_pem_file(key).with_context(|| format!("read {}", key.display()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Serves until a signal or a broken connection ends it.
///
/// # Errors
/// When a socket cannot be given to the runtime.
pub async fn run(opened: Opened) -> anyhow::Result<Ended> {
    let (broken, mut broke) = mpsc::channel(8);
    let mut keeper = KeeperLink::start(split(opened.ask)?, broken.clone());
    // The keeper sends the state of the vault at once; without it every call would hear "sealed".
    drop(timeout(SNAPSHOT_WAIT, keeper.changed()).await);
    let lanes = |streams: Vec<UnixStream>, broken| -> anyhow::Result<Lanes> {
        let streams = streams.into_iter().map(split).collect::<Result<_, _>>()?;
        Ok(Lanes::new(streams, broken))
    };
    let [built_in, operator] = opened.lanes;
    let couriers =
        Couriers { built_in: lanes(built_in, Some(broken))?, operator: lanes(operator, None)? };
    let gateway = Arc::new(Gateway::new(keeper, couriers));
    if let Some(listener) = opened.metrics {
        tokio::spawn(metrics::serve(socket(listener)?, Arc::clone(&gateway)));
    }
    let listener = Listener {
        socket: socket(opened.listener)?,
        tls: opened.tls,
        max_connections: opened.max_connections,
        security_contact: opened.security_contact,
    };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(listener.serve(gateway, stopped));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if let Some(ready) = opened.ready {
        stream(ready)?.write_all(b"ready\n").await?;
    }
    tracing::info!("serving");
    let ended = tokio::select! {
        Some(broken) = broke.recv() => Ended::Broken(broken),
        _ = terminate.recv() => Ended::Stopped,
        _ = interrupt.recv() => Ended::Stopped,
    };
    let _ = stop.send(true);
    match ended {
        Ended::Stopped => serving.await?,
        Ended::Broken(_) => {
            drop(timeout(FAREWELL, serving).await);
        }
    }
    Ok(ended)
}

/// Lanes and callers need more than the usual soft limit of 1024.
fn raise_descriptor_limit() -> anyhow::Result<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(usize::try_from(most).unwrap_or(usize::MAX))
}

fn stream(stream: UnixStream) -> std::io::Result<tokio::net::UnixStream> {
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

fn socket(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
