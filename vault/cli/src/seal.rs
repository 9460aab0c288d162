//! `strongroom unseal` and `strongroom seal`.
//!
//! Invariant: a passphrase or share comes by hidden prompt, standard input, descriptor or an age file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::sealing::WayRow;
use strongroom_protocol::operator::{Answer, Exit, Progress, Request, SEAL_MARK};

use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::parts::{self, Source};
use crate::prompt::Typed;
use crate::status;
use crate::tpm;

/// Arguments of `unseal`.
#[derive(Debug, Args)]
pub(crate) struct UnsealArguments {
    #[command(flatten)]
    source: Source,
    /// Bring the share to this attempt and to no other
    #[arg(long, value_name = "ID")]
    attempt: Option<String>,
    /// Throw the attempt of --attempt away, if you brought something to it
    #[arg(long, requires = "attempt", conflicts_with_all = ["source", "share_fd", "age_identity"])]
    abandon: bool,
    /// Open it by the TPM
    #[arg(long, conflicts_with_all = ["source", "share_fd", "age_identity", "attempt", "confirm_checkpoint"])]
    tpm: bool,
    /// Read the TPM's PIN from this descriptor
    #[arg(long, value_name = "N", requires = "tpm")]
    pin_fd: Option<u32>,
    /// Confirm that this copy of the vault is the newest there is, as a refusal showed it
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "attempt")]
    confirm_checkpoint: Option<String>,
    /// Say that the changed settings are meant, as a refusal showed them; counts for the next opening, within ten minutes
    #[arg(long, value_name = "DIFFERENCE", conflicts_with = "abandon")]
    accept_settings: Option<String>,
}

/// Arguments of `seal`.
#[derive(Debug, Args)]
pub(crate) struct SealArguments {
    /// Wipe the keys and end the keeper at once, without waiting for the journal or for calls
    #[arg(long)]
    panic: bool,
}

/// What came of an attempt.
pub(crate) enum Unsealed {
    /// The vault is open.
    Open,
    /// More parts are needed.
    Partly(Progress),
}

/// Opens the vault, or brings it one part nearer.
pub(crate) fn unseal(arguments: &UnsealArguments, desk: &Desk) -> Outcome<ExitCode> {
    let mut link = desk.link()?;
    if let (true, Some(attempt)) = (arguments.abandon, &arguments.attempt) {
        link.tell(&Request::AbandonUnseal { attempt: attempt.clone() })?;
        match desk.form {
            Form::Json => out::object(json!({"state": "sealed"})),
            Form::Text => out::say("abandoned: what was brought to it is wiped"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let found = status::ask(&mut link)?;
    if found.state == VaultState::Ready {
        tell_open(desk.form);
        return Ok(ExitCode::SUCCESS);
    }
    if found.state == VaultState::Uninitialised {
        return Err(match found.fault {
            Some(provisional) => provisional.into(),
            None => Failure::argument("there is no vault yet").next("strongroom init"),
        });
    }
    if let Some(difference) = &arguments.accept_settings {
        link.tell(&Request::AcceptSettings { difference: difference.clone() })?;
    }
    let came = if arguments.tpm {
        tpm::unseal(&mut link, arguments.pin_fd)?
    } else {
        by_hand(arguments, &mut link)?
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
fn by_hand(arguments: &UnsealArguments, link: &mut Link) -> Outcome<Unsealed> {
    let ways = parts::ways(link)?;
    let typed = arguments.source.read(parts::question(&ways))?;
    let with = parts::part(&typed, &ways);
    let request = match (&arguments.confirm_checkpoint, &arguments.attempt) {
        (Some(checkpoint), _) => Request::UnsealConfirming { with, checkpoint: checkpoint.clone() },
        (None, Some(attempt)) => Request::Join { attempt: attempt.clone(), with },
        (None, None) => Request::Unseal(with),
    };
    bring(link, &request)
}

/// Sends a part of what opens the seal.
pub(crate) fn open_with(link: &mut Link, ways: &[WayRow], typed: &Typed) -> Outcome<Unsealed> {
    bring(link, &Request::Unseal(parts::part(typed, ways)))
}

fn bring(link: &mut Link, request: &Request) -> Outcome<Unsealed> {
    match link.ask(request)? {
        Answer::Unsealed => Ok(Unsealed::Open),
        Answer::Unsealing(progress) => Ok(Unsealed::Partly(progress)),
        _ => Err(Failure::unexpected()),
    }
}

/// Closes the vault.
pub(crate) fn seal(arguments: &SealArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let said = if arguments.panic {
        link.end(&Request::Panic)?;
        // The supervisor does so too, when it sees how the keeper ended.
        if let Err(failure) = mark(&desk.places.vault()) {
            out::warn(&format!("the seal was not noted from here: {failure}"));
        }
        "panic: keys are wiped and the keeper has ended; it comes back sealed"
    } else {
        link.tell(&Request::Seal)?;
        "sealed: keys are wiped and running calls are stopped"
    };
    match desk.form {
        Form::Json => out::object(json!({"state": "sealed"})),
        Form::Text => out::say(said),
    }
    Ok(())
}

/// Notes beside the vault that an operator sealed it, where the keeper had no time to: it is not opened unattended then.
/// Whatever bears the mark's name counts as the mark, and is not opened: the directory is another user's.
pub(crate) fn mark(vault: &Path) -> Outcome {
    let path = vault.join(SEAL_MARK);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let set = || -> io::Result<()> {
        match options.open(&path) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        File::open(vault)?.sync_all()
    };
    set().map_err(|error| Failure::file(&path, error))
}

fn tell_open(form: Form) {
    match form {
        Form::Json => out::object(json!({"state": "ready"})),
        Form::Text => out::say("ready: the vault is open"),
    }
}
