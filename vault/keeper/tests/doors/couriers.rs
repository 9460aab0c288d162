//! Two couriers, each at its door: what the one holds the other never sees, ends or is told of.

use strongroom_policy::name::ProviderName;
use strongroom_policy::provider::{Origin, ProviderDefinition, builtin};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::rules::CredentialRules;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{CallAsk, Ticket};
use strongroom_protocol::errand::{Errand, FromCourier, Probed, Recall, ToCourier};
use strongroom_protocol::operator::{
    Answer as Told, CredentialWish, HomePick, Pick, Request, Status,
};
use strongroom_protocol::upload::{VaultKey, seal_upload};

use crate::keeper::{self, Door, Keeper};
use crate::{KEY, admitted, ask, chat, furnish, label, outcome, redeem, refused};

const OWN_KEY: &[u8] = b"own-canary-0123456789abcdefghijklmnopqrstuvw";

/// Adds an operator-defined provider with a key.
fn define_own(keeper: &Keeper) {
    let mut door = keeper.operator();
    let openai = builtin::definitions().unwrap().into_iter().next().unwrap();
    let name = ProviderName::parse("mine").unwrap();
    // Whatever it says of itself, it is an operator's.
    let definition = ProviderDefinition { name: name.clone(), origin: Origin::BuiltIn, ..openai };
    let added = door.request(&Request::ProviderPut(Box::new(definition)));
    assert!(matches!(added, Told::Done), "{added:?}");
    let vault = status(&mut door).vault_key.unwrap();
    upload(&mut door, &vault, name);
}

fn upload(door: &mut Door, vault: &VaultKey, provider: ProviderName) {
    let offered = door.request(&Request::CredentialAdd(Box::new(CredentialWish {
        provider,
        home: HomePick::Personal(None),
        label: label("own"),
        fixed_headers: Vec::new(),
        rules: CredentialRules::default(),
    })));
    let Told::Upload { binding, .. } = offered else { panic!("{offered:?}") };
    let blob = seal_upload(vault, &binding, OWN_KEY).unwrap();
    let done = door.request(&Request::CredentialUpload { upload: binding.upload, blob });
    assert!(matches!(done, Told::Credential(_)), "{done:?}");
}

fn status(door: &mut Door) -> Status {
    match door.request(&Request::Status) {
        Told::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

/// A gateway and both couriers, of which the keeper knows.
fn peers(keeper: &Keeper) -> (Door, Door, Door) {
    let (courier, own) = (keeper.errand(), keeper.errand_defined());
    let mut operator = keeper.operator();
    keeper::until(|| {
        let found = status(&mut operator);
        found.courier && found.courier_defined
    });
    (keeper.ask(), courier, own)
}

fn chat_with_own(proof: &SecretBytes) -> CallAsk {
    CallAsk { provider: ProviderName::parse("mine").unwrap(), ..chat(proof) }
}

fn recalled(courier: &mut Door) -> Recall {
    match courier.receive() {
        ToCourier::Recall(recall) => recall,
        other => panic!("{other:?}"),
    }
}

// Red when the keeper gives the errand of a ticket to whichever courier brings it.
#[test]
fn a_ticket_is_good_at_the_door_of_its_own_courier_alone() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    define_own(&keeper);
    let (mut gateway, mut courier, mut own) = peers(&keeper);
    let built_in = admitted(ask(&mut gateway, chat(&proof)));
    let defined = admitted(ask(&mut gateway, chat_with_own(&proof)));
    // At the wrong door it is no ticket, and is not spent there.
    for _ in 0..3 {
        assert_eq!(redeem(&mut own, built_in).unwrap_err(), Refusal::TicketUnknown);
        assert_eq!(redeem(&mut courier, defined).unwrap_err(), Refusal::TicketUnknown);
    }
    let first = redeem(&mut courier, built_in).unwrap();
    assert!(first.secret.expose(|key| key == KEY));
    let second = redeem(&mut own, defined).unwrap();
    assert!(second.secret.expose(|key| key == OWN_KEY));
    // Nor does the one end a call of the other.
    own.send(&outcome(&first));
    courier.send(&outcome(&second));
    // Both have been read when the next question is answered.
    for (door, ticket) in [(&mut own, built_in), (&mut courier, defined)] {
        assert_eq!(redeem(door, ticket).unwrap_err(), Refusal::TicketUnknown);
    }
    courier.send(&outcome(&first));
    keeper::until(|| keeper.entries("close") == 1);
    own.send(&outcome(&second));
    keeper::until(|| keeper.entries("close") == 2);
}

// Red when every courier is told of every recall.
#[test]
fn each_courier_is_told_to_stop_its_own_calls_and_no_other() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    define_own(&keeper);
    let (mut gateway, mut courier, mut own) = peers(&keeper);
    let first = redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    let second = redeem(&mut own, admitted(ask(&mut gateway, chat_with_own(&proof)))).unwrap();
    let mut operator = keeper.operator();
    assert!(matches!(operator.request(&Request::TokenRevoke(Pick(label("laptop")))), Told::Done));
    for (door, call) in [(&mut courier, first.call), (&mut own, second.call)] {
        let recall = recalled(door);
        assert!(matches!(&recall, Recall::Calls(calls) if *calls == [call]), "{recall:?}");
    }
}

