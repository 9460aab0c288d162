//! `PolicyNV`, the one command that tss-esapi 7.7 lacks: the only unsafe code of the helper.
//!
//! libtss2's function wants the `ESYS_CONTEXT` that a [`Context`] owns and shows to nobody. The linker is told (`build.rs`,
//! `--wrap`) to lead the calls of `Esys_Initialize` and `Esys_Finalize`, the only two that begin and end such a context, through
//! this file, which remembers the one that lives. It lets one live at a time. So whoever holds `&mut Context` holds the only
//! way to the one that is remembered, and [`policy_nv`] needs nothing else to be sound.
//!
//! Should tss-esapi ever come by its context in another way, none is remembered and the helper does not start.
//!
//! Invariant: `LIVE` is null or a context that libtss2 has made and not begun to end.
#![expect(unsafe_code, reason = "tss-esapi 7.7 has no PolicyNV; libtss2's own function is called")]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use tss_esapi::handles::{NvIndexHandle, ObjectHandle, SessionHandle};
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::tss2_esys::{
    ESYS_CONTEXT, ESYS_TR_NONE, Esys_PolicyNV, TPM2B_OPERAND, TSS2_ABI_VERSION, TSS2_RC,
    TSS2_TCTI_CONTEXT,
};
use tss_esapi::{Context, Error};

/// Whether there is a context, also while it is being made.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// The context there is.
static LIVE: AtomicPtr<ESYS_CONTEXT> = AtomicPtr::new(null_mut());

/// `TSS2_ESYS_RC_BAD_SEQUENCE`, to a second context.
const BAD_SEQUENCE: TSS2_RC = 0x0007_0007;
/// `TPM2_EO_EQ`.
const EQUAL: u16 = 0;

unsafe extern "C" {
    /// `Esys_Initialize` of libtss2: what the linker makes of this name.
    #[link_name = "__real_Esys_Initialize"]
    fn initialize(
        context: *mut *mut ESYS_CONTEXT,
        tcti: *mut TSS2_TCTI_CONTEXT,
        version: *mut TSS2_ABI_VERSION,
    ) -> TSS2_RC;

    /// `Esys_Finalize` of libtss2.
    #[link_name = "__real_Esys_Finalize"]
    fn finalize(context: *mut *mut ESYS_CONTEXT);
}

/// What every call of `Esys_Initialize` in this program comes to.
///
/// # Safety
/// As for `Esys_Initialize`.
#[unsafe(export_name = "__wrap_Esys_Initialize")]
unsafe extern "C" fn initialize_one(
    context: *mut *mut ESYS_CONTEXT,
    tcti: *mut TSS2_TCTI_CONTEXT,
    version: *mut TSS2_ABI_VERSION,
) -> TSS2_RC {
    if TAKEN.swap(true, Ordering::AcqRel) {
        return BAD_SEQUENCE;
    }
    // SAFETY: the caller keeps the promises of `Esys_Initialize`, to which its arguments go as they came.
    let code = unsafe { initialize(context, tcti, version) };
    if code == 0 {
        // SAFETY: libtss2 has just written the new context to this place.
        LIVE.store(unsafe { *context }, Ordering::Release);
    } else {
        TAKEN.store(false, Ordering::Release);
    }
    code
}

/// What every call of `Esys_Finalize` in this program comes to.
///
/// # Safety
/// As for `Esys_Finalize`.
#[unsafe(export_name = "__wrap_Esys_Finalize")]
unsafe extern "C" fn finalize_one(context: *mut *mut ESYS_CONTEXT) {
    LIVE.store(null_mut(), Ordering::Release);
    // SAFETY: the caller keeps the promises of `Esys_Finalize`, to which its argument goes as it came.
    unsafe { finalize(context) };
    TAKEN.store(false, Ordering::Release);
}

/// Whether the context is remembered: asked once, right after it was made.
pub fn is_ready(_of: &Context) -> bool {
    !LIVE.load(Ordering::Acquire).is_null()
}

/// Takes the step "the index holds this value" of a policy; `reader` authorizes it by the index's own secret.
///
/// # Errors
/// The TPM's, `POLICY` when the value is another; or libtss2's.
pub fn policy_nv(
    _exclusive: &mut Context,
    (index, value): (NvIndexHandle, u64),
    (policy, reader): (PolicySession, AuthSession),
) -> tss_esapi::Result<()> {
    let value = value.to_be_bytes();
    let mut operand = TPM2B_OPERAND::default();
    for (place, byte) in operand.buffer.iter_mut().zip(value) {
        *place = byte;
    }
    // Eight.
    operand.size = u16::from(u8::try_from(value.len()).unwrap_or(u8::MAX));
    let index = ObjectHandle::from(index).into();
    let (policy, reader) = (SessionHandle::from(policy).into(), SessionHandle::from(reader).into());
    let context = LIVE.load(Ordering::Acquire);
    // SAFETY: `context` is null, which libtss2 answers with an error, or the one context that lives. That one belongs to
    // `_exclusive`, since there is no other, so nobody else uses it now. libtss2 copies `operand` before it returns, and
    // takes handles that it does not know as errors.
    let code = unsafe {
        Esys_PolicyNV(
            context,
            index,
            index,
            policy,
            reader,
            ESYS_TR_NONE,
            ESYS_TR_NONE,
            &raw const operand,
            0,
            EQUAL,
        )
    };
    if code == 0 { Ok(()) } else { Err(Error::Tss2Error(code.into())) }
}
