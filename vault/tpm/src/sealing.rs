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

use crate::chip::{Chip, ChipError, Command, Kind, Storage, storage_name, without_secret};
use crate::session::{Duty, Session, Work};
use crate::wire::{
    Code, DIGEST_BYTES, KEYEDHASH, Malformed, NO_ALGORITHM, Reader, SHA256, Writer, digest,
    full_name, name_of, pcr_selection,
};

/// Fixed to the TPM and its parent; used by policy only.
const SEALED: u32 = 0x0000_0012;
/// Failures do not count towards the lock-out.
const NO_LOCK_OUT: u32 = 0x0000_0400;
/// A TPM answers at most so many registers at once.
const REGISTERS_AT_ONCE: usize = 8;

/// Seals bytes.
///
/// # Errors
/// The TPM's.
pub fn seal(
    chip: &mut Chip,
    storage: &Storage,
    (key, policy): (&SecretBytes, &Policy),
) -> Result<Blob, ChipError> {
    let mut session = chip.session(storage, Kind::Hmac)?;
    let (digest, attributes) = match policy {
        Policy::Machine { pcrs, pin } => {
            let registers = registers(chip, &mut session, *pcrs)?;
            let attributes = if pin.is_some() { SEALED } else { SEALED | NO_LOCK_OUT };
            (machine_policy(*pcrs, &registers, pin.is_some()), attributes)
        }
        Policy::Moment { counter, value } => (moment_policy(counter, *value), SEALED | NO_LOCK_OUT),
    };
    let public = Writer::new()
        .u16s(&[KEYEDHASH, SHA256])
        .u32s(&[attributes])
        .sized(&digest)
        .u16s(&[NO_ALGORITHM])
        .sized(&[]);
    let sensitive =
        with_secret(policy, |secret| key.expose(|key| Writer::new().sized(secret).sized(key)));
    let parameters =
        Writer::new().sized(sensitive.bytes()).sized(public.bytes()).sized(&[]).u32s(&[0]);
    let name = storage_name(storage);
    let command = Command { code: Code::Create, handles: &[(storage.handle, &name)], parameters };
    let reply = chip.with_session(&mut session, command, without_secret(Duty::Encrypt))?;
    let mut reader = Reader(&reply.parameters);
    let (private, public) = (reader.sized()?, reader.sized()?);
    Ok(Blob(Writer::new().sized(private).sized(public).bytes().to_vec()))
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
    let mut reader = Reader(&blob.0);
    let (private, public) = (reader.sized()?, reader.sized()?);
    reader.end()?;
    let (handle, name) = load(chip, storage, (private, public))?;
    let mut session = chip.session(storage, Kind::Policy)?;
    let shows_secret = satisfy(chip, storage, (&session, policy))?;
    let handles = &[(handle, name.as_slice())];
    let command = Command { code: Code::Unseal, handles, parameters: Writer::new() };
    with_secret(policy, |secret| {
        let work = Work { secret, shows_secret, duty: Duty::Decrypt };
        let reply = chip.with_session(&mut session, command, work)?;
        let mut reader = Reader(&reply.parameters);
        let key = SecretBytes::copy_from(reader.sized()?);
        reader.end()?;
        Ok(key)
    })
}

fn load(
    chip: &mut Chip,
    storage: &Storage,
    (private, public): (&[u8], &[u8]),
) -> Result<(u32, [u8; 34]), ChipError> {
    let mut session = chip.session(storage, Kind::Hmac)?;
    let parameters = Writer::new().sized(private).sized(public);
    let name = storage_name(storage);
    let command = Command { code: Code::Load, handles: &[(storage.handle, &name)], parameters };
    let reply = chip.with_session(&mut session, command, without_secret(Duty::Authorize))?;
    Ok((reply.handle.ok_or(Malformed)?, full_name(name_of(public))))
}

