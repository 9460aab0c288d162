//! R under a passphrase: Argon2id, then an envelope.
//!
//! Invariant: one Argon2 at a time in the process, so that guesses cost time and not all memory.
//! Invariant: the costs are in the envelope's context: edited costs do not open, and absurd ones
//! are refused before any memory is taken.
//! Distrusts: the seal file.

use std::sync::{Mutex, TryLockError};

use argon2::{Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use strongroom_sys::Secret;
use zeroize::Zeroizing;

use crate::envelope::{EnvelopeError, open_record, seal_record};
use crate::keys::{
    Algorithm, Context, Epoch, FillRandom, KEY_BYTES, Kind, PassphraseKey, RecordId,
    RecordKeySource, RecordVersion, RootKey, Scope, StoreId,
};

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

    fn encode(self) -> Vec<u8> {
        [self.memory_kib, self.passes, self.lanes].iter().flat_map(|n| n.to_be_bytes()).collect()
    }
}

/// R under a passphrase: public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassphraseSeal {
    cost: KdfCost,
    salt: [u8; 32],
    wrapped: Vec<u8>,
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
    Damaged(EnvelopeError),
    /// No memory.
    #[error("not enough memory for the passphrase")]
    Memory,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
}

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl PassphraseSeal {
    /// Seals R under a passphrase.
    ///
    /// # Errors
    /// `Empty`, `Cost`, `Busy`, or there is no memory or randomness.
    pub fn make(
        vault: StoreId,
        (root, passphrase): (&RootKey, &Secret),
        cost: KdfCost,
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Self, PassphraseError> {
        let mut salt = [0; 32];
        random(&mut salt)?;
        let key = stretch(passphrase, &salt, cost)?;
        let record = cost.encode();
        let (source, context) = (RecordKeySource::from_passphrase(&key), context(vault, &record));
        let wrapped = root
            .secret()
            .expose(|root| seal_record(&source, &context, algorithm, root, random))
            .map_err(PassphraseError::Damaged)?;
        Ok(Self { cost, salt, wrapped })
    }

    /// Opens R.
    ///
    /// # Errors
    /// `WrongPassphrase`, `Busy`, or the seal is damaged.
    pub fn open(&self, vault: StoreId, passphrase: &Secret) -> Result<RootKey, PassphraseError> {
        let key = stretch(passphrase, &self.salt, self.cost)?;
        let record = self.cost.encode();
        let (source, context) = (RecordKeySource::from_passphrase(&key), context(vault, &record));
        let root = match open_record(&source, &context, &self.wrapped) {
            Err(EnvelopeError::OtherKeyOrContext) => return Err(PassphraseError::WrongPassphrase),
            opened => opened.map_err(PassphraseError::Damaged)?,
        };
        RootKey::from_secret(root).map_err(|_| PassphraseError::Damaged(EnvelopeError::Short))
    }
}

fn context(vault: StoreId, cost: &[u8]) -> Context<'_> {
    Context {
        store: vault,
        scope: Scope::System,
        epoch: Epoch(0),
        kind: Kind::Root,
        record: RecordId(cost),
        version: RecordVersion(0),
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
    PassphraseKey::from_secret(key).map_err(|_| PassphraseError::Cost)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const VAULT: StoreId = StoreId([7; 16]);
    const CHEAP: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

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

    fn seal(passphrase: &[u8]) -> PassphraseSeal {
        let root = RootKey::from_secret(Secret::copy_from(&[3; 32])).unwrap();
        let passphrase = Secret::copy_from(passphrase);
        let algorithm = Algorithm::ChaCha20Poly1305;
        patiently(|| {
            let random: FillRandom<'_> = &mut getrandom::fill;
            PassphraseSeal::make(VAULT, (&root, &passphrase), CHEAP, algorithm, random)
        })
        .unwrap()
    }

    fn open(seal: &PassphraseSeal, passphrase: &[u8]) -> Result<RootKey, PassphraseError> {
        patiently(|| seal.open(VAULT, &Secret::copy_from(passphrase)))
    }

    #[test]
    fn the_right_passphrase_opens_and_any_other_is_wrong() {
        let seal = seal(b"correct horse");
        assert!(open(&seal, b"correct horse").unwrap().secret().matches(&[3; 32]));
        for wrong in [b"correct horsf".as_slice(), b"correct horse ", b"c"] {
            assert_eq!(open(&seal, wrong).unwrap_err(), PassphraseError::WrongPassphrase);
        }
        assert_eq!(open(&seal, b"").unwrap_err(), PassphraseError::Empty);
    }

    // Red when the costs are left out of the context and out of Argon2 alike.
    #[test]
    fn edited_costs_salt_or_wrapping_do_not_open() {
        let good = seal(b"p");
        let cheaper = PassphraseSeal { cost: KdfCost { memory_kib: 32, ..CHEAP }, ..good.clone() };
        let salted = PassphraseSeal { salt: [0; 32], ..good.clone() };
        assert!(open(&cheaper, b"p").is_err() && open(&salted, b"p").is_err());
        for at in 0..good.wrapped.len() {
            let mut altered = good.clone();
            altered.wrapped[at] ^= 1;
            assert!(open(&altered, b"p").is_err(), "byte {at}");
        }
        let elsewhere = patiently(|| good.open(StoreId([8; 16]), &Secret::copy_from(b"p")));
        assert!(elsewhere.is_err());
    }

    #[test]
    fn absurd_costs_are_refused_before_any_memory_is_taken() {
        let good = seal(b"p");
        for cost in [
            KdfCost { memory_kib: u32::MAX, ..CHEAP },
            KdfCost { passes: u32::MAX, ..CHEAP },
            KdfCost { lanes: u32::MAX, ..CHEAP },
            KdfCost { memory_kib: 0, ..CHEAP },
            KdfCost { passes: 0, ..CHEAP },
            KdfCost { lanes: 0, ..CHEAP },
        ] {
            let seal = PassphraseSeal { cost, ..good.clone() };
            assert_eq!(open(&seal, b"p").unwrap_err(), PassphraseError::Cost);
        }
    }

    // Guards memory against a flood of guesses. Red when `stretch` waits, or does not lock.
    #[test]
    fn while_one_passphrase_is_tried_another_is_told_to_wait() {
        let seal = seal(b"p");
        let turn = ONE_AT_A_TIME.lock().unwrap();
        let refused = seal.open(VAULT, &Secret::copy_from(b"p"));
        assert_eq!(refused.unwrap_err(), PassphraseError::Busy);
        drop(turn);
        assert!(open(&seal, b"p").is_ok());
    }

    #[test]
    fn the_standard_cost_is_64_mib_three_passes_one_lane() {
        let params = KdfCost::STANDARD.params().unwrap();
        assert_eq!((params.m_cost(), params.t_cost(), params.p_cost()), (65_536, 3, 1));
    }
}
