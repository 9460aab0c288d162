//! `strongroom-tpm`: the process that talks to the TPM. This file is its start order.
//!
//! Invariant: the way to the TPM is open, root given up and everything else closed off before the first question.
//! Invariant: libtss2 has loaded all that it loads before it is closed off.
//! Invariant: a TPM that says nothing does not hold up the start: while the way is opened an alarm ends this process, afterwards
//! the watchdog does.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use nix::unistd::{Pid, alarm};
use strongroom_sys::confine::Options;
use strongroom_sys::inherited::{take_unix_datagram, take_unix_stream};
use strongroom_sys::{WipingAllocator, confine, process};
use strongroom_tpm::arguments::Arguments;
use strongroom_tpm::chip::{Chip, ChipError};
use strongroom_tpm::place::Place;
use strongroom_tpm::serve::{Ended, serve};
use strongroom_tpm::watchdog::{PATIENCE, Watchdog};

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// `EX_TEMPFAIL` of sysexits(3): without the TPM; to be started again.
const TPM_LOST: u8 = 75;
/// How long the opening of the way to the TPM may take, in seconds: libtss2's modules may exchange a few bytes with it already.
const OPENED_WITHIN: u32 = 10;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let parent = Pid::parent();
    process::harden()?;
    process::keep_environment(&[])?;
    // libtss2 would write to our log by itself.
    process::set_variable("TSS2_LOG", "all+none")?;
    let inherited: Vec<_> = arguments.ready_fd.into_iter().chain([arguments.keeper_fd]).collect();
    process::close_descriptors_except(&inherited)?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let keeper = take_unix_datagram(arguments.keeper_fd)?;
    let ready = arguments.ready_fd.map(take_unix_stream).transpose()?;
    let chip = match &arguments.tcti {
        // Its node is root's.
        Place::Device(_) => {
            let chip = open(&arguments.tcti);
            give_up_root(&arguments, parent)?;
            chip
        }
        Place::Tcp(_) => {
            give_up_root(&arguments, parent)?;
            open(&arguments.tcti)
        }
    };
    if let Err(error) = &chip {
        let (tcti, package) = (&arguments.tcti, arguments.tcti.package());
        tracing::error!(%error, ?tcti, "the TPM cannot be opened; is {package} installed?");
    }
    let options =
        Options { accept_missing: arguments.accept_missing.clone(), ..Options::default() };
    let report = confine(arguments.tcti.profile(), &options).context("confine the TPM helper")?;
    tracing::info!(%report, "confined");
    if let Some(mut ready) = ready {
        ready.write_all(b"1").context("tell that the helper is ready")?;
    }
    let watchdog = Watchdog::start(&keeper, PATIENCE).context("watch the TPM")?;
    let ended = serve(&keeper, chip.ok(), &watchdog);
    tracing::error!(%ended, "stopping");
    Ok(match ended {
        Ended::NoTpm | Ended::Forged | Ended::Spent => ExitCode::from(TPM_LOST),
        Ended::Socket(_) => ExitCode::FAILURE,
    })
}

/// Opens the way to the TPM; an alarm ends this process, by its signal, when that goes on for too long.
fn open(place: &Place) -> Result<Chip, ChipError> {
    alarm::set(OPENED_WITHIN);
    let chip = Chip::open(place);
    alarm::cancel();
    chip
}

fn give_up_root(arguments: &Arguments, parent: Pid) -> anyhow::Result<()> {
    if let Some((uid, gid)) = arguments.user {
        process::become_user(uid, gid).context("give up root")?;
        // A change of user took the supervisor's wish that this process ends with it.
        process::die_with_parent(parent).context("end with the supervisor")?;
    }
    Ok(())
}
