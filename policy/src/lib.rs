//! Who may do what: names, destinations, claims and rules as types, and the one decision over them.
//!
//! Invariant: no I/O, no async, no clock, no randomness; time is a parameter.
//! Invariant: only [`decide::decide`] makes a [`decide::Permit`].
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]

pub mod bound;
pub mod budget;
pub mod claims;
pub mod decide;
pub mod destination;
pub mod dialect;
pub mod id;
pub mod ledger;
pub mod moment;
pub mod money;
pub mod name;
pub mod prices;
pub mod provider;
pub mod refusal;
pub mod route;
pub mod rules;
pub mod target;
pub mod tenant_rules;
