//! Walks JSON text as it comes and picks the numbers that stand at the places where a dialect puts usage.
//!
//! Invariant: memory is fixed: four places, one key, one number. Everything elsewhere is only counted by its brackets.
//! Invariant: it never judges the text's validity and never fails; nonsense gives no numbers or wrong ones, which a provider
//! could send as well-formed text too.

use strongroom_policy::dialect::Dialect;

use super::tally::{Field, Tally};

/// The state of one JSON text.
#[derive(Debug)]
pub(super) struct Scanner {
    dialect: Dialect,
    /// Places from the root inward.
    places: [Place; MAX_PLACES],
    depth: usize,
    /// Open brackets below the innermost place of interest.
    foreign: u64,
    /// Whether the next string in the innermost object is a name.
    naming: bool,
    lexeme: Lexeme,
    /// The last name, or the event type while it is read.
    word: Word,
}

/// A place in the text where something of interest can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the text, or after it.
    Outside,
    /// In Gemini's array of answers.
    Answers,
    /// In the answer or event.
    Root,
    /// In `response` or `message`.
    Envelope,
    /// In `usage` or `usageMetadata`.
    Usage,
    /// In `…_tokens_details`.
    Details,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lexeme {
    Between,
    String { role: Role, escaped: bool },
    Number(Option<u64>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Name,
    EventType,
    Text,
}

impl Scanner {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            places: [Place::Outside; MAX_PLACES],
            depth: 0,
            foreign: 0,
            naming: false,
            lexeme: Lexeme::Between,
            word: Word::default(),
        }
    }

    /// Whether no text has been begun.
    pub(super) fn is_idle(&self) -> bool {
        self.depth == 0 && self.foreign == 0 && self.lexeme == Lexeme::Between
    }

    /// Forgets an unfinished text.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.dialect);
    }

    /// No string of JSON goes on over a line's end: what is put together so is no name.
    pub(super) fn end_line(&mut self) {
        if matches!(self.lexeme, Lexeme::String { .. }) {
            self.word.spoil();
        }
    }

    pub(super) fn scan(&mut self, bytes: &[u8], tally: &mut Tally) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.lexeme {
                Lexeme::String { role, escaped } => self.in_string(bytes, at, role, escaped, tally),
                Lexeme::Number(value) => self.in_number(bytes, at, value, tally),
                Lexeme::Between if self.foreign > 0 => self.in_foreign(bytes, at),
                Lexeme::Between => self.between(bytes, at, tally),
            };
        }
    }

    fn between(&mut self, bytes: &[u8], at: usize, tally: &mut Tally) -> usize {
        match bytes[at] {
            b'"' => {
                let role = if self.naming {
                    Role::Name
                } else if self.place() == Place::Root && self.word.bytes() == b"type" {
                    Role::EventType
                } else {
                    Role::Text
                };
                if role != Role::Text {
                    self.word.clear();
                }
                self.lexeme = Lexeme::String { role, escaped: false };
            }
            b'{' => self.open(self.place_of_object()),
            b'[' => self.open(self.place_of_array()),
            b'}' | b']' => self.close(tally),
            b',' => {
                self.naming = self.place() != Place::Answers;
                self.word.clear();
            }
            b':' => self.naming = false,
            digit @ b'0'..=b'9' => self.lexeme = Lexeme::Number(Some(u64::from(digit - b'0'))),
            b'-' => self.lexeme = Lexeme::Number(None),
            _ => {}
        }
        at + 1
    }

    /// Below a place of no interest only brackets and strings matter.
    fn in_foreign(&mut self, bytes: &[u8], from: usize) -> usize {
        for (offset, &byte) in bytes[from..].iter().enumerate() {
            match byte {
                b'"' => {
                    self.lexeme = Lexeme::String { role: Role::Text, escaped: false };
                    return from + offset + 1;
                }
                b'{' | b'[' => self.foreign = self.foreign.saturating_add(1),
                b'}' | b']' => {
                    self.foreign -= 1;
                    if self.foreign == 0 {
                        return from + offset + 1;
                    }
                }
                _ => {}
            }
        }
        bytes.len()
    }

    fn in_string(
        &mut self,
        bytes: &[u8],
        at: usize,
        role: Role,
        escaped: bool,
        tally: &mut Tally,
    ) -> usize {
        if escaped {
            // No name of interest is written with escapes by any provider.
            self.word.spoil();
            self.lexeme = Lexeme::String { role, escaped: false };
            return at + 1;
        }
        let special = memchr::memchr2(b'"', b'\\', &bytes[at..]).map(|offset| at + offset);
        let end = special.unwrap_or(bytes.len());
        if role != Role::Text {
            self.word.push(&bytes[at..end]);
        }
        let Some(special) = special else { return end };
        if bytes[special] == b'\\' {
            self.lexeme = Lexeme::String { role, escaped: true };
        } else {
            self.lexeme = Lexeme::Between;
            if role == Role::EventType {
                tally.event_type(self.word.bytes());
                self.word.clear();
            }
        }
        special + 1
    }

    fn in_number(
        &mut self,
        bytes: &[u8],
        at: usize,
        value: Option<u64>,
        tally: &mut Tally,
    ) -> usize {
        match bytes[at] {
            digit @ b'0'..=b'9' => {
                let digit = u64::from(digit - b'0');
                let longer = value.and_then(|value| value.checked_mul(10)?.checked_add(digit));
                self.lexeme = Lexeme::Number(longer);
                at + 1
            }
            b'.' | b'e' | b'E' | b'+' | b'-' => {
                self.lexeme = Lexeme::Number(None);
                at + 1
            }
            _ => {
                self.lexeme = Lexeme::Between;
                if let (Some(value), Some(field)) = (value, self.field()) {
                    tally.number(field, value);
                }
                at
            }
        }
    }

    fn place(&self) -> Place {
        self.depth.checked_sub(1).map_or(Place::Outside, |innermost| self.places[innermost])
    }

    fn open(&mut self, place: Option<Place>) {
        match place {
            Some(place) if self.depth < MAX_PLACES => {
                self.places[self.depth] = place;
                self.depth += 1;
                self.naming = place != Place::Answers;
                self.word.clear();
            }
            Some(_) | None => self.foreign = 1,
        }
    }

    fn close(&mut self, tally: &mut Tally) {
        let closed = self.place();
        self.depth = self.depth.saturating_sub(1);
        self.naming = false;
        self.word.clear();
        if closed == Place::Root {
            tally.text_over();
        }
    }

    fn place_of_object(&self) -> Option<Place> {
        let name = self.word.bytes();
        match (self.place(), self.dialect) {
            (Place::Outside | Place::Answers, _) => Some(Place::Root),
            (Place::Root, Dialect::Gemini) => (name == b"usageMetadata").then_some(Place::Usage),
            (Place::Root | Place::Envelope, _) if name == b"usage" => Some(Place::Usage),
            (Place::Root, Dialect::Anthropic) => (name == b"message").then_some(Place::Envelope),
            (Place::Root, Dialect::OpenAi | Dialect::Xai) => {
                (name == b"response").then_some(Place::Envelope)
            }
            (Place::Usage, Dialect::OpenAi | Dialect::Xai) => {
                name.ends_with(b"_tokens_details").then_some(Place::Details)
            }
            (Place::Usage | Place::Envelope | Place::Details, _) => None,
        }
    }

    fn place_of_array(&self) -> Option<Place> {
        (self.place() == Place::Outside && self.dialect == Dialect::Gemini)
            .then_some(Place::Answers)
    }

    fn field(&self) -> Option<Field> {
        match self.place() {
            Place::Usage => Field::of_usage(self.dialect, self.word.bytes()),
            Place::Details => Field::of_details(self.word.bytes()),
            Place::Outside | Place::Answers | Place::Root | Place::Envelope => None,
        }
    }
}

/// A short word; longer ones are none that matters.
#[derive(Debug, Default)]
struct Word {
    bytes: [u8; MAX_WORD_BYTES],
    length: usize,
    spoiled: bool,
}

impl Word {
    fn clear(&mut self) {
        self.length = 0;
        self.spoiled = false;
    }

    fn spoil(&mut self) {
        self.spoiled = true;
    }

    fn push(&mut self, part: &[u8]) {
        match self.bytes.get_mut(self.length..self.length + part.len()) {
            Some(room) => {
                room.copy_from_slice(part);
                self.length += part.len();
            }
            None => self.spoiled = true,
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.spoiled { &[] } else { &self.bytes[..self.length] }
    }
}

/// Answers, root, envelope, usage, details.
const MAX_PLACES: usize = 5;
/// Longer than `cache_creation_input_tokens`; arrays up to 32 bytes have a `Default`.
const MAX_WORD_BYTES: usize = 32;
