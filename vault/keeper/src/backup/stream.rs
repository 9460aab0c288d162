//! The encrypted stream of one store: a header in clear and chunks under a key of its own.
//!
//! ```text
//! stream  header ‖ chunk 0 ‖ chunk 1 ‖ … ‖ last chunk
//! header  magic "SRbackup" 8 ‖ format 1 ‖ store id 16 ‖ commit u64 ‖ when u64 (ms since 1970) ‖ salt 32
//!         ‖ keyring generation u64 ‖ seal length u32 ‖ keyring length u32 ‖ seal payload ‖ keyring payload
//! key     HKDF(system seed, salt; "strongroom/v1/key/stream", store id, SHA-256(header))
//! chunk   ChaCha20-Poly1305(key, nonce = number u88 ‖ last u8, plaintext of 64 KiB; the last of 1 to 64 KiB) ‖ tag
//! ```
//!
//! The chunks are the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) as age has it: the number and the
//! last flag in the nonce refuse what was cut, moved, repeated or joined on. One cipher on every machine: the same store
//! is the same plaintext everywhere, and a backup outlives the machine that made it.
//!
//! Invariant: no plaintext leaves a chunk before its tag held; the last chunk is followed by nothing.
//! Invariant: both sides hold one chunk in memory, whatever the length.
//! Distrusts: every byte that is read.

use std::io::{self, ErrorKind, Read, Write};

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use strongroom_policy::moment::Moment;
use zeroize::Zeroizing;

use crate::keys::{self, DeriveError, KEY_BYTES, StoreId, StreamKey, SystemSeed};
use crate::slots::Generation;

/// Plaintext of one chunk.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Longest seal payload: its slot's room.
const MAX_SEAL_BYTES: usize = 32 * 1024;
/// Longest keyring payload: its slot's room.
const MAX_KEYRING_BYTES: usize = 4 * 1024 * 1024;
const MAGIC: &[u8; 8] = b"SRbackup";
const FORMAT: u8 = 1;
const FIXED_BYTES: usize = 8 + 1 + 16 + 8 + 8 + KEY_BYTES + 8 + 4 + 4;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// What stands in clear before the chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Which vault.
    pub store: StoreId,
    /// The commit that the store was at.
    pub commit: u64,
    /// When.
    pub when: Moment,
    /// Makes the key of this stream.
    pub salt: [u8; KEY_BYTES],
    /// The generation that the keyring payload is bound to.
    pub keyring: Generation,
    /// The seal file's payload: how R is reached.
    pub seal: Vec<u8>,
    /// The keyring's payload, sealed under R.
    pub keyring_payload: Vec<u8>,
}

/// Why a stream is refused, or was not written.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It begins like no backup.
    #[error("this is no Strongroom backup")]
    Foreign,
    /// A backup of another version.
    #[error("unknown backup format {0}")]
    UnknownFormat(u8),
    /// A length in the header that no vault has.
    #[error("the backup's header is malformed")]
    Header,
    /// A tag does not hold: changed, cut, joined, or of another key.
    #[error("the backup was altered, cut short or belongs to another vault (at byte {0})")]
    Altered(u64),
    /// It ends where it must not.
    #[error("the backup is cut short")]
    Short,
    /// More than a nonce can number.
    #[error("the backup is too long")]
    TooLong,
    /// The file system's answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

impl Header {
    /// The header's bytes.
    ///
    /// # Errors
    /// When a payload is longer than its slot.
    pub fn encode(&self) -> Result<Vec<u8>, StreamError> {
        if self.seal.len() > MAX_SEAL_BYTES || self.keyring_payload.len() > MAX_KEYRING_BYTES {
            return Err(StreamError::Header);
        }
        let length = |payload: &[u8]| u32::try_from(payload.len()).map_err(|_| StreamError::Header);
        let mut bytes = Vec::with_capacity(FIXED_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.store.0);
        bytes.extend_from_slice(&self.commit.to_be_bytes());
        bytes.extend_from_slice(&self.when.unix_millis().to_be_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.keyring.0.to_be_bytes());
        bytes.extend_from_slice(&length(&self.seal)?.to_be_bytes());
        bytes.extend_from_slice(&length(&self.keyring_payload)?.to_be_bytes());
        bytes.extend_from_slice(&self.seal);
        bytes.extend_from_slice(&self.keyring_payload);
        Ok(bytes)
    }

