//! Proofs out of the journal's directory, for a size that a checkpoint covers. On a thread that may wait.
//!
//! Invariant: what is proved is what lies there; a proof that does not lead to the signed root convinces nobody.

use std::io;

use strongroom_tlog::prove::BadTree;
use strongroom_tlog::{Entries, Hash, Index, Size, Tile, Tiles, leaf_hash};
use strongroom_tlog::{prove_consistency, prove_inclusion};

use super::found::read_hashes;
use super::place::Place;
use super::read::bundle;

/// The tiles of a journal: full ones from their files, the partial one of the entries from the bundle that is being filled.
#[derive(Debug)]
pub struct Kept<'p>(pub &'p Place);

impl Tiles for Kept<'_> {
    type Error = io::Error;

    fn tile(&self, tile: Tile) -> io::Result<Option<Vec<Hash>>> {
        let full = Tile::new(tile.level(), tile.index(), strongroom_tlog::Width::FULL);
        let full = full.map_err(io::Error::other)?;
        let kept =
            read_hashes(self.0, full).map_err(|error| io::Error::other(error.to_string()))?;
        if kept.is_some() || tile.level() > 0 {
            return Ok(kept);
        }
        let Some(entries) = bundle(self.0, tile.index())? else { return Ok(None) };
        Ok(Some(Entries::of(&entries).map_while(Result::ok).map(leaf_hash).collect()))
    }
}

/// That the tree of `new` entries begins with the tree of `old` ones (RFC 6962, 2.1.2).
///
/// # Errors
/// When the journal does not reach so far, or a file cannot be read.
pub fn consistency(place: &Place, old: Size, new: Size) -> Result<Vec<Hash>, BadTree<io::Error>> {
    prove_consistency(old, new, &Kept(place))
}

/// That the entry at an index is in the tree of `size` entries (RFC 6962, 2.1.1).
///
/// # Errors
/// When the journal does not reach so far, or a file cannot be read.
pub fn inclusion(place: &Place, index: Index, size: Size) -> Result<Vec<Hash>, BadTree<io::Error>> {
    prove_inclusion(index, size, &Kept(place))
}
