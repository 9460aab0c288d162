//! The journal's files as they are copied and archived.
//!
//! Invariant: only full bundles are removed, the oldest first, so that a crash leaves no gap; and not before their hash tiles are
//! compared with them and synced.

use std::io;
use std::ops::Range;

use strongroom_tlog::tile::encode_hashes;
use strongroom_tlog::{Entries, Hash, Tile, Width, leaf_hash};

use super::disk;
use super::place::{BUNDLE_ENTRIES, Place};
use super::read;

/// Entries in a full bundle.
pub const ENTRIES: u64 = BUNDLE_ENTRIES;

/// The index of the bundle that the entry of that number is in.
pub fn bundle_of(number: u64) -> u64 {
    read::bundle_of(number)
}

/// The number of a bundle's first entry.
pub fn first_of(bundle: u64) -> u64 {
    bundle.saturating_mul(BUNDLE_ENTRIES).saturating_add(1)
}

/// A bundle's bytes as far as they are written; none when it was archived.
///
/// # Errors
/// When it cannot be read.
pub fn entries(place: &Place, index: u64) -> io::Result<Vec<u8>> {
    Ok(read::bundle(place, index)?.unwrap_or_default())
}

/// A full hash tile's bytes; none when it is not full yet.
///
/// # Errors
/// When it cannot be read, or there can be none.
pub fn hashes(place: &Place, level: u8, index: u64) -> io::Result<Vec<u8>> {
    let tile = Tile::new(level, index, Width::FULL).map_err(io::Error::other)?;
    Ok(read::read_whole(&place.tile(tile))?.unwrap_or_default())
}

/// The hashes of a full bundle's entries.
pub(super) fn hashes_of_bundle(place: &Place, index: u64) -> io::Result<Vec<Hash>> {
    let bytes = read::read_whole(&place.bundle(index))?.unwrap_or_default();
    Ok(Entries::of(&bytes).map_while(Result::ok).map(leaf_hash).collect())
}

/// Removes full bundles, once their hashes, which stand in for them from now on, are on the disk.
///
/// # Errors
/// When a hash tile is not that of its entries, or a bundle cannot be removed; those before it are gone.
pub fn remove(place: &Place, bundles: Range<u64>) -> io::Result<()> {
    for index in bundles.clone() {
        let path = place.tile(Tile::new(0, index, Width::FULL).map_err(io::Error::other)?);
        let kept = read::read_whole(&path)?.unwrap_or_default();
        let there = place.bundle(index).try_exists()?;
        if there && kept != encode_hashes(&hashes_of_bundle(place, index)?) {
            return Err(io::Error::other("a hash tile is not that of its entries"));
        }
        disk::sync(&disk::open(&path)?)?;
        disk::sync_directory(path.parent().unwrap_or(place.root()))?;
    }
    for index in bundles {
        let path = place.bundle(index);
        disk::remove(&path)?;
        disk::sync_directory(path.parent().unwrap_or(place.root()))?;
    }
    Ok(())
}
