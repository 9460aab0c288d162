//! `strongroom unseal` and `strongroom seal`.
//!
//! Invariant: a passphrase or share comes by hidden prompt, standard input or descriptor.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::{
    Answer, Exit, Progress, Request, SealKind, Status, UnsealWith,
};

use crate::arguments::{Dash, OnlyDash};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::prompt::{self, Typed};
use crate::status;
use crate::tpm;

/// Arguments of `unseal`.
#[derive(Debug, Args)]
pub(crate) struct UnsealArguments {
    /// `-` reads the passphrase or share from standard input
    #[arg(value_parser = OnlyDash)]
    source: Option<Dash>,
    /// Read the passphrase or share from this descriptor
    #[arg(long, value_name = "N", conflicts_with = "source")]
    share_fd: Option<u32>,
    /// Open it by the TPM
    #[arg(long, conflicts_with_all = ["source", "share_fd", "confirm_checkpoint"])]
    tpm: bool,
    /// Read the TPM's PIN from this descriptor
    #[arg(long, value_name = "N", requires = "tpm")]
    pin_fd: Option<u32>,
    /// Confirm that this copy of the vault is the newest there is, as a refusal showed it
    #[arg(long, value_name = "CHECKPOINT")]
    confirm_checkpoint: Option<String>,
}

/// What came of an attempt.
pub(crate) enum Unsealed {
    /// The vault is open.
    Open,
    /// More shares are needed.
    Partly(Progress),
}

/// Opens the vault, or brings it one share nearer.
pub(crate) fn unseal(arguments: &UnsealArguments, desk: &Desk) -> Outcome<ExitCode> {
    let mut link = desk.link()?;
    let found = status::ask(&mut link)?;
    if found.state == VaultState::Ready {
        tell_open(desk.form);
        return Ok(ExitCode::SUCCESS);
    }
    if found.state == VaultState::Uninitialised {
        return Err(Failure::argument("there is no vault yet").next("strongroom init"));
    }
    let came = if arguments.tpm {
        tpm::unseal(&mut link, arguments.pin_fd)?
    } else {
        by_hand(arguments, &mut link, &found)?
    };
    match came {
        Unsealed::Open => {
            tell_open(desk.form);
            Ok(ExitCode::SUCCESS)
        }
        Unsealed::Partly(progress) => {
            match desk.form {
                Form::Json => out::object(json!({"state": "unsealing", "unsealing": progress})),
                Form::Text => out::say(&status::progress_line(&progress)),
            }
            Ok(ExitCode::from(Exit::Unsealing.code()))
        }
    }
}

/// What somebody types or pipes in.
fn by_hand(arguments: &UnsealArguments, link: &mut Link, found: &Status) -> Outcome<Unsealed> {
    let seal = found.seal.unwrap_or(SealKind::Passphrase);
    let typed = match (arguments.source, arguments.share_fd) {
        (Some(Dash), _) => prompt::standard_input()?,
        (None, Some(number)) => prompt::descriptor(number)?,
        (None, None) => prompt::secret(match seal {
            SealKind::Passphrase => "Passphrase (hidden): ",
            SealKind::Shares { .. } => "One share (hidden): ",
        })?,
    };
    let checkpoint = arguments.confirm_checkpoint.as_deref();
    open_confirming(link, (seal, &typed), checkpoint)
}

/// Sends what opens the seal.
pub(crate) fn open_with(link: &mut Link, seal: SealKind, typed: &Typed) -> Outcome<Unsealed> {
    open_confirming(link, (seal, typed), None)
}

fn open_confirming(
    link: &mut Link,
    (seal, typed): (SealKind, &Typed),
    checkpoint: Option<&str>,
) -> Outcome<Unsealed> {
    let with = match seal {
        SealKind::Passphrase => UnsealWith::Passphrase(typed.message()),
        SealKind::Shares { .. } => UnsealWith::Share(typed.message()),
    };
    let request = match checkpoint {
        Some(checkpoint) => Request::UnsealConfirming { with, checkpoint: checkpoint.to_owned() },
        None => Request::Unseal(with),
    };
    match link.ask(&request)? {
        Answer::Unsealed => Ok(Unsealed::Open),
        Answer::Unsealing(progress) => Ok(Unsealed::Partly(progress)),
        _ => Err(Failure::unexpected()),
    }
}

/// Closes the vault.
pub(crate) fn seal(desk: &Desk) -> Outcome {
    desk.link()?.tell(&Request::Seal)?;
    match desk.form {
        Form::Json => out::object(json!({"state": "sealed"})),
        Form::Text => out::say("sealed: keys are wiped and running calls are stopped"),
    }
    Ok(())
}

fn tell_open(form: Form) {
    match form {
        Form::Json => out::object(json!({"state": "ready"})),
        Form::Text => out::say("ready: the vault is open"),
    }
}
