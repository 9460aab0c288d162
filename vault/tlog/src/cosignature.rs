//! What a witness signs (C2SP tlog-cosignature, the Ed25519 form): that a checkpoint continues every one that it saw before.
//!
//! ```text
//! signature = timestamp (8 bytes, big-endian) ‖ Ed25519("cosignature/v1\ntime <timestamp>\n" ‖ text of the checkpoint)
//! ```
//! The same key also answers a vault that asks, while it is being unsealed, how far it was: over a number that the vault made
//! for this, so that an old answer is none.
//! ```text
//! answer    = Ed25519("strongroom-witness-answer/v1\nnonce <64 hex>\n" ‖ text of the checkpoint)
//! ```
//! Invariant: the first line of what is signed tells the two apart, and both from a note, whose key is of another type.

use std::fmt;

use thiserror::Error;

use crate::checkpoint::{BadCheckpoint, Checkpoint};
use crate::key::{BadKey, COSIGNATURE, Name, Pair, PublicKey, SEED_BYTES, SIGNATURE_BYTES};
use crate::note::{BadNote, Line, Note};

/// When a witness signed, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// A number that the vault makes for one unsealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; NONCE_BYTES]);

/// Bytes of a [`Nonce`].
pub const NONCE_BYTES: usize = 32;

/// Signs as a witness.
pub struct Witness {
    pair: Pair,
}

/// Verifies what one witness signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    key: PublicKey,
}

/// Not this witness's answer to this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the witness's answer to this unsealing")]
pub struct BadAnswer;

impl Timestamp {
    /// The last that there is.
    pub const LAST: Self = Self(u64::MAX >> 1);

    /// At most 2^63 - 1, as the specification has it.
    pub const fn new(seconds: u64) -> Option<Self> {
        if seconds <= u64::MAX >> 1 { Some(Self(seconds)) } else { None }
    }

    /// Seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0
    }
}

impl Witness {
    /// A witness by its seed.
    ///
    /// # Errors
    /// When the library refuses the seed.
    pub fn from_seed(name: Name, seed: &[u8; SEED_BYTES]) -> Result<Self, BadKey> {
        Ok(Self { pair: Pair::from_seed(name, COSIGNATURE, seed)? })
    }

    /// Who verifies what this signs.
    pub fn key(&self) -> WitnessKey {
        WitnessKey { key: self.pair.public.clone() }
    }

    /// The line to add to a checkpoint's note. Whoever calls has verified that it continues what was seen before, and has put
    /// that down durably.
    pub fn cosign(&self, checkpoint: &Checkpoint, at: Timestamp) -> Line {
        let signature = self.pair.sign(cosigned(at, &checkpoint.encode()).as_bytes());
        self.pair.line(&[at.0.to_be_bytes().as_slice(), &signature].concat())
    }

    /// The answer to a vault that is being unsealed.
    pub fn answer(&self, nonce: Nonce, checkpoint: &Checkpoint) -> Vec<u8> {
        self.pair.sign(answered(nonce, checkpoint).as_bytes())
    }
}

impl WitnessKey {
    /// Reads a vkey of type 0x04.
    ///
    /// # Errors
    /// When it is none, or of another type.
    pub fn parse(vkey: &str) -> Result<Self, BadKey> {
        Ok(Self { key: PublicKey::parse(vkey, COSIGNATURE)? })
    }

    /// The vkey.
    pub fn vkey(&self) -> String {
        self.key.vkey()
    }

    /// The witness's name.
    pub const fn name(&self) -> &Name {
        &self.key.name
    }

    /// Checks that a checkpoint's note is cosigned by this witness, and says since when.
    ///
    /// # Errors
    /// When it is not, or any line that says it is by this witness does not hold.
    pub fn verify(&self, note: &Note) -> Result<Timestamp, BadCheckpoint> {
        Checkpoint::parse(note.text())?;
        note.verify(self.key.id, &self.key.name, |signature| {
            self.timestamp(note.text(), signature).is_some()
        })?;
        let ours = note.lines().iter().filter(|line| self.made(line));
        let times = ours.filter_map(|line| self.timestamp(note.text(), line.signature()));
        Ok(times.max().ok_or(BadNote::Unsigned)?)
    }

    /// Whether a line says that it is by this witness.
    pub fn made(&self, line: &Line) -> bool {
        line.id() == self.key.id && *line.name() == self.key.name
    }

    /// Checks an answer to a vault that is being unsealed.
    ///
    /// # Errors
    /// When it is not this witness's, or for another number or checkpoint.
    pub fn verify_answer(
        &self,
        nonce: Nonce,
        checkpoint: &Checkpoint,
        answer: &[u8],
    ) -> Result<(), BadAnswer> {
        let holds = self.key.holds(answered(nonce, checkpoint).as_bytes(), answer);
        if holds { Ok(()) } else { Err(BadAnswer) }
    }

