//! A journal's directory, or a copy of one, as it lies on a disk: the checkpoint, the hash tiles, the entries.
//!
//! ```text
//! checkpoint   tile/<L>/<N>[.p/<W>]   tile/entries/<N>[.p/<W>]   tail   next
//! ```
//! Invariant: nothing is written; no file is read beyond what one of its kind may have.
//! Distrusts: every byte: whoever had the disk may have written it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use strongroom_tlog::bundle::MAX_BUNDLE_BYTES;
use strongroom_tlog::note::MAX_NOTE_BYTES;
use strongroom_tlog::tile::decode_hashes;
use strongroom_tlog::{Bundle, Hash, Tile, Tiles, Width};

use crate::failure::{Failure, Outcome};

/// Longest file of a hash tile.
pub(crate) const MAX_TILE_BYTES: usize = 256 * 32;

/// A journal on a disk, and where its archived bundles lie.
#[derive(Debug)]
pub(crate) struct Directory {
    home: PathBuf,
    archives: Vec<PathBuf>,
}

/// What a file of entries is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A full bundle.
    Full,
    /// The bundle that is being filled: its end may be the beginning of an entry.
    Filling,
}

/// A file of entries.
pub(crate) struct Piece {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its name below the directory.
    pub(crate) name: String,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

impl Directory {
    /// A directory that must be there.
    pub(crate) fn open(home: &Path, archives: &[PathBuf]) -> Outcome<Self> {
        for place in std::iter::once(home).chain(archives.iter().map(PathBuf::as_path)) {
            let about = std::fs::metadata(place).map_err(|error| Failure::file(place, error))?;
            if !about.is_dir() {
                return Err(Failure::file(place, "is not a directory"));
            }
        }
        Ok(Self { home: home.to_owned(), archives: archives.to_vec() })
    }

    /// The directory itself.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The checkpoint's bytes.
    pub(crate) fn checkpoint(&self) -> Outcome<Option<Vec<u8>>> {
        read(&self.home.join("checkpoint"), MAX_NOTE_BYTES)
    }

    /// A full bundle, from the directory or an archive.
    pub(crate) fn full(&self, index: u64) -> Outcome<Option<Piece>> {
        let name = Bundle { index, width: Width::FULL }.path();
        let found = self.anywhere(&name, MAX_BUNDLE_BYTES)?;
        Ok(found.map(|bytes| Piece { kind: Kind::Full, name, bytes }))
    }

    /// The bundles that are not full: of a static copy, or those that the keeper is filling.
    pub(crate) fn filling(&self, index: u64, covered: Option<Width>) -> Outcome<Vec<Piece>> {
        let partial = covered.filter(|width| !width.is_full());
        let partial = partial.map(|width| Bundle { index, width }.path());
        let mut pieces = Vec::new();
        for name in partial.into_iter().chain(["tail".to_owned(), "next".to_owned()]) {
            let bytes = read(&self.home.join(&name), MAX_BUNDLE_BYTES)?;
            pieces.extend(bytes.map(|bytes| Piece { kind: Kind::Filling, name, bytes }));
        }
        Ok(pieces)
    }

    /// The bundle that is being filled.
    pub(crate) fn tail(&self) -> Outcome<Option<Piece>> {
        let bytes = read(&self.home.join("tail"), MAX_BUNDLE_BYTES)?;
        Ok(bytes.map(|bytes| Piece { kind: Kind::Filling, name: "tail".to_owned(), bytes }))
    }

    /// The hashes of a tile; an unreadable one is like one that is not there, for a tile proves nothing by itself.
    pub(crate) fn hashes(&self, tile: Tile) -> Outcome<Option<Vec<Hash>>> {
        let bytes = self.tile_bytes(tile)?;
        Ok(bytes.map(|bytes| decode_hashes(&bytes).unwrap_or_default()))
    }

    /// The file of a tile, the full one's before the one of its width; of one that is too long so much that this shows.
    pub(crate) fn tile_bytes(&self, tile: Tile) -> Outcome<Option<Vec<u8>>> {
        let full = Tile::new(tile.level(), tile.index(), Width::FULL).map_err(Failure::argument)?;
        for name in [full.path(), tile.path()] {
            for place in std::iter::once(&self.home).chain(&self.archives) {
                if let Some(bytes) = beginning(&place.join(&name), MAX_TILE_BYTES)? {
                    return Ok(Some(bytes));
                }
            }
        }
        Ok(None)
    }

    /// Whether a full bundle is kept here and not in an archive alone.
    pub(crate) fn keeps(&self, index: u64) -> bool {
        self.home.join(Bundle { index, width: Width::FULL }.path()).exists()
    }

    fn anywhere(&self, name: &str, most: usize) -> Outcome<Option<Vec<u8>>> {
        for place in std::iter::once(&self.home).chain(&self.archives) {
            if let Some(bytes) = read(&place.join(name), most)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

impl Tiles for Directory {
    type Error = Failure;

    fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Failure> {
        self.hashes(tile)
    }
}

/// A whole file of at most so many bytes; `None` when there is none.
pub(crate) fn read(path: &Path, most: usize) -> Outcome<Option<Vec<u8>>> {
    match beginning(path, most)? {
        Some(bytes) if bytes.len() > most => {
            Err(Failure::file(path, "is longer than a file of its kind can be"))
        }
        found => Ok(found),
    }
}

/// A file's bytes up to one more than so many; `None` when there is none.
fn beginning(path: &Path, most: usize) -> Outcome<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Failure::file(path, error)),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| Failure::file(path, error))?;
    Ok(Some(bytes))
}
