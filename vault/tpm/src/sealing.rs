//! Sealing 32 bytes under a policy, and unsealing them.
//!
//! ```text
//! machine   PolicyPCR(registers as they are) [PolicyAuthValue: the PIN, which counts towards the lock-out]
//! moment    PolicyNV(counter == value)
//! blob      private area, with its length ‖ public area, with its length
//! ```
//!
//! Invariant: the policy of what is sealed is computed here, from registers that came through an authentic session.

use strongroom_protocol::SecretBytes;
use strongroom_protocol::tpm::{Blob, Counter, PcrSet, Policy};
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{Auth, Digest, Private, Public, SensitiveData};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

use crate::chip::{Chip, ChipError, Duty, Kind, Storage};
use crate::counter;
use crate::policy_nv::policy_nv;
use crate::template::{self, DIGEST_BYTES, digest, full_name, selection, selection_bytes};

/// A TPM answers at most so many registers at once.
const REGISTERS_AT_ONCE: usize = 8;
/// `TPM_CC_PolicyPCR`, `TPM_CC_PolicyAuthValue` and `TPM_CC_PolicyNV`, as they enter a policy.
const POLICY_PCR: [u8; 4] = [0, 0, 0x01, 0x7F];
const POLICY_AUTH_VALUE: [u8; 4] = [0, 0, 0x01, 0x6B];
const POLICY_NV: [u8; 4] = [0, 0, 0x01, 0x49];

/// Seals bytes.
///
/// # Errors
/// The TPM's.
pub fn seal(
    chip: &mut Chip,
    storage: &Storage,
    (key, policy): (&SecretBytes, &Policy),
) -> Result<Blob, ChipError> {
    let session = chip.session(storage, Kind::Hmac)?;
    let (digest, pin) = match policy {
        Policy::Machine { pcrs, pin } => {
            let registers = registers(chip, session, *pcrs)?;
            (machine_policy(*pcrs, &registers, pin.is_some()), pin.as_ref())
        }
        Policy::Moment { counter, value } => (moment_policy(counter, *value), None),
    };
    let public = template::sealed(&digest, pin.is_some())?;
    let pin = pin.map(|pin| pin.expose(|pin| Auth::try_from(pin))).transpose()?;
    let key = key.expose(|key| SensitiveData::try_from(key))?;
    let made = chip.with(session, Duty::Encrypt, |context| {
        let (public, pin, key) = (public.clone(), pin.clone(), Some(key.clone()));
        context.create(storage.key, public, pin, key, None, None)
    })?;
    let mut blob = Vec::new();
    for part in [made.out_private.value(), &made.out_public.marshall()?] {
        let length = u16::try_from(part.len()).map_err(|_| ChipError::unfit())?;
        blob.extend_from_slice(&length.to_be_bytes());
        blob.extend_from_slice(part);
    }
    Ok(Blob(blob))
}

/// Unseals bytes.
///
/// # Errors
/// The TPM's: `POLICY_FAIL` when the registers are others, `POLICY` when the counter is elsewhere, `AUTH_FAIL` when the PIN is
/// wrong.
pub fn unseal(
    chip: &mut Chip,
    storage: &Storage,
    (blob, policy): (&Blob, &Policy),
) -> Result<SecretBytes, ChipError> {
    let object = load(chip, storage, blob)?;
    let session = chip.session(storage, Kind::Policy)?;
    let steps = PolicySession::try_from(session)?;
    match policy {
        Policy::Machine { pcrs, pin } => {
            // Without a digest the TPM takes the registers as they are.
            let set = selection(*pcrs)?;
            chip.patiently(|context| context.policy_pcr(steps, Digest::default(), set.clone()))?;
            if let Some(pin) = pin {
                chip.patiently(|context| context.policy_auth_value(steps))?;
                let pin = pin.expose(|pin| Auth::try_from(pin))?;
                chip.patiently(|context| context.tr_set_auth(object.into(), pin.clone()))?;
            }
        }
        Policy::Moment { counter, value } => {
            let index = counter::open(chip, counter)?;
            let reader = chip.session(storage, Kind::Hmac)?;
            chip.with(reader, Duty::Authorize, |context| {
                policy_nv(context, (index, *value), (steps, reader))
            })?;
        }
    }
    let key = chip.with(session, Duty::Decrypt, |context| context.unseal(object.into()))?;
    Ok(SecretBytes::copy_from(key.value()))
}

fn load(chip: &mut Chip, storage: &Storage, blob: &Blob) -> Result<KeyHandle, ChipError> {
    let (private, rest) = sized(&blob.0).ok_or(ChipError::unfit())?;
    let (public, rest) = sized(rest).ok_or(ChipError::unfit())?;
    if !rest.is_empty() {
        return Err(ChipError::unfit());
    }
    let (private, public) = (Private::try_from(private)?, Public::unmarshall(public)?);
    let session = chip.session(storage, Kind::Hmac)?;
    let object = chip.with(session, Duty::Authorize, |context| {
        context.load(storage.key, private.clone(), public.clone())
    })?;
    chip.hold(object);
    Ok(object)
}

/// Bytes with their length before them, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// The registers as they are now.
fn registers(chip: &mut Chip, session: AuthSession, pcrs: PcrSet) -> Result<Vec<u8>, ChipError> {
    let numbers: Vec<u8> = pcrs.numbers().collect();
    let mut values = Vec::new();
    for some in numbers.chunks(REGISTERS_AT_ONCE) {
        let wanted = selection(PcrSet::of(some).map_err(|_| ChipError::unfit())?)?;
        let (_updates, told, digests) =
            chip.with(session, Duty::Audit, |context| context.pcr_read(wanted.clone()))?;
        let sound = |value: &Digest| value.len() == DIGEST_BYTES;
        if told != wanted || digests.len() != some.len() || !digests.value().iter().all(sound) {
            return Err(ChipError::unfit());
        }
        digests.value().iter().for_each(|value| values.extend_from_slice(value));
    }
    Ok(values)
}

fn machine_policy(pcrs: PcrSet, registers: &[u8], pin: bool) -> [u8; DIGEST_BYTES] {
    let values = digest(&[registers]);
    let policy = digest(&[&[0; DIGEST_BYTES], &POLICY_PCR, &selection_bytes(pcrs), &values]);
    if pin { digest(&[&policy, &POLICY_AUTH_VALUE]) } else { policy }
}

fn moment_policy(counter: &Counter, value: u64) -> [u8; DIGEST_BYTES] {
    // Offset 0, operation 0: equal.
    let arguments = digest(&[&value.to_be_bytes(), &[0, 0], &[0, 0]]);
    digest(&[&[0; DIGEST_BYTES], &POLICY_NV, &arguments, &full_name(counter.name)])
}

#[cfg(test)]
mod tests {
    use super::sized;

    #[test]
    fn a_length_never_reaches_beyond_its_bytes() {
        assert_eq!(sized(b"\0\x02abc"), Some((&b"ab"[..], &b"c"[..])));
        for bad in [&b""[..], b"\0", b"\0\x01", b"\xff\xffabc"] {
            assert_eq!(sized(bad), None);
        }
    }
}
