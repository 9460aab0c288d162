//! Generations of keys, and what a deletion destroys.
//!
//! Invariant: what is deleted is what was counted and shown; numbers only, never a key.

use serde::{Deserialize, Serialize};
use strongroom_policy::name::Label;

use super::Fault;

/// Which generations of keys there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyState {
    /// The generation that new records are sealed under.
    pub epoch: u32,
    /// Every generation whose key exists, and how many records it has.
    pub epochs: Vec<(u32, u64)>,
    /// Records in all.
    pub records: u64,
    /// Records that are still to be rewritten.
    pub old_records: u64,
    /// What the rewriting does.
    pub sweep: Sweep,
    /// The format below which no record is opened.
    pub lowest_format: u8,
    /// What new records are sealed with.
    pub cipher: Cipher,
    /// Keys in the keyring.
    pub keys: u32,
    /// Keys that it has room for.
    pub most_keys: u32,
}

/// The rewriting of old records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sweep {
    /// Nothing is old.
    Idle,
    /// It is under way.
    Running,
    /// It ended before its end; it goes on at the next unsealing.
    Stopped(Fault),
}

/// The cipher of new records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cipher {
    /// Where the CPU has AES instructions.
    Aes256Gcm,
    /// Elsewhere.
    Chacha20Poly1305,
}

/// Whether to delete, or to count first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deletion {
    /// Say what would be deleted.
    Count,
    /// Delete, if it is still as much as was counted.
    Perform(Dependents),
}

/// What goes with a person or a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependents {
    /// Tokens of the person.
    pub tokens: u32,
    /// Credentials at home there.
    pub credentials: u32,
    /// Memberships that end.
    pub memberships: u32,
}

/// What would be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Its id, as text.
    pub id: String,
    /// Its name.
    pub label: Label,
    /// What goes with it.
    pub dependents: Dependents,
}

/// What was deleted and destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What was deleted.
    pub counted: Counted,
    /// Records that are gone from the store.
    pub records: u32,
    /// Calls under way that were stopped.
    pub stopped_calls: u32,
    /// Shred keys that were destroyed in both slots of the keyring.
    pub destroyed_keys: u32,
    /// The keyring's generation since then.
    pub keyring_generation: u64,
    /// The commit since which store and manifest of an earlier time are refused.
    pub commit: u64,
}
