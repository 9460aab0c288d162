//! What lies in the journal's directory when the vault is opened, judged before anything of it is changed.
//!
//! ```text
//! archived bundles   their hash tiles alone                        ┐ the checkpoint's root
//! kept bundles       every entry hashed, the tiles compared        ┘   a tile that is missing or torn is written again, if
//!                                                                      this root holds; one that differs is damage
//! after the checkpoint                                               the keyed chain, entry by entry
//! ```
//! Invariant: nothing is written here; [`Found::repair`] of the module beside is the first that does.
//! Distrusts: every byte.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_policy::id::CallId;
use strongroom_tlog::bundle::{BadBundle, MAX_BUNDLE_BYTES};
use strongroom_tlog::edge::FullTile;
use strongroom_tlog::note::MAX_NOTE_BYTES;
use strongroom_tlog::tile::decode_hashes;
use strongroom_tlog::{Checkpoint, Edge, Entries, Hash, Note, Tile, Verifier, Width, leaf_hash};

use super::JournalError;
use super::keeping::Signed;
use super::line::{Known, chain_of, check_chain};
use super::place::{BUNDLE_ENTRIES, Place};
use crate::keys::purpose::Journal;
use crate::keys::{MacKey, TAG_BYTES};

/// Most calls that are open at once in a sound journal; more are not followed.
pub(super) const MAX_OPEN_CALLS: usize = 64 * 1024;
/// Most hash tiles that are made again: those of 256 million entries; of fewer in tests, so that one can have more.
pub(super) const MAX_LACKING: usize = if cfg!(test) { 300 } else { 1024 * 1024 };
/// Longest file of a hash tile.
const TILE_BYTES: usize = 256 * 32;

/// How far the journal was, as something else notes it: the manifest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: [u8; 32],
}

/// The store's state that the journal's newest entry of that kind names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreState {
    /// The commit.
    pub commit: u64,
    /// The digest of its state.
    pub digest: [u8; 32],
}

/// A journal that holds.
pub struct Found {
    pub(super) place: Place,
    pub(super) key: MacKey<Journal>,
    pub(super) edge: Edge,
    pub(super) chain: [u8; TAG_BYTES],
    pub(super) signed: Option<Signed>,
    /// Files from the one on that the checkpoint ends in, in their order.
    pub(super) pieces: Vec<Piece>,
    /// Tiles that must be written.
    pub(super) lacking: Vec<Lacking>,
    /// The first bundle that is kept.
    pub(super) first_bundle: u64,
    pub(super) state: Option<StoreState>,
    pub(super) open_calls: Vec<CallId>,
}

/// A file of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) path: PathBuf,
    /// Which bundle it is or becomes.
    pub(super) index: u64,
    /// Whole entries.
    pub(super) count: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// All bytes.
    pub(super) length: u64,
}

/// A hash tile that is missing or torn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lacking {
    /// That of a bundle's entries: read again when it is written, because there may be many, and held to this root over them.
    OfEntries(u64, Hash),
    /// One above.
    Above(FullTile),
}

/// A reading under way.
struct Reading<'k> {
    place: &'k Place,
    key: &'k MacKey<Journal>,
    signed: Option<&'k Signed>,
    noted: Head,
    edge: Edge,
    chain: [u8; TAG_BYTES],
    lacking: Vec<Lacking>,
    first_kept: u64,
    archived: u64,
    state: Option<StoreState>,
    open: BTreeSet<CallId>,
    /// The first hash tile that is not that of the hashes below it.
    changed: Option<Changed>,
    /// Bundles for which their hash tile alone stands.
    hashes_only: u64,
    /// Whether a root that was signed or noted has held: what lies below it is right.
    has_held: bool,
}

/// What lies in a hash tile's place.
enum Kept {
    Nothing,
    Bytes(Vec<u8>),
    TooMuch,
}

/// A hash tile that differs, and the first entry below it.
struct Changed {
    tile: Tile,
    entry: u64,
}