/// Takes the policy's steps; answers whether the PIN is shown.
fn satisfy(
    chip: &mut Chip,
    storage: &Storage,
    (session, policy): (&Session, &Policy),
) -> Result<bool, ChipError> {
    let handles = &[(session.handle, [].as_slice())];
    match policy {
        Policy::Machine { pcrs, pin } => {
            // Without a digest the TPM takes the registers as they are.
            let parameters = Writer::new().sized(&[]).raw(pcr_selection(*pcrs).bytes());
            chip.plain(&Command { code: Code::PolicyPcr, handles, parameters })?;
            if pin.is_some() {
                let parameters = Writer::new();
                chip.plain(&Command { code: Code::PolicyAuthValue, handles, parameters })?;
            }
            Ok(pin.is_some())
        }
        Policy::Moment { counter, value } => {
            let mut reading = chip.session(storage, Kind::Hmac)?;
            let (name, own) = (full_name(counter.name), session.handle.to_be_bytes());
            let handles =
                &[(counter.index, name.as_slice()), (counter.index, &name), (session.handle, &own)];
            let parameters = Writer::new().sized(&value.to_be_bytes()).u16s(&[0, 0]);
            let command = Command { code: Code::PolicyNv, handles, parameters };
            counter.secret.expose(|secret| {
                let work = Work { secret, shows_secret: true, duty: Duty::Authorize };
                chip.with_session(&mut reading, command, work)
            })?;
            Ok(false)
        }
    }
}

/// The registers as they are now.
fn registers(chip: &mut Chip, session: &mut Session, pcrs: PcrSet) -> Result<Vec<u8>, ChipError> {
    let numbers: Vec<u8> = pcrs.numbers().collect();
    let mut values = Vec::new();
    for some in numbers.chunks(REGISTERS_AT_ONCE) {
        let some = PcrSet::of(some).map_err(|_| Malformed)?;
        let parameters = Writer::new().raw(pcr_selection(some).bytes());
        let command = Command { code: Code::PcrRead, handles: &[], parameters };
        let reply = chip.with_session(session, command, without_secret(Duty::Audit))?;
        let mut reader = Reader(&reply.parameters);
        let _updates = reader.u32()?;
        if reader.raw(pcr_selection(some).bytes().len())? != pcr_selection(some).bytes() {
            return Err(Malformed.into());
        }
        for _ in 0..reader.u32()?.min(24) {
            let value = reader.sized()?;
            if value.len() != DIGEST_BYTES {
                return Err(Malformed.into());
            }
            values.extend_from_slice(value);
        }
        reader.end()?;
    }
    if values.len() == numbers.len().saturating_mul(DIGEST_BYTES) {
        Ok(values)
    } else {
        Err(Malformed.into())
    }
}

fn machine_policy(pcrs: PcrSet, registers: &[u8], pin: bool) -> [u8; DIGEST_BYTES] {
    let values = digest(&[registers]);
    let code = Code::PolicyPcr.bytes();
    let policy = digest(&[&[0; DIGEST_BYTES], &code, pcr_selection(pcrs).bytes(), &values]);
    if pin { digest(&[&policy, &Code::PolicyAuthValue.bytes()]) } else { policy }
}

fn moment_policy(counter: &Counter, value: u64) -> [u8; DIGEST_BYTES] {
    // Offset 0, operation 0: equal.
    let arguments = digest(&[&value.to_be_bytes(), &[0, 0], &[0, 0]]);
    let code = Code::PolicyNv.bytes();
    digest(&[&[0; DIGEST_BYTES], &code, &arguments, &full_name(counter.name)])
}

/// Lends the secret of what is sealed: the PIN's, or none.
fn with_secret<T>(policy: &Policy, see: impl FnOnce(&[u8]) -> T) -> T {
    match policy {
        Policy::Machine { pin: Some(pin), .. } => pin.expose(see),
        Policy::Machine { pin: None, .. } | Policy::Moment { .. } => see(&[]),
    }
}
