//! The counter: an NV index of counter type that only its secret reads and moves.
//!
//! Its public area holds a random policy, so that its name is its own. Whoever owns the TPM can remove it and define it again
//! under the same name; the TPM then goes on above the highest counter that it ever had.
//!
//! Invariant: a value that is answered came through an authentic session.

use strongroom_protocol::tpm::{Counter, Name};

use crate::chip::{Chip, ChipError, Command, Kind, Storage, handle_name, without_secret};
use crate::session::{Duty, Session, Work};
use crate::wire::{
    Code, Malformed, OWNER, Reader, ResponseCode, SHA256, Writer, full_name, name_of,
};

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

/// Why a counter did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    /// The TPM.
    #[error(transparent)]
    Chip(#[from] ChipError),
    /// It is not there, or another has its place.
    #[error("the counter is gone")]
    Gone,
    /// It has neither the value that it should be moved from nor the next one.
    #[error("the counter is at {0}")]
    Moved(u64),
}

/// Counter type; read and written by its secret; guesses of that do not count towards the lock-out.
const ATTRIBUTES: u32 = 0x0204_0014;
/// Set by the first increment.
const WRITTEN: u32 = 0x2000_0000;
/// The owner's indices; a random one of these.
const FIRST_INDEX: u32 = 0x0180_0000;
const INDEX_MASK: u32 = 0x000f_ffff;
/// How many taken indices are met before it is given up.
const TRIES: usize = 8;
const VALUE_BYTES: u16 = 8;

/// Makes a counter.
///
/// # Errors
/// The TPM's.
pub fn define(chip: &mut Chip, storage: &Storage, secret: &[u8]) -> Result<Made, ChipError> {
    let mut session = chip.session(storage, Kind::Hmac)?;
    let mut policy = [0; 32];
    getrandom::fill(&mut policy).map_err(|_| crate::session::SessionError::Random)?;
    let mut index = 0;
    for attempt in 1..=TRIES {
        index = random_index()?;
        let public = public_area(index, ATTRIBUTES, &policy);
        let parameters = Writer::new().sized(secret).sized(public.bytes());
        let owner = handle_name(OWNER);
        let command =
            Command { code: Code::NvDefineSpace, handles: &[(OWNER, &owner)], parameters };
        match chip.with_session(&mut session, command, without_secret(Duty::Encrypt)) {
            Ok(_) => break,
            Err(ChipError::Code(ResponseCode::NV_DEFINED)) if attempt < TRIES => {}
            Err(error) => return Err(error),
        }
    }
    let fresh = name_of(public_area(index, ATTRIBUTES, &policy).bytes());
    let name = name_of(public_area(index, ATTRIBUTES | WRITTEN, &policy).bytes());
    move_once(chip, &mut session, (index, fresh, secret))?;
    let value = value_of(chip, &mut session, (index, name, secret))?;
    Ok(Made { index, name, value })
}

/// Reads a counter.
///
/// # Errors
/// `Gone`, or the TPM's.
pub fn read(chip: &mut Chip, storage: &Storage, counter: &Counter) -> Result<u64, CounterError> {
    check_name(chip, counter)?;
    let mut session = chip.session(storage, Kind::Hmac)?;
    counter
        .secret
        .expose(|secret| Ok(value_of(chip, &mut session, (counter.index, counter.name, secret))?))
}

/// Moves a counter from `from` to the next value, or finds it there.
///
/// # Errors
/// `Moved` when it has any other value, `Gone`, or the TPM's.
pub fn increment(
    chip: &mut Chip,
    storage: &Storage,
    (counter, from): (&Counter, u64),
) -> Result<u64, CounterError> {
    check_name(chip, counter)?;
    let mut session = chip.session(storage, Kind::Hmac)?;
    counter.secret.expose(|secret| {
        let its = (counter.index, counter.name, secret);
        let before = value_of(chip, &mut session, its)?;
        if before == from {
            move_once(chip, &mut session, its)?;
        }
        let after = value_of(chip, &mut session, its)?;
        if Some(after) == from.checked_add(1) { Ok(after) } else { Err(CounterError::Moved(after)) }
    })
}

/// Removes a counter.
///
/// # Errors
/// `Gone`, or the TPM's.
pub fn forget(chip: &mut Chip, counter: &Counter) -> Result<(), CounterError> {
    check_name(chip, counter)?;
    let storage = chip.storage(None)?;
    let mut session = chip.session(&storage, Kind::Hmac)?;
    let (owner, name) = (handle_name(OWNER), full_name(counter.name));
    let handles = &[(OWNER, owner.as_slice()), (counter.index, &name)];
    let command = Command { code: Code::NvUndefineSpace, handles, parameters: Writer::new() };
    chip.with_session(&mut session, command, without_secret(Duty::Authorize))?;
    Ok(())
}

/// Tells a counter that is gone from a secret that is wrong. Not authentic, and not needed to be: a lie here is a refusal.
fn check_name(chip: &mut Chip, counter: &Counter) -> Result<(), CounterError> {
    let handles = &[(counter.index, [].as_slice())];
    let command = Command { code: Code::NvReadPublic, handles, parameters: Writer::new() };
    let reply = match chip.plain(&command) {
        Err(ChipError::Code(ResponseCode::HANDLE | ResponseCode::VALUE)) => {
            return Err(CounterError::Gone);
        }
        other => other?,
    };
    let public = Reader(&reply.parameters).sized().map_err(ChipError::from)?;
    if name_of(public) == counter.name { Ok(()) } else { Err(CounterError::Gone) }
}

/// An index with its name and its secret.
type Index<'a> = (u32, Name, &'a [u8]);

fn move_once(
    chip: &mut Chip,
    session: &mut Session,
    (index, name, secret): Index<'_>,
) -> Result<(), ChipError> {
    let name = full_name(name);
    let handles = &[(index, name.as_slice()), (index, &name)];
    let command = Command { code: Code::NvIncrement, handles, parameters: Writer::new() };
    let work = Work { secret, shows_secret: true, duty: Duty::Authorize };
    chip.with_session(session, command, work).map(drop)
}

fn value_of(
    chip: &mut Chip,
    session: &mut Session,
    (index, name, secret): Index<'_>,
) -> Result<u64, ChipError> {
    let name = full_name(name);
    let handles = &[(index, name.as_slice()), (index, &name)];
    let parameters = Writer::new().u16s(&[VALUE_BYTES, 0]);
    let command = Command { code: Code::NvRead, handles, parameters };
    let work = Work { secret, shows_secret: true, duty: Duty::Authorize };
    let reply = chip.with_session(session, command, work)?;
    let mut reader = Reader(&reply.parameters);
    let value = reader.sized()?.try_into().map_err(|_| Malformed)?;
    reader.end()?;
    Ok(u64::from_be_bytes(value))
}

fn public_area(index: u32, attributes: u32, policy: &[u8]) -> Writer {
    Writer::new()
        .u32s(&[index])
        .u16s(&[SHA256])
        .u32s(&[attributes])
        .sized(policy)
        .u16s(&[VALUE_BYTES])
}

fn random_index() -> Result<u32, ChipError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|_| crate::session::SessionError::Random)?;
    Ok(FIRST_INDEX | (u32::from_be_bytes(bytes) & INDEX_MASK))
}
