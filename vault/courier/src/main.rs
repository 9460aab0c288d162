//! `strongroom-courier`: the process that dials providers. This file is its start order.
//!
//! Invariant: confined before the first thread and the first byte from anyone but the supervisor.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Context as _;
use strongroom_courier::arguments::Arguments;
use strongroom_courier::start::{self, Ended};
use strongroom_sys::confine::{Options, Profile};
use strongroom_sys::{WipingAllocator, confine, process};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// `EX_TEMPFAIL` of sysexits(3): without the keeper; to be started again.
const KEEPER_LOST: u8 = 75;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    process::harden()?;
    process::close_descriptors_except(arguments.ready_fd.as_slice())?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    if let Err(error) = process::prefer_batches() {
        tracing::info!(%error, "calls will cost more");
    }
    let workers = start::workers(&arguments);
    let opened = start::open(&arguments)?;
    let options =
        Options { accept_missing: arguments.accept_missing.clone(), ..Options::default() };
    let ports = arguments.tcp_ports();
    let profile = Profile::Courier { ports: ports.as_deref() };
    let report = confine(profile, &options).context("confine the courier")?;
    tracing::info!(%report, "confined");
    let runtime = runtime(workers).enable_all().build()?;
    let ended = runtime.block_on(start::serve(opened))?;
    // A lookup or a handshake under way must not hold up the end.
    runtime.shutdown_background();
    Ok(match ended {
        Ended::Stopped => ExitCode::SUCCESS,
        Ended::KeeperLost(lost) => {
            tracing::error!(%lost, "stopping");
            ExitCode::from(KEEPER_LOST)
        }
    })
}

/// One worker needs no second thread to hand its work to.
fn runtime(workers: usize) -> Builder {
    if workers == 1 {
        return Builder::new_current_thread();
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).thread_name("courier");
    builder
}
