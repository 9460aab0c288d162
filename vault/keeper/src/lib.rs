//! The keeper: seals, keys, the sealed store and what may be done with it.
//!
//! Invariant: no network, and no parser of provider bytes or of request bodies.
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

pub mod acts;
pub mod arguments;
pub mod backup;
pub mod books;
pub mod budgets;
pub mod clock;
pub mod doors;
pub mod envelope;
pub mod erase;
pub mod founding;
#[doc(hidden)]
pub mod fuzzing;
pub mod journal;
pub mod keeper;
pub mod keyring;
pub mod keys;
pub mod lent;
pub mod manifest;
pub mod memory_seal;
pub mod moving;
pub mod people;
pub mod pipeline;
pub mod random;
pub mod rates;
pub mod records;
pub mod seal;
pub mod seal_mark;
pub mod settings;
pub mod slots;
pub mod start;
pub mod store_fault;
pub mod tables;
pub mod tickets;
pub mod tpm;
pub mod uploads;
pub mod vault;
pub mod witnesses;
