//! The people, keys and wishes of the matrix.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use strongroom_policy::claims::{Claims, Feature, Features, Length};
use strongroom_policy::decide::{Access, Wish};
use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{BetaName, ModelName, ProviderName};
use strongroom_policy::provider::ProviderDefinition;
use strongroom_policy::provider::builtin::definitions;
use strongroom_policy::route::Method;
use strongroom_policy::rules::{
    Choice, CredentialFacts, CredentialRules, Home, Standing, Subject, TokenScope,
};
use strongroom_policy::target::Target;
use strongroom_policy::tenant_rules::RuleSet;

/// The moment of every decision here.
pub(crate) const NOW: Moment = Moment::from_unix_millis(1_000_000);

/// Ends just then, and so is over.
const OVER: Option<Moment> = Some(NOW);

/// A tenant that wrote none.
static NO_RULES: LazyLock<RuleSet> = LazyLock::new(RuleSet::default);

pub(crate) const OWNER: UserId = UserId::from_random([1; 16]);
pub(crate) const MEMBER: UserId = UserId::from_random([2; 16]);
pub(crate) const STRANGER: UserId = UserId::from_random([3; 16]);
const TENANT: TenantId = TenantId::from_random([4; 16]);
const OTHER_TENANT: TenantId = TenantId::from_random([5; 16]);
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId::from_random([6; 16]);
pub(crate) const TOKEN: TokenId = TokenId::from_random([7; 16]);
pub(crate) const CREDENTIAL: CredentialId = CredentialId::from_random([8; 16]);
const OTHER_CREDENTIAL: CredentialId = CredentialId::from_random([9; 16]);

pub(crate) fn model(name: &str) -> ModelName {
    ModelName::parse(name).unwrap()
}

pub(crate) fn beta(name: &str) -> BetaName {
    BetaName::parse(name).unwrap()
}

pub(crate) fn provider(name: &str) -> ProviderDefinition {
    definitions().unwrap().into_iter().find(|one| one.name.as_ref() == name).unwrap()
}

/// A scope that narrows nothing.
pub(crate) fn wide_scope() -> TokenScope {
    TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 60,
    }
}

/// Someone of the tenant, through a token that narrows nothing.
pub(crate) fn person(user: UserId, workspaces: &[WorkspaceId]) -> Subject {
    Subject {
        tenant: TENANT,
        user,
        token: TOKEN,
        scope: wide_scope(),
        workspaces: workspaces.to_vec(),
        standing: Standing::Active,
    }
}

/// Who owns every personal key here, and is a member of the workspace.
pub(crate) fn both() -> Subject {
    person(OWNER, &[WORKSPACE])
}

/// The same person through a token of this scope.
fn through(scope: TokenScope) -> Subject {
    Subject { scope, ..both() }
}

/// Who asks.
pub(crate) fn subjects() -> Vec<(&'static str, Subject)> {
    let soon = Some(NOW.after(Duration::from_millis(1)));
    let anthropic = ProviderName::parse("anthropic").unwrap();
    vec![
        ("owner", person(OWNER, &[])),
        ("member", person(MEMBER, &[WORKSPACE])),
        ("other-user", person(STRANGER, &[])),
        ("other-tenant", Subject { tenant: OTHER_TENANT, ..both() }),
        ("disabled", Subject { standing: Standing::Disabled, ..both() }),
        ("token-expired", through(TokenScope { expires: OVER, ..wide_scope() })),
        ("token-expires-soon", through(TokenScope { expires: soon, ..wide_scope() })),
        (
            "token-other-key",
            through(TokenScope { credential: Some(OTHER_CREDENTIAL), ..wide_scope() }),
        ),
        ("token-this-key", through(TokenScope { credential: Some(CREDENTIAL), ..wide_scope() })),
        (
            "token-anthropic",
            through(TokenScope { providers: Choice::Only(vec![anthropic]), ..wide_scope() }),
        ),
        (
            "token-gpt-4o*",
            through(TokenScope { models: Choice::Only(vec![model("gpt-4o*")]), ..wide_scope() }),
        ),
    ]
}

/// A key of the tenant for OpenAI.
pub(crate) fn key(home: Home, rules: CredentialRules) -> CredentialFacts {
    let openai = provider("openai");
    CredentialFacts {
        id: CREDENTIAL,
        tenant: TENANT,
        home,
        provider: openai.name,
        destination: Arc::new(openai.destination),
        rules,
    }
}

