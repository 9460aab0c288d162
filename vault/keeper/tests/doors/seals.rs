//! Custody, rotation, changes of the ways and the panic seal, at the operators' door of the real process.

use std::process::Command;
use std::time::{Duration, Instant};

use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Ask, FromGateway, VaultState};
use strongroom_protocol::operator::sealing::{
    LockRow, VaultWish, WayRow, WayStanding, WaysAct, WaysChange,
};
use strongroom_protocol::operator::{
    Answer as Told, Exit, Fault, PANIC_EXIT, Request, SEAL_EXIT, SealWish, Status, UnsealWith,
};

use crate::keeper::{Door, Keeper, PASSPHRASE, until};
use crate::{chat, furnish, label, peers};

const OTHER: &[u8] = b"another five words of mine";

fn shares(threshold: u8, holders: &[&str]) -> SealWish {
    let count = u8::try_from(holders.len()).unwrap();
    let holders = holders.iter().map(|name| label(name)).collect();
    SealWish::Shares { threshold, count, holders }
}

fn say(text: &[u8]) -> SecretBytes {
    SecretBytes::copy_from(text)
}

fn share(share: &SecretBytes) -> UnsealWith {
    UnsealWith::Share(share.expose(SecretBytes::copy_from))
}

fn made(answer: Told) -> Vec<SecretBytes> {
    match answer {
        Told::Shares(shares) => shares,
        other => panic!("{other:?}"),
    }
}

