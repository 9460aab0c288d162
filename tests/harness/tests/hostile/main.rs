//! Hostile clients, neighbours and providers against the real processes.
//!
//! Invariant: whatever is refused never reached a provider; whatever reached one is what was judged.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

mod bodies;
mod heads;
mod http2;
mod names;
mod oracle;
mod providers;
mod refusals;
mod shared_keys;
mod smuggling;
mod targets;
