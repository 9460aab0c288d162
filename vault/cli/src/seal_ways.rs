//! `strongroom seal-ways`: what leads into the vault, and changing it.

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_protocol::operator::sealing::{WaysAct, WaysChange};
use strongroom_protocol::operator::{Answer, Request};

use crate::confirm::{Confirmation, Decision};
use crate::custody::{Locks, describe};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::parts::{self, Proof};

/// Arguments of `seal-ways`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what leads into the vault; any line opens it
    #[command(before_help = "Example: strongroom seal-ways list")]
    List,
    /// Add a way: a passphrase, shares, or both together
    #[command(before_help = "Example: strongroom seal-ways add --seal passphrase")]
    Add(Addition),
    /// Put a new way in the place of another, as for a new passphrase
    #[command(before_help = "Example: strongroom seal-ways replace 1 --seal passphrase")]
    Replace(Replacement),
    /// Remove a way; the last one stays
    #[command(before_help = "Example: strongroom seal-ways remove 2")]
    Remove(Removal),
    /// Give up a change whose shares were not entered back
    #[command(before_help = "Example: strongroom seal-ways drop")]
    Drop(Confirmation),
}

#[derive(Debug, Args)]
struct Addition {
    #[command(flatten)]
    locks: Locks,
    #[command(flatten)]
    proof: Proof,
}

#[derive(Debug, Args)]
struct Replacement {
    /// Its number in the list
    way: u32,
    #[command(flatten)]
    locks: Locks,
    #[command(flatten)]
    proof: Proof,
}

#[derive(Debug, Args)]
struct Removal {
    /// Its number in the list
    way: u32,
    #[command(flatten)]
    proof: Proof,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Runs a command about ways.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let form = desk.form;
    match &arguments.command {
        Command::List => list(&mut link, form),
        Command::Add(Addition { locks, proof }) => {
            change(&mut link, (locks, proof), WaysAct::Add, form)
        }
        Command::Replace(Replacement { way, locks, proof }) => {
            change(&mut link, (locks, proof), |locks| WaysAct::Replace(*way, locks), form)
        }
        Command::Remove(Removal { way, proof, confirmation }) => {
            let what = format!(
                "remove way {way} into the vault; who knows its secret may still know the root key"
            );
            if confirmation.ask(&what)? == Decision::Leave {
                return Ok(());
            }
            let proof = proof.read(&parts::ways(&mut link)?)?;
            let change = WaysChange { proof, act: WaysAct::Remove(*way) };
            link.tell(&Request::ChangeWays(Box::new(change)))?;
            done(form, "removed; after a loss of its secret also run: strongroom share rotate");
            Ok(())
        }
        Command::Drop(confirmation) => {
            if confirmation.ask("give up the ways that wait for their shares")? == Decision::Leave {
                return Ok(());
            }
            link.tell(&Request::DropWays)?;
            done(form, "given up; those shares open nothing");
            Ok(())
        }
    }
}

fn list(link: &mut Link, form: Form) -> Outcome {
    let ways = parts::ways(link)?;
    match form {
        Form::Json => out::object(json!({"ways": ways})),
        Form::Text => ways.iter().for_each(|way| out::data(&describe(way))),
    }
    Ok(())
}

fn change(
    link: &mut Link,
    (locks, proof): (&Locks, &Proof),
    act: impl FnOnce(Vec<strongroom_protocol::operator::SealWish>) -> WaysAct,
    form: Form,
) -> Outcome {
    let ways = parts::ways(link)?;
    let proof = proof.read(&ways)?;
    let mut wish = locks.wish(form)?;
    let mut new = std::mem::take(&mut wish.ways);
    let (Some(locks), true) = (new.pop(), new.is_empty()) else {
        return Err(
            Failure::argument("one way at a time").next("--policy all-of makes one of both")
        );
    };
    match link.ask(&Request::ChangeWays(Box::new(WaysChange { proof, act: act(locks) })))? {
        Answer::Shares(shares) => wish.deliver(&shares, form),
        Answer::Done => {
            done(form, "changed: see 'strongroom seal-ways list'");
            Ok(())
        }
        _ => Err(Failure::unexpected()),
    }
}

fn done(form: Form, what: &str) {
    match form {
        Form::Json => out::object(json!({"done": true})),
        Form::Text => out::say(what),
    }
}