    /// Reads a header and nothing after it. Nothing of it is authenticated before the first chunk opens.
    ///
    /// # Errors
    /// When it is none of ours, or cut short.
    pub fn read(source: &mut impl Read) -> Result<Self, StreamError> {
        let mut fixed = [0_u8; FIXED_BYTES];
        let found = fill(source, &mut fixed)?;
        let begun = fixed.get(..found).unwrap_or_default();
        let (magic, rest) = begun.split_first_chunk::<8>().ok_or(StreamError::Foreign)?;
        if magic != MAGIC {
            return Err(StreamError::Foreign);
        }
        let (&[format], rest) = take(rest)?;
        if format != FORMAT {
            return Err(StreamError::UnknownFormat(format));
        }
        let (store, rest) = take(rest)?;
        let (commit, rest) = take(rest)?;
        let (when, rest) = take(rest)?;
        let (salt, rest) = take(rest)?;
        let (keyring, rest) = take(rest)?;
        let (seal_length, rest) = take(rest)?;
        let (keyring_length, _) = take(rest)?;
        let seal = payload(source, *seal_length, MAX_SEAL_BYTES)?;
        let keyring_payload = payload(source, *keyring_length, MAX_KEYRING_BYTES)?;
        Ok(Self {
            store: StoreId(*store),
            commit: u64::from_be_bytes(*commit),
            when: Moment::from_unix_millis(u64::from_be_bytes(*when)),
            salt: *salt,
            keyring: Generation(u64::from_be_bytes(*keyring)),
            seal,
            keyring_payload,
        })
    }

    /// The key of the chunks behind this header.
    ///
    /// # Errors
    /// When the header cannot be.
    pub fn derive_key(&self, seed: &SystemSeed) -> Result<StreamKey, StreamError> {
        Ok(keys::derive_stream_key(seed, self.store, (&self.salt, &self.encode()?))?)
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), StreamError> {
    bytes.split_first_chunk().ok_or(StreamError::Short)
}

fn payload(source: &mut impl Read, length: [u8; 4], most: usize) -> Result<Vec<u8>, StreamError> {
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| StreamError::Header)?;
    if length > most {
        return Err(StreamError::Header);
    }
    let mut payload = vec![0_u8; length];
    if fill(source, &mut payload)? < length {
        return Err(StreamError::Short);
    }
    Ok(payload)
}

/// Reads until the buffer is full or the source ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match source.read(room) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Which chunk, and whether another follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Middle(u64),
    Last(u64),
}

impl Place {
    fn nonce(self) -> [u8; 12] {
        let (number, last) = match self {
            Self::Middle(number) => (number, 0),
            Self::Last(number) => (number, 1),
        };
        let mut nonce = [0_u8; 12];
        let bytes = number.to_be_bytes().into_iter().chain([last]);
        for (to, from) in nonce.iter_mut().skip(3).zip(bytes) {
            *to = from;
        }
        nonce
    }
}

/// Encrypts what is written to it. Without [`Self::finish`] the stream has no end, and no reader takes it.
pub struct StreamWriter<W> {
    out: W,
    cipher: ChaCha20Poly1305,
    plain: Zeroizing<Vec<u8>>,
    number: u64,
    written: u64,
}

