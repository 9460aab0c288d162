//! `strongroom share`: showing that shares are in somebody's hands, and replacing them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_protocol::operator::sealing::{WaysAct, WaysChange};
use strongroom_protocol::operator::{Answer, Exit, Request};

use crate::custody::Locks;
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::init;
use crate::link::Link;
use crate::out::{self, Form};
use crate::parts::{self, Proof, Source};
use crate::status;

/// Arguments of `share`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enter a share back, so that the new shares count
    #[command(before_help = "Example: strongroom share verify --age-identity key.txt")]
    Verify(Source),
    /// Make new shares, or other ways, under a new root key; the old ones open nothing once the new ones are entered back
    #[command(
        before_help = "Example: strongroom share rotate --shares 5 --threshold 3 --plain-shares"
    )]
    Rotate(Rotation),
}

#[derive(Debug, Args)]
struct Rotation {
    #[command(flatten)]
    locks: Locks,
    #[command(flatten)]
    proof: Proof,
}

/// Runs a command about shares.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome<ExitCode> {
    let mut link = desk.link()?;
    match &arguments.command {
        Command::Verify(source) => verify(source, &mut link, desk),
        Command::Rotate(rotation) => {
            rotate(rotation, &mut link, desk.form)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn verify(source: &Source, link: &mut Link, desk: &Desk) -> Outcome<ExitCode> {
    let ways = parts::ways(link)?;
    loop {
        let typed = source.read(parts::question(&ways))?;
        let asked = link.ask(&Request::ShowCustody(parts::part(&typed, &ways)));
        drop(typed);
        match asked {
            Ok(Answer::Initialised(key)) => {
                init::made(&key, link, desk)?;
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Answer::Done) => {
                tell(desk.form, "the new shares are in force");
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Answer::Unsealing(progress)) => {
                match desk.form {
                    Form::Json => {
                        out::object(json!({"state": "provisional", "unsealing": progress}));
                    }
                    Form::Text => out::say(&status::progress_line(&progress)),
                }
                if !source.is_prompt() {
                    return Ok(ExitCode::from(Exit::Provisional.code()));
                }
            }
            Ok(_) => return Err(Failure::unexpected()),
            // At a terminal the next person may have the right one; a good share stays accepted.
            Err(failure) if source.is_prompt() && failure.code.starts_with("SR-SHARE") => {
                out::warn(&failure.to_string());
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn rotate(rotation: &Rotation, link: &mut Link, form: Form) -> Outcome {
    let ways = parts::ways(link)?;
    let mut proof = rotation.proof.read(&ways)?;
    proof.extend(rotation.proof.tpm(&ways)?);
    let mut wish = rotation.locks.wish(form)?;
    let act = WaysAct::Rotate(std::mem::take(&mut wish.ways));
    match link.ask(&Request::ChangeWays(Box::new(WaysChange { proof, act })))? {
        Answer::Shares(shares) => wish.deliver(&shares, form),
        Answer::Done => {
            tell(
                form,
                "rotated: the vault has a new root key, and nothing that opened it before opens it now",
            );
            Ok(())
        }
        _ => Err(Failure::unexpected()),
    }
}

fn tell(form: Form, what: &str) {
    match form {
        Form::Json => out::object(json!({"state": "ready"})),
        Form::Text => out::say(what),
    }
}
