//! A captured gateway and tickets: guessed, stolen, used twice, too late, after a revocation, after a sealing.
//!
//! Invariant: a ticket moves one call, once, in its time, and only while its token acts.

use std::thread;

use strongroom_policy::claims::Length;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::{CallAsk, TICKET_LIFE, Ticket};
use strongroom_protocol::call::FrameKind;
use strongroom_tests::captured::{Captured, Door, Socket};
use strongroom_tests::dice::Dice;
use strongroom_tests::{Part, until};

use crate::scene::Scene;
use crate::speech::{
    BODY, Ended, JSON, ask, asking, chat, ended, exchange, frame_of, head, refusal, ticket,
};

const UNKNOWN: Ended = Ended::Aborted(Refusal::TicketUnknown);
/// Tickets that are guessed.
const GUESSES: usize = 500;

#[test]
fn a_captured_gateway_gets_one_call_for_one_ticket_and_none_for_a_guess() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (token, mut dice) = (scene.token.as_bytes(), Dice::new());
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let mut waiting = Ticket(dice.bytes());
    // While a true one waits: chance, and the true one with each of its bits turned. None waits for long: it lives for seconds.
    for part in 0..8 {
        (waiting, _) = ticket(&mut keeper, chat(token));
        let random = (0..GUESSES / 8).map(|_| Ticket(dice.bytes()));
        let near = (part * 16..(part + 1) * 16).map(|bit| {
            let mut guess = waiting.0;
            guess[bit / 8] ^= 1 << (bit % 8);
            Ticket(guess)
        });
        for guess in random.chain(near) {
            lane.send(&exchange(guess, &[JSON], BODY)).expect("the courier reads");
            assert_eq!(ended(&mut lane), UNKNOWN);
        }
    }
    assert_eq!(scene.appliance.providers().counts().connections, 1, "the scene's own call");
    lane.send(&exchange(waiting, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Whole(200));
    for _ in 0..3 {
        lane.send(&exchange(waiting, &[JSON], BODY)).expect("the courier reads");
        assert_eq!(ended(&mut lane), UNKNOWN, "a second time");
    }
    race(token, &captured, &mut keeper);
    assert_eq!(scene.appliance.providers().counts().requests, 2);
    drop((keeper, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.bytes > 0 && loot.keys.is_empty(), "{loot:?}");
}

/// Eight lanes bring the same ticket at once: one of them gets the call.
fn race(token: &[u8], captured: &Captured<'_>, keeper: &mut Door) {
    let (ticket, _) = ticket(keeper, chat(token));
    let ends = thread::scope(|scope| {
        let lanes: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    let mut lane = captured.open(Socket::Call);
                    lane.send(&exchange(ticket, &[JSON], BODY)).expect("the courier reads");
                    ended(&mut lane)
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().expect("it ends")).collect::<Vec<_>>()
    });
    let won = ends.iter().filter(|end| **end == Ended::Whole(200)).count();
    let lost = ends.iter().filter(|end| matches!(end, Ended::Aborted(_))).count();
    assert_eq!((won, lost), (1, 7), "{ends:?}");
}

#[test]
fn a_captured_gateway_cannot_keep_tickets_for_later() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let tickets: Vec<_> =
        (0..4).map(|_| ticket(&mut keeper, chat(scene.token.as_bytes()))).collect();
    // Its time over, whether or not the keeper has swept it away: the wait is what is tested.
    thread::sleep(TICKET_LIFE);
    for (ticket, _) in &tickets {
        lane.send(&exchange(*ticket, &[JSON], BODY)).expect("the courier reads");
        assert_eq!(ended(&mut lane), UNKNOWN);
    }
    assert_eq!(scene.appliance.providers().counts().requests, 0);
    drop((keeper, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

#[test]
fn a_captured_gateway_that_replays_a_revoked_proof_gets_nothing() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let token = scene.token.as_bytes();
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let kept: Vec<_> = (0..3).map(|_| ticket(&mut keeper, chat(token)).0).collect();
    // One call whose body never ends is under way.
    let length = Length::Known(1 << 20);
    let (running, _) = ticket(&mut keeper, CallAsk { length, ..chat(token) });
    let mut open = captured.open(Socket::Call);
    let text = [&BODY[..BODY.len() - 4], &vec![b'x'; 40_000]].concat();
    // The last piece is withheld until the body has been judged.
    let pieces = [frame_of(FrameKind::Body, &text), frame_of(FrameKind::Body, b"x")].concat();
    let begun = [head(running, &[JSON], length), pieces].concat();
    open.send(&begun).expect("the courier reads");
    scene.appliance.seen(|_, counts| counts.open == 1);
    scene.appliance.json(&["token", "revoke", "heard", "--yes"], b"");
    assert_eq!(ended(&mut open), Ended::Aborted(Refusal::Recalled));
    for ticket in kept {
        lane.send(&exchange(ticket, &[JSON], BODY)).expect("the courier reads");
        assert_eq!(ended(&mut lane), UNKNOWN, "a ticket of before");
    }
    for _ in 0..50 {
        assert_eq!(refusal(&ask(&mut keeper, chat(token))), Refusal::TokenInvalid);
    }
    let complete = |scene: &Scene| {
        scene.appliance.providers().seen().iter().filter(|seen| seen.body_complete).count()
    };
    assert_eq!(complete(&scene), 0);
    drop((keeper, lane, open));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

#[test]
fn tickets_of_a_captured_gateway_die_with_the_vaults_sealing() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut keeper, mut lane) = (asking(&captured), captured.open(Socket::Call));
    let (kept, _) = ticket(&mut keeper, chat(scene.token.as_bytes()));
    scene.appliance.cli(&["seal"], b"").ok();
    lane.send(&exchange(kept, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Aborted(Refusal::Sealed));
    let answer = ask(&mut keeper, chat(scene.token.as_bytes()));
    assert_eq!(refusal(&answer), Refusal::Sealed);
    scene.appliance.unseal();
    until("the vault is open", || (scene.appliance.status()["state"] == "ready").then_some(()));
    lane.send(&exchange(kept, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), UNKNOWN);
    assert_eq!(scene.appliance.providers().counts().requests, 0);
    let (fresh, _) = ticket(&mut keeper, chat(scene.token.as_bytes()));
    lane.send(&exchange(fresh, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Whole(200));
    drop((keeper, lane));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}
