//! The ledger against a model that is a list of calls, through crashes, clean ends, late disks and turning days.

use proptest::prelude::*;

use super::*;
use crate::bound::Bound;
use crate::id::{TokenId, UserId};
use crate::money::Money;

const USER: Payer = Payer::User(UserId::from_random([1; 16]));
const TOKEN: Payer = Payer::Token(TokenId::from_random([2; 16]));
const DAY: u64 = 86_400_000;
const NOON: Moment = Moment::from_unix_millis(20_784 * DAY + DAY / 2);

fn hard(unit: Unit, amount: u64) -> Limit {
    Limit { unit, period: Period::Day, amount, force: Force::Hard, warn_percent: 80 }
}

fn tokens(amount: u64) -> Quote {
    Quote::Bounded(Bound::of_tokens(amount))
}

fn cost(tokens: u64) -> Cost {
    Cost { tokens: Some(tokens), money: Some(Money::from_micros(tokens)) }
}

/// What a disk holds, and the ledger over it.
struct Scene {
    ledger: Ledger,
    limits: Vec<(Payer, Limit)>,
    disk: BTreeMap<Payer, Vec<Lease>>,
}

impl Scene {
    fn new(limits: &[(Payer, Limit)], now: Moment) -> Self {
        let mut scene =
            Self { ledger: Ledger::default(), limits: limits.to_vec(), disk: BTreeMap::new() };
        scene.start(now);
        scene
    }

    /// Begins with what the disk says.
    fn start(&mut self, now: Moment) {
        self.ledger = Ledger::default();
        for (payer, limit) in &self.limits {
            let leases = self.disk.get(payer).into_iter().flatten();
            let its = |one: &&Lease| one.unit == limit.unit && one.period == limit.period;
            self.ledger.put(*payer, *limit, leases.into_iter().find(its), now);
        }
    }

    /// Makes every lease as long as it is wanted.
    fn lease(&mut self, now: Moment) {
        while let Some(extension) = self.ledger.extend(now) {
            self.disk.extend(extension.records.clone());
            self.ledger.leased(extension);
        }
    }

    fn used(&mut self, payer: Payer, unit: Unit, now: Moment) -> u64 {
        let figures = self.ledger.figures(now);
        let its = |one: &&Figures| one.payer == payer && one.limit.unit == unit;
        figures.iter().find(its).map_or(0, |one| one.spent + one.reserved)
    }
}

fn refused(outcome: Result<Granted, Short>) -> Short {
    outcome.map(|granted| granted.warning).unwrap_err()
}

/// Red when `ask` compares with what is settled alone.
#[test]
fn parallel_calls_never_get_more_than_a_hard_budget_has() {
    let mut scene = Scene::new(&[(USER, hard(Unit::Requests, 10))], NOON);
    scene.lease(NOON);
    let calls: Vec<_> =
        (0..50).map(|_| scene.ledger.reserve(&[USER, TOKEN], &Quote::Free, NOON)).collect();
    assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 10);
    assert!(calls.iter().skip(10).all(|call| matches!(call, Err(Short::Spent(_)))));
}

#[test]
fn what_is_never_sent_gives_all_back_and_what_is_settled_is_spent() {
    let mut scene = Scene::new(&[(USER, hard(Unit::Tokens, 100))], NOON);
    scene.lease(NOON);
    let one = scene.ledger.reserve(&[USER], &tokens(100), NOON).unwrap().reservation;
    assert!(matches!(refused(scene.ledger.reserve(&[USER], &tokens(1), NOON)), Short::Spent(_)));
    scene.ledger.settle(one, &Cost::NOTHING, 0);
    assert_eq!(scene.used(USER, Unit::Tokens, NOON), 0);
    let two = scene.ledger.reserve(&[USER], &tokens(60), NOON).unwrap().reservation;
    scene.ledger.settle(two, &cost(25), 1);
    assert_eq!(scene.used(USER, Unit::Tokens, NOON), 25);
}

/// Red when `reserve` adds up as it goes.
#[test]
fn a_call_that_one_budget_refuses_is_reserved_under_none() {
    let limits = [(USER, hard(Unit::Tokens, 100)), (TOKEN, hard(Unit::Tokens, 10))];
    let mut scene = Scene::new(&limits, NOON);
    scene.lease(NOON);
    let short = refused(scene.ledger.reserve(&[USER, TOKEN], &tokens(11), NOON));
    assert!(matches!(short, Short::Spent(figures) if figures.payer == TOKEN));
    assert_eq!(scene.used(USER, Unit::Tokens, NOON), 0);
}

