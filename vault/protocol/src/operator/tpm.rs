//! What operators ask about the TPM, and what they are answered.

use serde::{Deserialize, Serialize};

use super::{SealWish, UnsealWith};
use crate::SecretBytes;
use crate::tpm::{Health, PcrSet};

/// Shortest PIN, bytes: the TPM counts guesses.
pub const MIN_PIN_BYTES: usize = 6;
/// Longest PIN, bytes.
pub const MAX_PIN_BYTES: usize = 64;
/// Longest text of a checkpoint.
pub const MAX_CHECKPOINT_BYTES: usize = 64;

/// An open vault is to be sealed to the TPM as well.
#[derive(Debug, Serialize, Deserialize)]
pub struct TpmWish {
    /// Registers that must be as they are now.
    pub pcrs: PcrSet,
    /// The PIN, when it is to be asked for.
    pub pin: Option<SecretBytes>,
    /// What opens the vault otherwise: the passphrase, or a threshold of shares.
    pub parts: Vec<UnsealWith>,
    /// What is needed together with the TPM: a new passphrase, or new shares; those count once they are entered back.
    pub with: Option<SealWish>,
}

/// How the vault stands to the TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmStatus {
    /// What the TPM says of itself, when there is one.
    pub health: Option<Health>,
    /// Why there is none, or why the counter does not follow.
    pub trouble: Option<String>,
    /// The seal to it, when there is one.
    pub seal: Option<TpmSeal>,
    /// The counter, while the vault is open and the TPM follows it.
    pub counter: Option<u64>,
    /// For how long there is a change that the counter did not move behind, seconds.
    pub behind_secs: Option<u64>,
    /// How long a change that restricts nothing may wait for that, seconds.
    pub window_secs: u64,
}

/// The vault's seal to the TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmSeal {
    /// Registers that must be as they were.
    pub pcrs: PcrSet,
    /// Whether it asks for a PIN.
    pub pin: bool,
    /// Whether it was made with the TPM that is there.
    pub fits: bool,
}
