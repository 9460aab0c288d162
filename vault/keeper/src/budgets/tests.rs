use strongroom_policy::budget::{Force, Limit, Period};
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::decide::{Access, Wish, decide};
use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::name::ModelName;
use strongroom_policy::provider::builtin as providers;
use strongroom_policy::route::Method;
use strongroom_policy::rules::{
    Choice, CredentialFacts, CredentialRules, Standing, Subject, TokenScope,
};
use strongroom_policy::target::Target;
use strongroom_policy::tenant_rules::RuleSet;
use strongroom_protocol::usage::Usage;

use super::*;

const USER: Payer = Payer::User(UserId::from_random([1; 16]));
const WORKSPACE: WorkspaceId = WorkspaceId::from_random([6; 16]);
const CALL: CallId = CallId::from_random([9; 16]);
const NOON: Moment = Moment::from_unix_millis(20_784 * 86_400_000 + 43_200_000);
/// The bound of the call below: 100 bytes and what is unseen at 2.50, 1000 answered tokens at 10 dollars a million.
const BOUND: u64 = (100 + 4096) * 25 / 10 + 10_000;

/// A chat with a key of a workspace.
fn permit() -> Permit {
    let provider = providers::definitions().unwrap().into_iter().next().unwrap();
    let (tenant, user) = (TenantId::from_random([2; 16]), UserId::from_random([1; 16]));
    let scope = TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 1,
    };
    let subject = Subject {
        tenant,
        user,
        token: TokenId::from_random([3; 16]),
        scope,
        workspaces: vec![WORKSPACE],
        standing: Standing::Active,
    };
    let credential = CredentialFacts {
        id: CredentialId::from_random([4; 16]),
        tenant,
        home: Home::Workspace(WORKSPACE),
        provider: provider.name.clone(),
        destination: std::sync::Arc::new(provider.destination.clone()),
        rules: CredentialRules::default(),
    };
    let model = ModelName::parse("gpt-4o").unwrap();
    let claims = Claims { max_output: Some(1000), ..Claims::of_no_body(Some(model)) };
    let rules = RuleSet::default();
    let owner = Standing::Active;
    let wish = Wish {
        access: Access { subject: &subject, credential: &credential, owner, rules: &rules },
        provider: &provider,
        method: Method::Post,
        target: Target::parse("/v1/chat/completions").unwrap(),
        betas: Vec::new(),
        claims,
        length: Length::Known(100),
    };
    decide(wish, NOON).unwrap()
}

fn all_payers() -> Vec<Payer> {
    let (payers, count) = payers(&permit(), Some(Home::Workspace(WORKSPACE)));
    payers[..count].to_vec()
}

fn hard(unit: Unit, amount: u64) -> Limit {
    Limit { unit, period: Period::Day, amount, force: Force::Hard, warn_percent: 80 }
}

/// Budgets of a person, with everything leased that is wanted.
fn budgets(limits: &[Limit]) -> Budgets {
    let mut budgets = Budgets::open(Stored::default(), NOON).unwrap();
    let record = BudgetRecord { limits: limits.to_vec(), calls_per_minute: None };
    budgets.put(USER, record, &[], NOON);
    while let Some(extension) = budgets.ledger.extend(NOON) {
        budgets.ledger.leased(extension);
    }
    budgets
}

fn spent(budgets: &mut Budgets) -> (u64, u64) {
    let figures = budgets.ledger.figures(NOON)[0];
    (figures.spent, figures.reserved)
}

fn outcome(ending: Ending, status: Option<u16>, sent_bytes: u64, usage: Usage) -> Outcome {
    Outcome {
        call: CALL,
        status,
        ending,
        usage,
        sent_bytes,
        received_bytes: 0,
        scrubbed: 0,
        first_byte: None,
        total: Duration::ZERO,
    }
}

fn told(input: u64, output: u64, told: Told) -> Usage {
    Usage { input: Some(input), output: Some(output), told, ..Usage::default() }
}

/// Red when a lost courier's call is given back, when a cut answer costs what came through, or when a refusal of ours gives back a
/// call that may have been read.
#[test]
fn a_call_is_settled_by_how_it_ended_and_never_below_what_it_may_have_cost() {
    let nothing = Usage::default();
    let aborted = |refusal| Ending::Aborted(refusal);
    let ends = [
        (Ending::Complete, Some(200), told(100, 10, Told::Exact), 350),
        (Ending::Complete, Some(200), nothing, BOUND),
        (aborted(Refusal::Cancelled), Some(200), told(100, 10, Told::Partial), 250 + 10_000),
        (aborted(Refusal::Cancelled), None, nothing, BOUND),
        (aborted(Refusal::Recalled), None, nothing, BOUND),
        (aborted(Refusal::ProviderTimeout), None, nothing, BOUND),
        (aborted(Refusal::ProviderBroken), Some(200), nothing, BOUND),
        (aborted(Refusal::ProviderUnreachable), None, nothing, BOUND),
        (Ending::Complete, Some(500), nothing, BOUND),
        (Ending::Complete, Some(429), nothing, 0),
        (Ending::Complete, Some(529), nothing, 0),
        (Ending::Complete, Some(429), told(100, 10, Told::Exact), 350),
        (aborted(Refusal::BodyMismatch), None, nothing, 0),
        // More than was reserved: the bill is what it is.
        (Ending::Complete, Some(200), told(100_000, 10, Told::Exact), 250_100),
    ];
    for (ending, status, usage, cost) in ends {
        let mut budgets = budgets(&[hard(Unit::Money, 10_000_000)]);
        budgets.hold(CALL, (&permit(), &all_payers()), NOON).unwrap();
        assert_eq!(spent(&mut budgets), (0, BOUND));
        budgets.went_out(CALL);
        let outcome = outcome(ending, status, 100, usage);
        let settled = budgets.end(CALL, End::Reported(&outcome));
        assert_eq!(settled, Some(Money::from_micros(cost)), "{outcome:?}");
        assert_eq!(spent(&mut budgets), (cost, 0), "{outcome:?}");
        assert_eq!(budgets.end(CALL, End::Reported(&outcome)), None);
    }
}

