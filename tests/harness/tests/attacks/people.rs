//! A captured gateway and people who sign in: it has heard anna's password and session, and nothing of ben's.
//!
//! Invariant: it acts for whoever presented a proof while it was captured, until that is taken back, and for nobody else.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use strongroom_policy::id::SessionId;
use strongroom_policy::name::Label;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Answer, Ask, FromGateway};
use strongroom_protocol::person::{
    Agent, Issued, Login, NewVerifier, NotSignedIn, PersonAnswer, PersonAsk, Proof, Told, Which,
};
use strongroom_protocol::token::write_invitation;
use strongroom_tests::captured::Door;
use strongroom_tests::dice::Dice;
use strongroom_tests::speak::Request;
use strongroom_tests::{Appliance, Part};

use crate::scene::Scene;
use crate::speech::{answered, ask as ask_call, asking, chat, refusal};

/// Guesses of a password's hash, each from an address of its own making.
const GUESSES: usize = 60;

fn at(number: usize) -> Told {
    let number = u32::try_from(number).expect("it is small");
    Told { address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)), agent: Agent::Other }
}

fn ask(door: &mut Door, ask: PersonAsk) -> PersonAnswer {
    let said = FromGateway { number: 3, ask: Ask::Person(Box::new(ask)) };
    door.say(&said).expect("the keeper reads");
    match answered(door) {
        Some((3, Answer::Person(answer))) => *answer,
        other => panic!("{other:?}"),
    }
}

fn refused(answer: PersonAnswer) -> NotSignedIn {
    match answer {
        PersonAnswer::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn tries(door: &mut Door, name: &str, tag: &[u8], from: Told) -> PersonAnswer {
    let login = Login { tenant: None, name: Label::parse(name).expect("a name") };
    let PersonAnswer::Challenge(challenge) = ask(door, PersonAsk::Begin { login, from }) else {
        panic!("every name has a challenge")
    };
    let argon2id = SecretBytes::copy_from(tag);
    let proof = Proof { attempt: challenge.attempt, argon2id, pbkdf2: None };
    ask(door, PersonAsk::Finish { proof, from })
}

fn invite(appliance: &Appliance, name: &str) -> SecretBytes {
    let told = appliance.json(&["user", "invite", name], b"");
    SecretBytes::copy_from(told["invitation"].as_str().expect("a ticket").as_bytes())
}

fn redeem(door: &mut Door, ticket: SecretBytes, tag: &[u8]) -> PersonAnswer {
    let new = NewVerifier { salt: [1; 16], tag: SecretBytes::copy_from(tag) };
    ask(door, PersonAsk::Redeem { ticket, new, from: at(0) })
}

fn look(door: &mut Door, session: &SecretBytes) -> PersonAnswer {
    ask(door, PersonAsk::Look { session: session.expose(SecretBytes::copy_from), from: at(0) })
}

#[test]
fn a_captured_gateway_signs_in_whom_it_heard_and_nobody_else() {
    let scene = Scene::set();
    let (annas, bens) = ([1_u8; 32], [2_u8; 32]);
    let tickets = ["anna", "ben"].map(|name| invite(&scene.appliance, name));
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let (mut door, mut dice) = (asking(&captured), Dice::new());
    for (ticket, tag) in tickets.into_iter().zip([annas, bens]) {
        assert!(matches!(redeem(&mut door, ticket, &tag), PersonAnswer::Done));
    }
    let heard = tries(&mut door, "anna", &annas, at(1));
    let PersonAnswer::Session(Issued { text, ends }) = heard else { panic!("{heard:?}") };
    // Ben: guessed from ever new addresses, which help nothing, since his own count rests; then the right one too.
    for number in 0..GUESSES {
        let guess = [dice.bytes(), dice.bytes()].concat();
        assert_eq!(refused(tries(&mut door, "ben", &guess, at(100 + number))), NotSignedIn::SignIn);
    }
    let counted = scene.count("person");
    assert!(counted < GUESSES / 2, "while it rests nothing counts: {counted}");
    // Anna's hash is no proof of ben's, and an invitation that nobody made is none.
    assert_eq!(refused(tries(&mut door, "ben", &annas, at(2))), NotSignedIn::SignIn);
    let guess = write_invitation(&[9; 32]);
    assert_eq!(refused(redeem(&mut door, guess, &annas)), NotSignedIn::Invitation);
    // A session is no token, and no session's end is moved by using it.
    let call = text.expose(chat);
    assert_eq!(refusal(&ask_call(&mut door, call)), Refusal::TokenInvalid);
    for _ in 0..20 {
        let PersonAnswer::Me(me) = look(&mut door, &text) else { panic!("it counts") };
        assert_eq!((me.ends, me.name.as_ref()), (ends, "anna"));
    }
    // Of a session it ends its person's own alone.
    let end = |which| PersonAsk::End { session: text.expose(SecretBytes::copy_from), which };
    let foreign = SessionId::from_random(dice.bytes());
    assert_eq!(refused(ask(&mut door, end(Which::One(foreign)))), NotSignedIn::OtherSession);
    // What is revoked stays so, however often it is shown.
    scene.appliance.cli(&["session", "revoke-all", "--user", "anna", "--yes"], b"").ok();
    for _ in 0..20 {
        assert_eq!(refused(look(&mut door, &text)), NotSignedIn::Session);
    }
    assert_eq!(refused(ask(&mut door, end(Which::All))), NotSignedIn::Session);
    // One invitation, fifty redeemers: one sets a password.
    let ticket = invite(&scene.appliance, "anna");
    for number in 0..50 {
        let ticket = ticket.expose(SecretBytes::copy_from);
        let new = NewVerifier { salt: [1; 16], tag: SecretBytes::copy_from(&[3; 32]) };
        let ask = PersonAsk::Redeem { ticket, new, from: at(200 + number) };
        let said = FromGateway { number: 3, ask: Ask::Person(Box::new(ask)) };
        door.say(&said).expect("the keeper reads");
    }
    let mut done = 0;
    for _ in 0..50 {
        match answered(&mut door) {
            Some((_, Answer::Person(answer))) => {
                done += usize::from(matches!(*answer, PersonAnswer::Done));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done, 1);
    drop(door);
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
    // Behind it an honest gateway still tells who is not signed in.
    let wrong =
        Request::post("/api/v1/sign-in", &json!({"login": "ben", "password": "no words of his"}));
    scene.appliance.gate().call(&wrong).is(401);
}
