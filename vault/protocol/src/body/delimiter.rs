//! Finds a form's boundary across chunks, and keeps what of a part must be known.
//!
//! Invariant: each byte is looked at once and goes either to the delimiter or to the content.

use super::boundary::Boundary;

/// Bytes of a value that is read: a model's name has at most 200.
const MAX_VALUE_BYTES: usize = 200;

/// The content of a part: its last two bytes, and its beginning.
#[derive(Debug, Default)]
pub(super) struct Content {
    last: [u8; 2],
    kept: Vec<u8>,
    cut: bool,
}

impl Content {
    fn take(&mut self, bytes: &[u8]) {
        self.last = match bytes {
            [] => self.last,
            [byte] => [self.last[1], *byte],
            [.., first, second] => [*first, *second],
        };
        // Two more, for the CRLF that belongs to the boundary.
        let limit = MAX_VALUE_BYTES.saturating_add(2);
        let room = limit.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.cut |= room < bytes.len();
    }

    /// Whether CRLF came last.
    pub(super) fn ends_a_line(&self) -> bool {
        self.last == *b"\r\n"
    }

    /// The whole value, when it is short text.
    pub(super) fn value(&self) -> Option<&str> {
        let value = self.kept.strip_suffix(b"\r\n").filter(|_| !self.cut)?;
        std::str::from_utf8(value).ok()
    }

    pub(super) fn begins_as_data(&self) -> bool {
        self.kept.starts_with(b"data:")
    }
}

/// Searches for `--boundary` across chunks (Knuth, Morris, Pratt: no byte is kept or read twice).
#[derive(Debug)]
pub(super) struct Delimiter {
    line: Vec<u8>,
    /// For each length of a match, the longest shorter one that ends the same.
    shorter: Vec<usize>,
    matched: usize,
}

impl Delimiter {
    pub(super) fn new(boundary: &Boundary) -> Self {
        let line = [b"--", boundary.as_str().as_bytes()].concat();
        let mut shorter = vec![0];
        let mut matched = 0_usize;
        for byte in line.iter().skip(1) {
            while matched > 0 && line.get(matched) != Some(byte) {
                matched = shorter.get(matched.saturating_sub(1)).copied().unwrap_or(0);
            }
            if line.get(matched) == Some(byte) {
                matched = matched.saturating_add(1);
            }
            shorter.push(matched);
        }
        Self { line, shorter, matched: 0 }
    }

    /// The bytes searched for.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// Takes bytes up to and with the delimiter; what is not part of it goes to `content`.
    pub(super) fn search(&mut self, input: &mut &[u8], content: &mut Content) -> bool {
        while !input.is_empty() {
            if self.matched == 0 {
                let plain = memchr::memchr(b'-', input).unwrap_or(input.len());
                let (plain, rest) = input.split_at(plain);
                content.take(plain);
                *input = rest;
            }
            let Some((&byte, rest)) = input.split_first() else { return false };
            *input = rest;
            while self.matched > 0 && self.line.get(self.matched) != Some(&byte) {
                let before = self.matched;
                self.matched = self.shorter.get(before.saturating_sub(1)).copied().unwrap_or(0);
                let given_up = before.saturating_sub(self.matched);
                content.take(self.line.get(..given_up).unwrap_or_default());
            }
            if self.line.get(self.matched) == Some(&byte) {
                self.matched = self.matched.saturating_add(1);
            } else {
                content.take(&[byte]);
            }
            if self.matched == self.line.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }
}
