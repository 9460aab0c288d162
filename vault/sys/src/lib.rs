//! The crate with `unsafe`: secrets in memory, confinement, peer identity, wiping allocation.
//!
//! Invariant: every `unsafe` block of the workspace lies here, each under a `SAFETY` line, but the one call of libtss2 in
//! `vault/tpm/src/policy_nv.rs`.
//!
//! Start order of a process: inherited sockets, [`process::harden`], files and sockets it needs,
//! [`confine::confine`], and only then the runtime and the first untrusted byte.

pub mod allocator;
pub mod confine;
pub mod cpu;
pub mod inherited;
pub mod locked;
pub mod peer;
pub mod process;
pub mod secret;
pub mod socket_directory;
pub mod spawn;
pub mod stack;

pub use allocator::WipingAllocator;
pub use confine::confine;
pub use locked::{Locked, LockedKey};
pub use secret::Secret;
