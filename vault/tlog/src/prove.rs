//! Roots and proofs out of tiles (RFC 6962, sections 2.1, 2.1.1 and 2.1.2).
//!
//! Invariant: whatever the size, a proof reads at most two tiles of each level.

use thiserror::Error;

use crate::edge::balanced;
use crate::hash::{Hash, Index, Size, empty_root, node_hash};
use crate::tile::{Tile, Width, nodes};

/// Where tiles are kept.
pub trait Tiles {
    /// Why one cannot be read.
    type Error;

    /// The hashes of a tile, at least as many as its width: a full tile does for a partial one. `None` when it is not kept: a
    /// tile above level 0 is then made of the full ones below it.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Self::Error>;
}

/// Why there is no root or no proof.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadTree<E> {
    /// Nobody keeps it.
    #[error("{0} is missing")]
    Missing(Tile),
    /// It has fewer hashes than its width.
    #[error("{0} is too short")]
    Short(Tile),
    /// The tree does not reach so far.
    #[error("the tree has {size} entries: nothing is at {index}")]
    Beyond {
        /// How many it has.
        size: Size,
        /// What was asked for.
        index: Index,
    },
    /// A tile cannot be read.
    #[error(transparent)]
    Unreadable(E),
}

/// The root of the tree that the first `size` entries are.
///
/// # Errors
/// When a tile is missing or cannot be read.
pub fn root<T: Tiles>(size: Size, tiles: &T) -> Result<Hash, BadTree<T::Error>> {
    if size.0 == 0 {
        return Ok(empty_root());
    }
    Reader::new(size, tiles).range(0, size.0)
}

