//! Reads the inside of one JSON string: validates all of it, keeps the beginning of it.
//!
//! Invariant: what is kept is UTF-8 with every escape resolved; `whole` says whether it is everything.
//! Distrusts: every byte.

use super::Flaw;

/// Kept bytes of a string, decoded: a model name has at most 200, a name that matters far fewer.
const KEPT_BYTES: usize = 256;

/// One string being read, and after its end the string.
#[derive(Debug)]
pub(super) struct Text {
    kept: String,
    whole: bool,
    /// The bytes of a character that the end of a chunk cut.
    cut: [u8; 4],
    cut_len: usize,
    escape: Escape,
}

/// Where in an escape the reader stands.
#[derive(Debug, Clone, Copy)]
enum Escape {
    None,
    /// After a backslash.
    Letter,
    /// Within the four digits of `\u`; `high` is the first half of a pair already read.
    Digits {
        read: u8,
        value: u16,
        high: Option<u16>,
    },
    /// After the first half of a pair: a backslash must follow.
    SecondBackslash {
        high: u16,
    },
    /// And a `u` after that.
    SecondLetter {
        high: u16,
    },
}

/// Whether the string ended in the bytes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The closing quote was taken.
    Ended,
    /// All bytes were taken.
    Hungry,
}

impl Text {
    pub(super) fn new() -> Self {
        let kept = String::with_capacity(KEPT_BYTES);
        Self { kept, whole: true, cut: [0; 4], cut_len: 0, escape: Escape::None }
    }

    /// Begins another string.
    pub(super) fn begin(&mut self) {
        self.kept.clear();
        self.whole = true;
        self.cut_len = 0;
        self.escape = Escape::None;
    }

    /// What was kept.
    pub(super) fn kept(&self) -> &str {
        &self.kept
    }

    /// The string, unless it was too long to keep.
    pub(super) fn whole(&self) -> Option<&str> {
        self.whole.then_some(self.kept.as_str())
    }

    /// Takes bytes up to and with the closing quote.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Progress, Flaw> {
        while let Some((&byte, rest)) = input.split_first() {
            if let Escape::None = self.escape {
                if self.cut_len > 0 {
                    *input = rest;
                    self.join(byte)?;
                    continue;
                }
                self.run(input)?;
                let Some((&end, rest)) = input.split_first() else { return Ok(Progress::Hungry) };
                *input = rest;
                if end == b'"' {
                    return Ok(Progress::Ended);
                }
                self.escape = Escape::Letter;
            } else {
                *input = rest;
                self.step(byte)?;
            }
        }
        Ok(Progress::Hungry)
    }

    /// Takes everything before the next quote or backslash.
    fn run(&mut self, input: &mut &[u8]) -> Result<(), Flaw> {
        if let Some(short) = short_run(input) {
            let (run, rest) = input.split_at(short);
            if self.whole {
                self.keep(std::str::from_utf8(run).map_err(|_| Flaw::Utf8)?);
            }
            *input = rest;
            return Ok(());
        }
        let end = memchr::memchr2(b'"', b'\\', input);
        let (run, rest) = input.split_at(end.unwrap_or(input.len()));
        // Without a branch per byte, so that it runs in vector registers.
        if run.iter().fold(0, |seen, byte| seen | u8::from(*byte < 0x20)) != 0 {
            return Err(Flaw::Control);
        }
        match std::str::from_utf8(run) {
            Ok(text) => self.keep(text),
            Err(error) => {
                // Only the end of the chunk may cut a character, not the end of the run.
                if error.error_len().is_some() || !rest.is_empty() {
                    return Err(Flaw::Utf8);
                }
                let (good, tail) = run.split_at(error.valid_up_to());
                self.keep(std::str::from_utf8(good).map_err(|_| Flaw::Utf8)?);
                for byte in tail {
                    self.join(*byte)?;
                }
            }
        }
        *input = rest;
        Ok(())
    }

    /// Adds a byte to the character that a chunk's end cut.
    fn join(&mut self, byte: u8) -> Result<(), Flaw> {
        *self.cut.get_mut(self.cut_len).ok_or(Flaw::Utf8)? = byte;
        self.cut_len = self.cut_len.saturating_add(1);
        let cut = self.cut;
        let bytes = cut.get(..self.cut_len).ok_or(Flaw::Utf8)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                self.keep(text);
                self.cut_len = 0;
                Ok(())
            }
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(Flaw::Utf8),
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), Flaw> {
        self.escape = match self.escape {
            Escape::None => Escape::None,
            Escape::Letter => self.letter(byte)?,
            Escape::Digits { read, value, high } => {
                let digit = char::from(byte).to_digit(16).and_then(|d| u16::try_from(d).ok());
                let value = (value << 4) | digit.ok_or(Flaw::Escape)?;
                match read.saturating_add(1) {
                    4 => self.unit(value, high)?,
                    read => Escape::Digits { read, value, high },
                }
            }
            Escape::SecondBackslash { high } if byte == b'\\' => Escape::SecondLetter { high },
            Escape::SecondLetter { high } if byte == b'u' => {
                Escape::Digits { read: 0, value: 0, high: Some(high) }
            }
            Escape::SecondBackslash { .. } | Escape::SecondLetter { .. } => {
                return Err(Flaw::Surrogate);
            }
        };
        Ok(())
    }

    fn letter(&mut self, byte: u8) -> Result<Escape, Flaw> {
        let plain = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return Ok(Escape::Digits { read: 0, value: 0, high: None }),
            _ => return Err(Flaw::Escape),
        };
        self.keep_char(plain);
        Ok(Escape::None)
    }

    /// A UTF-16 unit is complete: a character, or half of one.
    fn unit(&mut self, unit: u16, high: Option<u16>) -> Result<Escape, Flaw> {
        let Some(high) = high else {
            if (0xd800..0xdc00).contains(&unit) {
                return Ok(Escape::SecondBackslash { high: unit });
            }
            self.keep_char(char::from_u32(unit.into()).ok_or(Flaw::Surrogate)?);
            return Ok(Escape::None);
        };
        let pair = char::decode_utf16([high, unit]).next();
        self.keep_char(pair.and_then(Result::ok).ok_or(Flaw::Surrogate)?);
        Ok(Escape::None)
    }

    fn keep_char(&mut self, c: char) {
        self.keep(c.encode_utf8(&mut [0; 4]));
    }

    fn keep(&mut self, text: &str) {
        if !self.whole {
            return;
        }
        let room = KEPT_BYTES.saturating_sub(self.kept.len());
        let end = text.floor_char_boundary(room);
        self.kept.push_str(text.get(..end).unwrap_or_default());
        self.whole = end == text.len();
    }
}

/// Length of a short run of plain ASCII before a quote or backslash: source code has one every few bytes, where
/// three searches cost more than one loop.
fn short_run(input: &[u8]) -> Option<usize> {
    let special = |byte: &u8| !matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7f);
    let at = input.iter().take(SHORT_BYTES).position(special)?;
    input.get(at).is_some_and(|byte| matches!(byte, b'"' | b'\\')).then_some(at)
}

/// Bytes looked at one by one first.
const SHORT_BYTES: usize = 32;
