//! A captured gateway at the doors: those that are not its own, its own with the messages of others, floods and lies about lengths.
//!
//! Invariant: what is no message of a door ends that connection, and nothing but that connection.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Answer, Ask, FromGateway, Refused, TICKET_LIFE, Ticket, ToGateway};
use strongroom_protocol::call::FrameKind;
use strongroom_protocol::errand::{Ending, FromCourier, Outcome, Probed, Recall, ToCourier};
use strongroom_protocol::frame::{MAX_ASK_BYTES, MAX_OPERATOR_BYTES, encode};
use strongroom_protocol::operator::{Request, UnsealWith};
use strongroom_protocol::usage::Usage;
use strongroom_tests::Part;
use strongroom_tests::captured::{Captured, Door, Socket};
use strongroom_tests::patience::within;

use crate::scene::{Scene, resident_kib};
use crate::speech::{
    BODY, Ended, JSON, answered, asking, chat, ended, exchange, frame_of, head, identify, ticket,
};

#[test]
fn a_captured_gateway_is_shown_out_at_every_other_door() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    for socket in [Socket::Errand, Socket::Operator] {
        let shut = match captured.knock(socket) {
            Err(error) => error.kind() == ErrorKind::PermissionDenied,
            Ok(mut door) => {
                let _gone = door.say(&Request::TokenList);
                door.heard().is_none()
            }
        };
        // Without users of their own both belong to the same one, and only the real gateway's filter stands before it.
        assert!(shut || !nix::unistd::Uid::effective().is_root(), "{socket:?}");
    }
    // The probe can succeed: its own doors are open.
    drop((asking(&captured), captured.open(Socket::Call)));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

/// Red when the next gateway is given what this one left.
#[test]
fn a_captured_gateway_that_shuts_its_listener_down_keeps_no_later_one_from_listening() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    captured.shut_listener();
    // Gives the place back, and calls.
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

pub(crate) fn bytes<M: Serialize>(message: &M) -> Vec<u8> {
    encode(message, MAX_OPERATOR_BYTES).expect("it fits a frame").to_vec()
}

/// Messages of all sockets.
pub(crate) fn foreign(ticket: Ticket, call: CallId) -> Vec<Vec<u8>> {
    let outcome = Outcome {
        call,
        status: Some(200),
        ending: Ending::Complete,
        usage: Usage::default(),
        sent_bytes: 1,
        received_bytes: 1,
        scrubbed: 0,
        first_byte: None,
        total: Duration::from_secs(1),
    };
    let passphrase = || SecretBytes::copy_from(strongroom_tests::PASSPHRASE.as_bytes());
    let refused = Answer::Refused(Refused::plain(Refusal::Internal));
    vec![
        bytes(&FromCourier::Redeem(ticket)),
        bytes(&FromCourier::Outcome(Box::new(outcome))),
        bytes(&FromCourier::Probed(Box::new(Probed { call, text: "x".to_owned() }))),
        bytes(&ToCourier::Refused { ticket, refusal: Refusal::Internal }),
        bytes(&ToCourier::Recall(Recall::All)),
        bytes(&ToCourier::Recall(Recall::Calls(vec![call]))),
        bytes(&ToGateway::Answer { number: 1, answer: Answer::Identified }),
        bytes(&ToGateway::Answer {
            number: 1,
            answer: Answer::Admitted { ticket, call, budget: None },
        }),
        bytes(&ToGateway::Answer { number: 1, answer: refused }),
        bytes(&Request::Status),
        bytes(&Request::Unseal(UnsealWith::Passphrase(passphrase()))),
        bytes(&Request::Seal),
        bytes(&Request::TokenList),
        bytes(&Request::CredentialList),
        bytes(&Request::Panic),
        bytes(&Request::Ways),
        frame_of(FrameKind::Body, BODY),
        frame_of(FrameKind::Cancel, b""),
        exchange(ticket, &[JSON], BODY),
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
    ]
}

