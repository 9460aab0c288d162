//! `strongroom audit verify`: what a journal's directory shows by itself, without the vault.
//!
//! Invariant: exit code 0 means that the checkpoint is signed by the pinned key, that every entry it covers is here (or archived, with
//! its hash) and leads to its root, and that every witnessed checkpoint that was given is continued. Hash tiles that a power cut took
//! are told and are no finding: the entries, which lead to the root, make them again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strongroom_tlog::cosignature::WitnessKey;
use strongroom_tlog::note::MAX_NOTE_BYTES;
use strongroom_tlog::{Checkpoint, Note, Verifier};

use super::directory::{self, Directory};
use super::examine::{self, Report, Witnessed};
use super::pinned::{self, Signer};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::progress::Progress;

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The journal's directory, or a copy [default: the journal of this install]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    signer: Signer,
    /// A checkpoint that a witness keeps; may be given more than once
    #[arg(long, value_name = "FILE")]
    witnessed: Vec<PathBuf>,
    /// A witness that must have cosigned it; may be given more than once
    #[arg(long, value_name = "VKEY", requires = "witnessed", value_parser = pinned::witness)]
    witness: Vec<WitnessKey>,
    /// Where archived entries lie; may be given more than once
    #[arg(long, value_name = "DIR")]
    archive: Vec<PathBuf>,
}

/// Verifies, prints what was found, and ends with the code of the gravest.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome<ExitCode> {
    let log = arguments.signer.key(desk)?;
    let home = arguments.directory.clone().unwrap_or_else(|| desk.places.journal());
    let directory = Directory::open(&home, &arguments.archive)?;
    let mut witnessed = Vec::new();
    for path in &arguments.witnessed {
        witnessed.push(read_witnessed(path, &log, &arguments.witness)?);
    }
    let mut progress = Progress::new("entries", announced(&directory)?);
    let report = examine::examine(&directory, &log, &witnessed, &mut progress)?;
    drop(progress);
    print(desk.form, &report, &log, &home);
    match report.findings.first() {
        None => Ok(ExitCode::SUCCESS),
        Some(gravest) => Err(gravest.failure()),
    }
}

fn read_witnessed(path: &Path, log: &Verifier, keys: &[WitnessKey]) -> Outcome<Witnessed> {
    let bytes = directory::read(path, MAX_NOTE_BYTES)?
        .ok_or_else(|| Failure::file(path, "does not exist"))?;
    examine::witnessed((&path.display().to_string(), &bytes), log, keys)
}

/// For the progress bar alone: what the checkpoint says, whoever signed it.
fn announced(directory: &Directory) -> Outcome<u64> {
    let bytes = directory.checkpoint()?.unwrap_or_default();
    let note = Note::parse(&bytes).ok();
    let head = note.and_then(|note| Checkpoint::parse(note.text()).ok());
    Ok(head.map_or(0, |head| head.size.0))
}

fn print(form: Form, report: &Report, log: &Verifier, home: &Path) {
    match form {
        Form::Json => out::object(json!({
            "directory": home,
            "signer": log.vkey(),
            "size": report.head.as_ref().map(|head| head.size.0),
            "root": report.head.as_ref().map(|head| head.root.to_string()),
            "entries": report.entries,
            "archived": report.archived,
            "uncovered": report.uncovered(),
            "torn_bytes": report.torn_bytes,
            "lacking_tiles": report.lacking_tiles,
            "witnessed": report.continued.iter().map(|seen| {
                json!({"by": seen.by, "size": seen.size.0, "root": seen.root.to_string()})
            }).collect::<Vec<_>>(),
            "findings": report.findings.iter().map(super::finding::Finding::json).collect::<Vec<_>>(),
        })),
        Form::Text => {
            for line in lines(report, log) {
                out::data(&out::plain(&line));
            }
        }
    }
}

pub(super) fn lines(report: &Report, log: &Verifier) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(head) = &report.head {
        lines.push(format!("checkpoint  {} entries, root {}", head.size, head.root));
        if report.findings.iter().all(|finding| finding.exit() != 15) {
            lines.push(format!("signed by   {}", log.vkey()));
        }
        if report.recomputed == Some(head.root) {
            lines.push("recomputed  every entry leads to that root".to_owned());
        }
    }
    if report.archived > 0 {
        lines.push(format!(
            "archived    {} entries: their hashes are here; name their place with --archive to recompute them",
            report.archived
        ));
    }
    for seen in &report.continued {
        lines.push(format!("continues   {} entries of {}", seen.size, seen.by));
    }
    if report.uncovered() > 0 {
        lines.push(format!(
            "uncovered   {} entries after the checkpoint: no signature is over them yet; the vault checks their chain when it is unsealed",
            report.uncovered()
        ));
    }
    if report.torn_bytes > 0 {
        lines.push(format!(
            "torn        {} bytes after the last entry: a write that never ended, or is under way",
            report.torn_bytes
        ));
    }
    if report.lacking_tiles > 0 {
        let next = match report.findings.first() {
            None => {
                "as a power cut leaves them: the entries make them again when the vault is unsealed"
            }
            Some(_) => "read what is wrong first",
        };
        lines.push(format!(
            "lacking     {} hash tiles are missing or torn; {next}",
            report.lacking_tiles
        ));
    }
    lines.extend(
        report.findings.iter().map(|finding| format!("WRONG       {}", finding.sentence())),
    );
    lines
}
