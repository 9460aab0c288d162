//! The gateway: TLS and HTTP in, the callers' tokens presented to the keeper, bytes relayed to the courier.
//!
//! Invariant: no key to a provider ever enters this process, and it opens no connection after its start.
//! Invariant: nothing here decides; the keeper judges, and what was judged is, byte for byte, what is sent.
#![forbid(unsafe_code)]

mod answer;
mod api;
pub mod authenticate;
mod body;
mod budget;
mod call;
mod connection;
mod exchange;
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
mod head;
mod http1;
mod http2;
mod inbox;
mod incoming;
pub mod keeper_link;
pub mod lanes;
pub mod listener;
pub mod metrics;
pub mod place;
pub mod request;
pub mod routes;
pub mod settings;
pub mod start;
mod upload;
pub mod wording;
