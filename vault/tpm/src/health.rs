//! What a TPM says of itself. Not authentic: for people, and for the first pinning.

use strongroom_protocol::tpm::{Health, Kind};

use crate::chip::{Chip, ChipError, Command};
use crate::wire::{Code, Malformed, Reader, Writer};

/// `TPM_CAP_TPM_PROPERTIES`.
const PROPERTIES: u32 = 6;
const MANUFACTURER: u32 = 0x105;
const PERMANENT: u32 = 0x200;
const LOCKOUT_COUNTER: u32 = 0x20E;
const MAX_AUTH_FAIL: u32 = 0x20F;
const LOCKOUT_INTERVAL: u32 = 0x210;
/// `TPMA_PERMANENT`, `inLockout`.
const IN_LOCKOUT: u32 = 0x200;
/// Makers of TPMs that are programs: those of emulators, hypervisors and clouds.
const PROGRAMS: [&str; 5] = ["IBM", "MSFT", "VMW", "GOOG", "AMZN"];

/// Asks the TPM about itself, and makes its storage key to learn its name.
///
/// # Errors
/// The TPM's.
pub fn health(chip: &mut Chip) -> Result<Health, ChipError> {
    let manufacturer = property(chip, MANUFACTURER)?.to_be_bytes();
    let manufacturer: String = manufacturer
        .iter()
        .filter(|byte| byte.is_ascii_graphic())
        .map(|byte| char::from(*byte))
        .collect();
    let kind =
        if PROGRAMS.contains(&manufacturer.as_str()) { Kind::Software } else { Kind::Hardware };
    Ok(Health {
        manufacturer,
        kind,
        wrong_pins: property(chip, LOCKOUT_COUNTER)?,
        most_wrong_pins: property(chip, MAX_AUTH_FAIL)?,
        forgets_after_secs: property(chip, LOCKOUT_INTERVAL)?,
        locked_out: property(chip, PERMANENT)? & IN_LOCKOUT != 0,
        storage: chip.storage(None)?.name,
    })
}

/// Tries that are left until the TPM locks itself.
///
/// # Errors
/// The TPM's.
pub fn tries_left(chip: &mut Chip) -> Result<u32, ChipError> {
    Ok(property(chip, MAX_AUTH_FAIL)?.saturating_sub(property(chip, LOCKOUT_COUNTER)?))
}

fn property(chip: &mut Chip, wanted: u32) -> Result<u32, ChipError> {
    let parameters = Writer::new().u32s(&[PROPERTIES, wanted, 1]);
    let reply = chip.plain(&Command { code: Code::GetCapability, handles: &[], parameters })?;
    let mut reader = Reader(&reply.parameters);
    let (_more, _capability, _count) = (reader.u8()?, reader.u32()?, reader.u32()?);
    let (found, value) = (reader.u32()?, reader.u32()?);
    if found == wanted { Ok(value) } else { Err(Malformed.into()) }
}
