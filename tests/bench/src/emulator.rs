//! The provider of the measurements: the emulator as a process of its own.
//!
//! Invariant: it serves this run's key only.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::child::Running;
use crate::target::{Target, TargetName};

/// The provider's key of this run: shaped like one, worth nothing.
pub(crate) const KEY: &str = "sk-proj-bench-0nlyF0rMeasurements-4Vt7BqMz4WdK8sLh1PcR6yGn3";
const START: Duration = Duration::from_mins(1);

/// The running emulator.
#[derive(Debug)]
pub(crate) struct Provider {
    running: Running,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its directory: `ca.pem`, `leaf.pem`, `leaf-key.pem`.
    pub(crate) dir: PathBuf,
}

#[derive(Deserialize)]
struct Told {
    listen: SocketAddr,
    pid: u32,
}

impl Provider {
    /// Starts it.
    pub(crate) fn start(binaries: &Path, scratch: &Path) -> Result<Self> {
        let dir = scratch.join("emulator");
        fs::create_dir_all(&dir)?;
        let log = scratch.join("emulator.log");
        let mut command = Command::new(binaries.join("strongroom-emulator"));
        command.arg("--bench").arg("--dir").arg(&dir).arg("--key").arg(format!("openai={KEY}"));
        let mut running = Running::start(&mut command, Stdio::null(), &log)
            .context("build it with: cargo build --release -p strongroom-emulator")?;
        let file = dir.join("addr.json");
        let told = running.until(START, &log, |pid| {
            let told: Told = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
            (told.pid == pid).then_some(told)
        })?;
        Ok(Self { running, address: told.listen, dir })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The way without a proxy.
    pub(crate) fn direct(&self) -> Target {
        Target {
            name: TargetName::Direct,
            address: self.address,
            host: format!("localhost:{}", self.address.port()),
            path: "/v1/chat/completions".to_owned(),
            token: KEY.to_owned(),
            ca: self.ca(),
            pids: Vec::new(),
        }
    }
}
