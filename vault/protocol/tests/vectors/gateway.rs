//! What is said on `ask.sock`, `errand.sock` and `call.sock`.

use strongroom_policy::claims::Length;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::provider::Origin;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method, PathPattern};
use strongroom_protocol::ask::{
    Answer, Ask, CallAsk, FromGateway, Refused, Route, RoutePath, Snapshot, Ticket, ToGateway,
    VaultState,
};
use strongroom_protocol::call::{Abort, AnswerHead, CallHead, FrameHeader, FrameKind};
use strongroom_protocol::errand::{
    Deadlines, Ending, Errand, FromCourier, Outcome, Probed, Recall, ToCourier,
};
use strongroom_protocol::frame::{MAX_ASK_BYTES, MAX_ERRAND_BYTES};
use strongroom_protocol::person::SessionKey;
use strongroom_protocol::usage::Usage;
use strongroom_protocol::{call, frame};

use crate::budgets::warning;
use crate::things::{betas, claims, destination, id, label, outcome, provider, secret, target};
use crate::{Vector, of_enum, people};

const TICKET: Ticket = Ticket([7; 16]);

pub(crate) fn vectors() -> Vec<Vector> {
    let wrap_ask = |ask| FromGateway { number: 300, ask };
    let wrap_answer = |answer| ToGateway::Answer { number: 300, answer };
    let same_gateway = |message: ToGateway| message;
    let same_courier = |message: FromCourier| message;
    let same_errand = |message: ToCourier| message;
    let to_gateway = vec![wrap_answer(Answer::Identified), ToGateway::Snapshot(snapshot())];
    [
        of_enum(asks(), ask_name, wrap_ask, MAX_ASK_BYTES),
        of_enum(to_gateway, to_gateway_name, same_gateway, MAX_ASK_BYTES),
        of_enum(answers(), answer_name, wrap_answer, MAX_ASK_BYTES),
        of_enum(from_courier(), from_courier_name, same_courier, MAX_ERRAND_BYTES),
        of_enum(to_courier(), to_courier_name, same_errand, MAX_ERRAND_BYTES),
        of_enum(recalls(), recall_name, ToCourier::Recall, MAX_ERRAND_BYTES),
        call_frames(),
    ]
    .concat()
}

fn ask_name(ask: &Ask) -> &'static str {
    match ask {
        Ask::Identify { .. } => "ask.identify",
        Ask::Call(_) => "ask.call",
        Ask::Person(_) => "ask.person",
    }
}

fn asks() -> Vec<Ask> {
    let call = CallAsk {
        proof: secret("sr_00000000000000000000000000000000000000000000SQjCX"),
        provider: provider(),
        choice: Some(label("team key")),
        method: Method::Post,
        target: target(),
        betas: betas(),
        claims: claims(),
        length: Length::Known(512),
    };
    let proof = secret("sr_00000000000000000000000000000000000000000000SQjCX");
    let person = people::asks().swap_remove(0);
    vec![
        Ask::Identify { proof, provider: provider() },
        Ask::Call(Box::new(call)),
        Ask::Person(Box::new(person)),
    ]
}

fn to_gateway_name(message: &ToGateway) -> &'static str {
    match message {
        ToGateway::Answer { .. } => "ask.answer",
        ToGateway::Snapshot(_) => "ask.snapshot",
    }
}

fn snapshot() -> Snapshot {
    let path = RoutePath {
        method: Method::Get,
        pattern: PathPattern::parse("/v1/models/{model}").unwrap(),
        body: BodyKind::Empty,
    };
    let route = Route {
        name: provider(),
        origin: Origin::Operator,
        dialect: Dialect::OpenAi,
        paths: vec![path],
    };
    let session_key = SessionKey {
        kid: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs".to_owned(),
        modulus: vec![0xc5; 4],
        exponent: vec![1, 0, 1],
    };
    Snapshot {
        version: 3,
        state: VaultState::Ready,
        providers: vec![route],
        session_key: Some(session_key),
    }
}

fn answer_name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Identified => "ask.answer.identified",
        Answer::Admitted { .. } => "ask.answer.admitted",
        Answer::Refused(_) => "ask.answer.refused",
        Answer::Person(_) => "ask.answer.person",
    }
}

fn answers() -> Vec<Answer> {
    let refused = Refused {
        refusal: Refusal::CredentialAmbiguous,
        call: Some(id(9)),
        about: Some("mine, team key".to_owned()),
        retry_after_secs: Some(2),
    };
    vec![
        Answer::Identified,
        Answer::Admitted { ticket: TICKET, call: id(9), budget: None },
        Answer::Admitted { ticket: TICKET, call: id(9), budget: Some(warning()) },
        Answer::Refused(refused),
        Answer::Person(Box::new(people::answers().swap_remove(0))),
    ]
}

fn from_courier_name(message: &FromCourier) -> &'static str {
    match message {
        FromCourier::Redeem(_) => "errand.redeem",
        FromCourier::Outcome(_) => "errand.outcome",
        FromCourier::Probed(_) => "errand.probed",
    }
}

