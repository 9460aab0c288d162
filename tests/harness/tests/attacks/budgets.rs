//! A captured gateway and a clock that is moved, against a hard budget.
//!
//! Invariant: what is counted is counted in the keeper, by what the courier saw and by windows that only go forward.

use strongroom_emulator::Api;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Answer;
use strongroom_tests::captured::Socket;
use strongroom_tests::clock::{Ahead, Clocks};
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Part, until};

use crate::neighbour::is_root;
use crate::scene::Scene;
use crate::speech::{BODY, Ended, JSON, ask, asking, chat, ended, exchange};

/// Red when a refused, an expired or a spoiled call is given back more often than it was reserved.
#[test]
fn a_captured_gateway_cannot_spend_over_a_budget() {
    let scene = Scene::set();
    let appliance = &scene.appliance;
    appliance.json(&["budget", "set", "token:heard", "--requests", "5", "--per", "day"], b"");
    let before = scene.before(Part::Gateway);
    let captured = appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let token = scene.token.as_bytes();
    let mut answered = 0;
    for turn in 0..40 {
        let ticket = until("the budget is ready", || match ask(&mut keeper, chat(token)) {
            Answer::Admitted { ticket, .. } => Some(Some(ticket)),
            Answer::Refused(refused) if refused.refusal == Refusal::BudgetNotReady => None,
            Answer::Refused(refused) => {
                assert_eq!(refused.refusal, Refusal::BudgetSpent);
                Some(None)
            }
            Answer::Identified | Answer::Person(_) => panic!("a call was asked for"),
        });
        let Some(ticket) = ticket else { continue };
        // Every other time with a body that was not judged: nothing of it reaches its end, and it is given back once.
        let spoiled = turn % 2 == 0;
        let body = if spoiled { BODY.to_ascii_uppercase() } else { BODY.to_vec() };
        lane.send(&exchange(ticket, &[JSON], &body)).expect("the courier reads");
        let end = ended(&mut lane);
        assert_eq!(end == Ended::Aborted(Refusal::BodyMismatch), spoiled, "{end:?}");
        answered += usize::from(!spoiled);
    }
    assert_eq!(answered, 5);
    assert!(
        matches!(ask(&mut keeper, chat(token)), Answer::Refused(refused) if refused.refusal == Refusal::BudgetSpent)
    );
    scene.judge(&before, captured);
}

/// Red when a window is the clock's and not the latest one.
#[test]
fn a_budget_begins_anew_at_midnight_and_a_clock_set_back_gives_nothing_back() {
    if !is_root() {
        return;
    }
    let (appliance, token) = Appliance::stocked();
    let Some(clocks) = Clocks::of(until("it runs", || appliance.pid(Part::Keeper))) else {
        strongroom_soak::skipped("this machine's clocks are not moved: that code is for x86-64");
        return;
    };
    appliance.json(&["budget", "set", "token:test", "--requests", "2", "--per", "day"], b"");
    // How many pass until it is spent.
    let passes = || {
        let mut passed = 0;
        loop {
            let answer = appliance.gate().call(&models(Api::OpenAi, &token));
            match (answer.status, answer.refusal()) {
                (200, _) => passed += 1,
                (503, Some("SR-BUDGET-003")) => {}
                _ => {
                    answer.refused(402, "SR-BUDGET-001");
                    return passed;
                }
            }
        }
    };
    let day = |days: i64| clocks.set(Ahead { day: days * 86_400, span: 0 });
    assert_eq!(passes(), 2);
    for (days, passed) in [(1, 2), (0, 0), (-40, 0), (1, 0), (2, 2), (40, 2), (39, 0)] {
        day(days);
        assert_eq!(passes(), passed, "{days} days ahead");
    }
    // A keeper that begins while the clock stands behind its journal goes by the journal.
    day(0);
    let killed = appliance.kill(Part::Keeper);
    until("another keeper is there", || appliance.pid(Part::Keeper).filter(|pid| *pid != killed));
    appliance.wait_state("sealed");
    appliance.unseal();
    appliance.wait_ready();
    assert_eq!(passes(), 0);
}
