//! What the gateway (of callers) and the courier (of providers) both need to read HTTP/1.1: where a head ends, and how a
//! body is framed. One reading for both, so that what one passes on the other understands alike.
//!
//! Invariant: what two readers could cut apart in two ways is refused: bare CR or LF, NUL, odd chunk sizes.
//! Invariant: every head, line and trailer has a bound.
//!
//! No I/O here. The keeper does not link it.
#![forbid(unsafe_code)]

mod framing;
mod head;

pub use framing::{BadFraming, Body, Decoded, Framing, Progress};
pub use head::{BadHead, HeadSearch, decimal};
