//! A tenant's own rules: what they give, what they take, and that they decide as a reading of the whole list would.

use std::fmt::Write;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;
use strongroom_policy::claims::{Feature, Features};
use strongroom_policy::decide::{Access, decide, still};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::ProviderName;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method, PathClass, PathRule};
use strongroom_policy::rules::{Choice, CredentialFacts, CredentialRules, Home, Standing, Subject};
use strongroom_policy::tenant_rules::{
    Days, Effect, Hours, Rule, RuleName, RuleSet, What, When, Who,
};

use crate::properties::select_wanted;
use crate::scene::{
    CREDENTIAL, MEMBER, NOW, OWNER, PERSONAL, SHARED, STRANGER, TOKEN, WORKSPACE, Wanted, key,
    model, person, wanted,
};

fn rule(name: &str, effect: Effect, who: Who, what: What, when: When) -> Rule {
    Rule { name: RuleName::parse(name).unwrap(), effect, who, what, when }
}

fn allow(name: &str, who: Who, what: What) -> Rule {
    rule(name, Effect::Allow, who, what, When::default())
}

fn deny(name: &str, who: Who, what: What, when: When) -> Rule {
    rule(name, Effect::Deny, who, what, when)
}

fn only(name: &str) -> Choice<strongroom_policy::name::ModelName> {
    Choice::Only(vec![model(name)])
}

/// What tenants write.
fn sets() -> Vec<(&'static str, Vec<Rule>)> {
    let this = What::Credential(CREDENTIAL);
    let openai = What::Provider(ProviderName::parse("openai").unwrap());
    let minis = When { models: only("gpt-4o-mini"), ..When::default() };
    let tools = Features::NONE.with(Feature::HostedTools);
    let tools = When { features: Some(tools), ..When::default() };
    let over = When { until: Some(NOW), ..When::default() };
    let stored = When { class: Some(PathClass::Stateful), ..When::default() };
    // The moment of the matrix is a Thursday, a quarter past midnight.
    let hours = |from: u16, to: u16| Hours {
        days: Days::try_from(0b000_1000).unwrap(),
        from: from.try_into().unwrap(),
        to: to.try_into().unwrap(),
    };
    let at = |hours| When { hours: Some(hours), ..When::default() };
    let share = || allow("share", Who::User(STRANGER), this.clone());
    vec![
        ("shared-with-one", vec![share()]),
        ("owner-disabled", vec![share()]),
        ("shared-with-group", vec![allow("team", Who::Workspace(WORKSPACE), this.clone())]),
        ("shared-for-minis", vec![Rule { when: minis.clone(), ..share() }]),
        ("shared-and-over", vec![Rule { when: over.clone(), ..share() }]),
        ("shared-workspace", vec![allow("guests", Who::Anyone, What::Workspace(WORKSPACE))]),
        (
            "shared-and-denied",
            vec![share(), deny("no", Who::Anyone, this.clone(), When::default())],
        ),
        ("no-openai", vec![deny("no-openai", Who::Anyone, openai, When::default())]),
        ("no-minis", vec![deny("no-minis", Who::Anyone, What::Anything, minis)]),
        ("no-tools", vec![deny("no-tools", Who::User(OWNER), What::Anything, tools)]),
        ("no-files", vec![deny("no-files", Who::Token(TOKEN), What::Anything, stored)]),
        ("members-not", vec![deny("not", Who::Workspace(WORKSPACE), this, When::default())]),
        ("over", vec![deny("over", Who::Anyone, What::Anything, over)]),
        ("at-night", vec![deny("night", Who::Anyone, What::Anything, at(hours(0, 60)))]),
        ("by-day", vec![deny("day", Who::Anyone, What::Anything, at(hours(60, 0)))]),
    ]
}

fn asked() -> Vec<(&'static str, Wanted)> {
    let chosen = [
        "plain-chat",
        "other-model",
        "no-model",
        "hosted-tools",
        "references",
        "list-files",
        "upload-file",
    ];
    let chosen = wanted().into_iter().filter(|(name, _)| chosen.contains(name));
    // What it runs lies in a file, whatever model it names itself.
    let batch = Wanted::new(Method::Post, "/v1/batches", (Some("o3"), Features::NONE));
    chosen.chain([("batch-as-o3", batch)]).collect()
}

