//! Cuts the bytes of one JSON object into events as they come, strictly by RFC 8259.
//!
//! Invariant: events come in the order and nesting of the grammar; the first byte outside of it is an error.
//! Invariant: it holds one string's beginning, one number and one bit per open container.
//! Distrusts: every byte.

use super::Flaw;
use super::text::{Progress, Text};

/// Open containers: real bodies stay below 30, and 64 is below what any provider's parser bears.
pub(super) const MAX_DEPTH: u32 = 64;
/// Bytes of a number: a double needs 25, serialisers of big integers stay below 64.
const MAX_NUMBER_BYTES: usize = 64;

/// What was read.
#[derive(Debug)]
pub(super) enum Event<'l> {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `}` or `]`
    Close,
    /// A name in an object.
    Name(&'l Text),
    /// A string as a value.
    Text(&'l Text),
    /// A number, as it is written.
    Number(&'l str),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

/// The state between two chunks.
#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    /// One bit per open container, the innermost lowest: 1 is an object.
    objects: u64,
    depth: u32,
    text: Text,
    number: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space came.
    Start,
    /// A value must come.
    Value,
    /// After `[`: a value or `]`.
    FirstItem,
    /// After `{`: a name or `}`.
    FirstName,
    /// After `,` in an object: a name.
    NextName,
    /// After a name: `:`.
    Colon,
    /// After a value in a container: `,` or its end.
    After,
    InName,
    InText,
    InNumber,
    /// Within `true`, `false` or `null`, with the letters that must still come.
    InWord(&'static [u8], Word),
    /// The object is closed.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    True,
    False,
    Null,
}

/// What a step leaves to say; the texts are lent afterwards.
enum Found {
    Nothing,
    Object,
    Array,
    Close,
    Name,
    Text,
    Number,
    Word(Word),
}

impl Lexer {
    pub(super) fn new() -> Self {
        let number = String::with_capacity(MAX_NUMBER_BYTES);
        Self { state: State::Start, objects: 0, depth: 0, text: Text::new(), number }
    }

    /// Takes bytes up to the end of the next event; `None` when it needs more bytes.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Event<'_>>, Flaw> {
        while !input.is_empty() {
            let event = match self.step(input)? {
                Found::Nothing => continue,
                Found::Object => Event::Object,
                Found::Array => Event::Array,
                Found::Close => Event::Close,
                Found::Name => Event::Name(&self.text),
                Found::Text => Event::Text(&self.text),
                Found::Number => Event::Number(&self.number),
                Found::Word(Word::True) => Event::Bool(true),
                Found::Word(Word::False) => Event::Bool(false),
                Found::Word(Word::Null) => Event::Null,
            };
            return Ok(Some(event));
        }
        Ok(None)
    }

    /// Whether exactly one object was read.
    pub(super) fn finish(&self) -> Result<(), Flaw> {
        if self.state == State::End { Ok(()) } else { Err(Flaw::Truncated) }
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Found, Flaw> {
        match self.state {
            State::InName => return self.read_text(input, State::Colon, Found::Name),
            State::InText => return self.read_text(input, State::After, Found::Text),
            State::InNumber => return self.read_number(input),
            State::InWord(rest, word) => return self.read_word(input, rest, word),
            State::Start
            | State::Value
            | State::FirstItem
            | State::FirstName
            | State::NextName
            | State::Colon
            | State::After
            | State::End => {}
        }
        let Some((&byte, rest)) = input.split_first() else { return Ok(Found::Nothing) };
        *input = rest;
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            return Ok(Found::Nothing);
        }
        match (self.state, byte) {
            (State::Start, b'{') => self.open(true),
            (State::Start, 0xef) => Err(Flaw::ByteOrderMark),
            (State::Start, b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => {
                Err(Flaw::NotAnObject)
            }
            (State::FirstItem, b']') | (State::FirstName, b'}') => Ok(self.close()),
            (State::Value | State::FirstItem, _) => self.begin_value(byte),
            (State::FirstName | State::NextName, b'"') => {
                self.text.begin();
                self.state = State::InName;
                Ok(Found::Nothing)
            }
            (State::After, b',') if self.in_object() => Ok(self.becomes(State::NextName)),
            (State::Colon, b':') | (State::After, b',') => Ok(self.becomes(State::Value)),
            (State::After, b'}') if self.in_object() => Ok(self.close()),
            (State::After, b']') if !self.in_object() => Ok(self.close()),
            (State::End, _) => Err(Flaw::Trailing),
            _ => Err(Flaw::Byte),
        }
    }

    fn begin_value(&mut self, byte: u8) -> Result<Found, Flaw> {
        match byte {
            b'"' => {
                self.text.begin();
                Ok(self.becomes(State::InText))
            }
            b'{' => self.open(true),
            b'[' => self.open(false),
            b't' => Ok(self.becomes(State::InWord(b"rue", Word::True))),
            b'f' => Ok(self.becomes(State::InWord(b"alse", Word::False))),
            b'n' => Ok(self.becomes(State::InWord(b"ull", Word::Null))),
            b'-' | b'0'..=b'9' => {
                self.number.clear();
                self.number.push(char::from(byte));
                Ok(self.becomes(State::InNumber))
            }
            _ => Err(Flaw::Byte),
        }
    }

    fn becomes(&mut self, state: State) -> Found {
        self.state = state;
        Found::Nothing
    }

    fn open(&mut self, object: bool) -> Result<Found, Flaw> {
        if self.depth >= MAX_DEPTH {
            return Err(Flaw::Depth);
        }
        self.depth = self.depth.saturating_add(1);
        self.objects = (self.objects << 1) | u64::from(object);
        self.state = if object { State::FirstName } else { State::FirstItem };
        Ok(if object { Found::Object } else { Found::Array })
    }

    fn close(&mut self) -> Found {
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
        self.state = if self.depth == 0 { State::End } else { State::After };
        Found::Close
    }

    const fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn read_text(&mut self, input: &mut &[u8], then: State, found: Found) -> Result<Found, Flaw> {
        if self.text.read(input)? == Progress::Hungry {
            return Ok(Found::Nothing);
        }
        if then == State::Colon && self.text.kept().contains('\0') {
            return Err(Flaw::NulName);
        }
        self.state = then;
        Ok(found)
    }

    /// Takes the bytes that numbers are made of; the grammar is checked at the end.
    fn read_number(&mut self, input: &mut &[u8]) -> Result<Found, Flaw> {
        while let Some((&byte, rest)) = input.split_first() {
            if !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
                if !is_number(&self.number) {
                    return Err(Flaw::Number);
                }
                self.state = State::After;
                return Ok(Found::Number);
            }
            if self.number.len() >= MAX_NUMBER_BYTES {
                return Err(Flaw::LongNumber);
            }
            self.number.push(char::from(byte));
            *input = rest;
        }
        Ok(Found::Nothing)
    }

    fn read_word(
        &mut self,
        input: &mut &[u8],
        letters: &'static [u8],
        word: Word,
    ) -> Result<Found, Flaw> {
        let Some((letter, letters)) = letters.split_first() else {
            self.state = State::After;
            return Ok(Found::Word(word));
        };
        let Some((byte, rest)) = input.split_first() else { return Ok(Found::Nothing) };
        if byte != letter {
            return Err(Flaw::Byte);
        }
        *input = rest;
        Ok(self.becomes(State::InWord(letters, word)))
    }
}

/// RFC 8259, 6; and finite as a double, because parsers differ about `1e999`.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = |text: &str| digits(text.strip_prefix(['+', '-']).unwrap_or(text));
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(unsigned)
        && (exponent.is_none() || text.parse::<f64>().is_ok_and(f64::is_finite))
}
