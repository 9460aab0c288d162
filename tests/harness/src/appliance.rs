//! One running appliance: `strongroom up` with its processes, in front of emulated providers.
//!
//! Invariant: dropping it ends the supervisor and all that came from it, by process id.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;
use strongroom_emulator::{Api, Counts, Emulator, Options as EmulatorOptions, Seen};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::client::Gate;
use crate::command::{self, Ran};
use crate::patience::{PATIENCE, until, within};
use crate::{canary, journal, scratch, speak};

mod life;

/// What seals the vaults of tests.
pub const PASSPHRASE: &str = "correct horse battery staple, tested";
/// Where built-in providers listen.
const PROVIDER_PORT: u16 = 443;
const LISTEN_PORT: u16 = 8443;
const METRICS_PORT: u16 = 9464;

/// How an appliance is to be started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Calls that can run at once.
    pub lanes: u16,
    /// How providers' names are resolved.
    pub names: Names,
    /// What the first start does about a vault.
    pub vault: Vault,
    /// More lines for the top of `strongroom.toml`.
    pub settings: String,
    /// Where its data lies, when not in a scratch directory.
    pub data: Option<PathBuf>,
    /// Where its programs are, when not where cargo put them.
    pub programs: Option<PathBuf>,
    /// Who runs it, when not whoever runs the test.
    pub user: Option<u32>,
}

/// How providers' names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// The operator pinned them to the emulator.
    Pinned,
    /// This server is asked.
    Server(SocketAddr),
}

/// What the first start does about a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vault {
    /// Makes one that [`PASSPHRASE`] opens.
    Passphrase,
    /// Nothing: the test makes one.
    None,
}

/// A running appliance.
pub struct Appliance {
    emulator: Option<Emulator>,
    supervisor: Option<Child>,
    address: Ipv4Addr,
    data: PathBuf,
    programs: PathBuf,
    user: Option<u32>,
    vault: Vault,
    runtime: Runtime,
    scratch: TempDir,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lanes: 16,
            names: Names::Pinned,
            vault: Vault::Passphrase,
            settings: String::new(),
            data: None,
            programs: None,
            user: None,
        }
    }
}

