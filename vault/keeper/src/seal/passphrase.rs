//! A passphrase as a lock: Argon2id.
//!
//! Invariant: one Argon2 at a time in the process, so that guesses cost time and not all memory.
//! Invariant: the costs are in the context of what the way seals: edited costs do not open, and absurd ones
//! are refused before any memory is taken.
//! Distrusts: the seal file.

use std::sync::{Mutex, TryLockError};

use argon2::{Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use strongroom_sys::Secret;
use zeroize::Zeroizing;

use crate::envelope::EnvelopeError;
use crate::keys::{DeriveError, FillRandom, KEY_BYTES, PassphraseKey};

/// What one guess costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KdfCost {
    /// RFC 9106's second recommendation, in one lane: about 0.3 s of one core.
    pub const STANDARD: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };

    /// What a seal file may ask of us.
    const MOST: Self = Self { memory_kib: 1024 * 1024, passes: 16, lanes: 4 };

    fn params(self) -> Result<Params, PassphraseError> {
        let Self { memory_kib, passes, lanes } = self;
        if memory_kib > Self::MOST.memory_kib
            || passes > Self::MOST.passes
            || lanes > Self::MOST.lanes
        {
            return Err(PassphraseError::Cost);
        }
        Params::new(memory_kib, passes, lanes, Some(KEY_BYTES)).map_err(|_| PassphraseError::Cost)
    }

    pub(super) fn encode(self) -> Vec<u8> {
        [self.memory_kib, self.passes, self.lanes].iter().flat_map(|n| n.to_be_bytes()).collect()
    }
}

/// What the seal file says of a passphrase: public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassphraseLock {
    pub(super) cost: KdfCost,
    pub(super) salt: [u8; 32],
}

