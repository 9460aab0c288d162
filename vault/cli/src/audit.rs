//! `strongroom audit`: the journal, line by line.
//!
//! Invariant: with `--json` a line is printed as it stands in the journal; without, no control character passes.

mod copy;
pub(crate) mod directory;
pub(crate) mod examine;
mod finding;
pub(crate) mod pinned;
mod proof;
mod search;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use strongroom_protocol::operator::listing::JournalRow;
use strongroom_protocol::operator::{Answer, Request};

use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::{Link, PATIENCE};
use crate::out::{self, Form};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

impl Arguments {
    /// Whether it may be about one tenant: entries name theirs, and a search can be for one's.
    pub(crate) const fn takes_a_tenant(&self) -> bool {
        matches!(self.verb, Verb::Search(_))
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the last entries
    #[command(before_help = "Example: strongroom audit tail -n 50 -f")]
    Tail {
        /// Go on as entries are written
        #[arg(short, long)]
        follow: bool,
        /// How many to begin with
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        lines: u32,
    },
    /// Recompute a journal, or a copy of one, without the vault, and say what is not as it was signed
    #[command(before_help = "Example: strongroom audit verify /media/usb/journal --pin audit.pub")]
    #[command(
        after_help = "Exit codes: 0 all holds · 1 error · 10 changed · 11 missing · 12 reordered · \
                            13 cut off or older · 14 forked · 15 not signed by the pinned key"
    )]
    Verify(verify::Arguments),
    /// Pin the key that signs the journal's checkpoints, and print it
    #[command(before_help = "Example: strongroom audit pin")]
    Pin,
    /// Print a proof that an entry is in the journal, for whoever has no copy of it
    #[command(before_help = "Example: strongroom audit prove 4711")]
    Prove(proof::ProveArguments),
    /// Check such a proof without the journal
    #[command(before_help = "Example: strongroom audit check-proof entry-4711.tlog-proof")]
    CheckProof(proof::CheckArguments),
    /// Find entries: all that is given must fit
    #[command(
        before_help = "Example: strongroom audit search --since 24h --user alice --outcome complete"
    )]
    Search(search::Arguments),
    /// Copy the whole journal into a directory, as a static log that anyone can verify
    #[command(before_help = "Example: strongroom audit export /media/usb/journal")]
    Export(copy::ExportArguments),
    /// Move old entries out of the journal into a directory; hash tiles stay, so both verify together
    #[command(
        before_help = "Example: strongroom audit archive --before 90d --to /srv/journal-2026"
    )]
    Archive(copy::ArchiveArguments),
}

/// How long the keeper waits for the next entry.
const WAIT: Duration = Duration::from_secs(20);
/// Entries in one answer while following.
const PAGE: u32 = 256;

/// Runs the verb.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome<ExitCode> {
    match &arguments.verb {
        Verb::Tail { follow, lines } => tail(*follow, *lines, desk)?,
        Verb::Verify(arguments) => return verify::run(arguments, desk),
        Verb::Pin => pin(desk)?,
        Verb::Prove(arguments) => proof::prove(arguments, desk)?,
        Verb::CheckProof(arguments) => proof::check(arguments, desk)?,
        Verb::Search(arguments) => search::run(arguments, desk)?,
        Verb::Export(arguments) => copy::export(arguments, desk)?,
        Verb::Archive(arguments) => copy::archive(arguments, desk)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tail(follow: bool, lines: u32, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let mut last = None;
    let rows = page(&mut link, None, lines, Duration::ZERO)?;
    print(desk.form, &rows, &mut last);
    if !follow {
        return Ok(());
    }
    loop {
        let rows = page(&mut link, Some(last.unwrap_or(0)), PAGE, WAIT)?;
        print(desk.form, &rows, &mut last);
    }
}

/// Pins the key of the running vault, unless another one is pinned already.
fn pin(desk: &Desk) -> Outcome {
    let (path, mut link) = (desk.places.audit_pin(), desk.link()?);
    let key = pinned::of_running(&path, &mut link)?;
    match desk.form {
        Form::Json => out::object(serde_json::json!({"signer": key.vkey(), "pin": path})),
        Form::Text => {
            out::data(&key.vkey());
            out::say(&format!("pinned in {}; keep a copy where the auditors are", path.display()));
        }
    }
    Ok(())
}

fn page(
    link: &mut Link,
    after: Option<u64>,
    limit: u32,
    wait: Duration,
) -> Outcome<Vec<JournalRow>> {
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    let request = Request::AuditTail { after, limit, wait_ms };
    match link.ask_within(&request, PATIENCE + wait)? {
        Answer::Journal(rows) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn print(form: Form, rows: &[JournalRow], last: &mut Option<u64>) {
    for row in rows {
        match form {
            Form::Json => out::data(&out::plain(&row.line)),
            Form::Text => out::data(&readable(row)),
        }
        *last = Some(row.number);
    }
}

/// `number time act key=value …`; fields that are nested are shown as JSON.
fn readable(row: &JournalRow) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(&row.line) else {
        return format!("{:>7}  {}", row.number, out::plain(&row.line));
    };
    for shown_or_proof in ["n", "chain"] {
        fields.remove(shown_or_proof);
    }
    let mut take = |name: &str| fields.remove(name).map(|value| text(&value)).unwrap_or_default();
    let mut line = format!("{:>7}  {}  {}", row.number, take("t"), take("what"));
    for (name, value) in &fields {
        if !value.is_null() {
            line.extend(["  ", name, "=", &text(value)]);
        }
    }
    out::plain(&line)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::operator::listing::JournalRow;

    use super::readable;

    #[test]
    fn an_entry_reads_as_a_line_whatever_it_holds() {
        let row = |line: &str| readable(&JournalRow { number: 7, line: line.to_owned() });
        assert_eq!(
            row(
                r#"{"n":7,"t":"2026-01-01T00:00:00.000Z","what":"admit","model":"gpt-4o","x":{"y":1},"chain":"00"}"#
            ),
            "      7  2026-01-01T00:00:00.000Z  admit  model=gpt-4o  x={\"y\":1}"
        );
        assert!(!row("{\"act\":\"a\\u001b[2J\"}").contains('\u{1b}'));
        assert!(row("\u{1b}not json").contains("not json"));
    }
}
