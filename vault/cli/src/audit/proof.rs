//! `strongroom audit prove` and `check-proof`: one entry, shown to whoever has no copy of the journal (C2SP tlog-proof).
//!
//! Invariant: a proof is made only under a checkpoint of the pinned key, and is checked before it is given out.
//! Distrusts: the directory; the file that is checked.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use strongroom_tlog::cosignature::WitnessKey;
use strongroom_tlog::inclusion::MAX_PROOF_BYTES;
use strongroom_tlog::prove::BadTree;
use strongroom_tlog::tile::FULL;
use strongroom_tlog::{
    Bundle, Checkpoint, Entries, Hash, Inclusion, Index, Note, Size, Tile, Tiles, leaf_hash,
    prove_inclusion,
};

use super::directory::{self, Directory, Piece};
use super::pinned::{self, Signer};
use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::out::{self, Form};

/// Arguments of `audit prove`.
#[derive(Debug, Args)]
pub(crate) struct ProveArguments {
    /// The entry's number, as `audit tail` shows it first
    #[arg(value_name = "RECORD", value_parser = clap::value_parser!(u64).range(1..))]
    record: u64,
    /// The journal's directory, or a copy [default: the journal of this install]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    signer: Signer,
    /// Where archived entries lie; may be given more than once
    #[arg(long, value_name = "DIR")]
    archive: Vec<PathBuf>,
    /// Write the proof to a file instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `audit check-proof`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The proof
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    signer: Signer,
    /// A witness that must have cosigned its checkpoint; may be given more than once
    #[arg(long, value_name = "VKEY", value_parser = pinned::witness)]
    witness: Vec<WitnessKey>,
}

/// Makes a proof.
pub(crate) fn prove(arguments: &ProveArguments, desk: &Desk) -> Outcome {
    let log = arguments.signer.key(desk)?;
    let home = arguments.directory.clone().unwrap_or_else(|| desk.places.journal());
    let directory = Directory::open(&home, &arguments.archive)?;
    let bytes = directory
        .checkpoint()?
        .ok_or_else(|| Failure::new(Code::NoEntry, "the journal has no checkpoint yet"))?;
    let note = Note::parse(&bytes).map_err(not_proved)?;
    let head = Checkpoint::open(&note, &log).map_err(not_proved)?;
    let index = Index(arguments.record - 1);
    if index >= Index(head.size.0) {
        let what =
            format!("the checkpoint covers {} entries, not entry {}", head.size, arguments.record);
        return Err(Failure::new(Code::NoEntry, what).next(
            "wait a second: checkpoints are made at least so often while the vault is open",
        ));
    }
    let inclusion = with_proof(&directory, index, &head, note)?;
    inclusion.verify(&log).map_err(not_proved)?;
    let text = inclusion.encode();
    match (&arguments.out, desk.form) {
        (Some(path), _) => {
            files::create(path, text.as_bytes(), 0o644)?;
            out::say(&format!("entry {} is proved in {}", arguments.record, path.display()));
        }
        (None, Form::Text) => out::raw(text.as_bytes()),
        (None, Form::Json) => out::object(json!({"record": arguments.record, "proof": text})),
    }
    Ok(())
}

fn with_proof(
    directory: &Directory,
    index: Index,
    head: &Checkpoint,
    note: Note,
) -> Outcome<Inclusion> {
    let bundle = index.0 / u64::from(FULL);
    let offset = usize::try_from(index.0 % u64::from(FULL)).map_err(Failure::argument)?;
    let lost = || {
        let what = format!("entry {} is not in {}", index.0 + 1, directory.home().display());
        Failure::new(Code::NoEntry, what).next("name the place of archived entries with --archive")
    };
    let piece = piece(directory, bundle, head.size)?.ok_or_else(lost)?;
    let entry = Entries::of(&piece.bytes).flatten().nth(offset).ok_or_else(lost)?.to_vec();
    let tiles = Completed { directory, size: head.size };
    let hashes = prove_inclusion(index, head.size, &tiles).map_err(|error| match error {
        BadTree::Unreadable(failure) => failure,
        other @ (BadTree::Missing(_) | BadTree::Short(_) | BadTree::Beyond { .. }) => {
            not_proved(other)
        }
    })?;
    Ok(Inclusion { entry: Some(entry), index, hashes, note })
}

/// The file in which a bundle lies, full or being filled.
fn piece(directory: &Directory, index: u64, size: Size) -> Outcome<Option<Piece>> {
    if let Some(full) = directory.full(index)? {
        return Ok(Some(full));
    }
    let covered = Bundle::within(size, index).map(|bundle| bundle.width);
    let pieces = directory.filling(index, covered)?;
    // Where the keeper fills two, the second belongs to the bundle after; its numbers would not fit.
    let first = index * u64::from(FULL) + 1;
    let opening = format!("{{\"n\":{first},");
    Ok(pieces.into_iter().find(|piece| {
        let entry = Entries::of(&piece.bytes).next();
        matches!(entry, Some(Ok(entry)) if entry.starts_with(opening.as_bytes()))
    }))
}

/// Tiles of which the hashes of the bundle that is being filled are computed from its entries.
struct Completed<'a> {
    directory: &'a Directory,
    size: Size,
}

impl Tiles for Completed<'_> {
    type Error = Failure;

    fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Failure> {
        if let Some(kept) = self.directory.hashes(tile)? {
            return Ok(Some(kept));
        }
        if tile.level() > 0 {
            return Ok(None);
        }
        let piece = piece(self.directory, tile.index(), self.size)?;
        Ok(piece.map(|piece| Entries::of(&piece.bytes).flatten().map(leaf_hash).collect()))
    }
}

/// Checks a proof.
pub(crate) fn check(arguments: &CheckArguments, desk: &Desk) -> Outcome {
    let log = arguments.signer.key(desk)?;
    let bytes = directory::read(&arguments.file, MAX_PROOF_BYTES)?
        .ok_or_else(|| Failure::file(&arguments.file, "does not exist"))?;
    let inclusion = Inclusion::parse(&bytes).map_err(not_proved)?;
    let (entry, head) = inclusion.verify(&log).map_err(not_proved)?;
    let mut witnesses = Vec::new();
    for key in &arguments.witness {
        let at = key.verify(&inclusion.note);
        let at = at.map_err(|error| not_proved(format!("witness {}: {error}", key.name())))?;
        witnesses.push((key.name().to_string(), at.seconds()));
    }
    let entry = String::from_utf8_lossy(entry);
    let record = inclusion.index.0 + 1;
    match desk.form {
        Form::Json => out::object(json!({
            "record": record,
            "size": head.size.0,
            "signer": log.vkey(),
            "witnesses": witnesses.iter().map(|(name, at)| json!({"name": name, "time": at})).collect::<Vec<_>>(),
            "entry": entry.trim_end(),
        })),
        Form::Text => {
            out::data(&out::plain(entry.trim_end()));
            let named: Vec<_> = witnesses.iter().map(|(name, _)| name.as_str()).collect();
            let by = if named.is_empty() {
                String::new()
            } else {
                format!(", cosigned by {}", named.join(", "))
            };
            out::say(&format!(
                "entry {record} is in the journal of {} entries signed by {}{by}",
                head.size,
                log.vkey()
            ));
        }
    }
    Ok(())
}

fn not_proved(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Proof, error.to_string())
        .next("take the proof for worthless; 'strongroom audit verify' looks at the whole journal")
}