impl Found {
    /// Reads and judges a journal.
    ///
    /// # Errors
    /// When it is not what this vault wrote, or older than what the manifest notes.
    pub fn look(
        directory: &Path,
        key: MacKey<Journal>,
        verifier: &Verifier,
        noted: Head,
    ) -> Result<Self, JournalError> {
        let place = Place::new(directory);
        if place.old().exists() {
            return Err(JournalError::OldFormat);
        }
        let signed = read_checkpoint(&place, verifier)?;
        if noted.size > 0 && signed.as_ref().is_none_or(|signed| signed.size < noted.size) {
            let found = signed.map_or(0, |signed| signed.size);
            return Err(JournalError::RolledBack { found, noted: noted.size });
        }
        let mut reading = Reading {
            place: &place,
            key: &key,
            signed: signed.as_ref(),
            noted,
            edge: Edge::empty(),
            chain: [0; TAG_BYTES],
            lacking: Vec::new(),
            first_kept: 0,
            archived: 0,
            state: None,
            open: BTreeSet::new(),
            changed: None,
            hashes_only: 0,
            has_held: false,
        };
        let read = reading.read();
        let (first_bundle, pieces) = reading.judge(read)?;
        let Reading { edge, chain, lacking, state, open, .. } = reading;
        let open_calls = open.into_iter().collect();
        Ok(Self {
            place,
            key,
            edge,
            chain,
            signed,
            pieces,
            lacking,
            first_bundle,
            state,
            open_calls,
        })
    }

    /// How many entries there are.
    pub fn entries(&self) -> u64 {
        self.edge.size().0
    }

    /// The newest store's state that it names.
    pub fn state(&self) -> Option<StoreState> {
        self.state
    }
}

