//! The gateway over real TLS, with a keeper and a courier that tests play.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calls;
mod endings;
mod hostile;
mod http1;
mod measure;
mod process;
mod stage;
