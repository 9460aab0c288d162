//! What operators say and hear of the ways into a vault.

use serde::{Deserialize, Serialize};
use strongroom_policy::name::Label;

use crate::SecretBytes;
use crate::operator::UnsealWith;

/// Most ways into a vault.
pub const MAX_WAYS: usize = 8;
/// Most parts that are brought at once: a threshold of shares, a passphrase, a machine.
pub const MAX_PARTS: usize = 18;

/// A vault that is to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct VaultWish {
    /// The ways into it, any of which opens it: the locks of each, all of which must be opened.
    pub ways: Vec<Vec<SealWish>>,
    /// Whether a vault that waits for its custody to be shown is thrown away.
    pub start_over: bool,
}

impl VaultWish {
    /// One way of one lock.
    pub fn of(lock: SealWish) -> Self {
        Self { ways: vec![vec![lock]], start_over: false }
    }
}

/// A lock that is to be made.
#[derive(Debug, Serialize, Deserialize)]
pub enum SealWish {
    /// One passphrase.
    Passphrase(SecretBytes),
    /// Shares, `threshold` of `count`.
    Shares {
        /// How many are needed, 2 to `count`.
        threshold: u8,
        /// How many are made, at most 16.
        count: u8,
        /// Who is given which, by index; empty, or `count` different names.
        holders: Vec<Label>,
    },
}

/// A change of the ways into an open vault.
#[derive(Debug, Serialize, Deserialize)]
pub struct WaysChange {
    /// What opens the vault now, all of it: the vault itself does not keep its root key.
    pub proof: Vec<UnsealWith>,
    /// What is to be done.
    pub act: WaysAct,
}

/// What is to be done to the ways.
#[derive(Debug, Serialize, Deserialize)]
pub enum WaysAct {
    /// One more, of these locks.
    Add(Vec<SealWish>),
    /// One of these locks in the place of another.
    Replace(u32, Vec<SealWish>),
    /// One less.
    Remove(u32),
    /// Another root key, and these ways alone.
    Rotate(Vec<Vec<SealWish>>),
}

/// One way, as `seal-ways list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayRow {
    /// Its number.
    pub id: u32,
    /// What must be opened, all of it.
    pub locks: Vec<LockRow>,
    /// Whether it opens the vault.
    pub standing: WayStanding,
}

/// One lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockRow {
    /// A passphrase.
    Passphrase,
    /// Shares.
    Shares {
        /// How many are needed.
        threshold: u8,
        /// How many there are.
        count: u8,
        /// Who has which, by index; empty where nobody wrote it down.
        holders: Vec<String>,
    },
    /// The TPM of the machine.
    Tpm {
        /// Whether it wants a PIN.
        pin: bool,
    },
}

/// Whether a way opens the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayStanding {
    /// It does.
    InForce,
    /// Once its shares are entered back, beside the others or in the place of one.
    Incoming,
    /// Once its shares are entered back, in the place of all others.
    Rotation,
}

/// A kind of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockName {
    /// A passphrase.
    Passphrase,
    /// Shares.
    Shares,
    /// The TPM of the machine.
    Tpm,
}

impl LockName {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::Shares => "shares",
            Self::Tpm => "TPM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LockName;

    #[test]
    fn each_lock_is_called_what_it_is() {
        let locks = [LockName::Passphrase, LockName::Shares, LockName::Tpm];
        assert_eq!(locks.map(LockName::name), ["passphrase", "shares", "TPM"]);
    }
}
