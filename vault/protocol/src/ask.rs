//! `ask.sock`: the gateway asks, the keeper answers. One connection, many questions under way, matched by number.
//!
//! Invariant: the gateway presents a proof; only the keeper says who that is.
//! Invariant: no answer carries a key, a destination or an id of a person.

use serde::{Deserialize, Serialize};
use strongroom_policy::budget::Warning;
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::CallId;
use strongroom_policy::name::{BetaName, Label, ProviderName};
use strongroom_policy::provider::Origin;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method, PathPattern};
use strongroom_policy::target::Target;

use crate::SecretBytes;
use crate::person::{PersonAnswer, PersonAsk, SessionKey};

/// A question with its number, chosen by the gateway and unique among those under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct FromGateway {
    /// Repeated in the answer.
    pub number: u64,
    /// The question.
    pub ask: Ask,
}

/// What the gateway may ask.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// May whoever presents this proof call this provider at all? Asked before a large body is read.
    Identify {
        /// The API token.
        proof: SecretBytes,
        /// The route's provider.
        provider: ProviderName,
    },
    /// May this call be made? The answer carries a ticket for the courier.
    Call(Box<CallAsk>),
    /// Everything about people who sign in.
    Person(Box<PersonAsk>),
}

/// A call as the gateway read it.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallAsk {
    /// The API token.
    pub proof: SecretBytes,
    /// The route's provider.
    pub provider: ProviderName,
    /// `x-strongroom-credential`: a credential's label or id.
    pub choice: Option<Label>,
    /// The method.
    pub method: Method,
    /// The canonical target below the route.
    pub target: Target,
    /// The values of the beta header, in order.
    pub betas: Vec<BetaName>,
    /// What the body asks for.
    pub claims: Claims,
    /// How long the body is.
    pub length: Length,
}

/// Most beta values in one call.
pub const MAX_BETAS: usize = 32;

/// What the keeper sends to the gateway.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToGateway {
    /// The answer to the question of this number.
    Answer {
        /// The question's number.
        number: u64,
        /// The answer.
        answer: Answer,
    },
    /// The state of the vault; sent at once, and again whenever it changes.
    Snapshot(Snapshot),
}

/// The keeper's answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The proof acts, and may call this provider.
    Identified,
    /// The call is in the journal; the courier of its provider's origin will make it for whoever brings the ticket.
    Admitted {
        /// Good for one redemption within [`TICKET_LIFE`].
        ticket: Ticket,
        /// Names the call towards the user and in the journal.
        call: CallId,
        /// That a budget's warning share is passed.
        budget: Option<Warning>,
    },
    /// The call is not made.
    Refused(Refused),
    /// About people who sign in.
    Person(Box<PersonAnswer>),
}

/// A refusal with what may be said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub refusal: Refusal,
    /// Names the refusal in the journal, when it was recorded there.
    pub call: Option<CallId>,
    /// What exactly: a feature, a parameter, labels to choose from.
    pub about: Option<String>,
    /// When trying again can help.
    pub retry_after_secs: Option<u32>,
}

/// Longest `about`, bytes.
pub const MAX_ABOUT_BYTES: usize = 512;

/// A right to have one admitted call made: 128 random bits, used once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ticket(pub [u8; 16]);

/// How long an unredeemed ticket lives.
pub const TICKET_LIFE: std::time::Duration = std::time::Duration::from_secs(10);

/// What the gateway must know to route: nothing secret, nothing about people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with each change.
    pub version: u64,
    /// Whether calls can be made.
    pub state: VaultState,
    /// The providers and their paths; empty while sealed.
    pub providers: Vec<Route>,
    /// What verifies sessions, once there was need of it; none while sealed.
    pub session_key: Option<SessionKey>,
}

/// Whether calls can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VaultState {
    /// There is no vault yet.
    Uninitialised,
    /// Keys are not in memory.
    Sealed,
    /// Some shares are in.
    Unsealing,
    /// Calls can be made.
    Ready,
    /// A fault of the disk: sealed until an operator looked.
    Faulty,
}

/// One provider as a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The name in the route.
    pub name: ProviderName,
    /// Which courier its tickets are for.
    pub origin: Origin,
    /// How to read bodies and word refusals.
    pub dialect: Dialect,
    /// Which methods and paths have which kind of body.
    pub paths: Vec<RoutePath>,
}

/// One path of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePath {
    /// The method.
    pub method: Method,
    /// The path.
    pub pattern: PathPattern,
    /// The kind of body.
    pub body: BodyKind,
}

impl Refused {
    /// A refusal of which nothing more is said.
    pub const fn plain(refusal: Refusal) -> Self {
        Self { refusal, call: None, about: None, retry_after_secs: None }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<ticket>")
    }
}

#[cfg(test)]
mod tests {
    use super::Ticket;

    /// Whoever reads a log must not redeem what was admitted.
    #[test]
    fn a_ticket_does_not_print() {
        assert_eq!(format!("{:?}", Ticket([7; 16])), "<ticket>");
    }
}
