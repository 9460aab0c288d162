//! What lies in the chunks: every record as it is sealed in the store, and a closing account of all of them.
//!
//! ```text
//! content  record … ‖ closing
//! record   1 ‖ key length u16 ‖ value length u16 ‖ store key ‖ value        keys strictly ascending, without the mark
//! closing  2 ‖ commit u64 ‖ count u64 ‖ set hash 2048 ‖ journal entries u64 ‖ journal chain 32
//! ```
//!
//! Commit, count and set hash are the manifest's; the mark is not carried, it follows from the commit. The journal's
//! last entry says behind which entry a journal that survived is newer than the backup.
//!
//! Invariant: the order is the store's, so that one store has one content.
//! Invariant: decoding is total, bounded and ends at the closing account with the last byte.
//! Distrusts: the content even under its key: a defect of an older version is refused, not obeyed.

use std::io::{Read, Write};

use strongroom_store::{Key, MAX_KEY_BYTES, MAX_VALUE_BYTES, Value};

use super::stream::{StreamError, StreamReader, StreamWriter};
use crate::keys::{ELEMENT_BYTES, TAG_BYTES};
use crate::manifest::{Accumulator, MARK_RECORD};

const RECORD: u8 = 1;
const CLOSING: u8 = 2;

/// How far the journal was: its entries and the chain value of the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalPoint {
    /// How many entries.
    pub entries: u64,
    /// The chain value behind the last one.
    pub chain: [u8; TAG_BYTES],
}

/// The account at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The commit that all records are of.
    pub commit: u64,
    /// How many records.
    pub count: u64,
    /// The manifest's set hash over them.
    pub set_hash: Accumulator,
    /// Where the journal was.
    pub journal: JournalPoint,
}

/// Why content is refused.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The stream around it.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// It does not fit its form.
    #[error("the backup's content is malformed: {0}")]
    Malformed(&'static str),
}

/// Writes content.
pub struct ContentWriter<W> {
    stream: StreamWriter<W>,
}

impl<W: Write> ContentWriter<W> {
    /// Goes on behind a stream's header.
    pub const fn begin(stream: StreamWriter<W>) -> Self {
        Self { stream }
    }

    /// Adds a record; they come in the order of their keys.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), ContentError> {
        let length = |bytes: &[u8]| {
            u16::try_from(bytes.len()).map_err(|_| ContentError::Malformed("a record is too long"))
        };
        self.stream.write(&[RECORD])?;
        self.stream.write(&length(key)?.to_be_bytes())?;
        self.stream.write(&length(value)?.to_be_bytes())?;
        self.stream.write(key)?;
        Ok(self.stream.write(value)?)
    }

    /// Closes the account; answers what it was written to, and how many bytes there are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn close(mut self, closing: Closing) -> Result<(W, u64), ContentError> {
        let Closing { commit, count, set_hash, journal } = closing;
        let JournalPoint { entries, chain } = journal;
        self.stream.write(&[CLOSING])?;
        self.stream.write(&commit.to_be_bytes())?;
        self.stream.write(&count.to_be_bytes())?;
        self.stream.write(&Vec::<u8>::from(set_hash))?;
        self.stream.write(&entries.to_be_bytes())?;
        self.stream.write(&chain)?;
        Ok(self.stream.finish()?)
    }
}

/// Reads content.
pub struct ContentReader<R> {
    stream: StreamReader<R>,
    /// What of the last chunk is not read yet.
    rest: zeroize::Zeroizing<Vec<u8>>,
    at: usize,
    last: Option<Key>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Key, Value),
    /// The end: nothing follows.
    Closing(Box<Closing>),
}

impl<R: Read> ContentReader<R> {
    /// Goes on behind a stream's header.
    pub fn begin(stream: StreamReader<R>) -> Self {
        Self { stream, rest: zeroize::Zeroizing::default(), at: 0, last: None }
    }

    /// The next record, or the account after which nothing is asked any more.
    ///
    /// # Errors
    /// When the stream does not hold, or the content does not fit its form.
    pub fn next_item(&mut self) -> Result<Item, ContentError> {
        match self.take::<1>()? {
            [RECORD] => self.record(),
            [CLOSING] => self.closing(),
            _ => Err(ContentError::Malformed("an unknown part")),
        }
    }

    fn record(&mut self) -> Result<Item, ContentError> {
        let key_length = usize::from(u16::from_be_bytes(self.take()?));
        let value_length = usize::from(u16::from_be_bytes(self.take()?));
        if key_length > MAX_KEY_BYTES || value_length > MAX_VALUE_BYTES {
            return Err(ContentError::Malformed("a record is too long"));
        }
        let (key, value) = (self.bytes(key_length)?, self.bytes(value_length)?);
        let key = Key::new(&key).map_err(|_| ContentError::Malformed("a record has no key"))?;
        let value =
            Value::new(&value).map_err(|_| ContentError::Malformed("a record is too long"))?;
        if key.as_bytes() == MARK_RECORD {
            return Err(ContentError::Malformed("the mark is no record"));
        }
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(ContentError::Malformed("records are out of order"));
        }
        self.last = Some(key.clone());
        Ok(Item::Record(key, value))
    }

    fn closing(&mut self) -> Result<Item, ContentError> {
        let commit = u64::from_be_bytes(self.take()?);
        let count = u64::from_be_bytes(self.take()?);
        let set_hash = Accumulator::try_from(self.bytes(ELEMENT_BYTES)?)
            .map_err(|_| ContentError::Malformed("the set hash has another length"))?;
        let entries = u64::from_be_bytes(self.take()?);
        let journal = JournalPoint { entries, chain: self.take()? };
        if self.at < self.rest.len() || self.stream.next_chunk()?.is_some() {
            return Err(ContentError::Malformed("something follows the end"));
        }
        Ok(Item::Closing(Box::new(Closing { commit, count, set_hash, journal })))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ContentError> {
        let mut taken = [0_u8; N];
        self.fill(&mut taken)?;
        Ok(taken)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, ContentError> {
        let mut bytes = vec![0_u8; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), ContentError> {
        let mut filled = 0_usize;
        while let Some(room) = out.get_mut(filled..).filter(|room| !room.is_empty()) {
            let ready = self.rest.get(self.at..).unwrap_or_default();
            if ready.is_empty() {
                let chunk = self.stream.next_chunk()?;
                let chunk = chunk.ok_or(ContentError::Malformed("it ends without its account"))?;
                self.rest.clear();
                self.rest.extend_from_slice(chunk);
                self.at = 0;
                continue;
            }
            let length = ready.len().min(room.len());
            for (to, from) in room.iter_mut().zip(ready) {
                *to = *from;
            }
            filled = filled.saturating_add(length);
            self.at = self.at.saturating_add(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
