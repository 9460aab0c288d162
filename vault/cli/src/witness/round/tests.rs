//! A witness against vaults that are honest, rolled back, forked, re-signed, or that lie about their entries.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, PREFIX_BYTES, announced, decode, encode};
use strongroom_protocol::operator::witness::{FromWitness, NoteText, ToWitness};
use strongroom_protocol::operator::{Answer, Request};
use strongroom_tlog::bundle::push_entry;
use strongroom_tlog::cosignature::{Nonce, WitnessKey};
use strongroom_tlog::key::Name;
use strongroom_tlog::{
    Checkpoint, Edge, Hash, Note, Signer, Size, Tile, Tiles, Verifier, leaf_hash, prove_consistency,
};
use tempfile::TempDir;

use super::super::memory::{self, Memory};
use super::super::mirror::Mirror;
use super::{Told, run};
use crate::failure::Outcome;
use crate::link::Link;

fn signer(seed: u8) -> Signer {
    Signer::from_seed(Name::parse("strongroom/0011").unwrap(), &[seed; 32]).unwrap()
}

fn log() -> Verifier {
    signer(1).verifier()
}

/// A vault as far as a witness sees it.
#[derive(Clone)]
struct Vault {
    entries: Vec<Vec<u8>>,
    signer: u8,
    nonce: Option<[u8; 32]>,
    /// Entries that it hands to mirrors instead of its own.
    shown: Option<Vec<Vec<u8>>>,
}

impl Vault {
    fn of(size: usize, word: &str) -> Self {
        let entries =
            (1..=size).map(|n| format!("{{\"n\":{n},\"what\":\"{word}\"}}\n").into_bytes());
        Self { entries: entries.collect(), signer: 1, nonce: None, shown: None }
    }

    fn tree(&self, size: usize) -> (Leaves, Edge) {
        let mut edge = Edge::empty();
        let leaves: Vec<Hash> = self.entries[..size].iter().map(|entry| leaf_hash(entry)).collect();
        for leaf in &leaves {
            drop(edge.push(*leaf).unwrap());
        }
        (Leaves(leaves), edge)
    }

    fn answer(&self, say: &FromWitness) -> ToWitness {
        match say {
            FromWitness::Ask { size } => {
                let (leaves, edge) = self.tree(self.entries.len());
                let origin = Name::parse("strongroom/0011").unwrap().into();
                let head = Checkpoint { origin, size: edge.size(), root: edge.root() };
                let note = head.sign(&signer(self.signer)).unwrap().encode();
                let proof = prove_consistency(Size(*size), head.size, &leaves).unwrap_or_default();
                let proof = proof.into_iter().map(|hash| hash.0).collect();
                ToWitness::Checkpoint {
                    note: NoteText::new(note).unwrap(),
                    proof,
                    nonce: self.nonce,
                }
            }
            FromWitness::Tell { .. } => ToWitness::Taken,
            FromWitness::Entries { bundle, from } => {
                let entries = self.shown.as_ref().unwrap_or(&self.entries);
                let start = usize::try_from(bundle * 256 + u64::from(*from)).unwrap();
                let end = entries.len().min((usize::try_from(*bundle).unwrap() + 1) * 256);
                let mut bytes = Vec::new();
                // Three at a time, so that there are many answers.
                for entry in entries.get(start..end).unwrap_or_default().iter().take(3) {
                    push_entry(&mut bytes, entry).unwrap();
                }
                ToWitness::Entries(bytes)
            }
        }
    }
}

/// Level 0 alone: those above are made of it.
struct Leaves(Vec<Hash>);

impl Tiles for Leaves {
    type Error = std::convert::Infallible;
    fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>, Self::Error> {
        let start = usize::try_from(tile.index()).unwrap() * 256;
        let end = (start + 256).min(self.0.len());
        Ok((tile.level() == 0).then(|| self.0[start..end].to_vec()))
    }
}

struct Stand {
    scratch: TempDir,
    key: WitnessKey,
}

impl Stand {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let key = memory::make(&scratch.path().join("w"), &Name::parse("usb").unwrap(), &log());
        Self { key: key.unwrap(), scratch }
    }

    fn state(&self) -> PathBuf {
        self.scratch.path().join("w")
    }

    fn kept(&self) -> Option<Note> {
        let bytes = fs::read(self.state().join("checkpoint")).ok()?;
        Some(Note::parse(&bytes).unwrap())
    }

    fn kept_size(&self) -> u64 {
        self.kept().map_or(0, |note| Checkpoint::open(&note, &log()).unwrap().size.0)
    }

    /// One round against a vault; answers what the vault heard.
    fn round(&self, vault: &Vault, mirror: bool) -> (Outcome<Told>, Vec<FromWitness>) {
        self.watched(vault, mirror, |_| {})
    }

    fn watched(
        &self,
        vault: &Vault,
        mirror: bool,
        on_tell: impl Fn(&Path) + Send + 'static,
    ) -> (Outcome<Told>, Vec<FromWitness>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (vault, state) = (vault.clone(), self.state());
        let keeper = thread::spawn(move || {
            serve(theirs, &vault, |say| {
                if matches!(say, FromWitness::Tell { .. }) {
                    on_tell(&state);
                }
            })
        });
        let mut memory = Memory::open(&self.state()).unwrap();
        let mut mirror =
            mirror.then(|| Mirror::open(&self.state().join("mirror"), &log()).unwrap());
        let mut link = Link::over(ours, Path::new("test"));
        let told = run(&mut memory, mirror.as_mut(), &mut link);
        drop(link);
        (told, keeper.join().unwrap())
    }
}

