//! `strongroom up`: the whole appliance on this machine, from nothing to the first call.
//!
//! Invariant: this process keeps no passphrase, no key and no network byte; it starts, watches and stops.
//! Invariant: the store is checked before every start of the keeper, and a refusal ends everything.
//! Trusts: the settings file, the programs beside this one.

pub(crate) mod accounts;
mod demo;
mod examples;
mod first;
mod ground;
mod held;
mod launch;
pub(crate) mod rebuild;
pub(crate) mod role;
mod signals;
mod supervisor;
mod tell;

use std::path::PathBuf;

use clap::Args;
use strongroom_policy::name::Label;
use strongroom_policy::provider::Origin;

use crate::arguments::Common;
use crate::backup;
use crate::failure::Outcome;
use crate::link::Link;
use crate::out::{self, Form};
use crate::places::{Places, Surroundings};
use crate::tpm;
use first::Vault;
use ground::Ground;
use role::Role;
use signals::Signals;
use supervisor::Supervisor;

/// Arguments of `up`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The port to listen on, decided by the first start [default: 8443]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Read the passphrase from this descriptor
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
    /// Start without a vault, to make one with `strongroom init` (for shares)
    #[arg(long, conflicts_with = "passphrase_fd")]
    no_init: bool,
    /// Where the other programs are [default: beside this one]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// The first person's name [default: yours]
    #[arg(long, value_name = "NAME", value_parser = Label::parse)]
    user: Option<Label>,
}

/// Prepares, starts, opens the vault, explains the next step, and watches until it is told to stop.
pub(crate) fn run(arguments: &Arguments, common: &Common, form: Form) -> Outcome {
    let places = Places::choose(&Surroundings::here(), common.dir.as_deref(), common.demo)?;
    places.check()?;
    let signals = Signals::hold()?;
    let ground = Ground::prepare(places, arguments, common.demo)?;
    let mut supervisor = Supervisor::new(ground, signals);
    let outcome = begin(&mut supervisor, arguments, form).and_then(|()| supervisor.watch());
    // Before the first process stops: nothing cuts short what is still to be noted.
    if let Err(failure) = Signals::hold_all() {
        out::warn(&failure.to_string());
    }
    let stopped = supervisor.stop();
    if let (Err(_), Err(failure)) = (&outcome, &stopped) {
        out::warn(&failure.to_string());
    }
    outcome.and(stopped)
}

fn begin(supervisor: &mut Supervisor, arguments: &Arguments, form: Form) -> Outcome {
    if supervisor.ground().tpm.is_some() {
        supervisor.start_or_warn(Role::Tpm);
    }
    supervisor.start(Role::Keeper)?;
    let mut link = Link::open(&supervisor.ground().places.operator_socket())?;
    tpm::unseal_unattended(&mut link, &supervisor.ground().settings);
    let vault = first::open(&mut link, supervisor, arguments)?;
    // Also before a vault that somebody will open later.
    if supervisor.ground().is_demo() {
        supervisor.start(Role::Emulator)?;
    }
    if vault == Vault::Open {
        // A restored vault takes no new token before somebody has looked at it.
        let waits = backup::standing(&mut link)?.is_some();
        if waits {
            tell::restored(supervisor.ground());
        } else {
            first::settle(&mut link, supervisor.ground(), arguments.user.as_ref())?;
        }
        if supervisor.ground().is_demo() && !waits {
            demo::define(&mut link, supervisor.ground())?;
        }
    }
    drop(link);
    examples::write(supervisor.ground())?;
    Signals::hold_all()?;
    for origin in Origin::ALL {
        supervisor.start(Role::Courier(origin))?;
    }
    supervisor.start(Role::Gateway)?;
    tell::next_steps(supervisor.ground(), vault, form);
    if vault == Vault::Waiting {
        supervisor.wait_for_the_witness();
    }
    Ok(())
}
