//! A local stand-in for the four providers' APIs, over TLS, on good days and on chosen bad ones.
//!
//! Invariant: nothing here dials out; the only sockets are two loopback listeners.
//! Invariant: what a client sent is recorded as it came, before anything is made of it.
//!
//! HTTP/1.1 is written by hand, because the bad days need framing that no library would emit.
//! The day is chosen by the model name (see [`day`]), since that is what survives a proxy best.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "a test tool: a poisoned lock or an unencodable constant is a broken test, said at once"
)]

mod answer;
mod api;
mod bench;
mod certificates;
mod connection;
mod control;
pub mod day;
pub mod echo;
mod emulator;
mod media;
mod multipart;
mod options;
mod reply;
mod request;
mod script;
mod seen;
mod speech;
mod wire;
mod world;

mod anthropic;
mod gemini;
mod openai;

pub use api::Api;
pub use emulator::Emulator;
pub use options::{Keys, Options};
pub use seen::{Counts, Outcome, Seen};
