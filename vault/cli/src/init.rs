//! `strongroom init`: making a vault.
//!
//! Invariant: a vault sealed by shares counts only once a threshold of them was entered back (`share verify`).

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strongroom_protocol::operator::{
    Answer, MAX_PASSPHRASE_BYTES, MIN_PASSPHRASE_BYTES, Request, SealWish, VaultWish,
};
use strongroom_protocol::upload::VaultKey;

use crate::audit::pinned;
use crate::custody::Locks;
use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::pin;
use crate::prompt::{self, Typed};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    locks: Locks,
    /// Throw a vault away whose shares were never entered back
    #[arg(long)]
    start_over: bool,
}

/// Makes the vault.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome<ExitCode> {
    let mut link = desk.link()?;
    let mut wish = arguments.locks.wish(desk.form)?;
    let ways = std::mem::take(&mut wish.ways);
    let vault = VaultWish { ways, start_over: arguments.start_over };
    match link.ask(&Request::InitWays(Box::new(vault)))? {
        Answer::Initialised(key) => made(&key, &mut link, desk)?,
        Answer::Shares(shares) => wish.deliver(&shares, desk.form)?,
        _ => return Err(Failure::unexpected()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Pins the keys of a vault that was made just now.
pub(crate) fn made(key: &VaultKey, link: &mut Link, desk: &Desk) -> Outcome {
    let pin_file = desk.places.pin();
    pin::write(&pin_file, key)?;
    pinned::of_running(&desk.places.audit_pin(), link)?;
    match desk.form {
        Form::Json => out::object(json!({"vault_key": hex::encode(key.0), "pin": pin_file})),
        Form::Text => {
            out::say(&format!(
                "the vault is made and open; its key is pinned in {}",
                pin_file.display()
            ));
            out::say(
                &desk.here("next: strongroom user create NAME; strongroom credential add openai"),
            );
        }
    }
    Ok(())
}

/// Reads a new passphrase: twice at a terminal, once from a descriptor or pipe.
pub(crate) fn new_passphrase(descriptor: Option<u32>) -> Outcome<Typed> {
    let first = match descriptor {
        Some(number) => prompt::descriptor(number)?,
        None => prompt::secret("New passphrase (hidden, at least 12 characters): ")?,
    };
    let length = first.lend(<[u8]>::len);
    if !(MIN_PASSPHRASE_BYTES..=MAX_PASSPHRASE_BYTES).contains(&length) {
        let what = format!(
            "a passphrase has {MIN_PASSPHRASE_BYTES} to {MAX_PASSPHRASE_BYTES} bytes, this one {length}"
        );
        return Err(Failure::new(Code::NoSecret, what).next("four or more random words are good"));
    }
    if descriptor.is_none() && prompt::is_attended() {
        let again = prompt::secret("The same again: ")?;
        if !first.lend(|first| again.lend(|again| first == again)) {
            return Err(Failure::new(Code::NoSecret, "the two passphrases differ"));
        }
    }
    Ok(first)
}

/// Makes a vault that a passphrase opens.
pub(crate) fn with_passphrase(link: &mut Link, passphrase: &Typed) -> Outcome<VaultKey> {
    match link.ask(&Request::Init(SealWish::Passphrase(passphrase.message())))? {
        Answer::Initialised(key) => Ok(key),
        _ => Err(Failure::unexpected()),
    }
}
