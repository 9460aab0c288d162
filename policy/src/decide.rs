//! The decision: a pure function from who asks, what for and the rules, to a permit or a named denial.
//!
//! Invariant: default deny; every check names its rule, and the first that fails decides.
//! Invariant: a [`Permit`] has no other maker, no copy and no encoding; it carries what was judged.

mod permit;

use std::borrow::Cow;
use std::sync::Arc;

use crate::claims::{Claims, Feature, Features, Length};
use crate::destination::Destination;
use crate::dialect::Dialect;
use crate::id::{CredentialId, TenantId, TokenId, UserId};
use crate::moment::Moment;
use crate::name::{BetaName, ModelName, ProviderName};
use crate::provider::{Origin, ProviderDefinition};
use crate::refusal::Refusal;
use crate::route::{BodyKind, Method, PathClass, PathRule};
use crate::rules::{CallFacts, Choice, CredentialFacts, Home, Standing, Subject};
use crate::target::Target;
use crate::tenant_rules::{About, Rule, RuleSet, Shown};

/// Who asks with which key, and the rules between them.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// Who asks.
    pub subject: &'a Subject,
    /// With which credential.
    pub credential: &'a CredentialFacts,
    /// Whether whoever owns it may act; a workspace's key is nobody's.
    pub owner: Standing,
    /// The tenant's own rules.
    pub rules: &'a RuleSet,
}

/// What someone wishes to do with one credential.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Who asks, and with which credential.
    pub access: Access<'a>,
    /// Through which provider's definition.
    pub provider: &'a ProviderDefinition,
    /// The method.
    pub method: Method,
    /// The canonical target.
    pub target: Target,
    /// The values of the beta header, in order.
    pub betas: Vec<BetaName>,
    /// What the body asks for.
    pub claims: Claims,
    /// How long the body is.
    pub length: Length,
}

/// Leave to make one call, as it was judged. Spent by the journal.
///
/// Nobody but [`decide`] makes one; it can be passed on, and not put together:
///
/// ```
/// use strongroom_policy::decide::Permit;
/// fn pass_on(permit: Permit) -> Permit { permit }
/// ```
/// ```compile_fail,E0451
/// use strongroom_policy::decide::Permit;
/// fn pass_on(permit: Permit) -> Permit { Permit { rule: "another", ..permit } }
/// ```
#[must_use]
#[derive(Debug)]
pub struct Permit {
    tenant: TenantId,
    user: UserId,
    token: TokenId,
    credential: CredentialId,
    provider: ProviderName,
    origin: Origin,
    dialect: Dialect,
    destination: Arc<Destination>,
    method: Method,
    target: Target,
    facts: CallFacts,
    betas: Vec<BetaName>,
    claims: Claims,
    length: Length,
    rule: Cow<'static, str>,
}

/// Why not: the refusal that the outside sees, and the rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What the outside sees.
    pub refusal: Refusal,
    /// The rule's name, for `explain` and the journal; a tenant's own begins with `tenant.`.
    pub rule: Cow<'static, str>,
    /// What was denied: a feature, a parameter, a model. Never more than the caller sent.
    pub about: Option<String>,
}

/// Judges a wish at a moment.
///
/// # Errors
/// The denial of the first rule that does not hold.
pub fn decide(wish: Wish<'_>, now: Moment) -> Result<Permit, Denial> {
    let access = wish.access;
    may_call_provider(access.subject, &wish.provider.name, now)?;
    let at_home = may_use(&access, &wish.provider.name, now)?;
    let (path, in_path) = may_reach(&wish)?;
    may_store(&access, path.class)?;
    may_name(&wish, path, in_path.as_ref())?;
    may_ask(&access, wish.claims.features)?;
    may_try(&access, &wish.betas)?;
    let facts = CallFacts::of(path, in_path, &wish.claims);
    let rule = may_pass(&access, at_home, &Shown { call: &facts, now })?;
    Ok(Permit {
        tenant: access.subject.tenant,
        user: access.subject.user,
        token: access.subject.token,
        credential: access.credential.id,
        provider: wish.provider.name.clone(),
        origin: wish.provider.origin,
        dialect: wish.provider.dialect,
        destination: Arc::clone(&access.credential.destination),
        method: wish.method,
        target: wish.target,
        facts,
        betas: wish.betas,
        claims: wish.claims,
        length: wish.length,
        rule,
    })
}

