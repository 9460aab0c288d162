//! The definitions of RFC 6962 as they are written there, for the tests to compare with; and tiles kept in a map.

use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::edge::Edge;
use crate::hash::{Hash, empty_root, leaf_hash, node_hash};
use crate::prove::Tiles;
use crate::tile::{Tile, Width};

/// The hash of the test tree's n-th entry.
pub(crate) fn leaf(n: u64) -> Hash {
    leaf_hash(format!("entry {n}").as_bytes())
}

/// All leaves.
#[derive(Default)]
pub(crate) struct Naive(Vec<Hash>);

impl Naive {
    pub(crate) fn of(size: u64) -> Self {
        Self((0..size).map(leaf).collect())
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        self.0.push(leaf);
    }

    pub(crate) fn root(&self) -> Hash {
        self.range(0, self.0.len() as u64)
    }

    /// MTH(D[start:end]).
    pub(crate) fn range(&self, start: u64, end: u64) -> Hash {
        match end - start {
            0 => empty_root(),
            1 => self.0[usize::try_from(start).unwrap()],
            length => {
                let middle = start + below(length);
                node_hash(self.range(start, middle), self.range(middle, end))
            }
        }
    }

    /// PATH(m, D[start:end]), `m` counted from the tree's beginning.
    pub(crate) fn path(&self, m: u64, start: u64, end: u64) -> Vec<Hash> {
        if end - start <= 1 {
            return Vec::new();
        }
        let middle = start + below(end - start);
        let (mut path, neighbour) = if m < middle {
            (self.path(m, start, middle), self.range(middle, end))
        } else {
            (self.path(m, middle, end), self.range(start, middle))
        };
        path.push(neighbour);
        path
    }

    /// SUBPROOF(m, D[start:end], whole), `m` counted from `start`.
    pub(crate) fn subproof(&self, m: u64, start: u64, end: u64, whole: bool) -> Vec<Hash> {
        if m == end - start {
            return if whole { Vec::new() } else { vec![self.range(start, end)] };
        }
        let k = below(end - start);
        let (mut proof, neighbour) = if m <= k {
            (self.subproof(m, start, start + k, whole), self.range(start + k, end))
        } else {
            (self.subproof(m - k, start + k, end, false), self.range(start, start + k))
        };
        proof.push(neighbour);
        proof
    }
}

/// The largest power of two below n.
fn below(n: u64) -> u64 {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

/// Full tiles by their path, and the entries' partial one.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) full: BTreeMap<String, Vec<Hash>>,
}

impl Kept {
    /// The test tree of a size.
    pub(crate) fn grown(size: u64) -> (Self, Edge) {
        let (mut kept, mut edge) = (Self::default(), Edge::empty());
        for n in 0..size {
            for full in edge.push(leaf(n)).unwrap() {
                let before = kept.full.insert(full.tile.path(), full.hashes);
                assert!(before.is_none(), "a tile is completed once");
            }
        }
        (kept, edge)
    }

    /// Keeps the partial tile of level 0 too.
    pub(crate) fn keep_leaves_of(&mut self, edge: &Edge) {
        for (tile, hashes) in edge.partials().filter(|(tile, _)| tile.level() == 0) {
            self.full.insert(tile.path(), hashes.to_vec());
        }
    }
}

impl Tiles for Kept {
    type Error = Infallible;

    fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Infallible> {
        let full = Tile::new(tile.level(), tile.index(), Width::FULL).unwrap();
        let found = self.full.get(&full.path()).or_else(|| self.full.get(&tile.path()));
        Ok(found.cloned())
    }
}
