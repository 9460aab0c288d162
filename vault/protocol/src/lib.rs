//! What may be said on each internal socket: messages, limits, codec. No I/O, no clock.
//!
//! Invariant: decoding is total, bounded and ends at the last byte; `PROTOCOL.md` is the same in words.
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]

pub mod ask;
pub mod body;
pub mod call;
pub mod errand;
pub mod frame;
pub mod operator;
pub mod person;
pub mod secret_bytes;
mod span;
pub mod token;
pub mod tpm;
pub mod upload;
pub mod usage;

pub use secret_bytes::SecretBytes;