fn from_courier() -> Vec<FromCourier> {
    let aborted = Outcome {
        status: None,
        ending: Ending::Aborted(Refusal::ProviderTls),
        usage: Usage::default(),
        first_byte: None,
        ..outcome()
    };
    let probed = Probed { call: id(9), text: "{\"data\":[]}".to_owned() };
    vec![
        FromCourier::Redeem(TICKET),
        FromCourier::Outcome(Box::new(outcome())),
        FromCourier::Outcome(Box::new(aborted)),
        FromCourier::Probed(Box::new(probed)),
    ]
}

fn to_courier_name(message: &ToCourier) -> &'static str {
    match message {
        ToCourier::Errand { .. } => "errand.errand",
        ToCourier::Refused { .. } => "errand.refused",
        ToCourier::Probe(_) => "errand.probe",
        ToCourier::Recall(_) => "errand.recall",
    }
}

fn to_courier() -> Vec<ToCourier> {
    vec![
        ToCourier::Errand { ticket: TICKET, errand: Box::new(errand(Deadlines::USUAL)) },
        ToCourier::Refused { ticket: TICKET, refusal: Refusal::TicketUnknown },
        ToCourier::Probe(Box::new(errand(Deadlines::PROBE))),
        ToCourier::Recall(Recall::All),
    ]
}

fn errand(deadlines: Deadlines) -> Errand {
    Errand {
        call: id(9),
        credential: id(8),
        credential_version: 2,
        destination: destination(),
        secret: secret("sk-test-0123456789abcdef"),
        method: Method::Post,
        target: target(),
        dialect: Dialect::OpenAi,
        body: BodyKind::Json,
        claims: claims(),
        length: Length::Chunked,
        betas: betas(),
        idempotency_tag: secret("0123456789abcdef0123456789abcdef"),
        public_prefix: "https://keys.example.org/openai".to_owned(),
        deadlines,
    }
}

fn recall_name(recall: &Recall) -> &'static str {
    match recall {
        Recall::Calls(_) => "errand.recall.calls",
        Recall::All => "errand.recall.all",
    }
}

fn recalls() -> Vec<Recall> {
    vec![Recall::Calls(vec![id(9), id(10)]), Recall::All]
}

const fn frame_name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Head => "call.head",
        FrameKind::Body => "call.body",
        FrameKind::BodyEnd => "call.body-end",
        FrameKind::Cancel => "call.cancel",
        FrameKind::Answer => "call.answer",
        FrameKind::Chunk => "call.chunk",
        FrameKind::End => "call.end",
        FrameKind::Abort => "call.abort",
    }
}

fn call_frames() -> Vec<Vector> {
    let headers =
        || vec![("content-type".to_owned(), "application/json".to_owned()), pair("accept", "*/*")];
    let head = CallHead { ticket: TICKET, headers: headers(), length: Length::Known(2) };
    let answer = AnswerHead { status: 200, headers: headers(), length: None };
    let abort = Abort { refusal: Refusal::ProviderBroken };
    let frames = [
        (FrameKind::Head, call::encode(FrameKind::Head, &head).unwrap()),
        (FrameKind::Body, raw(FrameKind::Body, b"{}")),
        (FrameKind::BodyEnd, raw(FrameKind::BodyEnd, b"")),
        (FrameKind::Cancel, raw(FrameKind::Cancel, b"")),
        (FrameKind::Answer, call::encode(FrameKind::Answer, &answer).unwrap()),
        (FrameKind::Chunk, raw(FrameKind::Chunk, b"data: {}\n\n")),
        (FrameKind::End, raw(FrameKind::End, b"")),
        (FrameKind::Abort, call::encode(FrameKind::Abort, &abort).unwrap()),
    ];
    let known = (0..=u8::MAX).filter(|byte| FrameHeader::parse([*byte, 0, 0, 0]).is_ok());
    let given: Vec<u8> = frames.iter().map(|(_, frame)| frame[0]).collect();
    assert_eq!(given, known.collect::<Vec<u8>>(), "a kind of frame has no vector");
    for (kind, frame) in &frames {
        let (header, payload) = frame.split_first_chunk().unwrap();
        let header = FrameHeader::parse(*header).unwrap();
        assert_eq!((header.kind, header.length), (*kind, payload.len()));
    }
    assert_eq!(frame::decode::<CallHead>(&frames[0].1[4..]).unwrap().headers, head.headers);
    assert_eq!(frame::decode::<AnswerHead>(&frames[4].1[4..]).unwrap().headers, answer.headers);
    assert_eq!(frame::decode::<Abort>(&frames[7].1[4..]).unwrap(), abort);
    frames.into_iter().map(|(kind, frame)| (frame_name(kind).to_owned(), frame)).collect()
}

fn raw(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    [&FrameHeader::bytes(kind, payload.len()).unwrap()[..], payload].concat()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
