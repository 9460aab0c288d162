//! What a witness and the keeper say to each other. The witness asks: the keeper reaches out to nobody.
//!
//! Invariant: a witness is told nothing but the journal, which holds ids only, and a number for one unsealing.
//! Distrusts: the texts, on both sides, until a key that was pinned or enrolled has verified them.

use serde::{Deserialize, Serialize};
use strongroom_policy::moment::Moment;

/// Longest verifier key.
pub const MAX_KEY_BYTES: usize = 256;
/// Longest checkpoint with its signatures.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// Most hashes of a proof of consistency.
pub const MAX_PROOF_HASHES: usize = 64;
/// Most bytes of entries in one answer, unless a single entry has more.
pub const MAX_ENTRIES_BYTES: usize = 1024 * 1024;

/// A verifier key of C2SP signed-note, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyText(String);

/// A signed note, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NoteText(String);

/// A text is longer than one of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is longer than one of its kind")]
pub struct TooLong;

/// What a witness says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWitness {
    /// Asks for the newest checkpoint and for what ties it to the one that the witness keeps.
    Ask {
        /// How many entries that one covers; 0 when it keeps none.
        size: u64,
    },
    /// Shows the checkpoint that it keeps, durably, with its cosignature.
    Tell {
        /// Its key.
        key: KeyText,
        /// The checkpoint.
        note: NoteText,
        /// Its signature over the vault's number and that checkpoint, when there was a number.
        answer: Option<Vec<u8>>,
    },
    /// Asks for entries, to mirror them.
    Entries {
        /// Of which bundle.
        bundle: u64,
        /// From which entry of it on, 0 to 255.
        from: u8,
    },
}

/// What the keeper answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWitness {
    /// The newest checkpoint.
    Checkpoint {
        /// Signed by the journal's key.
        note: NoteText,
        /// That it continues the one of the size that was asked about; empty when it is smaller, or that size is 0.
        proof: Vec<[u8; 32]>,
        /// The number of this unsealing, while the vault waits for a witness.
        nonce: Option<[u8; 32]>,
    },
    /// The checkpoint was taken down, or the answer was.
    Taken,
    /// Entries in the form of a bundle: `u16` big-endian length and bytes, one after the other.
    Entries(Vec<u8>),
}

/// An enrolled witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessRow {
    /// Its key.
    pub key: KeyText,
    /// Whether the vault waits for it when it is unsealed.
    pub required: bool,
    /// When it was enrolled.
    pub created: Moment,
    /// How many entries its last checkpoint covers, when it has shown one.
    pub seen_size: Option<u64>,
    /// When it signed that, milliseconds since 1970.
    pub seen_at: Option<Moment>,
}

/// What an open vault waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// The names of the required witnesses that have not answered.
    pub witnesses: Vec<String>,
    /// Seconds until calls go on without them; 0 when they do already.
    pub calls_in_secs: u32,
}

impl KeyText {
    /// A key's text.
    ///
    /// # Errors
    /// When it is longer than one.
    pub fn new(text: String) -> Result<Self, TooLong> {
        if text.len() <= MAX_KEY_BYTES { Ok(Self(text)) } else { Err(TooLong) }
    }
}

impl NoteText {
    /// A note's text.
    ///
    /// # Errors
    /// When it is longer than one.
    pub fn new(text: String) -> Result<Self, TooLong> {
        if text.len() <= MAX_NOTE_BYTES { Ok(Self(text)) } else { Err(TooLong) }
    }
}

impl AsRef<str> for KeyText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for NoteText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyText {
    type Error = TooLong;
    fn try_from(text: String) -> Result<Self, TooLong> {
        Self::new(text)
    }
}

impl TryFrom<String> for NoteText {
    type Error = TooLong;
    fn try_from(text: String) -> Result<Self, TooLong> {
        Self::new(text)
    }
}

impl From<KeyText> for String {
    fn from(text: KeyText) -> Self {
        text.0
    }
}

impl From<NoteText> for String {
    fn from(text: NoteText) -> Self {
        text.0
    }
}

#[cfg(test)]
mod tests {
    use super::{KeyText, MAX_KEY_BYTES, MAX_NOTE_BYTES, NoteText};

    /// What a witness checks is, byte for byte, what was sent.
    #[test]
    fn texts_of_witnesses_are_bounded_and_handed_on_as_they_are() {
        let (key, note) = ("k".repeat(MAX_KEY_BYTES), "n".repeat(MAX_NOTE_BYTES));
        assert_eq!(KeyText::new(key.clone()).unwrap().as_ref(), key);
        assert_eq!(NoteText::new(note.clone()).unwrap().as_ref(), note);
        assert!(KeyText::new(key + "k").is_err());
        assert!(NoteText::new(note + "n").is_err());
    }
}