pub(crate) const PERSONAL: Home = Home::Personal(OWNER);
pub(crate) const SHARED: Home = Home::Workspace(WORKSPACE);

/// With which key.
pub(crate) fn credentials() -> Vec<(&'static str, CredentialFacts)> {
    let open = CredentialRules::default;
    let expired = CredentialRules { expires: OVER, ..open() };
    let models = CredentialRules { models: Choice::Only(vec![model("gpt-4o-mini")]), ..open() };
    let tools = Features::NONE.with(Feature::HostedTools);
    let features = |features| CredentialRules { features: Some(features), ..open() };
    let betas = CredentialRules { betas: Choice::Only(vec![beta("files-1")]), ..open() };
    let elsewhere = CredentialFacts { provider: provider("xai").name, ..key(PERSONAL, open()) };
    vec![
        ("personal", key(PERSONAL, open())),
        ("workspace", key(SHARED, open())),
        ("expired", key(PERSONAL, expired)),
        ("models", key(PERSONAL, models)),
        ("features-tools", key(PERSONAL, features(tools))),
        ("ws-features-all", key(SHARED, features(Features::ALL))),
        ("betas", key(PERSONAL, betas)),
        ("of-xai", elsewhere),
    ]
}

/// A wish without its subject and credential.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) provider: ProviderDefinition,
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) betas: Vec<BetaName>,
    pub(crate) claims: Claims,
    pub(crate) length: Length,
}

impl Wanted {
    pub(crate) fn new(
        method: Method,
        target: &str,
        (named, features): (Option<&str>, Features),
    ) -> Self {
        Self {
            provider: provider("openai"),
            method,
            target: Target::parse(target).unwrap(),
            betas: Vec::new(),
            claims: Claims { features, ..Claims::of_no_body(named.map(model)) },
            length: Length::Known(if method == Method::Get { 0 } else { 100 }),
        }
    }

    pub(crate) fn wish<'a>(
        &'a self,
        subject: &'a Subject,
        credential: &'a CredentialFacts,
    ) -> Wish<'a> {
        self.wish_under(&NO_RULES, subject, credential)
    }

    /// The same where the tenant wrote rules.
    pub(crate) fn wish_under<'a>(
        &'a self,
        rules: &'a RuleSet,
        subject: &'a Subject,
        credential: &'a CredentialFacts,
    ) -> Wish<'a> {
        self.wish_of(Access { subject, credential, owner: Standing::Active, rules })
    }

    pub(crate) fn wish_of<'a>(&'a self, access: Access<'a>) -> Wish<'a> {
        Wish {
            access,
            provider: &self.provider,
            method: self.method,
            target: self.target.clone(),
            betas: self.betas.clone(),
            claims: self.claims.clone(),
            length: self.length,
        }
    }
}

/// What for.
pub(crate) fn wanted() -> Vec<(&'static str, Wanted)> {
    let post = |target, named, features| Wanted::new(Method::Post, target, (named, features));
    let get = |target| Wanted::new(Method::Get, target, (None, Features::NONE));
    let mini = Some("gpt-4o-mini");
    let chat = |named| post("/v1/chat/completions", named, Features::NONE);
    let asking = |feature| post("/v1/responses", mini, Features::NONE.with(feature));
    let long_name = format!("/v1/models/{}", "m".repeat(201));
    vec![
        ("plain-chat", chat(mini)),
        ("other-model", chat(Some("o3"))),
        ("no-model", chat(None)),
        ("hosted-tools", asking(Feature::HostedTools)),
        ("remote-urls", asking(Feature::RemoteUrls)),
        ("references", asking(Feature::ObjectReferences)),
        ("stored-state", asking(Feature::StoredState)),
        ("background", asking(Feature::Background)),
        ("beta", Wanted { betas: vec![beta("new-1")], ..chat(mini) }),
        ("list-models", get("/v1/models")),
        ("list-files", get("/v1/files")),
        ("upload-file", post("/v1/files", None, Features::NONE)),
        ("unknown-path", post("/v1/organization/admin_api_keys", None, Features::NONE)),
        ("unknown-method", post("/v1/models", None, Features::NONE)),
        ("foreign-query", get("/v1/models?api-version=1")),
        ("body-on-get", Wanted { length: Length::Chunked, ..get("/v1/models") }),
        ("no-model-name", get(&long_name)),
        ("two-models", {
            let claims = Claims::of_no_body(Some(model("o3")));
            Wanted { claims, ..get("/v1/models/gpt-4o-mini") }
        }),
    ]
}
