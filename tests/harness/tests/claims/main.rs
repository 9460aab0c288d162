//! The promises, each through the real processes; every test is named after its promise.
//!
//! Invariant: a test here fails when the promise is broken, not when a log line changes.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

mod budgets;
mod card;
mod cred;
mod lum;
mod people;
mod policy;
mod shares;
mod sockets;
mod tenants;
mod tokens_and_journal;
mod usage;
