//! Counts what a call used, on a copy of what passes, while it passes.
//!
//! Invariant: the meter changes no byte, keeps no text, and its memory does not grow with the answer.
//! Invariant: usage is read by its place in the provider's JSON, never by its look: text that a model writes cannot pose as it.
//! Invariant: a number that the provider did not give is `None`, not zero.
//!
//! Trusts: nobody; a lying or silent provider is settled at the reservation.
//! Distrusts: the provider's body.

mod events;
mod scanner;
mod tally;

use strongroom_policy::dialect::Dialect;

use self::events::Events;
use self::scanner::Scanner;
use self::tally::Tally;

/// What one call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All tokens read, cached and newly cached ones included.
    pub input: Option<u64>,
    /// The part of `input` that came from the provider's cache.
    pub cached_input: Option<u64>,
    /// The part of `input` that was written to the provider's cache.
    pub cache_write: Option<u64>,
    /// All tokens written, reasoning included.
    pub output: Option<u64>,
    /// The part of `output` that was reasoning.
    pub reasoning: Option<u64>,
    /// The provider's own sum.
    pub total: Option<u64>,
    /// The provider's own price, in 10⁻¹⁰ US dollars (xAI).
    pub cost_ticks: Option<u64>,
    /// How far the numbers can be relied on.
    pub completeness: Completeness,
}

/// How far usage can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// The final numbers of an answer that reached its end.
    Exact,
    /// The last numbers before the answer was cut, or numbers without the API's own end mark: a lower bound.
    Partial,
    /// No numbers.
    Missing,
}

/// How a body is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Server-sent events with a JSON text each.
    Events,
    /// One JSON text; for Gemini also an array that arrives in pieces.
    Json,
    /// Audio, images, files: nothing to read.
    Opaque,
}

/// How the body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By its own framing.
    Whole,
    /// Cut by the provider, the caller or us.
    Cut,
}

/// Watches one answer body.
#[derive(Debug)]
pub struct Meter {
    reading: Reading,
    tally: Tally,
}

#[derive(Debug)]
enum Reading {
    Events(Box<Events>),
    Json(Scanner),
    Opaque,
}

impl Meter {
    /// Starts before the body's first byte.
    pub fn new(dialect: Dialect, layout: Layout) -> Self {
        let reading = match layout {
            Layout::Events => Reading::Events(Box::new(Events::new(dialect))),
            Layout::Json => Reading::Json(Scanner::new(dialect)),
            Layout::Opaque => Reading::Opaque,
        };
        Self { reading, tally: Tally::new(dialect, layout) }
    }

    /// Sees the next bytes of the body, decoded.
    pub fn see(&mut self, bytes: &[u8]) {
        match &mut self.reading {
            Reading::Events(events) => events.see(bytes, &mut self.tally),
            Reading::Json(scanner) => scanner.scan(bytes, &mut self.tally),
            Reading::Opaque => {}
        }
    }

    /// Sums up.
    pub fn finish(mut self, ending: Ending) -> Usage {
        if let Reading::Events(events) = &mut self.reading {
            events.end_line(&mut self.tally);
        }
        self.tally.usage(ending)
    }
}

#[cfg(test)]
mod tests;
