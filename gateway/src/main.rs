//! The gateway's start order: arguments, sockets and files, confinement, runtime, serve.
//!
//! Invariant: not one byte of a caller is read before the process is confined.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::thread::available_parallelism;

use strongroom_gateway::settings::Settings;
use strongroom_gateway::start::{Ended, open, run};
use strongroom_sys::confine::{Options, Profile, confine};
use strongroom_sys::process::{harden, keep_environment, prefer_batches};
use tokio::runtime::Builder;

/// `EX_TEMPFAIL`: the supervisor starts the process again.
const START_AGAIN: u8 = 75;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    match start() {
        Ok(Ended::Stopped) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(Ended::Broken(broken)) => {
            tracing::error!(%broken, "start again");
            ExitCode::from(START_AGAIN)
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<Ended> {
    let settings = Settings::parse(std::env::args().skip(1))?;
    harden()?;
    keep_environment(&[])?;
    if let Err(error) = prefer_batches() {
        tracing::info!(%error, "calls will cost more");
    }
    let opened = open(&settings)?;
    // Before confinement: afterwards the files that tell it are out of reach.
    let workers = available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let options = Options { accept_missing: settings.accept_missing, ..Options::default() };
    let report = confine(Profile::Gateway, &options)?;
    for (layer, state) in &report.layers {
        tracing::info!(%layer, ?state, "confined");
    }
    let runtime = runtime(workers).enable_all().build()?;
    let ended = runtime.block_on(run(opened));
    runtime.shutdown_background();
    ended
}

/// One worker needs no second thread to hand its work to.
fn runtime(workers: usize) -> Builder {
    if workers == 1 {
        return Builder::new_current_thread();
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers);
    builder
}
