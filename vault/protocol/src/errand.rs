//! `errand.sock`: a courier redeems tickets and reports outcomes; the keeper hands out errands and recalls them. There is one for the
//! courier of built-in providers, and `errand-defined.sock` for that of operator-defined ones.
//!
//! An errand is pulled by its ticket: a ticket never outruns it, and an unredeemed ticket holds no opened key.
//!
//! Invariant: one key crosses for each redeemed ticket, and none without one.
//! Invariant: at the other courier's door a ticket is none, and says nothing of itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::destination::Destination;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::{CallId, CredentialId};
use strongroom_policy::name::BetaName;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_policy::target::Target;

use crate::SecretBytes;
use crate::ask::Ticket;
use crate::usage::Usage;

/// What the courier says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromCourier {
    /// A lane brought this ticket.
    Redeem(Ticket),
    /// A call has ended.
    Outcome(Box<Outcome>),
    /// What a probe's provider answered; its outcome came before.
    Probed(Box<Probed>),
}

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToCourier {
    /// The errand of a redeemed ticket.
    Errand {
        /// The ticket that was redeemed.
        ticket: Ticket,
        /// What to do.
        errand: Box<Errand>,
    },
    /// The ticket is not redeemed.
    Refused {
        /// The ticket.
        ticket: Ticket,
        /// Why.
        refusal: Refusal,
    },
    /// Make this call without a lane, and report what was answered.
    Probe(Box<Errand>),
    /// Stop these calls at once.
    Recall(Recall),
}

/// Which calls to stop.
#[derive(Debug, Serialize, Deserialize)]
pub enum Recall {
    /// These.
    Calls(Vec<CallId>),
    /// All of them: the vault is being sealed.
    All,
}

/// Most calls in one recall; more are told in several messages.
pub const MAX_RECALLED: usize = 1024;

/// One call to make, with the one key that it needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Errand {
    /// Names the call.
    pub call: CallId,
    /// Separates pooled connections.
    pub credential: CredentialId,
    /// The version of the credential: a rotated key does not ride on an old connection's scrubber.
    pub credential_version: u64,
    /// Where to.
    pub destination: Destination,
    /// The key.
    pub secret: SecretBytes,
    /// The method that was judged.
    pub method: Method,
    /// The target that was judged, below the destination's base path.
    pub target: Target,
    /// The API shape.
    pub dialect: Dialect,
    /// What kind of body was judged.
    pub body: BodyKind,
    /// The claims that were judged; the body must bear them out.
    pub claims: Claims,
    /// The length that was judged.
    pub length: Length,
    /// The beta values that were judged; the header is written from these.
    pub betas: Vec<BetaName>,
    /// Key for `HMAC(tag, idempotency-key)`, one per subject: a foreign key cannot be guessed or replayed.
    pub idempotency_tag: SecretBytes,
    /// Absolute URLs of the destination are rewritten to this origin and route prefix.
    pub public_prefix: String,
    /// How long to wait.
    pub deadlines: Deadlines,
}

/// How long the courier waits; all but `connect` restart with each byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// Name, TCP and TLS together.
    #[serde(deserialize_with = "crate::span::exact")]
    pub connect: Duration,
    /// From the request's last byte to the answer's first.
    #[serde(deserialize_with = "crate::span::exact")]
    pub first_byte: Duration,
    /// Between bytes of the answer.
    #[serde(deserialize_with = "crate::span::exact")]
    pub idle: Duration,
    /// Between bytes of the request body.
    #[serde(deserialize_with = "crate::span::exact")]
    pub body_idle: Duration,
}

impl Deadlines {
    /// Reasoning models are silent for minutes; the SDKs' own limit is 600 s.
    pub const USUAL: Self = Self {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_mins(10),
        idle: Duration::from_mins(5),
        body_idle: Duration::from_secs(30),
    };
    /// A probe is a person waiting at a terminal.
    pub const PROBE: Self = Self {
        connect: Duration::from_secs(5),
        first_byte: Duration::from_secs(10),
        idle: Duration::from_secs(5),
        body_idle: Duration::from_secs(5),
    };
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which call.
    pub call: CallId,
    /// The provider's status, when it answered.
    pub status: Option<u16>,
    /// How it ended.
    pub ending: Ending,
    /// What it consumed.
    pub usage: Usage,
    /// Bytes of the request body that were sent.
    pub sent_bytes: u64,
    /// Bytes of the answer's body that were received.
    pub received_bytes: u64,
    /// How many echoes of the key were scrubbed.
    pub scrubbed: u32,
    /// From redemption to the answer's head.
    #[serde(deserialize_with = "crate::span::exact_option")]
    pub first_byte: Option<Duration>,
    /// From redemption to the end.
    #[serde(deserialize_with = "crate::span::exact")]
    pub total: Duration,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The provider's answer passed whole.
    Complete,
    /// It was refused or broke off.
    Aborted(Refusal),
}

/// What a probe's provider answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Which call.
    pub call: CallId,
    /// The first bytes of the answer, scrubbed, as text. Opaque to the keeper.
    pub text: String,
}

/// Longest text of a probe, bytes.
pub const MAX_PROBED_BYTES: usize = 1024;
