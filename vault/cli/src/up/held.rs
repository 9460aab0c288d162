//! What the supervisor notes of a seal that ended the keeper: the mark that the keeper had no time for.
//!
//! Invariant: until the mark is on the disk this process remembers it instead.

use std::path::Path;
use std::thread::{self, JoinHandle};

use crate::failure::Outcome;
use crate::{out, seal};

/// Marks that are being written, and one that failed for good.
#[derive(Debug, Default)]
pub(crate) enum Held {
    /// The file in the keeper's directory says all there is to say.
    #[default]
    Written,
    /// It is being written, for as long as the disk takes.
    Writing(JoinHandle<Outcome>),
    /// It was not: no unattended opening while this process lives.
    Failed,
}

impl Held {
    /// The keeper ended by an operator's seal.
    pub(crate) fn note(&mut self, vault: &Path) {
        let vault = vault.to_path_buf();
        *self = Self::Writing(thread::spawn(move || seal::mark(&vault)));
    }

    /// Whether nothing may open the vault unattended, whatever the file says.
    pub(crate) fn holds(&mut self) -> bool {
        *self = match std::mem::take(self) {
            Self::Writing(writing) if writing.is_finished() => match writing.join() {
                Ok(Ok(())) => Self::Written,
                Ok(Err(failure)) => {
                    out::warn(&format!("the mark of the seal was not written: {failure}"));
                    Self::Failed
                }
                Err(_) => Self::Failed,
            },
            other @ (Self::Written | Self::Writing(_) | Self::Failed) => other,
        };
        !matches!(self, Self::Written)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Held;

    #[test]
    fn a_seal_holds_until_its_mark_is_written_and_for_good_when_it_cannot_be() {
        let scratch = tempfile::tempdir().unwrap();
        let mut held = Held::default();
        assert!(!held.holds());
        held.note(scratch.path());
        let begun = Instant::now();
        while held.holds() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        assert!(!held.holds());
        assert!(scratch.path().join("sealed-by-operator").exists());
        held.note(&scratch.path().join("not there"));
        while matches!(held, Held::Writing(_)) && begun.elapsed() < Duration::from_secs(20) {
            assert!(held.holds());
        }
        assert!(matches!(held, Held::Failed) && held.holds());
    }
}
