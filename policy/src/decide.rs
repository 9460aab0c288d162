//! The decision: a pure function from who asks, what for and the rules, to a permit or a named denial.
//!
//! Invariant: default deny; every check names its rule, and the first that fails decides.
//! Invariant: a [`Permit`] has no other maker, no copy and no encoding; it carries what was judged.

use std::sync::Arc;

use crate::claims::{Claims, Feature, Length};
use crate::destination::Destination;
use crate::dialect::Dialect;
use crate::id::{CredentialId, TenantId, TokenId, UserId};
use crate::moment::Moment;
use crate::name::{BetaName, ModelName, ProviderName};
use crate::provider::{Origin, ProviderDefinition};
use crate::refusal::Refusal;
use crate::route::{BodyKind, Method, PathClass, PathRule};
use crate::rules::{Choice, CredentialFacts, Home, Standing, Subject};
use crate::target::Target;

/// What someone wishes to do with one credential.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Who asks.
    pub subject: &'a Subject,
    /// With which credential.
    pub credential: &'a CredentialFacts,
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
    body: BodyKind,
    class: PathClass,
    betas: Vec<BetaName>,
    claims: Claims,
    length: Length,
    rule: &'static str,
}

/// Why not: the refusal that the outside sees, and the rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What the outside sees.
    pub refusal: Refusal,
    /// The rule's name, for `explain` and the journal.
    pub rule: &'static str,
    /// What was denied: a feature, a parameter, a model. Never more than the caller sent.
    pub about: Option<String>,
}

/// Judges a wish at a moment.
///
/// # Errors
/// The denial of the first rule that does not hold.
pub fn decide(wish: Wish<'_>, now: Moment) -> Result<Permit, Denial> {
    may_act(&wish, now)?;
    let rule = may_use(&wish, now)?;
    let (path, model) = may_reach(&wish)?;
    may_name(&wish, path, model.as_ref())?;
    may_ask(&wish)?;
    Ok(Permit {
        tenant: wish.subject.tenant,
        user: wish.subject.user,
        token: wish.subject.token,
        credential: wish.credential.id,
        provider: wish.provider.name.clone(),
        origin: wish.provider.origin,
        dialect: wish.provider.dialect,
        destination: Arc::clone(&wish.credential.destination),
        method: wish.method,
        target: wish.target,
        body: path.body,
        class: path.class,
        betas: wish.betas,
        claims: wish.claims,
        length: wish.length,
        rule,
    })
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

fn may_act(wish: &Wish<'_>, now: Moment) -> Result<(), Denial> {
    may_call_provider(wish.subject, &wish.provider.name, now)
}

/// Whether this credential is the subject's to use; foreign and absent look alike.
fn may_use(wish: &Wish<'_>, now: Moment) -> Result<&'static str, Denial> {
    let (subject, credential) = (wish.subject, wish.credential);
    let missing = |rule| Err(deny(Refusal::CredentialMissing, rule));
    if credential.tenant != subject.tenant {
        return missing("credential.tenant");
    }
    if credential.provider != wish.provider.name {
        return missing("credential.provider");
    }
    if subject.scope.credential.is_some_and(|bound| bound != credential.id) {
        return missing("token.credential");
    }
    if credential.rules.expires.is_some_and(|end| end <= now) {
        return Err(deny(Refusal::CredentialExpired, "credential.expired"));
    }
    match credential.home {
        Home::Personal(owner) if owner == subject.user => Ok("ready-made.owner"),
        Home::Workspace(home) if subject.workspaces.contains(&home) => Ok("ready-made.member"),
        Home::Personal(_) | Home::Workspace(_) => missing("credential.home"),
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
    match (path.class, wish.credential.home) {
        (PathClass::Stateless, _) | (PathClass::Stateful, Home::Personal(_)) => Ok((path, model)),
        (PathClass::Stateful, Home::Workspace(_)) => {
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
        (&wish.subject.scope.models, "token.models"),
        (&wish.credential.rules.models, "credential.models"),
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

/// Whether the features and beta values are allowed.
fn may_ask(wish: &Wish<'_>) -> Result<(), Denial> {
    let ready_made = wish.credential.home.ready_made_features();
    let (allowed, rule) = match wish.credential.rules.features {
        None => (ready_made, "ready-made.features"),
        // Objects stored under a shared key stay out of reach whatever its rules say.
        Some(features) => match wish.credential.home {
            Home::Personal(_) => (features, "credential.features"),
            Home::Workspace(_) => {
                (features.without(Feature::ObjectReferences), "credential.features")
            }
        },
    };
    if let Some(feature) = wish.claims.features.first_beyond(allowed) {
        return Err(deny_about(Refusal::FeatureDenied, rule, feature.name()));
    }
    let betas: &Choice<BetaName> = &wish.credential.rules.betas;
    if let Some(beta) = wish.betas.iter().find(|beta| !betas.allows(beta)) {
        return Err(deny_about(Refusal::FeatureDenied, "credential.betas", beta.as_ref()));
    }
    Ok(())
}

fn deny(refusal: Refusal, rule: &'static str) -> Denial {
    Denial { refusal, rule, about: None }
}

fn deny_about(refusal: Refusal, rule: &'static str, about: &str) -> Denial {
    Denial { refusal, rule, about: Some(about.to_owned()) }
}

impl Permit {
    /// The tenant it was given in.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }
    /// The person it was given to.
    pub const fn user(&self) -> UserId {
        self.user
    }
    /// The token that was presented.
    pub const fn token(&self) -> TokenId {
        self.token
    }
    /// The credential that was judged.
    pub const fn credential(&self) -> CredentialId {
        self.credential
    }
    /// The provider's name.
    pub const fn provider(&self) -> &ProviderName {
        &self.provider
    }
    /// Whose courier makes the call.
    pub const fn origin(&self) -> Origin {
        self.origin
    }
    /// The dialect of the route.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }
    /// Where the credential may be sent.
    pub const fn destination(&self) -> &Arc<Destination> {
        &self.destination
    }
    /// The method that was judged.
    pub const fn method(&self) -> Method {
        self.method
    }
    /// The target that was judged.
    pub const fn target(&self) -> &Target {
        &self.target
    }
    /// What kind of body was judged.
    pub const fn body(&self) -> BodyKind {
        self.body
    }
    /// What the path reaches.
    pub const fn class(&self) -> PathClass {
        self.class
    }
    /// The beta values that were judged.
    pub fn betas(&self) -> &[BetaName] {
        &self.betas
    }
    /// The claims that were judged.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }
    /// The length that was claimed.
    pub const fn length(&self) -> Length {
        self.length
    }
    /// The rule that allowed it.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