impl Reading<'_> {
    fn covered(&self) -> u64 {
        self.signed.map_or(0, |signed| signed.size)
    }

    /// Takes in everything; answers the first bundle that is kept, and the files from the one on that the checkpoint ends in.
    fn read(&mut self) -> Result<(u64, Vec<Piece>), JournalError> {
        let first_bundle = self.archived_bundles()?;
        let pieces = self.pieces(first_bundle)?;
        self.finish()?;
        Ok((first_bundle, pieces))
    }

    /// A tile that differs is damage in any case. Only when all else was read and held, the signed root too, is it the tile
    /// that was changed; otherwise it tells where the entries are not what they were.
    fn judge<T>(&self, read: Result<T, JournalError>) -> Result<T, JournalError> {
        let why = match (read, &self.changed) {
            (Ok(read), None) => return Ok(read),
            (Err(why), None) => why,
            (Ok(_), Some(changed)) => JournalError::Tile { file: changed.tile.path() },
            (Err(_), Some(Changed { tile, entry })) => {
                JournalError::Below { entry: *entry, file: tile.path() }
            }
        };
        Err(self.with_archived(why))
    }

    /// Where hash tiles stand for archived entries and no root has held, the damage may be theirs.
    fn with_archived(&self, why: JournalError) -> JournalError {
        let last = Tile::new(0, self.hashes_only.saturating_sub(1), Width::FULL);
        match (why, last) {
            (
                why @ (JournalError::Damaged { .. }
                | JournalError::Below { .. }
                | JournalError::Another { .. }),
                Ok(last),
            ) if self.hashes_only > 0 && !self.has_held => {
                JournalError::OverArchived { why: Box::new(why), last: last.path() }
            }
            (why, _) => why,
        }
    }

    fn damaged(&self, reason: &'static str) -> JournalError {
        JournalError::Damaged { entry: self.edge.size().0.saturating_add(1), reason }
    }

    /// Takes in the bundles of which the hash tiles alone are here; answers the first that is kept.
    fn archived_bundles(&mut self) -> Result<u64, JournalError> {
        let mut index = 0_u64;
        while !self.place.bundle(index).exists() {
            let Some(hashes) = read_tile(self.place, index)? else { break };
            self.hashes_only = self.hashes_only.saturating_add(1);
            for hash in hashes {
                self.push(hash)?;
            }
            index = index.saturating_add(1);
        }
        // Without a kept bundle after them, tiles are no archive: the entries are gone.
        self.first_kept = self.edge.size().0;
        Ok(index)
    }

    /// Takes in every file of entries; answers those from the one on that the checkpoint ends in.
    fn pieces(&mut self, first: u64) -> Result<Vec<Piece>, JournalError> {
        let settled = self.covered().checked_div(BUNDLE_ENTRIES).unwrap_or(0);
        let mut pieces = Vec::new();
        let mut index = first;
        loop {
            let path = self.place.bundle(index);
            let Some(piece) = self.piece(path, index)? else { break };
            if index >= settled {
                pieces.push(piece);
            }
            index = index.saturating_add(1);
        }
        for path in [self.place.tail(), self.place.next()] {
            if let Some(piece) = self.piece(path, index)? {
                index = index.saturating_add(1);
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    /// Takes in one file, unless the one before it was cut short: then nothing in it counts.
    fn piece(&mut self, path: PathBuf, index: u64) -> Result<Option<Piece>, JournalError> {
        let Some(bytes) = read_file(&path, MAX_BUNDLE_BYTES)? else { return Ok(None) };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut piece = Piece { path, index, count: 0, bytes: 0, length };
        if self.edge.size().0 != index.saturating_mul(BUNDLE_ENTRIES) {
            return Ok(Some(piece));
        }
        let mut entries = Entries::of(&bytes);
        loop {
            match entries.next() {
                Some(Ok(entry)) if entry.is_empty() && is_zero(&bytes, entries.at()) => break,
                Some(Ok(entry)) => self.entry(entry)?,
                Some(Err(BadBundle::TooMany { .. })) => {
                    return Err(self.damaged("a bundle has more entries than fit"));
                }
                // The end of a write that a power cut broke off.
                Some(Err(BadBundle::Torn { .. })) | None => break,
            }
            piece.count = piece.count.saturating_add(1);
            piece.bytes = u64::try_from(entries.at()).unwrap_or(u64::MAX);
        }
        Ok(Some(piece))
    }

    fn entry(&mut self, entry: &[u8]) -> Result<(), JournalError> {
        let index = self.edge.size().0;
        if index >= self.covered() {
            self.chain =
                check_chain(entry, &self.chain, self.key).map_err(|why| self.damaged(why))?;
        } else if index.saturating_add(1) == self.covered() {
            self.chain =
                chain_of(entry).ok_or_else(|| self.damaged("an entry has no chain value"))?;
        }
        let known = Known::read(entry).ok_or_else(|| self.damaged("a line is not an entry"))?;
        if known.n > index.saturating_add(1) && self.is_gone(index) {
            return Err(gone(index));
        }
        if known.n != index.saturating_add(1) {
            return Err(self.damaged("an entry has another one's number"));
        }
        self.follow(&known).map_err(|why| self.damaged(why))?;
        self.push(leaf_hash(entry))
    }

    /// Whether the bundle that begins with this entry is not here.
    fn is_gone(&self, index: u64) -> bool {
        let bundle = index.checked_div(BUNDLE_ENTRIES).unwrap_or(0);
        let begins = index.checked_rem(BUNDLE_ENTRIES) == Some(0);
        begins && index < self.covered() && !self.place.bundle(bundle).exists()
    }

    /// A tile's file. One that is longer than can be is none that a power cut left: it differs.
    fn tile(&self, tile: Tile) -> Result<Kept, JournalError> {
        match read_file(&self.place.tile(tile), TILE_BYTES) {
            Ok(bytes) => Ok(bytes.map_or(Kept::Nothing, Kept::Bytes)),
            Err(JournalError::Oversized(_)) => Ok(Kept::TooMuch),
            Err(error) => Err(error),
        }
    }

    /// Grows the tree by one hash; compares tiles and roots when there is one to compare.
    fn push(&mut self, leaf: Hash) -> Result<(), JournalError> {
        for full in self.edge.push(leaf).map_err(|_| JournalError::TooLong)? {
            let covered = self.edge.size().0 <= self.covered();
            match self.tile(full.tile)? {
                Kept::Bytes(kept) if kept == full.bytes() => {}
                Kept::Bytes(kept) if covered && !full.is_torn(&kept) => self.changed(full.tile),
                Kept::TooMuch if covered => self.changed(full.tile),
                // Written again only when all of this reading holds, and so does the root that the checkpoint signs.
                Kept::Bytes(_) | Kept::TooMuch | Kept::Nothing
                    if self.lacking.len() < MAX_LACKING =>
                {
                    self.lacking.push(Lacking::of(full));
                }
                Kept::Bytes(_) | Kept::TooMuch | Kept::Nothing => {
                    return Err(self.damaged("too many hash tiles are missing"));
                }
            }
        }
        let size = self.edge.size().0;
        if let Some(signed) = self.signed
            && signed.size == size
        {
            if signed.root != self.edge.root().0 {
                let reason = "entries up to here are not those that the checkpoint covers";
                return Err(self.damaged(reason));
            }
            self.has_held = true;
        }
        if self.noted.size == size && size > 0 {
            if self.noted.root != self.edge.root().0 {
                return Err(JournalError::Another { entry: size });
            }
            self.has_held = true;
        }
        Ok(())
    }

    /// Notes the first tile that differs.
    fn changed(&mut self, tile: Tile) {
        let below = BUNDLE_ENTRIES.saturating_pow(u32::from(tile.level().saturating_add(1)));
        let entry = tile.index().saturating_mul(below).saturating_add(1);
        self.changed.get_or_insert(Changed { tile, entry });
    }

    /// Keeps the calls that are admitted and not closed, and what entries say of store and archive.
    fn follow(&mut self, known: &Known<'_>) -> Result<(), &'static str> {
        let call = || {
            let call = known.call.map(str::parse::<CallId>).transpose();
            call.map_err(|_| "a call has no id")
        };
        match known.what {
            "admit" if self.open.len() < MAX_OPEN_CALLS => {
                self.open.extend(call()?);
            }
            "close" | "lost" => {
                if let Some(call) = call()? {
                    self.open.remove(&call);
                }
            }
            "state" => {
                let mut digest = [0; 32];
                let (Some(commit), Some(text)) = (known.commit, known.digest) else {
                    return Err("a state has no commit");
                };
                hex::decode_to_slice(text, &mut digest).map_err(|_| "a state has no digest")?;
                self.state = Some(StoreState { commit, digest });
            }
            "archive" => {
                let first = known.first.ok_or("an archive has no first entry")?;
                self.archived = self.archived.max(first.saturating_sub(1));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), JournalError> {
        if self.edge.size().0 < self.covered() {
            return Err(self.damaged("entries are missing that the checkpoint covers"));
        }
        if self.first_kept > self.archived {
            let entry = self.archived.saturating_add(1);
            let reason = "entries are missing that were not archived";
            return Err(JournalError::Damaged { entry, reason });
        }
        Ok(())
    }
}

/// A bundle is not here, and no hash tile that stands for it.
fn gone(index: u64) -> JournalError {
    let bundle = index.checked_div(BUNDLE_ENTRIES).unwrap_or(0);
    let tile = Tile::new(0, bundle, Width::FULL).map(Tile::path).unwrap_or_default();
    JournalError::Gone { first: index.saturating_add(1), tile }
}

impl Lacking {
    fn of(full: FullTile) -> Self {
        match full.tile.level() {
            0 => Self::OfEntries(full.tile.index(), root_over(&full.hashes)),
            _ => Self::Above(full),
        }
    }
}

/// The root over a tile's hashes.
pub(super) fn root_over(hashes: &[Hash]) -> Hash {
    let mut edge = Edge::empty();
    for hash in hashes {
        // A tree of this size has room, and completes one tile.
        drop(edge.push(*hash));
    }
    edge.root()
}

fn read_checkpoint(place: &Place, verifier: &Verifier) -> Result<Option<Signed>, JournalError> {
    let Some(bytes) = read_file(&place.checkpoint(), MAX_NOTE_BYTES)? else { return Ok(None) };
    let note = Note::parse(&bytes).map_err(|_| JournalError::Checkpoint)?;
    let head = Checkpoint::open(&note, verifier).map_err(|_| JournalError::Checkpoint)?;
    if head.origin.as_str() != verifier.name().as_str() {
        return Err(JournalError::Checkpoint);
    }
    Ok(Some(Signed { size: head.size.0, root: head.root.0, note: note.encode() }))
}

/// The hashes of a full bundle's entries.
fn read_tile(place: &Place, index: u64) -> Result<Option<Vec<Hash>>, JournalError> {
    let Ok(tile) = Tile::new(0, index, Width::FULL) else { return Ok(None) };
    let hashes = read_hashes(place, tile)?;
    Ok(hashes.filter(|hashes| hashes.len() == usize::from(Width::FULL.get())))
}

pub(super) fn read_hashes(place: &Place, tile: Tile) -> Result<Option<Vec<Hash>>, JournalError> {
    let bytes = read_file(&place.tile(tile), TILE_BYTES)?;
    Ok(bytes.and_then(|bytes| decode_hashes(&bytes).ok()))
}

/// A whole file of at most so many bytes; `None` when there is none.
pub(super) fn read_file(path: &Path, most: usize) -> Result<Option<Vec<u8>>, JournalError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| JournalError::Read(error.to_string()))?,
    };
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| JournalError::Read(error.to_string()))?;
    if bytes.len() > most {
        return Err(JournalError::Oversized(path.display().to_string()));
    }
    Ok(Some(bytes))
}

/// Whether nothing but zeros stands from the entry on that ends here: a file that a power cut left longer than what was written.
fn is_zero(bytes: &[u8], end: usize) -> bool {
    bytes.get(end.saturating_sub(2)..).unwrap_or_default().iter().all(|byte| *byte == 0)
}
