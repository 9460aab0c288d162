//! A captured gateway at random: good messages with bits turned, bytes lost, doubled and moved, thousands of them.
//!
//! Invariant: the keeper answers each that is still a question once, and ends the connection at each that is none.
//! Invariant: whatever is admitted is run, so that what a provider gets is judged too.

use std::time::Instant;

use strongroom_policy::claims::Length;
use strongroom_policy::name::{BetaName, Label};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::target::Target;
use strongroom_protocol::ask::{Answer, Ask, CallAsk, FromGateway, Ticket};
use strongroom_protocol::call::FrameKind;
use strongroom_protocol::frame::{self, MAX_ASK_BYTES};
use strongroom_tests::captured::{Captured, Socket};
use strongroom_tests::dice::Dice;
use strongroom_tests::{Part, until};

use crate::scene::{Scene, resident_kib};
use crate::speech::{
    BODY, JSON, answered, ask, asking, chat, exchange, frame_of, head, identify, provider,
};

const SUITE: &str = "captured gateway";
/// Most questions in one conversation.
const MOST_IN_ONE: usize = 60;

#[test]
fn a_captured_gateway_at_random_gets_nothing_and_breaks_nothing() {
    let messages = strongroom_soak::size(3_000, 100_000);
    let exchanges = strongroom_soak::size(200, 5_000);
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let keeper = scene.appliance.pid(Part::Keeper).expect("it runs");
    let (begun, resident) = (Instant::now(), resident_kib(keeper));
    let mut dice = Dice::new();
    let mut count = Count::default();
    while count.messages < messages {
        let tickets = converse(&captured, scene.token.as_bytes(), &mut dice, &mut count);
        for ticket in tickets {
            run(&captured, ticket, &mut dice);
            count.run += 1;
        }
    }
    let mut door = asking(&captured);
    for _ in 0..exchanges {
        // A ticket that was disturbed itself is brought by nobody and takes its place for ten seconds.
        let ticket =
            until("room for another call", || match ask(&mut door, chat(scene.token.as_bytes())) {
                Answer::Admitted { ticket, .. } => Some(ticket),
                Answer::Refused(refused) if refused.refusal == Refusal::Busy => None,
                other => panic!("not admitted: {other:?}"),
            });
        disturb(&captured, ticket, &mut dice);
    }
    drop(door);
    assert!(count.ended > 0 && count.refused > 0 && count.admitted > 0, "{count:?}");
    for (figure, value) in [
        ("messages at random", count.messages),
        ("of these no question, which ended the connection", count.ended),
        ("refused", count.refused),
        ("admitted", count.admitted),
        ("exchanges at random", exchanges),
    ] {
        strongroom_soak::tell(SUITE, figure, value);
    }
    let grown = resident_kib(keeper).saturating_sub(resident);
    strongroom_soak::tell(SUITE, "the keeper grew by, KiB", grown);
    strongroom_soak::tell(SUITE, "seconds", begun.elapsed().as_secs());
    let loot = scene.judge(&before, captured);
    strongroom_soak::tell(SUITE, "bytes that the attacker received", loot.bytes);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

/// What became of the messages.
#[derive(Debug, Default)]
struct Count {
    messages: usize,
    ended: usize,
    refused: usize,
    admitted: usize,
    run: usize,
}

/// One conversation, up to the first message that is no question; the tickets that it gave.
fn converse(
    captured: &Captured<'_>,
    token: &[u8],
    dice: &mut Dice,
    count: &mut Count,
) -> Vec<Ticket> {
    let mut questions = 0;
    // What is no question is left out of every second conversation: it would take the answers with it that still wait.
    let may_end = dice.roll(2) == 0;
    let mut ends = false;
    let mut all = Vec::new();
    while questions < MOST_IN_ONE && !ends {
        let good = frame::encode(&good(token, dice), MAX_ASK_BYTES).expect("it fits");
        let mut body = good[4..].to_vec();
        for _ in 0..dice.roll(4) {
            mutate(&mut body, dice);
        }
        let is_none = frame::decode::<FromGateway>(&body).is_err();
        if is_none && !may_end {
            continue;
        }
        ends = is_none;
        all.extend(u32::try_from(body.len()).expect("it is short").to_le_bytes());
        all.extend(body);
        questions += usize::from(!ends);
        count.messages += 1;
    }
    let mut door = asking(captured);
    // What stands behind the end is sent too, and answered by nobody.
    all.extend(if ends { good_frame(token) } else { Vec::new() });
    door.send(&all).expect("the keeper reads");
    let mut tickets = Vec::new();
    let mut answers = 0;
    while answers < questions || ends {
        let Some((_, answer)) = answered(&mut door) else { break };
        answers += 1;
        match answer {
            Answer::Admitted { ticket, .. } => tickets.push(ticket),
            Answer::Identified | Answer::Person(_) => {}
            Answer::Refused(_) => count.refused += 1,
        }
    }
    // A connection that ends takes the answers with it that wait for the journal.
    assert!(answers == questions || (ends && answers < questions), "{answers} of {questions}");
    count.ended += usize::from(ends);
    count.admitted += tickets.len();
    tickets
}

fn good_frame(token: &[u8]) -> Vec<u8> {
    frame::encode(&identify(9, token, "openai"), MAX_ASK_BYTES).expect("it fits").to_vec()
}

/// A message that is good in form, and often in all else.
fn good(token: &[u8], dice: &mut Dice) -> FromGateway {
    let names = ["openai", "anthropic", "google", "xai", "nobody"];
    let targets = ["/v1/chat/completions", "/v1/models", "/v1/files", "/v1/messages", "/v1/x"];
    let name = names[dice.pick(names.len())];
    if dice.roll(4) == 0 {
        return identify(dice.roll(u64::MAX), token, name);
    }
    let call = match dice.roll(4) {
        0 | 1 => chat(token),
        2 => CallAsk {
            provider: provider(name),
            target: Target::parse(targets[dice.pick(targets.len())]).expect("a target"),
            length: Length::Known(dice.roll(1 << 40)),
            ..chat(token)
        },
        _ => CallAsk {
            choice: Label::parse("bens").ok(),
            betas: vec![BetaName::parse("b-1").expect("a name"); dice.pick(40)],
            length: Length::Chunked,
            ..chat(token)
        },
    };
    FromGateway { number: dice.roll(u64::MAX), ask: Ask::Call(Box::new(call)) }
}

/// One change that chance makes to bytes.
pub(crate) fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.pick(bytes.len());
    let byte = dice.bytes()[0];
    match dice.roll(7) {
        _ if bytes.is_empty() => bytes.push(byte),
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at] = byte,
        2 => bytes.insert(at, byte),
        3 => drop(bytes.remove(at)),
        4 => bytes.truncate(at),
        5 => {
            let end = at + dice.pick(bytes.len() - at + 1);
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        _ => {
            let other = dice.pick(bytes.len());
            bytes.swap(at, other);
        }
    }
}

/// Brings a ticket with what the gateway claims of nothing in particular.
fn run(captured: &Captured<'_>, ticket: Ticket, dice: &mut Dice) {
    let mut lane = captured.open(Socket::Call);
    let body: &[u8] = if dice.roll(2) == 0 { BODY } else { b"" };
    let _gone = lane.send(&exchange(ticket, &[JSON], body));
    let _end = crate::speech::ended(&mut lane);
}

/// A good exchange with changes anywhere in it. It need not end by itself: its sender goes.
fn disturb(captured: &Captured<'_>, ticket: Ticket, dice: &mut Dice) {
    let mut lane = captured.open(Socket::Call);
    let known = Length::Known(BODY.len() as u64);
    let frames = [
        head(ticket, &[JSON, ("user-agent", "x")], known),
        frame_of(FrameKind::Body, &BODY[..20]),
        frame_of(FrameKind::Body, &BODY[20..]),
        frame_of(FrameKind::BodyEnd, b""),
    ];
    let mut bytes = frames.concat();
    for _ in 0..=dice.roll(3) {
        mutate(&mut bytes, dice);
    }
    let _gone = lane.send(&bytes);
    lane.shut();
    let _end = crate::speech::ended(&mut lane);
}
