//! `strongroom backup`: made while serving, proved by restoring, brought back with what was revoked since.
//!
//! Invariant: a backup's file appears whole, 0600, and never in the place of another one.
//! Invariant: this program reads nothing of a backup: it is encrypted when it comes and when it goes.

mod bring;
mod fetch;
mod place;
mod recipients;
pub(crate) mod schedule;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::name::Label;
use strongroom_protocol::operator::backup::{
    BackupAnswer, BackupRequest, Care, Content, KeptTokens, Restored,
};
use strongroom_protocol::operator::{Answer, Pick, Request};

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::render;
use fetch::{Target, Wish};
pub(crate) use recipients::Recipient;

/// Restoring a large store on a slow disk takes a while.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_mins(15);

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Prepare the directory that scheduled backups go to, once its disk is mounted
    #[command(before_help = "Example: strongroom backup init /mnt/backup")]
    Init(InitArguments),
    /// Write one encrypted file with the whole vault of this moment
    #[command(before_help = "Example: strongroom backup create --to /mnt/backup/today.backup")]
    Create(CreateArguments),
    /// Restore a file into a scratch directory and open every record
    #[command(before_help = "Example: strongroom backup verify /mnt/backup/today.backup")]
    Verify(VerifyArguments),
    /// Make a backup the vault of an empty appliance
    #[command(
        before_help = "Example: strongroom backup restore today.backup --journal /mnt/old/vault/journal"
    )]
    Restore(RestoreArguments),
    /// Let a restored vault answer calls and take changes, after looking at it
    #[command(before_help = "Example: strongroom backup confirm --token laptop")]
    Confirm(ConfirmArguments),
}

#[derive(Debug, Args)]
struct InitArguments {
    /// The directory, as in `[backup] directory`; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// The file, or `-` for standard output [default: strongroom-TIME.backup here]
    #[arg(long, value_name = "PATH")]
    to: Option<PathBuf>,
    /// Encrypt the file to this age key too, so that its host sees not even what it is; repeat for several
    #[arg(long, value_name = "age1…", value_parser = Recipient::parse)]
    recipient: Vec<Recipient>,
    /// Do not restore it into a scratch directory first
    #[arg(long)]
    unproved: bool,
}

/// Arguments of `backup verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file with the age identity that opens it
    #[arg(long, value_name = "FILE")]
    age_identity: Option<PathBuf>,
}

/// Arguments of `backup restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    backup: VerifyArguments,
    /// A journal directory that survived; repeat for several
    #[arg(long, value_name = "DIR")]
    journal: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ConfirmArguments {
    /// A token that lives on, by name or id; the others are revoked
    #[arg(long, value_name = "NAME", value_parser = Label::parse)]
    token: Vec<Label>,
    /// All tokens live on
    #[arg(long, conflicts_with_all = ["token", "no_tokens"])]
    all_tokens: bool,
    /// All tokens are revoked
    #[arg(long, conflicts_with = "token")]
    no_tokens: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Init(arguments) => init(&arguments, desk),
        Verb::Create(arguments) => create(&arguments, desk),
        Verb::Verify(arguments) => verify(&arguments, desk),
        Verb::Restore(arguments) => restore(&arguments, desk),
        Verb::Confirm(arguments) => confirm(arguments, desk),
    }
}

fn init(arguments: &InitArguments, desk: &Desk) -> Outcome {
    let directory = &arguments.directory;
    place::prepare(directory)?;
    match desk.form {
        Form::Json => out::object(json!({"directory": directory})),
        Form::Text => {
            out::say(&format!("{} is prepared for scheduled backups", directory.display()));
            out::say("next: set it as [backup] directory in strongroom.toml, then start again");
        }
    }
    Ok(())
}

/// Writes a backup that is not restored first.
pub(crate) fn export(to: Option<PathBuf>, recipient: Vec<Recipient>, desk: &Desk) -> Outcome {
    create(&CreateArguments { to, recipient, unproved: true }, desk)
}

