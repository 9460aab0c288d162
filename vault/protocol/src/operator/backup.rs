//! Backups on `operator.sock`: fetched in parts, brought in parts.
//!
//! Invariant: one transfer at a time; it ends by itself when nobody goes on with it.
//! Invariant: no part carries anything in clear but a backup's header.

use std::fmt;

use serde::{Deserialize, Serialize};
use strongroom_policy::moment::Moment;

use crate::operator::Pick;

/// Most bytes of one part.
pub const MAX_PART_BYTES: usize = 256 * 1024;
/// Most directories of journals that are brought with one backup.
pub const MAX_JOURNALS: u8 = 8;
/// Most acts that a restored vault lists as not done again.
pub const MAX_LEFT_OPEN: usize = 64;

/// What is asked about backups.
#[derive(Debug, Serialize, Deserialize)]
pub enum BackupRequest {
    /// Makes a backup of this moment, to be fetched with [`BackupRequest::Next`].
    Create(Care),
    /// The next part of a backup.
    Next(TransferId),
    /// Begins to bring a file.
    Bring,
    /// A part of what is brought.
    Put {
        /// The transfer.
        transfer: TransferId,
        /// Of which file; parts of one file come in their order.
        file: BroughtFile,
        /// The part.
        bytes: Vec<u8>,
    },
    /// Restores what was brought into a scratch directory and opens every record.
    Verify(TransferId),
    /// Takes what was brought as the vault of this empty keeper, from the next unsealing on.
    Restore(TransferId),
    /// Whether the vault was restored and waits for an operator's word.
    Standing,
    /// The operator has looked at a restored vault: changes may be made again.
    Confirm(KeptTokens),
}

/// What is answered about backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupAnswer {
    /// A backup is made.
    Made(Made),
    /// A part; empty behind the last one.
    Part(Vec<u8>),
    /// Bring the file under this number.
    Bring(TransferId),
    /// It restores, and every record opens.
    Verified(Content),
    /// Whether the vault was restored and waits.
    Standing(Option<Box<Restored>>),
}

/// Names one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferId(pub [u8; 16]);

/// How much is done before a backup counts as made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Care {
    /// It is written.
    Written,
    /// It was restored into a scratch directory too.
    Proved,
}

/// A backup that waits to be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// To fetch it.
    pub transfer: TransferId,
    /// How long it is.
    pub bytes: u64,
    /// The commit that it is of.
    pub commit: u64,
    /// When it was made.
    pub when: Moment,
    /// How many records, pieces counted one by one.
    pub records: u64,
    /// What was found in it, when it was proved.
    pub proved: Option<Content>,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The commit that it is of.
    pub commit: u64,
    /// When it was made.
    pub when: Moment,
    /// How many records, pieces counted one by one.
    pub records: u64,
    /// People.
    pub users: u32,
    /// Workspaces.
    pub workspaces: u32,
    /// Tokens.
    pub tokens: u32,
    /// Credentials, each with a key that opens.
    pub credentials: u32,
    /// Providers of operators.
    pub providers: u32,
    /// Entries of the journal when it was made.
    pub journal_entries: u64,
}

/// Which of the files that are brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BroughtFile {
    /// The backup, without age around it.
    Backup,
    /// A file of a journal that survived.
    Journal {
        /// Which directory, when several survived; less than [`MAX_JOURNALS`].
        directory: u8,
        /// The file within it.
        path: JournalPath,
    },
}

/// The path of a file within a journal's directory: plain names, at most six deep, never upwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JournalPath(String);

/// A path that no journal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a journal has no file of such a name")]
pub struct BadJournalPath;

/// Which tokens live on in a restored vault of which it is not known what was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptTokens {
    /// They never stood in question: a journal told what was revoked.
    Known,
    /// All of them.
    All,
    /// These; the others are revoked.
    Only(Vec<Pick>),
}

/// A vault that was restored, and what is known of the time since its backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The backup's commit.
    pub commit: u64,
    /// When the backup was made.
    pub backup: Moment,
    /// When it was restored.
    pub restored: Moment,
    /// How far a journal that survived reached; without one it is not known which tokens were revoked.
    pub journal: Option<Covered>,
    /// Tokens that sleep until they are confirmed.
    pub sleeping_tokens: u32,
    /// What was done again.
    pub done_again: DoneAgain,
    /// Acts newer than the backup that cannot be done again, the first [`MAX_LEFT_OPEN`].
    pub left_open: Vec<LeftOpen>,
    /// How many such acts there are.
    pub left_open_count: u32,
}

/// How far a journal reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// Its last entry.
    pub entries: u64,
    /// When that was written, RFC 3339.
    pub until: String,
}

/// Deletions and revocations newer than the backup, done again before anything was served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneAgain {
    /// Credentials deleted, their keys destroyed.
    pub credentials: u32,
    /// Tokens revoked.
    pub tokens: u32,
    /// People disabled.
    pub disabled: u32,
    /// People deleted.
    pub users: u32,
    /// Memberships ended.
    pub memberships: u32,
    /// Workspaces deleted.
    pub workspaces: u32,
}

/// An act that is not in the backup and is not done again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOpen {
    /// The act, as in `credential.rotate`.
    pub act: String,
    /// The id or provider's name that it was done to.
    pub target: String,
}

impl JournalPath {
    /// Takes a path whose parts are plain names.
    ///
    /// # Errors
    /// When a part is empty, too long, begins with a dot or has other characters than `A-Z a-z 0-9 . _ -`.
    pub fn parse(text: &str) -> Result<Self, BadJournalPath> {
        let plain = |part: &str| {
            (1..=64).contains(&part.len())
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let parts = text.split('/').count();
        if parts <= 6 && text.split('/').all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadJournalPath)
        }
    }
}

impl AsRef<str> for JournalPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JournalPath {
    type Error = BadJournalPath;

    fn try_from(text: String) -> Result<Self, BadJournalPath> {
        Self::parse(&text)
    }
}

impl From<JournalPath> for String {
    fn from(path: JournalPath) -> Self {
        path.0
    }
}

impl fmt::Display for JournalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::JournalPath;

    #[test]
    fn a_journals_path_leads_nowhere_else() {
        for good in ["journal.jsonl", "tile/entries/x001/234", "checkpoint", "tile/0/000.p/7"] {
            let path = JournalPath::parse(good).unwrap();
            assert_eq!((path.as_ref(), path.to_string().as_str()), (good, good));
        }
        for bad in
            ["", "/etc/passwd", "..", "a/../b", "a//b", ".hidden", "a b", "a\0", "a/b/c/d/e/f/g"]
        {
            assert!(JournalPath::parse(bad).is_err(), "{bad}");
        }
    }
}
