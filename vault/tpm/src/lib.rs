//! The TPM helper: the one process that talks to a TPM 2.0, through tss-esapi and the system's libtss2.
//!
//! tss-esapi 7.7 is the newest that builds on libtss2 3.2 (Debian 12). It lacks one command that the seal needs, `PolicyNV`, and
//! keeps the context that libtss2 wants for it to itself. `policy_nv` calls that one function of libtss2 by hand. What else was
//! weighed: a second context of our own beside tss-esapi's needs fourteen calls by hand instead of one, a second copy of the
//! sessions' set-up, and a second connection, which a software TPM does not take; another kind of policy would not open the
//! vaults that are sealed today. tss-esapi 8 has the command, so the module goes when its libtss2 (4.1.3) is everywhere.
//!
//! libtss2 loads the code of the way to the TPM at run time, before the confinement. OpenSSL begins after it: its settings file
//! cannot be opened then, which it takes, so no engine or provider that they name is loaded.
//!
//! Invariant: R is never here; halves of the key that wraps it pass through encrypted sessions.
//! Invariant: every session is salted to the pinned storage key, so that whoever sits on the bus sees and forges nothing.
//! Invariant: after every question no object and no session is left in the TPM, or the process ends and the kernel clears them.
//! Distrusts: the bytes of the TPM as much as those of the keeper.
#![deny(unsafe_code)]
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
pub mod code;
pub mod counter;
pub mod health;
pub mod place;
pub mod policy_nv;
pub mod sealing;
pub mod serve;
pub mod template;
pub mod watchdog;
