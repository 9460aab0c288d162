//! The courier's program, confined, between a keeper and a gateway of the test and an emulated provider over real TLS.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod bodies;
mod endings;
mod hostile;
mod keeper;
mod lane;
mod measure;
mod names;
mod plain;
mod recalls;
mod scene;
mod stale;
mod urls;
