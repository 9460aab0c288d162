//! People who sign in: what a gateway can ask for them, and what it cannot.

use std::net::{IpAddr, Ipv4Addr};

use strongroom_policy::moment::Moment;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Answer, Ask, FromGateway, ToGateway};
use strongroom_protocol::operator::people::{ImportedVerifier, PeopleAnswer, PeopleRequest};
use strongroom_protocol::operator::{Answer as Told, Pick, Request, UnsealWith};
use strongroom_protocol::person::{
    Agent, Challenge, Issued, Login, NewVerifier, NotSignedIn, PersonAnswer, PersonAsk, Proof,
    Told as From, Which,
};

use crate::keeper::{self, Door, Keeper};
use crate::{furnish, label, passphrase};

const RIGHT: [u8; 32] = [7; 32];
pub(crate) const WRONG: [u8; 32] = [8; 32];

/// The gateway's word for where somebody is.
fn at(host: u8) -> From {
    From { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), agent: Agent::Firefox }
}

/// One of very many such places.
pub(crate) fn at_number(number: u32) -> From {
    From { address: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)), agent: Agent::Other }
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::copy_from(bytes)
}

fn again(text: &SecretBytes) -> SecretBytes {
    text.expose(secret)
}

fn new(tag: [u8; 32]) -> NewVerifier {
    NewVerifier { salt: [3; 16], tag: secret(&tag) }
}

fn ask(gateway: &mut Door, ask: PersonAsk) -> PersonAnswer {
    gateway.send(&FromGateway { number: 9, ask: Ask::Person(Box::new(ask)) });
    heard(gateway)
}

fn heard(gateway: &mut Door) -> PersonAnswer {
    loop {
        match gateway.receive() {
            ToGateway::Answer { answer: Answer::Person(answer), .. } => return *answer,
            ToGateway::Answer { answer, .. } => panic!("{answer:?}"),
            ToGateway::Snapshot(_) => {}
        }
    }
}

