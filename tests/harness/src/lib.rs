//! A whole Strongroom appliance for one test: real processes, emulated providers, a client that can misbehave.
//!
//! Invariant: everything an appliance starts ends with it, by process id, also when a test fails.
//! Invariant: appliances do not meet: each has its own loopback address, directory and providers.
//! Invariant: nothing waits without a bound, and what is waited for is a condition, not a time.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    clippy::format_push_string,
    reason = "a test tool: what does not work here fails the test at once, with a sentence"
)]

pub mod answer;
pub mod appliance;
pub mod canary;
pub mod captured;
pub mod client;
pub mod clock;
pub mod command;
pub mod dice;
pub mod journal;
pub mod operator;
pub mod patience;
pub mod processes;
pub mod scratch;
pub mod speak;
pub mod terminal;

pub use answer::Answer;
pub use appliance::{Appliance, Options, PASSPHRASE};
pub use client::{Connection, Ending, Gate, Piece};
pub use command::Ran;
pub use patience::{PATIENCE, PROMPT, until};
pub use processes::Part;
pub use speak::Request;
