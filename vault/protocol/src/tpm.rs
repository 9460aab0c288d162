//! The socket between keeper and TPM helper: one datagram asks, one datagram answers.
//!
//! The helper may be started again at any time on the same socket, so each datagram is a whole message, an answer repeats
//! the number of its question, and every question can be asked again.
//!
//! Invariant: R never crosses; what is sealed is half of a key that wraps R.
//! Invariant: an increment names the value that it begins from, so that one asked twice is done once.

use serde::{Deserialize, Serialize};

use crate::SecretBytes;

/// Largest datagram: a sealed blob and a policy.
pub const MAX_TPM_BYTES: usize = 4096;
/// Largest sealed blob; a TPM's private and public area of 32 bytes are about 250.
pub const MAX_BLOB_BYTES: usize = 1024;
/// Length of everything that is sealed, and of every secret that opens something.
pub const TPM_KEY_BYTES: usize = 32;

/// A question with its number.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToTpm {
    /// Repeated in the answer.
    pub number: u64,
    /// The question.
    pub ask: Ask,
}

/// An answer with the number of its question.
#[derive(Debug, Serialize, Deserialize)]
pub struct FromTpm {
    /// Of the question.
    pub number: u64,
    /// The answer.
    pub answer: Answer,
}

/// What the keeper may ask.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// What the TPM says of itself, and the name of its storage key.
    Health,
    /// Makes a counter that nothing but its secret can move.
    CounterDefine {
        /// The storage key that sessions are salted to; another one is refused.
        storage: Name,
        /// The counter's secret, 32 bytes.
        secret: SecretBytes,
    },
    /// Reads a counter.
    CounterRead {
        /// The storage key that sessions are salted to.
        storage: Name,
        /// Which counter.
        counter: Counter,
    },
    /// Moves a counter by one, unless it is there already.
    CounterIncrement {
        /// The storage key that sessions are salted to.
        storage: Name,
        /// Which counter.
        counter: Counter,
        /// The value that it is moved from.
        from: u64,
    },
    /// Seals 32 bytes.
    Seal {
        /// The storage key that they are sealed under.
        storage: Name,
        /// The bytes.
        key: SecretBytes,
        /// When they may be unsealed.
        policy: Policy,
    },
    /// Unseals 32 bytes.
    Unseal {
        /// The storage key that they were sealed under.
        storage: Name,
        /// As `Seal` answered.
        blob: Blob,
        /// As it was sealed.
        policy: Policy,
    },
    /// Removes a counter that no seal names any more; a later one begins above it.
    CounterForget {
        /// Which counter.
        counter: Counter,
    },
}

/// When bytes may be unsealed.
#[derive(Debug, Serialize, Deserialize)]
pub enum Policy {
    /// While the machine is in this state, by who knows the PIN.
    Machine {
        /// Registers that must be as they were at the sealing.
        pcrs: PcrSet,
        /// 32 bytes derived from the PIN, the last one not zero; guesses count towards the TPM's lock-out.
        pin: Option<SecretBytes>,
    },
    /// While a counter has this value.
    Moment {
        /// Which counter.
        counter: Counter,
        /// Its value.
        value: u64,
    },
}

/// A counter in the TPM.
#[derive(Debug, Serialize, Deserialize)]
pub struct Counter {
    /// Its NV index.
    pub index: u32,
    /// Its name: the digest of its public area, which holds a random policy.
    pub name: Name,
    /// Its secret, 32 bytes.
    pub secret: SecretBytes,
}

/// The SHA-256 name of a TPM's object or NV index, without the two bytes of its algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Name(pub [u8; 32]);

/// A sealed object: its private and its public area, each with its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob(pub Vec<u8>);

/// Platform configuration registers 0 to 23 of the SHA-256 bank, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct PcrSet(u32);

/// Not a set of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("registers are 0 to 23, at least one of them")]
pub struct BadPcrSet;

/// What the helper answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To `Health`.
    Health(Health),
    /// To `CounterDefine`.
    Defined {
        /// Its NV index.
        index: u32,
        /// Its name.
        name: Name,
        /// Its first value.
        value: u64,
    },
    /// To `CounterRead` and `CounterIncrement`.
    Value(u64),
    /// To `Seal`.
    Sealed(Blob),
    /// To `Unseal`.
    Unsealed(SecretBytes),
    /// It is not done.
    Refused(Refusal),
    /// To `CounterForget`.
    Forgotten,
}

