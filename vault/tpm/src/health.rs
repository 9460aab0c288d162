//! What a TPM says of itself. Not authentic: for people, and for the first pinning.

use strongroom_protocol::tpm::{Health, Kind};
use tss_esapi::constants::{CapabilityType, PropertyTag};
use tss_esapi::structures::{CapabilityData, TaggedProperty};

use crate::chip::{Chip, ChipError};

/// `TPMA_PERMANENT`, `inLockout`.
const IN_LOCKOUT: u32 = 0x200;
/// Makers of TPMs that are programs: those of emulators, hypervisors and clouds.
const PROGRAMS: [&str; 5] = ["IBM", "MSFT", "VMW", "GOOG", "AMZN"];

/// Asks the TPM about itself, and makes its storage key to learn its name.
///
/// # Errors
/// The TPM's.
pub fn health(chip: &mut Chip) -> Result<Health, ChipError> {
    let manufacturer = property(chip, PropertyTag::Manufacturer)?.to_be_bytes();
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
        wrong_pins: property(chip, PropertyTag::LockoutCounter)?,
        most_wrong_pins: property(chip, PropertyTag::MaxAuthFail)?,
        forgets_after_secs: property(chip, PropertyTag::LockoutInterval)?,
        locked_out: property(chip, PropertyTag::Permanent)? & IN_LOCKOUT != 0,
        storage: chip.storage(None)?.name,
    })
}

/// Tries that are left until the TPM locks itself.
///
/// # Errors
/// The TPM's.
pub fn tries_left(chip: &mut Chip) -> Result<u32, ChipError> {
    let most = property(chip, PropertyTag::MaxAuthFail)?;
    Ok(most.saturating_sub(property(chip, PropertyTag::LockoutCounter)?))
}

/// Asked each time: `Context::get_tpm_property` would remember the first answer.
fn property(chip: &mut Chip, wanted: PropertyTag) -> Result<u32, ChipError> {
    let (answer, _more) = chip.patiently(|context| {
        context.get_capability(CapabilityType::TpmProperties, wanted.into(), 1)
    })?;
    let CapabilityData::TpmProperties(list) = answer else { return Err(ChipError::unfit()) };
    list.find(wanted).map(TaggedProperty::value).ok_or(ChipError::unfit())
}
