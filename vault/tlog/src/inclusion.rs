//! A proof that somebody can keep and check without the log (C2SP tlog-proof): an entry's place, the hashes up to the root, and the
//! checkpoint that names the root.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64>                 optional; here the entry itself
//! index <decimal>
//! <base64 hash>                  zero or more, the leaf's neighbour first
//!
//! <checkpoint, a signed note>
//! ```
//! Invariant: what is written is what is read.
//! Distrusts: all of it, the extra data too, until the leaf's hash has led to a root that a pinned key has signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::checkpoint::{BadCheckpoint, Checkpoint};
use crate::hash::{Hash, Index, leaf_hash};
use crate::key::Verifier;
use crate::note::{BadNote, MAX_NOTE_BYTES, Note};
use crate::verify::{BadProof, MAX_PROOF_HASHES, verify_inclusion};

/// Longest proof: an entry in base64, the hashes, the checkpoint.
pub const MAX_PROOF_BYTES: usize = 96 * 1024 + MAX_NOTE_BYTES;

/// A proof as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// What the format calls extra data: the entry.
    pub entry: Option<Vec<u8>>,
    /// Its place.
    pub index: Index,
    /// The hashes up to the root.
    pub hashes: Vec<Hash>,
    /// The checkpoint.
    pub note: Note,
}

/// Why bytes are no proof, or prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadInclusion {
    /// Not in this form.
    #[error("not a proof in the form c2sp.org/tlog-proof@v1")]
    Form,
    /// The checkpoint is not to be believed.
    #[error(transparent)]
    Checkpoint(#[from] BadCheckpoint),
    /// The entry is not in the proof.
    #[error("the proof does not hold the entry that it is about")]
    NoEntry,
    /// The hashes do not lead to the root.
    #[error(transparent)]
    Proof(#[from] BadProof),
}

impl Inclusion {
    /// The text.
    pub fn encode(&self) -> String {
        let mut out = format!("{HEADING}\n");
        if let Some(entry) = &self.entry {
            out.extend([EXTRA, STANDARD.encode(entry).as_str(), "\n"]);
        }
        out.extend([INDEX, self.index.to_string().as_str(), "\n"]);
        for hash in &self.hashes {
            out.extend([hash.to_base64().as_str(), "\n"]);
        }
        out.push('\n');
        out.push_str(&self.note.encode());
        out
    }

    /// Reads a proof. Nothing of it is believed yet.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadInclusion> {
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(BadInclusion::Form);
        }
        let text = str::from_utf8(bytes).map_err(|_| BadInclusion::Form)?;
        let (head, note) = text.split_once("\n\n").ok_or(BadInclusion::Form)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADING) {
            return Err(BadInclusion::Form);
        }
        let extra = lines.next_if(|line| line.starts_with(EXTRA));
        let extra = extra.and_then(|line| line.strip_prefix(EXTRA));
        let entry = extra.map(|text| STANDARD.decode(text)).transpose();
        let index = lines.next().and_then(|line| line.strip_prefix(INDEX));
        let index = index.and_then(read_index).ok_or(BadInclusion::Form)?;
        let hashes: Option<Vec<_>> =
            lines.take(MAX_PROOF_HASHES + 1).map(Hash::from_base64).collect();
        let hashes = hashes.filter(|hashes| hashes.len() <= MAX_PROOF_HASHES);
        Ok(Self {
            entry: entry.map_err(|_| BadInclusion::Form)?,
            index,
            hashes: hashes.ok_or(BadInclusion::Form)?,
            note: Note::parse(note.as_bytes()).map_err(note_error)?,
        })
    }

    /// Checks that the entry within is in the log of `log`, and answers it with the checkpoint.
    ///
    /// # Errors
    /// When that is not shown.
    pub fn verify(&self, log: &Verifier) -> Result<(&[u8], Checkpoint), BadInclusion> {
        let entry = self.entry.as_deref().ok_or(BadInclusion::NoEntry)?;
        let head = Checkpoint::open(&self.note, log)?;
        let tree = (head.size, head.root);
        verify_inclusion(leaf_hash(entry), self.index, tree, &self.hashes)?;
        Ok((entry, head))
    }
}

