//! Witnesses of the test's own, on the operators' door: what they are told, what they are believed, and a vault that waits for one.

use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::witness::{FromWitness, KeyText, NoteText, ToWitness};
use strongroom_protocol::operator::{Answer, Fault, Pick, Request, Status, UnsealWith};
use strongroom_tlog::cosignature::{Nonce, Timestamp, Witness};
use strongroom_tlog::key::Name;
use strongroom_tlog::{
    Checkpoint, Edge, Entries, Hash, Note, Size, Verifier, leaf_hash, verify_consistency,
};

use crate::keeper::{self, Keeper};
use crate::{admitted, ask, chat, furnish, label, passphrase, peers, refused, token};

use strongroom_policy::refusal::Refusal;

fn usb() -> Witness {
    Witness::from_seed(Name::parse("usb").unwrap(), &[9; 32]).unwrap()
}

fn key(witness: &Witness) -> KeyText {
    KeyText::new(witness.key().vkey()).unwrap()
}

fn fault(answer: Answer) -> Fault {
    match answer {
        Answer::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn log(keeper: &Keeper) -> Verifier {
    match keeper.operator().request(&Request::AuditKey) {
        Answer::AuditKey(vkey) => Verifier::parse(&vkey).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn status(keeper: &Keeper) -> Status {
    match keeper.operator().request(&Request::Status) {
        Answer::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

fn enrol(keeper: &Keeper, witness: &Witness, required: bool) {
    let add = Request::WitnessAdd { key: key(witness), required };
    assert!(matches!(keeper.operator().request(&add), Answer::Done));
}

fn unseal(keeper: &Keeper) -> Answer {
    keeper.operator().request(&Request::Unseal(UnsealWith::Passphrase(passphrase())))
}

/// What a witness is shown: the head, the proof, the number to answer over.
fn shown(keeper: &Keeper, size: Size) -> (Note, Checkpoint, Vec<Hash>, Option<Nonce>) {
    try_shown(keeper, size).unwrap()
}

/// `None` before the first checkpoint.
fn try_shown(keeper: &Keeper, size: Size) -> Option<(Note, Checkpoint, Vec<Hash>, Option<Nonce>)> {
    let say = Request::Witness(FromWitness::Ask { size: size.0 });
    let (note, proof, nonce) = match keeper.operator().request(&say) {
        Answer::Witness(ToWitness::Checkpoint { note, proof, nonce }) => (note, proof, nonce),
        Answer::Failed(fault) if fault.code == "SR-WITNESS-003" => return None,
        other => panic!("{other:?}"),
    };
    let note = Note::parse(note.as_ref().as_bytes()).unwrap();
    let head = Checkpoint::parse(note.text()).unwrap();
    Some((note, head, proof.into_iter().map(Hash).collect(), nonce.map(Nonce)))
}

/// A checkpoint over at least so many entries; checkpoints come within a second.
fn covering(keeper: &Keeper, entries: u64) -> (Note, Checkpoint) {
    let mut found = None;
    keeper::until(|| {
        found = try_shown(keeper, Size(0)).filter(|(_, head, ..)| head.size.0 >= entries);
        found.is_some()
    });
    let (note, head, ..) = found.unwrap();
    (note, head)
}

fn tell(
    keeper: &Keeper,
    witness: &Witness,
    (note, head): (&Note, &Checkpoint),
    answer: Option<Nonce>,
) -> Answer {
    let mut note = note.clone();
    note.push(witness.cosign(head, Timestamp::new(1_700_000_000 + head.size.0).unwrap()));
    keeper.operator().request(&Request::Witness(FromWitness::Tell {
        key: key(witness),
        note: NoteText::new(note.encode()).unwrap(),
        answer: answer.map(|nonce| witness.answer(nonce, head)),
    }))
}

fn taken(answer: &Answer) -> bool {
    matches!(answer, Answer::Witness(ToWitness::Taken))
}

#[test]
fn a_witness_is_shown_what_continues_and_is_believed_when_it_is_enrolled() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let log = log(&keeper);
    let (note, head) = covering(&keeper, 3);
    assert_eq!(Checkpoint::open(&note, &log), Ok(head.clone()));
    let stranger = fault(tell(&keeper, &usb(), (&note, &head), None));
    assert_eq!(stranger.code, "SR-WITNESS-010");
    enrol(&keeper, &usb(), false);
    assert!(taken(&tell(&keeper, &usb(), (&note, &head), None)));
    let other = Witness::from_seed(Name::parse("usb").unwrap(), &[8; 32]).unwrap();
    assert_eq!(fault(tell(&keeper, &other, (&note, &head), None)).code, "SR-WITNESS-010");
    let again = Request::WitnessAdd { key: key(&other), required: false };
    assert_eq!(fault(keeper.operator().request(&again)).code, "SR-WITNESS-008");

    token(&mut keeper.operator(), "more");
    covering(&keeper, head.size.0 + 1);
    let (_, newer, proof, nonce) = shown(&keeper, head.size);
    let consistent = verify_consistency((head.size, head.root), (newer.size, newer.root), &proof);
    assert_eq!((consistent, nonce), (Ok(()), None));
    let Answer::Witnesses(rows) = keeper.operator().request(&Request::WitnessList) else {
        panic!()
    };
    assert_eq!((rows.len(), rows[0].seen_size), (1, Some(head.size.0)));
    let remove = Request::WitnessRemove(KeyText::new("usb".to_owned()).unwrap());
    assert!(matches!(keeper.operator().request(&remove), Answer::Done));
    assert_eq!(fault(keeper.operator().request(&remove)).code, "SR-PICK-001");
}

#[test]
fn a_mirror_gets_every_entry_that_a_checkpoint_covers() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let (_, head) = covering(&keeper, 4);
    let mut edge = Edge::empty();
    while edge.size() < head.size {
        let from = u8::try_from(edge.size().0).unwrap();
        let say = Request::Witness(FromWitness::Entries { bundle: 0, from });
        let Answer::Witness(ToWitness::Entries(bytes)) = keeper.operator().request(&say) else {
            panic!("no entries");
        };
        for entry in Entries::of(&bytes) {
            if edge.size() < head.size {
                drop(edge.push(leaf_hash(entry.unwrap())).unwrap());
            }
        }
    }
    assert_eq!(edge.root(), head.root);
}

// Red when the answer is not verified, when calls or acts do not look at the gate, and when it opens without a number.
#[test]
fn a_vault_waits_for_a_required_witness_and_opens_by_its_answer_alone() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    enrol(&keeper, &usb(), true);
    let (note, head) = covering(&keeper, 3);
    assert!(taken(&tell(&keeper, &usb(), (&note, &head), None)));
    keeper.kill_and_start();
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    let waiting = status(&keeper);
    assert_eq!(waiting.state, VaultState::Unsealing);
    assert_eq!(waiting.awaited.unwrap().witnesses, ["usb"]);

    let (mut gateway, _courier) = peers(&keeper);
    assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::Sealed);
    let mut door = keeper.operator();
    let grow = fault(door.request(&Request::UserCreate(label("mallory"))));
    assert_eq!((grow.code.as_str(), grow.exit.code()), ("SR-WITNESS-009", 3));
    let leave = Request::WitnessRemove(KeyText::new("usb".to_owned()).unwrap());
    assert_eq!(fault(door.request(&leave)).code, "SR-WITNESS-009");

    let (note, head, _, nonce) = shown(&keeper, head.size);
    let nonce = nonce.unwrap();
    assert!(
        taken(&tell(&keeper, &usb(), (&note, &head), None)),
        "a cosignature alone opens nothing"
    );
    let replayed = fault(tell(&keeper, &usb(), (&note, &head), Some(Nonce([0; 32]))));
    assert_eq!(replayed.code, "SR-WITNESS-005");
    assert_eq!(status(&keeper).state, VaultState::Unsealing);
    assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::Sealed);

    assert!(taken(&tell(&keeper, &usb(), (&note, &head), Some(nonce))));
    assert_eq!((status(&keeper).state, status(&keeper).awaited), (VaultState::Ready, None));
    admitted(ask(&mut gateway, chat(&proof)));
    assert!(matches!(door.request(&Request::UserCreate(label("bob"))), Answer::User(_)));
}

#[test]
fn while_it_waits_rights_can_be_taken() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    enrol(&keeper, &usb(), true);
    keeper.kill_and_start();
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    let revoke = Request::TokenRevoke(Pick(label("laptop")));
    assert!(matches!(keeper.operator().request(&revoke), Answer::Done));
    assert!(matches!(keeper.operator().request(&Request::Seal), Answer::Done));
}

