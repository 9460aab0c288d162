//! The typed rules that stand beside tokens and credentials, and the facts that they are judged against.
//!
//! Invariant: a rule can only narrow what the ready-made rules allow.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::claims::{Claims, Feature, Features};
use crate::destination::Destination;
use crate::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use crate::moment::Moment;
use crate::name::{BetaName, ModelName, ProviderName};
use crate::route::{BodyKind, PathClass, PathRule};

/// All values, or those listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice<T> {
    /// Every value.
    Any,
    /// The listed values and no other.
    Only(Vec<T>),
}

/// Most entries in one list of a rule.
pub const MAX_CHOICES: usize = 64;

/// What a token may do; a token never does more than its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenScope {
    /// Providers it may call.
    pub providers: Choice<ProviderName>,
    /// Models it may name; a final `*` stands for any ending.
    pub models: Choice<ModelName>,
    /// The one credential it is bound to.
    pub credential: Option<CredentialId>,
    /// When it ends.
    pub expires: Option<Moment>,
    /// Calls per minute; a burst of the same size is allowed.
    pub calls_per_minute: u32,
}

/// What a credential may be used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRules {
    /// Models it may be used with.
    pub models: Choice<ModelName>,
    /// Features it may be used with; `None` takes the ready-made set for its home.
    pub features: Option<Features>,
    /// Beta values it may be used with.
    pub betas: Choice<BetaName>,
    /// When it ends.
    pub expires: Option<Moment>,
}

/// Whose a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// One person's.
    Personal(UserId),
    /// Shared by the members of a workspace.
    Workspace(WorkspaceId),
}

/// What the decision needs to know of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFacts {
    /// Which one.
    pub id: CredentialId,
    /// Whose tenant.
    pub tenant: TenantId,
    /// Whose within the tenant.
    pub home: Home,
    /// For which provider.
    pub provider: ProviderName,
    /// Where it may be sent: the copy that was frozen when it was made.
    pub destination: Arc<Destination>,
    /// What it may be used for.
    pub rules: CredentialRules,
}

/// What a call is, as far as it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFacts {
    /// What its path reaches.
    pub class: PathClass,
    /// What its body is.
    pub body: BodyKind,
    /// The model that its path or its body names.
    pub model: Option<ModelName>,
    /// The features that its body uses.
    pub features: Features,
}

impl CallFacts {
    /// Of a call on this path, which may name its model itself.
    pub fn of(path: &PathRule, in_path: Option<ModelName>, claims: &Claims) -> Self {
        let model = in_path.or_else(|| claims.model.clone());
        Self { class: path.class, body: path.body, model, features: claims.features }
    }

    /// The model that it runs. One that reaches stored objects may run what lies in them, whatever it names itself.
    pub const fn shown_model(&self) -> Option<&ModelName> {
        match self.class {
            PathClass::Stateful => None,
            PathClass::Stateless => self.model.as_ref(),
        }
    }

    /// Whether it may use features that nobody here can read: those of an object that it refers to or makes, or of an opaque body.
    pub fn may_hide_features(&self) -> bool {
        self.features.has(Feature::ObjectReferences)
            || match self.body {
                BodyKind::Empty => false,
                BodyKind::Json | BodyKind::Multipart => self.class == PathClass::Stateful,
                BodyKind::Opaque => true,
            }
    }
}

/// Who asks, as the keeper authenticated them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The tenant.
    pub tenant: TenantId,
    /// The person.
    pub user: UserId,
    /// The token that was presented.
    pub token: TokenId,
    /// What that token may do.
    pub scope: TokenScope,
    /// The workspaces the person is a member of.
    pub workspaces: Vec<WorkspaceId>,
    /// Whether the person may act at all.
    pub standing: Standing,
}

/// Whether a person may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// May act.
    Active,
    /// Was disabled by an operator.
    Disabled,
}

impl<T: PartialEq> Choice<T> {
    /// Whether a value is among the chosen.
    pub fn allows(&self, value: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(list) => list.contains(value),
        }
    }
}

impl Choice<ModelName> {
    /// Whether a model fits one of the patterns.
    pub fn allows_model(&self, model: &ModelName) -> bool {
        match self {
            Self::Any => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| model.matches(pattern)),
        }
    }

    /// Whether any model will do.
    pub const fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }
}

impl Default for CredentialRules {
    fn default() -> Self {
        Self { models: Choice::Any, features: None, betas: Choice::Any, expires: None }
    }
}
