//! The keeper's start order: arguments, directories and sockets, confinement, runtime, serve.
//!
//! Invariant: not one message, and no store, is read before the process is confined.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use strongroom_keeper::arguments::{Arguments, Wish};
use strongroom_keeper::moving;
use strongroom_keeper::start::{check, finish, open, run};
use strongroom_sys::WipingAllocator;
use strongroom_sys::allocator::map_large_blocks;
use strongroom_sys::confine::{Options, Profile, confine};
use strongroom_sys::process::{harden, keep_environment, prefer_batches};
use tokio::task::LocalSet;

/// What is freed is wiped: keys, and whatever was derived from them.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    match work() {
        Ok(ended) => ended,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> anyhow::Result<ExitCode> {
    harden()?;
    keep_environment(&[])?;
    match Wish::parse(std::env::args().skip(1))? {
        Wish::Check(records) => Ok(check(&records)),
        Wish::Move(records, from, told) => Ok(moving::move_to(&records, from, told)),
        Wish::Compact(records, told) => Ok(moving::compact(&records, told)),
        Wish::Serve(arguments) => serve(&arguments).map(|()| ExitCode::SUCCESS),
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    map_large_blocks();
    if let Err(error) = prefer_batches() {
        tracing::info!(%error, "calls will cost more");
    }
    let opened = open(arguments)?;
    let accept_missing = arguments.records.accept_missing.clone();
    let options = Options { accept_missing, ..Options::default() };
    let profile = Profile::Keeper { data_dir: &arguments.records.data, run_dir: &arguments.run };
    let report = confine(profile, &options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = LocalSet::new().block_on(&runtime, run(opened, &report));
    finish(runtime);
    ended
}
