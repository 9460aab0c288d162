//! What the manifest notes of a counter outside this directory, and the judgement of it at unseal.
//!
//! | the note | the TPM's counter | answer |
//! |---|---|---|
//! | none | no way leads over a TPM | accepted: nothing outside is asked |
//! | any, or none | no way leads over a TPM, and the settings say that one does | older than its seal to the TPM |
//! | value | that value, that name | accepted |
//! | value, moving | that value or the next one, that name | accepted |
//! | value, leaving | that value or the next one, that name; or no way leads over a TPM | accepted |
//! | value | a higher one | older than the TPM knows |
//! | value | a lower one, or another name | not the TPM's of this vault |
//! | any, or none | not readable, or there where none is noted | not known to be the newest |
//!
//! Invariant: pure but for [`Manifest::note_counter`]; what is not accepted here is opened only when people confirm the
//! checkpoint that they were shown.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Manifest, ManifestError, Record};
use crate::keys::FillRandom;

/// A counter in a TPM, as it was when the manifest was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterNote {
    /// The counter's name.
    pub name: [u8; 32],
    /// Its value.
    pub value: u64,
    /// Whether it is about to be moved to the next value, or was.
    pub motion: Motion,
}

/// Whether a counter is being moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Motion {
    /// It has the noted value.
    Still,
    /// It has the noted value or the next one.
    Moving,
    /// As `Moving`, or its way was removed.
    Leaving,
}

/// What was found where the counter should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// No way into the vault leads over a TPM.
    Nowhere,
    /// No way into the vault leads over a TPM, and the settings say that one does.
    Missing,
    /// A counter.
    At {
        /// Its name.
        name: [u8; 32],
        /// Its value.
        value: u64,
    },
    /// There is a way over a TPM, and its counter was not read.
    Unread {
        /// In words.
        why: String,
    },
}

/// Names one state of the store, for people to compare: its commit and the beginning of its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint(String);

/// Why a vault is not taken for the newest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotNewest {
    /// It is older than the TPM's counter.
    #[error("this copy of the vault is of counter {found}, the TPM is at {expected}")]
    Older {
        /// As the manifest notes.
        found: u64,
        /// As the TPM says.
        expected: u64,
    },
    /// The TPM's counter was never where it is said to have been.
    #[error("this copy of the vault is of counter {found}, the TPM is only at {seen}")]
    Ahead {
        /// As the manifest notes.
        found: u64,
        /// As the TPM says.
        seen: u64,
    },
    /// The TPM has another counter.
    #[error("the TPM's counter is not the one of this copy of the vault")]
    Another,
    /// The counter was not read.
    #[error("the TPM's counter cannot be read ({why})")]
    Unread {
        /// In words.
        why: String,
    },
    /// The note is of a way that is gone.
    #[error("a counter is noted, and no way into the vault leads over its TPM any more")]
    NoWay,
    /// The settings say that it is sealed to a TPM.
    #[error("this copy of the vault is not sealed to a TPM, and the settings say that it is")]
    NotSealed,
    /// The vault is older than its way over the TPM.
    #[error("this copy of the vault is older than its seal to the TPM")]
    NoNote,
}

