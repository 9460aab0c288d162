//! A journal recomputed from its entries: every leaf, every tile, the root, and what witnesses saw before.
//!
//! Invariant: what is said to be right was computed from the entries here; hash tiles only say *where* something is wrong, and
//! stand in for entries that were archived.
//! Distrusts: the directory.

use strongroom_tlog::checkpoint::BadCheckpoint;
use strongroom_tlog::edge::FullTile;
use strongroom_tlog::tile::decode_hashes;
use strongroom_tlog::{
    Bundle, Checkpoint, Edge, Entries, Hash, Note, Size, Tile, Verifier, Width, leaf_hash,
};

use super::directory::{Directory, Kind, MAX_TILE_BYTES, Piece};
use super::finding::{Finding, Mend};
use crate::failure::{Code, Failure, Outcome};
use crate::progress::Progress;

/// A checkpoint that somebody else kept.
#[derive(Debug, Clone)]
pub(crate) struct Witnessed {
    /// Where it was read, and who cosigned it.
    pub(crate) by: String,
    /// How many entries.
    pub(crate) size: Size,
    /// The root over them.
    pub(crate) root: Hash,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The checkpoint, whoever signed it.
    pub(crate) head: Option<Checkpoint>,
    /// Entries that are here, archived ones included.
    pub(crate) entries: u64,
    /// Entries of which the hashes alone are here.
    pub(crate) archived: u64,
    /// Bytes after the last whole entry: a write that never ended.
    pub(crate) torn_bytes: usize,
    /// Hash tiles that are missing or torn.
    pub(crate) lacking_tiles: u64,
    /// The root over the entries that the checkpoint covers.
    pub(crate) recomputed: Option<Hash>,
    /// Witnessed checkpoints that the entries continue.
    pub(crate) continued: Vec<Witnessed>,
    /// What is wrong, the gravest first.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// How many entries no checkpoint covers yet.
    pub(crate) fn uncovered(&self) -> u64 {
        let covered = self.head.as_ref().map_or(0, |head| head.size.0);
        self.entries.saturating_sub(covered)
    }
}

/// Reads and recomputes everything.
pub(crate) fn examine(
    directory: &Directory,
    log: &Verifier,
    witnessed: &[Witnessed],
    progress: &mut Progress,
) -> Outcome<Report> {
    let mut report = Report::default();
    report.head = head(directory, log, &mut report.findings)?;
    let mut walk = Walk {
        directory,
        covered: report.head.as_ref().map_or(0, |head| head.size.0),
        witnessed,
        edge: Edge::empty(),
        archive_told: 0,
        first_wrong: None,
        first_lacking: None,
        report,
        progress,
    };
    walk.run()?;
    let mut report = walk.settle();
    report.findings.sort_by_key(Finding::rank);
    Ok(report)
}

/// The checkpoint, if it can be read at all; what is wrong with its signature is found here.
fn head(
    directory: &Directory,
    log: &Verifier,
    findings: &mut Vec<Finding>,
) -> Outcome<Option<Checkpoint>> {
    let Some(bytes) = directory.checkpoint()? else {
        findings.push(Finding::Missing { what: "the checkpoint is".to_owned() });
        return Ok(None);
    };
    let note = match Note::parse(&bytes) {
        Ok(note) => note,
        Err(error) => {
            findings.push(Finding::Unsigned { why: format!("the checkpoint is none: {error}") });
            return Ok(None);
        }
    };
    match Checkpoint::open(&note, log) {
        Ok(head) if head.origin.as_str() == log.name().as_str() => return Ok(Some(head)),
        Ok(head) => {
            let why = format!("the checkpoint is of {}, not of {}", head.origin, log.name());
            findings.push(Finding::Unsigned { why });
        }
        Err(BadCheckpoint::Note(error)) => {
            let signers: Vec<_> =
                note.lines().iter().map(|line| format!("{}+{}", line.name(), line.id())).collect();
            let (pinned, signers) = (log.vkey(), signers.join(", "));
            let why = format!("{error}: pinned is {pinned}, the checkpoint is signed by {signers}");
            findings.push(Finding::Unsigned { why });
        }
        Err(error) => findings.push(Finding::Unsigned { why: error.to_string() }),
    }
    Ok(Checkpoint::parse(note.text()).ok())
}