/// Judges a call that is under way again: whether who makes it may still use the key for what it is.
///
/// Its path, models and beta values are not asked about again: whoever changes a token's or a key's lists stops all calls of it.
///
/// # Errors
/// The denial of the first rule that does not hold any more.
pub fn still(access: &Access<'_>, call: &CallFacts, now: Moment) -> Result<(), Denial> {
    let provider = &access.credential.provider;
    may_call_provider(access.subject, provider, now)?;
    let at_home = may_use(access, provider, now)?;
    may_store(access, call.class)?;
    may_ask(access, call.features)?;
    may_pass(access, at_home, &Shown { call, now }).map(drop)
}

/// Whether the person and the token may act at all, and for this provider.
pub fn may_call_provider(
    subject: &Subject,
    provider: &ProviderName,
    now: Moment,
) -> Result<(), Denial> {
    if subject.standing == Standing::Disabled {
        return Err(deny(Refusal::TokenInvalid, "user.disabled"));
    }
    if subject.scope.expires.is_some_and(|end| end <= now) {
        return Err(deny(Refusal::TokenExpired, "token.expired"));
    }
    if !subject.scope.providers.allows(provider) {
        return Err(deny(Refusal::ProviderDenied, "token.providers"));
    }
    Ok(())
}

/// Whether this credential is the subject's to use, by a ready-made rule or, if none is answered, by one of the tenant's; foreign and
/// absent look alike.
fn may_use(
    access: &Access<'_>,
    provider: &ProviderName,
    now: Moment,
) -> Result<Option<&'static str>, Denial> {
    let (subject, credential) = (access.subject, access.credential);
    let missing = |rule| Err(deny(Refusal::CredentialMissing, rule));
    if credential.tenant != subject.tenant {
        return missing("credential.tenant");
    }
    if credential.provider != *provider {
        return missing("credential.provider");
    }
    if subject.scope.credential.is_some_and(|bound| bound != credential.id) {
        return missing("token.credential");
    }
    if credential.rules.expires.is_some_and(|end| end <= now) {
        return Err(deny(Refusal::CredentialExpired, "credential.expired"));
    }
    match credential.home {
        Home::Personal(owner) if owner == subject.user => Ok(Some("ready-made.owner")),
        Home::Workspace(home) if subject.workspaces.contains(&home) => {
            Ok(Some("ready-made.member"))
        }
        // Whoever may not act gives nobody the use of what is theirs.
        Home::Personal(_) if access.owner == Standing::Disabled => missing("credential.owner"),
        Home::Personal(_) | Home::Workspace(_)
            if access.rules.gives(&About::of(subject, credential)) =>
        {
            Ok(None)
        }
        Home::Personal(_) | Home::Workspace(_) => missing("credential.home"),
    }
}

/// Who uses a key: its owner alone, or others too, who must not reach what is stored under it.
#[derive(Clone, Copy)]
enum Users {
    Owner,
    OwnerAndOthers,
    Members,
}

fn users_of(access: &Access<'_>) -> Users {
    match access.credential.home {
        Home::Personal(_) if access.rules.shares(access.credential.id) => Users::OwnerAndOthers,
        Home::Personal(_) => Users::Owner,
        Home::Workspace(_) => Users::Members,
    }
}

/// Whether the path, its query and its kind of body are allowed.
fn may_reach<'a>(wish: &Wish<'a>) -> Result<(&'a PathRule, Option<ModelName>), Denial> {
    let found = wish
        .provider
        .paths
        .iter()
        .find_map(|rule| rule.fits(wish.method, &wish.target).map(|model| (rule, model)));
    let Some((path, model)) = found else {
        return Err(deny(Refusal::PathUnknown, "provider.paths"));
    };
    let model = model.map_err(|_| deny(Refusal::PathUnknown, "provider.paths.model"))?;
    if let Some(name) = path.first_foreign_parameter(&wish.target) {
        return Err(deny_about(Refusal::QueryDenied, "provider.paths.query", name));
    }
    if path.body == BodyKind::Empty && !matches!(wish.length, Length::Known(0)) {
        return Err(deny(Refusal::BodyInvalid, "provider.paths.body"));
    }
    Ok((path, model))
}

/// Whether stored objects may be reached: not with a key that others use, too.
fn may_store(access: &Access<'_>, class: PathClass) -> Result<(), Denial> {
    match (class, users_of(access)) {
        (PathClass::Stateless, _) | (PathClass::Stateful, Users::Owner) => Ok(()),
        (PathClass::Stateful, Users::OwnerAndOthers | Users::Members) => {
            Err(deny(Refusal::StatefulDenied, "ready-made.shared-stateless"))
        }
    }
}