impl Checkpoint {
    /// Whether somebody who was shown it typed it.
    pub fn is(&self, typed: &str) -> bool {
        self.0 == typed.trim()
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Manifest {
    /// The counter, as it is noted.
    pub const fn counter(&self) -> Option<CounterNote> {
        self.record.counter
    }

    /// Notes a counter, or that there is none; durable on return. Does not touch a commit that is under way.
    ///
    /// # Errors
    /// When the write failed.
    pub fn note_counter(
        &mut self,
        counter: Option<CounterNote>,
        random: FillRandom<'_>,
    ) -> Result<(), ManifestError> {
        let Record { settled, intended, .. } = self.record.clone();
        self.write(Record { settled, intended, counter }, random)
    }

    /// The state that is settled.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn checkpoint(&self) -> Result<Checkpoint, ManifestError> {
        let settled = &self.record.settled;
        let bytes = postcard::to_stdvec(settled).map_err(|_| ManifestError::Malformed)?;
        let digest = Sha256::new().chain_update(self.store.0).chain_update(bytes).finalize();
        let (beginning, _) = digest.split_first_chunk::<4>().ok_or(ManifestError::Malformed)?;
        Ok(Checkpoint(format!("{}-{}", settled.commit, hex::encode(beginning))))
    }

    /// Judges what was found where the counter should be.
    ///
    /// # Errors
    /// Says why this vault is not known to be the newest.
    pub fn judge_counter(&self, seen: &Seen) -> Result<(), NotNewest> {
        let (note, name, value) = match (self.record.counter, seen) {
            (None | Some(CounterNote { motion: Motion::Leaving, .. }), Seen::Nowhere) => {
                return Ok(());
            }
            (_, Seen::Missing) => return Err(NotNewest::NotSealed),
            (Some(_), Seen::Nowhere) => return Err(NotNewest::NoWay),
            (_, Seen::Unread { why }) => return Err(NotNewest::Unread { why: why.clone() }),
            (None, Seen::At { .. }) => return Err(NotNewest::NoNote),
            (Some(note), Seen::At { name, value }) => (note, *name, *value),
        };
        let (found, most) = match note.motion {
            Motion::Still => (note.value, note.value),
            Motion::Moving | Motion::Leaving => (note.value, note.value.saturating_add(1)),
        };
        if note.name != name {
            Err(NotNewest::Another)
        } else if value < found {
            Err(NotNewest::Ahead { found, seen: value })
        } else if value > most {
            Err(NotNewest::Older { found, expected: value })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::Vault;
    use super::{CounterNote, Motion, NotNewest, Seen};

    const NAME: [u8; 32] = [7; 32];

    const fn note(value: u64, motion: Motion) -> CounterNote {
        CounterNote { name: NAME, value, motion }
    }

    fn judge(noted: Option<CounterNote>, seen: &Seen) -> Result<(), NotNewest> {
        let mut vault = Vault::make(1);
        vault.manifest.note_counter(noted, &mut getrandom::fill).unwrap();
        vault.reopen().judge_counter(seen)
    }

    // Red when `judge_counter` accepts a higher value than the note's next.
    #[test]
    fn a_counter_is_accepted_where_the_note_left_it_and_nowhere_else() {
        let at = |value| Seen::At { name: NAME, value };
        let still = Some(note(5, Motion::Still));
        assert_eq!(judge(still, &at(5)), Ok(()));
        assert_eq!(judge(still, &at(6)), Err(NotNewest::Older { found: 5, expected: 6 }));
        assert_eq!(judge(still, &at(4)), Err(NotNewest::Ahead { found: 5, seen: 4 }));
        let moving = Some(note(5, Motion::Moving));
        assert_eq!(judge(moving, &at(5)), Ok(()));
        assert_eq!(judge(moving, &at(6)), Ok(()));
        assert_eq!(judge(moving, &at(7)), Err(NotNewest::Older { found: 5, expected: 7 }));
        let leaving = Some(note(5, Motion::Leaving));
        assert_eq!(judge(leaving, &at(5)), Ok(()));
        assert_eq!(judge(leaving, &Seen::Nowhere), Ok(()));
        assert_eq!(judge(leaving, &Seen::Missing), Err(NotNewest::NotSealed));
        assert_eq!(judge(leaving, &at(6)), Ok(()), "it may have been moving");
        assert_eq!(judge(leaving, &at(7)), Err(NotNewest::Older { found: 5, expected: 7 }));
        assert_eq!(judge(leaving, &at(4)), Err(NotNewest::Ahead { found: 5, seen: 4 }));
        let other = Seen::At { name: [8; 32], value: 5 };
        assert_eq!(judge(still, &other), Err(NotNewest::Another));
    }

    #[test]
    fn what_cannot_be_read_or_is_missing_on_one_side_is_not_accepted() {
        let why = || "no TPM".to_owned();
        let still = Some(note(5, Motion::Still));
        assert_eq!(judge(None, &Seen::Nowhere), Ok(()));
        assert_eq!(judge(still, &Seen::Nowhere), Err(NotNewest::NoWay));
        assert_eq!(judge(None, &Seen::Missing), Err(NotNewest::NotSealed));
        assert_eq!(judge(still, &Seen::Missing), Err(NotNewest::NotSealed));
        let at = Seen::At { name: NAME, value: 5 };
        assert_eq!(judge(None, &at), Err(NotNewest::NoNote));
        for noted in [None, still] {
            let unread = Seen::Unread { why: why() };
            assert_eq!(judge(noted, &unread), Err(NotNewest::Unread { why: why() }));
        }
    }

    #[test]
    fn a_note_outlives_commits_and_a_commit_outlives_notes() {
        let mut vault = Vault::make(1);
        vault.manifest.note_counter(Some(note(5, Motion::Still)), &mut getrandom::fill).unwrap();
        vault.commit(&[(b"a", Some(b"1"))]);
        let mark = vault.begin(&[(b"b", Some(b"2"))]);
        vault.manifest.note_counter(Some(note(5, Motion::Moving)), &mut getrandom::fill).unwrap();
        assert!(vault.manifest.is_pending());
        vault.apply(&[(b"b", Some(b"2"))], mark);
        assert_eq!(vault.manifest.finish(&mut getrandom::fill).unwrap(), 2);
        assert_eq!(vault.reopen().counter(), Some(note(5, Motion::Moving)));
    }

    #[test]
    fn a_checkpoint_names_one_state() {
        let mut vault = Vault::make(1);
        let empty = vault.manifest.checkpoint().unwrap();
        vault.manifest.note_counter(Some(note(5, Motion::Still)), &mut getrandom::fill).unwrap();
        assert_eq!(vault.manifest.checkpoint().unwrap(), empty, "a counter is not of the store");
        vault.commit(&[(b"a", Some(b"1"))]);
        let one = vault.manifest.checkpoint().unwrap();
        assert!(one.to_string().starts_with("1-") && one.is(&format!(" {one}\n")));
        let mut other = Vault::make(1);
        other.commit(&[(b"a", Some(b"2"))]);
        assert!(!other.manifest.checkpoint().unwrap().is(&one.to_string()));
    }
}
