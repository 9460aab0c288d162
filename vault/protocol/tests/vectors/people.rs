//! What is said about people who sign in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use strongroom_protocol::ask::{Answer, Ask, FromGateway, ToGateway};
use strongroom_protocol::frame::{MAX_ASK_BYTES, MAX_OPERATOR_BYTES};
use strongroom_protocol::operator::people::{
    ImportedVerifier, Invitation, PeopleAnswer, PeopleRequest, PersonSession,
};
use strongroom_protocol::operator::{Answer as Told, Request};
use strongroom_protocol::person::{
    Agent, AttemptId, Challenge, Issued, Login, Me, NewVerifier, NotSignedIn, Pbkdf2, PersonAnswer,
    PersonAsk, Proof, SessionRow, Told as From, Which,
};

use crate::things::{id, label, moment, pick, secret};
use crate::{Vector, of_enum};

pub(crate) fn vectors() -> Vec<Vector> {
    let ask = |ask| FromGateway { number: 300, ask: Ask::Person(Box::new(ask)) };
    let answer =
        |answer| ToGateway::Answer { number: 300, answer: Answer::Person(Box::new(answer)) };
    [
        of_enum(asks(), ask_name, ask, MAX_ASK_BYTES),
        of_enum(answers(), answer_name, answer, MAX_ASK_BYTES),
        of_enum(requests(), request_name, Request::People, MAX_OPERATOR_BYTES),
        of_enum(told(), told_name, Told::People, MAX_OPERATOR_BYTES),
    ]
    .concat()
}

fn ask_name(ask: &PersonAsk) -> &'static str {
    match ask {
        PersonAsk::Begin { .. } => "ask.person.begin",
        PersonAsk::Finish { .. } => "ask.person.finish",
        PersonAsk::Look { .. } => "ask.person.look",
        PersonAsk::Sessions { .. } => "ask.person.sessions",
        PersonAsk::End { .. } => "ask.person.end",
        PersonAsk::BeginAgain { .. } => "ask.person.begin-again",
        PersonAsk::Change { .. } => "ask.person.change",
        PersonAsk::Invitation { .. } => "ask.person.invitation",
        PersonAsk::Redeem { .. } => "ask.person.redeem",
    }
}

pub(crate) fn from() -> From {
    From { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), agent: Agent::Firefox }
}

fn proof() -> Proof {
    let tag = || secret("0123456789abcdef0123456789abcdef");
    Proof { attempt: AttemptId([5; 16]), argon2id: tag(), pbkdf2: Some(tag()) }
}

fn new() -> NewVerifier {
    NewVerifier { salt: [3; 16], tag: secret("0123456789abcdef0123456789abcdef") }
}

fn session() -> strongroom_protocol::SecretBytes {
    secret("eyJhbGciOiJSUzI1NiJ9.e30.c2ln")
}

fn ticket() -> strongroom_protocol::SecretBytes {
    secret("sri_00000000000000000000000000000000000000000002CZclj")
}

pub(crate) fn asks() -> Vec<PersonAsk> {
    let elsewhere = From { address: IpAddr::V6(Ipv6Addr::LOCALHOST), agent: Agent::Tool };
    let login = |tenant| Login { tenant, name: label("alice") };
    vec![
        PersonAsk::Begin { login: login(None), from: from() },
        PersonAsk::Begin { login: login(Some(label("north"))), from: elsewhere },
        PersonAsk::Finish { proof: proof(), from: from() },
        PersonAsk::Look { session: session(), from: from() },
        PersonAsk::Sessions { session: session() },
        PersonAsk::End { session: session(), which: Which::One(id(4)) },
        PersonAsk::End { session: session(), which: Which::Others },
        PersonAsk::BeginAgain { session: session(), from: from() },
        PersonAsk::Change { session: session(), proof: proof(), new: new(), from: from() },
        PersonAsk::Invitation { ticket: ticket(), from: from() },
        PersonAsk::Redeem { ticket: ticket(), new: new(), from: from() },
    ]
}

fn answer_name(answer: &PersonAnswer) -> &'static str {
    match answer {
        PersonAnswer::Challenge(_) => "ask.answer.person.challenge",
        PersonAnswer::Session(_) => "ask.answer.person.session",
        PersonAnswer::Me(_) => "ask.answer.person.me",
        PersonAnswer::Sessions(_) => "ask.answer.person.sessions",
        PersonAnswer::Invited(_) => "ask.answer.person.invited",
        PersonAnswer::Done => "ask.answer.person.done",
        PersonAnswer::Refused { .. } => "ask.answer.person.refused",
    }
}

fn row() -> SessionRow {
    SessionRow {
        id: id(4),
        this: true,
        began: moment(1_700_000_000_000),
        seen: moment(1_700_000_900_000),
        ends: moment(1_701_209_600_000),
        told: from(),
    }
}

pub(crate) fn answers() -> Vec<PersonAnswer> {
    let issued = || Issued { text: session(), ends: moment(1_701_209_600_000) };
    let pbkdf2 = Pbkdf2 { salt: [2; 16], iterations: 100_000, idle: 20_000 };
    let challenge = Challenge { attempt: AttemptId([5; 16]), salt: [3; 16], pbkdf2: Some(pbkdf2) };
    let me = Me {
        name: label("alice"),
        session: id(4),
        ends: moment(1_701_209_600_000),
        renewed: Some(issued()),
    };
    vec![
        PersonAnswer::Challenge(challenge),
        PersonAnswer::Session(issued()),
        PersonAnswer::Me(me),
        PersonAnswer::Sessions(vec![row()]),
        PersonAnswer::Invited(label("alice")),
        PersonAnswer::Done,
        PersonAnswer::Refused { why: NotSignedIn::TooMany, retry_after_secs: Some(60) },
    ]
}

fn request_name(request: &PeopleRequest) -> &'static str {
    match request {
        PeopleRequest::Invite(_) => "operator.people.invite",
        PeopleRequest::Import(_) => "operator.people.import",
        PeopleRequest::Sessions(_) => "operator.people.sessions",
        PeopleRequest::Revoke(_) => "operator.people.revoke",
        PeopleRequest::RevokeAll(_) => "operator.people.revoke-all",
    }
}

pub(crate) fn requests() -> Vec<PeopleRequest> {
    let imported = ImportedVerifier {
        user: pick("alice"),
        salt: [2; 16],
        iterations: 100_000,
        hash: secret("0123456789abcdef0123456789abcdef"),
    };
    vec![
        PeopleRequest::Invite(pick("alice")),
        PeopleRequest::Import(Box::new(imported)),
        PeopleRequest::Sessions(None),
        PeopleRequest::Revoke(id(4)),
        PeopleRequest::RevokeAll(Some(pick("alice"))),
    ]
}

fn told_name(answer: &PeopleAnswer) -> &'static str {
    match answer {
        PeopleAnswer::Invitation(_) => "operator.answer.people.invitation",
        PeopleAnswer::Sessions(_) => "operator.answer.people.sessions",
        PeopleAnswer::Ended(_) => "operator.answer.people.ended",
    }
}

fn told() -> Vec<PeopleAnswer> {
    let invitation = Invitation {
        user: id(1),
        label: label("alice"),
        text: ticket(),
        public_url: "https://keys.example.org".to_owned(),
        expires: moment(1_700_086_400_000),
    };
    vec![
        PeopleAnswer::Invitation(Box::new(invitation)),
        PeopleAnswer::Sessions(vec![PersonSession {
            user: id(1),
            label: label("alice"),
            row: row(),
        }]),
        PeopleAnswer::Ended(3),
    ]
}
