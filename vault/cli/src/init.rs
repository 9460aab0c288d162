//! `strongroom init`: making a vault, and proving that what opens it is in somebody's hands.
//!
//! Invariant: a vault sealed by shares exists only once a threshold of them was entered back.
//! Invariant: a share is written to a file that did not exist, or shown once; never both.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::{
    Answer, MAX_PASSPHRASE_BYTES, MIN_PASSPHRASE_BYTES, Request, SealWish,
};
use strongroom_protocol::upload::VaultKey;

use crate::audit::pinned;
use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::link::Link;
use crate::out::{self, Form};
use crate::pin;
use crate::prompt::{self, Typed};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What opens the vault
    #[arg(long, value_enum, default_value_t = Seal::Passphrase)]
    seal: Seal,
    /// How many shares are made
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=16))]
    shares: u8,
    /// How many of them open the vault
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    threshold: u8,
    /// Write the shares to DIR/share-N.txt (0600) instead of printing them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Read the passphrase from this descriptor
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Seal {
    /// One passphrase: installs of one person
    Passphrase,
    /// Shares, a threshold of which is needed
    Shares,
}

/// Makes the vault.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let key = match arguments.seal {
        Seal::Passphrase => {
            let passphrase = new_passphrase(arguments.passphrase_fd)?;
            with_passphrase(&mut link, &passphrase)?
        }
        Seal::Shares => with_shares(arguments, &mut link, desk.form)?,
    };
    pin::write(&desk.places.pin(), &key)?;
    pinned::of_running(&desk.places.audit_pin(), &mut link)?;
    let pinned = desk.places.pin();
    match desk.form {
        Form::Json => out::object(json!({"vault_key": hex::encode(key.0), "pin": pinned})),
        Form::Text => {
            out::say(&format!(
                "the vault is made and open; its key is pinned in {}",
                pinned.display()
            ));
            out::say("next: strongroom user create NAME; strongroom credential add openai");
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

fn with_shares(arguments: &Arguments, link: &mut Link, form: Form) -> Outcome<VaultKey> {
    let Arguments { shares: count, threshold, out: directory, .. } = arguments;
    if threshold > count {
        return Err(Failure::argument(format!("{threshold} of {count} shares can never be there")));
    }
    if let Some(directory) = directory {
        refuse_existing(directory, *count)?;
    }
    let wish = SealWish::Shares { threshold: *threshold, count: *count };
    let Answer::Shares(shares) = link.ask(&Request::Init(wish))? else {
        return Err(Failure::unexpected());
    };
    match directory {
        Some(directory) => write_shares(directory, &shares)?,
        None => print_shares(&shares, form),
    }
    drop(shares);
    out::say(&format!(
        "any {threshold} of these {count} open the vault; with fewer it is lost for good. \
         They are not kept here.\nNothing is stored until {threshold} of them are entered back."
    ));
    prove(link, *threshold)
}

fn prove(link: &mut Link, threshold: u8) -> Outcome<VaultKey> {
    let mut entered = Vec::new();
    for number in 1..=threshold {
        let typed =
            prompt::secret(&format!("Share {number} of {threshold}, entered back (hidden): "))?;
        entered.push(typed.message());
    }
    match link.ask(&Request::ProveCustody(entered))? {
        Answer::Initialised(key) => Ok(key),
        _ => Err(Failure::unexpected()),
    }
}

fn share_file(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("share-{number}.txt"))
}

/// Before the vault is made: a share that could not be written would be lost.
fn refuse_existing(directory: &Path, count: u8) -> Outcome {
    files::directory(directory, 0o700)?;
    for number in 1..=usize::from(count) {
        let file = share_file(directory, number);
        if file.exists() {
            return Err(Failure::file(&file, "exists; shares are never overwritten")
                .next("name an empty directory: --out DIR"));
        }
    }
    Ok(())
}

fn write_shares(directory: &Path, shares: &[SecretBytes]) -> Outcome {
    for (number, share) in (1..).zip(shares) {
        let file = share_file(directory, number);
        share.expose(|share| {
            let mut line = zeroize::Zeroizing::new(Vec::with_capacity(share.len() + 1));
            line.extend_from_slice(share);
            line.push(b'\n');
            files::create(&file, &line, 0o600)
        })?;
        out::say(&format!("wrote {}", file.display()));
    }
    Ok(())
}

fn print_shares(shares: &[SecretBytes], form: Form) {
    match form {
        Form::Json => {
            let text = |share: &SecretBytes| {
                Value::String(share.expose(|share| String::from_utf8_lossy(share).into_owned()))
            };
            out::object(json!({"shares": shares.iter().map(text).collect::<Vec<_>>()}));
        }
        Form::Text => {
            for share in shares {
                share.expose(out::raw);
                out::raw(b"\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::SecretBytes;

    use super::{refuse_existing, share_file, write_shares};

    #[test]
    fn shares_are_written_for_their_owner_and_never_over_another() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("shares");
        refuse_existing(&directory, 2).unwrap();
        let shares = [SecretBytes::copy_from(b"one"), SecretBytes::copy_from(b"two")];
        write_shares(&directory, &shares).unwrap();
        let second = share_file(&directory, 2);
        assert_eq!(std::fs::read(&second).unwrap(), b"two\n");
        assert_eq!(std::fs::metadata(&second).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(refuse_existing(&directory, 2).is_err());
        assert!(write_shares(&directory, &shares).is_err());
    }
}