    /// The time in a signature that holds.
    fn timestamp(&self, text: &str, signature: &[u8]) -> Option<Timestamp> {
        let (at, signature) = signature.split_first_chunk::<8>()?;
        let at = Timestamp::new(u64::from_be_bytes(*at))?;
        let holds = signature.len() == SIGNATURE_BYTES
            && self.key.holds(cosigned(at, text).as_bytes(), signature);
        holds.then_some(at)
    }
}

fn cosigned(at: Timestamp, text: &str) -> String {
    format!("cosignature/v1\ntime {}\n{text}", at.0)
}

fn answered(nonce: Nonce, checkpoint: &Checkpoint) -> String {
    format!("strongroom-witness-answer/v1\nnonce {}\n{}", hex::encode(nonce.0), checkpoint.encode())
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Witness({})", self.pair.public.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{Hash, Size};
    use crate::key::{Signer, Verifier};

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: name("log").into(), size: Size(7), root: Hash([1; 32]) }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::new(seconds).unwrap()
    }

    #[test]
    fn a_witness_says_since_when() {
        let witness = Witness::from_seed(name("usb"), &[3; 32]).unwrap();
        let key = WitnessKey::parse(&witness.key().vkey()).unwrap();
        let log = Signer::from_seed(name("log"), &[4; 32]).unwrap();
        let mut note = checkpoint().sign(&log).unwrap();
        assert_eq!(key.verify(&note), Err(BadNote::Unsigned.into()));
        note.push(witness.cosign(&checkpoint(), at(1_679_315_147)));
        let note = Note::parse(note.encode().as_bytes()).unwrap();
        assert_eq!(key.verify(&note).map(Timestamp::seconds), Ok(1_679_315_147));
        assert_eq!(Checkpoint::open(&note, &log.verifier()), Ok(checkpoint()));
    }

    #[test]
    fn a_cosignature_holds_for_its_checkpoint_and_time_only() {
        let witness = Witness::from_seed(name("usb"), &[3; 32]).unwrap();
        let line = witness.cosign(&checkpoint(), at(100));
        let mut other = Note::new(&Checkpoint { size: Size(8), ..checkpoint() }.encode()).unwrap();
        other.push(line.clone());
        assert_eq!(witness.key().verify(&other), Err(BadNote::Forged.into()));
        let mut later = line.signature().to_vec();
        later[7] ^= 1;
        let mut note = Note::new(&checkpoint().encode()).unwrap();
        note.push(Line::new(line.name().clone(), line.id(), later));
        assert_eq!(witness.key().verify(&note), Err(BadNote::Forged.into()));
        assert_eq!(Timestamp::new(u64::MAX), None);
    }

    #[test]
    fn a_cosignature_under_anything_but_a_checkpoint_says_nothing() {
        let witness = Witness::from_seed(name("usb"), &[3; 32]).unwrap();
        let text = "not a checkpoint\n";
        let signature = witness.pair.sign(cosigned(at(5), text).as_bytes());
        let mut note = Note::new(text).unwrap();
        note.push(witness.pair.line(&[5_u64.to_be_bytes().as_slice(), &signature].concat()));
        assert_eq!(witness.key().verify(&note), Err(BadCheckpoint::Form));
    }

    #[test]
    fn keys_of_the_two_types_do_not_pass_for_each_other() {
        let witness = Witness::from_seed(name("usb"), &[3; 32]).unwrap();
        let signer = Signer::from_seed(name("usb"), &[3; 32]).unwrap();
        let wrong = BadKey::Type { wanted: 1, found: 4 };
        assert_eq!(Verifier::parse(&witness.key().vkey()), Err(wrong));
        let wrong = BadKey::Type { wanted: 4, found: 1 };
        assert_eq!(WitnessKey::parse(&signer.verifier().vkey()), Err(wrong));
        let note = checkpoint().sign(&signer).unwrap();
        assert_eq!(witness.key().verify(&note), Err(BadNote::Unsigned.into()));
    }

    #[test]
    fn an_answer_is_for_one_number_one_checkpoint_one_witness() {
        let witness = Witness::from_seed(name("usb"), &[3; 32]).unwrap();
        let other = Witness::from_seed(name("usb"), &[5; 32]).unwrap();
        let nonce = Nonce([6; NONCE_BYTES]);
        let answer = witness.answer(nonce, &checkpoint());
        let key = witness.key();
        assert_eq!(key.verify_answer(nonce, &checkpoint(), &answer), Ok(()));
        let replayed = key.verify_answer(Nonce([7; NONCE_BYTES]), &checkpoint(), &answer);
        assert_eq!(replayed, Err(BadAnswer));
        let larger = Checkpoint { size: Size(8), ..checkpoint() };
        assert_eq!(key.verify_answer(nonce, &larger, &answer), Err(BadAnswer));
        assert_eq!(other.key().verify_answer(nonce, &checkpoint(), &answer), Err(BadAnswer));
        assert_eq!(key.verify_answer(nonce, &checkpoint(), &[]), Err(BadAnswer));
        let line = witness.cosign(&checkpoint(), at(1));
        assert_eq!(key.verify_answer(nonce, &checkpoint(), &line.signature()[8..]), Err(BadAnswer));
    }
}
