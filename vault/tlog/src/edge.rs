//! The right edge of a tree that grows: all that is needed to append, to know the root, and to write the tiles that become
//! full (RFC 6962, section 2.1). At most 64 peaks, and 255 hashes for each of 8 levels: 64 KiB.
//!
//! Invariant: the peaks are the roots of the full subtrees that the size is the sum of, the largest first.
//! Invariant: a level's hashes are those of its partial tile, which become a full tile in the moment they are 256.

use thiserror::Error;

use crate::hash::{Hash, Size, empty_root, node_hash};
use crate::prove::{BadTree, Tiles, fold, hashes_of};
use crate::tile::{MAX_LEVEL, Tile, Width, encode_hashes, nodes};

/// The right edge of a growing tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: Size,
    peaks: Vec<Peak>,
    levels: [Vec<Hash>; LEVELS],
}

/// A tile that has become full: it never changes again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct FullTile {
    /// Where it lies.
    pub tile: Tile,
    /// Its 256 hashes.
    pub hashes: Vec<Hash>,
}

/// A tree has no room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the tree has 2^64 - 1 entries")]
pub struct TreeFull;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peak {
    height: u8,
    hash: Hash,
}

impl Edge {
    /// The tree without entries.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The edge of a tree that lies in tiles. Reads at most one tile of each level; a partial one above the entries' that is
    /// not kept is made of those below it.
    ///
    /// # Errors
    /// When a tile is missing or cannot be read.
    pub fn from_tiles<T: Tiles>(size: Size, tiles: &T) -> Result<Self, BadTree<T::Error>> {
        let mut edge = Self { size, ..Self::default() };
        for (level, kept) in (0..=MAX_LEVEL).zip(&mut edge.levels) {
            let index = nodes(size, level).unwrap_or(0) >> 8;
            if let Some(tile) = Tile::within(size, level, index) {
                *kept = hashes_of(tile, tiles)?;
            }
        }
        edge.peaks = peaks_of(&edge.levels);
        Ok(edge)
    }

    /// Appends an entry's hash. Answers the tiles that it completes, the lowest level first: none for most entries, and
    /// seldom more than one.
    ///
    /// # Errors
    /// When the tree is full; nothing is appended then.
    pub fn push(&mut self, leaf: Hash) -> Result<Vec<FullTile>, TreeFull> {
        let before = self.size.0;
        self.size = Size(before.checked_add(1).ok_or(TreeFull)?);
        let mut completed = Vec::new();
        let mut node = Peak { height: 0, hash: leaf };
        self.keep(node, before, &mut completed);
        while let Some(left) = self.peaks.pop_if(|left| left.height == node.height) {
            let height = node.height.saturating_add(1);
            node = Peak { height, hash: node_hash(left.hash, node.hash) };
            self.keep(node, before, &mut completed);
        }
        self.peaks.push(node);
        Ok(completed)
    }

    /// How many entries.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// The tree's root: one hash for each peak.
    pub fn root(&self) -> Hash {
        fold(self.peaks.iter().map(|peak| peak.hash)).unwrap_or_else(empty_root)
    }

    /// The hashes of the partial tile of a level; none when it is empty.
    pub fn partial(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// The partial tiles, the lowest level first: what a static copy of the log holds beside its full ones.
    pub fn partials(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        (0..=MAX_LEVEL).zip(&self.levels).filter_map(|(level, hashes)| {
            let width = Width::new(u16::try_from(hashes.len()).ok()?)?;
            let index = nodes(self.size, level)? >> 8;
            Some((Tile::new(level, index, width).ok()?, hashes.as_slice()))
        })
    }

    /// Keeps a node that is one of a tile's hashes; hands the tile on when it is full. `last` is the place of the newest entry.
    fn keep(&mut self, node: Peak, last: u64, completed: &mut Vec<FullTile>) {
        if !node.height.is_multiple_of(8) {
            return;
        }
        let level = node.height / 8;
        let Some(hashes) = self.levels.get_mut(usize::from(level)) else { return };
        hashes.push(node.hash);
        if hashes.len() < usize::from(Width::FULL.get()) {
            return;
        }
        let hashes = std::mem::take(hashes);
        let index = last.checked_shr(u32::from(level).saturating_add(1).saturating_mul(8));
        if let Ok(tile) = Tile::new(level, index.unwrap_or(0), Width::FULL) {
            completed.push(FullTile { tile, hashes });
        }
    }
}

impl FullTile {
    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        encode_hashes(&self.hashes)
    }

    /// Whether these bytes are what a power cut may leave of the file: each is the tile's or zero, and none is beyond its end.
    pub fn is_torn(&self, kept: &[u8]) -> bool {
        let whole = self.bytes();
        let alike = kept.iter().zip(&whole).all(|(kept, ours)| kept == ours || *kept == 0);
        alike && kept.len() <= whole.len()
    }
}

