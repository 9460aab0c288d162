//! Attackers as tests: a captured gateway, a captured courier and a neighbour, each against the real processes.
//!
//! Invariant: whoever attacks has at least what that attacker would have: its user, its sockets, its reach.
//! Invariant: each suite ends with the same judgement, in [`scene`]: no key, no destination, no call without its entry, and the
//! same keeper and courier still serve.
//!
//! `SR_SOAK=1` makes the random suites large, `SR_SEED` repeats one. Foreign users need root.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, with a sentence"
)]

mod alone;
mod budgets;
mod claims;
mod clients;
mod clocks;
mod courier;
mod couriers;
mod doors;
mod handshakes;
mod ledger;
mod mutation;
mod neighbour;
mod outcomes;
mod people;
mod providers;
mod scene;
mod speech;
mod tenants;
mod tickets;
