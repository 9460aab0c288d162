//! Shares on their way to their holders: age files for X25519 recipients, and back.
//!
//! Invariant: a share is encrypted here, to a key that the keeper never sees; only `age1…` recipients are taken.
//! Invariant: what is decrypted is wiped.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::x25519;
use sha2::{Digest, Sha256};
use strongroom_policy::name::Label;
use zeroize::Zeroizing;

use crate::failure::{Code, Failure, Outcome};
use crate::prompt::Typed;

/// Longest file of a share or an identity: a share is below 200 bytes, an age header below 1 KiB.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Files that are looked at where none is named.
const MAX_FILES: usize = 64;

/// Somebody who is given a share.
#[derive(Debug, Clone)]
pub(crate) struct Recipient {
    /// Who.
    pub(crate) holder: Label,
    key: x25519::Recipient,
}

impl FromStr for Recipient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, key) =
            text.split_once('=').ok_or_else(|| "write NAME=age1…, as in alice=age1…".to_owned())?;
        let in_file_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.starts_with('.') || !name.chars().all(in_file_names) {
            return Err("a holder's name has letters, digits, '-', '_' and '.'".to_owned());
        }
        let holder = Label::parse(name).map_err(|error| error.to_string())?;
        let key = key
            .parse()
            .map_err(|error| format!("{name}: not an age recipient of the form age1…: {error}"))?;
        Ok(Self { holder, key })
    }
}

impl Recipient {
    /// The share as an age file.
    pub(crate) fn encrypt(&self, share: &[u8]) -> Outcome<Vec<u8>> {
        age::encrypt(&self.key, share).map_err(|error| Failure::new(Code::Files, error.to_string()))
    }

    /// Whether two of them have one key.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.key.to_string() == other.key.to_string()
    }
}

/// Names a share without telling anything of it: of its 256 uniform bits these are 64 of a digest.
pub(crate) fn fingerprint(share: &[u8]) -> String {
    let digest = Sha256::digest(share);
    hex::encode(digest.get(..8).unwrap_or_default())
}

/// Decrypts a share with an identity's file; where no file of a share is named, the first of this directory that opens.
pub(crate) fn decrypt(identity: &Path, share: Option<&Path>) -> Outcome<Typed> {
    let identities = identities(identity)?;
    let open = |path: &Path| -> Outcome<Option<Typed>> {
        let sealed = read(path)?;
        let opened = identities.iter().find_map(|one| age::decrypt(one, &sealed).ok());
        Ok(opened.map(|share| Typed::of(Zeroizing::new(share).trim_ascii())))
    };
    if let Some(path) = share {
        return open(path)?.ok_or_else(|| {
            let what = format!("{} is not encrypted to this identity", path.display());
            Failure::new(Code::NoSecret, what).next("name your own file: --share-file FILE")
        });
    }
    for path in share_files()? {
        if let Some(typed) = open(&path)? {
            return Ok(typed);
        }
    }
    let what = "no share-*.age in this directory is encrypted to this identity";
    Err(Failure::new(Code::NoSecret, what).next("name it: --share-file FILE"))
}

fn share_files() -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(".").map_err(|error| Failure::file(Path::new("."), error))?;
    let is_share = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("share-") && path.extension().is_some_and(|end| end == "age")
    };
    let mut found: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(is_share).take(MAX_FILES).collect();
    found.sort();
    Ok(found)
}

fn identities(path: &Path) -> Outcome<Vec<x25519::Identity>> {
    let bytes = Zeroizing::new(read(path)?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::new(Code::NoSecret, format!("{} is not text", path.display())))?;
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parsed: Vec<_> = keys.filter_map(|line| line.parse().ok()).collect();
    if parsed.is_empty() {
        let what = format!("{} has no age identity of the form AGE-SECRET-KEY-1…", path.display());
        return Err(Failure::new(Code::NoSecret, what).next("make one: age-keygen -o FILE"));
    }
    Ok(parsed)
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let failed = |error| Failure::file(path, error);
    let mut bytes = Vec::with_capacity(4096);
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret;

    use super::*;

    const SHARE: &[u8] = b"srs1-05w6y0cg-jy2sa18m-d2mejabv";

    fn identity(directory: &Path, name: &str) -> (PathBuf, Recipient) {
        let key = x25519::Identity::generate();
        let path = directory.join(name);
        let text = format!("# created: today\n{}\n", key.to_string().expose_secret());
        fs::write(&path, text).unwrap();
        (path, format!("{name}={}", key.to_public()).parse().unwrap())
    }

    #[test]
    fn a_share_goes_to_its_holder_and_to_nobody_else() {
        let scratch = tempfile::tempdir().unwrap();
        let (alice, recipient) = identity(scratch.path(), "alice");
        let (bob, _) = identity(scratch.path(), "bob");
        let file = scratch.path().join("share-1-alice.age");
        let sealed = recipient.encrypt(SHARE).unwrap();
        assert!(sealed.starts_with(b"age-encryption.org/v1"));
        assert!(!sealed.windows(8).any(|window| window == &SHARE[..8]));
        fs::write(&file, &sealed).unwrap();
        let opened = decrypt(&alice, Some(&file)).unwrap();
        assert_eq!(opened.lend(<[u8]>::to_vec), SHARE);
        assert!(decrypt(&bob, Some(&file)).is_err());
        let mut altered = sealed;
        *altered.last_mut().unwrap() ^= 1;
        fs::write(&file, altered).unwrap();
        assert!(decrypt(&alice, Some(&file)).is_err());
    }

    #[test]
    fn only_x25519_recipients_with_a_plain_name_are_taken() {
        let key = x25519::Identity::generate().to_public().to_string();
        assert!(format!("alice={key}").parse::<Recipient>().is_ok());
        for bad in [
            key.clone(),
            format!("={key}"),
            format!("../alice={key}"),
            format!(".alice={key}"),
            format!("a b={key}"),
            "alice=ssh-ed25519 AAAA".to_owned(),
            "alice=age1qqqq".to_owned(),
        ] {
            assert!(bad.parse::<Recipient>().is_err(), "{bad}");
        }
    }
}
