//! Masks echoes of the key in what a provider answers, on the way through.
//!
//! Invariant: what is held back depends on the text's alphabet and on the key's length, never on whether the text matches:
//! holding back by match would tell a caller, by frame lengths, how long a prefix of the key they guessed.
//! Invariant: each byte of a hit becomes one `*`, so lengths hold and no framing changes.
//! Invariant: the released bytes are the same for every way of cutting the text into chunks.
//!
//! Needles are made anew for each call (about a microsecond) and wiped with it, so nothing derived from a key outlives the call;
//! only their memory does. Held-back text and joined chunks rely on the allocator, which wipes on free.
//!
//! Trusts: the secret to be the one that was injected.
//! Distrusts: every byte that the provider sends.

mod alphabet;
pub(crate) mod encodings;
mod needles;

use bytes::{Bytes, BytesMut};

use self::alphabet::Alphabet;
use self::needles::Needles;

/// Shortest secret that is matched: a shorter one would mask innocent text. Deposits refuse shorter ones too.
pub const MIN_SECRET_BYTES: usize = 16;
/// Longest secret, so that what is held back has a bound (128 KiB at most).
pub const MAX_SECRET_BYTES: usize = 16 * 1024;

/// A scrubber without a secret, between two calls: memory only.
#[derive(Default)]
pub struct Blank(Needles);

/// The stream state of one answer body.
pub struct Scrubber {
    needles: Needles,
    alphabet: &'static Alphabet,
    /// Bytes of a token run that are held back at most; at least the longest needle.
    cap: usize,
    /// The held-back bytes as they came: a longer match may still need them.
    held: Vec<u8>,
    /// How many of the first held bytes belong to a hit whose start was already released.
    masked: usize,
    hits: u64,
}

/// Why a secret cannot be scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unscrubbable {
    /// Outside `MIN_SECRET_BYTES..=MAX_SECRET_BYTES`.
    #[error("a secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")]
    Length,
    /// A control byte: it cannot stand in a header, and lines could no longer be released at once.
    #[error("a secret has no control bytes")]
    Control,
}

/// Whether echoes of a secret can be masked; one that fails here must not be sent.
///
/// # Errors
/// When it is too short, too long, or not fit for a header.
pub fn check(secret: &[u8]) -> Result<(), Unscrubbable> {
    if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&secret.len()) {
        return Err(Unscrubbable::Length);
    }
    if secret.iter().any(u8::is_ascii_control) {
        return Err(Unscrubbable::Control);
    }
    Ok(())
}

impl Blank {
    /// Derives the needles of every encoding in which providers were seen to echo keys.
    ///
    /// # Errors
    /// See [`check`].
    pub fn learn(self, secret: &[u8]) -> Result<Scrubber, Unscrubbable> {
        check(secret)?;
        let Self(mut needles) = self;
        needles.derive(secret);
        Ok(Scrubber {
            needles,
            alphabet: Alphabet::covering(secret),
            cap: held_cap(secret.len()),
            held: Vec::new(),
            masked: 0,
            hits: 0,
        })
    }
}

impl Scrubber {
    /// A scrubber of its own for one secret.
    ///
    /// # Errors
    /// See [`check`].
    pub fn new(secret: &[u8]) -> Result<Self, Unscrubbable> {
        Blank::default().learn(secret)
    }

    /// Wipes all that was derived from the secret.
    pub fn forget(self) -> Blank {
        let Self { mut needles, .. } = self;
        needles.wipe();
        Blank(needles)
    }

    /// Takes the next bytes of the body and answers those that no later byte can turn into part of a hit.
    ///
    /// Copies nothing when nothing is held and nothing is hit. A chunk that ends in a byte outside the alphabet (the newline
    /// of an SSE event, the brace of a JSON body) is released whole.
    pub fn feed(&mut self, chunk: Bytes) -> Bytes {
        if chunk.is_empty() {
            return chunk;
        }
        if self.held.is_empty() {
            return self.pass(chunk, self.cap);
        }
        let mut joined = BytesMut::with_capacity(self.held.len() + chunk.len());
        joined.extend_from_slice(&self.held);
        joined.extend_from_slice(&chunk);
        self.held.clear();
        self.pass(joined.freeze(), self.cap)
    }

    /// Releases what is held: the body has ended.
    pub fn finish(&mut self) -> Bytes {
        if self.held.is_empty() {
            return Bytes::new();
        }
        let rest = Bytes::from(std::mem::take(&mut self.held));
        self.pass(rest, 0)
    }

    /// A header value without echoes; `None` when there was none and the value can go as it is.
    pub fn scrub_header_value(&mut self, value: &[u8]) -> Option<Vec<u8>> {
        let mut clean: Option<Vec<u8>> = None;
        let mut from = 0;
        while let Some(hit) = self.needles.find(value, from) {
            self.hits = self.hits.saturating_add(1);
            clean.get_or_insert_with(|| value.to_vec())[hit.start..hit.end].fill(MASK);
            from = hit.start + 1;
        }
        clean
    }

    /// How many echoes were masked so far, for the journal: a provider that echoes keys is worth knowing.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Masks and releases `bytes` but for at most `cap` bytes of their trailing token run.
    fn pass(&mut self, mut bytes: Bytes, cap: usize) -> Bytes {
        let cut = bytes.len() - self.alphabet.trailing_run(&bytes, cap);
        let released_mask = self.masked.min(cut);
        let mut still_masked = self.masked - released_mask;
        let mut clean: Option<BytesMut> = None;
        if released_mask > 0 {
            clean.get_or_insert_with(|| BytesMut::from(&bytes[..cut]))[..released_mask].fill(MASK);
        }
        let mut from = 0;
        // A hit that starts at or after the cut is found again with the bytes that follow; overlapping hits are all masked,
        // so the search goes on one byte further over the text as it came.
        while let Some(hit) = self.needles.find(&bytes, from).filter(|hit| hit.start < cut) {
            self.hits = self.hits.saturating_add(1);
            let masked = clean.get_or_insert_with(|| BytesMut::from(&bytes[..cut]));
            masked[hit.start..hit.end.min(cut)].fill(MASK);
            still_masked = still_masked.max(hit.end.saturating_sub(cut));
            from = hit.start + 1;
        }
        self.held.extend_from_slice(&bytes[cut..]);
        self.masked = still_masked;
        if let Some(clean) = clean {
            return clean.freeze();
        }
        bytes.truncate(cut);
        bytes
    }
}

/// Bytes held back at most for a secret of `secret_bytes`: the longest encoding (`\u00XX` for each byte), rounded up to a power
/// of two so that it tells little about the length.
fn held_cap(secret_bytes: usize) -> usize {
    (secret_bytes * encodings::LONGEST_FACTOR).next_power_of_two()
}

const MASK: u8 = b'*';

#[cfg(test)]
mod tests;