/// Tiles of which the partial ones lie in an edge and the full ones elsewhere: what proves while the log grows.
#[derive(Debug)]
pub struct Joined<'a, T> {
    /// Where the full ones are.
    pub full: &'a T,
    /// The edge of the same tree.
    pub edge: &'a Edge,
}

impl<T: Tiles> Tiles for Joined<'_, T> {
    type Error = T::Error;

    fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Self::Error> {
        let partial = self.edge.partial(tile.level());
        let index = nodes(self.edge.size, tile.level()).map(|nodes| nodes >> 8);
        if index == Some(tile.index()) && partial.len() >= usize::from(tile.width().get()) {
            return Ok(Some(partial.to_vec()));
        }
        self.full.tile(tile)
    }
}

/// The full subtrees of the partial tiles, the largest first.
fn peaks_of(levels: &[Vec<Hash>]) -> Vec<Peak> {
    let mut peaks = Vec::new();
    for (level, hashes) in (0..=MAX_LEVEL).zip(levels).rev() {
        let mut rest = hashes.as_slice();
        for bit in (0_u8..8).rev() {
            let width = 1_usize << bit;
            if hashes.len() & width == 0 {
                continue;
            }
            let Some((run, after)) = rest.split_at_checked(width) else { break };
            rest = after;
            let height = level.saturating_mul(8).saturating_add(bit);
            peaks.extend(balanced(run).map(|hash| Peak { height, hash }));
        }
    }
    peaks
}

/// The root of a run of hashes whose number is a power of two.
pub(crate) fn balanced(hashes: &[Hash]) -> Option<Hash> {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        let (pairs, odd) = row.as_chunks::<2>();
        if !odd.is_empty() {
            return None;
        }
        row = pairs.iter().map(|[left, right]| node_hash(*left, *right)).collect();
    }
    row.first().copied()
}

const LEVELS: usize = 8;
const _: () = assert!(LEVELS == 8 && MAX_LEVEL == 7);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::{Kept, Naive, leaf};

    #[test]
    fn every_size_has_the_root_of_the_naive_tree() {
        let (mut edge, mut naive) = (Edge::empty(), Naive::default());
        assert_eq!(edge.root(), naive.root());
        for n in 0..2_100 {
            drop(edge.push(leaf(n)).unwrap());
            naive.push(leaf(n));
            assert_eq!(edge.size(), Size(n + 1));
            assert_eq!(edge.root(), naive.root(), "size {}", n + 1);
        }
    }

    #[test]
    fn tiles_are_full_once_and_hold_the_hashes_below_them() {
        let (kept, edge) = Kept::grown(66_000);
        let naive = Naive::of(66_000);
        assert_eq!(kept.full.len(), 257 + 1);
        for (at, hashes) in &kept.full {
            let tile = Tile::parse(at).unwrap();
            assert_eq!(tile.width(), Width::FULL);
            for (n, hash) in (0_u64..).zip(hashes) {
                let span = 256_u64.pow(u32::from(tile.level()));
                let start = (tile.index() * 256 + n) * span;
                assert_eq!(*hash, naive.range(start, start + span), "{at} {n}");
            }
        }
        let widths: Vec<_> = edge
            .partials()
            .map(|(tile, _)| (tile.level(), tile.index(), tile.width().get()))
            .collect();
        assert_eq!(widths, [(0, 257, 208), (1, 1, 1), (2, 0, 1)]);
    }

    #[test]
    fn an_edge_from_tiles_is_the_edge_that_grew() {
        for size in (0..600).chain([65_535, 65_536, 65_537, 66_000]) {
            let (kept, grown) = Kept::grown(size);
            let joined = Joined { full: &kept, edge: &grown };
            assert_eq!(Edge::from_tiles(Size(size), &joined).unwrap(), grown, "size {size}");
        }
    }

    #[test]
    fn partial_tiles_above_the_entries_are_made_of_the_full_ones_below() {
        for size in [256, 257, 600, 65_536, 66_000] {
            let (mut kept, grown) = Kept::grown(size);
            kept.keep_leaves_of(&grown);
            let mut edge = Edge::from_tiles(Size(size), &kept).unwrap();
            assert_eq!(edge, grown, "size {size}");
            let mut grown = grown;
            for n in size..size + 300 {
                assert_eq!(edge.push(leaf(n)), grown.push(leaf(n)));
            }
            assert_eq!(edge.root(), grown.root());
        }
    }

    #[test]
    fn a_missing_tile_is_named() {
        let (mut kept, grown) = Kept::grown(600);
        kept.keep_leaves_of(&grown);
        kept.full.remove("tile/0/001");
        let missing = Tile::parse("tile/0/001").unwrap();
        assert_eq!(Edge::from_tiles(Size(600), &kept), Err(BadTree::Missing(missing)));
    }

    #[test]
    fn a_full_tree_takes_nothing_more() {
        let mut edge = Edge { size: Size(u64::MAX), ..Edge::empty() };
        assert_eq!(edge.push(leaf(0)), Err(TreeFull));
        assert_eq!(edge.size(), Size(u64::MAX));
    }
}
