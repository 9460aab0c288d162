//! The journal on `operator.sock`: searched, copied in parts, archived.
//!
//! Invariant: every answer has a bound; whoever wants more asks again from where the last one ended.

use serde::{Deserialize, Serialize};
use strongroom_policy::id::CallId;
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};

use crate::operator::Pick;
use crate::operator::listing::JournalRow;

/// Most bytes of one part.
pub const MAX_AUDIT_PART_BYTES: usize = 1024 * 1024;

/// What is asked about the journal.
#[derive(Debug, Serialize, Deserialize)]
pub enum AuditRequest {
    /// Entries that fit, oldest first.
    Search {
        /// Which.
        filter: Box<AuditFilter>,
        /// Only entries with a greater number.
        after: u64,
        /// At most this many.
        limit: u32,
    },
    /// Where the journal begins and ends.
    Span,
    /// A part of one of its files.
    Read {
        /// Which file.
        part: AuditPart,
        /// From which byte on.
        offset: u64,
    },
    /// Takes the oldest bundles away, which the operator has copied.
    Archive {
        /// The first bundle that stays.
        bundle: u64,
    },
}

/// Which entries are searched for; each field that is given must fit. The end of a call has its call's user, token, credential and provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// Not before.
    pub since: Option<Moment>,
    /// Before.
    pub until: Option<Moment>,
    /// Whose call.
    pub user: Option<Pick>,
    /// By which token.
    pub token: Option<Pick>,
    /// With which credential.
    pub credential: Option<Pick>,
    /// To which provider.
    pub provider: Option<ProviderName>,
    /// About this call.
    pub call: Option<CallId>,
    /// `complete`, or a refusal's code.
    pub outcome: Option<Label>,
    /// The kind of entry, as `admit`, or an operator's act, as `token.create`.
    pub act: Option<Label>,
    /// By this Unix user.
    pub operator: Option<u32>,
}

/// A file of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditPart {
    /// A bundle of entries, as far as it is written.
    Entries(u64),
    /// A full hash tile.
    Hashes {
        /// Its level.
        level: u8,
        /// Which of its level.
        index: u64,
    },
}

/// What is answered about the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditAnswer {
    /// Entries that fit.
    Found {
        /// The entries.
        rows: Vec<JournalRow>,
        /// The newest entry that was looked at; go on after it.
        looked: u64,
        /// Whether nothing lies after it.
        end: bool,
    },
    /// Where the journal begins and ends.
    Span {
        /// The first bundle that is kept.
        first_bundle: u64,
        /// How many entries there are.
        entries: u64,
        /// The last durable checkpoint, a signed note; empty before the first.
        checkpoint: String,
    },
    /// A part of a file; empty behind its end.
    Part(Vec<u8>),
    /// The oldest bundles are gone; this many entries.
    Archived(u64),
}