fn serve(mut stream: UnixStream, vault: &Vault, see: impl Fn(&FromWitness)) -> Vec<FromWitness> {
    let mut heard = Vec::new();
    loop {
        let mut prefix = [0; PREFIX_BYTES];
        if stream.read_exact(&mut prefix).is_err() {
            return heard;
        }
        let mut body = vec![0; announced(prefix, MAX_OPERATOR_BYTES).unwrap()];
        stream.read_exact(&mut body).unwrap();
        let Request::Witness(say) = decode(&body).unwrap() else { panic!("no witness's message") };
        see(&say);
        let answer = Answer::Witness(vault.answer(&say));
        heard.push(say);
        stream.write_all(&encode(&answer, MAX_OPERATOR_BYTES).unwrap()).unwrap();
    }
}

fn told(heard: &[FromWitness]) -> Vec<(Note, Option<Vec<u8>>)> {
    let tells = heard.iter().filter_map(|say| match say {
        FromWitness::Tell { note, answer, .. } => {
            Some((Note::parse(note.as_ref().as_bytes()).unwrap(), answer.clone()))
        }
        FromWitness::Ask { .. } | FromWitness::Entries { .. } => None,
    });
    tells.collect()
}

#[test]
fn a_growing_journal_is_cosigned_step_by_step() {
    let stand = Stand::new();
    for size in [0, 1, 2, 255, 256, 257, 700] {
        let (told_, heard) = stand.round(&Vault::of(size, "admit"), false);
        let told_ = told_.unwrap();
        assert_eq!((told_.size.0, told_.answered), (size as u64, false));
        let notes = told(&heard);
        assert_eq!(notes.len(), 1);
        assert!(stand.key.verify(&notes[0].0).is_ok());
        assert_eq!(stand.kept_size(), size as u64);
    }
    let (again, _) = stand.round(&Vault::of(700, "admit"), false);
    assert!(!again.unwrap().news);
}

#[test]
fn a_smaller_a_forked_and_a_re_signed_tree_are_refused_and_nothing_is_forgotten() {
    let stand = Stand::new();
    stand.round(&Vault::of(300, "admit"), false).0.unwrap();
    let kept = stand.kept().unwrap();
    let mut re_signed = Vault::of(400, "admit");
    re_signed.signer = 2;
    let mut edited = Vault::of(400, "admit");
    edited.entries[150][10] ^= 1;
    for (vault, exit, tells) in [
        (Vault::of(299, "admit"), 13, 1),
        (Vault::of(0, "admit"), 13, 1),
        (Vault::of(300, "close"), 14, 1),
        (Vault::of(400, "close"), 14, 1),
        (edited, 14, 1),
        (re_signed, 15, 0),
    ] {
        let (refused, heard) = stand.round(&vault, false);
        assert_eq!(refused.unwrap_err().exit, exit);
        // What is kept is shown, for it proves what happened; the new tree is not signed.
        let notes = told(&heard);
        assert_eq!(notes.len(), tells);
        assert!(notes.iter().all(|(note, answer)| *note == kept && answer.is_none()));
        assert_eq!(stand.kept(), Some(kept.clone()));
    }
    stand.round(&Vault::of(301, "admit"), false).0.unwrap();
}

#[test]
fn the_checkpoint_lies_on_the_disk_before_the_vault_hears_of_it() {
    let stand = Stand::new();
    stand.round(&Vault::of(10, "admit"), false).0.unwrap();
    let (told_, _) = stand.watched(&Vault::of(20, "admit"), false, |state| {
        let note = Note::parse(&fs::read(state.join("checkpoint")).unwrap()).unwrap();
        assert_eq!(Checkpoint::open(&note, &log()).unwrap().size, Size(20));
    });
    told_.unwrap();
}

#[test]
fn a_witness_that_dies_between_has_forgotten_nothing_that_it_told() {
    // The keeper's end closes as soon as it hears the signature: the witness is as good as killed there.
    let stand = Stand::new();
    stand.round(&Vault::of(10, "admit"), false).0.unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let vault = Vault::of(20, "admit");
    let keeper = thread::spawn(move || {
        for _ in 0..2 {
            let mut prefix = [0; PREFIX_BYTES];
            theirs.read_exact(&mut prefix).unwrap();
            let mut body = vec![0; announced(prefix, MAX_OPERATOR_BYTES).unwrap()];
            theirs.read_exact(&mut body).unwrap();
            let Request::Witness(say) = decode(&body).unwrap() else { panic!() };
            if let FromWitness::Tell { .. } = say {
                return;
            }
            let answer = Answer::Witness(vault.answer(&say));
            theirs.write_all(&encode(&answer, MAX_OPERATOR_BYTES).unwrap()).unwrap();
        }
    });
    let mut memory = Memory::open(&stand.state()).unwrap();
    let broken = run(&mut memory, None, &mut Link::over(ours, Path::new("test")));
    assert!(broken.is_err());
    keeper.join().unwrap();
    drop(memory);
    assert_eq!(stand.kept_size(), 20);
    assert_eq!(stand.round(&Vault::of(19, "admit"), false).0.unwrap_err().exit, 13);
}