fn create(arguments: &CreateArguments, desk: &Desk) -> Outcome {
    let aged = !arguments.recipient.is_empty();
    let target = match &arguments.to {
        Some(path) if path.as_os_str() == "-" => Target::StandardOutput,
        Some(path) => Target::File(path.clone()),
        None => Target::File(fetch::name_of(render::now(), aged).into()),
    };
    let care = if arguments.unproved { Care::Written } else { Care::Proved };
    let wish = Wish { target, recipients: &arguments.recipient, care };
    let fetched = fetch::fetch(&mut desk.link()?, &wish)?;
    let told = json!({
        "file": fetched.path,
        "bytes": fetched.bytes,
        "commit": fetched.made.commit,
        "when": render::moment(fetched.made.when),
        "records": fetched.made.records,
        "proved": fetched.made.proved.as_ref().map(content_json),
    });
    match (&fetched.path, desk.form) {
        // Standard output carries the backup.
        (None, _) => out::say(&told.to_string()),
        (Some(_), Form::Json) => out::object(told),
        (Some(path), Form::Text) => {
            let proof = match &fetched.made.proved {
                Some(content) => format!("restored and opened: {}", content_line(content)),
                None => "not restored".to_owned(),
            };
            out::say(&format!("wrote {} ({} bytes); {proof}", path.display(), fetched.bytes));
        }
    }
    Ok(())
}

fn verify(arguments: &VerifyArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let transfer = bring::backup(&mut link, &arguments.file, arguments.age_identity.as_deref())?;
    let BackupAnswer::Verified(content) = ask(&mut link, BackupRequest::Verify(transfer))? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => out::object(json!({"verified": content_json(&content)})),
        Form::Text => {
            let when = render::moment(content.when);
            out::data(&format!(
                "good: commit {} of {when}: {}",
                content.commit,
                content_line(&content)
            ));
        }
    }
    Ok(())
}

/// Makes a backup the vault of an empty appliance.
pub(crate) fn restore(arguments: &RestoreArguments, desk: &Desk) -> Outcome {
    let RestoreArguments { backup, journal } = arguments;
    let mut link = desk.link()?;
    let journals = bring::find_journals(journal)?;
    let transfer = bring::backup(&mut link, &backup.file, backup.age_identity.as_deref())?;
    bring::journals(&mut link, transfer, &journals)?;
    match link.ask_within(&Request::Backup(BackupRequest::Restore(transfer)), LONG_PATIENCE)? {
        Answer::Done => {}
        _ => return Err(Failure::unexpected()),
    }
    match desk.form {
        Form::Json => out::object(json!({"state": "sealed", "journals": journal.len()})),
        Form::Text => {
            out::say("the backup is in place; it is restored and checked when it is unsealed");
            if journal.is_empty() {
                out::warn(
                    "no journal was named: what was revoked or deleted since the backup is unknown, and 'backup confirm' \
                     will ask which tokens live on",
                );
            }
            out::say(&desk.here(
                "next: strongroom unseal, with what opened the vault when the backup was made",
            ));
        }
    }
    Ok(())
}

fn confirm(arguments: ConfirmArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let Some(restored) = standing(&mut link)? else {
        return Err(Failure::argument("no restored vault waits to be confirmed"));
    };
    for line in lines(&restored) {
        out::say(&line);
    }
    let ConfirmArguments { token, all_tokens, no_tokens, confirmation } = arguments;
    let kept = match (all_tokens, no_tokens, token.is_empty()) {
        (true, _, _) => KeptTokens::All,
        (false, true, _) | (false, false, false) => {
            KeptTokens::Only(token.into_iter().map(Pick).collect())
        }
        (false, false, true) => KeptTokens::Known,
    };
    let act = match &kept {
        KeptTokens::Known | KeptTokens::All => {
            "answer calls and allow changes again, with the tokens as they are".to_owned()
        }
        KeptTokens::Only(kept) => {
            format!(
                "answer calls and allow changes again, and revoke all tokens but {}",
                kept.len()
            )
        }
    };
    if confirmation.ask(&act)? == Decision::Leave {
        return Ok(());
    }
    link.tell(&Request::Backup(BackupRequest::Confirm(kept)))?;
    match desk.form {
        Form::Json => out::object(json!({"confirmed": true})),
        Form::Text => out::say("confirmed: calls are answered and changes can be made again"),
    }
    Ok(())
}

