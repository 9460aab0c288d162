//! A copy of the journal beside a witness's checkpoint, in the same form, so that `audit verify` reads it and a restore finds in it what
//! was deleted after the backup.
//!
//! Invariant: an entry is written here only once it has led, with all before it, to a root that the vault signed.
//! Distrusts: the vault.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use strongroom_protocol::operator::witness::{FromWitness, ToWitness};
use strongroom_tlog::bundle::push_entry;
use strongroom_tlog::edge::FullTile;
use strongroom_tlog::note::MAX_NOTE_BYTES;
use strongroom_tlog::{Bundle, Checkpoint, Edge, Entries, Note, Size, Verifier, Width, leaf_hash};

use super::memory::{Kept, Refusal};
use super::round::exchange;
use crate::audit::directory::{self, Directory, Kind};
use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::link::Link;
use crate::progress::Progress;

/// Most bytes of entries that are taken in at one go; a mirror that is further behind is filled by hand first.
const MAX_BEHIND_BYTES: usize = 512 * 1024 * 1024;

/// A mirror, open.
#[derive(Debug)]
pub(crate) struct Mirror {
    place: PathBuf,
    edge: Edge,
    tail: Vec<u8>,
}

/// What is new, not written yet.
struct News {
    edge: Edge,
    tail: Vec<u8>,
    bundles: Vec<(Bundle, Vec<u8>)>,
    tiles: Vec<FullTile>,
    bytes: usize,
}

impl Mirror {
    /// Opens a directory, or begins one: everything in it is hashed again.
    pub(crate) fn open(place: &Path, log: &Verifier) -> Outcome<Self> {
        files::directory(place, 0o700)?;
        let mut mirror = Self { place: place.to_owned(), edge: Edge::empty(), tail: Vec::new() };
        let Some(bytes) = directory::read(&place.join("checkpoint"), MAX_NOTE_BYTES)? else {
            return Ok(mirror);
        };
        let bad = |why: String| {
            Failure::new(Code::WitnessState, format!("{}: {why}", place.display())).next(
                "look at it with strongroom audit verify; move it aside, and the mirror is made anew",
            )
        };
        let note = Note::parse(&bytes).map_err(|error| bad(error.to_string()))?;
        let head = Checkpoint::open(&note, log).map_err(|error| bad(error.to_string()))?;
        mirror.read(head.size)?;
        if mirror.edge.size() != head.size || mirror.edge.root() != head.root {
            return Err(bad("its entries are not those of its checkpoint".to_owned()));
        }
        Ok(mirror)
    }

    /// What a crash left beyond the checkpoint is not read: it is written anew.
    fn read(&mut self, size: Size) -> Outcome {
        let directory = Directory::open(&self.place, &[])?;
        let mut progress = Progress::new("entries of the mirror", size.0);
        for index in 0.. {
            let piece = match directory.full(index)? {
                Some(full) => Some(full),
                None => directory.tail()?,
            };
            let Some(piece) = piece else { return Ok(()) };
            self.tail.clear();
            for entry in Entries::of(&piece.bytes).flatten() {
                if self.edge.size() == size {
                    return Ok(());
                }
                push_entry(&mut self.tail, entry).map_err(Failure::argument)?;
                drop(self.edge.push(leaf_hash(entry)).map_err(Failure::argument)?);
                progress.at(self.edge.size().0);
            }
            if piece.kind == Kind::Filling || self.edge.size() == size {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes in every entry up to a checkpoint that was judged, then the checkpoint.
    pub(crate) fn follow(&mut self, judged: &Kept, link: &mut Link) -> Outcome {
        let head = &judged.head;
        if head.size == self.edge.size() {
            return Ok(());
        }
        let tail = if self.edge.partial(0).is_empty() { Vec::new() } else { self.tail.clone() };
        let mut news = News {
            edge: self.edge.clone(),
            tail,
            bundles: Vec::new(),
            tiles: Vec::new(),
            bytes: 0,
        };
        let mut progress = Progress::new("entries", head.size.0);
        while news.edge.size() < head.size {
            let at = news.edge.size().0;
            let from = u8::try_from(at % 256).map_err(Failure::argument)?;
            let ask = FromWitness::Entries { bundle: at / 256, from };
            let ToWitness::Entries(bytes) = exchange(link, ask)? else {
                return Err(Failure::unexpected());
            };
            news.take(&bytes, head.size)?;
            if news.edge.size().0 == at {
                return Err(Refusal::Entries { shown: head.size }.failure());
            }
            progress.at(news.edge.size().0);
        }
        drop(progress);
        if news.edge.root() != head.root {
            return Err(Refusal::Entries { shown: head.size }.failure());
        }
        self.write(news, &judged.note)
    }

    fn write(&mut self, news: News, note: &Note) -> Outcome {
        for (bundle, bytes) in &news.bundles {
            self.put(&bundle.path(), bytes)?;
        }
        for tile in &news.tiles {
            self.put(&tile.tile.path(), &tile.bytes())?;
        }
        self.put("tail", &news.tail)?;
        self.put("checkpoint", note.encode().as_bytes())?;
        (self.edge, self.tail) = (news.edge, news.tail);
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Outcome {
        let path = self.place.join(name);
        make_directory_of(&path, &self.place)?;
        files::replace(&path, bytes, 0o600, None)
    }
}

impl News {
    fn take(&mut self, bytes: &[u8], until: Size) -> Outcome {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_BEHIND_BYTES {
            let what = "the mirror is more than 512 MiB behind";
            return Err(Failure::new(Code::WitnessState, what)
                .next("copy the vault's journal into the mirror's directory by hand, verify it, and go on"));
        }
        for entry in Entries::of(bytes) {
            let entry = entry.map_err(Failure::argument)?;
            if self.edge.size() == until {
                return Ok(());
            }
            let index = self.edge.size().0 / 256;
            push_entry(&mut self.tail, entry).map_err(Failure::argument)?;
            self.tiles.extend(self.edge.push(leaf_hash(entry)).map_err(Failure::argument)?);
            if self.edge.partial(0).is_empty() {
                let bundle = Bundle { index, width: Width::FULL };
                self.bundles.push((bundle, std::mem::take(&mut self.tail)));
            }
        }
        Ok(())
    }
}

/// Makes the directories above a file, durable when it answers.
fn make_directory_of(path: &Path, root: &Path) -> Outcome {
    let Some(directory) = path.parent() else { return Ok(()) };
    if directory == root || directory.is_dir() {
        return Ok(());
    }
    make_directory_of(directory, root)?;
    DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(|error| Failure::file(directory, error))?;
    let above = directory.parent().unwrap_or(root);
    File::open(above)
        .and_then(|above| above.sync_all())
        .map_err(|error| Failure::file(above, error))
}