/// Whether the model is allowed; where a rule names models, a model that nobody can read is not.
fn may_name(wish: &Wish<'_>, path: &PathRule, in_path: Option<&ModelName>) -> Result<(), Denial> {
    if let (Some(path_model), Some(claimed)) = (in_path, &wish.claims.model)
        && path_model != claimed
    {
        return Err(deny(Refusal::BodyInvalid, "claims.model"));
    }
    let model = in_path.or(wish.claims.model.as_ref());
    let lists = [
        (&wish.access.subject.scope.models, "token.models"),
        (&wish.access.credential.rules.models, "credential.models"),
    ];
    for (models, rule) in lists {
        if models.is_any() {
            continue;
        }
        match (model, path.class, path.body) {
            (_, PathClass::Stateful, _) => return Err(deny(Refusal::ModelUnreadable, rule)),
            (Some(model), PathClass::Stateless, _) if models.allows_model(model) => {}
            (Some(model), PathClass::Stateless, _) => {
                return Err(deny_about(Refusal::ModelDenied, rule, model.as_ref()));
            }
            (None, PathClass::Stateless, BodyKind::Empty) => {}
            (
                None,
                PathClass::Stateless,
                BodyKind::Json | BodyKind::Multipart | BodyKind::Opaque,
            ) => {
                return Err(deny(Refusal::ModelUnreadable, rule));
            }
        }
    }
    Ok(())
}

/// Whether the features are allowed.
fn may_ask(access: &Access<'_>, features: Features) -> Result<(), Denial> {
    let (allowed, rule) = match (access.credential.rules.features, users_of(access)) {
        (None, Users::Owner) => (Features::ALL, "ready-made.features"),
        (None, Users::OwnerAndOthers | Users::Members) => {
            (Features::OF_SHARED_KEYS, "ready-made.features")
        }
        (Some(features), Users::Owner) => (features, "credential.features"),
        // They were chosen for its owner alone.
        (Some(features), Users::OwnerAndOthers) => {
            (features.and(Features::OF_SHARED_KEYS), "credential.features")
        }
        // Objects stored under a shared key stay out of reach whatever its rules say.
        (Some(features), Users::Members) => {
            (features.without(Feature::ObjectReferences), "credential.features")
        }
    };
    match features.first_beyond(allowed) {
        Some(feature) => Err(deny_about(Refusal::FeatureDenied, rule, feature.name())),
        None => Ok(()),
    }
}

/// Whether the beta values are allowed.
fn may_try(access: &Access<'_>, betas: &[BetaName]) -> Result<(), Denial> {
    let allowed: &Choice<BetaName> = &access.credential.rules.betas;
    match betas.iter().find(|beta| !allowed.allows(beta)) {
        Some(beta) => Err(deny_about(Refusal::FeatureDenied, "credential.betas", beta.as_ref())),
        None => Ok(()),
    }
}

/// Whether the tenant's own rules let it pass; answers the rule that allows it.
fn may_pass(
    access: &Access<'_>,
    at_home: Option<&'static str>,
    shown: &Shown<'_>,
) -> Result<Cow<'static, str>, Denial> {
    let own = |rule: &Rule| Cow::Owned([TENANT_RULE, rule.name.as_ref()].concat());
    let about = About::of(access.subject, access.credential);
    if let Some(rule) = access.rules.denying(&about, shown) {
        return Err(Denial { refusal: Refusal::RuleDenied, rule: own(rule), about: None });
    }
    match at_home {
        Some(rule) => Ok(Cow::Borrowed(rule)),
        None => match access.rules.allowing(&about, shown) {
            Some(rule) => Ok(own(rule)),
            None => Err(deny(Refusal::RuleDenied, "credential.shared-otherwise")),
        },
    }
}

/// What the names of a tenant's own rules begin with.
const TENANT_RULE: &str = "tenant.";

fn deny(refusal: Refusal, rule: &'static str) -> Denial {
    Denial { refusal, rule: Cow::Borrowed(rule), about: None }
}

fn deny_about(refusal: Refusal, rule: &'static str, about: &str) -> Denial {
    Denial { refusal, rule: Cow::Borrowed(rule), about: Some(about.to_owned()) }
}
