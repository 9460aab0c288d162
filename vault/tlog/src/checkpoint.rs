//! Checkpoints (C2SP tlog-checkpoint v1.0.0): which log, how many entries, which root; the text of a signed note.
//!
//! ```text
//! strongroom/7f3a…              origin
//! 20852163                      size, decimal without leading zeros
//! CsUYapGGPo4dkMgIAUqom/…I=     root, base64
//! ```
//! Invariant: exactly three lines: extension lines are not taken, for no monitor could audit them.
//! Distrusts: the text.

use std::fmt;

use thiserror::Error;

use crate::hash::{Hash, Size, empty_root};
use crate::key::{Name, Signer, Verifier};
use crate::note::{BadNote, Note};

/// Longest origin.
pub const MAX_ORIGIN_BYTES: usize = 255;

/// Which log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

/// The head of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// How many entries.
    pub size: Size,
    /// The root over them.
    pub root: Hash,
}

/// Why a text is no checkpoint, or is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadCheckpoint {
    /// No such origin.
    #[error("an origin has 1 to {MAX_ORIGIN_BYTES} bytes without control character")]
    Origin,
    /// Not three lines, or not decimal or base64.
    #[error("a checkpoint is three lines: origin, size in decimal, root in base64")]
    Form,
    /// The empty tree has one root.
    #[error("the checkpoint names a root of the empty tree that it has not")]
    EmptyRoot,
    /// Not a note, or not signed as it must be.
    #[error(transparent)]
    Note(#[from] BadNote),
}

impl Origin {
    /// Reads an origin.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadCheckpoint> {
        if text.is_empty() || text.len() > MAX_ORIGIN_BYTES || text.contains(char::is_control) {
            return Err(BadCheckpoint::Origin);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A log's key has the log's origin for its name.
impl From<Name> for Origin {
    fn from(name: Name) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl Checkpoint {
    /// The text that is signed.
    pub fn encode(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root)
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// When it is no checkpoint.
    pub fn parse(text: &str) -> Result<Self, BadCheckpoint> {
        let lines = text.strip_suffix('\n').ok_or(BadCheckpoint::Form)?;
        let mut lines = lines.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(BadCheckpoint::Form);
        };
        let read = Self {
            origin: Origin::parse(origin)?,
            size: Size(size.parse().map_err(|_| BadCheckpoint::Form)?),
            root: Hash::from_base64(root).ok_or(BadCheckpoint::Form)?,
        };
        if read.size.to_string() != size {
            return Err(BadCheckpoint::Form);
        }
        if read.size.0 == 0 && read.root != empty_root() {
            return Err(BadCheckpoint::EmptyRoot);
        }
        Ok(read)
    }

    /// The signed note.
    ///
    /// # Errors
    /// Never for a checkpoint whose origin was parsed.
    pub fn sign(&self, signer: &Signer) -> Result<Note, BadCheckpoint> {
        let mut note = Note::new(&self.encode())?;
        signer.sign(&mut note);
        Ok(note)
    }

    /// Reads a note, verifies that it is the log's, and reads its text.
    ///
    /// # Errors
    /// When it is not signed by the log's key, or is no checkpoint.
    pub fn open(note: &Note, log: &Verifier) -> Result<Self, BadCheckpoint> {
        log.verify(note)?;
        Self::parse(note.text())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_example_reads_and_writes_as_published() {
        let checkpoint = Checkpoint::parse(EXAMPLE).unwrap();
        assert_eq!(checkpoint.origin.as_str(), "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size, Size(20_852_163));
        assert_eq!(checkpoint.encode(), EXAMPLE);
    }

    #[test]
    fn only_the_one_form_is_read() {
        for (from, to) in [
            ("20852163", "020852163"),
            ("20852163", "+20852163"),
            ("20852163", "-1"),
            ("20852163", ""),
            ("20852163", "0x10"),
            ("20852163", "18446744073709551616"),
            ("20852163\n", ""),
            ("q2I=\n", "q2I="),
            ("q2I=", "q2I"),
            ("q2I=\n", "q2I=\n\n"),
            ("q2I=\n", "q2I=\nextension\n"),
            ("example.com/behind-the-sofa", ""),
            ("example.com", "\u{7f}"),
        ] {
            let changed = EXAMPLE.replacen(from, to, 1);
            assert_ne!(changed, EXAMPLE);
            assert!(Checkpoint::parse(&changed).is_err(), "{changed:?}");
        }
        let long = format!("{}\n", "o".repeat(256));
        assert!(Checkpoint::parse(&format!("{long}{}", &EXAMPLE[28..])).is_err());
    }

    #[test]
    fn the_empty_tree_has_one_root() {
        let empty = format!("o\n0\n{}\n", empty_root());
        assert_eq!(Checkpoint::parse(&empty).unwrap().size, Size(0));
        let other = EXAMPLE.replace("20852163", "0");
        assert_eq!(Checkpoint::parse(&other), Err(BadCheckpoint::EmptyRoot));
    }

    #[test]
    fn only_the_log_says_where_it_stands() {
        let name = Name::parse("strongroom/1").unwrap();
        let signer = Signer::from_seed(name.clone(), &[7; 32]).unwrap();
        let thief = Signer::from_seed(name.clone(), &[8; 32]).unwrap();
        let checkpoint = Checkpoint { origin: name.into(), size: Size(3), root: Hash([9; 32]) };
        let note = checkpoint.sign(&signer).unwrap();
        assert_eq!(Checkpoint::open(&note, &signer.verifier()), Ok(checkpoint));
        let unsigned = Err(BadCheckpoint::Note(BadNote::Unsigned));
        assert_eq!(Checkpoint::open(&note, &thief.verifier()), unsigned);
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(
            text in "[a-z ]{0,3}\n[0-9]{0,21}\n[A-Za-z0-9+/]{42,43}={0,2}\n?(x\n)?"
        ) {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.encode(), text);
            }
        }
    }
}
