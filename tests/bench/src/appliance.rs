//! Strongroom as an operator sets it up: `strongroom up`, a provider, a credential, a token.
//!
//! Invariant: everything is on, as after an ordinary start: policy, journal, scrubbing, metering, confinement.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::child::Running;
use crate::emulator::{KEY, Provider};
use crate::memory::APPLIANCE;
use crate::nginx::free_address;
use crate::process;
use crate::target::{Target, TargetName};

/// The provider's name in routes.
pub(crate) const PROVIDER: &str = "bench";
/// Protects nothing: the credentials are this run's.
pub(crate) const PASSPHRASE: &str = "measured words protect nothing here";
const START: Duration = Duration::from_secs(90);
/// The supervisor, the keeper, two couriers, the gateway.
const PROCESSES: usize = 5;
/// The most that a token may have: the rate is counted, and never the limit.
const RATE: &str = "1000000";

/// A running appliance and where it lives.
#[derive(Debug)]
pub(crate) struct Appliance {
    binaries: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    token: String,
    running: Option<Running>,
}

impl Appliance {
    /// Starts it for the first time and prepares it for calls.
    pub(crate) fn set_up(
        binaries: &Path,
        provider: &Provider,
        dir: PathBuf,
        lanes: Option<u16>,
    ) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let address = free_address()?;
        write_settings(&dir, address, lanes)?;
        let mut appliance = Self {
            binaries: binaries.to_owned(),
            log: dir.with_extension("log"),
            dir,
            address,
            token: String::new(),
            running: None,
        };
        appliance.launch()?;
        appliance.wait_until_listening()?;
        let url = format!("https://localhost:{}", provider.address.port());
        let ca = provider.ca();
        let ca = ca.to_str().context("the scratch directory's name is no text")?;
        appliance.tool(
            &["provider", "add", PROVIDER, "--base-url", &url, "--dialect", "openai", "--ca", ca]
                .iter()
                .copied()
                .chain(["--private", "--paths-of", "openai"])
                .collect::<Vec<_>>(),
            "",
        )?;
        let label = ["--label", "bench"];
        appliance.tool(&[&["credential", "add", PROVIDER, "-"], &label[..]].concat(), KEY)?;
        let made = appliance.tool(
            &["token", "create", "bench", "--credential", "bench", "--rate", RATE, "--json"],
            "",
        )?;
        let made: Value = serde_json::from_str(&made).context("token create --json")?;
        made["token"].as_str().context("no token in it")?.clone_into(&mut appliance.token);
        Ok(appliance)
    }

    /// Starts it, the passphrase on its standard input.
    pub(crate) fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(self.binaries.join("strongroom"));
        command.arg("up").arg("--dir").arg(&self.dir).arg("--passphrase-fd").arg("0");
        command.arg("--binaries").arg(&self.binaries);
        let mut running = Running::start(&mut command, Stdio::piped(), &self.log)?;
        let mut stdin = running.stdin().context("no standard input")?;
        writeln!(stdin, "{PASSPHRASE}")?;
        self.running = Some(running);
        Ok(())
    }

    /// Waits until all processes run and the gateway takes connections.
    pub(crate) fn wait_until_listening(&mut self) -> Result<()> {
        let (address, log) = (self.address, self.log.clone());
        let running = self.running.as_mut().context("it was not started")?;
        running.until(START, &log, |pid| {
            let programs: Vec<_> = process::family(pid).into_iter().map(process::program).collect();
            let all = APPLIANCE.iter().all(|name| programs.iter().any(|program| program == name));
            let all = all && programs.len() == PROCESSES;
            (all && TcpStream::connect(address).is_ok()).then_some(())
        })
    }

    /// Stops it; what it stored stays.
    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    pub(crate) fn target(&self) -> Result<Target> {
        let running = self.running.as_ref().context("it does not run")?;
        let pids = process::family(running.pid());
        ensure!(pids.len() == PROCESSES, "{} processes instead of {PROCESSES}", pids.len());
        Ok(Target {
            name: TargetName::Strongroom,
            address: self.address,
            host: format!("localhost:{}", self.address.port()),
            path: format!("/p/{PROVIDER}/v1/chat/completions"),
            token: self.token.clone(),
            ca: self.dir.join("tls").join("ca.pem"),
            pids,
        })
    }

    /// The journal's files, its bundles and tiles in the directories below among them.
    pub(crate) fn journal_bytes(&self) -> Result<u64> {
        bytes_below(&self.dir.join("vault").join("journal"))
    }

    pub(crate) fn operator_socket(&self) -> PathBuf {
        self.dir.join("run").join("operator").join("operator.sock")
    }

    pub(crate) fn pin(&self) -> PathBuf {
        self.dir.join("vault.pub")
    }

    /// The operator's tool for this appliance.
    pub(crate) fn operators_tool(&self) -> Tool {
        Tool { program: self.binaries.join("strongroom"), dir: self.dir.clone() }
    }

    fn tool(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        Ok(String::from_utf8(self.operators_tool().run(arguments, stdin)?)?)
    }
}

/// The operator's tool and the appliance that it is for.
#[derive(Debug)]
pub(crate) struct Tool {
    program: PathBuf,
    dir: PathBuf,
}

impl Tool {
    /// Runs it once; yields what it printed.
    pub(crate) fn run(&self, arguments: &[&str], stdin: &str) -> Result<Vec<u8>> {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--dir").arg(&self.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("strongroom")?;
        // Whoever reads nothing has closed it already; its exit status tells how it went.
        let _unread = child.stdin.take().map(|mut pipe| writeln!(pipe, "{stdin}"));
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "strongroom {}: {} {}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    }
}

/// The settings of an ordinary first start, but for the ports and the provider's fixed address.
fn write_settings(dir: &Path, address: SocketAddr, lanes: Option<u16>) -> Result<()> {
    let accepted = if nix::unistd::Uid::effective().is_root() { "" } else { "\"uids\", \"netns\"" };
    let lanes = lanes.map_or_else(String::new, |lanes| format!("lanes = {lanes}\n"));
    let text = format!(
        "listen = \"{address}\"\nnames = [\"localhost\", \"127.0.0.1\"]\nmetrics = \"{}\"\n\
         {lanes}accept_missing = [{accepted}]\n\n[dns.hosts]\n\"localhost\" = \"127.0.0.1\"\n",
        free_address()?
    );
    Ok(fs::write(dir.join("strongroom.toml"), text)?)
}

fn bytes_below(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() { bytes_below(&entry.path())? } else { about.len() };
    }
    Ok(bytes)
}
