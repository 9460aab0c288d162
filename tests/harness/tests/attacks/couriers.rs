//! A captured courier of operator-defined providers, alone and together with a captured gateway: what it gets of built-in ones.
//!
//! Invariant: no key, no call and no answer of the other courier's providers passes by it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::Uid;
use strongroom_emulator::Api;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::errand::{FromCourier, ToCourier};
use strongroom_protocol::frame;
use strongroom_tests::captured::{Captured, Door, Socket};
use strongroom_tests::speak::{Shape, models, say};
use strongroom_tests::{Part, until};

use crate::scene::{BENS, Scene};
use crate::speech::{BODY, Ended, JSON, asking, chat, ended, exchange, ticket};

fn redeem(keeper: &mut Door, ticket: Ticket) -> Result<(), Refusal> {
    keeper.say(&FromCourier::Redeem(ticket)).expect("the keeper reads");
    match frame::decode(&keeper.heard().expect("the keeper answers")) {
        Ok(ToCourier::Errand { .. }) => Ok(()),
        Ok(ToCourier::Refused { refusal, .. }) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

/// Its own door takes it in, once the one before is settled.
fn at_its_door(captured: &Captured<'_>) -> Door {
    until("the keeper takes the courier in", || {
        let mut door = captured.open(Socket::ErrandDefined);
        door.say(&FromCourier::Redeem(Ticket([0; 16]))).ok()?;
        door.heard().map(|_| door)
    })
}

// Red when the keeper tells neither its doors nor its tickets apart by the provider's origin.
#[test]
fn a_captured_courier_of_operator_defined_providers_gets_no_key_and_no_call_of_built_in_ones() {
    let scene = Scene::set();
    let before = scene.before(Part::CourierDefined);
    let captured = scene.appliance.capture(&scene.programs, Part::CourierDefined);
    let mut keeper = at_its_door(&captured);
    let lanes = Arc::new(AtomicUsize::new(0));
    let brought = Arc::clone(&lanes);
    captured.attend(move |mut lane| {
        brought.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || while lane.frame_when_it_comes().is_some() {});
    });
    scene.appliance.wait_ready();
    until("the gateway's lanes lead to it", || (lanes.load(Ordering::Relaxed) > 0).then_some(()));
    // Not at the other's door, where somebody stands; root's install does not even let it knock.
    match captured.knock(Socket::Errand) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
        Ok(mut door) => {
            assert!(!Uid::effective().is_root(), "another user came in");
            assert!(door.heard().is_none());
        }
    }
    // Calls to built-in providers go on beside it.
    let gate = scene.appliance.gate();
    for api in Api::ALL.into_iter().filter(|api| *api != BENS) {
        gate.call(&models(api, &scene.token)).is(200);
        gate.call(&say(api, &scene.token, "m", "hello there", Shape::Plain)).is(200);
    }
    // Together with the gateway: a ticket for a built-in provider is none to it, and is not spent by trying.
    let gateway = scene.appliance.capture(&scene.programs, Part::Gateway);
    let mut ask = asking(&gateway);
    let (stolen, _) = ticket(&mut ask, chat(scene.token.as_bytes()));
    for _ in 0..3 {
        assert_eq!(redeem(&mut keeper, stolen), Err(Refusal::TicketUnknown));
    }
    let mut lane = gateway.open(Socket::Call);
    lane.send(&exchange(stolen, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Whole(200));
    drop((ask, lane));
    let taken = gateway.loot();
    assert!(taken.keys.is_empty(), "{taken:?}");
    gateway.release();
    drop(keeper);
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

// The other way round: tickets that a captured gateway brings to the wrong courier move nothing.
#[test]
fn a_ticket_that_is_brought_to_the_other_courier_moves_no_call() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut wrong) = (asking(&captured), captured.open(Socket::CallDefined));
    let (waiting, _) = ticket(&mut keeper, chat(scene.token.as_bytes()));
    for _ in 0..3 {
        wrong.send(&exchange(waiting, &[JSON], BODY)).expect("the courier reads");
        assert_eq!(ended(&mut wrong), Ended::Aborted(Refusal::TicketUnknown));
    }
    assert_eq!(scene.appliance.providers().counts().requests, 0);
    let mut lane = captured.open(Socket::Call);
    lane.send(&exchange(waiting, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Whole(200));
    drop((keeper, wrong, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}