#[test]
fn messages_of_other_sockets_end_a_captured_gateways_connection_and_move_nothing() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let mut keeper = asking(&captured);
    let (waiting, call) = ticket(&mut keeper, chat(scene.token.as_bytes()));
    let acts = scene.count("act");
    // Of a lane itself.
    let own = exchange(waiting, &[JSON], BODY);
    for (number, message) in foreign(waiting, call).into_iter().enumerate() {
        let mut door = asking(&captured);
        let _gone = door.send(&message);
        door.shut();
        while let Some((_, answer)) = answered(&mut door) {
            // Bytes that happen to be a question of this door: nobody's proof.
            assert!(matches!(answer, Answer::Refused(_)), "{number}: {answer:?}");
        }
        // The same on a lane.
        let mut lane = captured.open(Socket::Call);
        let _gone = lane.send(&message);
        lane.shut();
        if message != own {
            assert_eq!(ended(&mut lane), Ended::Closed, "{number}");
        }
    }
    assert_eq!(scene.count("act"), acts, "nothing was done in an operator's name");
    drop(keeper);
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

#[test]
fn a_captured_gateway_that_lies_about_lengths_or_stops_halfway_holds_nobody_up() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let token = scene.token.as_bytes();
    // Too long: the end, before a byte of it is read.
    for length in [u32::MAX, u32::try_from(MAX_ASK_BYTES).expect("it fits") + 1] {
        let mut door = asking(&captured);
        door.send(&length.to_le_bytes()).expect("the keeper reads");
        assert!(door.heard().is_none(), "{length}");
    }
    // Bytes behind a message, and none where some were announced.
    let question = bytes(&identify(1, token, "openai"));
    for change in [1_i64, -1] {
        let mut door = asking(&captured);
        let mut lie = question.clone();
        let length = i64::try_from(lie.len() - 4).expect("it is short") + change;
        lie[..4].copy_from_slice(&u32::try_from(length).expect("it is short").to_le_bytes());
        lie.extend_from_slice(b"x");
        door.send(&lie).expect("the keeper reads");
        assert!(door.heard().is_none(), "{change}");
    }
    // Halfway in the largest frame there is, on every place but one; the last one is served.
    let mut halves: Vec<Door> = (0..3).map(|_| asking(&captured)).collect();
    for half in &mut halves {
        half.send(&u32::try_from(MAX_ASK_BYTES).expect("it fits").to_le_bytes()).expect("it reads");
        half.send(&vec![0; MAX_ASK_BYTES - 1]).expect("the keeper reads");
    }
    let mut keeper = asking(&captured);
    let (ticket, _) = ticket(&mut keeper, chat(token));
    let mut fifth = captured.open(Socket::Ask);
    assert!(fifth.heard().is_none(), "no more than four gateways");
    lanes_that_stop_halfway(&captured);
    let mut lane = captured.open(Socket::Call);
    lane.send(&exchange(ticket, &[JSON], BODY)).expect("the courier reads");
    assert_eq!(ended(&mut lane), Ended::Whole(200));
    drop((halves, keeper, lane, fifth));
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

fn lanes_that_stop_halfway(captured: &Captured<'_>) {
    let length = strongroom_policy::claims::Length::Chunked;
    for header in [
        [1, 0xff, 0xff, 0xff],
        [2, 1, 0, 1],
        [0, 0, 0, 0],
        [17, 0, 0, 0],
        [99, 1, 0, 0],
        [4, 1, 0, 0],
    ] {
        let mut lane = captured.open(Socket::Call);
        lane.send(&header).expect("the courier reads");
        assert_eq!(ended(&mut lane), Ended::Closed, "{header:?}");
    }
    for frames in [
        frame_of(FrameKind::Body, b"x"),
        frame_of(FrameKind::BodyEnd, b""),
        frame_of(FrameKind::Head, b""),
        frame_of(FrameKind::Head, &vec![0; 65_536]),
        [head(Ticket([7; 16]), &[JSON], length), head(Ticket([7; 16]), &[JSON], length)].concat(),
    ] {
        let mut lane = captured.open(Socket::Call);
        let _gone = lane.send(&frames);
        let end = ended(&mut lane);
        let refused = end == Ended::Aborted(Refusal::TicketUnknown);
        assert!(refused || end == Ended::Closed, "{end:?}");
        if refused {
            assert_eq!(ended(&mut lane), Ended::Closed);
        }
    }
}

