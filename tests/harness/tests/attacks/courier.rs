//! A captured courier: which keys it sees, and what it can ask for.
//!
//! Invariant: it learns the keys of the tickets that a gateway brought it, in their time, and nothing else of the vault.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use strongroom_emulator::Api;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::{Ask, FromGateway, TICKET_LIFE, Ticket};
use strongroom_protocol::call::{self, CallHead, FrameKind};
use strongroom_protocol::errand::{
    Errand, FromCourier, MAX_PROBED_BYTES, Probed, Recall, ToCourier,
};
use strongroom_protocol::frame;
use strongroom_protocol::operator::Request;
use strongroom_tests::captured::{Captured, Door, Socket};
use strongroom_tests::dice::Dice;
use strongroom_tests::speak::{Shape, say};
use strongroom_tests::{Connection, PATIENCE, Part, canary};

use crate::doors::{bytes, foreign};
use crate::mutation::mutate;
use crate::scene::{BENS, Scene};
use crate::speech::{chat, identify};

/// Who stands in the courier's place, with the true gateway's lanes.
pub(crate) struct Courier<'a> {
    pub(crate) captured: Captured<'a>,
    pub(crate) keeper: Door,
    heads: Receiver<Ticket>,
    heard: VecDeque<ToCourier>,
    /// Callers that wait for their answers.
    callers: Vec<Connection>,
}

impl<'a> Courier<'a> {
    /// In the place of the courier of built-in providers.
    pub(crate) fn stand_in(scene: &'a Scene) -> Self {
        let captured = scene.appliance.capture(&scene.programs, Part::Courier);
        let keeper = captured.open(Socket::Errand);
        let (tell, heads) = channel();
        captured.attend(move |mut lane| {
            let tell = tell.clone();
            thread::spawn(move || {
                while let Some((kind, payload)) = lane.frame_when_it_comes() {
                    if kind == FrameKind::Head {
                        let head: CallHead = call::decode(&payload).expect("a head");
                        let _over = tell.send(head.ticket);
                    }
                }
            });
        });
        scene.appliance.wait_ready();
        Self { captured, keeper, heads, heard: VecDeque::new(), callers: Vec::new() }
    }

    /// Has an honest caller call, and takes the ticket that the gateway brings.
    pub(crate) fn ticket(&mut self, scene: &Scene, api: Api) -> Ticket {
        let gate = scene.appliance.gate();
        let mut caller = gate.connect().expect("the gateway listens");
        let request = say(api, &scene.token, "m", "hello there", Shape::Plain);
        caller.send(&request.bytes("localhost")).expect("the gateway reads");
        self.callers.push(caller);
        self.heads.recv_timeout(PATIENCE).expect("the gateway brings a ticket")
    }

    /// Tells the keeper something.
    pub(crate) fn say(&mut self, message: &FromCourier) {
        self.keeper.say(message).expect("the keeper reads");
    }

    /// The answer to a redemption; recalls that come before it are kept.
    pub(crate) fn redeem(&mut self, ticket: Ticket) -> Result<Errand, Refusal> {
        self.say(&FromCourier::Redeem(ticket));
        loop {
            match self.heard_from_keeper() {
                ToCourier::Errand { ticket: its, errand } => {
                    assert_eq!(its, ticket);
                    return Ok(*errand);
                }
                ToCourier::Refused { ticket: its, refusal } => {
                    assert_eq!(its, ticket);
                    return Err(refusal);
                }
                other => self.heard.push_back(other),
            }
        }
    }

    /// The next thing that the keeper said unasked.
    pub(crate) fn told(&mut self) -> ToCourier {
        self.heard.pop_front().unwrap_or_else(|| self.heard_from_keeper())
    }

    fn heard_from_keeper(&mut self) -> ToCourier {
        let body = self.keeper.heard().expect("the keeper is there");
        frame::decode(&body).expect("the keeper speaks the protocol")
    }

    /// A new conversation in the place of one that ended.
    pub(crate) fn knock_again(&mut self) {
        let again = || {
            let mut door = self.captured.open(Socket::Errand);
            // The keeper settles what the one before was doing first, and turns away who comes meanwhile.
            door.say(&FromCourier::Redeem(Ticket([0; 16]))).ok()?;
            door.heard().map(|_| door)
        };
        self.keeper = strongroom_tests::until("the keeper takes a courier in again", again);
    }

    /// Goes, and yields the part that was taken.
    pub(crate) fn leave(self) -> Captured<'a> {
        drop((self.keeper, self.callers));
        self.captured
    }
}

fn key_of(errand: &Errand) -> String {
    errand.secret.expose(|key| String::from_utf8_lossy(key).into_owned())
}

