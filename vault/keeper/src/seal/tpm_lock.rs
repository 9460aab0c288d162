//! The lock that a TPM holds: what its helper needs to give the lock's key, in two halves.
//!
//! ```text
//! lock key   HKDF(machine key, salt = moment key)
//! machine    sealed to registers and perhaps a PIN; as it was made, until the lock is made anew
//! moments    sealed to the counter's value: one, or two while the counter moves from the first to the second
//! ```
//!
//! The moment key is sealed anew whenever the counter moves, by the open vault, which keeps it; without the machine key, which
//! it does not keep, it opens nothing. So neither R nor a PIN is needed to move on.
//!
//! Invariant: nothing here opens anything without the TPM. Whoever has the file and the TPM can move the counter on, which
//! only shuts this way.

use serde::{Deserialize, Serialize};

/// Longest blob of a TPM, bytes.
pub const MAX_TPM_BLOB_BYTES: usize = strongroom_protocol::tpm::MAX_BLOB_BYTES;

/// The lock that a TPM holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmLock {
    /// The name of the TPM's storage key.
    pub storage: [u8; 32],
    /// The registers that the machine key is sealed to, a bit each.
    pub pcrs: u32,
    /// Whether it wants a PIN.
    pub pin: Pin,
    /// The machine key, sealed.
    pub machine: Vec<u8>,
    /// The counter.
    pub counter: TpmCounter,
    /// The moment key, sealed to the counter's value.
    pub moments: Vec<TpmMoment>,
}

/// A counter in the TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmCounter {
    /// Its NV index.
    pub index: u32,
    /// Its name.
    pub name: [u8; 32],
    /// What reads and moves it.
    pub authority: [u8; 32],
}

/// The moment key, sealed to one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmMoment {
    /// The counter's value.
    pub value: u64,
    /// The sealed key.
    pub blob: Vec<u8>,
}

/// Whether a TPM's lock wants a PIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pin {
    /// It opens unattended.
    No,
    /// The TPM asks for it and counts failures itself.
    Yes,
}

impl TpmLock {
    /// Whether a TPM could have made it.
    pub(super) fn is_sound(&self) -> bool {
        let fits = |blob: &Vec<u8>| blob.len() <= MAX_TPM_BLOB_BYTES;
        fits(&self.machine)
            && (1..=2).contains(&self.moments.len())
            && self.moments.iter().all(|moment| fits(&moment.blob))
    }

    /// The blob that opens at this value of the counter.
    pub fn moment_at(&self, value: u64) -> Option<&TpmMoment> {
        self.moments.iter().find(|moment| moment.value == value)
    }

    /// The highest value that it was sealed to.
    pub fn newest(&self) -> u64 {
        self.moments.iter().map(|moment| moment.value).max().unwrap_or(0)
    }
}

#[cfg(test)]
impl TpmLock {
    /// One that no TPM made, for tests of the ceremony.
    pub(crate) fn sample(byte: u8) -> Self {
        Self {
            storage: [byte; 32],
            pcrs: 1 << 7,
            pin: Pin::No,
            machine: vec![byte; 250],
            counter: TpmCounter { index: 0x0180_0000, name: [byte; 32], authority: [1; 32] },
            moments: vec![TpmMoment { value: 1, blob: vec![byte; 250] }],
        }
    }
}
