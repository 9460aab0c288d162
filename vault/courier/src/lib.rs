//! The courier: dials bound destinations, injects one credential per call, and cleans what comes back.
//!
//! Invariant: it listens on no network socket and opens no file once it is confined.
//! Invariant: a call's key goes into one wiped buffer, that buffer onto one TLS connection, and nowhere else.

#![forbid(unsafe_code)]

pub mod address;
pub mod answer;
pub mod arguments;
pub mod errands;
#[doc(hidden)]
pub mod fuzzing;
pub mod lanes;
pub mod meter;
pub mod pool;
pub mod relay;
pub mod request;
pub mod resolve;
pub mod scrub;
pub mod start;
mod timer;
pub mod tls;
mod wiped;
