//! The counter: an NV index of counter type that only its secret reads and moves.
//!
//! Its public area holds a random policy, so that its name is its own. Whoever owns the TPM can remove it and define it again
//! under the same name; the TPM then goes on above the highest counter that it ever had.
//!
//! Invariant: a value that is answered came through an authentic session.

use strongroom_protocol::tpm::{Counter, Name};
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle};
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::Auth;

use crate::chip::{Chip, ChipError, Duty, Kind, Storage};
use crate::code::ResponseCode;
use crate::template::{self, COUNTER_BYTES, full_name};

/// A counter that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Its NV index.
    pub index: u32,
    /// Its name.
    pub name: Name,
    /// Its first value.
    pub value: u64,
}

/// The owner's indices; a random one of these.
const FIRST_INDEX: u32 = 0x0180_0000;
const INDEX_MASK: u32 = 0x000f_ffff;
/// How many taken indices are met before it is given up.
const TRIES: usize = 8;

/// Makes a counter.
///
/// # Errors
/// The TPM's.
pub fn define(chip: &mut Chip, storage: &Storage, secret: &[u8]) -> Result<Made, ChipError> {
    let session = chip.session(storage, Kind::Hmac)?;
    let mut policy = [0; 32];
    getrandom::fill(&mut policy).map_err(|_| ChipError::Random)?;
    let secret = Auth::try_from(secret)?;
    let mut attempts = 1..=TRIES;
    let (index, handle) = loop {
        let is_last = attempts.next().is_none_or(|attempt| attempt == TRIES);
        let index = random_index()?;
        let public = template::counter(index, &policy)?;
        let defined = chip.with(session, Duty::Encrypt, |context| {
            context.nv_define_space(Provision::Owner, Some(secret.clone()), public.clone())
        });
        match defined {
            Ok(handle) => break (index, handle),
            Err(ChipError::Code(ResponseCode::NV_DEFINED)) if !is_last => {}
            Err(error) => return Err(error),
        }
    };
    chip.know(handle);
    move_once(chip, session, handle)?;
    let value = value_of(chip, session, handle)?;
    let name = chip.patiently(|context| context.tr_get_name(handle.into()))?;
    let (_algorithm, name) = name.value().split_at_checked(2).ok_or(ChipError::unfit())?;
    let name = Name(name.try_into().map_err(|_| ChipError::unfit())?);
    Ok(Made { index, name, value })
}

/// Reads a counter.
///
/// # Errors
/// `CounterGone`, or the TPM's.
pub fn read(chip: &mut Chip, storage: &Storage, counter: &Counter) -> Result<u64, ChipError> {
    let handle = open(chip, counter)?;
    let session = chip.session(storage, Kind::Hmac)?;
    value_of(chip, session, handle)
}

/// Moves a counter from `from` to the next value, or finds it there.
///
/// # Errors
/// `CounterMoved` when it has any other value, `CounterGone`, or the TPM's.
pub fn increment(
    chip: &mut Chip,
    storage: &Storage,
    (counter, from): (&Counter, u64),
) -> Result<u64, ChipError> {
    let handle = open(chip, counter)?;
    let session = chip.session(storage, Kind::Hmac)?;
    if value_of(chip, session, handle)? == from {
        move_once(chip, session, handle)?;
    }
    let after = value_of(chip, session, handle)?;
    if Some(after) == from.checked_add(1) { Ok(after) } else { Err(ChipError::CounterMoved(after)) }
}

/// Removes a counter.
///
/// # Errors
/// `CounterGone`, or the TPM's.
pub fn forget(chip: &mut Chip, counter: &Counter) -> Result<(), ChipError> {
    let handle = open(chip, counter)?;
    let storage = chip.storage(None)?;
    let session = chip.session(&storage, Kind::Hmac)?;
    chip.with(session, Duty::Authorize, |context| {
        context.nv_undefine_space(Provision::Owner, handle)
    })?;
    chip.forget(handle);
    Ok(())
}

/// Finds a counter, and lets its secret authorize what follows. The TPM's description is not authentic, and not needed to be:
/// whatever bears another name is refused, and the name goes into the MAC of all that follows.
///
/// # Errors
/// `CounterGone` when it is not there or has another name, or the TPM's.
pub fn open(chip: &mut Chip, counter: &Counter) -> Result<NvIndexHandle, ChipError> {
    let index = NvIndexTpmHandle::new(counter.index).map_err(|_| ChipError::CounterGone)?;
    let (handle, name) = match chip.index(index) {
        Err(ChipError::Code(ResponseCode::HANDLE | ResponseCode::VALUE)) => {
            return Err(ChipError::CounterGone);
        }
        other => other?,
    };
    if name != full_name(counter.name) {
        return Err(ChipError::CounterGone);
    }
    let secret = counter.secret.expose(|secret| Auth::try_from(secret))?;
    chip.patiently(|context| context.tr_set_auth(handle.into(), secret.clone()))?;
    Ok(handle)
}

fn move_once(
    chip: &mut Chip,
    session: AuthSession,
    counter: NvIndexHandle,
) -> Result<(), ChipError> {
    let by = NvAuth::NvIndex(counter);
    chip.with(session, Duty::Authorize, |context| context.nv_increment(by, counter))
}

fn value_of(
    chip: &mut Chip,
    session: AuthSession,
    counter: NvIndexHandle,
) -> Result<u64, ChipError> {
    let by = NvAuth::NvIndex(counter);
    let read = chip
        .with(session, Duty::Authorize, |context| context.nv_read(by, counter, COUNTER_BYTES, 0))?;
    let value = read.value().try_into().map_err(|_| ChipError::unfit())?;
    Ok(u64::from_be_bytes(value))
}

fn random_index() -> Result<u32, ChipError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|_| ChipError::Random)?;
    Ok(FIRST_INDEX | (u32::from_be_bytes(bytes) & INDEX_MASK))
}
