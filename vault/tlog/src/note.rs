//! Signed notes (C2SP signed-note v1.0.0): a text, an empty line, and a line for each signature.
//!
//! ```text
//! <text, ends in a newline>
//!
//! — <key name> <base64(key id ‖ signature)>
//! ```
//! Invariant: what is written is what is read: a note that parses encodes to the same bytes.
//! Invariant: signatures by unknown keys are passed over; a line of a known key that does not hold refuses the note.
//! Distrusts: the text, until a key that was pinned elsewhere has verified it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::key::{KeyId, Name};

/// Longest note.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;
/// Most signatures of a note.
pub const MAX_SIGNATURES: usize = 64;

/// A text and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    lines: Vec<Line>,
}

/// One signature of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    name: Name,
    id: KeyId,
    signature: Vec<u8>,
}

/// Why bytes are no note, or a note is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadNote {
    /// More bytes or signatures than are read.
    #[error("a note has at most {MAX_NOTE_BYTES} bytes and {MAX_SIGNATURES} signatures")]
    Long,
    /// Not text, or with control characters.
    #[error("a note is text without control characters")]
    Text,
    /// No empty line before signatures, or a line among them that is none.
    #[error("a note ends in an empty line and lines of signatures")]
    Signatures,
    /// Signed by others, or by nobody.
    #[error("the note is not signed by the expected key")]
    Unsigned,
    /// A line says it is by the key, and is not.
    #[error("a signature that says it is by the expected key does not hold")]
    Forged,
}

impl Note {
    /// A text that nobody has signed yet.
    ///
    /// # Errors
    /// When it does not end in a newline, has control characters, or is too long.
    pub fn new(text: &str) -> Result<Self, BadNote> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(BadNote::Long);
        }
        if !text.ends_with('\n') || !is_plain(text) {
            return Err(BadNote::Text);
        }
        Ok(Self { text: text.to_owned(), lines: Vec::new() })
    }

    /// Reads a note. Nobody has verified it yet.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadNote> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(BadNote::Long);
        }
        let all = str::from_utf8(bytes).map_err(|_| BadNote::Text)?;
        if !is_plain(all) {
            return Err(BadNote::Text);
        }
        let (text, signatures) = all.rsplit_once("\n\n").ok_or(BadNote::Signatures)?;
        let signatures = signatures.strip_suffix('\n').ok_or(BadNote::Signatures)?;
        if signatures.matches('\n').count() >= MAX_SIGNATURES {
            return Err(BadNote::Long);
        }
        let lines = signatures.split('\n').map(Line::parse).collect::<Option<_>>();
        Ok(Self { text: format!("{text}\n"), lines: lines.ok_or(BadNote::Signatures)? })
    }

    /// What is signed, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Adds a signature; one by the same key is replaced.
    pub fn push(&mut self, line: Line) {
        self.lines.retain(|old| (&old.name, old.id) != (&line.name, line.id));
        self.lines.push(line);
    }

    /// The note as it is written.
    pub fn encode(&self) -> String {
        let mut out = format!("{}\n", self.text);
        for line in &self.lines {
            out.push_str(&line.encode());
        }
        out
    }

    /// Whether every line of a key holds, and there is one.
    pub(crate) fn verify(
        &self,
        id: KeyId,
        name: &Name,
        holds: impl Fn(&[u8]) -> bool,
    ) -> Result<(), BadNote> {
        let mut found = false;
        for line in self.lines.iter().filter(|line| line.id == id && line.name == *name) {
            if !holds(&line.signature) {
                return Err(BadNote::Forged);
            }
            found = true;
        }
        if found { Ok(()) } else { Err(BadNote::Unsigned) }
    }
}

impl Line {
    pub(crate) const fn new(name: Name, id: KeyId, signature: Vec<u8>) -> Self {
        Self { name, id, signature }
    }

    /// Reads a line without its newline.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
        let signature = STANDARD.decode(signature).ok()?;
        let (id, signature) = signature.split_first_chunk::<4>()?;
        let name = Name::parse(name).ok()?;
        let signature = (!signature.is_empty()).then(|| signature.to_vec())?;
        Some(Self { name, id: KeyId(*id), signature })
    }

    /// The line with its newline.
    pub fn encode(&self) -> String {
        let bytes = [&self.id.0, self.signature.as_slice()].concat();
        format!("{DASH}{} {}\n", self.name, STANDARD.encode(bytes))
    }

    /// Who says to have signed.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// With which key.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// An em dash and a space.
const DASH: &str = "\u{2014} ";

fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c < ' ' && c != '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::{Signer, Verifier};

    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n";
    const SIGNED: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn peter() -> Signer {
        let key = STANDARD.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").unwrap();
        Signer::from_seed(Name::parse("PeterNeumann").unwrap(), key[1..].try_into().unwrap())
            .unwrap()
    }

    #[test]
    fn published_notes_verify_and_are_signed_alike() {
        // golang.org/x/mod sumdb/note, ExampleSign and ExampleOpen.
        let note = Note::parse(SIGNED.as_bytes()).unwrap();
        assert_eq!(Verifier::parse(PETER).unwrap().verify(&note), Ok(()));
        let mut ours = Note::new(TEXT).unwrap();
        peter().sign(&mut ours);
        assert_eq!(ours.encode(), SIGNED);
        // C2SP signed-note, "Example".
        let foo = Verifier::parse(
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        );
        let note = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        assert_eq!(foo.unwrap().verify(&Note::parse(note.as_bytes()).unwrap()), Ok(()));
    }

    #[test]
    fn signatures_by_others_stand_beside_and_change_nothing() {
        // golang.org/x/mod sumdb/note, ExampleSign_add_signatures: a key of 32 zero bytes.
        let mut note = Note::parse(SIGNED.as_bytes()).unwrap();
        let enoch = Signer::from_seed(Name::parse("EnochRoot").unwrap(), &[0; 32]).unwrap();
        enoch.sign(&mut note);
        let line = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
        assert_eq!(note.encode(), format!("{SIGNED}{line}"));
        enoch.sign(&mut note);
        assert_eq!(note.lines().len(), 2, "signing again replaces");
        assert_eq!(peter().verifier().verify(&note), Ok(()));
        assert_eq!(enoch.verifier().verify(&note), Ok(()));
        let stranger = Signer::from_seed(Name::parse("EnochRoot").unwrap(), &[1; 32]).unwrap();
        assert_eq!(stranger.verifier().verify(&note), Err(BadNote::Unsigned));
    }

    #[test]
    fn one_changed_bit_of_text_or_signature_is_seen() {
        let peter = Verifier::parse(PETER).unwrap();
        for at in 0..SIGNED.len() {
            let mut bytes = SIGNED.as_bytes().to_vec();
            bytes[at] ^= 1;
            if let Ok(note) = Note::parse(&bytes) {
                assert!(peter.verify(&note).is_err(), "byte {at}");
            }
        }
        for end in 0..SIGNED.len() {
            let cut = Note::parse(&SIGNED.as_bytes()[..end]);
            assert!(cut.is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_second_line_of_the_same_key_must_hold_too() {
        let forged = SIGNED.replace("x08go/Z", "x08go/Y");
        let line = forged.rsplit_once("\n\n").unwrap().1;
        let note = Note::parse(format!("{SIGNED}{line}").as_bytes()).unwrap();
        assert_eq!(peter().verifier().verify(&note), Err(BadNote::Forged));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let line = SIGNED.rsplit_once("\n\n").unwrap().1;
        let lines = |n: usize| format!("a\n\n{}", line.repeat(n));
        assert!(Note::parse(lines(MAX_SIGNATURES).as_bytes()).is_ok());
        assert_eq!(Note::parse(lines(MAX_SIGNATURES + 1).as_bytes()), Err(BadNote::Long));
        assert_eq!(Note::parse(&vec![b'a'; MAX_NOTE_BYTES + 1]), Err(BadNote::Long));
        assert_eq!(Note::parse(format!("a\tb\n\n{line}").as_bytes()), Err(BadNote::Text));
        assert_eq!(Note::parse(b"\xff\n\n\xe2\x80\x94 a AAAAAAA=\n"), Err(BadNote::Text));
        for bad in ["a\n", "a\n\n", "a\n\n\n", "a\n\n- a AAAAAAA=\n", "a\n\n— a AAAAAA==\n"] {
            assert_eq!(Note::parse(bad.as_bytes()), Err(BadNote::Signatures), "{bad:?}");
        }
        assert_eq!(Note::new("no newline"), Err(BadNote::Text));
        assert_eq!(Note::new("a\rb\n"), Err(BadNote::Text));
    }

    proptest! {
        #[test]
        fn a_note_that_is_read_is_the_one_that_was_written(
            text in "([a-z\n]{0,20}\n)?\n(— [a-z+ ]{1,4} [A-Za-z0-9+/=]{4,16}\n?){0,3}"
        ) {
            if let Ok(note) = Note::parse(text.as_bytes()) {
                prop_assert_eq!(note.encode(), text);
            }
        }
    }
}
