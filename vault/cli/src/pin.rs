//! `vault.pub`: the vault's public key as it was when the vault was made.
//!
//! Invariant: a provider's key is sealed to the pinned key and to no other.

use std::path::Path;

use strongroom_protocol::operator::{Answer, Request, Status};
use strongroom_protocol::upload::VaultKey;

use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::link::Link;

/// The first line of the file.
const HEADING: &str = "strongroom vault key 1";

/// Pins the key of a vault that was just made.
pub(crate) fn write(path: &Path, key: &VaultKey) -> Outcome {
    files::replace(path, format!("{HEADING}\n{}\n", hex::encode(key.0)).as_bytes(), 0o644, None)
}

/// The pinned key.
pub(crate) fn read(path: &Path) -> Outcome<Option<VaultKey>> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let bad = || Failure::new(Code::Pin, format!("{} is not a pinned vault key", path.display()));
    let (heading, digits) = text.trim_end().split_once('\n').ok_or_else(bad)?;
    let mut key = [0_u8; 32];
    hex::decode_to_slice(digits, &mut key).map_err(|_| bad())?;
    if heading == HEADING { Ok(Some(VaultKey(key))) } else { Err(bad()) }
}

/// The pinned key, once the open vault has shown the same one.
pub(crate) fn verified(path: &Path, link: &mut Link) -> Outcome<VaultKey> {
    let pinned = read(path)?.ok_or_else(|| {
        Failure::new(Code::Pin, format!("{} is missing: the vault is not pinned", path.display()))
            .next("copy vault.pub from where the vault was made; do not take it from elsewhere")
    })?;
    let Answer::Status(status) = link.ask(&Request::Status)? else {
        return Err(Failure::unexpected());
    };
    compare(pinned, &status)
}

fn compare(pinned: VaultKey, status: &Status) -> Outcome<VaultKey> {
    match &status.vault_key {
        Some(key) if *key == pinned => Ok(pinned),
        Some(_) => {
            Err(Failure::new(Code::Pin, "this vault's key is not the pinned one; nothing was sent")
                .next("find out who answers on the operator's socket; was the vault made anew?"))
        }
        None => Err(Failure::new(Code::Pin, "the vault is sealed and cannot show its key")
            .next("strongroom unseal")
            .exit(2)),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::ask::VaultState;
    use strongroom_protocol::operator::Status;
    use strongroom_protocol::upload::VaultKey;

    use super::{compare, read, write};

    fn status(vault_key: Option<VaultKey>) -> Status {
        Status {
            state: VaultState::Ready,
            unsealing: None,
            seal: None,
            vault_key,
            courier: false,
            courier_defined: false,
            gateway: false,
            journal_entries: 0,
            credentials: 0,
            fault: None,
            old_records: 0,
            awaited: None,
            incoming: false,
            sealed_by_operator: false,
        }
    }

    #[test]
    fn a_pin_reads_back_and_damage_is_seen() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("vault.pub");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, &VaultKey([7; 32])).unwrap();
        assert_eq!(read(&path).unwrap(), Some(VaultKey([7; 32])));
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in ["", "x\n00\n", &text[..text.len() - 3], &text.replace('1', "2")] {
            std::fs::write(&path, bad).unwrap();
            assert!(read(&path).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_key_than_the_pinned_one_is_refused() {
        let pinned = || VaultKey([7; 32]);
        assert!(compare(pinned(), &status(Some(pinned()))).is_ok());
        let other = compare(pinned(), &status(Some(VaultKey([8; 32])))).unwrap_err();
        assert_eq!(other.code, "SR-CLI-007");
        assert_eq!(compare(pinned(), &status(None)).unwrap_err().exit, 2);
    }
}