// Red when the end of one courier takes the calls of the other along.
#[test]
fn a_courier_that_is_gone_takes_its_own_calls_along_and_no_other() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    define_own(&keeper);
    let (mut gateway, mut courier, mut own) = peers(&keeper);
    let first = redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    let waiting = admitted(ask(&mut gateway, chat(&proof)));
    let lost = redeem(&mut own, admitted(ask(&mut gateway, chat_with_own(&proof)))).unwrap();
    let unspent = admitted(ask(&mut gateway, chat_with_own(&proof)));
    drop(own);
    // One that ran and one whose ticket waited.
    keeper::until(|| keeper.entries("close") == 2);
    assert!(keeper.told().contains(&lost.call.to_string()));
    let mut operator = keeper.operator();
    let found = status(&mut operator);
    assert!(found.courier && !found.courier_defined);
    let answer = ask(&mut gateway, chat_with_own(&proof));
    assert_eq!(refused(answer), Refusal::CourierUnavailable);
    redeem(&mut courier, waiting).unwrap();
    courier.send(&outcome(&first));
    keeper::until(|| keeper.entries("close") == 3);
    let mut own = keeper.errand_defined();
    keeper::until(|| status(&mut operator).courier_defined);
    assert_eq!(redeem(&mut own, unspent).unwrap_err(), Refusal::TicketUnknown);
    admitted(ask(&mut gateway, chat_with_own(&proof)));
}

// Red when a probe goes to another courier, when another's outcome or text is taken, or when the loss of another ends it.
#[test]
fn a_probe_is_its_own_couriers_alone() {
    let keeper = Keeper::start();
    furnish(&keeper);
    define_own(&keeper);
    let (_gateway, mut courier, mut own) = peers(&keeper);
    let mut waiting = keeper.operator();
    waiting.send(&Request::CredentialTest(Pick(label("own"))));
    let errand = match own.receive() {
        ToCourier::Probe(errand) => *errand,
        other => panic!("{other:?}"),
    };
    assert!(errand.secret.expose(|key| key == OWN_KEY));
    own.send(&outcome(&errand));
    is_heard(&mut own);
    // Nor was the other told of it: what it hears is the answer to its question.
    let FromCourier::Outcome(mut forged) = outcome(&errand) else { panic!() };
    forged.status = Some(500);
    courier.send(&FromCourier::Outcome(forged));
    courier.send(&probed(&errand, "forged"));
    is_heard(&mut courier);
    drop(courier);
    let mut operator = keeper.operator();
    keeper::until(|| !status(&mut operator).courier);
    own.send(&probed(&errand, "its own"));
    let tested = match waiting.receive() {
        Told::Tested(tested) => tested,
        other => panic!("{other:?}"),
    };
    assert_eq!((tested.outcome.status, tested.text.as_str()), (Some(200), "its own"));
}

fn probed(errand: &Errand, text: &str) -> FromCourier {
    FromCourier::Probed(Box::new(Probed { call: errand.call, text: text.to_owned() }))
}

/// All that was said over this door has been read.
fn is_heard(door: &mut Door) {
    assert_eq!(redeem(door, Ticket([9; 16])).unwrap_err(), Refusal::TicketUnknown);
}
