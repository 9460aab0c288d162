//! What a decision costs under many rules: it grows with the rules that could match.

use std::hint::black_box;
use std::time::{Duration, Instant};

use strongroom_policy::decide::decide;
use strongroom_policy::id::{CredentialId, UserId};
use strongroom_policy::rules::{Choice, CredentialRules};
use strongroom_policy::tenant_rules::{
    Effect, MAX_RULES, Rule, RuleName, RuleSet, What, When, Who,
};

use crate::scene::{CREDENTIAL, NOW, OWNER, PERSONAL, STRANGER, key, model, person, wanted};

/// What a decision may take, half of the time.
const GOAL: Duration = Duration::from_micros(20);
const ROUNDS: usize = 20_000;

#[test]
#[ignore = "a measurement: cargo test --release -p strongroom-policy --test matrix -- --ignored --nocapture"]
fn what_a_decision_costs_under_a_thousand_rules() {
    let plain = &wanted()[0].1;
    let credential = key(PERSONAL, CredentialRules::default());
    for (name, asker, rules) in sets() {
        let rules = RuleSet::new(rules).unwrap();
        let subject = person(asker, &[]);
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let wish = plain.wish_under(&rules, &subject, &credential);
                let begun = Instant::now();
                let decided = black_box(decide(wish, NOW));
                let took = begun.elapsed();
                assert!(decided.is_ok());
                took
            })
            .collect();
        times.sort_unstable();
        let (median, late) = (times[ROUNDS / 2], times[ROUNDS / 100 * 99]);
        println!("{name:<46} median {median:?}, 99 % below {late:?}");
        assert!(cfg!(debug_assertions) || median <= GOAL, "{name}: {median:?}");
    }
}

/// None, as many as there can be about others, and as many about this very call, of which the last one counts or none.
fn sets() -> [(&'static str, UserId, Vec<Rule>); 5] {
    let id = |number: usize| {
        let mut id = [0xee; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        id
    };
    let others = |number: usize| {
        let what = What::Credential(CredentialId::from_random(id(number)));
        rule(number, Effect::Deny, Who::User(UserId::from_random(id(number))), what)
    };
    let given = |number: usize| {
        let what = What::Credential(CredentialId::from_random(id(number)));
        Rule { when: When::default(), ..rule(number, Effect::Allow, Who::Anyone, what) }
    };
    let denied = |number: usize| rule(number, Effect::Deny, Who::Anyone, What::Anything);
    let share = |number: usize| {
        rule(number, Effect::Allow, Who::User(STRANGER), What::Credential(CREDENTIAL))
    };
    let last = Rule { when: When::default(), ..share(MAX_RULES) };
    let shares = (1..MAX_RULES).map(share).chain([last]).collect();
    let all = |of: &dyn Fn(usize) -> Rule| (0..MAX_RULES).map(of).collect::<Vec<_>>();
    [
        ("no rules", OWNER, Vec::new()),
        ("1,000 about others", OWNER, all(&others)),
        ("1,000 that give everyone other keys", OWNER, all(&given)),
        ("1,000 that might deny this call", OWNER, all(&denied)),
        ("1,000 that might allow it, and the last one does", STRANGER, shares),
    ]
}

/// One that counts for no call here.
fn rule(number: usize, effect: Effect, who: Who, what: What) -> Rule {
    let models = Choice::Only(vec![model("none-such")]);
    let name = RuleName::parse(&format!("r{number}")).unwrap();
    Rule { name, effect, who, what, when: When { models, ..When::default() } }
}
