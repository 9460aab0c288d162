//! `strongroom-bench`: what a call through Strongroom costs, beside no proxy and beside nginx in the same two hops.
//!
//! Invariant: everything is on loopback, started by this run, and ended with it.
//! Invariant: all targets are measured in the same run, in turns, against the same emulator.
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of a measurement stay far below 2^52, and figures are rounded for people"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "a load generator reads its own buffers; a wrong index ends the measurement"
)]

mod appliance;
mod arguments;
mod child;
mod chores;
mod client;
mod cold;
mod emulator;
mod figures;
mod goals;
mod load;
mod memory;
mod nginx;
mod operator;
mod process;
mod reply;
mod report;
mod rounds;
mod scene;
mod scratch;
mod session;
mod target;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::arguments::Arguments;
use crate::session::Outcome;

/// One thread: the generator must leave the other processors to what it measures.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let session = LocalSet::new();
    let outcome = tokio::select! {
        outcome = session.run_until(session::run(&arguments)) => outcome?,
        // Dropping the session ends what it started.
        _ = terminate.recv() => return Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => return Ok(ExitCode::FAILURE),
    };
    Ok(match outcome {
        Outcome::Missed if arguments.strict => ExitCode::FAILURE,
        Outcome::Missed | Outcome::Reached => ExitCode::SUCCESS,
    })
}
