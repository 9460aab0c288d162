//! What an act on the TPM's seal is refused with, for people.

use strongroom_protocol::operator::{Exit, Fault};
use strongroom_protocol::tpm::Refusal;

use super::Undone;
use crate::acts::fault;
use crate::seal::TpmWayError;
use crate::tpm::link::LinkError;
use crate::tpm::lock::LockError;

pub(super) fn too_few() -> Fault {
    fault(
        "SR-TPM-015",
        "what was brought does not open this vault",
        "bring the passphrase, or a threshold of the shares that are in force",
    )
}

pub(in crate::acts) fn no_helper() -> Fault {
    fault(
        "SR-TPM-013",
        "this keeper was started without a TPM",
        "name it in strongroom.toml ([tpm] tcti = \"device:/dev/tpmrm0\"), then 'strongroom up'",
    )
}

pub(super) fn tpm_way_undone(error: &TpmWayError) -> Undone {
    let fault = tpm_way_fault(error);
    match error {
        TpmWayError::File(_) => Undone::Broken(fault),
        TpmWayError::Way(_) | TpmWayError::UnderWay | TpmWayError::Full | TpmWayError::LastWay => {
            Undone::Refused(fault)
        }
    }
}

fn tpm_way_fault(error: &TpmWayError) -> Fault {
    match error {
        TpmWayError::Full => fault(
            "SR-WAYS-011",
            error.to_string(),
            "remove one that is not used ('strongroom seal-ways remove')",
        ),
        TpmWayError::UnderWay => fault(
            "SR-WAYS-004",
            error.to_string(),
            "enter its shares back ('strongroom share verify'), or give it up ('strongroom seal-ways drop')",
        ),
        TpmWayError::LastWay => fault(
            "SR-WAYS-006",
            error.to_string(),
            "add another way first ('strongroom seal-ways add')",
        ),
        TpmWayError::File(_) | TpmWayError::Way(_) => seal_fault(error),
    }
}

pub(super) fn seal_fault(error: &dyn std::error::Error) -> Fault {
    let next = "look at the disk's free space and health ('strongroom doctor'), then again";
    fault("SR-SEALED-015", error.to_string(), next)
}

/// What the TPM said, and what to do.
pub(in crate::acts) fn lock_fault(error: &LockError) -> Fault {
    let (code, next) = match error {
        LockError::Link(LinkError::Refused(refusal)) => refused(*refusal),
        LockError::Link(LinkError::Silent | LinkError::Unexpected | LinkError::Socket(_)) => (
            "SR-TPM-001",
            "see 'strongroom doctor'; its passphrase or shares open the vault without it",
        ),
        LockError::PinNeeded => ("SR-TPM-009", "run 'strongroom unseal --tpm' and type the PIN"),
        LockError::Moved { .. } => (
            "SR-TPM-005",
            "bring back the newest copy of the vault; its passphrase or shares open this one on the word of who has them",
        ),
        LockError::Malformed => {
            ("SR-TPM-008", "open it with its passphrase or shares, then 'strongroom tpm seal'")
        }
        LockError::Random(_) | LockError::Derive(_) => {
            ("SR-INTERNAL-005", "look at the kernel's log")
        }
    };
    let exit = if error.is_rollback() { Exit::RolledBack } else { Exit::Error };
    let message = match error {
        LockError::Link(LinkError::Refused(Refusal::WrongPin { left })) => wrong_pin(*left),
        LockError::Link(_)
        | LockError::PinNeeded
        | LockError::Moved { .. }
        | LockError::Malformed
        | LockError::Random(_)
        | LockError::Derive(_) => error.to_string(),
    };
    Fault { exit, ..fault(code, message, next) }
}

fn wrong_pin(left: u32) -> String {
    match left {
        0 => "the PIN is wrong; no try is left: the TPM has locked itself".to_owned(),
        1 => "the PIN is wrong; 1 try is left before the TPM locks itself".to_owned(),
        left => format!("the PIN is wrong; {left} tries are left before the TPM locks itself"),
    }
}

fn refused(refusal: Refusal) -> (&'static str, &'static str) {
    let with_shares = "open it with its passphrase or shares, then 'strongroom tpm seal' seals it to what is there now";
    match refusal {
        Refusal::NoTpm => (
            "SR-TPM-001",
            "see 'strongroom doctor'; its passphrase or shares open the vault without it",
        ),
        Refusal::WrongPin { .. } => {
            ("SR-TPM-002", "try again; its passphrase or shares open the vault without it")
        }
        Refusal::LockedOut => (
            "SR-TPM-003",
            "wait ('strongroom tpm status' says how long), or open it with its passphrase or shares",
        ),
        Refusal::PcrChanged => ("SR-TPM-004", with_shares),
        Refusal::CounterMoved => (
            "SR-TPM-005",
            "bring back the newest copy of the vault; its passphrase or shares open this one on the word of who has them",
        ),
        Refusal::AnotherTpm | Refusal::CounterGone => ("SR-TPM-006", with_shares),
        Refusal::OutOfSlots => (
            "SR-TPM-007",
            "use the kernel's resource manager (/dev/tpmrm0), or flush other programs'",
        ),
        Refusal::Owned => (
            "SR-TPM-016",
            "clear the owner's password (tpm2_changeauth -c owner -p OLD), then again",
        ),
        Refusal::Forged | Refusal::Malformed | Refusal::Other { .. } => {
            ("SR-TPM-008", "try again; its passphrase or shares open the vault without it")
        }
    }
}
