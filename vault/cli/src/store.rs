//! `strongroom store`: the records as one encrypted stream, and out of one kind of store into another.
//!
//! Invariant: what is exported is what a backup is, and what is imported is restored like one; there is no second format.
//! Invariant: a store is moved by the keeper's program as the keeper's user, while no keeper serves from it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::arguments::Common;
use crate::backup::{self, Recipient};
use crate::desk::Desk;
use crate::failure::{Outcome, speak_of};
use crate::out::{self, Form};
use crate::up::rebuild::{self, Origin, Task};

/// Arguments of `store`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Write all records as one encrypted stream, while serving: a backup that is not restored first
    #[command(before_help = "Example: strongroom store export --to /mnt/backup/records")]
    Export(ExportArguments),
    /// Make an exported stream the vault of an empty appliance, whatever keeps its records
    #[command(before_help = "Example: strongroom store import /mnt/backup/records")]
    Import(backup::RestoreArguments),
    /// Move the records of a stopped appliance into what [store] in strongroom.toml says now
    #[command(before_help = "Example: strongroom store move")]
    Move(MoveArguments),
    /// Build the store of a stopped appliance anew, so that its files shrink
    #[command(before_help = "Example: strongroom store compact")]
    Compact(CompactArguments),
}

#[derive(Debug, Args)]
struct ExportArguments {
    /// The file, or `-` for standard output [default: strongroom-TIME.backup here]
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Encrypt it to this age key too; repeat for several
    #[arg(long, value_name = "age1…", value_parser = Recipient::parse)]
    recipient: Vec<Recipient>,
}

#[derive(Debug, Args)]
struct MoveArguments {
    #[command(flatten)]
    from: Origin,
    #[command(flatten)]
    programs: CompactArguments,
}

#[derive(Debug, Args)]
struct CompactArguments {
    /// Where the other programs are [default: beside this one]
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, common: &Common, form: Form) -> Outcome {
    let (task, programs) = match arguments.verb {
        Verb::Export(ExportArguments { to, recipient }) => {
            return backup::export(to, recipient, &Desk::open(common, form)?);
        }
        Verb::Import(arguments) => return backup::restore(&arguments, &Desk::open(common, form)?),
        Verb::Move(MoveArguments { from, programs }) => (Task::Move(from), programs),
        Verb::Compact(programs) => (Task::Compact, programs),
    };
    let kind = rebuild::run(&task, programs.binaries, common)?;
    let done = match &task {
        Task::Move(_) => format!("the records are kept by {} now", kind.name()),
        Task::Compact => format!("the store ({}) was built anew", kind.name()),
    };
    match form {
        Form::Json => out::object(json!({"store": kind.name()})),
        Form::Text => {
            out::say(&done);
            out::say(&speak_of(
                &common.place(),
                "next: strongroom up, and unseal: then the vault vouches for them and the old store is removed",
            ));
        }
    }
    Ok(())
}
