//! What the supervisor notes of a seal that ended the keeper: the mark that the keeper had no time for.
//!
//! Invariant: until the mark is on the disk this process remembers it instead.
//! Invariant: this process does not end before the mark is on the disk, or [`MARKED_WITHIN`] is over, or the disk refused it; the
//! latter two are said.

use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use strongroom_protocol::operator::SEAL_MARK;

use crate::failure::{Failure, Outcome};
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
        self.write(move || seal::mark(&vault));
    }

    fn write(&mut self, mark: impl FnOnce() -> Outcome + Send + 'static) {
        *self = Self::Writing(thread::spawn(mark));
    }

    /// Before this process ends: waits for a mark, and tries once more where there is none.
    pub(crate) fn settle(&mut self, vault: &Path) -> Outcome {
        if self.holds() && matches!(self, Self::Failed) {
            self.note(vault);
        }
        let begun = Instant::now();
        while self.holds() && matches!(self, Self::Writing(_)) && begun.elapsed() < MARKED_WITHIN {
            thread::sleep(TICK);
        }
        if !self.holds() {
            return Ok(());
        }
        let what =
            "an operator sealed the vault, and the disk did not take the mark that keeps it so";
        Err(Failure::file(&vault.join(SEAL_MARK), what)
            .next("look at the disk; before the next start set `unattended = false` under [tpm]"))
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

/// How long a disk is waited for at the end.
const MARKED_WITHIN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
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
    // Red when the end does not wait for the thread that writes.
    #[test]
    fn the_end_waits_for_a_mark_under_way_and_tries_a_failed_one_again() {
        let scratch = tempfile::tempdir().unwrap();
        let mark = scratch.path().join("sealed-by-operator");
        let (mut held, vault) = (Held::default(), scratch.path().to_path_buf());
        held.settle(&vault).unwrap();
        assert!(!mark.exists(), "nobody sealed it");
        let (go, wait) = mpsc::channel::<()>();
        held.write(move || {
            wait.recv().unwrap();
            crate::seal::mark(&vault)
        });
        let slow = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            go.send(()).unwrap();
        });
        held.settle(scratch.path()).unwrap();
        assert!(mark.exists());
        slow.join().unwrap();
        std::fs::remove_file(&mark).unwrap();
        held = Held::Failed;
        held.settle(scratch.path()).unwrap();
        assert!(mark.exists());
        let nowhere = scratch.path().join("not there");
        held.note(&nowhere);
        assert!(held.settle(&nowhere).unwrap_err().to_string().contains("unattended = false"));
    }
}
