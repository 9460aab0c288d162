//! `strongroom witness`: a memory of the journal on a disk that is not the vault's, and the operator's list of such.
//!
//! Invariant: a witness asks and is never asked: the keeper keeps having no network.
//! Invariant: what a witness has signed lies on its disk before anybody sees the signature.

mod memory;
mod mirror;
mod relay;
mod round;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_protocol::operator::witness::{KeyText, WitnessRow};
use strongroom_protocol::operator::{Answer, Request};
use strongroom_tlog::cosignature::WitnessKey;
use strongroom_tlog::key::Name;

use crate::audit::pinned::Signer;
use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::{pick, render};
use memory::Memory;
use mirror::Mirror;

/// Arguments of `witness`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a witness's directory and key, and print the key to enrol
    #[command(
        before_help = "Example: strongroom witness init --state /media/usb/witness --name usb"
    )]
    Init(InitArguments),
    /// Remember the journal's newest checkpoint, again and again, and refuse to forget
    #[command(before_help = "Example: strongroom witness run --state /media/usb/witness --once")]
    #[command(
        after_help = "Exit codes: 0 done · 1 error · 13 the vault shows fewer entries than before · \
                            14 another history · 15 not signed by the pinned key"
    )]
    Run(RunArguments),
    /// Pass what a witness says between standard input and output and this vault, and nothing else
    #[command(before_help = "Example: strongroom witness relay")]
    Relay,
    /// Enrol a witness in the open vault
    #[command(before_help = "Example: strongroom witness add usb+6d1bb8c7+BAAj --required")]
    Add {
        /// Its verifier key, as `witness init` prints it
        #[arg(value_name = "VKEY")]
        vkey: String,
        /// The vault waits for it when it is unsealed
        #[arg(long)]
        required: bool,
    },
    /// List witnesses and what they saw last
    #[command(before_help = "Example: strongroom witness list")]
    List,
    /// Let a witness go
    #[command(before_help = "Example: strongroom witness remove usb --dry-run")]
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
struct InitArguments {
    /// The witness's directory, on a disk that is not the vault's
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Its name
    #[arg(long, value_name = "NAME", value_parser = Name::parse)]
    name: Name,
    #[command(flatten)]
    signer: Signer,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The witness's directory
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Reach the vault by this command, as `ssh vault strongroom witness relay` [default: this machine's vault]
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// Keep the entries too, for audits and for restoring
    #[arg(long)]
    mirror: bool,
    /// Ask once instead of again and again
    #[arg(long)]
    once: bool,
    /// How long between two rounds
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = pick::duration)]
    every: Duration,
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Init(arguments) => init(&arguments, desk),
        Verb::Run(arguments) => watch(&arguments, desk),
        Verb::Relay => relay::run(desk),
        Verb::Add { vkey, required } => add(vkey, required, desk),
        Verb::List => list(desk),
        Verb::Remove { name, confirmation } => remove(name, &confirmation, desk),
    }
}

fn init(arguments: &InitArguments, desk: &Desk) -> Outcome {
    let log = arguments.signer.key(desk)?;
    let key = memory::make(&arguments.state, &arguments.name, &log)?;
    match desk.form {
        Form::Json => out::object(json!({"witness": key.vkey(), "state": arguments.state})),
        Form::Text => {
            out::data(&key.vkey());
            out::say(
                "next, at the vault: strongroom witness add with that key (and --required, if the vault shall wait for it)",
            );
        }
    }
    Ok(())
}

fn watch(arguments: &RunArguments, desk: &Desk) -> Outcome {
    let mut memory = Memory::open(&arguments.state)?;
    let mut mirror = None;
    if arguments.mirror {
        mirror = Some(Mirror::open(&arguments.state.join("mirror"), memory.log())?);
    }
    let mut complaint = None;
    loop {
        let told = reach(arguments, desk)
            .and_then(|mut way| round::run(&mut memory, mirror.as_mut(), &mut way.link));
        match told {
            Ok(told) => {
                complaint = None;
                say(desk.form, &told);
            }
            // Refusals end it, so that whoever started it sees them.
            Err(failure) if arguments.once || REFUSALS.contains(&failure.exit) => {
                return Err(failure);
            }
            Err(failure) => {
                if complaint.as_ref() != Some(&failure) {
                    out::failure(desk.form, &failure);
                }
                complaint = Some(failure);
            }
        }
        if arguments.once {
            return Ok(());
        }
        std::thread::sleep(arguments.every);
    }
}

/// The exit codes of a witness that refuses.
const REFUSALS: [u8; 3] = [13, 14, 15];

fn say(form: Form, told: &round::Told) {
    if !told.news {
        return;
    }
    match form {
        Form::Json => out::object(json!({
            "size": told.size.0, "root": told.root.to_string(), "answered": told.answered,
        })),
        Form::Text => out::data(&format!(
            "{} entries, root {}{}",
            told.size,
            told.root,
            if told.answered { "; the vault waited for this" } else { "" }
        )),
    }
}

/// The way to the vault; a command that was started for it ends with it.
struct Way {
    link: Link,
    child: Option<Child>,
}

fn reach(arguments: &RunArguments, desk: &Desk) -> Outcome<Way> {
    let Some(command) = &arguments.command else {
        return Ok(Way { link: desk.link()?, child: None });
    };
    let failed = |error: std::io::Error| Failure::file(Path::new(command), error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let input = OwnedFd::from(theirs.try_clone().map_err(failed)?);
    let child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .map_err(failed)?;
    Ok(Way { link: Link::over(ours, Path::new(command)), child: Some(child) })
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It has nothing more to say; one that ended already cannot be killed.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn key_text(text: String) -> Outcome<KeyText> {
    KeyText::new(text).map_err(Failure::argument)
}

fn add(vkey: String, required: bool, desk: &Desk) -> Outcome {
    let key = WitnessKey::parse(&vkey).map_err(Failure::argument)?;
    desk.link()?.tell(&Request::WitnessAdd { key: key_text(vkey)?, required })?;
    match desk.form {
        Form::Json => out::object(json!({"witness": key.vkey(), "required": required})),
        Form::Text => {
            let what = if required {
                "is required: the vault waits for it when it is unsealed"
            } else {
                "is enrolled"
            };
            out::say(&format!("{} {what}", key.name()));
        }
    }
    Ok(())
}

fn list(desk: &Desk) -> Outcome {
    let Answer::Witnesses(rows) = desk.link()?.ask(&Request::WitnessList)? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => out::object(json!({"witnesses": rows})),
        Form::Text => {
            let cells: Vec<_> = rows.iter().map(cells).collect();
            render::table(
                ["WITNESS", "REQUIRED", "SAW ENTRIES", "AT", "KEY"],
                &cells,
                "no witnesses",
            );
        }
    }
    Ok(())
}

fn cells(row: &WitnessRow) -> [String; 5] {
    let key: &str = row.key.as_ref();
    [
        key.split('+').next().unwrap_or_default().to_owned(),
        if row.required { "yes" } else { "no" }.to_owned(),
        row.seen_size.map_or_else(|| "never".to_owned(), |size| size.to_string()),
        row.seen_at.map_or_else(|| "-".to_owned(), render::moment),
        key.to_owned(),
    ]
}

fn remove(name: String, confirmation: &Confirmation, desk: &Desk) -> Outcome {
    let act = format!("let witness {} go", out::plain(&name));
    if confirmation.ask(&act)? == Decision::Go {
        desk.link()?.tell(&Request::WitnessRemove(key_text(name)?))?;
        if desk.form == Form::Json {
            out::object(json!({"removed": true}));
        }
    }
    Ok(())
}