#[test]
fn what_never_left_is_given_back_and_what_a_lost_courier_had_is_not() {
    let refused = Ending::Aborted(Refusal::ProviderUnreachable);
    let unsent = outcome(refused, None, 0, Usage::default());
    for (end, went_out, cost) in [
        (End::Unreported, false, 0),
        (End::Unreported, true, BOUND),
        (End::Reported(&unsent), true, 0),
    ] {
        let mut budgets = budgets(&[hard(Unit::Money, 10_000_000)]);
        budgets.hold(CALL, (&permit(), &all_payers()), NOON).unwrap();
        if went_out {
            budgets.went_out(CALL);
        }
        budgets.end(CALL, end);
        assert_eq!(spent(&mut budgets), (cost, 0));
    }
}

#[test]
fn what_was_forgotten_counts_in_full() {
    let mut budgets = budgets(&[hard(Unit::Money, 10_000_000)]);
    budgets.hold(CALL, (&permit(), &all_payers()), NOON).unwrap();
    assert_eq!(budgets.settle_forgotten(|call| call == CALL), 0);
    assert_eq!(budgets.settle_forgotten(|_| false), 1);
    assert_eq!(spent(&mut budgets), (BOUND, 0));
}

/// Red when a credential of nobody's workspace pays twice.
#[test]
fn each_payer_pays_once() {
    let workspace = Payer::Workspace(WORKSPACE);
    assert!(all_payers().contains(&workspace));
    let personal = Some(Home::Personal(UserId::from_random([1; 16])));
    let (all, count) = payers(&permit(), personal);
    let paying: std::collections::BTreeSet<_> = all[..count].iter().collect();
    assert_eq!((paying.len(), paying.contains(&workspace)), (count, false));
}

/// Red when a rate is taken from before another one has refused.
#[test]
fn a_call_that_one_rate_refuses_is_taken_from_none() {
    let mut budgets = Budgets::open(Stored::default(), NOON).unwrap();
    let rate = |rate| BudgetRecord { limits: Vec::new(), calls_per_minute: Some(rate) };
    let token = Payer::Token(TokenId::from_random([3; 16]));
    budgets.put(USER, rate(2), &[], NOON);
    budgets.put(token, rate(1), &[], NOON);
    let now = Instant::now();
    assert_eq!(budgets.take_rates(&[USER, token], now), Ok(()));
    let (whose, wait) = budgets.take_rates(&[USER, token], now).unwrap_err();
    assert_eq!(whose, token);
    assert!(wait <= Duration::from_secs(61), "{wait:?}");
    assert_eq!(budgets.take_rates(&[USER], now), Ok(()));
    assert_eq!(budgets.take_rates(&[USER], now).map_err(|(whose, _)| whose), Err(USER));
}

#[test]
fn a_refusal_says_which_budget_when_it_begins_anew_and_why() {
    let mut budgets = budgets(&[hard(Unit::Money, BOUND)]);
    budgets.hold(CALL, (&permit(), &all_payers()), NOON).unwrap();
    let other = CallId::from_random([8; 16]);
    let short = budgets.hold(other, (&permit(), &all_payers()), NOON).unwrap_err();
    let (refusal, about) = refusal_of(&short);
    assert_eq!(refusal, Refusal::BudgetSpent);
    let about = about.unwrap();
    assert!(
        about.starts_with("the budget of money of this user for a day: 0.00 USD of "),
        "{about}"
    );
    assert!(about.ends_with("it begins anew at 2026-11-28T00:00:00Z"), "{about}");
    assert!(about.len() <= strongroom_protocol::ask::MAX_ABOUT_BYTES);
}

/// A record of the first version that had budgets: fields come in a new shape.
#[test]
fn a_stored_budget_and_lease_read_as_they_were_written() {
    let limits = vec![hard(Unit::Money, 50_000_000)];
    let record = BudgetRecord { limits, calls_per_minute: Some(60) };
    let stored = hex::decode("01000080e1eb17005001".to_owned() + "3c").unwrap();
    assert_eq!(postcard::to_stdvec(&record).unwrap(), stored);
    let lease: Vec<Lease> =
        postcard::from_bytes(&hex::decode("010000b0a201c0843d07").unwrap()).unwrap();
    let lease = lease[0];
    assert_eq!((lease.unit, lease.period), (Unit::Money, Period::Day));
    assert_eq!((lease.spent, lease.next), (1_000_000, 7));
    assert_eq!(lease.window, Period::Day.window(NOON));
}