#[test]
fn a_captured_gateway_that_asks_and_never_reads_is_cut_off_within_bounds() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let keeper = scene.appliance.pid(Part::Keeper).expect("it runs");
    let resident = resident_kib(keeper);
    let mut door = asking(&captured);
    let question = FromGateway { number: 1, ask: Ask::Call(Box::new(chat(b"nobody's"))) };
    let many = bytes(&question).repeat(1000);
    let begun = Instant::now();
    // The keeper's buffer for one gateway, and what lies in the sockets between, is far below this.
    let mut sent = 0;
    let cut = loop {
        match door.send(&many) {
            Ok(()) => sent += many.len(),
            Err(error) => break error,
        }
        assert!(sent < 512 * 1024 * 1024, "the keeper takes all of it");
        assert!(begun.elapsed() < Duration::from_mins(2), "not cut off: {sent} bytes");
    };
    // The attacker's own patience is longer: a keeper that only reads no further has not cut it off.
    let gave_up = matches!(cut.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!gave_up, "not cut off, only not read: {sent} bytes");
    let grown = resident_kib(keeper).saturating_sub(resident);
    assert!(grown < 64 * 1024, "{grown} KiB after {sent} bytes ({cut})");
    drop(door);
    // Others were served meanwhile, and are.
    let served = within(strongroom_tests::PATIENCE, || {
        let mut other = asking(&captured);
        other.say(&identify(2, scene.token.as_bytes(), "openai")).ok()?;
        answered(&mut other).filter(|(_, answer)| matches!(answer, Answer::Identified))
    });
    assert!(served.is_some());
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}

#[test]
fn a_captured_gateway_takes_up_its_persons_places_and_no_more() {
    let scene = Scene::set();
    let before = scene.before(Part::Gateway);
    let captured = scene.appliance.capture(&scene.programs, Part::Gateway);
    let mut door = asking(&captured);
    let (mut admitted, mut busy) = (0_u64, 0);
    let question =
        || FromGateway { number: 3, ask: Ask::Call(Box::new(chat(scene.token.as_bytes()))) };
    let all: Vec<u8> = (0..1500).flat_map(|_| bytes(&question())).collect();
    // More than one person may have under way, faster than their tickets end: on a machine that is held up, at another try.
    for _ in 0..4 {
        let mut writer = door.second_handle();
        let (begun, before_it) = (Instant::now(), admitted);
        thread::scope(|scope| {
            scope.spawn(|| {
                std::io::Write::write_all(&mut writer, &all).expect("the keeper reads");
            });
            for _ in 0..1500 {
                match answered(&mut door).expect("each is answered").1 {
                    Answer::Admitted { .. } => admitted += 1,
                    Answer::Refused(refused) if refused.refusal == Refusal::Busy => busy += 1,
                    other => panic!("{other:?}"),
                }
            }
        });
        // A place is free again when the ticket that took it has ended.
        let lives = begun.elapsed().as_secs() / TICKET_LIFE.as_secs();
        let more = admitted - before_it;
        assert!(more <= 1024 * (lives + 1), "{more} admitted in {:?}", begun.elapsed());
        if busy > 0 {
            break;
        }
    }
    assert!(busy > 0 && admitted >= 1024, "{admitted} admitted, {busy} told to wait");
    drop(door);
    let loot = scene.judge(&before, captured);
    assert!(loot.keys.is_empty(), "{loot:?}");
}