/// Asks something about backups that takes a while.
pub(crate) fn ask(link: &mut Link, request: BackupRequest) -> Outcome<BackupAnswer> {
    match link.ask_within(&Request::Backup(request), LONG_PATIENCE)? {
        Answer::Backup(answer) => Ok(answer),
        _ => Err(Failure::unexpected()),
    }
}

/// Whether an open vault was restored and waits to be confirmed.
pub(crate) fn standing(link: &mut Link) -> Outcome<Option<Restored>> {
    match ask(link, BackupRequest::Standing)? {
        BackupAnswer::Standing(restored) => Ok(restored.map(|restored| *restored)),
        _ => Err(Failure::unexpected()),
    }
}

/// What is known of a restored vault, for programs: times as everywhere.
pub(crate) fn standing_json(restored: &Restored) -> Value {
    json!({
        "commit": restored.commit,
        "backup": render::moment(restored.backup),
        "restored": render::moment(restored.restored),
        "journal": restored.journal,
        "sleeping_tokens": restored.sleeping_tokens,
        "done_again": restored.done_again,
        "left_open": restored.left_open,
        "left_open_count": restored.left_open_count,
    })
}

/// What is known of a restored vault, in sentences.
pub(crate) fn lines(restored: &Restored) -> Vec<String> {
    let backup = render::moment(restored.backup);
    let mut lines = vec![format!(
        "restored from commit {} of {backup}: no call is answered and no power grows until 'strongroom backup confirm'; {} sleep",
        restored.commit,
        render::count(usize::try_from(restored.sleeping_tokens).unwrap_or(usize::MAX), "token")
    )];
    match &restored.journal {
        Some(covered) => lines.push(format!(
            "a journal tells what was taken away until entry {} of {}; what was revoked after that is unknown, and would act again",
            covered.entries,
            out::plain(&covered.until)
        )),
        None => lines.push(format!(
            "without a journal: what was revoked or deleted since {backup} is unknown"
        )),
    }
    let done = restored.done_again;
    let mut again = String::new();
    for (number, one, many, how) in [
        (done.credentials, "credential", "credentials", "deleted"),
        (done.tokens, "token", "tokens", "revoked"),
        (done.disabled, "person", "people", "disabled"),
        (done.users, "person", "people", "deleted"),
        (done.memberships, "membership", "memberships", "ended"),
        (done.workspaces, "workspace", "workspaces", "deleted"),
    ] {
        if number > 0 {
            let what = if number == 1 { one } else { many };
            // Writing to a string does not fail.
            let _infallible = write!(again, " {number} {what} {how};");
        }
    }
    if !again.is_empty() {
        lines.push(format!("done again:{}", again.trim_end_matches(';')));
    }
    for open in &restored.left_open {
        let (act, target) = (out::plain(&open.act), out::plain(&open.target));
        let what = [act, target].into_iter().filter(|word| !word.is_empty());
        let what = what.collect::<Vec<_>>().join(" ");
        lines.push(format!("not in the backup, look at it: {what}"));
    }
    let shown = u32::try_from(restored.left_open.len()).unwrap_or(u32::MAX);
    if restored.left_open_count > shown {
        lines.push(format!("and {} more such acts", restored.left_open_count - shown));
    }
    lines
}

fn content_json(content: &Content) -> Value {
    json!({
        "commit": content.commit,
        "when": render::moment(content.when),
        "records": content.records,
        "users": content.users,
        "workspaces": content.workspaces,
        "tokens": content.tokens,
        "credentials": content.credentials,
        "providers": content.providers,
        "journal_entries": content.journal_entries,
    })
}

fn content_line(content: &Content) -> String {
    format!(
        "{} records; {} people, {} workspaces, {} tokens, {} credentials, {} providers of your own",
        content.records,
        content.users,
        content.workspaces,
        content.tokens,
        content.credentials,
        content.providers
    )
}