/// What a TPM says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Who made it, as it says: four characters.
    pub manufacturer: String,
    /// Whether it is a program: a copy of its state is a copy of the TPM.
    pub kind: Kind,
    /// The name of its storage key: another TPM has another one.
    pub storage: Name,
    /// Wrong PINs that are counted now.
    pub wrong_pins: u32,
    /// Wrong PINs that lock it.
    pub most_wrong_pins: u32,
    /// Seconds until one wrong PIN is forgotten.
    pub forgets_after_secs: u32,
    /// Whether it takes no PIN at present.
    pub locked_out: bool,
}

/// What stands behind the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A chip or firmware.
    Hardware,
    /// A program, as in virtual machines and tests.
    Software,
}

/// Why it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The machine is not in the state of the sealing.
    #[error("the machine started in another way than when the vault was sealed to it")]
    PcrChanged,
    /// The PIN is wrong.
    #[error("the PIN is wrong; {left} tries are left")]
    WrongPin {
        /// Tries until the TPM locks itself.
        left: u32,
    },
    /// The TPM takes no PIN at present.
    #[error("the TPM takes no PIN at present: too many were wrong")]
    LockedOut,
    /// The counter has another value.
    #[error("the TPM's counter has moved on")]
    CounterMoved,
    /// The counter is not there, or another one has its place.
    #[error("the TPM does not have this vault's counter any more")]
    CounterGone,
    /// Another TPM, or one that was cleared.
    #[error("this is not the TPM that the vault was sealed to, or it was cleared")]
    AnotherTpm,
    /// Nothing answers.
    #[error("there is no TPM, or it does not answer")]
    NoTpm,
    /// Objects or sessions of other programs fill it.
    #[error("the TPM has no free slot: other programs' objects or sessions fill it")]
    OutOfSlots,
    /// Its owner has set a password.
    #[error("the TPM's owner has set a password, so that no key can be made in it")]
    Owned,
    /// What came back was not from the TPM that the session was made with, or was changed on its way.
    #[error("an answer of the TPM is not authentic")]
    Forged,
    /// The question cannot be asked.
    #[error("the question cannot be asked")]
    Malformed,
    /// The TPM's own code.
    #[error("the TPM answers {code:#x}")]
    Other {
        /// `TPM_RC`.
        code: u32,
    },
}

impl PcrSet {
    /// Takes the registers' numbers.
    ///
    /// # Errors
    /// When there is none, or one above 23.
    pub fn of(numbers: &[u8]) -> Result<Self, BadPcrSet> {
        let mut bits = 0;
        for number in numbers {
            bits |= 1_u32.checked_shl(u32::from(*number)).unwrap_or(0x0100_0000);
        }
        Self::try_from(bits)
    }

    /// The registers' numbers, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u8> {
        (0..24_u8)
            .filter(move |number| self.0 & 1_u32.checked_shl((*number).into()).unwrap_or(0) != 0)
    }

    /// One bit a register, the lowest first, as TPMs take it.
    pub const fn bitmap(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }
}

impl TryFrom<u32> for PcrSet {
    type Error = BadPcrSet;

    fn try_from(bits: u32) -> Result<Self, BadPcrSet> {
        if bits == 0 || bits > 0x00ff_ffff { Err(BadPcrSet) } else { Ok(Self(bits)) }
    }
}

impl From<PcrSet> for u32 {
    fn from(set: PcrSet) -> Self {
        set.0
    }
}

#[cfg(test)]
mod tests {
    use super::{BadPcrSet, PcrSet};

    #[test]
    fn a_set_of_registers_is_never_empty_and_never_beyond_them() {
        let set = PcrSet::of(&[7, 0, 23]).unwrap();
        assert_eq!(set.numbers().collect::<Vec<_>>(), [0, 7, 23]);
        assert_eq!(set.bitmap(), [0x81, 0, 0x80]);
        let all: Vec<u8> = (0..24).collect();
        assert_eq!(PcrSet::try_from(0x00ff_ffff).unwrap().numbers().collect::<Vec<_>>(), all);
        for bad in [&[][..], &[24], &[255], &[7, 40]] {
            assert_eq!(PcrSet::of(bad), Err(BadPcrSet), "{bad:?}");
        }
        assert!(postcard::from_bytes::<PcrSet>(&[0]).is_err());
        let bytes = postcard::to_stdvec(&set).unwrap();
        assert_eq!(postcard::from_bytes::<PcrSet>(&bytes), Ok(set));
    }
}