/// Everything that the keeper has on its disk, as it was.
fn rolled_back(required: bool) -> (Keeper, Note, Checkpoint) {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    enrol(&keeper, &usb(), required);
    assert!(matches!(keeper.operator().request(&Request::Seal), Answer::Done));
    keeper.kill();
    let (data, old) = (keeper.data(), keeper.data().with_file_name("old"));
    keeper::copy(&data, &old);
    keeper.start_again();
    assert!(matches!(unseal(&keeper), Answer::Unsealed));
    let (note, head) = covering(&keeper, 3);
    let (.., nonce) = shown(&keeper, Size(0));
    assert!(taken(&tell(&keeper, &usb(), (&note, &head), nonce)));
    token(&mut keeper.operator(), "newer");
    let (note, head) = covering(&keeper, head.size.0 + 1);
    assert!(taken(&tell(&keeper, &usb(), (&note, &head), None)));
    keeper.kill();
    std::fs::remove_dir_all(&data).unwrap();
    keeper::copy(&old, &data);
    keeper.start_again();
    assert!(matches!(unseal(&keeper), Answer::Unsealed), "the disk alone does not show it");
    (keeper, note, head)
}

#[test]
fn an_older_copy_of_the_whole_disk_is_found_by_the_witness_and_closed() {
    let (keeper, note, head) = rolled_back(true);
    assert_eq!(status(&keeper).state, VaultState::Unsealing);
    let (_, ours, _, nonce) = shown(&keeper, head.size);
    assert!(ours.size < head.size);
    let found = fault(tell(&keeper, &usb(), (&note, &head), nonce));
    assert_eq!((found.code.as_str(), found.exit.code()), ("SR-WITNESS-006", 6));
    let shut = status(&keeper);
    assert_eq!(
        (shut.state, shut.fault.unwrap().code),
        (VaultState::Faulty, "SR-WITNESS-006".to_owned())
    );
    assert!(keeper.told().contains("witness.contradicts"));
}

