//! How far a long work is: one line that is drawn over itself on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crate::out;

/// Between two drawings.
const PAUSE: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: u64 = 30;

/// A work of a known length.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    total: u64,
    terminal: bool,
    drawn: Option<Instant>,
}

impl Progress {
    /// Begins; `what` is the unit, as in `entries`.
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        Self { what, total, terminal: io::stderr().is_terminal(), drawn: None }
    }

    /// Says how much is done.
    pub(crate) fn at(&mut self, done: u64) {
        // The clock is not asked for each entry.
        if !self.terminal || !done.is_multiple_of(256) {
            return;
        }
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < PAUSE) {
            return;
        }
        self.drawn = Some(Instant::now());
        out::ask(&format!("\r{}", bar(done, self.total, self.what)));
    }

    /// Draws how much is done, for a work that is looked at now and then.
    pub(crate) fn show(&mut self, done: u64) {
        if self.terminal {
            self.drawn = Some(Instant::now());
            out::ask(&format!("\r{}", bar(done, self.total, self.what)));
        }
    }

    /// Whether anybody sees the bar.
    pub(crate) fn is_drawn(&self) -> bool {
        self.terminal
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            out::ask("\r\u{1b}[K");
        }
    }
}

fn bar(done: u64, total: u64, what: &str) -> String {
    let part = |of: u64| done.min(total).checked_mul(of).and_then(|n| n.checked_div(total));
    let (filled, percent) = (part(WIDTH).unwrap_or(0), part(100).unwrap_or(0));
    let filled = usize::try_from(filled).unwrap_or(0);
    let empty = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(filled);
    format!(
        "[{}{}] {percent:>3} %  {done} of {total} {what}",
        "=".repeat(filled),
        " ".repeat(empty)
    )
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_fills_and_never_overflows() {
        assert_eq!(bar(0, 4, "entries"), format!("[{}]   0 %  0 of 4 entries", " ".repeat(30)));
        assert!(bar(2, 4, "entries").starts_with(&format!(
            "[{}{}]",
            "=".repeat(15),
            " ".repeat(15)
        )));
        assert!(bar(9, 4, "entries").contains("100 %"));
        assert!(bar(0, 0, "entries").contains("0 %"));
    }
}
