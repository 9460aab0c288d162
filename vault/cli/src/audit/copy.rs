//! `strongroom audit export` and `audit archive`: the journal's files, copied through the keeper into a directory of the operator's.
//!
//! Invariant: what is copied is judged against the hash tiles, and those against the checkpoint's root, before it counts.
//! Invariant: nothing is taken out of the journal before its copy is on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nix::unistd::geteuid;
use serde_json::{Value, json};
use strongroom_protocol::operator::audit::{AuditAnswer, AuditPart, AuditRequest};
use strongroom_protocol::operator::{Answer, Request};
use strongroom_tlog::bundle::MAX_BUNDLE_BYTES;
use strongroom_tlog::tile::encode_hashes;
use strongroom_tlog::{Bundle, Checkpoint, Edge, Entries, Hash, Note, Tile, Width, leaf_hash};

use super::search::ago;
use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::progress::Progress;
use crate::{pick, render};

/// Arguments of `audit export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// A directory that does not exist yet
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Arguments of `audit archive`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArguments {
    /// Whole bundles of entries that are older than this, as 90d, or that lie before this entry, as 1000000
    #[arg(long, value_name = "TIME|ENTRY", value_parser = before)]
    before: Before,
    /// Where they go; what lies there from earlier archives stays
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, Clone, Copy)]
enum Before {
    Time(Duration),
    Entry(u64),
}

/// Entries in a full bundle, and hashes in a full tile.
const FULL: u64 = 256;

fn before(text: &str) -> Result<Before, String> {
    match text.parse() {
        Ok(entry) => Ok(Before::Entry(entry)),
        Err(_) => pick::duration(text).map(Before::Time),
    }
}

struct Span {
    first_bundle: u64,
    note: String,
    head: Checkpoint,
}

/// Copies everything that the newest checkpoint covers.
pub(super) fn export(arguments: &ExportArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let span = span(&mut link)?;
    let home = &arguments.directory;
    DirBuilder::new().mode(0o700).create(home).map_err(|error| Failure::file(home, error))?;
    let mut edge = Edge::empty();
    let mut progress = Progress::new("entries", span.head.size.0);
    for index in 0..span.head.size.0.div_ceil(FULL) {
        let leaves = if index < span.first_bundle {
            tile(&mut link, index)?
        } else {
            let bundle = Bundle::within(span.head.size, index).ok_or_else(Failure::unexpected)?;
            let (bytes, leaves) = covered(&entries(&mut link, index)?, bundle.width)?;
            write(home, &bundle.path(), &bytes)?;
            leaves
        };
        for leaf in leaves {
            for full in edge.push(leaf).map_err(|_| Failure::unexpected())? {
                write(home, &full.tile.path(), &full.bytes())?;
            }
        }
        progress.at(index.saturating_mul(FULL));
    }
    drop(progress);
    if edge.size() != span.head.size || edge.root() != span.head.root {
        return Err(differs());
    }
    for (tile, hashes) in edge.partials() {
        write(home, &tile.path(), &encode_hashes(hashes))?;
    }
    write(home, "checkpoint", span.note.as_bytes())?;
    tell_exported(desk, home, &span);
    Ok(())
}

fn tell_exported(desk: &Desk, home: &Path, span: &Span) {
    let archived = span.first_bundle.saturating_mul(FULL);
    match desk.form {
        Form::Json => out::object(json!({
            "directory": home, "entries": span.head.size.0, "archived": archived,
        })),
        Form::Text => {
            out::say(&format!("{} entries are in {}", span.head.size, home.display()));
            if archived > 0 {
                out::say(&format!(
                    "the first {archived} of them are in archives; their hashes are here"
                ));
            }
            out::say(&desk.here(&format!("next: strongroom audit verify {}", home.display())));
        }
    }
}

/// Copies the oldest bundles, and has the keeper take them away.
pub(super) fn archive(arguments: &ArchiveArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let span = span(&mut link)?;
    let most = span.head.size.0.saturating_sub(1) / FULL;
    let home = &arguments.to;
    make_our_own(home)?;
    let mut progress = Progress::new("entries", most.saturating_mul(FULL));
    let mut index = span.first_bundle;
    while index < most {
        let bytes = entries(&mut link, index)?;
        if !goes(&bytes, index, arguments.before) {
            break;
        }
        let (bytes, leaves) = covered(&bytes, Width::FULL)?;
        if leaves != tile(&mut link, index)? {
            return Err(differs());
        }
        let bundle = Bundle { index, width: Width::FULL };
        write(home, &bundle.path(), &bytes)?;
        let tile = Tile::new(0, index, Width::FULL).map_err(|_| Failure::unexpected())?;
        write(home, &tile.path(), &encode_hashes(&leaves))?;
        index = index.saturating_add(1);
        progress.at(index.saturating_mul(FULL));
    }
    drop(progress);
    let moved = if index > span.first_bundle { remove(&mut link, index)? } else { 0 };
    match desk.form {
        Form::Json => out::object(json!({"directory": home, "archived": moved})),
        Form::Text if moved == 0 => out::say("no whole bundle of 256 entries is that old"),
        Form::Text => {
            out::say(&format!("{moved} entries moved to {}", home.display()));
            let next = format!("next: strongroom audit verify --archive {}", home.display());
            out::say(&desk.here(&next));
        }
    }
    Ok(())
}