#[test]
fn without_a_bound_a_hard_budget_refuses_and_a_soft_one_and_one_of_requests_do_not() {
    let open = Quote::Unbounded(NoBound::NoPrice, None);
    let mut soft = hard(Unit::Money, 1_000_000);
    soft.force = Force::Soft;
    for (limit, refuses) in [
        (hard(Unit::Money, 1_000_000), true),
        (hard(Unit::Tokens, 1_000_000), true),
        (hard(Unit::Requests, 10), false),
        (soft, false),
    ] {
        let mut scene = Scene::new(&[(USER, limit)], NOON);
        scene.lease(NOON);
        let outcome = scene.ledger.reserve(&[USER], &open, NOON);
        assert_eq!(
            matches!(outcome, Err(Short::NoBound(_, NoBound::NoPrice))),
            refuses,
            "{limit:?}"
        );
        assert_eq!(outcome.is_err(), refuses, "{limit:?}");
    }
}

#[test]
fn a_warning_names_the_budget_that_is_passed_by_most() {
    let limits = [(USER, hard(Unit::Tokens, 100)), (TOKEN, hard(Unit::Tokens, 90))];
    let mut scene = Scene::new(&limits, NOON);
    scene.lease(NOON);
    let none = scene.ledger.reserve(&[USER, TOKEN], &tokens(71), NOON).unwrap();
    assert_eq!(none.warning, None);
    let warned = scene.ledger.reserve(&[USER, TOKEN], &tokens(10), NOON).unwrap();
    let warning = warned.warning.unwrap();
    assert_eq!((warning.payer, warning.percent), (TOKEN.kind(), 90));
    assert_eq!(warning.turns, Moment::from_unix_millis(20_785 * DAY));
}

/// Red when `reserve` does not ask what is leased.
#[test]
fn nothing_is_reserved_that_the_disk_does_not_know_of() {
    let mut scene = Scene::new(&[(USER, hard(Unit::Tokens, 10_000_000))], NOON);
    assert_eq!(refused(scene.ledger.reserve(&[USER], &tokens(1), NOON)), Short::NotLeased);
    scene.lease(NOON);
    assert!(scene.ledger.reserve(&[USER], &tokens(1), NOON).is_ok());
    // A large call has its lease extended by what it needs.
    assert_eq!(refused(scene.ledger.reserve(&[USER], &tokens(5_000_000), NOON)), Short::NotLeased);
    scene.lease(NOON);
    assert!(scene.ledger.reserve(&[USER], &tokens(5_000_000), NOON).is_ok());
}

/// Red when a lease grows for a call that another budget refuses: a crash would spend it.
#[test]
fn a_call_that_one_budget_refuses_lengthens_no_lease_of_another() {
    let limits = [(USER, hard(Unit::Tokens, 10_000_000)), (TOKEN, hard(Unit::Tokens, 100))];
    let mut scene = Scene::new(&limits, NOON);
    scene.lease(NOON);
    let short = refused(scene.ledger.reserve(&[USER, TOKEN], &tokens(5_000_000), NOON));
    assert!(matches!(short, Short::Spent(figures) if figures.payer == TOKEN));
    assert!(!scene.ledger.wants());
}

#[test]
fn the_next_window_has_its_lease_before_it_begins() {
    let mut scene = Scene::new(&[(USER, hard(Unit::Requests, 20))], NOON);
    scene.lease(NOON);
    let tomorrow = NOON.after(std::time::Duration::from_hours(24));
    assert!(scene.ledger.reserve(&[USER], &Quote::Free, tomorrow).is_ok());
}

#[test]
fn what_was_reserved_yesterday_is_settled_in_nobody_else_s_window() {
    let mut scene = Scene::new(&[(USER, hard(Unit::Requests, 20))], NOON);
    scene.lease(NOON);
    let old = scene.ledger.reserve(&[USER], &Quote::Free, NOON).unwrap().reservation;
    let tomorrow = NOON.after(std::time::Duration::from_hours(24));
    let new = scene.ledger.reserve(&[USER], &Quote::Free, tomorrow).unwrap().reservation;
    scene.ledger.settle(old, &cost(0), 1);
    assert_eq!(scene.used(USER, Unit::Requests, tomorrow), 1);
    scene.ledger.settle(new, &cost(0), 1);
    assert_eq!(scene.used(USER, Unit::Requests, tomorrow), 1);
    // The clock runs back: the window does not.
    assert_eq!(scene.used(USER, Unit::Requests, NOON), 1);
}

/// Red when a budget is found by its name alone.
#[test]
fn a_budget_that_is_made_anew_is_not_given_what_the_old_one_reserved() {
    let limit = hard(Unit::Requests, 20);
    let mut scene = Scene::new(&[(USER, limit)], NOON);
    scene.lease(NOON);
    let old = scene.ledger.reserve(&[USER], &Quote::Free, NOON).unwrap().reservation;
    scene.ledger.remove(USER, Unit::Requests, Period::Day);
    assert!(scene.ledger.is_empty());
    scene.ledger.put(USER, limit, None, NOON);
    scene.lease(NOON);
    let _new = scene.ledger.reserve(&[USER], &Quote::Free, NOON).unwrap().reservation;
    scene.ledger.settle(old, &cost(0), 1);
    assert_eq!(scene.used(USER, Unit::Requests, NOON), 1);
}

