//! The TPM behind its device: one command at a time, salted sessions, and nothing left behind.
//!
//! Invariant: whatever a question loaded or opened is flushed before it is answered, on every way out; where that is not known
//! to be done, or libtss2 itself failed, the chip is spent.
//! Invariant: secrets are sent and received in sessions only, and sessions are made with the pinned storage key only.

use std::time::Duration;

use strongroom_protocol::tpm::Name;
use tss_esapi::attributes::{SessionAttributes, SessionAttributesBuilder, SessionAttributesMask};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::SymmetricDefinition;
use tss_esapi::traits::Marshall as _;
use tss_esapi::{Context, Error, WrapperErrorKind};

use crate::code::{Origin, ResponseCode};
use crate::place::Place;
use crate::policy_nv;
use crate::template::{self, full_name, name_of};

/// Why a command gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChipError {
    /// The way to the TPM: it is of no more use.
    #[error("the TPM does not answer ({0:#x})")]
    Device(u32),
    /// The TPM's own code.
    #[error("the TPM answers {:#x}", .0.0)]
    Code(ResponseCode),
    /// An answer that is malformed or whose MAC is wrong.
    #[error("an answer of the TPM is not authentic ({0:#x})")]
    Forged(u32),
    /// The same, found by tss-esapi or here.
    #[error("an answer of the TPM does not fit: {0}")]
    Unfit(WrapperErrorKind),
    /// libtss2's own.
    #[error("libtss2 says {0:#x}")]
    Library(u32),
    /// tss-esapi did not come by its context as it used to.
    #[error("tss-esapi's context is not known to this program, so PolicyNV cannot be asked")]
    NoContext,
    /// The storage key is not the one that was pinned.
    #[error("the TPM has another storage key")]
    AnotherTpm,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random,
    /// A counter is not there, or another has its place.
    #[error("the counter is gone")]
    CounterGone,
    /// A counter has neither the value that it should be moved from nor the next one.
    #[error("the counter is at {0}")]
    CounterMoved(u64),
}

impl From<Error> for ChipError {
    fn from(error: Error) -> Self {
        match error {
            Error::WrapperError(kind) => Self::Unfit(kind),
            Error::Tss2Error(code) => match Origin::of(code) {
                Origin::Tpm(code) => Self::Code(code),
                Origin::Way(code) => Self::Device(code),
                Origin::Answer(code) => Self::Forged(code),
                Origin::Library(code) => Self::Library(code),
            },
        }
    }
}

impl ChipError {
    /// Bytes that no honest TPM answers.
    pub const fn unfit() -> Self {
        Self::Unfit(WrapperErrorKind::WrongValueFromTpm)
    }
}

/// A TPM.
#[derive(Debug)]
pub struct Chip {
    context: Context,
    held: Vec<Held>,
    standing: Standing,
}

/// Whether a further question may be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Fit,
    /// Something may be left in the TPM, or libtss2's context is in a state that only a new one ends.
    Spent,
}

/// What a question leaves behind unless it is put away.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// In the TPM.
    Loaded(ObjectHandle),
    /// In libtss2's memory only: what stands for an NV index, with its secret.
    Known(ObjectHandle),
}

/// The storage key, loaded.
#[derive(Debug, Clone, Copy)]
pub struct Storage {
    /// The key.
    pub key: KeyHandle,
    /// Its name.
    pub name: Name,
}

/// What kind of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Authorizes by secrets.
    Hmac,
    /// Authorizes by a policy.
    Policy,
}

/// What a session does beside authorizing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Authorizes.
    Authorize,
    /// Authorizes, and the command's first parameter is encrypted.
    Encrypt,
    /// Authorizes, and the answer's first parameter is encrypted.
    Decrypt,
    /// Authorizes nothing; answers are authentic.
    Audit,
}

/// How often a TPM may ask to be asked again, and how long it is left alone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

impl Duty {
    /// `TPMA_SESSION`, in the TPM's words: it decrypts what we encrypt.
    fn attributes(self) -> (SessionAttributes, SessionAttributesMask) {
        SessionAttributesBuilder::new()
            .with_continue_session(true)
            .with_decrypt(self == Self::Encrypt)
            .with_encrypt(self == Self::Decrypt)
            .with_audit(self == Self::Audit)
            .build()
    }
}

impl Chip {
    /// Opens the way to a TPM, and has libtss2 load its module for that way. Blocks for as long as the way does.
    ///
    /// # Errors
    /// libtss2's.
    pub fn open(place: &Place) -> Result<Self, ChipError> {
        let context = Context::new(place.name()?)?;
        if !policy_nv::is_ready(&context) {
            return Err(ChipError::NoContext);
        }
        Ok(Self { context, held: Vec::new(), standing: Standing::Fit })
    }

