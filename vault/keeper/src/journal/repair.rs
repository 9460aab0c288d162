//! From a journal that was found to hold to one that is written: what a crash left half done is done, or taken back.
//!
//! | found | done |
//! |---|---|
//! | the last file ends within an entry | cut off |
//! | the tail is full | it goes to its place, and `next` or a new file becomes the tail |
//! | a bundle in its place is not full | it becomes the tail again; what follows it was never on the disk for certain |
//! | `next` beside a tail that is not full | taken away |
//! | hash tiles are missing or torn | made again of the entries |
//!
//! Invariant: only what no checkpoint covers is cut off or taken away, and how many bytes that were is recorded.
//! Invariant: a crash between any two of these steps is found, and mended, by the next opening.

use std::fs::File;
use std::io;
use std::sync::Arc;

use strongroom_tlog::edge::FullTile;
use strongroom_tlog::{Tile, Width};

use super::JournalError;
use super::disk;
use super::files::hashes_of_bundle;
use super::found::{Found, Lacking, Piece, root_over};
use super::place::BUNDLE_ENTRIES;

/// The bundle that is filled next.
pub(super) struct Tail {
    pub(super) file: Arc<File>,
    pub(super) bytes: u64,
    /// Bytes that were cut off or taken away.
    pub(super) cut_bytes: u64,
    /// Hash tiles that were made again.
    pub(super) made_tiles: u64,
}

impl Found {
    /// Puts everything in its place; all that is kept is on the disk when it answers.
    pub(super) fn repair(&self) -> Result<Tail, JournalError> {
        self.mend().map_err(|error| JournalError::write(&error))
    }

    fn mend(&self) -> io::Result<Tail> {
        let root = self.place.root();
        let full = self.pieces.iter().take_while(|piece| piece.count == BUNDLE_ENTRIES).count();
        let (full, rest) = self.pieces.split_at_checked(full).unwrap_or_default();
        let (last, dropped) = match rest.split_first() {
            Some((last, dropped)) => (Some(last), dropped),
            None => (None, rest),
        };
        let mut cut_bytes = 0_u64;
        // The last one first: whoever is cut here finds the rest without a gap.
        for piece in dropped.iter().rev() {
            cut_bytes = cut_bytes.saturating_add(piece.length);
            disk::remove(&piece.path)?;
        }
        let last = last.map(|piece| cut(piece, &mut cut_bytes)).transpose()?;
        for piece in full {
            disk::sync(&disk::open(&piece.path)?)?;
            let place = self.place.bundle(piece.index);
            if piece.path != place {
                disk::make_directory_of(&place, root)?;
                disk::rename(&piece.path, &place)?;
            }
            disk::sync_directory(place.parent().unwrap_or(root))?;
        }
        let tail = self.place.tail();
        let (file, bytes) = match last {
            Some((file, piece)) => {
                if piece.path != tail {
                    disk::rename(&piece.path, &tail)?;
                    disk::sync_directory(piece.path.parent().unwrap_or(root))?;
                }
                (file, piece.bytes)
            }
            None => (disk::create(&tail)?, 0),
        };
        disk::sync_directory(root)?;
        for lacking in &self.lacking {
            let full = self.made_again(lacking)?;
            let path = self.place.tile(full.tile);
            disk::make_directory_of(&path, root)?;
            disk::lay(&path, &full.bytes())?;
        }
        let made_tiles = u64::try_from(self.lacking.len()).unwrap_or(u64::MAX);
        Ok(Tail { file: Arc::new(file), bytes, cut_bytes, made_tiles })
    }

    /// A tile out of what was read: its bundle is in its place by now.
    fn made_again(&self, lacking: &Lacking) -> io::Result<FullTile> {
        let (index, root) = match lacking {
            Lacking::Above(full) => return Ok(full.clone()),
            Lacking::OfEntries(index, root) => (*index, *root),
        };
        let hashes = hashes_of_bundle(&self.place, index)?;
        if root_over(&hashes) != root {
            return Err(io::Error::other("a bundle was changed while the journal was opened"));
        }
        let tile = Tile::new(0, index, Width::FULL).map_err(io::Error::other)?;
        Ok(FullTile { tile, hashes })
    }
}

fn cut<'p>(piece: &'p Piece, cut_bytes: &mut u64) -> io::Result<(File, &'p Piece)> {
    let file = disk::open(&piece.path)?;
    if piece.length > piece.bytes {
        *cut_bytes = cut_bytes.saturating_add(piece.length.saturating_sub(piece.bytes));
        disk::truncate(&file, piece.bytes)?;
    }
    disk::sync(&file)?;
    Ok((file, piece))
}