struct Walk<'a> {
    directory: &'a Directory,
    covered: u64,
    witnessed: &'a [Witnessed],
    edge: Edge,
    /// Up to which entry an entry says that all were archived.
    archive_told: u64,
    /// The first place where entries are not what they were; what follows from it is not told.
    first_wrong: Option<Finding>,
    /// The first hash tile that is missing or torn.
    first_lacking: Option<String>,
    report: Report,
    progress: &'a mut Progress,
}

impl Walk<'_> {
    fn run(&mut self) -> Outcome {
        let mut index = 0;
        let mut hashes_only = Vec::new();
        while let Some(found) = self.full(index)? {
            match found {
                Found::Entries(piece) => self.piece(index, &piece)?,
                Found::Hashes(hashes) => {
                    for hash in hashes {
                        self.push(hash)?;
                    }
                    hashes_only.push(index);
                }
            }
            index += 1;
        }
        let covered = Bundle::within(Size(self.covered), index).map(|bundle| bundle.width);
        for piece in self.directory.filling(index, covered)? {
            // A partial bundle of a static copy is a part of the one that is being filled.
            if self.edge.size().0 == index * PER_BUNDLE {
                self.piece(index, &piece)?;
                index += 1;
            }
        }
        self.report.entries = self.edge.size().0;
        let archived =
            hashes_only.iter().filter(|index| (*index + 1) * PER_BUNDLE <= self.archive_told);
        self.report.archived = archived.count() as u64 * PER_BUNDLE;
        // What no entry says was archived was taken away.
        if let Some(gone) =
            hashes_only.iter().find(|index| (*index + 1) * PER_BUNDLE > self.archive_told)
        {
            let name = Bundle { index: *gone, width: Width::FULL }.path();
            let (first, last) = (gone * PER_BUNDLE + 1, (gone + 1) * PER_BUNDLE);
            self.wrong(Finding::Missing { what: format!("{name}, entries {first} to {last}, is") });
        }
        self.gap(index)
    }

    /// A full bundle, or its hashes alone while there are entries after it.
    fn full(&self, index: u64) -> Outcome<Option<Found>> {
        if let Some(piece) = self.directory.full(index)? {
            return Ok(Some(Found::Entries(piece)));
        }
        let tile = Tile::new(0, index, Width::FULL).ok();
        let Some(tile) = tile.filter(|_| (index + 1) * PER_BUNDLE <= self.covered) else {
            return Ok(None);
        };
        let hashes = self.directory.hashes(tile)?;
        Ok(hashes.filter(|hashes| hashes.len() == FULL_BUNDLE).map(Found::Hashes))
    }

    /// Bundles that go on after one that is not there.
    fn gap(&mut self, index: u64) -> Outcome {
        let last = self.covered.div_ceil(PER_BUNDLE);
        for later in index + 1..last {
            if self.directory.full(later)?.is_some() {
                let name = Bundle { index, width: Width::FULL }.path();
                self.wrong(Finding::Missing { what: format!("{name} and its hash tile are") });
                break;
            }
        }
        Ok(())
    }

    fn piece(&mut self, index: u64, piece: &Piece) -> Outcome {
        let base = index * PER_BUNDLE;
        let mut entries = Entries::of(&piece.bytes);
        let (mut numbers, mut leaves) = (Vec::new(), Vec::new());
        let mut whole = 0;
        while let Some(Ok(entry)) = entries.next() {
            // Zeros are what a power cut leaves of a write.
            if entry.is_empty() && piece.bytes[whole..].iter().all(|byte| *byte == 0) {
                break;
            }
            whole = entries.at();
            self.look(entry, &mut numbers);
            leaves.push(leaf_hash(entry));
        }
        let torn = piece.bytes.len() - whole;
        // The numbers say more than the hashes, so they are judged first.
        self.order(base, &numbers, &piece.name);
        if piece.kind == Kind::Full && (leaves.len() < FULL_BUNDLE || torn > 0) {
            let entry = base + leaves.len() as u64 + 1;
            self.wrong(Finding::Removed { entry, file: piece.name.clone() });
        }
        for leaf in &leaves {
            self.push(*leaf)?;
        }
        if piece.kind == Kind::Filling {
            self.report.torn_bytes += torn;
            self.partial_tile(index, leaves.len(), &piece.name)?;
        }
        Ok(())
    }

    fn look(&mut self, entry: &[u8], numbers: &mut Vec<Option<u64>>) {
        numbers.push(number(entry));
        if let Some(first) = archive_first(entry) {
            self.archive_told = self.archive_told.max(first.saturating_sub(1));
        }
    }

    /// The numbers that entries carry tell a missing one from one that was moved.
    fn order(&mut self, base: u64, numbers: &[Option<u64>], file: &str) {
        let expected = base + 1..;
        let Some((at, (entry, found))) = expected
            .zip(numbers)
            .enumerate()
            .find(|(_, (expected, found))| **found != Some(*expected))
        else {
            return;
        };
        let file = file.to_owned();
        let follows = numbers.get(at + 1).copied().flatten();
        self.wrong(match *found {
            None => Finding::Changed { entry, file },
            Some(found)
                if found > entry
                    && !numbers.contains(&Some(entry))
                    && follows.is_none_or(|next| next == found + 1) =>
            {
                Finding::Removed { entry, file }
            }
            Some(found) => Finding::Moved { entry, found, file },
        });
    }

    /// A static copy keeps the hashes of the bundle that is not full.
    fn partial_tile(&mut self, index: u64, count: usize, file: &str) -> Outcome {
        let Some(tile) = Tile::within(Size(self.covered), 0, index) else { return Ok(()) };
        let Some(kept) = self.directory.tile_bytes(tile)? else { return Ok(()) };
        if kept.len() > MAX_TILE_BYTES {
            let entry = index * PER_BUNDLE + 1;
            self.wrong(Finding::Changed { entry, file: file.to_owned() });
            return Ok(());
        }
        let kept = decode_hashes(&kept).unwrap_or_default();
        let ours = self.edge.partial(0).to_vec();
        let differs = ours.iter().zip(&kept).take(count).position(|(ours, kept)| ours != kept);
        if let Some(at) = differs {
            let entry = index * PER_BUNDLE + at as u64 + 1;
            self.wrong(Finding::Changed { entry, file: file.to_owned() });
        }
        Ok(())
    }

    fn push(&mut self, leaf: Hash) -> Outcome {
        for full in self.edge.push(leaf).map_err(Failure::argument)? {
            self.compare(&full)?;
        }
        let size = self.edge.size();
        self.progress.at(size.0);
        if size.0 == self.covered {
            self.report.recomputed = Some(self.edge.root());
        }
        for seen in self.witnessed.iter().filter(|seen| seen.size == size) {
            if seen.root == self.edge.root() {
                self.report.continued.push(seen.clone());
            } else {
                let (size, by) = (size.0, seen.by.clone());
                self.report.findings.push(Finding::Forked { size, by });
            }
        }
        Ok(())
    }

    /// A tile that has just become full, with what is kept of it.
    fn compare(&mut self, full: &FullTile) -> Outcome {
        let file = full.tile.path();
        let kept = self.directory.tile_bytes(full.tile)?;
        let covered = self.edge.size().0 <= self.covered;
        match kept {
            Some(kept) if kept == full.bytes() => {}
            Some(kept) if !full.is_torn(&kept) => {
                let kept = decode_hashes(&kept).unwrap_or_default();
                let at = full.hashes.iter().zip(&kept).position(|(ours, kept)| ours != kept);
                let at = at.unwrap_or(kept.len()) as u64;
                self.wrong(if full.tile.level() == 0 {
                    let index = full.tile.index();
                    let file = Bundle { index, width: Width::FULL }.path();
                    Finding::Changed { entry: index * PER_BUNDLE + at + 1, file }
                } else {
                    // Made again of the tiles below it, whether their entries are here or archived.
                    Finding::Tile { file, mend: Mend::Opening }
                });
            }
            Some(_) | None if covered => {
                self.first_lacking.get_or_insert(file);
                self.report.lacking_tiles += 1;
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Keeps the first thing that is wrong with the entries.
    fn wrong(&mut self, finding: Finding) {
        self.first_wrong.get_or_insert(finding);
    }

    fn settle(mut self) -> Report {
        let head = self.report.head.clone();
        let entries = self.report.entries;
        let covered = self.covered;
        // Entries that are missing within make the rest look short.
        let within = matches!(
            self.first_wrong,
            Some(Finding::Missing { .. } | Finding::Removed { .. } | Finding::Moved { .. })
        );
        let found = if within { covered } else { covered.min(entries) };
        if found < covered {
            let by = "the checkpoint".to_owned();
            self.report.findings.push(Finding::CutOff { expected: covered, found, by });
        }
        for seen in self.witnessed.iter().filter(|seen| seen.size.0 > found) {
            let (expected, by) = (seen.size.0, seen.by.clone());
            self.report.findings.push(Finding::CutOff { expected, found, by });
        }
        if covered == 0 {
            self.report.recomputed = Some(Edge::empty().root());
        }
        let holds = head.is_some_and(|head| self.report.recomputed == Some(head.root));
        // Where the root holds, the entries make their tiles again: a power cut takes some, for they are not synced.
        if let Some(file) = self.first_lacking.take_if(|_| !holds) {
            self.wrong(Finding::Missing { what: format!("{file} is") });
        }
        match self.first_wrong {
            // The root says that the entries are right; then it was the tile that was changed.
            Some(Finding::Changed { entry, file: _ }) if holds && entry <= covered => {
                let index = (entry - 1) / PER_BUNDLE;
                let file =
                    Tile::within(Size(covered), 0, index).map(Tile::path).unwrap_or_default();
                let whole = index < covered / PER_BUNDLE;
                let archived = whole && !self.directory.keeps(index);
                let mend = if archived { Mend::Archive } else { Mend::Opening };
                self.report.findings.push(Finding::Tile { file, mend });
            }
            // Without the root nothing says that the entries below it are right.
            Some(Finding::Tile { .. }) if !holds => {
                self.report.findings.push(Finding::Rewritten { size: covered });
            }
            Some(finding) => self.report.findings.push(finding),
            None if !holds && found == covered && self.report.head.is_some() => {
                self.report.findings.push(Finding::Rewritten { size: covered });
            }
            None => {}
        }
        self.report
    }
}

enum Found {
    Entries(Piece),
    Hashes(Vec<Hash>),
}

/// The number in `{"n":7,…`.
fn number(entry: &[u8]) -> Option<u64> {
    let rest = entry.strip_prefix(b"{\"n\":")?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The first entry that is still here, as an entry about archiving says.
fn archive_first(entry: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Archive<'a> {
        #[serde(borrow)]
        what: &'a str,
        first: Option<u64>,
    }
    // Most entries are of calls; only few are parsed.
    if !contains(entry, b"\"what\":\"archive\"") {
        return None;
    }
    let read: Archive<'_> = serde_json::from_slice(entry).ok()?;
    read.first.filter(|_| read.what == "archive")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// A witnessed checkpoint, verified.
pub(crate) fn witnessed(
    (source, bytes): (&str, &[u8]),
    log: &Verifier,
    witnesses: &[strongroom_tlog::cosignature::WitnessKey],
) -> Outcome<Witnessed> {
    let bad = |why: String| {
        Failure::new(Code::Witnessed, format!("{source}: {why}"))
            .next("take the file that the witness keeps, and the keys that were pinned")
    };
    let note = Note::parse(bytes).map_err(|error| bad(error.to_string()))?;
    let head = Checkpoint::open(&note, log).map_err(|error| bad(error.to_string()))?;
    let mut names = Vec::new();
    for key in witnesses {
        match key.verify(&note) {
            Ok(_) => names.push(key.name().to_string()),
            Err(BadCheckpoint::Note(strongroom_tlog::note::BadNote::Unsigned)) => {}
            Err(error) => return Err(bad(format!("{}: {error}", key.name()))),
        }
    }
    if !witnesses.is_empty() && names.is_empty() {
        return Err(bad("none of the named witnesses has cosigned it".to_owned()));
    }
    let by = if names.is_empty() {
        source.to_owned()
    } else {
        format!("{source}, cosigned by {}", names.join(", "))
    };
    Ok(Witnessed { by, size: head.size, root: head.root })
}

const PER_BUNDLE: u64 = 256;
const FULL_BUNDLE: usize = 256;

#[cfg(test)]
mod tests;
