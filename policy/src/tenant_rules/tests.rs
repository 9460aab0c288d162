//! Which rules can be written, and when their hours are.

use super::{
    BadRules, Days, Effect, Hours, MAX_RULES, Minute, Rule, RuleName, RuleSet, What, When, Who,
};
use crate::claims::Features;
use crate::id::CredentialId;
use crate::moment::Moment;
use crate::name::ProviderName;
use crate::route::PathClass;
use crate::rules::{Choice, MAX_CHOICES};

const KEY: What = What::Credential(CredentialId::from_random([1; 16]));

fn rule(name: &str, effect: Effect, what: What, when: When) -> Rule {
    Rule { name: RuleName::parse(name).unwrap(), effect, who: Who::Anyone, what, when }
}

fn name() -> RuleName {
    RuleName::parse("r").unwrap()
}

#[test]
fn a_name_is_short_and_plain() {
    for good in ["a", "no-tools-at-night", &"a".repeat(48)] {
        assert_eq!(RuleName::parse(good).unwrap().as_ref(), good);
    }
    for bad in ["", "-a", "1a", "A", "a b", "a.b", "a\n", &"a".repeat(49)] {
        assert!(RuleName::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn what_allows_says_what_it_gives_and_gives_no_stored_objects() {
    let openai = What::Provider(ProviderName::parse("openai").unwrap());
    let refused =
        |effect, what, when| RuleSet::new(vec![rule("r", effect, what, when)]).unwrap_err();
    for what in [What::Anything, openai] {
        let error = refused(Effect::Allow, what.clone(), When::default());
        assert_eq!(error, BadRules::AllowsAnything(name()));
        assert!(RuleSet::new(vec![rule("r", Effect::Deny, what, When::default())]).is_ok());
    }
    let class = |class| When { class: Some(class), ..When::default() };
    let error = refused(Effect::Allow, KEY, class(PathClass::Stateful));
    assert_eq!(error, BadRules::AllowsObjects(name()));
    assert!(RuleSet::new(vec![rule("r", Effect::Allow, KEY, class(PathClass::Stateless))]).is_ok());
    let features = |set| When { features: Some(set), ..When::default() };
    let error = refused(Effect::Allow, KEY, features(Features::ALL));
    assert_eq!(error, BadRules::AllowsFeatures(name()));
    let error = refused(Effect::Deny, KEY, features(Features::NONE));
    assert_eq!(error, BadRules::NoFeature(name()));
}

#[test]
fn sets_and_lists_are_bounded_and_names_are_unique() {
    let deny = |name: &str| rule(name, Effect::Deny, What::Anything, When::default());
    let many = |count: usize| (0..count).map(|number| deny(&format!("r{number}"))).collect();
    assert!(RuleSet::new(many(MAX_RULES)).is_ok());
    assert_eq!(RuleSet::new(many(MAX_RULES + 1)).unwrap_err(), BadRules::TooMany(MAX_RULES + 1));
    assert_eq!(RuleSet::new(vec![deny("r"), deny("r")]).unwrap_err(), BadRules::Twice(name()));
    let model = || crate::name::ModelName::parse("m").unwrap();
    for (count, good) in [(0, false), (1, true), (MAX_CHOICES, true), (MAX_CHOICES + 1, false)] {
        let when = When { models: Choice::Only(vec![model(); count]), ..When::default() };
        let made = RuleSet::new(vec![rule("r", Effect::Deny, What::Anything, when)]);
        assert_eq!(made.is_ok(), good, "{count}");
    }
}

#[test]
fn hours_are_those_of_their_days_and_may_go_over_midnight() {
    let minute = |hour: u16, minute: u16| Minute::try_from(hour * 60 + minute).unwrap();
    // 1970 began on a Thursday; day 4 of it was a Monday.
    let at = |day: u64, hour: u64, minute: u64| {
        Moment::from_unix_millis(((day * 24 + hour) * 60 + minute) * 60_000)
    };
    let mondays = Days::try_from(0b000_0001).unwrap();
    let by_day = Hours { days: mondays, from: minute(9, 0), to: minute(17, 30) };
    assert!(by_day.hold(at(4, 9, 0)) && by_day.hold(at(4, 17, 29)) && by_day.hold(at(11, 12, 0)));
    assert!(
        !by_day.hold(at(4, 8, 59)) && !by_day.hold(at(4, 17, 30)) && !by_day.hold(at(5, 12, 0))
    );
    let by_night = Hours { days: mondays, from: minute(22, 0), to: minute(6, 0) };
    assert!(by_night.hold(at(4, 22, 0)) && by_night.hold(at(5, 5, 59)));
    assert!(
        !by_night.hold(at(4, 5, 0)) && !by_night.hold(at(5, 6, 0)) && !by_night.hold(at(5, 23, 0))
    );
    let whole = Hours { days: Days::ALL, from: minute(0, 0), to: minute(0, 0) };
    assert!((0..7).all(|day| whole.hold(at(day, 0, 0)) && whole.hold(at(day, 23, 59))));
    let sundays =
        Hours { days: Days::try_from(0b100_0000).unwrap(), from: minute(23, 0), to: minute(1, 0) };
    assert!(
        sundays.hold(at(3, 23, 30)) && sundays.hold(at(4, 0, 30)) && !sundays.hold(at(4, 23, 30))
    );
}

#[test]
fn days_and_minutes_are_within_a_week_and_a_day() {
    assert!(Days::try_from(0).is_err() && Days::try_from(0x80).is_err());
    assert!(Minute::try_from(1439).is_ok() && Minute::try_from(1440).is_err());
}