/// Red when a lease is only as long as what is used by now needs: what was leased before may be used without asking again.
#[test]
fn a_lease_does_not_shrink_while_it_is_in_use() {
    let limits = [(USER, hard(Unit::Tokens, 100_000_000)), (USER, hard(Unit::Requests, 1000))];
    let mut scene = Scene::new(&limits, NOON);
    scene.lease(NOON);
    let mut calls = Vec::new();
    while calls.len() < 10 {
        match scene.ledger.reserve(&[USER], &tokens(1_000_000), NOON) {
            Ok(granted) => calls.push(granted.reservation),
            Err(_) => scene.lease(NOON),
        }
    }
    scene.lease(NOON);
    let on_disk = |scene: &Scene| {
        let leases = scene.disk[&USER].iter();
        leases.filter(|one| one.unit == Unit::Tokens).map(|one| one.spent).sum::<u64>()
    };
    let before = on_disk(&scene);
    assert!(before > 10_000_000);
    for call in calls {
        scene.ledger.settle(call, &Cost::NOTHING, 1);
    }
    // The other budget needs a longer lease, and both stand in one record.
    for _ in 0..20 {
        scene.lease(NOON);
        let _running = scene.ledger.reserve(&[USER], &tokens(1), NOON).unwrap().reservation;
    }
    scene.lease(NOON);
    assert!(on_disk(&scene) >= before);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A call whose bound is so many tokens.
    Begin(u64),
    /// The call of that number ends at so many per cent of its bound.
    End(usize, u64),
    /// The disk takes the leases that are wanted.
    Lease,
    /// It takes them, and the process dies before it hears of that.
    LeaseAndCrash,
    Crash,
    CleanEnd,
    /// Hours go by.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => prop_oneof![1..300_000_u64, 1..9_000_u64].prop_map(Step::Begin),
        8 => (0..8_usize, 0..=100_u64).prop_map(|(call, percent)| Step::End(call, percent)),
        4 => Just(Step::Lease),
        1 => Just(Step::LeaseAndCrash),
        1 => Just(Step::Crash),
        1 => Just(Step::CleanEnd),
        1 => (1..30_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..150)
}

/// A call of the model: in which window, and what it has cost or can cost.
struct Call {
    day: u64,
    bound: u64,
    cost: Option<u64>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Red when a start begins at anything below the lease, when a lease shrinks while it is in use, and when `turn` keeps what
    /// was leased for the window before.
    #[test]
    fn no_order_of_calls_crashes_and_days_spends_more_than_there_is(
        steps in steps(),
        amount in 200_000..3_000_000_u64,
    ) {
        let limits = [
            (USER, hard(Unit::Tokens, amount)),
            (USER, hard(Unit::Requests, 70)),
            (TOKEN, hard(Unit::Requests, 60)),
        ];
        let mut now = NOON;
        let mut scene = Scene::new(&limits, now);
        let (mut calls, mut running): (Vec<Call>, Vec<(usize, Reservation)>) = (vec![], vec![]);
        for step in steps {
            match step {
                Step::Begin(bound) => {
                    let granted = scene.ledger.reserve(&[USER, TOKEN], &tokens(bound), now);
                    if let Ok(granted) = granted {
                        running.push((calls.len(), granted.reservation));
                        calls.push(Call { day: now.unix_millis() / DAY, bound, cost: None });
                    }
                }
                Step::End(call, percent) if call < running.len() => {
                    let (call, reservation) = running.remove(call);
                    let spent = calls[call].bound * percent / 100;
                    calls[call].cost = Some(spent);
                    scene.ledger.settle(reservation, &cost(spent), 1);
                }
                Step::End(..) => {}
                Step::Lease => scene.lease(now),
                Step::LeaseAndCrash => {
                    if let Some(extension) = scene.ledger.extend(now) {
                        scene.disk.extend(extension.records);
                    }
                    running.clear();
                    scene.start(now);
                }
                Step::Crash => {
                    running.clear();
                    scene.start(now);
                }
                Step::CleanEnd => {
                    scene.disk = scene.ledger.exact(now);
                    running.clear();
                    scene.start(now);
                }
                Step::Wait(hours) => now = now.after(std::time::Duration::from_hours(hours)),
            }
            let today = now.unix_millis() / DAY;
            let of_today = || calls.iter().filter(|call| call.day == today);
            // What runs, or ran when the process died, may have cost all that it could.
            let spent: u64 = of_today().map(|call| call.cost.unwrap_or(call.bound)).sum();
            let requests = u64::try_from(of_today().count()).unwrap();
            prop_assert!(spent <= amount, "{spent} of {amount}");
            prop_assert!(requests <= 60);
            prop_assert!(spent <= scene.used(USER, Unit::Tokens, now));
            prop_assert!(requests <= scene.used(TOKEN, Unit::Requests, now));
            prop_assert!(scene.used(USER, Unit::Tokens, now) <= amount);
        }
    }
}
