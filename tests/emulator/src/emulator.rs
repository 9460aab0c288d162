//! A running emulator: two listeners and what they have seen.
//!
//! Invariant: dropping it ends every connection it serves.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Api, Counts, Keys, Options, Seen,
    certificates::Certificates,
    connection::{self, Connection},
    control,
    world::World,
};

/// A client that does not finish its handshake in this time is let go.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Connections served at once; a load test uses a few hundred.
const MAX_CONNECTIONS: usize = 16 * 1024;

/// A running emulator.
pub struct Emulator {
    address: SocketAddr,
    control: SocketAddr,
    ca_pem: Arc<str>,
    ca_path: PathBuf,
    world: Arc<World>,
    tasks: Vec<JoinHandle<()>>,
}

impl Emulator {
    /// Listens, writes `ca.pem` and `addr.json`, and serves on the current runtime.
    ///
    /// # Errors
    /// If an address is taken or not loopback, or the directory cannot be written.
    pub async fn start(options: Options) -> Result<Self> {
        let certificates = Certificates::open_or_make(&options.dir)?;
        let listener = listen(options.listen).await?;
        let controller = listen(options.control).await?;
        let (address, control) = (listener.local_addr()?, controller.local_addr()?);
        let mut keys = options.keys;
        if options.demo && keys.is_empty() {
            keys = Keys::demo();
        }
        let told = json!({"listen": address, "control": control, "ca": certificates.ca_path,
            "pid": std::process::id()});
        let file = options.dir.join("addr.json");
        fs::write(&file, format!("{told:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;

        let world = Arc::new(World::new(keys, options.demo, address.port()));
        let ca_pem: Arc<str> = certificates.ca_pem.into();
        let acceptor = TlsAcceptor::from(certificates.tls);
        let tasks = vec![
            tokio::spawn(accept(listener, acceptor, options.bench, Arc::clone(&world))),
            tokio::spawn(accept_control(controller, Arc::clone(&ca_pem), Arc::clone(&world))),
        ];
        Ok(Self { address, control, ca_pem, ca_path: certificates.ca_path, world, tasks })
    }

    /// Where the TLS side listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control side listens.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// The certificate authority to trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The file that holds it.
    pub fn ca_path(&self) -> &Path {
        &self.ca_path
    }

    /// The accepted keys.
    pub fn keys(&self) -> Keys {
        self.world.keys()
    }

    /// From now on `key` alone opens `api`, as after a rotation at the provider.
    pub fn replace_key(&self, api: Api, key: &str) {
        self.world.replace_key(api, key);
    }

    /// All requests that are remembered, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.world.log.all()
    }

    /// How many came and how they ended.
    pub fn counts(&self) -> Counts {
        self.world.log.counts()
    }

    /// Forgets all requests.
    pub fn clear(&self) {
        self.world.log.clear();
    }

    /// Waits until `enough` holds of what was seen; `None` if `patience` ends first.
    pub async fn until(
        &self,
        patience: Duration,
        enough: impl Fn(&[Seen], Counts) -> bool,
    ) -> Option<Vec<Seen>> {
        self.world.log.until(patience, enough).await
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let loopback = match address.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback(),
    };
    ensure!(loopback, "the emulator listens on loopback only, not on {address}");
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, bench: bool, world: Arc<World>) {
    // Owned by this task, so that aborting it ends every connection.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: give the connections time to end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if connections.len() < MAX_CONNECTIONS {
            connections.spawn(handshake(stream, acceptor.clone(), bench, Arc::clone(&world)));
        }
    }
}

async fn handshake(stream: TcpStream, acceptor: TlsAcceptor, bench: bool, world: Arc<World>) {
    let number = world.log.connected();
    // Without it small events wait for acknowledgements; where it fails they do just that.
    let _slower = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let sni = stream.get_ref().1.server_name().map(ToOwned::to_owned);
            connection::serve(stream, Connection { number, sni, bench }, world).await;
        }
        Ok(Err(_)) | Err(_) => world.log.handshake_failed(),
    }
}

async fn accept_control(listener: TcpListener, ca_pem: Arc<str>, world: Arc<World>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                connections.spawn(control::serve(stream, Arc::clone(&ca_pem), Arc::clone(&world)));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