    /// Whether a further question may be put.
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// Runs one question's commands, and flushes what they left.
    ///
    /// # Errors
    /// The work's; else the flushing's.
    pub fn scope<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ChipError>,
    ) -> Result<T, ChipError> {
        let done = work(self);
        let flushed = self.put_away();
        if flushed.is_err() || matches!(done, Err(ChipError::Library(_))) {
            self.standing = Standing::Spent;
        }
        let done = done?;
        flushed.map(|()| done)
    }

    /// Makes the storage key, the same one each time, and checks that it is the one that was pinned.
    ///
    /// # Errors
    /// `AnotherTpm`, or the TPM's.
    pub fn storage(&mut self, pinned: Option<Name>) -> Result<Storage, ChipError> {
        // The owner's empty password: only for what is public, since such an answer is not authentic.
        let made = self.patiently(|context| {
            context.execute_with_session(Some(AuthSession::Password), |context| {
                let template = template::storage()?;
                context.create_primary(Hierarchy::Owner, template, None, None, None, None)
            })
        })?;
        let key = made.key_handle;
        self.held.push(Held::Loaded(key.into()));
        // libtss2 salts sessions to this very public area, so its name is computed here and not taken from the answer.
        let name = name_of(&made.out_public.marshall()?);
        if pinned.is_some_and(|pinned| pinned != name) {
            return Err(ChipError::AnotherTpm);
        }
        if self.context.tr_get_name(key.into())?.value() != full_name(name) {
            return Err(ChipError::unfit());
        }
        Ok(Storage { key, name })
    }

    /// Opens a session salted to the storage key.
    ///
    /// # Errors
    /// The TPM's.
    pub fn session(&mut self, storage: &Storage, kind: Kind) -> Result<AuthSession, ChipError> {
        self.begin(kind, Some(storage.key))
    }

    fn begin(&mut self, kind: Kind, salted: Option<KeyHandle>) -> Result<AuthSession, ChipError> {
        let kind = match kind {
            Kind::Hmac => SessionType::Hmac,
            Kind::Policy => SessionType::Policy,
        };
        let (cipher, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        let session = self.patiently(|context| {
            context.start_auth_session(salted, None, None, kind, cipher, hash)
        })?;
        let session = session.ok_or(ChipError::unfit())?;
        self.held.push(Held::Loaded(SessionHandle::from(session).into()));
        Ok(session)
    }

    /// A command that a session authorizes.
    ///
    /// # Errors
    /// The TPM's, and when its answer is not authentic.
    pub fn with<T>(
        &mut self,
        session: AuthSession,
        duty: Duty,
        mut ask: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, ChipError> {
        let (attributes, mask) = duty.attributes();
        self.context.tr_sess_set_attributes(session, attributes, mask)?;
        self.patiently(|context| context.execute_with_session(Some(session), &mut ask))
    }

    /// A command, again if the TPM asks for it. Without a session nothing in it may be secret, and nothing in its answer is
    /// believed further.
    ///
    /// # Errors
    /// The TPM's.
    pub fn patiently<T>(
        &mut self,
        mut ask: impl FnMut(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, ChipError> {
        let mut tries = 0_u32;
        loop {
            let error = match ask(&mut self.context) {
                Ok(answer) => return Ok(answer),
                Err(error) => ChipError::from(error),
            };
            tries = tries.saturating_add(1);
            let asks_again = matches!(error, ChipError::Code(code) if code.is_passing());
            if !asks_again || tries >= TRIES {
                return Err(error);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// A key that was loaded.
    pub fn hold(&mut self, key: KeyHandle) {
        self.held.push(Held::Loaded(key.into()));
    }

    /// An NV index that libtss2 knows now.
    pub fn know(&mut self, index: NvIndexHandle) {
        self.held.push(Held::Known(index.into()));
    }

    /// An NV index that libtss2 does not know any more.
    pub fn forget(&mut self, index: NvIndexHandle) {
        self.held.retain(|held| !matches!(held, Held::Known(known) if *known == index.into()));
    }

    /// Lets libtss2 know an NV index, as the TPM describes it. Its name is answered, as libtss2 computes it and will use it.
    ///
    /// # Errors
    /// The TPM's.
    pub fn index(
        &mut self,
        index: NvIndexTpmHandle,
    ) -> Result<(NvIndexHandle, Vec<u8>), ChipError> {
        let handle = self.patiently(|context| context.tr_from_tpm_public(index.into()))?;
        self.know(handle.into());
        Ok((handle.into(), self.context.tr_get_name(handle)?.value().to_vec()))
    }

    fn put_away(&mut self) -> Result<(), ChipError> {
        let mut outcome = Ok(());
        while let Some(held) = self.held.pop() {
            let done = match held {
                Held::Loaded(handle) => self.patiently(|context| context.flush_context(handle)),
                Held::Known(mut handle) => {
                    self.context.tr_close(&mut handle).map_err(ChipError::from)
                }
            };
            outcome = outcome.and(done);
        }
        outcome
    }
}
