//! age around a backup: for hosts that are to see not even what it is.
//!
//! Invariant: X25519 recipients only; an identity is read from a file, never from an argument.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use age::x25519;
use zeroize::Zeroizing;

use crate::failure::{Failure, Outcome};

/// Longest identity file.
const MAX_IDENTITY_BYTES: u64 = 64 * 1024;

/// An age key that a backup is encrypted to.
#[derive(Clone)]
pub(crate) struct Recipient(x25519::Recipient);

impl Recipient {
    /// Reads `age1…`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        x25519::Recipient::from_str(text)
            .map(Self)
            // What was given is not repeated: it may be an identity, pasted by mistake.
            .map_err(|error| format!("a recipient is an age1… key: {error}"))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a backup is written through.
pub(crate) enum Layer<W: Write> {
    /// As it comes.
    Plain(W),
    /// Through age.
    Age(Box<age::stream::StreamWriter<W>>),
}

impl<W: Write> Layer<W> {
    /// Through age when there are recipients.
    pub(crate) fn over(out: W, recipients: &[Recipient]) -> Outcome<Self> {
        if recipients.is_empty() {
            return Ok(Self::Plain(out));
        }
        let keys = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(keys).map_err(Failure::argument)?;
        let writer = encryptor.wrap_output(out).map_err(Failure::argument)?;
        Ok(Self::Age(Box::new(writer)))
    }

    /// Writes the end, and answers what lies below.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Age(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Layer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Age(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Age(writer) => writer.flush(),
        }
    }
}

/// Opens age around a backup with the identities of a file.
pub(crate) fn open<R: Read>(sealed: R, identity: &Path) -> Outcome<age::stream::StreamReader<R>> {
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(identity)
        .and_then(|file| file.take(MAX_IDENTITY_BYTES).read_to_string(&mut text))
        .map_err(|error| Failure::file(identity, error))?;
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("AGE-SECRET-KEY-"));
    let identities: Vec<x25519::Identity> =
        lines.filter_map(|line| x25519::Identity::from_str(line).ok()).collect();
    if identities.is_empty() {
        return Err(Failure::file(identity, "holds no age identity (AGE-SECRET-KEY-1…)"));
    }
    let decryptor = age::Decryptor::new(sealed).map_err(Failure::argument)?;
    decryptor
        .decrypt(identities.iter().map(|one| one as &dyn age::Identity))
        .map_err(|error| Failure::argument(format!("this identity does not open it: {error}")))
}