#[test]
fn what_cannot_be_put_down_is_not_told() {
    let stand = Stand::new();
    stand.round(&Vault::of(10, "admit"), false).0.unwrap();
    // A directory in the draft's place: even root cannot write there.
    fs::create_dir(stand.state().join("checkpoint.new")).unwrap();
    let (failed, heard) = stand.round(&Vault::of(20, "admit"), false);
    assert_eq!(failed.unwrap_err().code, "SR-CLI-003");
    assert_eq!(told(&heard).len(), 0);
    assert_eq!(stand.kept_size(), 10);
}

#[test]
fn a_vault_that_waits_gets_an_answer_over_its_number() {
    let stand = Stand::new();
    let waiting = Vault { nonce: Some([7; 32]), ..Vault::of(10, "admit") };
    for _ in 0..2 {
        let (told_, heard) = stand.round(&waiting, false);
        assert!(told_.unwrap().answered);
        let (note, answer) = told(&heard).pop().unwrap();
        let head = Checkpoint::open(&note, &log()).unwrap();
        let answer = answer.unwrap();
        assert!(stand.key.verify_answer(Nonce([7; 32]), &head, &answer).is_ok());
        assert!(stand.key.verify_answer(Nonce([8; 32]), &head, &answer).is_err());
    }
    // Rolled back while it waits: the answer is over what is kept.
    let rolled = Vault { nonce: Some([9; 32]), ..Vault::of(9, "admit") };
    let (refused, heard) = stand.round(&rolled, false);
    assert_eq!(refused.unwrap_err().exit, 13);
    let (note, answer) = told(&heard).pop().unwrap();
    let head = Checkpoint::open(&note, &log()).unwrap();
    assert_eq!(head.size, Size(10));
    assert!(stand.key.verify_answer(Nonce([9; 32]), &head, &answer.unwrap()).is_ok());
}

#[test]
fn a_mirror_is_verifiable_and_takes_no_other_entries() {
    let stand = Stand::new();
    for size in [3, 256, 300, 700] {
        stand.round(&Vault::of(size, "admit"), true).0.unwrap();
        let directory =
            crate::audit::directory::Directory::open(&stand.state().join("mirror"), &[]);
        let mut progress = crate::progress::Progress::new("entries", 0);
        let report =
            crate::audit::examine::examine(&directory.unwrap(), &log(), &[], &mut progress);
        let report = report.unwrap();
        assert_eq!((report.findings, report.entries), (vec![], size as u64));
    }
    let mut liar = Vault::of(900, "admit");
    let mut shown = liar.entries.clone();
    shown[800][10] ^= 1;
    liar.shown = Some(shown);
    assert_eq!(stand.round(&liar, true).0.unwrap_err().exit, 14);
    liar.shown = Some(liar.entries[..800].to_vec());
    assert_eq!(stand.round(&liar, true).0.unwrap_err().exit, 14);
    assert_eq!(stand.kept_size(), 700, "nothing is signed that the mirror has not");
    stand.round(&Vault::of(900, "admit"), true).0.unwrap();
}

#[test]
fn a_mirror_that_was_changed_is_not_gone_on_with() {
    let stand = Stand::new();
    stand.round(&Vault::of(300, "admit"), true).0.unwrap();
    let tail = stand.state().join("mirror/tail");
    let mut bytes = fs::read(&tail).unwrap();
    bytes[5] ^= 1;
    fs::write(&tail, bytes).unwrap();
    let failure = Mirror::open(&stand.state().join("mirror"), &log()).unwrap_err();
    assert_eq!(failure.code, "SR-WITNESS-001");
}

#[test]
fn a_directory_is_one_witness_s_and_a_damaged_memory_is_not_none() {
    let stand = Stand::new();
    let name = Name::parse("usb").unwrap();
    assert!(memory::make(&stand.state(), &name, &log()).is_err(), "the key is not overwritten");
    let mode = fs::metadata(stand.state().join("witness.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stand.round(&Vault::of(10, "admit"), false).0.unwrap();
    let open = Memory::open(&stand.state()).unwrap();
    assert_eq!(Memory::open(&stand.state()).unwrap_err().code, "SR-WITNESS-001");
    drop(open);
    let path = stand.state().join("checkpoint");
    let sound = fs::read(&path).unwrap();
    for damaged in [&sound[..sound.len() - 9], b"", sound[..sound.len() / 2].as_ref()] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(Memory::open(&stand.state()).unwrap_err().code, "SR-WITNESS-001");
    }
}
