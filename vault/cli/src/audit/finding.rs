//! What is wrong with a journal, each kind with its code and exit code.
//!
//! | exit | code | what was found |
//! |---|---|---|
//! | 10 | `SR-AUDIT-010` | an entry or a hash tile was changed |
//! | 11 | `SR-AUDIT-011` | entries, tiles that nothing here makes again, or the checkpoint are missing |
//! | 12 | `SR-AUDIT-012` | entries stand in another order |
//! | 13 | `SR-AUDIT-013` | the end was cut off, or an older state put in place |
//! | 14 | `SR-AUDIT-014` | another history than the one that was witnessed |
//! | 15 | `SR-AUDIT-015` | not signed by the pinned key |

use serde_json::{Value, json};

use crate::failure::Failure;

/// What puts a hash tile in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mend {
    /// The next opening of the vault, once the file is away.
    Opening,
    /// The archive's copy: the entries are there alone.
    Archive,
}

/// One thing that is wrong, the gravest kind first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The checkpoint is not signed by the pinned key.
    Unsigned {
        /// Why not.
        why: String,
    },
    /// The checkpoint, or what is there of the entries, is older than what was signed or witnessed.
    CutOff {
        /// How many entries there should be at least.
        expected: u64,
        /// How many there are.
        found: u64,
        /// Who says so.
        by: String,
    },
    /// Something is not there.
    Missing {
        /// What.
        what: String,
    },
    /// Entries are missing within.
    Removed {
        /// The first that is missing, by its number.
        entry: u64,
        /// Where it should be.
        file: String,
    },
    /// An entry lies where another one belongs.
    Moved {
        /// The number that belongs there.
        entry: u64,
        /// The number that is there.
        found: u64,
        /// Where.
        file: String,
    },
    /// An entry is not the one whose hash was kept.
    Changed {
        /// The first, by its number.
        entry: u64,
        /// Where.
        file: String,
    },
    /// A hash tile is not that of the entries, which the checkpoint confirms.
    Tile {
        /// Its path.
        file: String,
        /// What mends it.
        mend: Mend,
    },
    /// Entries and tiles agree with each other, and not with the signed root.
    Rewritten {
        /// How many entries the root covers.
        size: u64,
    },
    /// The entries are not those that a witness saw.
    Forked {
        /// How many it saw.
        size: u64,
        /// Who says so.
        by: String,
    },
}

impl Finding {
    /// The exit code.
    pub(crate) const fn exit(&self) -> u8 {
        match self {
            Self::Changed { .. } | Self::Tile { .. } | Self::Rewritten { .. } => 10,
            Self::Missing { .. } | Self::Removed { .. } => 11,
            Self::Moved { .. } => 12,
            Self::CutOff { .. } => 13,
            Self::Forked { .. } => 14,
            Self::Unsigned { .. } => 15,
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Changed { .. } | Self::Tile { .. } | Self::Rewritten { .. } => "SR-AUDIT-010",
            Self::Missing { .. } | Self::Removed { .. } => "SR-AUDIT-011",
            Self::Moved { .. } => "SR-AUDIT-012",
            Self::CutOff { .. } => "SR-AUDIT-013",
            Self::Forked { .. } => "SR-AUDIT-014",
            Self::Unsigned { .. } => "SR-AUDIT-015",
        }
    }

    /// In the order of gravity: what explains the others stands before them.
    pub(crate) const fn rank(&self) -> u8 {
        match self {
            Self::Unsigned { .. } => 0,
            Self::CutOff { .. } => 1,
            Self::Missing { .. } => 2,
            Self::Removed { .. } => 3,
            Self::Moved { .. } => 4,
            Self::Changed { .. } => 5,
            Self::Tile { .. } => 6,
            Self::Rewritten { .. } => 7,
            Self::Forked { .. } => 8,
        }
    }

    /// In words.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Unsigned { why } => why.clone(),
            Self::CutOff { expected, found, by } => {
                format!(
                    "{by} covers {expected} entries; here it is {found}: the end was cut off, or an older copy put in place"
                )
            }
            Self::Missing { what } => format!("{what} missing"),
            Self::Removed { entry, file } => {
                format!("entry {entry} is missing: {file} goes on without it")
            }
            Self::Moved { entry, found, file } => {
                format!(
                    "entry {found} stands where entry {entry} belongs ({file}): entries were reordered"
                )
            }
            Self::Changed { entry, file } => {
                format!("entry {entry} was changed ({file}): its hash is not the one that was kept")
            }
            Self::Tile { file, mend: _ } => {
                format!("{file} was changed: the entries are those that the checkpoint covers")
            }
            Self::Rewritten { size } => format!(
                "the first {size} entries do not lead to the root that the checkpoint names, though they agree with their hash tiles: both were rewritten"
            ),
            Self::Forked { size, by } => format!(
                "the first {size} entries are not those that were witnessed ({by}): history was rewritten, whoever signed it"
            ),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let (kind, entry) = match self {
            Self::Unsigned { .. } => ("unsigned", None),
            Self::CutOff { found, .. } => ("cut-off", Some(found.saturating_add(1))),
            Self::Missing { .. } => ("missing", None),
            Self::Removed { entry, .. } => ("removed", Some(*entry)),
            Self::Moved { entry, .. } => ("moved", Some(*entry)),
            Self::Changed { entry, .. } => ("changed", Some(*entry)),
            Self::Tile { .. } => ("tile", None),
            Self::Rewritten { .. } => ("rewritten", None),
            Self::Forked { .. } => ("forked", None),
        };
        json!({
            "code": self.code(),
            "exit": self.exit(),
            "kind": kind,
            "entry": entry,
            "message": self.sentence(),
        })
    }

    /// What to do.
    fn next(&self) -> &'static str {
        match self {
            Self::Tile { mend: Mend::Opening, .. } => {
                "keep that file as evidence and move it out of the journal's directory: the next unsealing makes it again of the entries, which hold"
            }
            Self::Tile { mend: Mend::Archive, .. } => {
                "keep that file as evidence and put the archive's own copy of it in its place"
            }
            Self::Unsigned { .. }
            | Self::CutOff { .. }
            | Self::Missing { .. }
            | Self::Removed { .. }
            | Self::Moved { .. }
            | Self::Changed { .. }
            | Self::Rewritten { .. }
            | Self::Forked { .. } => {
                "keep this copy as evidence, compare it with a mirror of a witness, and see the runbook, \"Audit\""
            }
        }
    }

    /// What the command ends with.
    pub(crate) fn failure(&self) -> Failure {
        Failure {
            code: self.code().into(),
            message: self.sentence(),
            next: Some(self.next().to_owned()),
            exit: self.exit(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_code_means_two_things() {
        let codes = |source: &'static str| {
            let shown = source.lines().filter(|line| line.contains("=> \"SR-"));
            shown.map(|line| line.split('"').nth(1).unwrap()).collect::<Vec<_>>()
        };
        let all =
            [codes(include_str!("finding.rs")), codes(include_str!("../failure.rs"))].concat();
        assert!(all.len() > 30, "{all:?}");
        for (place, code) in all.iter().enumerate() {
            assert!(!all[..place].contains(code), "{code}");
        }
    }
}