/// The hashes that lead from an entry to the root, the entry's neighbour first (RFC 6962, section 2.1.1).
///
/// # Errors
/// When the tree does not reach so far, or a tile is missing or cannot be read.
pub fn prove_inclusion<T: Tiles>(
    index: Index,
    size: Size,
    tiles: &T,
) -> Result<Vec<Hash>, BadTree<T::Error>> {
    if index.0 >= size.0 {
        return Err(BadTree::Beyond { size, index });
    }
    let mut reader = Reader::new(size, tiles);
    let (mut start, mut end) = (0, size.0);
    let mut proof = Vec::new();
    while let Some(middle) = split(start, end) {
        if index.0 < middle {
            proof.push(reader.range(middle, end)?);
            end = middle;
        } else {
            proof.push(reader.range(start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The hashes that show that the tree of `old` entries is the beginning of the one of `new` (RFC 6962, section 2.1.2). Empty when
/// either is empty or both are the same.
///
/// # Errors
/// When `old` is larger than `new`, or a tile is missing or cannot be read.
pub fn prove_consistency<T: Tiles>(
    old: Size,
    new: Size,
    tiles: &T,
) -> Result<Vec<Hash>, BadTree<T::Error>> {
    if old.0 > new.0 {
        return Err(BadTree::Beyond { size: new, index: Index(old.0) });
    }
    if old.0 == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(new, tiles);
    let (mut start, mut end) = (0, new.0);
    let mut proof = Vec::new();
    while old.0 < end
        && let Some(middle) = split(start, end)
    {
        if old.0 <= middle {
            proof.push(reader.range(middle, end)?);
            end = middle;
        } else {
            proof.push(reader.range(start, middle)?);
            start = middle;
        }
    }
    // A subtree that begins the old tree is known to whoever asks: its root is the old one.
    if start > 0 {
        proof.push(reader.range(start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The first `width` hashes of a tile; made of the full ones below it when it is not kept.
pub(crate) fn hashes_of<T: Tiles>(tile: Tile, tiles: &T) -> Result<Vec<Hash>, BadTree<T::Error>> {
    let width = usize::from(tile.width().get());
    if let Some(mut hashes) = tiles.tile(tile).map_err(BadTree::Unreadable)? {
        if hashes.len() < width {
            return Err(BadTree::Short(tile));
        }
        hashes.truncate(width);
        return Ok(hashes);
    }
    let below = tile.level().checked_sub(1).ok_or(BadTree::Missing(tile))?;
    let first = tile.index().saturating_mul(u64::from(Width::FULL.get()));
    let mut hashes = Vec::with_capacity(width);
    for (_, index) in (0..tile.width().get()).zip(first..) {
        let part = Tile::new(below, index, Width::FULL).map_err(|_| BadTree::Missing(tile))?;
        hashes.push(balanced(&hashes_of(part, tiles)?).ok_or(BadTree::Short(part))?);
    }
    Ok(hashes)
}

/// The root over full subtrees, the largest first.
pub(crate) fn fold(peaks: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    peaks.rev().reduce(|right, left| node_hash(left, right))
}

/// Where RFC 6962 divides a run of entries: at the largest power of two below its length. `None` for a single entry.
fn split(start: u64, end: u64) -> Option<u64> {
    let length = end.checked_sub(start)?;
    let highest = length.checked_sub(1)?.checked_ilog2()?;
    start.checked_add(1_u64.checked_shl(highest)?)
}

/// Reads hashes of one tree, each tile once.
struct Reader<'a, T> {
    size: Size,
    tiles: &'a T,
    read: Vec<(Tile, Vec<Hash>)>,
}

impl<'a, T: Tiles> Reader<'a, T> {
    fn new(size: Size, tiles: &'a T) -> Self {
        Self { size, tiles, read: Vec::new() }
    }

    /// The root over the entries from `start` up to `end`, where `start` is a multiple of the largest power of two in the length.
    fn range(&mut self, mut start: u64, end: u64) -> Result<Hash, BadTree<T::Error>> {
        let mut peaks = Vec::new();
        while let Some(height) = end.saturating_sub(start).checked_ilog2() {
            peaks.push(self.subtree(height, start)?);
            start = start.saturating_add(1_u64.checked_shl(height).unwrap_or(0));
        }
        fold(peaks.into_iter()).ok_or(self.beyond(start))
    }

    /// The root of the full subtree of 2^height entries that begins at `start`.
    fn subtree(&mut self, height: u32, start: u64) -> Result<Hash, BadTree<T::Error>> {
        let level = u8::try_from(height / 8).map_err(|_| self.beyond(start))?;
        let node = nodes(Size(start), level).ok_or(self.beyond(start))?;
        let offset = usize::try_from(node & LAST_OF_TILE).unwrap_or(usize::MAX);
        let width = 1_usize << (height % 8);
        let hashes = self.tile(level, node >> 8, start)?;
        let run = hashes.get(offset..offset.saturating_add(width)).and_then(balanced);
        run.ok_or(self.beyond(start))
    }

    fn tile(&mut self, level: u8, index: u64, start: u64) -> Result<&[Hash], BadTree<T::Error>> {
        let tile = Tile::within(self.size, level, index).ok_or(self.beyond(start))?;
        let known = self.read.iter().position(|(read, _)| *read == tile);
        if known.is_none() {
            self.read.push((tile, hashes_of(tile, self.tiles)?));
        }
        let found = known.map_or_else(|| self.read.last(), |at| self.read.get(at));
        found.map(|(_, hashes)| hashes.as_slice()).ok_or(BadTree::Missing(tile))
    }

    const fn beyond(&self, start: u64) -> BadTree<T::Error> {
        BadTree::Beyond { size: self.size, index: Index(start) }
    }
}

/// The part of a node's place that is its place within its tile.
const LAST_OF_TILE: u64 = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::Joined;
    use crate::naive::{Kept, Naive};

    /// All small sizes, and those around the edges of tiles.
    fn sizes() -> impl Iterator<Item = u64> {
        (1..70).chain(250..262).chain([511, 512, 513, 769, 1_023, 1_024, 1_025, 2_000])
    }

    #[test]
    fn roots_of_former_sizes_come_out_of_todays_tiles() {
        let (kept, edge) = Kept::grown(2_100);
        let joined = Joined { full: &kept, edge: &edge };
        let naive = Naive::of(2_100);
        for size in 0..=2_100 {
            assert_eq!(root(Size(size), &joined), Ok(naive.range(0, size)), "size {size}");
        }
    }

    #[test]
    fn inclusion_proofs_are_those_of_the_definition() {
        let naive = Naive::of(2_000);
        for size in sizes() {
            let (kept, edge) = Kept::grown(size);
            let joined = Joined { full: &kept, edge: &edge };
            let step = usize::try_from(size / 60 + 1).unwrap();
            for index in (0..size).step_by(step) {
                let proof = prove_inclusion(Index(index), Size(size), &joined).unwrap();
                assert_eq!(proof, naive.path(index, 0, size), "{index} of {size}");
            }
        }
    }

    #[test]
    fn consistency_proofs_are_those_of_the_definition() {
        let (kept, edge) = Kept::grown(2_000);
        let joined = Joined { full: &kept, edge: &edge };
        let naive = Naive::of(2_000);
        for new in sizes() {
            let step = usize::try_from(new / 60 + 1).unwrap();
            for old in (1..=new).step_by(step) {
                let proof = prove_consistency(Size(old), Size(new), &joined).unwrap();
                assert_eq!(proof, naive.subproof(old, 0, new, true), "{old} in {new}");
            }
            assert_eq!(prove_consistency(Size(0), Size(new), &joined), Ok(Vec::new()));
        }
    }

    #[test]
    fn nothing_is_proved_beyond_the_tree() {
        let (kept, edge) = Kept::grown(300);
        let joined = Joined { full: &kept, edge: &edge };
        let beyond = |size, index| Err(BadTree::Beyond { size: Size(size), index: Index(index) });
        assert_eq!(prove_inclusion(Index(300), Size(300), &joined), beyond(300, 300));
        assert_eq!(prove_consistency(Size(301), Size(300), &joined), beyond(300, 301));
        let missing = Tile::within(Size(400), 0, 1).unwrap();
        assert_eq!(root(Size(400), &joined), Err(BadTree::Missing(missing)));
    }

    #[test]
    fn a_short_tile_is_named() {
        let (mut kept, _) = Kept::grown(512);
        kept.full.get_mut("tile/0/001").unwrap().truncate(255);
        let short = Tile::parse("tile/0/001").unwrap();
        assert_eq!(root(Size(512), &kept), Err(BadTree::Short(short)));
    }

    #[test]
    fn a_proof_of_a_large_tree_reads_few_tiles() {
        use std::cell::Cell;
        struct Counting<'a, T>(&'a T, Cell<u32>);
        impl<T: Tiles> Tiles for Counting<'_, T> {
            type Error = T::Error;
            fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, T::Error> {
                self.1.set(self.1.get() + 1);
                self.0.tile(tile)
            }
        }
        let (kept, edge) = Kept::grown(70_000);
        let joined = Joined { full: &kept, edge: &edge };
        let counting = Counting(&joined, Cell::new(0));
        prove_inclusion(Index(12_345), Size(70_000), &counting).unwrap();
        assert!(counting.1.get() <= 6, "{} tiles", counting.1.get());
        counting.1.set(0);
        prove_consistency(Size(12_345), Size(70_000), &counting).unwrap();
        assert!(counting.1.get() <= 6, "{} tiles", counting.1.get());
    }
}
