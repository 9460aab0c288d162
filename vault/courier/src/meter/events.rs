//! Splits server-sent events into lines and shows the JSON of `data:` lines to the scanner (WHATWG HTML, 9.2.6).
//!
//! Invariant: no line is stored: the scanner reads as the bytes come, so a line may be of any length.
//! Invariant: whole events without a word that matters are skipped without being read; words in a model's text cost time only.
//! Invariant: the numbers are the same however the bytes are cut: what is skipped in one piece gives nothing in many.

use memchr::memmem::Finder;
use strongroom_policy::dialect::Dialect;

use super::scanner::Scanner;
use super::tally::Tally;

/// The stream's state.
#[derive(Debug)]
pub(super) struct Events {
    scanner: Scanner,
    place: Place,
    usage: Finder<'static>,
    end: Finder<'static>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// This many bytes of the field name and its colon have matched `data:`.
    Field(usize),
    /// In a `data:` line, of whose text this many bytes have matched `[DONE]`.
    Data(Done),
    /// In a line of no interest.
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Matched(usize),
    No,
}

impl Events {
    pub(super) fn new(dialect: Dialect) -> Self {
        let end: &[u8] = match dialect {
            Dialect::OpenAi | Dialect::Xai => DONE,
            Dialect::Anthropic => b"\"message_stop\"",
            // The last numbers are the numbers; the array or the stream just ends.
            Dialect::Gemini => b"\"usageMetadata\"",
        };
        Self {
            scanner: Scanner::new(dialect),
            place: Place::Field(0),
            usage: Finder::new(b"\"usage"),
            end: Finder::new(end),
        }
    }

    pub(super) fn see(&mut self, mut bytes: &[u8], tally: &mut Tally) {
        let mut may_be_dull = true;
        while !bytes.is_empty() {
            if may_be_dull && self.place == Place::Field(0) && self.scanner.is_idle() {
                bytes = &bytes[self.dull_events(bytes)..];
            }
            let line_end = memchr::memchr(b'\n', bytes);
            self.see_line(&bytes[..line_end.unwrap_or(bytes.len())], tally);
            let Some(at) = line_end else { return };
            // Once an event: looking ahead from every line would cost the square of their number.
            may_be_dull = self.place == Place::Field(0);
            self.end_line(tally);
            bytes = &bytes[at + 1..];
        }
    }

    /// The line, or the body, is over.
    pub(super) fn end_line(&mut self, tally: &mut Tally) {
        match self.place {
            // An empty line ends the event; a text may go on over several `data:` lines before it.
            Place::Field(0) => self.restart(tally),
            Place::Data(Done::Matched(matched)) if matched == DONE.len() => {
                tally.end_mark();
                self.restart(tally);
            }
            Place::Data(_) => self.scanner.end_line(),
            Place::Field(_) | Place::Skipped => {}
        }
        self.place = Place::Field(0);
    }

    /// Forgets an unfinished text, and what it said of itself.
    fn restart(&mut self, tally: &mut Tally) {
        if !self.scanner.is_idle() {
            self.scanner.restart();
            tally.text_broken();
        }
    }

    /// Length of the whole events at the start of `bytes` that say nothing about usage or the end. A line is not enough: a text
    /// may go on in the next one.
    fn dull_events(&self, bytes: &[u8]) -> usize {
        let telling = match (self.usage.find(bytes), self.end.find(bytes)) {
            (Some(usage), Some(end)) => usage.min(end),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => bytes.len(),
        };
        let mut dull = &bytes[..telling];
        while let Some(at) = memchr::memrchr(b'\n', dull) {
            let line = &dull[..at];
            if line.strip_suffix(b"\r").unwrap_or(line).ends_with(b"\n") {
                return at + 1;
            }
            dull = line;
        }
        0
    }

    /// Part of a line, without its end.
    fn see_line(&mut self, mut part: &[u8], tally: &mut Tally) {
        while let Place::Field(matched) = self.place {
            let Some((&byte, rest)) = part.split_first() else { return };
            if byte == b'\r' && matched == 0 {
                // Of a CRLF, or a line end by itself.
                part = rest;
                continue;
            }
            self.place = if byte != FIELD[matched] {
                Place::Skipped
            } else if matched + 1 == FIELD.len() {
                Place::Data(Done::Matched(0))
            } else {
                Place::Field(matched + 1)
            };
            part = rest;
        }
        if let Place::Data(done) = self.place {
            self.place = Place::Data(match_done(done, part));
            self.scanner.scan(part, tally);
        }
    }
}

fn match_done(mut done: Done, part: &[u8]) -> Done {
    for &byte in part {
        done = match done {
            Done::No => return Done::No,
            Done::Matched(matched) if DONE.get(matched) == Some(&byte) => {
                Done::Matched(matched + 1)
            }
            Done::Matched(matched @ (0 | 6)) if matches!(byte, b' ' | b'\r') => {
                Done::Matched(matched)
            }
            Done::Matched(_) => Done::No,
        };
    }
    done
}

const FIELD: &[u8] = b"data:";
/// OpenAI's and xAI's last event.
const DONE: &[u8] = b"[DONE]";