impl<W: Write> StreamWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When it does not fit its form or cannot be written.
    pub fn begin(mut out: W, header: &Header, key: &StreamKey) -> Result<Self, StreamError> {
        let bytes = header.encode()?;
        out.write_all(&bytes)?;
        Ok(Self {
            out,
            cipher: cipher(key)?,
            plain: Zeroizing::new(Vec::with_capacity(SEALED_BYTES)),
            number: 0,
            written: u64::try_from(bytes.len()).map_err(|_| StreamError::TooLong)?,
        })
    }

    /// Adds plaintext.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            // A full chunk waits for more: only then it is known not to be the last.
            if self.plain.len() == CHUNK_BYTES {
                self.seal(Place::Middle(self.number))?;
            }
            let room = CHUNK_BYTES.saturating_sub(self.plain.len()).min(bytes.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.plain.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the last chunk; answers what it was written to, and how many bytes there are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(W, u64), StreamError> {
        self.seal(Place::Last(self.number))?;
        self.out.flush()?;
        Ok((self.out, self.written))
    }

    fn seal(&mut self, place: Place) -> Result<(), StreamError> {
        let tag = self
            .cipher
            .encrypt_inout_detached(&place.nonce().into(), &[], self.plain.as_mut_slice().into())
            .map_err(|_| StreamError::TooLong)?;
        self.plain.extend_from_slice(&tag);
        self.out.write_all(&self.plain)?;
        let written = u64::try_from(self.plain.len()).map_err(|_| StreamError::TooLong)?;
        self.written = self.written.saturating_add(written);
        self.number = self.number.checked_add(1).ok_or(StreamError::TooLong)?;
        self.plain.clear();
        Ok(())
    }
}

/// Decrypts chunk by chunk.
pub struct StreamReader<R> {
    source: R,
    cipher: ChaCha20Poly1305,
    sealed: Zeroizing<Vec<u8>>,
    /// The first byte of the next chunk, read to know whether there is one.
    ahead: Option<u8>,
    number: u64,
    read: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Under,
    Ended,
}

impl<R: Read> StreamReader<R> {
    /// Goes on behind a header that was read.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn begin(source: R, key: &StreamKey) -> Result<Self, StreamError> {
        Ok(Self {
            source,
            cipher: cipher(key)?,
            sealed: Zeroizing::new(Vec::with_capacity(SEALED_BYTES.saturating_add(1))),
            ahead: None,
            number: 0,
            read: 0,
            state: State::Fresh,
        })
    }

    /// The next chunk's plaintext; `None` behind the last one.
    ///
    /// # Errors
    /// When a chunk does not hold: altered, out of its place, or the stream does not end with its last chunk.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>, StreamError> {
        if self.state == State::Ended {
            return Ok(None);
        }
        if self.state == State::Fresh {
            self.ahead = self.one_more()?;
            self.state = State::Under;
        }
        let Some(first) = self.ahead.take() else { return Err(StreamError::Short) };
        self.sealed.resize(SEALED_BYTES, 0);
        let (head, rest) = self.sealed.split_first_mut().ok_or(StreamError::Short)?;
        *head = first;
        let length = fill(&mut self.source, rest)?.saturating_add(1);
        self.sealed.truncate(length);
        if length == SEALED_BYTES {
            self.ahead = self.one_more()?;
        }
        let place = match self.ahead {
            Some(_) => Place::Middle(self.number),
            None => Place::Last(self.number),
        };
        self.open(place)?;
        if self.ahead.is_none() {
            self.state = State::Ended;
        }
        Ok(Some(&self.sealed))
    }

    fn open(&mut self, place: Place) -> Result<(), StreamError> {
        let at = self.read;
        let length = self.sealed.len().checked_sub(TAG_BYTES).ok_or(StreamError::Short)?;
        let (body, tag) = self.sealed.split_at_mut_checked(length).ok_or(StreamError::Short)?;
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| StreamError::Short)?;
        if body.is_empty() {
            return Err(StreamError::Altered(at));
        }
        self.cipher
            .decrypt_inout_detached(&place.nonce().into(), &[], body.into(), tag.into())
            .map_err(|_| StreamError::Altered(at))?;
        let read = u64::try_from(self.sealed.len()).map_err(|_| StreamError::TooLong)?;
        self.read = self.read.saturating_add(read);
        self.number = self.number.checked_add(1).ok_or(StreamError::TooLong)?;
        self.sealed.truncate(length);
        Ok(())
    }

    fn one_more(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0_u8];
        Ok((fill(&mut self.source, &mut byte)? == 1).then_some(byte).map(|[byte]| byte))
    }
}

fn cipher(key: &StreamKey) -> Result<ChaCha20Poly1305, StreamError> {
    key.secret()
        .expose(ChaCha20Poly1305::new_from_slice)
        .map_err(|_| StreamError::Derive(DeriveError::Defect))
}

#[cfg(test)]
mod tests;
