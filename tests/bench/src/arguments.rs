//! The command line.
//!
//! Invariant: every count and every time has an upper bound, so that a run ends.

use std::path::PathBuf;

use clap::Parser;

use crate::scene::Kind;

/// Measures Strongroom beside a direct connection and beside nginx in the same two hops.
#[derive(Debug, Clone, Parser)]
#[command(version, before_help = "Example: strongroom-bench --binaries target/release --quick")]
pub(crate) struct Arguments {
    /// Where strongroom, its other programs and strongroom-emulator are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub(crate) binaries: Option<PathBuf>,
    /// Scratch directory; made, and emptied of an earlier run [default: one below the system's]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The nginx program
    #[arg(long, default_value = "nginx")]
    pub(crate) nginx: PathBuf,
    /// Workers of each of the two nginx
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) nginx_workers: u8,
    /// Connections between Strongroom's gateway and courier [default: Strongroom's own]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) lanes: Option<u16>,
    /// One short round of fewer scenes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds; each measures every target once [default: 5, quick 2]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub(crate) rounds: Option<u16>,
    /// Seconds of each measurement [default: 3, quick 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=120))]
    pub(crate) seconds: Option<u16>,
    /// Only replies of this kind
    #[arg(long)]
    pub(crate) only: Option<Kind>,
    /// Connections of the scenes [default: 1,16,64,256, quick 1,16,64]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: Vec<u16>,
    /// Calls of the memory run [default: 100000, quick 10000]; 0 leaves it out
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000_000))]
    pub(crate) calls: Option<u32>,
    /// Credentials of the cold start [default: 1000, quick 100]; 0 leaves it out
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) credentials: Option<u32>,
    /// So many turns of latency without and beside backups, new generations of keys and searches
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=50))]
    pub(crate) chores: u16,
    /// Leave Strongroom out: direct and nginx only
    #[arg(long)]
    pub(crate) without_strongroom: bool,
    /// Where the figures are written as JSON [default: bench.json in the scratch directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Exit with 1 when a goal is missed
    #[arg(long)]
    pub(crate) strict: bool,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> u16 {
        self.rounds.unwrap_or(if self.quick { 2 } else { 5 })
    }

    pub(crate) fn seconds(&self) -> u16 {
        self.seconds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.unwrap_or(if self.quick { 10_000 } else { 100_000 })
    }

    pub(crate) fn credentials(&self) -> u32 {
        self.credentials.unwrap_or(if self.quick { 100 } else { 1000 })
    }

    pub(crate) fn connections(&self) -> Vec<u16> {
        if !self.connections.is_empty() {
            return self.connections.clone();
        }
        if self.quick { vec![1, 16, 64] } else { vec![1, 16, 64, 256] }
    }
}
