//! The table against a model that is a list of calls and their stages.

use std::time::Duration;

use proptest::prelude::*;
use static_assertions::assert_not_impl_any;
use strongroom_policy::decide::Permit;

use super::*;
use crate::journal::tests::permit;

// A proof that could be copied, compared or sent would be spent twice.
assert_not_impl_any!(Permit: Clone, Copy, PartialEq, Default, serde::Serialize);
assert_not_impl_any!(Admitted: Clone, Copy, PartialEq, Default, serde::Serialize);

/// What is done to the table; calls, people and tickets by small numbers, so that they meet.
#[derive(Debug, Clone, Copy)]
enum Step {
    Begin(u8, u8),
    Keep(u8),
    Redeem(u8),
    Report(u8),
    End(u8),
    Expire,
    Stop(u8),
    Wait(u8),
    TakeAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (call, user) = (0..6_u8, 0..3_u8);
    let step = prop_oneof![
        4 => (call.clone(), user.clone()).prop_map(|(call, user)| Step::Begin(call, user)),
        4 => call.clone().prop_map(Step::Keep),
        4 => call.clone().prop_map(Step::Redeem),
        3 => call.clone().prop_map(Step::Report),
        2 => call.prop_map(Step::End),
        2 => Just(Step::Expire),
        1 => user.prop_map(Step::Stop),
        2 => (1..8_u8).prop_map(Step::Wait),
        1 => Just(Step::TakeAll),
    ];
    prop::collection::vec(step, 1..60)
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

fn user(number: u8) -> UserId {
    UserId::from_random([number; 16])
}

fn party(number: u8) -> Party {
    let token = TokenId::from_random([9; 16]);
    let credential = CredentialId::from_random([8; 16]);
    Party { user: user(number), token, credential, expires: None }
}

fn sorted(mut calls: Vec<CallId>) -> Vec<CallId> {
    calls.sort_unstable();
    calls
}

/// Does one step to both and compares what they answer.
fn step(table: &mut Tickets, model: &mut Vec<Modelled>, now: &mut Instant, step: Step) {
    let at = |model: &Vec<Modelled>, number: u8| model.iter().position(|one| one.call == number);
    match step {
        // Ids are random: none begins twice.
        Step::Begin(number, by) if at(model, number).is_none() => {
            table.begin(call(number), party(by));
            model.push(Modelled { call: number, user: by, place: Place::Written });
        }
        // The pipeline keeps a ticket of a call that is still under way.
        Step::Keep(number) => {
            let Some(found) = at(model, number) else { return };
            if model[found].place == Place::Written {
                let admitted = Admitted::of_a_test(permit(), call(number));
                table.keep(Ticket([number; 16]), admitted, *now);
                model[found].place = Place::Waiting(*now + TICKET_LIFE);
            }
        }
        Step::Redeem(number) => {
            let got = table.redeem(Ticket([number; 16]), *now).map(|admitted| admitted.call());
            let lives = |place| matches!(place, Place::Waiting(until) if until > *now);
            let found = at(model, number).filter(|found| lives(model[*found].place));
            assert_eq!(got, found.map(|_| call(number)));
            if let Some(found) = found {
                model[found].place = Place::Away;
            }
        }
        Step::Report(number) => {
            let found = at(model, number).filter(|found| model[*found].place == Place::Away);
            assert_eq!(table.report(call(number)), found.is_some());
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
        Step::Stop(by) => {
            let stopped = table.stop(|party| party.user == user(by));
            let of = |is_away: bool| {
                let those = model.iter().filter(|one| one.user == by);
                let those = those.filter(|one| (one.place == Place::Away) == is_away);
                sorted(those.map(|one| call(one.call)).collect())
            };
            assert_eq!(sorted(stopped.unmade), of(false));
            assert_eq!(sorted(stopped.recalled), of(true));
            model.retain(|one| one.user != by || one.place == Place::Away);
        }
        Step::Wait(seconds) => *now += Duration::from_secs(u64::from(seconds)),
        Step::TakeAll => {
            let wanted = model.drain(..).map(|one| call(one.call)).collect();
            assert_eq!(sorted(table.take_all()), sorted(wanted));
        }
        Step::Begin(..) => {}
    }
}

proptest! {
    /// Red when a ticket is redeemed twice, after its life, or after its call was stopped; when a call is closed twice; when a
    /// person's count drifts.
    #[test]
    fn the_table_of_tickets_does_what_a_list_would(steps in steps()) {
        let (mut table, mut model) = (Tickets::default(), Vec::new());
        let mut now = Instant::now();
        for one in steps {
            step(&mut table, &mut model, &mut now, one);
            for number in 0..6 {
                assert_eq!(table.holds(call(number)), model.iter().any(|one| one.call == number));
            }
            for number in 0..3 {
                let count = model.iter().filter(|one| one.user == number).count();
                assert_eq!(table.of_one.get(&user(number)).copied().unwrap_or(0), count);
            }
            let waiting = model.iter().filter(|one| matches!(one.place, Place::Waiting(_))).count();
            assert_eq!(table.waiting.len(), waiting);
        }
    }
}
