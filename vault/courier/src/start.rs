//! The steps of the courier's start and end.
//!
//! Invariant: every file is read and every Unix socket made before confinement.

use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use strongroom_sys::inherited::take_unix_stream;
use strongroom_sys::socket_directory::SocketDirectory;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Arguments;
use crate::errands::{Link, LinkLost};
use crate::lanes;
use crate::relay::Courier;
use crate::resolve::Resolver;
use crate::tls::Tls;

/// What was opened before confinement.
pub struct Opened {
    lanes: UnixListener,
    keeper: UnixStream,
    ready: Option<UnixStream>,
    courier: Arc<Courier>,
    link: Arc<Link>,
    gateway_uid: u32,
}

/// How the process ended.
#[derive(Debug)]
pub enum Ended {
    /// As it was told.
    Stopped,
    /// Start it again.
    KeeperLost(LinkLost),
}

/// Reads resolver and roots, makes `call.sock`, connects to the keeper.
///
/// # Errors
/// The first thing that cannot be had.
pub fn open(arguments: &Arguments) -> anyhow::Result<Opened> {
    // Each call holds a lane and a provider's connection; the usual soft limit is 1024.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let ready = arguments.ready_fd.map(take_unix_stream).transpose()?;
    let resolver = Resolver::load(&arguments.dns, arguments.hosts.clone()).context("DNS")?;
    let mut roots = Vec::new();
    for file in &arguments.extra_roots {
        let read =
            CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.with_context(|| format!("read {}", file.display()))?;
        anyhow::ensure!(!read.is_empty(), "{} holds no certificate", file.display());
        roots.extend(read);
    }
    let tls = Tls::trusting(&roots)?;
    let lanes = bind(&arguments.call, arguments.gateway_gid)?;
    let keeper = UnixStream::connect(&arguments.errand)
        .with_context(|| format!("connect to {}", arguments.errand.display()))?;
    let link = Link::new();
    let courier = Courier::new(Arc::clone(&link), tls, resolver);
    Ok(Opened { lanes, keeper, ready, courier, link, gateway_uid: arguments.gateway_uid })
}

/// Serves until a signal or the keeper's end.
///
/// # Errors
/// When the runtime takes no socket or signal.
pub async fn serve(opened: Opened) -> anyhow::Result<Ended> {
    let Opened { lanes, keeper, ready, courier, link, gateway_uid } = opened;
    lanes.set_nonblocking(true)?;
    let keeper = strongroom_socket::split(keeper)?;
    let lanes = tokio::net::UnixListener::from_std(lanes)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(lanes::serve(Arc::clone(&courier), lanes, gateway_uid));
    tokio::spawn(Arc::clone(&courier).sweep());
    let mut attended = tokio::spawn(courier.attend(keeper));
    if let Some(mut ready) = ready {
        ready.write_all(b"1").context("tell that the courier is ready")?;
    }
    tracing::info!("serving");
    let ended = tokio::select! {
        lost = &mut attended => Ended::KeeperLost(lost?),
        _ = terminate.recv() => Ended::Stopped,
        _ = interrupt.recv() => Ended::Stopped,
    };
    link.stop_all();
    // Calls tell their lanes that they were aborted, and the keeper how they ended.
    drop(tokio::time::timeout(FAREWELL, link.quiet()).await);
    tokio::time::sleep(LAST_WRITES).await;
    Ok(ended)
}

/// Workers: half of the processors, since gateway and keeper share the machine.
pub fn workers(arguments: &Arguments) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    arguments.threads.unwrap_or_else(|| (processors() / 2).max(1))
}

fn bind(path: &Path, gateway_gid: u32) -> anyhow::Result<UnixListener> {
    let name = path.file_name().and_then(|name| name.to_str()).context("--call names no socket")?;
    let parent = path.parent().context("--call names no directory")?;
    let directory = SocketDirectory::make(parent, Some(gateway_gid.into()))?;
    Ok(directory.bind_in(name)?)
}

/// How long calls may take to say that they were stopped.
const FAREWELL: Duration = Duration::from_millis(500);
/// For what is on its way out of other tasks.
const LAST_WRITES: Duration = Duration::from_millis(20);
