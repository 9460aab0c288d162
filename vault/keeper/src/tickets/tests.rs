//! The table against a model that is a list of calls and their stages.

use std::time::Duration;

use proptest::prelude::*;
use static_assertions::assert_not_impl_any;
use strongroom_policy::decide::Permit;

use super::*;
use crate::journal::tests::permit_for;

// A proof that could be copied, compared or sent would be spent twice.
assert_not_impl_any!(Permit: Clone, Copy, PartialEq, Default, serde::Serialize);
assert_not_impl_any!(Admitted: Clone, Copy, PartialEq, Default, serde::Serialize);

/// What is done to the table; calls, people and tickets by small numbers, so that they meet.
#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(u8, u8),
    Keep(u8),
    Redeem(u8, Origin),
    Report(u8, Origin),
    End(u8),
    Expire,
    Stop(u8),
    Wait(u8),
    TakeOf(Origin),
    TakeAll,
}

/// Half of the calls are to providers of either kind.
fn origin(call: u8) -> Origin {
    Origin::ALL[usize::from(call % 2)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (call, user) = (0..4_u8, 0..3_u8);
    let courier = prop::sample::select(&Origin::ALL[..]);
    let step = prop_oneof![
        4 => (call.clone(), user.clone()).prop_map(|(call, user)| Step::Begin(call, user)),
        4 => call.clone().prop_map(Step::Keep),
        6 => (call.clone(), courier.clone()).prop_map(|(call, by)| Step::Redeem(call, by)),
        5 => (call.clone(), courier.clone()).prop_map(|(call, by)| Step::Report(call, by)),
        2 => call.prop_map(Step::End),
        2 => Just(Step::Expire),
        1 => user.prop_map(Step::Stop),
        2 => (1..8_u8).prop_map(Step::Wait),
        1 => courier.prop_map(Step::TakeOf),
        1 => Just(Step::TakeAll),
    ];
    prop::collection::vec(step, 1..120)
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its entry is being written.
    Written,
    /// Its ticket waits until then.
    Waiting(Instant),
    /// With the courier.
    Away,
    /// With the courier, which was told to stop it.
    Told,
}

impl Place {
    fn is_away(self) -> bool {
        matches!(self, Self::Away | Self::Told)
    }
}

#[derive(Debug, Clone, Copy)]
struct Modelled {
    call: u8,
    user: u8,
    place: Place,
}

fn call(number: u8) -> CallId {
    CallId::from_random([number; 16])
}

fn origin_of(id: CallId) -> Origin {
    (0..4).find(|number| call(*number) == id).map(origin).unwrap()
}

fn user(number: u8) -> UserId {
    UserId::from_random([number; 16])
}

/// Two people are of one tenant, the third of another.
fn tenant(number: u8) -> TenantId {
    TenantId::from_random([number / 2; 16])
}

fn party(number: u8, origin: Origin) -> Party {
    let token = TokenId::from_random([9; 16]);
    let credential = CredentialId::from_random([8; 16]);
    let (tenant, user) = (tenant(number), user(number));
    let facts = permit_for(origin).facts().clone();
    Party { tenant, user, token, credential, origin, expires: None, facts }
}

fn sorted(mut calls: Vec<CallId>) -> Vec<CallId> {
    calls.sort_unstable();
    calls
}

/// A ticket, brought by a courier.
fn redeem(table: &mut Tickets, model: &mut [Modelled], now: Instant, (number, by): (u8, Origin)) {
    let got = table.redeem(Ticket([number; 16]), by, now).map(|admitted| admitted.call());
    let lives = |place| matches!(place, Place::Waiting(until) if until > now);
    let found = model.iter_mut().find(|one| one.call == number && lives(one.place));
    let found = found.filter(|_| origin(number) == by);
    assert_eq!(got, found.as_ref().map(|_| call(number)));
    if let Some(found) = found {
        found.place = Place::Away;
    }
}

/// Whoever is stopped is, each once.
fn stop(table: &mut Tickets, model: &mut Vec<Modelled>, by: u8) {
    let stopped = table.stop(|party| party.user == user(by));
    let of = |is_away: bool| {
        let those = model.iter().filter(|one| one.user == by && one.place != Place::Told);
        let those = those.filter(|one| one.place.is_away() == is_away);
        sorted(those.map(|one| call(one.call)).collect())
    };
    assert_eq!(sorted(stopped.unmade), of(false));
    assert!(stopped.recalled.iter().all(|(whose, call)| *whose == origin_of(*call)));
    let recalled = stopped.recalled.into_iter().map(|(_, call)| call).collect();
    assert_eq!(sorted(recalled), of(true));
    model.retain(|one| one.user != by || one.place.is_away());
    for one in model.iter_mut().filter(|one| one.user == by) {
        one.place = Place::Told;
    }
}

/// Does one step to both and compares what they answer.
fn step(table: &mut Tickets, model: &mut Vec<Modelled>, now: &mut Instant, step: Step) {
    let at = |model: &Vec<Modelled>, number: u8| model.iter().position(|one| one.call == number);
    match step {
        // Ids are random: none begins twice.
        Step::Begin(number, by) if at(model, number).is_none() => {
            table.begin(call(number), party(by, origin(number)));
            model.push(Modelled { call: number, user: by, place: Place::Written });
        }
        // The pipeline keeps a ticket of a call that is still under way.
        Step::Keep(number) => {
            let Some(found) = at(model, number) else { return };
            if model[found].place == Place::Written {
                let admitted = Admitted::of_a_test(permit_for(origin(number)), call(number));
                table.keep(Ticket([number; 16]), admitted, *now);
                model[found].place = Place::Waiting(*now + TICKET_LIFE);
            }
        }
        Step::Redeem(number, by) => redeem(table, model, *now, (number, by)),
        Step::Report(number, by) => {
            let is_its = |found: &usize| model[*found].place.is_away() && origin(number) == by;
            let found = at(model, number).filter(is_its);
            assert_eq!(table.report(call(number), by), found.is_some());
            found.map(|found| model.remove(found));
        }
        Step::End(number) => {
            // Whoever ends a call that waits has taken its ticket before.
            let found =
                at(model, number).filter(|found| !matches!(model[*found].place, Place::Waiting(_)));
            if let Some(found) = found {
                assert!(table.end(call(number)));
                model.remove(found);
            }
        }
        Step::Expire => {
            let over = |one: &Modelled| matches!(one.place, Place::Waiting(until) if until <= *now);
            let wanted = model.iter().filter(|one| over(one)).map(|one| call(one.call)).collect();
            assert_eq!(sorted(table.expire(*now)), sorted(wanted));
            model.retain(|one| !over(one));
        }
        Step::Stop(by) => stop(table, model, by),
        Step::Wait(seconds) => *now += Duration::from_secs(u64::from(seconds)),
        Step::TakeOf(whose) => {
            let its = model.extract_if(.., |one| origin(one.call) == whose);
            let wanted = its.map(|one| call(one.call)).collect();
            assert_eq!(sorted(table.take_of(whose)), sorted(wanted));
        }
        Step::TakeAll => {
            let wanted = model.drain(..).map(|one| call(one.call)).collect();
            assert_eq!(sorted(table.take_all()), sorted(wanted));
        }
        Step::Begin(..) => {}
    }
}

proptest! {
    /// Red when a call is told to stop twice, when a ticket is redeemed twice, after its life, by the other courier, or after its call was stopped; when a call is closed twice; when a
    /// person's count drifts.
    #[test]
    fn the_table_of_tickets_does_what_a_list_would(steps in steps()) {
        let (mut table, mut model) = (Tickets::default(), Vec::new());
        let mut now = Instant::now();
        for one in steps {
            step(&mut table, &mut model, &mut now, one);
            for number in 0..4 {
                assert_eq!(table.holds(call(number)), model.iter().any(|one| one.call == number));
            }
            for number in 0..3 {
                let count = model.iter().filter(|one| one.user == number).count();
                assert_eq!(table.of_one.get(&user(number)).copied().unwrap_or(0), count);
                let of_tenant = |one: &&Modelled| tenant(one.user) == tenant(number);
                let count = model.iter().filter(of_tenant).count();
                assert_eq!(table.of_tenant.get(&tenant(number)).copied().unwrap_or(0), count);
            }
            let waiting = model.iter().filter(|one| matches!(one.place, Place::Waiting(_))).count();
            assert_eq!(table.waiting.len(), waiting);
        }
    }
}

// Red when `has_room` does not ask for the tenant.
#[test]
fn the_calls_of_one_tenant_leave_room_for_another() {
    let mut table = Tickets::default();
    let (greedy, other) = (TenantId::from_random([1; 16]), TenantId::from_random([2; 16]));
    let person = |number: u16| UserId::from_random(u128::from(number).to_be_bytes());
    let mut begun = 0_u16;
    while table.has_room((greedy, person(begun))) {
        let call = CallId::from_random(u128::from(begun).to_be_bytes());
        table.begin(
            call,
            Party { tenant: greedy, user: person(begun), ..party(0, Origin::BuiltIn) },
        );
        begun += 1;
    }
    assert_eq!(usize::from(begun), MAX_CALLS_OF_TENANT);
    assert!(table.has_room((other, person(0))));
    assert!(table.end(CallId::from_random(0_u128.to_be_bytes())));
    assert!(table.has_room((greedy, person(begun))));
}
