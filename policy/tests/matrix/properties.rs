//! What must hold for every wish: restrictions only take away, a permit is what was judged, and silence is no.

use std::sync::Arc;

use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::{select, subsequence};
use strongroom_policy::claims::{Claims, Feature, Features, Length};
use strongroom_policy::decide::decide;
use strongroom_policy::destination::Reach;
use strongroom_policy::id::{CredentialId, TenantId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{BetaName, ModelName, ProviderName};
use strongroom_policy::rules::{
    Choice, CredentialFacts, CredentialRules, Home, Standing, Subject, TokenScope,
};

use crate::scene::{
    NOW, PERSONAL, SHARED, Wanted, beta, both, key, model, provider, wanted, wide_scope,
};

proptest! {
    #[test]
    fn a_restriction_never_turns_a_denial_into_a_permit(
        scopes in scope_and_narrower(),
        rules in rules_and_narrower(),
        home in select(vec![PERSONAL, SHARED]),
        wanted in select_wanted(),
    ) {
        let [wide, narrow] = [(&scopes.0, &rules.0), (&scopes.1, &rules.1)].map(|(scope, rules)| {
            let subject = Subject { scope: scope.clone(), ..both() };
            let credential = key(home, rules.clone());
            decide(wanted.wish(&subject, &credential), NOW).is_ok()
        });
        prop_assert!(wide || !narrow, "{scopes:?} {rules:?}");
    }

    #[test]
    fn a_permit_is_exactly_what_was_judged(
        subject in any_subject(), credential in any_credential(), wanted in select_wanted()
    ) {
        let subject = Subject { scope: wide_scope(), ..subject };
        let wish = wanted.wish(&subject, &credential);
        let Ok(permit) = decide(wish, NOW) else { return Ok(()) };
        prop_assert_eq!(permit.tenant(), subject.tenant);
        prop_assert_eq!(permit.user(), subject.user);
        prop_assert_eq!(permit.token(), subject.token);
        prop_assert_eq!(permit.credential(), credential.id);
        prop_assert_eq!(permit.destination(), &credential.destination);
        prop_assert_eq!(permit.provider(), &wanted.provider.name);
        prop_assert_eq!(permit.dialect(), wanted.provider.dialect);
        prop_assert_eq!(permit.method(), wanted.method);
        prop_assert_eq!(permit.target(), &wanted.target);
        prop_assert_eq!(permit.betas(), wanted.betas.as_slice());
        prop_assert_eq!(permit.claims(), &wanted.claims);
        prop_assert_eq!(permit.length(), wanted.length);
        let judged = wanted.provider.paths.iter().any(|rule| {
            rule.fits(wanted.method, &wanted.target).is_some()
                && (rule.body, rule.class) == (permit.body(), permit.class())
        });
        prop_assert!(judged);
    }

    #[test]
    fn nothing_is_permitted_without_every_reason_for_it(
        subject in any_subject(), credential in any_credential(), wanted in select_wanted()
    ) {
        if decide(wanted.wish(&subject, &credential), NOW).is_ok() {
            let alive = |end: Option<Moment>| end.is_none_or(|end| end > NOW);
            prop_assert_eq!(subject.standing, Standing::Active);
            prop_assert!(alive(subject.scope.expires) && alive(credential.rules.expires));
            prop_assert_eq!(subject.tenant, credential.tenant);
            prop_assert_eq!(&credential.provider, &wanted.provider.name);
            prop_assert!(subject.scope.providers.allows(&credential.provider));
            prop_assert!(subject.scope.credential.is_none_or(|bound| bound == credential.id));
            let at_home = match credential.home {
                Home::Personal(owner) => owner == subject.user,
                Home::Workspace(home) => subject.workspaces.contains(&home),
            };
            prop_assert!(at_home);
            for models in [&subject.scope.models, &credential.rules.models] {
                let named = wanted.claims.model.as_ref();
                prop_assert!(named.is_none_or(|named| models.allows_model(named)));
            }
        }
    }

    #[test]
    fn a_provider_without_paths_permits_nothing(
        subject in any_subject(), credential in any_credential(), mut wanted in select_wanted()
    ) {
        wanted.provider.paths.clear();
        prop_assert!(decide(wanted.wish(&subject, &credential), NOW).is_err());
    }

    #[test]
    fn no_rule_lets_stored_objects_be_reached_under_a_shared_key(
        scope in any_scope(), rules in any_rules(), wanted in select_wanted()
    ) {
        let (subject, credential) = (Subject { scope, ..both() }, key(SHARED, rules));
        if let Ok(permit) = decide(wanted.wish(&subject, &credential), NOW) {
            prop_assert!(!permit.claims().features.has(Feature::ObjectReferences));
            prop_assert_eq!(permit.class(), strongroom_policy::route::PathClass::Stateless);
        }
    }
}

/// The properties above would hold if nothing were ever permitted.
#[test]
fn a_plain_wish_of_the_owner_is_permitted() {
    let plain = &wanted()[0].1;
    let credential = key(PERSONAL, CredentialRules::default());
    assert!(decide(plain.wish(&both(), &credential), NOW).is_ok());
}

pub(crate) fn select_wanted() -> impl Strategy<Value = Wanted> {
    let betas = subsequence(vec![beta("files-1"), beta("new-1")], 0..=2);
    let lengths = select(vec![Length::Known(0), Length::Known(100), Length::Chunked]);
    let features = prop_oneof![Just(Features::NONE), any_features()];
    let named = select(vec![None, Some("gpt-4o-mini"), Some("gpt-4o"), Some("o3")]);
    let changed = (betas, lengths, features, named, any::<bool>());
    (0..wanted().len(), changed).prop_map(|(at, (betas, length, features, named, as_is))| {
        let chosen = wanted().swap_remove(at).1;
        if as_is {
            return chosen;
        }
        let claims = Claims { features, ..Claims::of_no_body(named.map(model)) };
        Wanted { betas, claims, length, ..chosen }
    })
}

pub(crate) fn any_features() -> impl Strategy<Value = Features> {
    subsequence(Feature::ALL.to_vec(), 0..=7)
        .prop_map(|some| some.into_iter().fold(Features::NONE, Features::with))
}

fn any_models() -> impl Strategy<Value = Vec<ModelName>> {
    subsequence(["gpt-4o*", "gpt-4o-mini", "o3", "*"].map(model).to_vec(), 0..=4)
}

fn any_providers() -> impl Strategy<Value = Vec<ProviderName>> {
    let names = ["openai", "xai"].map(|name| ProviderName::parse(name).unwrap());
    subsequence(names.to_vec(), 0..=2)
}

fn any_betas() -> impl Strategy<Value = Vec<BetaName>> {
    subsequence(vec![beta("files-1"), beta("new-1")], 0..=2)
}

fn any_end() -> impl Strategy<Value = Option<Moment>> {
    select(vec![None, Some(999_999), Some(1_000_000), Some(1_000_001)])
        .prop_map(|end| end.map(Moment::from_unix_millis))
}

fn any_choice<T: Clone + std::fmt::Debug>(
    list: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = Choice<T>> {
    (any::<bool>(), list).prop_map(|(all, list)| if all { Choice::Any } else { Choice::Only(list) })
}

fn any_scope() -> impl Strategy<Value = TokenScope> {
    let bound = select(vec![None, Some(key(PERSONAL, CredentialRules::default()).id), Some(OTHER)]);
    (any_choice(any_providers()), any_choice(any_models()), bound, any_end()).prop_map(
        |(providers, models, credential, expires)| TokenScope {
            providers,
            models,
            credential,
            expires,
            ..wide_scope()
        },
    )
}

fn any_rules() -> impl Strategy<Value = CredentialRules> {
    let features = (any::<bool>(), any_features()).prop_map(|(some, set)| some.then_some(set));
    (any_choice(any_models()), features, any_choice(any_betas()), any_end()).prop_map(
        |(models, features, betas, expires)| CredentialRules { models, features, betas, expires },
    )
}

fn any_subject() -> impl Strategy<Value = Subject> {
    let standing = prop_oneof![9 => Just(Standing::Active), 1 => Just(Standing::Disabled)];
    (any_scope(), 1_u8..3, 4_u8..6, any::<bool>(), standing).prop_map(
        |(scope, user, tenant, member, standing)| Subject {
            scope,
            user: UserId::from_random([user; 16]),
            tenant: TenantId::from_random([tenant; 16]),
            workspaces: if member { both().workspaces } else { Vec::new() },
            standing,
            ..both()
        },
    )
}

fn any_credential() -> impl Strategy<Value = CredentialFacts> {
    let strange = Home::Workspace(WorkspaceId::from_random([99; 16]));
    let homes = select(vec![PERSONAL, SHARED, strange]);
    let providers = prop_oneof![9 => Just("openai"), 1 => Just("xai")];
    (homes, any_rules(), providers, 1_u16.., any::<bool>()).prop_map(
        |(home, rules, name, port, private)| {
            let mut facts = CredentialFacts { provider: provider(name).name, ..key(home, rules) };
            let destination = Arc::make_mut(&mut facts.destination);
            destination.port = port;
            destination.reach = if private { Reach::Private } else { Reach::Public };
            facts
        },
    )
}

/// A scope, and the same with any of its restrictions made tighter.
fn scope_and_narrower() -> impl Strategy<Value = (TokenScope, TokenScope)> {
    (any_scope(), any_scope()).prop_map(|(wide, by)| {
        let narrow = TokenScope {
            providers: narrower(&wide.providers, by.providers),
            models: narrower(&wide.models, by.models),
            credential: wide.credential.or(by.credential),
            expires: sooner(wide.expires, by.expires),
            ..wide.clone()
        };
        (wide, narrow)
    })
}

/// Rules, and the same with any of them made tighter. Unsaid features are the ready-made ones of the most open home.
fn rules_and_narrower() -> impl Strategy<Value = (CredentialRules, CredentialRules)> {
    (any_rules(), any_rules()).prop_map(|(wide, by)| {
        let features = match (wide.features, by.features) {
            (Some(wide), Some(by)) => Some(wide.and(by)),
            (None, Some(by)) => Some(Features::OF_SHARED_KEYS.and(by)),
            (unchanged, None) => unchanged,
        };
        let narrow = CredentialRules {
            models: narrower(&wide.models, by.models),
            features,
            betas: narrower(&wide.betas, by.betas),
            expires: sooner(wide.expires, by.expires),
        };
        (wide, narrow)
    })
}

/// What both choices allow; `Any` narrows nothing.
fn narrower<T: PartialEq + Clone>(wide: &Choice<T>, by: Choice<T>) -> Choice<T> {
    match (wide, by) {
        (Choice::Any, by) => by,
        (Choice::Only(list), Choice::Any) => Choice::Only(list.clone()),
        (Choice::Only(list), Choice::Only(by)) => {
            Choice::Only(list.iter().filter(|one| by.contains(one)).cloned().collect())
        }
    }
}

fn sooner(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    one.into_iter().chain(other).min()
}

const OTHER: CredentialId = CredentialId::from_random([9; 16]);
