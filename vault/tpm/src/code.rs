//! Codes of the TPM and of libtss2, told apart by the layer that they come from.
//!
//! Invariant: only what a TPM itself may answer becomes a [`ResponseCode`].

use bitfield::BitRange;
use tss_esapi::constants::Tss2ResponseCode;

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
    const fn of(code: u32) -> Self {
        if code & 0x80 == 0 { Self(code & 0xFFF) } else { Self(code & 0xBF) }
    }

    /// Whether the TPM asks to be asked again.
    pub fn is_passing(self) -> bool {
        [Self::YIELDED, Self::TESTING, Self::NV_RATE, Self::RETRY].contains(&self)
    }
}

/// Who says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The TPM, or the resource manager for it.
    Tpm(ResponseCode),
    /// The way to it.
    Way(u32),
    /// libtss2, of an answer that is malformed or whose MAC is wrong.
    Answer(u32),
    /// libtss2, of anything else.
    Library(u32),
}

/// `TSS2_RC_LAYER`s.
const LAYER_TCTI: u32 = 10;
const LAYERS_OF_TPM: [u32; 3] = [0, 11, 12];
/// `TSS2_BASE_RC_MALFORMED_RESPONSE`, `_INSUFFICIENT_RESPONSE`, `_RSP_AUTH_FAILED`.
const ABOUT_ANSWERS: [u32; 3] = [17, 19, 27];
/// `TSS2_MU_RC_INSUFFICIENT_BUFFER` and `_BAD_VALUE`: an answer could not be taken apart.
const ABOUT_BYTES: [u32; 2] = [0x0009_0006, 0x0009_000B];

impl Origin {
    /// Of a code of tss-esapi.
    pub fn of(code: Tss2ResponseCode) -> Self {
        let number: u32 = match code {
            Tss2ResponseCode::Success => 0,
            Tss2ResponseCode::FormatZero(code) => code.bit_range(31, 0),
            Tss2ResponseCode::FormatOne(code) => code.bit_range(31, 0),
        };
        let (layer, base) = ((number >> 16) & 0xFF, number & 0xFFFF);
        if LAYERS_OF_TPM.contains(&layer) {
            Self::Tpm(ResponseCode::of(base))
        } else if layer == LAYER_TCTI {
            Self::Way(number)
        } else if ABOUT_ANSWERS.contains(&base) || ABOUT_BYTES.contains(&number) {
            Self::Answer(number)
        } else {
            Self::Library(number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Origin, ResponseCode};

    #[test]
    fn a_code_is_stripped_of_what_it_is_about() {
        // "Session 1: authorization failed", "parameter 2: bad value", "lock-out", "policy", and the first from the manager.
        for (code, stripped) in [
            (0x98E, ResponseCode::AUTH_FAIL),
            (0x2C4, ResponseCode::VALUE),
            (0x921, ResponseCode::LOCKOUT),
            (0x126, ResponseCode::POLICY),
            (0x000B_098E, ResponseCode::AUTH_FAIL),
        ] {
            assert_eq!(Origin::of(code.into()), Origin::Tpm(stripped), "{code:#x}");
        }
        assert!(ResponseCode::RETRY.is_passing());
    }

    #[test]
    fn what_libtss2_says_is_never_taken_for_the_tpms_word() {
        for (code, origin) in [
            (0x000A_000A, Origin::Way(0x000A_000A)),
            (0x0007_001B, Origin::Answer(0x0007_001B)),
            (0x0008_0011, Origin::Answer(0x0008_0011)),
            (0x0009_0006, Origin::Answer(0x0009_0006)),
            // Its last bits would be the TPM's POLICY.
            (0x0007_0126, Origin::Library(0x0007_0126)),
        ] {
            assert_eq!(Origin::of(code.into()), origin, "{code:#x}");
        }
    }
}