/// Why a passphrase did not open, or was not set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Not this one.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// Another is being tried.
    #[error("another passphrase is being tried, try again in a moment")]
    Busy,
    /// This vault has none.
    #[error("this vault is not sealed with a passphrase")]
    NoSuchSeal,
    /// Empty.
    #[error("a passphrase has at least one byte")]
    Empty,
    /// The file asks for more than 1 GiB, 16 passes or 4 lanes, or for less than Argon2 allows.
    #[error("the seal file names costs out of range")]
    Cost,
    /// The passphrase is right, what it sealed was altered.
    #[error("the seal is damaged: {0}")]
    Damaged(#[from] EnvelopeError),
    /// No memory.
    #[error("not enough memory for the passphrase")]
    Memory,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
    /// No place for the key.
    #[error("{0}")]
    Key(#[from] DeriveError),
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl PassphraseLock {
    /// A lock with a salt of its own.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn make(cost: KdfCost, random: FillRandom<'_>) -> Result<Self, PassphraseError> {
        let mut salt = [0; 32];
        random(&mut salt)?;
        Ok(Self { cost, salt })
    }

    /// The lock's key, if this is its passphrase; what the way seals tells whether it is.
    ///
    /// # Errors
    /// `Empty`, `Cost`, `Busy`, or there is no memory.
    pub fn stretch(&self, passphrase: &Secret) -> Result<PassphraseKey, PassphraseError> {
        stretch(passphrase, &self.salt, self.cost)
    }
}

fn stretch(
    passphrase: &Secret,
    salt: &[u8],
    cost: KdfCost,
) -> Result<PassphraseKey, PassphraseError> {
    if passphrase.is_empty() {
        return Err(PassphraseError::Empty);
    }
    let params = cost.params()?;
    let _turn = match ONE_AT_A_TIME.try_lock() {
        Ok(turn) => turn,
        // The lock guards no data, so nothing can be half-done behind it.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(PassphraseError::Busy),
    };
    // Our own blocks, because those that argon2 would allocate are not wiped.
    let mut blocks = Zeroizing::new(Vec::new());
    blocks.try_reserve_exact(params.block_count()).map_err(|_| PassphraseError::Memory)?;
    blocks.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, params);
    let key = Secret::fill_with(KEY_BYTES, |out| {
        passphrase.expose(|passphrase| {
            argon2
                .hash_password_into_with_memory(passphrase, salt, out, blocks.as_mut_slice())
                .map_err(|_| PassphraseError::Cost)
        })
    })?;
    Ok(PassphraseKey::from_secret(key)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::seal) const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

    /// Tests run at once and Argon2 does not: waits its turn.
    pub(in crate::seal) fn patiently<T>(
        mut with: impl FnMut() -> Result<T, PassphraseError>,
    ) -> Result<T, PassphraseError> {
        loop {
            match with() {
                Err(PassphraseError::Busy) => drop(ONE_AT_A_TIME.lock()),
                answer => return answer,
            }
        }
    }

    fn lock() -> PassphraseLock {
        PassphraseLock::make(CHEAP, &mut getrandom::fill).unwrap()
    }

    fn stretched(lock: &PassphraseLock, passphrase: &[u8]) -> Result<Vec<u8>, PassphraseError> {
        let key = patiently(|| lock.stretch(&Secret::copy_from(passphrase)))?;
        Ok(key.secret().expose(<[u8]>::to_vec))
    }

    #[test]
    fn another_passphrase_salt_or_cost_gives_another_key() {
        let one = lock();
        let key = stretched(&one, b"correct horse").unwrap();
        assert_eq!(stretched(&one, b"correct horse").unwrap(), key);
        for wrong in [b"correct horsf".as_slice(), b"correct horse ", b"c"] {
            assert_ne!(stretched(&one, wrong).unwrap(), key);
        }
        assert_eq!(stretched(&one, b"").unwrap_err(), PassphraseError::Empty);
        assert_ne!(stretched(&lock(), b"correct horse").unwrap(), key);
        let cheaper = PassphraseLock { cost: KdfCost { memory_kib: 32, ..CHEAP }, ..one };
        assert_ne!(stretched(&cheaper, b"correct horse").unwrap(), key);
    }

    #[test]
    fn absurd_costs_are_refused_before_any_memory_is_taken() {
        let good = lock();
        for cost in [
            KdfCost { memory_kib: u32::MAX, ..CHEAP },
            KdfCost { passes: u32::MAX, ..CHEAP },
            KdfCost { lanes: u32::MAX, ..CHEAP },
            KdfCost { memory_kib: 0, ..CHEAP },
            KdfCost { passes: 0, ..CHEAP },
            KdfCost { lanes: 0, ..CHEAP },
        ] {
            let absurd = PassphraseLock { cost, ..good.clone() };
            assert_eq!(stretched(&absurd, b"p").unwrap_err(), PassphraseError::Cost);
        }
    }

    // Guards memory against a flood of guesses. Red when `stretch` waits, or does not lock.
    #[test]
    fn while_one_passphrase_is_tried_another_is_told_to_wait() {
        let lock = lock();
        let turn = ONE_AT_A_TIME.lock().unwrap();
        let refused = lock.stretch(&Secret::copy_from(b"p"));
        assert_eq!(refused.unwrap_err(), PassphraseError::Busy);
        drop(turn);
        assert!(stretched(&lock, b"p").is_ok());
    }

    /// The vectors of the reference implementation (`test.c` of P-H-C/phc-winner-argon2), with the costs that we allow.
    #[test]
    fn argon2id_answers_its_published_vectors() {
        for (memory_kib, lanes, passphrase, salt, told) in [
            (
                65_536,
                1,
                "password",
                "somesalt",
                "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
            ),
            (
                256,
                1,
                "password",
                "somesalt",
                "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
            ),
            (
                256,
                2,
                "password",
                "somesalt",
                "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037",
            ),
            (
                65_536,
                1,
                "differentpassword",
                "somesalt",
                "0b84d652cf6b0c4beaef0dfe278ba6a80df6696281d7e0d2891b817d8c458fde",
            ),
            (
                65_536,
                1,
                "password",
                "diffsalt",
                "bdf32b05ccc42eb15d58fd19b1f856b113da1e9a5874fdcc544308565aa8141c",
            ),
        ] {
            let cost = KdfCost { memory_kib, passes: 2, lanes };
            let passphrase = Secret::copy_from(passphrase.as_bytes());
            let key = patiently(|| stretch(&passphrase, salt.as_bytes(), cost)).unwrap();
            assert_eq!(key.secret().expose(|key| hex::encode(key)), told);
        }
    }

    #[test]
    fn the_standard_cost_is_64_mib_three_passes_one_lane() {
        let params = KdfCost::STANDARD.params().unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (65_536, 3, 1));
    }
}