#[test]
fn a_witness_that_is_not_required_finds_it_too_also_behind_more_entries() {
    let (keeper, note, head) = rolled_back(false);
    // The copy goes on until it has more entries than the witness saw: others.
    for round in 0..head.size.0 {
        token(&mut keeper.operator(), &format!("t{round}"));
    }
    covering(&keeper, head.size.0 + 1);
    let found = fault(tell(&keeper, &usb(), (&note, &head), None));
    assert_eq!((found.code.as_str(), found.exit.code()), ("SR-WITNESS-006", 6));
    assert_eq!(status(&keeper).state, VaultState::Faulty);
}

#[test]
fn nobody_closes_a_vault_with_a_note_that_it_has_not_signed() {
    let keeper = Keeper::start();
    furnish(&keeper);
    enrol(&keeper, &usb(), false);
    let (_, head) = covering(&keeper, 3);
    let more = Checkpoint { size: Size(head.size.0 + 1000), ..head };
    let thief = strongroom_tlog::Signer::from_seed(log(&keeper).name().clone(), &[3; 32]).unwrap();
    let note = more.sign(&thief).unwrap();
    assert_eq!(fault(tell(&keeper, &usb(), (&note, &more), None)).code, "SR-WITNESS-004");
    assert_eq!(status(&keeper).state, VaultState::Ready);
}
