//! The rows of the operator's lists.
//!
//! Invariant: a row says what a thing is and may do, never a secret of it.

use serde::{Deserialize, Serialize};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::{CredentialId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::money::Money;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::provider::Origin;
use strongroom_policy::rules::{CredentialRules, Home, Standing, TokenScope};

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Id.
    pub id: UserId,
    /// Name.
    pub label: Label,
    /// Whether they may act.
    pub standing: Standing,
    /// When they were made.
    pub created: Moment,
}

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceRow {
    /// Id.
    pub id: WorkspaceId,
    /// Name.
    pub label: Label,
    /// Members.
    pub members: Vec<(UserId, Label)>,
    /// When it was made.
    pub created: Moment,
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRow {
    /// Name.
    pub name: ProviderName,
    /// API shape.
    pub dialect: Dialect,
    /// `https://host:port/base`.
    pub base_url: String,
    /// Who wrote it.
    pub origin: Origin,
    /// How many paths may be called.
    pub paths: u32,
    /// How many credentials there are for it.
    pub credentials: u32,
}

/// A credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRow {
    /// Id.
    pub id: CredentialId,
    /// Name.
    pub label: Label,
    /// For which provider.
    pub provider: ProviderName,
    /// Whose.
    pub home: Home,
    /// The owner's or workspace's name.
    pub home_label: Label,
    /// `https://host:port/base`.
    pub base_url: String,
    /// Grows with each rotation.
    pub version: u64,
    /// What it may be used for.
    pub rules: CredentialRules,
    /// When it was made.
    pub created: Moment,
    /// When its key was last set.
    pub rotated: Moment,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Id.
    pub id: TokenId,
    /// Name.
    pub label: Label,
    /// Whose.
    pub user: UserId,
    /// The person's name.
    pub user_label: Label,
    /// What it may do.
    pub scope: TokenScope,
    /// When it was made.
    pub created: Moment,
}

/// One journal entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRow {
    /// Its number, from 1, without gaps.
    pub number: u64,
    /// The entry as it stands in the file: one line of JSON.
    pub line: String,
}

/// One sum of usage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// What was summed by: an id or a name.
    pub key: String,
    /// Its label, where it has one.
    pub label: Option<Label>,
    /// Calls that were admitted.
    pub calls: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Input tokens told.
    pub input: u64,
    /// Output tokens told.
    pub output: u64,
    /// Calls whose usage is missing or partial.
    pub untold: u64,
    /// Exact cost told, 1e-10 USD.
    pub cost_ticks: u64,
    /// What the calls cost at the prices of their time; of what was not told, the most that it can have been.
    pub cost: Money,
    /// Calls for which no price was known.
    pub unpriced: u64,
}

impl UsageRow {
    /// Adds another row's sums to this one's.
    pub const fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.refused = self.refused.saturating_add(other.refused);
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.untold = self.untold.saturating_add(other.untold);
        self.cost_ticks = self.cost_ticks.saturating_add(other.cost_ticks);
        self.cost = self.cost.plus(other.cost);
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
    }
}
