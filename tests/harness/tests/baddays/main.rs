//! Bad days: providers that break, disks that fill, tokens that end, processes that are started twice.
//!
//! Invariant: what did not end well never looks finished, and what cannot be recorded is not done.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

mod demo;
mod disks;
mod endings;
mod operators;
mod owners;
mod parts;
mod prompts;
mod restores;
mod streams;