/// Whether a whole bundle lies before what was asked.
fn goes(bytes: &[u8], index: u64, before: Before) -> bool {
    match before {
        Before::Entry(entry) => index.saturating_add(1).saturating_mul(FULL) < entry,
        Before::Time(span) => {
            let last = Entries::of(bytes).map_while(Result::ok).last().unwrap_or_default();
            let fields: Option<Value> = serde_json::from_slice(last).ok();
            let time = fields.as_ref().and_then(|fields| fields.get("t")).and_then(Value::as_str);
            time.is_some_and(|time| render::parse_moment(time).is_some_and(|at| at < ago(span)))
        }
    }
}

fn span(link: &mut Link) -> Outcome<Span> {
    let answer = link.ask(&Request::Audit(AuditRequest::Span))?;
    let Answer::Audit(AuditAnswer::Span { first_bundle, checkpoint, .. }) = answer else {
        return Err(Failure::unexpected());
    };
    let head = Note::parse(checkpoint.as_bytes()).ok();
    let head = head.and_then(|note| Checkpoint::parse(note.text()).ok()).ok_or_else(|| {
        Failure::new(Code::Journal, "the journal has no checkpoint yet")
            .next("try again in a second")
    })?;
    Ok(Span { first_bundle, note: checkpoint, head })
}

fn remove(link: &mut Link, bundle: u64) -> Outcome<u64> {
    match link.ask(&Request::Audit(AuditRequest::Archive { bundle }))? {
        Answer::Audit(AuditAnswer::Archived(entries)) => Ok(entries),
        _ => Err(Failure::unexpected()),
    }
}

/// A whole file, part by part.
fn fetch(link: &mut Link, part: AuditPart) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let answer = link.ask(&Request::Audit(AuditRequest::Read { part, offset }))?;
        let Answer::Audit(AuditAnswer::Part(more)) = answer else {
            return Err(Failure::unexpected());
        };
        if more.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&more);
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(Failure::unexpected());
        }
    }
}

fn entries(link: &mut Link, index: u64) -> Outcome<Vec<u8>> {
    fetch(link, AuditPart::Entries(index))
}

fn tile(link: &mut Link, index: u64) -> Outcome<Vec<Hash>> {
    let bytes = fetch(link, AuditPart::Hashes { level: 0, index })?;
    strongroom_tlog::tile::decode_hashes(&bytes).map_err(|_| differs())
}

/// The first entries of a bundle and their hashes; the tail may have grown since the checkpoint.
fn covered(bytes: &[u8], width: Width) -> Outcome<(Vec<u8>, Vec<Hash>)> {
    let mut entries = Entries::of(bytes);
    let mut leaves = Vec::new();
    while leaves.len() < usize::from(width.get()) {
        match entries.next() {
            Some(Ok(entry)) => leaves.push(leaf_hash(entry)),
            Some(Err(_)) | None => return Err(differs()),
        }
    }
    Ok((bytes.get(..entries.at()).unwrap_or_default().to_vec(), leaves))
}

fn differs() -> Failure {
    Failure::new(
        Code::Journal,
        "what was copied is not what the checkpoint covers; nothing was removed",
    )
    .next("strongroom audit verify")
}

/// Makes the archive's directory, or takes one that nobody else may write in: another's could hold links to other files, and
/// what is archived is nowhere else.
fn make_our_own(home: &Path) -> Outcome {
    match DirBuilder::new().mode(0o700).create(home) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Failure::file(home, error));
        }
        Ok(()) | Err(_) => {}
    }
    let found = fs::symlink_metadata(home).map_err(|error| Failure::file(home, error))?;
    let ours = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0;
    if ours {
        return Ok(());
    }
    Err(Failure::file(home, "not a directory of yours alone")
        .next("choose one that you own and only you write in"))
}

/// Writes a file that is on the disk when this returns.
fn write(home: &Path, name: &str, bytes: &[u8]) -> Outcome {
    let path = home.join(name);
    put(&path, bytes).map_err(|error| Failure::file(&path, error))
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}
