//! What opens the vault, on its way in: a passphrase or a share, typed, piped, or decrypted from an age file.
//!
//! Invariant: no secret comes from the command line or the environment.

use std::path::PathBuf;

use clap::Args;
use strongroom_protocol::operator::sealing::{LockRow, WayRow, WayStanding};
use strongroom_protocol::operator::{Answer, Request, UnsealWith};

use crate::arguments::{Dash, OnlyDash};
use crate::environment::quote;
use crate::failure::{Failure, Outcome};
use crate::holders;
use crate::link::Link;
use crate::prompt::{self, Typed};

/// Where one part comes from.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// `-` reads the passphrase or share from standard input
    #[arg(id = "source", value_name = "SOURCE", value_parser = OnlyDash)]
    dash: Option<Dash>,
    /// Read the passphrase or share from this descriptor
    #[arg(long, value_name = "N", conflicts_with = "source")]
    share_fd: Option<u32>,
    /// Decrypt the share with the age identity in this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "share_fd"])]
    age_identity: Option<PathBuf>,
    /// The encrypted share [default: the share-*.age of this directory that the identity opens]
    #[arg(long, value_name = "FILE", requires = "age_identity")]
    share_file: Option<PathBuf>,
}

/// What a share begins with.
const SHARE: &[u8] = b"srs1";

impl Source {
    /// Reads the part.
    pub(crate) fn read(&self, prompt: &str) -> Outcome<Typed> {
        match (self.dash, self.share_fd, &self.age_identity) {
            (_, _, Some(identity)) => holders::decrypt(identity, self.share_file.as_deref()),
            (Some(Dash), _, None) => prompt::standard_input(),
            (None, Some(number), None) => prompt::descriptor(number),
            (None, None, None) => prompt::secret(prompt),
        }
    }

    /// The words that say so.
    pub(crate) fn words(&self) -> Vec<String> {
        let file = |name: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| format!("{name} {}", quote(&path.to_string_lossy())))
        };
        let mut words: Vec<_> = self.dash.iter().map(|Dash| "-".to_owned()).collect();
        words.extend(self.share_fd.map(|number| format!("--share-fd {number}")));
        words.extend(file("--age-identity", &self.age_identity));
        words.extend(file("--share-file", &self.share_file));
        words
    }

    /// Whether somebody at a terminal is asked.
    pub(crate) fn is_prompt(&self) -> bool {
        self.dash.is_none()
            && self.share_fd.is_none()
            && self.age_identity.is_none()
            && prompt::is_attended()
    }
}

/// The ways into the vault.
pub(crate) fn ways(link: &mut Link) -> Outcome<Vec<WayRow>> {
    match link.ask(&Request::Ways)? {
        Answer::Ways(ways) => Ok(ways),
        _ => Err(Failure::unexpected()),
    }
}

/// Tells a share from a passphrase: by how it begins, and by what the vault has at all.
pub(crate) fn part(typed: &Typed, ways: &[WayRow]) -> UnsealWith {
    let begins = typed.lend(|typed| {
        typed.trim_ascii().get(..SHARE.len()).is_some_and(|start| start.eq_ignore_ascii_case(SHARE))
    });
    let mut locks = ways.iter().flat_map(|way| &way.locks);
    let has_passphrase = locks.any(|lock| *lock == LockRow::Passphrase);
    if begins || !has_passphrase {
        UnsealWith::Share(typed.message())
    } else {
        UnsealWith::Passphrase(typed.message())
    }
}

/// How a part is asked for.
pub(crate) fn question(ways: &[WayRow]) -> &'static str {
    let mut locks = ways.iter().flat_map(|way| &way.locks);
    let has = |wanted: fn(&LockRow) -> bool| locks.clone().any(wanted);
    let passphrase = has(|lock| *lock == LockRow::Passphrase);
    let shares = locks.any(|lock| matches!(lock, LockRow::Shares { .. }));
    match (passphrase, shares) {
        (true, true) => "Passphrase or one share (hidden): ",
        (false, true) => "One share (hidden): ",
        (true | false, false) => "Passphrase (hidden): ",
    }
}

/// Everything that opens the vault by one of its ways, for a change that needs it anew.
#[derive(Debug, Args)]
pub(crate) struct Proof {
    /// Prove it by this way of `seal-ways list` [default: the first without a TPM]
    #[arg(long, value_name = "WAY")]
    by: Option<u32>,
    /// Read its parts from this descriptor, one a line
    #[arg(long, value_name = "N")]
    proof_fd: Option<u32>,
}

impl Proof {
    /// Reads all parts.
    pub(crate) fn read(&self, ways: &[WayRow]) -> Outcome<Vec<UnsealWith>> {
        let mut standing = ways.iter().filter(|way| way.standing == WayStanding::InForce);
        let needs_a_tpm =
            |way: &WayRow| way.locks.iter().any(|lock| matches!(lock, LockRow::Tpm { .. }));
        let way = standing.find(|way| self.by.map_or(!needs_a_tpm(way), |by| by == way.id));
        let way = way.ok_or_else(|| {
            Failure::argument("there is no such way").next("strongroom seal-ways list")
        })?;
        let mut parts = Vec::new();
        for lock in &way.locks {
            match lock {
                LockRow::Passphrase => {
                    let typed = self.next("Passphrase that opens the vault now (hidden): ")?;
                    parts.push(UnsealWith::Passphrase(typed.message()));
                }
                LockRow::Shares { threshold, .. } => {
                    for number in 1..=*threshold {
                        let prompt =
                            format!("Share {number} of {threshold} that open it now (hidden): ");
                        parts.push(UnsealWith::Share(self.next(&prompt)?.message()));
                    }
                }
                LockRow::Tpm { .. } => {
                    return Err(Failure::argument(
                        "a TPM alone proves nobody: prove it by another way",
                    )
                    .next("--by WAY, as in strongroom seal-ways list"));
                }
            }
        }
        Ok(parts)
    }

    /// What the TPM is shown, so that a rotation takes its way along; nothing where no way leads over one alone.
    pub(crate) fn tpm(&self, ways: &[WayRow]) -> Outcome<Option<UnsealWith>> {
        let standing = ways.iter().filter(|way| way.standing == WayStanding::InForce);
        let pin = standing.map(|way| way.locks.as_slice()).find_map(|locks| match locks {
            [LockRow::Tpm { pin }] => Some(*pin),
            _ => None,
        });
        match pin {
            None => Ok(None),
            Some(false) => Ok(Some(UnsealWith::Tpm(None))),
            Some(true) => {
                let typed = self.next("PIN of the TPM (hidden): ")?;
                Ok(Some(UnsealWith::Tpm(Some(typed.message()))))
            }
        }
    }

    fn next(&self, prompt: &str) -> Outcome<Typed> {
        match self.proof_fd {
            Some(number) => prompt::descriptor(number),
            None => prompt::secret(prompt),
        }
    }
}
