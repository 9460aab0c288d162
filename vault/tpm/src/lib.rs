//! The TPM helper: the one process that talks to a TPM 2.0.
//!
//! It speaks the TPM's own command language (TCG, TPM 2.0 Library, parts 1 to 3) to the kernel's resource manager: the twenty
//! commands that seals and counters need, without libtss2 and the code that it loads.
//!
//! Invariant: R is never here; halves of the key that wraps it pass through encrypted sessions.
//! Invariant: every session is salted to the pinned storage key, so that whoever sits on the bus sees and forges nothing.
//! Invariant: after every question no object and no session is left in the TPM.
//! Distrusts: the bytes of the TPM as much as those of the keeper.
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

pub mod arguments;
pub mod chip;
pub mod counter;
pub mod derivation;
pub mod device;
pub mod health;
pub mod sealing;
pub mod serve;
pub mod session;
pub mod wire;
