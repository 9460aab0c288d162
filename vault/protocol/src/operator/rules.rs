//! A tenant's own rules on `operator.sock`: shown, replaced as a whole, and asked about.
//!
//! Invariant: a set replaces exactly the version that whoever wrote it had seen.

use serde::{Deserialize, Serialize};
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{BetaName, Label, ProviderName};
use strongroom_policy::route::Method;
use strongroom_policy::target::Target;
use strongroom_policy::tenant_rules::{Effect, Rule, RuleName};

use crate::operator::Pick;

/// What is asked about rules.
#[derive(Debug, Serialize, Deserialize)]
pub enum RulesRequest {
    /// All of them.
    Show,
    /// Puts others in their place; the answer is the version that they are.
    Replace {
        /// The version that they were made from.
        version: u64,
        /// In their order.
        rules: Vec<Rule>,
    },
    /// What would be decided about a call now, and by which rule. Nothing is called or recorded.
    Explain(Box<Question>),
}

/// A call that nobody makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// By whom: the token that would be presented.
    pub token: Pick,
    /// The route's provider.
    pub provider: ProviderName,
    /// The credential that would be named.
    pub choice: Option<Label>,
    /// The method.
    pub method: Method,
    /// The canonical target below the route.
    pub target: Target,
    /// The values of the beta header.
    pub betas: Vec<BetaName>,
    /// What the body would ask for.
    pub claims: Claims,
    /// How long it would be.
    pub length: Length,
}

/// What the keeper answers about rules.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RulesAnswer {
    /// All of them.
    Rules(Box<Rules>),
    /// What would be decided.
    Explained(Box<Explained>),
    /// Others are in force now, and these are of this version.
    Replaced(u64),
}

/// Most bytes of a tenant's rules as they are encoded: what one record can keep of them.
pub const MAX_RULES_BYTES: usize = 16 * 7 * 1024 - 32;

/// Rules that no record can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rules take {0} bytes as they are kept, and there can be {MAX_RULES_BYTES}: write fewer, or shorter lists of models"
)]
pub struct RulesTooLong(usize);

/// Whether rules can be kept, for who writes them and for who keeps them.
///
/// # Errors
/// When they are too long.
pub fn check_length(rules: &[Rule]) -> Result<(), RulesTooLong> {
    // What has no encoding is too long for every record.
    let bytes = postcard::to_stdvec(rules).map_or(usize::MAX, |encoded| encoded.len());
    if bytes > MAX_RULES_BYTES { Err(RulesTooLong(bytes)) } else { Ok(()) }
}

/// The rules in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// A stamp, drawn anew with each change; 0 when there never were any.
    pub version: u64,
    /// When they were put in force.
    pub changed: Option<Moment>,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// A decision and its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The refusal's code; nothing if the call would be made.
    pub refusal: Option<String>,
    /// The rule that decided.
    pub rule: String,
    /// What was denied, when the rule says it.
    pub about: Option<String>,
    /// The credential that would be used, when one was found.
    pub credential: Option<Label>,
    /// The tenant's rules about this subject and credential, in their order; none where no path or no credential was found.
    pub considered: Vec<Considered>,
}

/// A rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// Which.
    pub name: RuleName,
    /// Whether it gives or takes.
    pub effect: Effect,
    /// Whether it counts for this call.
    pub holds: bool,
}
