//! Commands and answers as bytes: the numbers and layouts of TPM 2.0 Library, part 2.
//!
//! Invariant: pure; reading is total and bounded.

use sha2::{Digest, Sha256};
use strongroom_protocol::tpm::{Name, PcrSet};
use zeroize::Zeroizing;

/// Largest command and answer; the TPM's own limit is 4096.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Tag, size and code.
pub const HEADER_BYTES: usize = 10;
/// Length of a digest of the one hash in use.
pub const DIGEST_BYTES: usize = 32;

/// `TPM_ST_NO_SESSIONS`.
pub const TAG_PLAIN: u16 = 0x8001;
/// `TPM_ST_SESSIONS`.
pub const TAG_SESSIONS: u16 = 0x8002;

/// `TPM_RH_OWNER`.
pub const OWNER: u32 = 0x4000_0001;
/// `TPM_RH_NULL`.
pub const NULL: u32 = 0x4000_0007;
/// `TPM_RS_PW`: an authorization by password, here the empty one of the owner.
pub const PASSWORD: u32 = 0x4000_0009;

/// `TPM_ALG_KEYEDHASH`.
pub const KEYEDHASH: u16 = 0x0008;
/// `TPM_ALG_SHA256`.
pub const SHA256: u16 = 0x000B;
/// `TPM_ALG_NULL`.
pub const NO_ALGORITHM: u16 = 0x0010;
/// `TPM_ALG_ECC`.
pub const ECC: u16 = 0x0023;
/// `TPM_ECC_NIST_P256`.
pub const P256: u16 = 0x0003;
/// AES, 128 bits, CFB: every TPM has it.
pub const AES_128_CFB: [u16; 3] = [0x0006, 128, 0x0043];

/// A command of the TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the library, part 3")]
pub enum Code {
    NvUndefineSpace,
    NvDefineSpace,
    CreatePrimary,
    NvIncrement,
    PolicyNv,
    NvRead,
    Create,
    Load,
    Unseal,
    FlushContext,
    NvReadPublic,
    PolicyAuthValue,
    StartAuthSession,
    GetCapability,
    PcrRead,
    PolicyPcr,
}

impl Code {
    /// On the wire.
    pub const fn bytes(self) -> [u8; 4] {
        let number: u32 = match self {
            Self::NvUndefineSpace => 0x122,
            Self::NvDefineSpace => 0x12A,
            Self::CreatePrimary => 0x131,
            Self::NvIncrement => 0x134,
            Self::PolicyNv => 0x149,
            Self::NvRead => 0x14E,
            Self::Create => 0x153,
            Self::Load => 0x157,
            Self::Unseal => 0x15E,
            Self::FlushContext => 0x165,
            Self::NvReadPublic => 0x169,
            Self::PolicyAuthValue => 0x16B,
            Self::StartAuthSession => 0x176,
            Self::GetCapability => 0x17A,
            Self::PcrRead => 0x17E,
            Self::PolicyPcr => 0x17F,
        };
        number.to_be_bytes()
    }
}

/// `TPM_RC`, without the number of the parameter, handle or session that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseCode(pub u32);

#[expect(missing_docs, reason = "the names of the library, part 2")]
impl ResponseCode {
    pub const VALUE: Self = Self(0x084);
    pub const HANDLE: Self = Self(0x08B);
    pub const AUTH_FAIL: Self = Self(0x08E);
    pub const POLICY_FAIL: Self = Self(0x09D);
    pub const INTEGRITY: Self = Self(0x09F);
    pub const BAD_AUTH: Self = Self(0x0A2);
    pub const POLICY: Self = Self(0x126);
    pub const PCR_CHANGED: Self = Self(0x128);
    pub const NV_DEFINED: Self = Self(0x14C);
    pub const OBJECT_MEMORY: Self = Self(0x902);
    pub const SESSION_MEMORY: Self = Self(0x903);
    pub const MEMORY: Self = Self(0x904);
    pub const SESSION_HANDLES: Self = Self(0x905);
    pub const OBJECT_HANDLES: Self = Self(0x906);
    pub const YIELDED: Self = Self(0x908);
    pub const TESTING: Self = Self(0x90A);
    pub const NV_RATE: Self = Self(0x920);
    pub const LOCKOUT: Self = Self(0x921);
    pub const RETRY: Self = Self(0x922);

    /// Strips what the code is about: in format one, bits 6 and 8 to 11.
    pub const fn of(code: u32) -> Self {
        if code & 0x80 == 0 { Self(code & 0xFFF) } else { Self(code & 0xBF) }
    }

