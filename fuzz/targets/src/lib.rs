//! One function for each decoder of bytes that somebody else chose. It takes any bytes, and panics when a claim does not hold.
//!
//! Claims beyond "no panic": what decodes is encoded again and decodes to the same; what is read in pieces is read alike however
//! it is cut; what has a slow and plain reference agrees with it. Each function also says whether the bytes were accepted, so that
//! the replay notices a corpus that no longer gets past the first check.
//!
//! Invariant: a function depends on its bytes alone: no clock, no file, no randomness, so that a find is found again.
#![forbid(unsafe_code)]
#![expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    clippy::panic,
    reason = "a claim that does not hold ends the run"
)]

pub mod body;
pub mod callers;
mod cut;
pub mod disk;
pub mod policy;
pub mod providers;
pub mod settings;
pub mod sockets;
pub mod tlog;

/// What a decoder said to the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They mean something.
    Accepted,
    /// They do not.
    Refused,
}

/// One decoder with its claims.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Names the binary, the corpus and the regressions.
    pub name: &'static str,
    /// Judges bytes.
    pub run: fn(&[u8]) -> Verdict,
}

/// Every target, in the order of the page in `fuzz/README.md`.
pub const TARGETS: &[Target] = &[
    target("ask", sockets::ask),
    target("errand", sockets::errand),
    target("operator", sockets::operator),
    target("tpm", sockets::tpm),
    target("call", sockets::call),
    target("token", sockets::token),
    target("upload", sockets::upload),
    target("claims", body::claims),
    target("form", body::form),
    target("path", policy::path),
    target("definition", policy::definition),
    target("rules", policy::rules),
    target("head", callers::head),
    target("framing", callers::framing),
    target("refusal", callers::refusal),
    target("answer", providers::answer),
    target("sent", providers::sent),
    target("scrubber", providers::scrubber),
    target("meter", providers::meter),
    target("url", providers::url),
    target("envelope", disk::envelope),
    target("keyring", disk::keyring),
    target("manifest", disk::manifest),
    target("seal", disk::seal),
    target("slots", disk::slots),
    target("share", disk::share),
    target("backup", disk::backup),
    target("record", disk::record),
    target("entry", disk::entry),
    target("tile", tlog::tile),
    target("note", tlog::note),
    target("proof", tlog::proof),
    target("settings", settings::settings),
];

const fn target(name: &'static str, run: fn(&[u8]) -> Verdict) -> Target {
    Target { name, run }
}

impl Verdict {
    /// Of a decoder that answers with what it read.
    fn of<T, E>(read: &Result<T, E>) -> Self {
        if read.is_ok() { Self::Accepted } else { Self::Refused }
    }
}
