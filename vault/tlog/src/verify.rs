//! Proofs judged (RFC 9162, sections 2.1.3.2 and 2.1.4.2): without a tree, with two roots and a few hashes.
//!
//! Invariant: total: whatever the hashes, an answer comes after at most one step for each of them.
//! Distrusts: the proof.

use thiserror::Error;

use crate::hash::{Hash, Index, Size, empty_root, node_hash};

/// The most hashes that a proof of a tree of 2^64 entries has.
pub const MAX_PROOF_HASHES: usize = 64;

/// A proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadProof {
    /// The entry lies beyond the tree, or the older tree is the larger one.
    #[error("the sizes do not allow such a proof")]
    Sizes,
    /// Too few or too many hashes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The hashes lead to another root than that of the tree.
    #[error("the proof does not lead to the tree's root")]
    Root,
    /// The hashes lead to another root than that of the older tree.
    #[error("the older tree is not the beginning of the newer one")]
    OldRoot,
}

/// Checks that a leaf is at its place in a tree (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// When the proof does not show that.
pub fn verify_inclusion(
    leaf: Hash,
    index: Index,
    (size, root): (Size, Hash),
    proof: &[Hash],
) -> Result<(), BadProof> {
    if index.0 >= size.0 {
        return Err(BadProof::Sizes);
    }
    let mut walk = Walk { node: index.0, last: size.0.saturating_sub(1) };
    let mut hash = leaf;
    for neighbour in proof {
        hash = match walk.step()? {
            Side::Left => node_hash(*neighbour, hash),
            Side::Right => node_hash(hash, *neighbour),
        };
    }
    walk.arrived()?;
    if hash == root { Ok(()) } else { Err(BadProof::Root) }
}

/// Checks that an older tree is the beginning of a newer one (RFC 9162, section 2.1.4.2). The empty tree is the beginning of each.
///
/// # Errors
/// When the proof does not show that.
pub fn verify_consistency(
    (old, old_root): (Size, Hash),
    (new, new_root): (Size, Hash),
    proof: &[Hash],
) -> Result<(), BadProof> {
    if old.0 > new.0 {
        return Err(BadProof::Sizes);
    }
    if old.0 == 0 || old == new {
        let known = if old.0 == 0 { empty_root() } else { new_root };
        return match proof {
            [] if old == new && old_root != new_root => Err(BadProof::OldRoot),
            [] if old_root == known => Ok(()),
            [] => Err(BadProof::OldRoot),
            _ => Err(BadProof::Length),
        };
    }
    // An older tree that is one full subtree is not in the proof: its root is known.
    let (first, rest) = if old.0.is_power_of_two() {
        (old_root, proof)
    } else {
        proof.split_first().map(|(first, rest)| (*first, rest)).ok_or(BadProof::Length)?
    };
    let mut walk = Walk { node: old.0.saturating_sub(1), last: new.0.saturating_sub(1) };
    walk.skip_right_edges();
    let (mut old_hash, mut new_hash) = (first, first);
    for neighbour in rest {
        match walk.step()? {
            Side::Left => {
                old_hash = node_hash(*neighbour, old_hash);
                new_hash = node_hash(*neighbour, new_hash);
            }
            Side::Right => new_hash = node_hash(new_hash, *neighbour),
        }
    }
    walk.arrived()?;
    if new_hash != new_root {
        return Err(BadProof::Root);
    }
    if old_hash == old_root { Ok(()) } else { Err(BadProof::OldRoot) }
}

/// On which side of the path the next hash of a proof lies.
enum Side {
    Left,
    Right,
}

/// The way up: the place of the node and of the last one in its row. RFC 9162 calls them `fn` and `sn`.
struct Walk {
    node: u64,
    last: u64,
}