fn askers() -> [(&'static str, Subject); 3] {
    [
        ("owner", person(OWNER, &[])),
        ("member", person(MEMBER, &[WORKSPACE])),
        ("stranger", person(STRANGER, &[])),
    ]
}

fn keys() -> [(&'static str, CredentialFacts); 3] {
    let all = CredentialRules { features: Some(Features::ALL), ..CredentialRules::default() };
    [
        ("personal", key(PERSONAL, CredentialRules::default())),
        ("features", key(PERSONAL, all)),
        ("workspace", key(SHARED, CredentialRules::default())),
    ]
}

/// In one set whoever owns the personal keys is disabled.
fn owner(named: &str) -> Standing {
    if named == "owner-disabled" { Standing::Disabled } else { Standing::Active }
}

pub(crate) fn table() -> String {
    let mut text = String::from(HEADER);
    for (named, rules) in sets() {
        let rules = RuleSet::new(rules).unwrap();
        for (who, subject) in askers() {
            for (which, credential) in keys() {
                let (subject, credential, owner) = (&subject, &credential, owner(named));
                let access = Access { subject, credential, owner, rules: &rules };
                for (what, wanted) in asked() {
                    let wish = wanted.wish_of(access);
                    let line = crate::line_of(decide(wish, NOW));
                    writeln!(text, "{named:<18} {who:<9} {which:<10} {what:<13} {line}").unwrap();
                }
            }
        }
    }
    text
}

const HEADER: &str = "\
# What a tenant's own rules give and take: every set of rules, subject, credential and wish, and the rule that decided.
# Rewritten by: UPDATE_GOLDEN=1 cargo test -p strongroom-policy --test matrix
# rules            subject   credential wish          decision             rule
";

#[test]
fn what_tenants_rules_decide_is_the_golden_table() {
    crate::compare("tenant-rules.txt", &table());
}

proptest! {
    /// Nothing that a rule denies is permitted, and nothing is permitted to others than a key's own people but by a rule that allows it.
    #[test]
    fn a_tenants_rules_decide_as_a_reading_of_the_whole_list_does(
        rules in any_rules(), (_, subject) in select(askers().to_vec()), (_, credential) in select(keys().to_vec()),
        wanted in select_wanted()
    ) {
        let Ok(set) = RuleSet::new(rules.clone()) else { return Ok(()) };
        let decided = decide(wanted.wish_under(&set, &subject, &credential), NOW);
        let unruled = decide(wanted.wish(&subject, &credential), NOW);
        let path = wanted.provider.paths.iter().find(|path| path.fits(wanted.method, &wanted.target).is_some());
        let about = |rule: &&Rule| concerns(rule, &subject, &credential);
        let holds = |rule: &&Rule, unshown| Some(holds(&rule.when, &wanted, path?, unshown));
        let denied = rules.iter().filter(about).find(|rule| {
            rule.effect == Effect::Deny && holds(rule, true) == Some(true)
        });
        let allowed = rules.iter().filter(about).find(|rule| {
            rule.effect == Effect::Allow && holds(rule, false) == Some(true)
        });
        match decided {
            Ok(permit) => {
                prop_assert_eq!(denied, None);
                match (unruled, allowed) {
                    (Ok(unruled), _) => prop_assert_eq!(permit.rule(), unruled.rule()),
                    (Err(_), Some(rule)) => {
                        prop_assert_eq!(permit.rule(), format!("tenant.{}", rule.name));
                        prop_assert_eq!(permit.class(), PathClass::Stateless);
                        prop_assert!(permit.claims().features.first_beyond(Features::OF_SHARED_KEYS).is_none());
                    }
                    (Err(_), None) => prop_assert!(false, "nothing allows it"),
                }
            }
            Err(denial) if denial.refusal == Refusal::RuleDenied => {
                if let Some(rule) = denied {
                    prop_assert_eq!(denial.rule, format!("tenant.{}", rule.name));
                } else {
                    prop_assert_eq!(allowed, None);
                }
            }
            // A rule may take stored objects away from the owner of a key that it shares.
            Err(_) => prop_assert!(unruled.is_err() || set.shares(CREDENTIAL)),
        }
    }
}

proptest! {
    /// Of a call that was permitted nothing is left to others' rules: under new ones it goes on if and only if it would begin.
    #[test]
    fn a_call_goes_on_under_new_rules_if_and_only_if_it_would_begin_under_them(
        (before, after) in (any_rules(), any_rules()), (_, subject) in select(askers().to_vec()),
        (_, credential) in select(keys().to_vec()), wanted in select_wanted(),
        owner in select(vec![Standing::Active, Standing::Active, Standing::Disabled])
    ) {
        let (Ok(before), Ok(after)) = (RuleSet::new(before), RuleSet::new(after)) else { return Ok(()) };
        let Ok(permit) = decide(wanted.wish_under(&before, &subject, &credential), NOW) else { return Ok(()) };
        let access = Access { subject: &subject, credential: &credential, owner, rules: &after };
        let begins = decide(wanted.wish_of(access), NOW).map(drop);
        prop_assert_eq!(still(&access, permit.facts(), NOW), begins);
    }
}

fn concerns(rule: &Rule, subject: &Subject, credential: &CredentialFacts) -> bool {
    let who = match rule.who {
        Who::Anyone => true,
        Who::User(user) => user == subject.user,
        Who::Token(token) => token == subject.token,
        Who::Workspace(workspace) => subject.workspaces.contains(&workspace),
    };
    who && match &rule.what {
        What::Anything => true,
        What::Provider(provider) => *provider == credential.provider,
        What::Workspace(workspace) => credential.home == Home::Workspace(*workspace),
        What::Credential(id) => *id == credential.id,
    }
}

fn holds(when: &When, wanted: &Wanted, path: &PathRule, unshown: bool) -> bool {
    let in_path = path.fits(wanted.method, &wanted.target).and_then(Result::ok).flatten();
    let stored = path.class == PathClass::Stateful;
    let model = in_path.or_else(|| wanted.claims.model.clone()).filter(|_| !stored);
    let by_model = match (&when.models, &model) {
        (Choice::Any, _) => true,
        (Choice::Only(_), None) => unshown,
        (Choice::Only(list), Some(model)) => list.iter().any(|one| model.matches(one)),
    };
    let used = wanted.claims.features;
    let hidden = used.has(Feature::ObjectReferences) || (stored && path.body != BodyKind::Empty);
    let by_feature = when
        .features
        .is_none_or(|these| these.iter().any(|one| used.has(one)) || (hidden && unshown));
    let by_time = when.until.is_none_or(|end| NOW < end);
    by_model && by_feature && by_time && when.class.is_none_or(|one| one == path.class)
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    vec(any_rule(), 0..8).prop_map(|rules| {
        let named = |(place, rule): (usize, Rule)| Rule {
            name: RuleName::parse(&format!("r{place}")).unwrap(),
            ..rule
        };
        rules.into_iter().enumerate().map(named).collect()
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let whos = [
        Who::Anyone,
        Who::User(OWNER),
        Who::User(STRANGER),
        Who::Token(TOKEN),
        Who::Workspace(WORKSPACE),
    ];
    let openai = What::Provider(ProviderName::parse("openai").unwrap());
    let whats = [What::Anything, openai, What::Workspace(WORKSPACE), What::Credential(CREDENTIAL)];
    let about = (select(whos.to_vec()), select(whats.to_vec()));
    (any::<bool>(), about, any_when()).prop_map(|(gives, (who, what), when)| {
        let may_give = matches!(what, What::Workspace(_) | What::Credential(_));
        if gives && may_give {
            let class = when.class.filter(|class| *class == PathClass::Stateless);
            return rule("r", Effect::Allow, who, what, When { features: None, class, ..when });
        }
        deny("r", who, what, when)
    })
}

fn any_when() -> impl Strategy<Value = When> {
    let models = prop_oneof![
        3 => Just(Choice::Any),
        1 => Just(only("gpt-4o-mini")),
        1 => Just(only("gpt-4o*")),
        1 => Just(only("o3"))
    ];
    let classes = select(vec![None, None, Some(PathClass::Stateless), Some(PathClass::Stateful)]);
    let features = prop_oneof![
        3 => Just(None),
        1 => select(Feature::ALL.to_vec()).prop_map(|one| Some(Features::NONE.with(one)))
    ];
    let ends = select(vec![None, None, Some(NOW), Some(Moment::from_unix_millis(u64::MAX))]);
    (models, classes, features, ends).prop_map(|(models, class, features, until)| When {
        models,
        class,
        features,
        hours: None,
        until,
    })
}
