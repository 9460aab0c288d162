//! The vault on a stolen, rolled-back or dying disk: attacks on the keeper's real process, its files taken as opaque bytes.
//!
//! Invariant: the outcome is all there, or a clean refusal that says why; never a panic, never a silent loss.
//!
//! `SR_SOAK=1` makes each suite large, `SR_SEED` repeats one. Most need root, to mount file systems.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise, with a sentence, and says its seed and its figures"
)]

mod bit_flips;
mod calls;
mod failing_disk;
mod figures;
mod keeper;
mod kills;
mod lab;
mod ledger;
mod power_cuts;
mod rollback;
mod scene;
mod splice;
mod tracer;
