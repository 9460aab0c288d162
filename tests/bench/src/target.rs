//! Who is measured: where it listens, what it is called with, which processes it is.
//!
//! Invariant: `pids` are processes that this run started, or their descendants.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One way to the emulator.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Target {
    /// Its name in the report.
    pub(crate) name: TargetName,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The `host` header.
    pub(crate) host: String,
    /// The path of a chat completion.
    pub(crate) path: String,
    /// What stands after `Bearer`: worthless outside this run.
    pub(crate) token: String,
    /// The authority to trust, PEM.
    pub(crate) ca: PathBuf,
    /// All its processes; none for the direct way.
    pub(crate) pids: Vec<u32>,
}

/// The ways that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TargetName {
    /// No proxy.
    Direct,
    /// nginx → Unix socket → nginx.
    Nginx,
    /// Gateway → Unix socket → courier, with the keeper beside.
    Strongroom,
}

impl TargetName {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Strongroom => "strongroom",
        }
    }
}

/// Writes what is measured beside the figures, for whoever wants to look at it while it runs.
pub(crate) fn describe(targets: &[Target], path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(targets)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
