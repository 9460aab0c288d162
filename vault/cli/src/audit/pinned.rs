//! Whose signatures count: the key that signs checkpoints, pinned when the vault was made, and the keys of witnesses.
//!
//! Invariant: no key is taken from the journal that is being audited.

use std::path::{Path, PathBuf};

use clap::Args;
use strongroom_protocol::operator::{Answer, Request};
use strongroom_tlog::Verifier;
use strongroom_tlog::cosignature::WitnessKey;

use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::link::Link;

/// The first line of the file.
const HEADING: &str = "strongroom audit key 1";

/// Which key must have signed.
#[derive(Debug, Args)]
pub(crate) struct Signer {
    /// The verifier key that must have signed, as name+id+base64
    #[arg(long, value_name = "VKEY", conflicts_with = "pin", value_parser = Verifier::parse)]
    signed_by: Option<Verifier>,
    /// The file in which it was pinned [default: audit.pub of this install]
    #[arg(long, value_name = "FILE")]
    pin: Option<PathBuf>,
}

impl Signer {
    /// The key.
    pub(crate) fn key(&self, desk: &Desk) -> Outcome<Verifier> {
        match (&self.signed_by, &self.pin) {
            (Some(key), _) => Ok(key.clone()),
            (None, Some(pin)) => read(pin)?.ok_or_else(|| missing(pin)),
            (None, None) => {
                let pin = desk.places.audit_pin();
                read(&pin)?.ok_or_else(|| missing(&pin))
            }
        }
    }
}

fn missing(pin: &Path) -> Failure {
    let what = format!("{} does not exist: no audit key is pinned", pin.display());
    Failure::new(Code::AuditPin, what)
        .next("copy audit.pub from where the vault was made, and name it with --pin; a key that lies beside the journal proves nothing")
}

/// Pins the key of the running vault.
pub(crate) fn of_running(path: &Path, link: &mut Link) -> Outcome<Verifier> {
    let Answer::AuditKey(vkey) = link.ask(&Request::AuditKey)? else {
        return Err(Failure::unexpected());
    };
    let key = Verifier::parse(&vkey).map_err(|_| Failure::unexpected())?;
    write(path, &key)?;
    Ok(key)
}

/// Reads a verifier key of a witness, for clap.
pub(crate) fn witness(text: &str) -> Result<WitnessKey, strongroom_tlog::key::BadKey> {
    WitnessKey::parse(text)
}

/// The pinned key.
pub(crate) fn read(path: &Path) -> Outcome<Option<Verifier>> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let bad = |why: String| {
        Failure::new(Code::AuditPin, format!("{} is not a pinned audit key: {why}", path.display()))
    };
    let vkey = text.trim_end().strip_prefix(HEADING).and_then(|rest| rest.strip_prefix('\n'));
    let vkey = vkey.ok_or_else(|| bad(format!("its first line is not `{HEADING}`")))?;
    Ok(Some(Verifier::parse(vkey).map_err(|error| bad(error.to_string()))?))
}

/// Pins a key, unless another one is pinned.
pub(crate) fn write(path: &Path, key: &Verifier) -> Outcome {
    match read(path)? {
        Some(pinned) if pinned == *key => Ok(()),
        Some(pinned) => {
            let what = format!("{} pins {}, not {}", path.display(), pinned.vkey(), key.vkey());
            Err(Failure::new(Code::AuditPin, what)
                .next("find out who answers on the operator's socket; was the vault made anew?"))
        }
        None => {
            files::replace(path, format!("{HEADING}\n{}\n", key.vkey()).as_bytes(), 0o644, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_tlog::key::Name;
    use strongroom_tlog::{Signer, Verifier};

    use super::{read, write};

    fn key(seed: u8) -> Verifier {
        Signer::from_seed(Name::parse("log").unwrap(), &[seed; 32]).unwrap().verifier()
    }

    #[test]
    fn a_pin_reads_back_stays_and_damage_is_seen() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("audit.pub");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, &key(1)).unwrap();
        write(&path, &key(1)).unwrap();
        assert_eq!(write(&path, &key(2)).unwrap_err().code, "SR-AUDIT-001");
        assert_eq!(read(&path).unwrap(), Some(key(1)));
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in ["", "x\n", &text[..text.len() - 3], &text.replace("key 1", "key 2")] {
            std::fs::write(&path, bad).unwrap();
            assert!(read(&path).is_err(), "{bad}");
        }
    }
}
