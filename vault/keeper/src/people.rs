//! People who sign in: passwords, what was tried with them, invitations and sessions.
//!
//! ```text
//! begin ── attempt ──► finish ── judge ──► journal ── store ──► a session's text
//!                                   └─ wrong, unknown, waiting, disabled: counted, stored, one refusal
//! ```
//!
//! Invariant: a session's text is made here, after a proof that was checked here, and the store knows its hash alone.
//! Invariant: what failed is counted and durable before it is answered; only a success, or an operator, takes a count back.
//! Invariant: unknown, wrong, waiting and disabled are told alike, after the same work.
//! Invariant: whatever changes a record here has the turn that operators' acts take.

mod asks;
mod attempts;
mod challenge;
mod change;
mod sessions;
mod signing;
mod sources;
mod table;
mod tries;
mod writing;

pub use asks::{Places, ask};
pub use attempts::Attempts;
pub use challenge::{Scheme, VerifierRecord, wrap_imported};
pub use sessions::SessionRecord;
pub use signing::{SigningKey, ensure_key, warm_up};
pub use sources::Sources;
pub use table::{InvitationRecord, People, Person, Personal, SignIns};
pub use tries::TriesRecord;