    /// Whether the TPM asks to be asked again.
    pub fn is_passing(self) -> bool {
        [Self::YIELDED, Self::TESTING, Self::NV_RATE, Self::RETRY].contains(&self)
    }
}

/// The bytes of an answer are not what the library says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the TPM's answer is malformed")]
pub struct Malformed;

/// Bytes under way to the TPM; wiped, since some are secret.
#[derive(Debug, Default)]
pub struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// Room for a whole message, so that nothing secret is left behind by growing.
    pub fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(MAX_MESSAGE_BYTES)))
    }

    /// Appends bytes.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends numbers.
    #[must_use]
    pub fn u16s(self, numbers: &[u16]) -> Self {
        numbers.iter().fold(self, |writer, number| writer.raw(&number.to_be_bytes()))
    }

    /// Appends numbers.
    #[must_use]
    pub fn u32s(self, numbers: &[u32]) -> Self {
        numbers.iter().fold(self, |writer, number| writer.raw(&number.to_be_bytes()))
    }

    /// Appends bytes with their length before them (`TPM2B`); what is too long is cut, which the TPM refuses.
    #[must_use]
    pub fn sized(self, bytes: &[u8]) -> Self {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16s(&[length]).raw(bytes)
    }

    /// What was written.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What was written, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Bytes of an answer that are not read yet.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next byte.
    ///
    /// # Errors
    /// When there is none.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.raw(1)?.first().copied().ok_or(Malformed)
    }

    /// The next number.
    ///
    /// # Errors
    /// At the end.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.raw(2)?.try_into().map_err(|_| Malformed)?))
    }

    /// The next number.
    ///
    /// # Errors
    /// At the end.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.raw(4)?.try_into().map_err(|_| Malformed)?))
    }

    /// The next `TPM2B`.
    ///
    /// # Errors
    /// At the end.
    pub fn sized(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.raw(length.into())
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// SHA-256 of parts behind one another.
pub fn digest(parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The name of a public area.
pub fn name_of(public: &[u8]) -> Name {
    Name(digest(&[public]))
}

/// A name as it enters parameter hashes: with its algorithm.
pub fn full_name(name: Name) -> [u8; 34] {
    let mut full = [0; 34];
    let (algorithm, digest) = full.split_at_mut(2);
    algorithm.copy_from_slice(&SHA256.to_be_bytes());
    digest.copy_from_slice(&name.0);
    full
}

/// `TPML_PCR_SELECTION` of one bank.
pub fn pcr_selection(set: PcrSet) -> Writer {
    Writer::new().u32s(&[1]).u16s(&[SHA256]).raw(&[3]).raw(&set.bitmap())
}

#[cfg(test)]
mod tests {
    use super::{Malformed, Reader, ResponseCode, Writer, full_name, name_of};

    #[test]
    fn what_is_written_reads_back_and_ends() {
        let writer = Writer::new().u16s(&[1]).u32s(&[2]).sized(b"abc").raw(&[9]);
        assert_eq!(writer.bytes(), [0, 1, 0, 0, 0, 2, 0, 3, b'a', b'b', b'c', 9]);
        let mut reader = Reader(writer.bytes());
        assert_eq!((reader.u16(), reader.u32()), (Ok(1), Ok(2)));
        assert_eq!((reader.sized(), reader.u8()), (Ok(&b"abc"[..]), Ok(9)));
        assert_eq!((reader.u8(), reader.end()), (Err(Malformed), Ok(())));
    }

    #[test]
    fn no_answer_makes_the_reader_run_over_its_end() {
        for length in 0..6 {
            let bytes = vec![0xff; length];
            assert!(Reader(&bytes).sized().is_err());
            assert_eq!(Reader(&bytes).raw(length + 1), Err(Malformed));
        }
    }

    #[test]
    fn a_code_is_stripped_of_what_it_is_about() {
        // "Session 1: authorization failed", "parameter 2: bad value", "lock-out".
        assert_eq!(ResponseCode::of(0x98E), ResponseCode::AUTH_FAIL);
        assert_eq!(ResponseCode::of(0x2C4), ResponseCode::VALUE);
        assert_eq!(ResponseCode::of(0x921), ResponseCode::LOCKOUT);
        assert_eq!(ResponseCode::of(0x126), ResponseCode::POLICY);
        assert!(ResponseCode::of(0x922).is_passing());
    }

    #[test]
    fn a_name_has_its_algorithm_before_it() {
        let name = name_of(b"public");
        assert_eq!(full_name(name)[..2], [0, 0x0B]);
        assert_eq!(full_name(name)[2..], name.0);
    }
}