fn failed(answer: Told) -> Fault {
    match answer {
        Told::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn status(door: &mut Door) -> Status {
    match door.request(&Request::Status) {
        Told::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

fn ways(door: &mut Door) -> Vec<WayRow> {
    match door.request(&Request::Ways) {
        Told::Ways(ways) => ways,
        other => panic!("{other:?}"),
    }
}

/// Calls whose entries wait for the disk.
fn ask_calls(gateway: &mut Door, proof: &SecretBytes) {
    for number in 0..50 {
        gateway.send(&FromGateway { number, ask: Ask::Call(Box::new(chat(proof))) });
    }
}

fn change(door: &mut Door, proof: Vec<UnsealWith>, act: WaysAct) -> Told {
    door.request(&Request::ChangeWays(Box::new(WaysChange { proof, act })))
}

/// A vault that two of alice, bob and carol open.
fn three(door: &mut Door) -> Vec<SecretBytes> {
    let wish = shares(2, &["alice", "bob", "carol"]);
    let shares = made(door.request(&Request::Init(wish)));
    for one in &shares[..2] {
        drop(door.request(&Request::ShowCustody(share(one))));
    }
    assert_eq!(status(door).state, VaultState::Ready);
    shares
}

// Red when the provisional vault is not found at the start.
#[test]
fn a_vault_is_provisional_until_its_shares_were_entered_back_however_often_the_keeper_dies() {
    let mut keeper = Keeper::start();
    let mut door = keeper.operator();
    let wish = shares(2, &["alice", "bob", "carol"]);
    let shares = made(door.request(&Request::Init(wish)));
    assert!(matches!(door.request(&Request::ShowCustody(share(&shares[0]))), Told::Unsealing(_)));
    for _ in 0..2 {
        keeper.kill_and_start();
        door = keeper.operator();
        let found = status(&mut door);
        assert_eq!(found.fault.unwrap().exit, Exit::Provisional);
        let refused = failed(door.request(&Request::UserCreate(label("ann"))));
        assert_eq!((refused.code.as_str(), refused.exit), ("SR-SEALED-004", Exit::Provisional));
    }
    let again = Request::Init(SealWish::Passphrase(say(PASSPHRASE)));
    assert_eq!(failed(door.request(&again)).code, "SR-INIT-005");
    let foreign =
        made(Keeper::start().operator().request(&Request::Init(self::shares(2, &["x", "y"]))));
    let refused = failed(door.request(&Request::ShowCustody(share(&foreign[0]))));
    assert!(refused.message.contains("another vault"), "{}", refused.message);
    match door.request(&Request::ShowCustody(share(&shares[2]))) {
        Told::Unsealing(progress) => assert_eq!(progress.holders, ["carol"]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(door.request(&Request::ShowCustody(share(&shares[1]))), Told::Initialised(_)));
    assert!(matches!(door.request(&Request::UserCreate(label("ann"))), Told::User(_)));
}

#[test]
fn a_provisional_vault_is_thrown_away_only_when_somebody_says_so() {
    let keeper = Keeper::start();
    let mut door = keeper.operator();
    let first = made(door.request(&Request::Init(shares(2, &["alice", "bob"]))));
    let wish = VaultWish {
        ways: vec![vec![SealWish::Passphrase(say(PASSPHRASE))], vec![shares(2, &["carol", "dan"])]],
        start_over: true,
    };
    let second = made(door.request(&Request::InitWays(Box::new(wish))));
    let refused = failed(door.request(&Request::ShowCustody(share(&first[0]))));
    assert!(refused.message.contains("another vault"), "{}", refused.message);
    let not_enough = UnsealWith::Passphrase(say(PASSPHRASE));
    let refused = failed(door.request(&Request::ShowCustody(not_enough)));
    assert!(refused.message.contains("shares that must be entered back"), "{}", refused.message);
    for one in &second {
        drop(door.request(&Request::ShowCustody(share(one))));
    }
    assert_eq!(status(&mut door).state, VaultState::Ready);
    assert!(matches!(door.request(&Request::Seal), Told::Done));
    let right = Request::Unseal(UnsealWith::Passphrase(say(PASSPHRASE)));
    assert!(matches!(door.request(&right), Told::Unsealed));
}

#[test]
fn a_vault_of_all_of_opens_with_all_and_tells_what_is_still_shut() {
    let mut keeper = Keeper::start();
    let mut door = keeper.operator();
    let all = vec![SealWish::Passphrase(say(PASSPHRASE)), shares(2, &["alice", "bob"])];
    let wish = VaultWish { ways: vec![all], start_over: false };
    let shares = made(door.request(&Request::InitWays(Box::new(wish))));
    let parts = || {
        let passphrase = UnsealWith::Passphrase(say(PASSPHRASE));
        [share(&shares[1]), passphrase, share(&shares[0])]
    };
    for part in parts() {
        drop(door.request(&Request::ShowCustody(part)));
    }
    assert_eq!(status(&mut door).state, VaultState::Ready);
    keeper.kill_and_start();
    let mut door = keeper.operator();
    let mut told = Vec::new();
    for part in parts() {
        told.push(door.request(&Request::Unseal(part)));
    }
    let [Told::Unsealing(first), Told::Unsealing(second), Told::Unsealed] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((first.holders.as_slice(), first.shut.len()), (&["bob".to_owned()][..], 1));
    assert_eq!((second.needed, second.shut.len()), (2, 0));
}

// Red when the new shares count before they were entered back, or the old ones after.
#[test]
fn a_rotation_survives_kills_and_retires_the_old_shares() {
    let mut keeper = Keeper::start();
    let mut door = keeper.operator();
    let old = three(&mut door);
    assert!(matches!(door.request(&Request::UserCreate(label("ann"))), Told::User(_)));

    let act = || WaysAct::Rotate(vec![vec![shares(2, &["dora", "emil"])]]);
    let wrong = vec![share(&old[0])];
    assert_eq!(failed(change(&mut door, wrong, act())).code, "SR-WAYS-002");
    let new = made(change(&mut door, old[..2].iter().map(share).collect(), act()));
    assert!(status(&mut door).incoming);
    let standings: Vec<_> = ways(&mut door).iter().map(|way| way.standing).collect();
    assert_eq!(standings, [WayStanding::InForce, WayStanding::Rotation]);

    keeper.kill_and_start();
    door = keeper.operator();
    let by_new: Vec<_> = new.iter().map(|one| door.request(&Request::Unseal(share(one)))).collect();
    let [_, Told::Failed(refused)] = by_new.as_slice() else { panic!("{by_new:?}") };
    assert_eq!(refused.code, "SR-SEALED-013");
    for one in &old[1..] {
        drop(door.request(&Request::Unseal(share(one))));
    }
    assert!(status(&mut door).incoming);
    assert!(matches!(door.request(&Request::ShowCustody(share(&new[0]))), Told::Unsealing(_)));
    assert!(matches!(door.request(&Request::ShowCustody(share(&new[1]))), Told::Done));
    assert!(!status(&mut door).incoming);
    // The record of the generation before is rewritten, and its keys are destroyed.
    until(|| match door.request(&Request::KeyStatus) {
        Told::Keys(keys) => keys.epochs == [(2, keys.records)],
        other => panic!("{other:?}"),
    });
    assert!(matches!(door.request(&Request::UserCreate(label("bea"))), Told::User(_)));

    keeper.kill_and_start();
    door = keeper.operator();
    let stale = failed(door.request(&Request::Unseal(share(&old[0]))));
    assert!(stale.message.contains("stale"), "{}", stale.message);
    for one in &new {
        drop(door.request(&Request::Unseal(share(one))));
    }
    match door.request(&Request::UserList) {
        Told::Users(users) => assert_eq!(users.len(), 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_passphrase_is_changed_by_who_knows_it_and_each_attempt_is_in_the_journal() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let mut door = keeper.operator();
    let act = || WaysAct::Replace(1, vec![SealWish::Passphrase(say(OTHER))]);
    let by = |text: &[u8]| vec![UnsealWith::Passphrase(say(text))];
    let before = keeper.entries("act");
    assert_eq!(failed(change(&mut door, by(b"not the passphrase"), act())).code, "SR-SEALED-007");
    // Begun, before it was tried; failed, when that is written.
    until(|| keeper.entries("act") == before + 2);
    assert!(matches!(change(&mut door, by(PASSPHRASE), act()), Told::Done));
    let [way] = <[WayRow; 1]>::try_from(ways(&mut door)).unwrap();
    assert_eq!((way.id, way.standing), (2, WayStanding::InForce));
    let locks = way.locks;
    assert_eq!(locks, [LockRow::Passphrase]);
    assert_eq!(failed(change(&mut door, by(OTHER), WaysAct::Remove(2))).code, "SR-WAYS-006");
    assert!(matches!(door.request(&Request::Seal), Told::Done));
    let with = |text: &[u8]| Request::Unseal(UnsealWith::Passphrase(say(text)));
    assert_eq!(failed(door.request(&with(PASSPHRASE))).code, "SR-SEALED-007");
    assert!(matches!(door.request(&with(OTHER)), Told::Unsealed));
}

#[test]
fn shares_are_tied_to_the_attempt_that_their_bringer_was_told() {
    let mut keeper = Keeper::start();
    let shares = three(&mut keeper.operator());
    keeper.kill_and_start();
    let mut door = keeper.operator();
    let Told::Unsealing(progress) = door.request(&Request::Unseal(share(&shares[0]))) else {
        panic!()
    };
    let join =
        |attempt: &str| Request::Join { attempt: attempt.to_owned(), with: share(&shares[1]) };
    for wrong in ["", "000", if progress.attempt == "0000" { "0001" } else { "0000" }] {
        assert_eq!(failed(door.request(&join(wrong))).code, "SR-SEALED-009");
    }
    let abandon = Request::AbandonUnseal { attempt: progress.attempt.clone() };
    assert!(matches!(door.request(&abandon), Told::Done));
    assert_eq!(status(&mut door).state, VaultState::Sealed);
    let Told::Unsealing(progress) = door.request(&Request::Unseal(share(&shares[0]))) else {
        panic!()
    };
    assert!(matches!(door.request(&join(&progress.attempt)), Told::Unsealed));
}

// Red when the parts of an attempt are left in memory by a seal.
#[test]
fn a_seal_ends_the_attempt_that_is_under_way() {
    let mut keeper = Keeper::start();
    let shares = three(&mut keeper.operator());
    keeper.kill_and_start();
    let mut door = keeper.operator();
    let bring = |at: usize| Request::Unseal(share(&shares[at]));
    assert!(matches!(door.request(&bring(0)), Told::Unsealing(_)));
    assert!(matches!(door.request(&Request::Seal), Told::Done));
    let found = status(&mut door);
    assert_eq!((found.state, found.unsealing), (VaultState::Sealed, None));
    match door.request(&bring(1)) {
        Told::Unsealing(progress) => assert_eq!(progress.accepted, [2]),
        other => panic!("a share from before the seal still counts: {other:?}"),
    }
    assert!(matches!(door.request(&bring(0)), Told::Unsealed));
}

// Guards the panic seal. Red when it waits for the journal or for the acts' turn.
#[test]
fn the_panic_seal_ends_the_keeper_at_once_even_when_the_disk_stalls() {
    // 100 ms are promised on a machine that is not loaded; this one may be. Who waits for the disk does so each time.
    let mut times = Vec::new();
    while times.iter().all(|took| *took >= Duration::from_secs(2)) {
        assert!(times.len() < 3, "{times:?}");
        let Some(took) = panic_seal_on_a_stalled_disk() else {
            strongroom_soak::skipped("only root mounts a file system and freezes it");
            return;
        };
        eprintln!("the keeper ended {took:?} after the panic seal");
        times.push(took);
    }
}

/// How long the keeper outlived the panic seal; `None` for who is not root.
fn panic_seal_on_a_stalled_disk() -> Option<Duration> {
    let mut keeper = Keeper::start_on_a_disk()?;
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    keeper.disk().freeze();
    // An act that hangs has the turn, and calls wait for their entries.
    let mut stuck = keeper.operator();
    stuck.send(&Request::UserCreate(label("bea")));
    ask_calls(&mut gateway, &proof);
    let mut door = keeper.operator();
    assert_eq!(status(&mut door).state, VaultState::Ready);
    let begun = Instant::now();
    door.send(&Request::Panic);
    // A thread that is stuck in the frozen disk keeps the process's entry until the disk lets it go.
    until(|| keeper.is_gone());
    let took = begun.elapsed();
    keeper.disk().thaw();
    assert_eq!(keeper.wait().code(), Some(PANIC_EXIT.into()));
    keeper.start_again();
    assert_eq!(status(&mut keeper.operator()).state, VaultState::Sealed);
    Some(took)
}

// Red when the mark of the seal is waited for without a bound, or when the exit code does not tell an operator's seal.
#[test]
fn a_seal_on_a_disk_that_stalls_ends_the_keeper_and_tells_that_an_operator_wanted_it() {
    let Some(mut keeper) = Keeper::start_on_a_disk() else {
        strongroom_soak::skipped("only root mounts a file system and freezes it");
        return;
    };
    furnish(&keeper);
    keeper.disk().freeze();
    keeper.operator().send(&Request::Seal);
    until(|| keeper.is_gone());
    keeper.disk().thaw();
    assert_eq!(keeper.wait().code(), Some(SEAL_EXIT.into()));
}

#[test]
fn the_panic_signal_does_the_same() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    assert!(Command::new("kill").args(["-USR1", &keeper.pid()]).status().unwrap().success());
    assert_eq!(keeper.wait().code(), Some(PANIC_EXIT.into()));
    keeper.start_again();
    assert_eq!(status(&mut keeper.operator()).state, VaultState::Sealed);
}

#[test]
fn the_usual_signal_ends_the_keeper_in_time_while_calls_wait_for_a_stalled_disk() {
    let Some(mut keeper) = Keeper::start_on_a_disk() else {
        strongroom_soak::skipped("only root mounts a file system and freezes it");
        return;
    };
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    keeper.disk().freeze();
    ask_calls(&mut gateway, &proof);
    let begun = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &keeper.pid()]).status().unwrap().success());
    until(|| keeper.is_gone());
    // It waits 5 s for its writers, and no longer.
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    keeper.disk().thaw();
    assert!(!keeper.wait().success());
    keeper.start_again();
    assert_eq!(status(&mut keeper.operator()).state, VaultState::Sealed);
}
