//! What a gateway says to keeper and courier: good messages, from which the attacks depart.
//!
//! Invariant: said as it is here, each is answered as an honest gateway's is.

use strongroom_policy::claims::{Claims, Features, Length, Stream};
use strongroom_policy::id::CallId;
use strongroom_policy::name::{ModelName, ProviderName};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::Method;
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Answer, Ask, CallAsk, FromGateway, Ticket, ToGateway};
use strongroom_protocol::call::{
    self, Abort, AnswerHead, CallHead, FrameHeader, FrameKind, encode,
};
use strongroom_protocol::frame;
use strongroom_tests::captured::{Captured, Door, Socket};

/// The body that [`chat`] is about.
pub(crate) const BODY: &[u8] =
    br#"{"model":"m","messages":[{"role":"user","content":"hello there"}]}"#;
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) fn provider(name: &str) -> ProviderName {
    ProviderName::parse(name).expect("a name")
}

pub(crate) fn identify(number: u64, token: &[u8], name: &str) -> FromGateway {
    let ask = Ask::Identify { proof: SecretBytes::copy_from(token), provider: provider(name) };
    FromGateway { number, ask }
}

/// A call of a chat whose body is [`BODY`].
pub(crate) fn chat(token: &[u8]) -> CallAsk {
    CallAsk {
        proof: SecretBytes::copy_from(token),
        provider: provider("openai"),
        choice: None,
        method: Method::Post,
        target: Target::parse("/v1/chat/completions").expect("a target"),
        betas: Vec::new(),
        claims: Claims {
            model: Some(ModelName::parse("m").expect("a name")),
            max_output: None,
            answers: 1,
            stream: Stream::Whole,
            features: Features::NONE,
            extent: strongroom_policy::claims::Extent::Text,
        },
        length: Length::Known(BODY.len() as u64),
    }
}

/// A conversation with the keeper, past its first snapshot.
pub(crate) fn asking(captured: &Captured<'_>) -> Door {
    let mut door = captured.open(Socket::Ask);
    let first = door.heard().expect("the keeper says how it is");
    assert!(matches!(frame::decode(&first), Ok(ToGateway::Snapshot(_))));
    door
}

/// The next answer; snapshots are passed over. `None` when the keeper has ended the conversation.
pub(crate) fn answered(door: &mut Door) -> Option<(u64, Answer)> {
    loop {
        match frame::decode(&door.heard()?).expect("the keeper speaks the protocol") {
            ToGateway::Answer { number, answer } => return Some((number, answer)),
            ToGateway::Snapshot(_) => {}
        }
    }
}

/// Asks for a call, and has its answer.
pub(crate) fn ask(door: &mut Door, call: CallAsk) -> Answer {
    door.say(&FromGateway { number: 7, ask: Ask::Call(Box::new(call)) }).expect("the keeper reads");
    let (number, answer) = answered(door).expect("the keeper answers");
    assert_eq!(number, 7);
    answer
}

/// A ticket for a call that must be admitted.
#[track_caller]
pub(crate) fn ticket(door: &mut Door, call: CallAsk) -> (Ticket, CallId) {
    match ask(door, call) {
        Answer::Admitted { ticket, call, budget: _ } => (ticket, call),
        other => panic!("not admitted: {other:?}"),
    }
}

/// The refusal of a call that must be refused.
#[track_caller]
pub(crate) fn refusal(answer: &Answer) -> Refusal {
    match answer {
        Answer::Refused(refused) => refused.refusal,
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) fn head(ticket: Ticket, headers: &[(&str, &str)], length: Length) -> Vec<u8> {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let head = CallHead { ticket, headers: headers.collect(), length };
    encode(FrameKind::Head, &head).expect("it fits a frame")
}

pub(crate) fn frame_of(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader::bytes(kind, payload.len()).expect("it fits a frame");
    [&header, payload].concat()
}

/// A whole exchange of a lane as it goes out.
pub(crate) fn exchange(ticket: Ticket, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut all = head(ticket, headers, Length::Known(BODY.len() as u64));
    for piece in body.chunks(call::MAX_PAYLOAD_BYTES) {
        all.extend(frame_of(FrameKind::Body, piece));
    }
    all.extend(frame_of(FrameKind::BodyEnd, b""));
    all
}

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a whole answer of this status.
    Whole(u16),
    /// With a refusal, after an answer's head of this status if any.
    Aborted(Refusal),
    /// The courier closed the lane.
    Closed,
}

/// Reads a lane to the courier's terminal frame.
pub(crate) fn ended(lane: &mut Door) -> Ended {
    let mut status = 0;
    loop {
        let Some((kind, payload)) = lane.frame() else { return Ended::Closed };
        match kind {
            FrameKind::Answer => {
                let head: AnswerHead = call::decode(&payload).expect("an answer's head");
                status = head.status;
            }
            FrameKind::Chunk => {}
            FrameKind::End => return Ended::Whole(status),
            FrameKind::Abort => {
                let abort: Abort = call::decode(&payload).expect("an abort");
                return Ended::Aborted(abort.refusal);
            }
            FrameKind::Head | FrameKind::Body | FrameKind::BodyEnd | FrameKind::Cancel => {
                panic!("the courier sent {kind:?}")
            }
        }
    }
}