impl Appliance {
    /// Starts an appliance with an open vault and no credential.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn start(options: &Options) -> Self {
        let scratch = scratch::directory();
        let address = scratch::address(&[PROVIDER_PORT, LISTEN_PORT, METRICS_PORT]);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let data = options.data.clone().unwrap_or_else(|| scratch.path().join("d"));
        let programs = options.programs.clone().unwrap_or_else(scratch::programs);
        let mut appliance = Self {
            emulator: None,
            supervisor: None,
            address,
            data,
            programs,
            user: options.user,
            vault: options.vault,
            runtime,
            scratch,
        };
        appliance.start_providers();
        appliance.write_settings(options);
        appliance.up();
        match options.vault {
            Vault::Passphrase => appliance.wait_ready(),
            Vault::None => appliance.wait_state("uninitialised"),
        }
        appliance
    }

    /// An appliance with a key for each API, all of the first person, and a token of theirs.
    #[must_use]
    pub fn stocked() -> (Self, String) {
        let appliance = Self::start(&Options::default());
        let token = appliance.stock();
        (appliance, token)
    }

    /// Deposits a personal key for each API and makes a token without limits.
    pub fn stock(&self) -> String {
        for api in Api::ALL {
            self.deposit(api, &["--no-test"]);
        }
        self.token("test", &["--rate", "1000000"])
    }

    /// Deposits an API's canary key; more arguments say for whom.
    pub fn deposit(&self, api: Api, more: &[&str]) -> String {
        let command = [&["credential", "add", speak::provider(api), "-"], more].concat();
        let added = self.json(&command, canary::key(api).as_bytes());
        added["credential"].as_str().expect("an id").to_owned()
    }

    /// Makes a token and yields its text.
    pub fn token(&self, label: &str, more: &[&str]) -> String {
        let made = self.json(&[&["token", "create", label], more].concat(), b"");
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Runs the operator's tool on this appliance.
    pub fn cli(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let data = self.data.display().to_string();
        let arguments = [arguments, &["--dir", &data]].concat();
        let (program, before) = self.tool();
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        command::run(&program, &[before, arguments].concat(), stdin)
    }

    /// The operator's tool as whoever runs this appliance: a program, and its first arguments.
    fn tool(&self) -> (PathBuf, Vec<String>) {
        let Some(user) = self.user else { return (self.program(), Vec::new()) };
        let (who, group) = (format!("--reuid={user}"), format!("--regid={user}"));
        let program = self.program().display().to_string();
        ("setpriv".into(), vec![who, group, "--clear-groups".to_owned(), program])
    }

    /// Runs the operator's tool, which must succeed, and yields its data.
    #[track_caller]
    pub fn json(&self, arguments: &[&str], stdin: &[u8]) -> Value {
        self.cli(&[arguments, &["--json"]].concat(), stdin).json()
    }

    /// Where to call.
    pub fn gate(&self) -> Gate {
        self.gate_speaking(&["http/1.1"])
    }

    /// Where to call, offering these protocols.
    pub fn gate_speaking(&self, alpn: &[&str]) -> Gate {
        let authority = fs::read_to_string(self.authority()).expect("the local authority");
        Gate::new(SocketAddr::from((self.address, LISTEN_PORT)), &authority, alpn)
    }

    /// The certificate authority that clients trust.
    pub fn authority(&self) -> PathBuf {
        self.data.join("tls").join("ca.pem")
    }

    /// `https://…`, for SDKs.
    pub fn url(&self) -> String {
        format!("https://{}:{LISTEN_PORT}", self.address)
    }

    /// This appliance's own loopback address.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A directory for the test's own files.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// All complete journal entries.
    pub fn entries(&self) -> Vec<Value> {
        journal::read(&self.journal())
    }

    /// The journal's file.
    ///
    /// # Panics
    /// When there is none.
    pub fn journal(&self) -> PathBuf {
        journal::find(&self.data).expect("a journal")
    }

    /// Waits until the journal satisfies a condition, and yields what was found.
    pub fn journaled<T>(&self, what: &str, look: impl Fn(&[Value]) -> Option<T>) -> T {
        until(what, || look(&self.entries()))
    }

    /// What the processes wrote to their standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("up.log")).unwrap_or_default()
    }

    /// Where the gateway tells its metrics.
    pub const fn metrics_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), METRICS_PORT)
    }

    /// The gateway's metrics.
    pub fn metrics(&self) -> String {
        let get = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.metrics_address())?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        get().expect("metrics are served")
    }

    /// The emulated providers.
    ///
    /// # Panics
    /// While they are down.
    pub fn providers(&self) -> &Emulator {
        self.emulator.as_ref().expect("the providers are up")
    }

    /// Waits until what the providers saw satisfies a condition.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn seen(&self, enough: impl Fn(&[Seen], Counts) -> bool) -> Vec<Seen> {
        let wait = self.providers().until(PATIENCE, enough);
        self.runtime.block_on(wait).unwrap_or_else(|| {
            panic!("the providers never saw it: {:#?}", self.providers().counts())
        })
    }

    /// Takes the providers down; their connections break.
    pub fn stop_providers(&mut self) {
        self.emulator = None;
    }

    /// Starts the providers.
    ///
    /// # Panics
    /// When their address is taken.
    pub fn start_providers(&mut self) {
        let mut options = EmulatorOptions::new(self.scratch.path().join("providers"));
        options.listen = SocketAddr::from((self.address, PROVIDER_PORT));
        for api in Api::ALL {
            options = options.key(api, canary::key(api));
        }
        let started =
            within(PATIENCE, || self.runtime.block_on(Emulator::start(options.clone())).ok());
        self.emulator = Some(started.expect("the providers start"));
    }

    /// The operator's tool.
    pub fn program(&self) -> PathBuf {
        self.programs.join("strongroom")
    }

    /// Where its programs are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    fn write_settings(&self, options: &Options) {
        let (address, lanes, more) = (self.address, options.lanes, &options.settings);
        let root = self.scratch.path().join("providers").join("ca.pem");
        let mut text = format!(
            "listen = \"{address}:{LISTEN_PORT}\"\nnames = [\"localhost\", \"{address}\"]\n\
             public_url = \"{}\"\nmetrics = \"{address}:{METRICS_PORT}\"\nlanes = {lanes}\n\
             accept_missing = [{}]\nextra_roots = [\"{}\"]\n{more}\n[dns]\n",
            self.url(),
            if options.user.is_some() { ALONE } else { missing() },
            root.display(),
        );
        match &options.names {
            Names::Server(server) => text.push_str(&format!("servers = [\"{server}\"]\n")),
            Names::Pinned => {
                text.push_str("servers = [\"127.0.0.1:9\"]\n[dns.hosts]\n");
                for api in Api::ALL {
                    text.push_str(&format!("\"{}\" = \"{address}\"\n", api.host()));
                }
            }
        }
        fs::create_dir_all(&self.data).expect("a directory");
        let settings = self.data.join("strongroom.toml");
        fs::write(&settings, text).expect("settings");
        for path in [&self.data, &settings] {
            chown(path, options.user, options.user).expect("only root gives files away");
        }
    }
}

/// What is missing where the processes share one uid and one network.
const ALONE: &str = "\"uids\", \"netns\"";

/// What is missing where the test runs.
fn missing() -> &'static str {
    if nix::unistd::Uid::effective().is_root() { "" } else { ALONE }
}
