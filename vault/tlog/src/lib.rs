//! The journal as a transparency log: a Merkle tree in tiles, checkpoints that are signed notes, cosignatures of witnesses,
//! and the proofs that tie them together. Linked by the keeper, which writes the log, and by the operator's tool, which
//! audits it without a keeper.
//!
//! | module | follows |
//! |---|---|
//! | [`hash`], [`edge`], [`prove`] | RFC 6962 2.1 |
//! | [`verify`] | RFC 9162 2.1.3.2, 2.1.4.2 |
//! | [`tile`], [`bundle`] | C2SP tlog-tiles |
//! | [`note`], [`key`] | C2SP signed-note v1.0.0 |
//! | [`checkpoint`] | C2SP tlog-checkpoint v1.0.0 |
//! | [`cosignature`] | C2SP tlog-cosignature, the Ed25519 form |
//! | [`inclusion`] | C2SP tlog-proof |
//!
//! Invariant: no I/O, no clock, no randomness; every decoder is total, bounded and ends at the last byte.
//! Distrusts: every note, proof, path and bundle.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod edge;
pub mod hash;
pub mod inclusion;
pub mod key;
pub mod note;
pub mod prove;
pub mod tile;
pub mod verify;

pub use bundle::{Entries, MAX_ENTRY_BYTES};
pub use checkpoint::{Checkpoint, Origin};
pub use edge::Edge;
pub use hash::{Hash, Index, Size, leaf_hash, node_hash};
pub use inclusion::Inclusion;
pub use key::{Name, Signer, Verifier};
pub use note::Note;
pub use prove::{Tiles, prove_consistency, prove_inclusion, root};
pub use tile::{Bundle, Tile, Width};
pub use verify::{verify_consistency, verify_inclusion};

#[cfg(test)]
mod naive;