impl Walk {
    fn step(&mut self) -> Result<Side, BadProof> {
        if self.last == 0 {
            return Err(BadProof::Length);
        }
        let side = if self.node & 1 == 1 || self.node == self.last {
            while self.node & 1 == 0 && self.node != 0 {
                self.up();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.up();
        Ok(side)
    }

    fn skip_right_edges(&mut self) {
        while self.node & 1 == 1 {
            self.up();
        }
    }

    const fn up(&mut self) {
        self.node >>= 1;
        self.last >>= 1;
    }

    const fn arrived(&self) -> Result<(), BadProof> {
        if self.last == 0 { Ok(()) } else { Err(BadProof::Length) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::naive::{Naive, leaf};

    #[test]
    fn every_proof_of_small_trees_holds_and_no_changed_one_does() {
        let naive = Naive::of(70);
        for size in 1..=70 {
            let root = naive.range(0, size);
            for index in 0..size {
                let tree = (Size(size), root);
                let proof = naive.path(index, 0, size);
                let check =
                    |leaf, index, proof: &[Hash]| verify_inclusion(leaf, Index(index), tree, proof);
                assert_eq!(check(leaf(index), index, &proof), Ok(()), "{index} of {size}");
                assert_eq!(check(leaf(index + 1), index, &proof), Err(BadProof::Root));
                for other in (0..size).filter(|other| *other != index) {
                    assert!(check(leaf(index), other, &proof).is_err(), "{index} as {other}");
                }
                each_change(&proof, |changed| {
                    assert!(check(leaf(index), index, changed).is_err(), "{index} of {size}");
                });
            }
        }
    }

    #[test]
    fn every_consistency_of_small_trees_holds_and_no_changed_one_does() {
        let naive = Naive::of(70);
        for new in 1..=70 {
            for old in 1..=new {
                let older = (Size(old), naive.range(0, old));
                let newer = (Size(new), naive.range(0, new));
                let proof = naive.subproof(old, 0, new, true);
                assert_eq!(verify_consistency(older, newer, &proof), Ok(()), "{old} in {new}");
                let forked = (older.0, leaf(1_000));
                assert!(verify_consistency(forked, newer, &proof).is_err(), "{old} in {new}");
                let forked = (newer.0, leaf(1_000));
                assert!(verify_consistency(older, forked, &proof).is_err(), "{old} in {new}");
                each_change(&proof, |changed| {
                    assert!(verify_consistency(older, newer, changed).is_err(), "{old} in {new}");
                });
            }
        }
    }

    /// One hash changed, left out, doubled, exchanged; one more at either end.
    fn each_change(proof: &[Hash], mut see: impl FnMut(&[Hash])) {
        for at in 0..proof.len() {
            let mut changed = proof.to_vec();
            changed[at].0[at % 32] ^= 1;
            see(&changed);
            changed[at] = proof[at];
            changed.remove(at);
            see(&changed);
            changed.insert(at, proof[at]);
            changed.insert(at, proof[at]);
            see(&changed);
            changed.remove(at);
            if at > 0 && changed[at] != changed[at - 1] {
                changed.swap(at, at - 1);
                see(&changed);
            }
        }
        for more in [[&[leaf(9)], proof].concat(), [proof, &[leaf(9)]].concat()] {
            see(&more);
        }
    }

    #[test]
    fn nothing_follows_from_no_tree() {
        let root = leaf(0);
        assert_eq!(
            verify_inclusion(leaf(0), Index(0), (Size(0), empty_root()), &[]),
            Err(BadProof::Sizes)
        );
        assert_eq!(verify_inclusion(leaf(0), Index(0), (Size(1), root), &[]), Ok(()));
        assert_eq!(verify_consistency((Size(2), root), (Size(1), root), &[]), Err(BadProof::Sizes));
        assert_eq!(verify_consistency((Size(0), empty_root()), (Size(1), root), &[]), Ok(()));
        assert_eq!(
            verify_consistency((Size(0), root), (Size(1), root), &[]),
            Err(BadProof::OldRoot)
        );
        assert_eq!(
            verify_consistency((Size(0), empty_root()), (Size(1), root), &[root]),
            Err(BadProof::Length)
        );
        assert_eq!(
            verify_consistency((Size(0), empty_root()), (Size(0), root), &[]),
            Err(BadProof::OldRoot)
        );
        assert_eq!(
            verify_consistency((Size(3), root), (Size(5), root), &[]),
            Err(BadProof::Length)
        );
    }

    fn hashes() -> impl Strategy<Value = Vec<Hash>> {
        proptest::collection::vec(any::<[u8; 32]>().prop_map(Hash), 0..80)
    }

    proptest! {
        #[test]
        fn no_proof_out_of_thin_air_holds(
            leaf: [u8; 32], index: u64, size: u64, old: u64, root: [u8; 32], proof in hashes()
        ) {
            let (leaf, root) = (Hash(leaf), Hash(root));
            prop_assert!(verify_inclusion(leaf, Index(index), (Size(size), root), &proof).is_err());
            prop_assert!(verify_consistency((Size(old), leaf), (Size(size), root), &proof).is_err());
        }
    }
}