#[test]
fn a_captured_courier_sees_the_keys_of_the_tickets_that_it_was_given_and_no_other() {
    let scene = Scene::set();
    let before = scene.before(Part::Courier);
    let mut courier = Courier::stand_in(&scene);
    let mut dice = Dice::new();
    let late = courier.ticket(&scene, Api::Anthropic);
    for _ in 0..500 {
        let guess = courier.redeem(Ticket(dice.bytes()));
        assert_eq!(guess.map(|_| ()), Err(Refusal::TicketUnknown));
    }
    // It lives for seconds, and waits for the guesses that are near it only.
    let waiting = courier.ticket(&scene, Api::OpenAi);
    let near = (0..128).map(|bit| {
        let mut guess = waiting.0;
        guess[bit / 8] ^= 1 << (bit % 8);
        Ticket(guess)
    });
    for guess in near {
        assert_eq!(courier.redeem(guess).map(|_| ()), Err(Refusal::TicketUnknown));
    }
    let errand = courier.redeem(waiting).expect("it was given this one");
    assert_eq!(key_of(&errand), canary::key(Api::OpenAi));
    assert_eq!(errand.destination.host.as_ref(), Api::OpenAi.host());
    for _ in 0..3 {
        assert_eq!(courier.redeem(waiting).map(|_| ()), Err(Refusal::TicketUnknown));
    }
    // Its time over: the wait is what is tested.
    thread::sleep(TICKET_LIFE);
    assert_eq!(courier.redeem(late).map(|_| ()), Err(Refusal::TicketUnknown));
    // Taken away before it was redeemed, and after.
    let xai = courier.ticket(&scene, Api::Xai);
    scene.appliance.json(&["token", "revoke", "heard", "--yes"], b"");
    assert_eq!(courier.redeem(xai).map(|_| ()), Err(Refusal::TicketUnknown));
    let recalled =
        matches!(courier.told(), ToCourier::Recall(Recall::Calls(calls)) if calls == [errand.call]);
    assert!(recalled, "it is told to stop what it has");
    let loot = scene.judge(&before, courier.leave());
    // The search can find: this one key was given.
    assert!(!loot.keys.is_empty());
    for key in &loot.keys {
        assert!(key.starts_with(Api::OpenAi.name()), "{key}, which it was not given");
    }
}

#[test]
fn a_captured_courier_can_ask_the_keeper_for_nothing_else() {
    let scene = Scene::set();
    let before = scene.before(Part::Courier);
    let mut courier = Courier::stand_in(&scene);
    for socket in [Socket::Ask, Socket::Operator] {
        let shut = match courier.captured.knock(socket) {
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
            Ok(mut door) => {
                let _gone = door.say(&Request::TokenList);
                door.heard().is_none()
            }
        };
        assert!(shut || !nix::unistd::Uid::effective().is_root(), "{socket:?}");
    }
    // No second one beside the first.
    assert!(courier.captured.open(Socket::Errand).heard().is_none());
    let waiting = courier.ticket(&scene, Api::OpenAi);
    let errand = courier.redeem(waiting).expect("it was given this one");
    let acts = scene.count("act");
    let token = scene.token.as_bytes();
    let mut all = foreign(waiting, errand.call);
    all.push(bytes(&identify(0, token, "google")));
    all.push(bytes(&FromGateway { number: 0, ask: Ask::Call(Box::new(chat(token))) }));
    all.push(u32::MAX.to_le_bytes().to_vec());
    all.push([&[3, 0, 2, 0][..], &[0; 10]].concat());
    let mut ended = 0;
    for (number, message) in all.into_iter().enumerate() {
        let _gone = courier.keeper.send(&message);
        courier.keeper.shut();
        while let Some(body) = courier.keeper.heard() {
            let answer: ToCourier = frame::decode(&body).expect("the keeper speaks the protocol");
            let nothing = matches!(answer, ToCourier::Refused { .. } | ToCourier::Recall(_));
            assert!(nothing, "{number}: {answer:?}");
        }
        ended += 1;
        courier.knock_again();
    }
    assert!(ended > 20);
    // A text that is longer than a probe's.
    let text = "x".repeat(MAX_PROBED_BYTES + 1);
    courier.say(&FromCourier::Probed(Box::new(Probed { call: errand.call, text })));
    assert!(courier.keeper.heard().is_none());
    courier.knock_again();
    assert_eq!(scene.count("act"), acts, "nothing was done in an operator's name");
    let loot = scene.judge(&before, courier.leave());
    for key in &loot.keys {
        assert!(key.starts_with(Api::OpenAi.name()), "{key}, which it was not given");
    }
}

#[test]
fn a_captured_courier_at_random_gets_nothing_and_breaks_nothing() {
    let messages = strongroom_soak::size(2_000, 50_000);
    let scene = Scene::set();
    let before = scene.before(Part::Courier);
    let mut courier = Courier::stand_in(&scene);
    let (mut dice, mut ended, mut refused) = (Dice::new(), 0, 0);
    let spent = courier.ticket(&scene, Api::OpenAi);
    let errand = courier.redeem(spent).expect("it was given this one");
    for _ in 0..messages {
        let good = match dice.roll(3) {
            0 => FromCourier::Redeem(spent),
            1 => FromCourier::Outcome(Box::new(crate::outcomes::outcome(errand.call))),
            _ => FromCourier::Probed(Box::new(Probed {
                call: errand.call,
                text: "x".repeat(dice.pick(100)),
            })),
        };
        let mut body = bytes(&good)[4..].to_vec();
        for _ in 0..=dice.roll(3) {
            mutate(&mut body, &mut dice);
        }
        let length = u32::try_from(body.len()).expect("it is short").to_le_bytes();
        courier.keeper.send(&[&length, &body[..]].concat()).expect("the keeper reads");
        match frame::decode::<FromCourier>(&body) {
            Ok(FromCourier::Redeem(_)) => {
                let answer = courier.told();
                assert!(matches!(answer, ToCourier::Refused { .. }), "{answer:?}");
                refused += 1;
            }
            Ok(FromCourier::Outcome(_) | FromCourier::Probed(_)) => {}
            Err(_) => {
                assert!(courier.keeper.heard().is_none(), "what is no message ends it");
                courier.knock_again();
                ended += 1;
            }
        }
    }
    assert!(ended > 0 && refused > 0, "{ended} ended, {refused} refused");
    for (figure, value) in [("messages at random", messages), ("which ended it", ended)] {
        strongroom_soak::tell("captured courier", figure, value);
    }
    let loot = scene.judge(&before, courier.leave());
    assert!(loot.keys.iter().all(|key| key.starts_with(Api::OpenAi.name())), "{loot:?}");
    assert_ne!(BENS, Api::OpenAi);
}