fn read_index(text: &str) -> Option<Index> {
    let index: u64 = text.parse().ok()?;
    (index.to_string() == text).then_some(Index(index))
}

fn note_error(error: BadNote) -> BadInclusion {
    BadInclusion::Checkpoint(error.into())
}

const HEADING: &str = "c2sp.org/tlog-proof@v1";
const EXTRA: &str = "extra ";
const INDEX: &str = "index ";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hash::Size;
    use crate::key::{Name, Signer};
    use crate::naive::Naive;

    fn signer(seed: u8) -> Signer {
        Signer::from_seed(Name::parse("log").unwrap(), &[seed; 32]).unwrap()
    }

    fn proof() -> Inclusion {
        let naive = Naive::of(11);
        let origin = Name::parse("log").unwrap().into();
        let head = Checkpoint { origin, size: Size(11), root: naive.root() };
        Inclusion {
            entry: Some(b"entry 6".to_vec()),
            index: Index(6),
            hashes: naive.path(6, 0, 11),
            note: head.sign(&signer(1)).unwrap(),
        }
    }

    #[test]
    fn a_proof_is_written_as_it_was_and_reads_back() {
        // A change of this text is a change of format.
        let golden = include_str!("../tests/golden/entry.tlog-proof");
        let proof = proof();
        assert_eq!(proof.encode(), golden);
        let read = Inclusion::parse(golden.as_bytes()).unwrap();
        assert_eq!(read, proof);
        let (entry, head) = read.verify(&signer(1).verifier()).unwrap();
        assert_eq!((entry, head.size), (b"entry 6".as_slice(), Size(11)));
    }

    #[test]
    fn nothing_else_is_proved_by_it() {
        let log = signer(1).verifier();
        let other = Inclusion { entry: Some(b"entry 7".to_vec()), ..proof() };
        assert_eq!(other.verify(&log), Err(BadProof::Root.into()));
        let moved = Inclusion { index: Index(7), ..proof() };
        assert_eq!(moved.verify(&log), Err(BadProof::Root.into()));
        let without = Inclusion { entry: None, ..proof() };
        assert_eq!(without.verify(&log), Err(BadInclusion::NoEntry));
        let stranger = BadInclusion::Checkpoint(BadNote::Unsigned.into());
        assert_eq!(proof().verify(&signer(2).verifier()), Err(stranger));
    }

    #[test]
    fn one_changed_bit_is_seen() {
        let text = proof().encode().into_bytes();
        let log = signer(1).verifier();
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            let held = Inclusion::parse(&changed).is_ok_and(|proof| proof.verify(&log).is_ok());
            assert!(!held, "byte {at}");
        }
    }

    #[test]
    fn more_hashes_than_a_tree_has_levels_are_not_read() {
        let line = Hash([0; 32]).to_base64();
        let with = |count: usize| {
            let hashes = vec![line.as_str(); count].join("\n");
            format!("{HEADING}\nindex 0\n{hashes}\n\n{}", proof().note.encode())
        };
        assert!(Inclusion::parse(with(64).as_bytes()).is_ok());
        assert_eq!(Inclusion::parse(with(65).as_bytes()), Err(BadInclusion::Form));
        assert_eq!(Inclusion::parse(&vec![b'a'; MAX_PROOF_BYTES + 1]), Err(BadInclusion::Form));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            head in "(extra [A-Za-z0-9]{0,8}={0,2}\n)?index [0-9]{0,3}(\n[A-Za-z]{43}=){0,2}"
        ) {
            let text = format!("{HEADING}\n{head}\n\n{}", proof().note.encode());
            if let Ok(read) = Inclusion::parse(text.as_bytes()) {
                prop_assert_eq!(read.encode(), text);
            }
        }
    }
}