pub(crate) fn refused(answer: PersonAnswer) -> NotSignedIn {
    match answer {
        PersonAnswer::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn begin(gateway: &mut Door, name: &str, from: From) -> Challenge {
    let login = Login { tenant: None, name: label(name) };
    match ask(gateway, PersonAsk::Begin { login, from }) {
        PersonAnswer::Challenge(challenge) => challenge,
        other => panic!("{other:?}"),
    }
}

/// Tries a password by what it was hashed to.
pub(crate) fn sign_in(gateway: &mut Door, name: &str, tag: [u8; 32], from: From) -> PersonAnswer {
    let challenge = begin(gateway, name, from);
    let proof = Proof { attempt: challenge.attempt, argon2id: secret(&tag), pbkdf2: None };
    ask(gateway, PersonAsk::Finish { proof, from })
}

fn signed_in(answer: PersonAnswer) -> SecretBytes {
    match answer {
        PersonAnswer::Session(Issued { text, .. }) => text,
        other => panic!("{other:?}"),
    }
}

fn look(gateway: &mut Door, session: &SecretBytes) -> PersonAnswer {
    ask(gateway, PersonAsk::Look { session: again(session), from: at(1) })
}

fn people(operator: &mut Door, request: PeopleRequest) -> PeopleAnswer {
    match operator.request(&Request::People(request)) {
        Told::People(answer) => answer,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn invite(operator: &mut Door, name: &str) -> SecretBytes {
    match people(operator, PeopleRequest::Invite(Pick(label(name)))) {
        PeopleAnswer::Invitation(made) => made.text,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn redeem(gateway: &mut Door, ticket: &SecretBytes, tag: [u8; 32]) -> PersonAnswer {
    ask(gateway, PersonAsk::Redeem { ticket: again(ticket), new: new(tag), from: at(1) })
}

/// A vault whose first person has a password.
pub(crate) fn stage() -> (Keeper, Door, Door) {
    let keeper = Keeper::start();
    furnish(&keeper);
    let (mut operator, mut gateway) = (keeper.operator(), keeper.ask());
    let ticket = invite(&mut operator, "ann");
    assert!(matches!(redeem(&mut gateway, &ticket, RIGHT), PersonAnswer::Done));
    (keeper, operator, gateway)
}

fn unseal(keeper: &Keeper) {
    let right = Request::Unseal(UnsealWith::Passphrase(passphrase()));
    let told = keeper.operator().request(&right);
    assert!(matches!(told, Told::Unsealed), "{told:?}");
}

#[test]
fn an_invitation_becomes_a_password_a_session_and_an_end() {
    let (mut keeper, _operator, mut gateway) = stage();
    let session = signed_in(sign_in(&mut gateway, "ann", RIGHT, at(1)));
    let PersonAnswer::Me(me) = look(&mut gateway, &session) else { panic!("it counts") };
    assert_eq!((me.name, me.renewed.is_none()), (label("ann"), true));
    let other = signed_in(sign_in(&mut gateway, "ann", RIGHT, at(2)));
    let all = ask(&mut gateway, PersonAsk::Sessions { session: again(&other) });
    let PersonAnswer::Sessions(rows) = all else { panic!("{all:?}") };
    assert_eq!(rows.iter().filter(|row| row.this).map(|row| row.told).collect::<Vec<_>>(), [at(2)]);
    assert_eq!(rows.len(), 2);
    // It outlives the process, and nothing of it is on the disk.
    keeper.kill_and_start();
    unseal(&keeper);
    let mut gateway = keeper.ask();
    assert!(matches!(look(&mut gateway, &session), PersonAnswer::Me(_)));
    session.expose(|text| {
        let signature = text.rsplit(|byte| *byte == b'.').next().unwrap();
        keeper::each_file(&keeper.data(), &mut |path, bytes| {
            let found = bytes.windows(signature.len()).any(|window| window == signature);
            assert!(!found, "a session lies in {}", path.display());
        });
    });
    let which = Which::One(me.session);
    let end = PersonAsk::End { session: again(&other), which };
    assert!(matches!(ask(&mut gateway, end), PersonAnswer::Done));
    assert_eq!(refused(look(&mut gateway, &session)), NotSignedIn::Session);
    let end = PersonAsk::End { session: again(&other), which };
    assert_eq!(refused(ask(&mut gateway, end)), NotSignedIn::OtherSession);
    // There are no others: nothing is ended, nor written.
    let end = PersonAsk::End { session: again(&other), which: Which::Others };
    assert!(matches!(ask(&mut gateway, end), PersonAnswer::Done));
    let end = PersonAsk::End { session: again(&other), which: Which::This };
    assert!(matches!(ask(&mut gateway, end), PersonAnswer::Done));
    assert_eq!(refused(look(&mut gateway, &other)), NotSignedIn::Session);
    for (act, count) in [("person.sign-in", 2), ("person.session-end", 2), ("user.invite", 1)] {
        assert_eq!(keeper.acts(act), count, "{act}");
    }
}

// Red when an invitation is looked at before it is its redeemer's turn.
#[test]
fn of_fifty_who_redeem_one_invitation_one_sets_a_password() {
    let (_keeper, mut operator, mut gateway) = stage();
    let ticket = invite(&mut operator, "ann");
    for number in 0..50_u8 {
        let ticket = again(&ticket);
        let ask = PersonAsk::Redeem { ticket, new: new([number; 32]), from: at(number) };
        gateway.send(&FromGateway { number: u64::from(number), ask: Ask::Person(Box::new(ask)) });
    }
    let answers: Vec<PersonAnswer> = (0..50).map(|_| heard(&mut gateway)).collect();
    let done = answers.iter().filter(|answer| matches!(answer, PersonAnswer::Done)).count();
    assert_eq!(done, 1);
    for answer in answers {
        if let PersonAnswer::Refused { why, .. } = answer {
            assert_eq!(why, NotSignedIn::Invitation);
        }
    }
    // The password before it is gone with it.
    assert_eq!(refused(sign_in(&mut gateway, "ann", RIGHT, at(99))), NotSignedIn::SignIn);
    // Another invitation ends the one before.
    let first = invite(&mut operator, "ann");
    let second = invite(&mut operator, "ann");
    assert_eq!(refused(redeem(&mut gateway, &first, RIGHT)), NotSignedIn::Invitation);
    assert!(matches!(redeem(&mut gateway, &second, RIGHT), PersonAnswer::Done));
}

// Red when failures are kept in memory alone, or a try is judged while the password rests.
#[test]
fn failures_are_counted_across_a_restart_and_a_right_password_waits_too() {
    let (mut keeper, _operator, mut gateway) = stage();
    let mut host = 10;
    // What is tried while it rests is refused alike and not counted.
    let mut fail = |keeper: &Keeper, gateway: &mut Door, count: usize| {
        keeper::until(|| {
            host += 1;
            assert_eq!(refused(sign_in(gateway, "ann", WRONG, at(host))), NotSignedIn::SignIn);
            std::thread::sleep(std::time::Duration::from_millis(100));
            keeper.acts("person.refused") >= count
        });
    };
    for count in 1..=6 {
        fail(&keeper, &mut gateway, count);
    }
    keeper.kill_and_start();
    unseal(&keeper);
    let mut gateway = keeper.ask();
    fail(&keeper, &mut gateway, 7);
    // Ten seconds now.
    assert_eq!(refused(sign_in(&mut gateway, "ann", RIGHT, at(1))), NotSignedIn::SignIn);
    keeper::until(|| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        host = host.wrapping_add(1);
        matches!(sign_in(&mut gateway, "ann", RIGHT, at(host)), PersonAnswer::Session(_))
    });
    // A success took them back.
    for _ in 0..3 {
        assert_eq!(refused(sign_in(&mut gateway, "ann", WRONG, at(2))), NotSignedIn::SignIn);
    }
    signed_in(sign_in(&mut gateway, "ann", RIGHT, at(3)));
}

#[test]
fn a_network_that_fails_ten_times_a_minute_waits_whoever_it_tries() {
    let (_keeper, _operator, mut gateway) = stage();
    for number in 0..10 {
        let name = format!("nobody {number}");
        assert_eq!(refused(sign_in(&mut gateway, &name, WRONG, at(1))), NotSignedIn::SignIn);
    }
    let login = Login { tenant: None, name: label("ann") };
    match ask(&mut gateway, PersonAsk::Begin { login, from: at(1) }) {
        PersonAnswer::Refused { why: NotSignedIn::TooMany, retry_after_secs: Some(secs) } => {
            assert!((1..=60).contains(&secs), "{secs}");
        }
        other => panic!("{other:?}"),
    }
    signed_in(sign_in(&mut gateway, "ann", RIGHT, at(2)));
}

// Red when an attempt stays, or a name that nobody has is told apart.
#[test]
fn a_captured_gateway_makes_no_session_and_keeps_none() {
    let (keeper, mut operator, mut gateway) = stage();
    let session = signed_in(sign_in(&mut gateway, "ann", RIGHT, at(1)));
    // A text with any other byte is none, whatever its head says.
    session.expose(|text| {
        let parts: Vec<&[u8]> = text.split(|byte| *byte == b'.').collect();
        let none = [b"eyJhbGciOiJub25lIn0", parts[1], b""].join(&b'.');
        let cut = text[..text.len() - 1].to_vec();
        let longer = [text, b"A"].concat();
        let mut flipped = text.to_vec();
        flipped[60] ^= 1;
        for forged in [none, cut, longer, flipped, vec![b'a'; 16_000], Vec::new()] {
            assert_eq!(refused(look(&mut gateway, &secret(&forged))), NotSignedIn::Session);
        }
    });
    // An attempt is spent by its end, of whatever kind.
    let challenge = begin(&mut gateway, "ann", at(1));
    let proof =
        |tag: [u8; 32]| Proof { attempt: challenge.attempt, argon2id: secret(&tag), pbkdf2: None };
    let finish = |tag| PersonAsk::Finish { proof: proof(tag), from: at(1) };
    assert_eq!(refused(ask(&mut gateway, finish(WRONG))), NotSignedIn::SignIn);
    assert_eq!(refused(ask(&mut gateway, finish(RIGHT))), NotSignedIn::Attempt);
    // A challenge says nothing of whom it is for, and the same each time.
    let (known, nobody) = (begin(&mut gateway, "ann", at(1)), begin(&mut gateway, "eve", at(1)));
    assert_eq!((known.pbkdf2, nobody.pbkdf2), (None, None));
    assert_eq!(begin(&mut gateway, "eve", at(1)).salt, nobody.salt);
    assert_ne!(begin(&mut gateway, "eva", at(1)).salt, nobody.salt);
    // The proof of one attempt changes no password without a session, nor another person's.
    let challenge = begin(&mut gateway, "ann", at(1));
    let proof = Proof { attempt: challenge.attempt, argon2id: secret(&RIGHT), pbkdf2: None };
    let change =
        PersonAsk::Change { session: again(&session), proof, new: new(WRONG), from: at(1) };
    assert_eq!(refused(ask(&mut gateway, change)), NotSignedIn::Attempt);
    // Whoever is disabled has no session at the next question, and gets none back.
    assert!(matches!(operator.request(&Request::UserDisable(Pick(label("ann")))), Told::Done));
    assert_eq!(refused(look(&mut gateway, &session)), NotSignedIn::Session);
    assert_eq!(refused(sign_in(&mut gateway, "ann", RIGHT, at(1))), NotSignedIn::SignIn);
    assert!(matches!(operator.request(&Request::UserEnable(Pick(label("ann")))), Told::Done));
    assert_eq!(refused(look(&mut gateway, &session)), NotSignedIn::Session);
    let session = signed_in(sign_in(&mut gateway, "ann", RIGHT, at(1)));
    let ended = people(&mut operator, PeopleRequest::RevokeAll(None));
    assert!(matches!(ended, PeopleAnswer::Ended(1)), "{ended:?}");
    assert_eq!(refused(look(&mut gateway, &session)), NotSignedIn::Session);
    assert_eq!(keeper.acts("session.revoke-all"), 2);
}

#[test]
fn a_new_password_wants_the_old_one_and_ends_every_session() {
    let (_keeper, mut operator, mut gateway) = stage();
    let ticket = invite(&mut operator, "ann");
    let other = signed_in(sign_in(&mut gateway, "ann", RIGHT, at(1)));
    let session = signed_in(sign_in(&mut gateway, "ann", RIGHT, at(1)));
    let change = |gateway: &mut Door, old: [u8; 32]| {
        let begin = PersonAsk::BeginAgain { session: again(&session), from: at(1) };
        let PersonAnswer::Challenge(challenge) = ask(gateway, begin) else { panic!("it counts") };
        let proof = Proof { attempt: challenge.attempt, argon2id: secret(&old), pbkdf2: None };
        let session = again(&session);
        ask(gateway, PersonAsk::Change { session, proof, new: new([9; 32]), from: at(1) })
    };
    assert_eq!(refused(change(&mut gateway, WRONG)), NotSignedIn::SignIn);
    let next = signed_in(change(&mut gateway, RIGHT));
    for gone in [&other, &session] {
        assert_eq!(refused(look(&mut gateway, gone)), NotSignedIn::Session);
    }
    assert!(matches!(look(&mut gateway, &next), PersonAnswer::Me(_)));
    assert_eq!(refused(sign_in(&mut gateway, "ann", RIGHT, at(1))), NotSignedIn::SignIn);
    // Whoever had caught the invitation is too late.
    assert_eq!(refused(redeem(&mut gateway, &ticket, [8; 32])), NotSignedIn::Invitation);
    signed_in(sign_in(&mut gateway, "ann", [9; 32], at(1)));
}

// Red when an imported verifier stays beside its successor.
#[test]
fn an_imported_password_is_ours_after_one_sign_in() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let (mut operator, mut gateway) = (keeper.operator(), keeper.ask());
    let import = |iterations| {
        let user = Pick(label("ann"));
        let imported = ImportedVerifier { user, salt: [4; 16], iterations, hash: secret(&WRONG) };
        Request::People(PeopleRequest::Import(Box::new(imported)))
    };
    for bad in [99_999, 2_000_001] {
        let Told::Failed(fault) = operator.request(&import(bad)) else { panic!("{bad}") };
        assert_eq!(fault.code, "SR-IMPORT-001");
    }
    assert!(matches!(operator.request(&import(100_000)), Told::Done));
    let Told::Failed(fault) = operator.request(&import(100_000)) else { panic!("twice") };
    assert_eq!(fault.code, "SR-IMPORT-002");
    // Whoever is tried, the work is the same while one of them is there.
    let (known, nobody) = (begin(&mut gateway, "ann", at(1)), begin(&mut gateway, "eve", at(1)));
    let (known_old, nobody_old) = (known.pbkdf2.unwrap(), nobody.pbkdf2.unwrap());
    assert_eq!((known_old.salt, known_old.iterations, known_old.idle), ([4; 16], 100_000, 0));
    assert_eq!((nobody_old.iterations, nobody_old.idle), (100_000, 0));
    let finish = |attempt, new: [u8; 32], old: Option<[u8; 32]>| {
        let pbkdf2 = old.map(|old| secret(&old));
        let proof = Proof { attempt, argon2id: secret(&new), pbkdf2 };
        PersonAsk::Finish { proof, from: at(1) }
    };
    // Argon2id's tag alone is no proof against an imported verifier, not even its own bytes.
    let attempt = begin(&mut gateway, "ann", at(1)).attempt;
    assert_eq!(refused(ask(&mut gateway, finish(attempt, WRONG, None))), NotSignedIn::SignIn);
    signed_in(ask(&mut gateway, finish(known.attempt, RIGHT, Some(WRONG))));
    let after = begin(&mut gateway, "ann", at(1));
    assert_eq!((after.salt, after.pbkdf2), (known.salt, None));
    assert_eq!(
        refused(ask(&mut gateway, finish(after.attempt, WRONG, Some(WRONG)))),
        NotSignedIn::SignIn
    );
    signed_in(sign_in(&mut gateway, "ann", RIGHT, at(1)));
}

#[test]
fn a_person_who_is_deleted_leaves_nothing_and_the_vault_opens_again() {
    let (mut keeper, mut operator, mut gateway) = stage();
    let session = signed_in(sign_in(&mut gateway, "ann", RIGHT, at(1)));
    assert_eq!(refused(sign_in(&mut gateway, "ann", WRONG, at(1))), NotSignedIn::SignIn);
    invite(&mut operator, "ann");
    let delete = |deletion| Request::UserDelete(Pick(label("ann")), deletion);
    let counted = operator.request(&delete(strongroom_protocol::operator::keys::Deletion::Count));
    let Told::Counted(counted) = counted else { panic!("{counted:?}") };
    let perform = strongroom_protocol::operator::keys::Deletion::Perform(counted.dependents);
    let deleted = operator.request(&delete(perform));
    assert!(matches!(deleted, Told::Deleted(_)), "{deleted:?}");
    assert_eq!(refused(look(&mut gateway, &session)), NotSignedIn::Session);
    keeper.kill_and_start();
    unseal(&keeper);
    let mut gateway = keeper.ask();
    assert_eq!(refused(look(&mut gateway, &session)), NotSignedIn::Session);
    assert_eq!(refused(sign_in(&mut gateway, "ann", RIGHT, at(1))), NotSignedIn::SignIn);
}

#[test]
fn a_gateway_hears_what_verifies_sessions_and_a_sealed_vault_has_none() {
    let (keeper, mut operator, mut gateway) = stage();
    let issued = ask_session(&mut gateway);
    assert!(issued.ends > Moment::from_unix_millis(0));
    let mut fresh = keeper.ask();
    let ToGateway::Snapshot(snapshot) = fresh.receive() else { panic!("it comes first") };
    let key = snapshot.session_key.unwrap();
    assert_eq!((key.modulus.len(), key.exponent.as_slice()), (384, &[1, 0, 1][..]));
    assert!(matches!(operator.request(&Request::Seal), Told::Done));
    assert_eq!(refused(look(&mut gateway, &issued.text)), NotSignedIn::Sealed);
    let ToGateway::Snapshot(snapshot) = keeper.ask().receive() else { panic!("it comes first") };
    assert_eq!(snapshot.session_key, None);
}

fn ask_session(gateway: &mut Door) -> Issued {
    match sign_in(gateway, "ann", RIGHT, at(1)) {
        PersonAnswer::Session(issued) => issued,
        other => panic!("{other:?}"),
    }
}
