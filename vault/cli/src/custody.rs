//! What a vault is to be opened by: the locks that are wished for, and the shares on their way to their holders.
//!
//! Invariant: a share is written to a file that did not exist, 0600, or shown once; never both.
//! Invariant: shares in clear are made only for who typed that they want that.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use strongroom_policy::name::Label;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::SealWish;
use strongroom_protocol::operator::sealing::{LockRow, WayRow, WayStanding};

use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::holders::{Recipient, fingerprint};
use crate::init::new_passphrase;
use crate::out::{self, Form};
use crate::prompt;

/// What must be typed before shares are made in clear.
const CONFIRMATION: &str = "plain shares";

/// The locks that are wished for.
#[derive(Debug, Args)]
pub(crate) struct Locks {
    /// What opens the vault; may be given twice [default: shares if they are spoken of, else passphrase]
    #[arg(long, value_enum)]
    seal: Vec<Seal>,
    /// Whether any one of them opens it, or all together
    #[arg(long, value_enum, default_value_t = Policy::AnyOf)]
    policy: Policy,
    #[command(flatten)]
    making: Making,
}

/// How passphrases and shares are made and handed out.
#[derive(Debug, Args)]
pub(crate) struct Making {
    /// How many shares are made [default: one for each recipient, else 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=16))]
    shares: Option<u8>,
    /// How many of them are needed [default: more than half]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(2..=16))]
    threshold: Option<u8>,
    /// A holder and the age key that the share is encrypted to, as in alice=age1…; repeated
    #[arg(long, value_name = "NAME=AGE1", conflicts_with = "plain_shares")]
    recipient: Vec<Recipient>,
    /// Make shares in clear, after a typed confirmation
    #[arg(long)]
    plain_shares: bool,
    /// Where the files of the shares go; without it shares in clear are printed [default for age files: here]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Read a new passphrase from this descriptor
    #[arg(long, value_name = "N")]
    passphrase_fd: Option<u32>,
}

/// A kind of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Seal {
    /// One passphrase: installs of one person
    Passphrase,
    /// Shares, a threshold of which is needed
    Shares,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Each of them opens the vault
    AnyOf,
    /// All of them are needed
    AllOf,
}

/// The locks, checked: what is asked of the keeper, and where the shares go.
pub(crate) struct Wish {
    /// The ways, any of which opens.
    pub(crate) ways: Vec<Vec<SealWish>>,
    delivery: Option<Delivery>,
}

struct Delivery {
    threshold: u8,
    recipients: Vec<Recipient>,
    files: Vec<PathBuf>,
}

impl Locks {
    /// Checks the wish, reads a new passphrase, and makes sure that no file is in the way.
    pub(crate) fn wish(&self, form: Form) -> Outcome<Wish> {
        let mut seals = self.seal.clone();
        if seals.is_empty() {
            seals.push(if self.making.speaks_of_shares() {
                Seal::Shares
            } else {
                Seal::Passphrase
            });
        }
        if (1..seals.len()).any(|at| seals.iter().take(at).any(|one| seals.get(at) == Some(one))) {
            return Err(Failure::argument("name each kind of seal once"));
        }
        let (locks, delivery) = self.making.locks(seals, form)?;
        let ways = match self.policy {
            Policy::AllOf => vec![locks],
            Policy::AnyOf => locks.into_iter().map(|lock| vec![lock]).collect(),
        };
        Ok(Wish { ways, delivery })
    }
}

impl Making {
    /// One way of this lock alone.
    pub(crate) fn wish(&self, seal: Seal, form: Form) -> Outcome<Wish> {
        let (locks, delivery) = self.locks(vec![seal], form)?;
        Ok(Wish { ways: vec![locks], delivery })
    }

    fn speaks_of_shares(&self) -> bool {
        self.shares.is_some() || self.plain_shares || !self.recipient.is_empty()
    }

    fn locks(&self, seals: Vec<Seal>, form: Form) -> Outcome<(Vec<SealWish>, Option<Delivery>)> {
        let (mut locks, mut delivery) = (Vec::new(), None);
        for seal in seals {
            locks.push(match seal {
                Seal::Passphrase => {
                    SealWish::Passphrase(new_passphrase(self.passphrase_fd)?.message())
                }
                Seal::Shares => {
                    let (count, threshold) = self.numbers()?;
                    let holders = self.holders()?;
                    delivery = Some(self.delivery(count, threshold, form)?);
                    SealWish::Shares { threshold, count, holders }
                }
            });
        }
        Ok((locks, delivery))
    }

    fn numbers(&self) -> Outcome<(u8, u8)> {
        let recipients = u8::try_from(self.recipient.len()).unwrap_or(u8::MAX);
        let count = self.shares.unwrap_or(if recipients == 0 { 5 } else { recipients });
        if recipients != 0 && recipients != count {
            let what = format!("{count} shares need {count} recipients, these are {recipients}");
            return Err(Failure::argument(what));
        }
        let threshold = self.threshold.unwrap_or(count / 2 + 1);
        if threshold > count || threshold < 2 || count > 16 {
            let what = format!("{threshold} of {count} shares can never be there");
            return Err(Failure::argument(what).next("2 <= threshold <= shares <= 16"));
        }
        Ok((count, threshold))
    }

    fn holders(&self) -> Outcome<Vec<Label>> {
        for (at, one) in self.recipient.iter().enumerate() {
            let before = self.recipient.iter().take(at);
            for other in before {
                if other.holder == one.holder || other.is_same_key(one) {
                    let (a, b) = (other.holder.as_ref(), one.holder.as_ref());
                    let what = format!("{a} and {b} are one holder: each share has its own");
                    return Err(Failure::argument(what));
                }
            }
        }
        Ok(self.recipient.iter().map(|one| one.holder.clone()).collect())
    }

    fn delivery(&self, count: u8, threshold: u8, form: Form) -> Outcome<Delivery> {
        let recipients = self.recipient.clone();
        if recipients.is_empty() {
            if !self.plain_shares {
                let what = "shares are encrypted to their holders: name them";
                return Err(Failure::argument(what)
                    .next("--recipient alice=age1… for each, or --plain-shares"));
            }
            confirm_plain(form)?;
        }
        let place = match (&self.out, recipients.is_empty()) {
            (Some(place), _) => Some(place.clone()),
            (None, false) => Some(PathBuf::from(".")),
            (None, true) => None,
        };
        let files: Vec<PathBuf> = place.map_or_else(Vec::new, |place| {
            let name = |number: u8| match recipients.get(usize::from(number).wrapping_sub(1)) {
                Some(one) => format!("share-{number}-{}.age", one.holder.as_ref()),
                None => format!("share-{number}.txt"),
            };
            (1..=count).map(|number| place.join(name(number))).collect()
        });
        refuse_existing(&files)?;
        Ok(Delivery { threshold, recipients, files })
    }
}

/// Before anything is made: a share that could not be written would be lost.
fn refuse_existing(files: &[PathBuf]) -> Outcome {
    let place = files.first().and_then(|file| file.parent());
    if let Some(place) = place.filter(|place| !place.exists()) {
        files::directory(place, 0o700)?;
    }
    match files.iter().find(|file| file.exists()) {
        Some(file) => Err(Failure::file(file, "exists; shares are never overwritten")
            .next("name an empty directory: --out DIR")),
        None => Ok(()),
    }
}

fn confirm_plain(form: Form) -> Outcome {
    if form == Form::Text {
        out::say("Shares in clear can be read by whoever sees this screen or these files.");
    }
    let typed = prompt::line_in_clear(&format!("Type '{CONFIRMATION}' to go on: "))?;
    if typed.trim() == CONFIRMATION {
        return Ok(());
    }
    Err(Failure::new(Code::Unconfirmed, "left as it was")
        .next(format!("type '{CONFIRMATION}', or encrypt them: --recipient NAME=age1…")))
}

impl Wish {
    /// Hands the shares out, and says what comes next.
    pub(crate) fn deliver(&self, shares: &[SecretBytes], form: Form) -> Outcome {
        let Some(Delivery { threshold, recipients, files }) = &self.delivery else {
            return Err(Failure::unexpected());
        };
        let mut rows = Vec::new();
        for (at, share) in shares.iter().enumerate() {
            let mark = share.expose(fingerprint);
            let holder = recipients.get(at).map(|one| one.holder.as_ref());
            match (recipients.get(at), files.get(at)) {
                (Some(one), Some(file)) => {
                    let sealed = share.expose(|share| one.encrypt(share))?;
                    files::create(file, &sealed, 0o600)?;
                }
                (None, Some(file)) => write_plain(file, share)?,
                (_, None) => {}
            }
            let file = files.get(at).map(|file| file.display().to_string());
            if form == Form::Text {
                tell(at, (holder, file.as_deref()), &mark);
            }
            let text = file.is_none().then(|| share.expose(text_of));
            let number = at.saturating_add(1);
            rows.push(json!({
                "number": number, "holder": holder, "file": file, "fingerprint": mark, "text": text,
            }));
        }
        if files.is_empty() && form == Form::Text {
            for share in shares {
                share.expose(out::raw);
                out::raw(b"\n");
            }
        }
        if form == Form::Json {
            out::object(json!({"shares": rows, "threshold": threshold, "state": "provisional"}));
        }
        let count = shares.len();
        out::say(&format!(
            "any {threshold} of these {count} are enough; with fewer it is lost for good. They are not kept here.\n\
             They count once {threshold} of them were entered back: strongroom share verify"
        ));
        Ok(())
    }
}

fn write_plain(file: &Path, share: &SecretBytes) -> Outcome {
    share.expose(|share| {
        let mut line = zeroize::Zeroizing::new(Vec::with_capacity(share.len() + 1));
        line.extend_from_slice(share);
        line.push(b'\n');
        files::create(file, &line, 0o600)
    })
}

fn tell(at: usize, (holder, file): (Option<&str>, Option<&str>), mark: &str) {
    let number = at.saturating_add(1);
    let whose = holder.map_or_else(String::new, |holder| format!(" of {holder}"));
    let place = file.map_or_else(String::new, |file| format!(" in {file}"));
    out::say(&format!("share {number}{whose}{place}, fingerprint {mark}"));
}

fn text_of(share: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(share).into_owned())
}

/// A way for people.
pub(crate) fn describe(way: &WayRow) -> String {
    let locks: Vec<String> = way.locks.iter().map(describe_lock).collect();
    let standing = match way.standing {
        WayStanding::InForce => "",
        WayStanding::Incoming => "  (waits: strongroom share verify)",
        WayStanding::Rotation => "  (replaces all others once its shares are entered back)",
    };
    format!("{:>3}  {}{standing}", way.id, locks.join(" and "))
}

fn describe_lock(lock: &LockRow) -> String {
    match lock {
        LockRow::Passphrase => "passphrase".to_owned(),
        LockRow::Shares { threshold, count, holders } => {
            let names: Vec<String> = holders.iter().map(|name| out::plain(name)).collect();
            let who =
                if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            format!("{threshold} of {count} shares{who}")
        }
        LockRow::Tpm { pin: true } => "TPM with PIN".to_owned(),
        LockRow::Tpm { pin: false } => "TPM".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn shares_are_written_for_their_owner_and_never_over_another() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path().join("shares");
        let files = vec![place.join("share-1.txt"), place.join("share-2.txt")];
        refuse_existing(&files).unwrap();
        let wish = Wish {
            ways: Vec::new(),
            delivery: Some(Delivery { threshold: 2, recipients: Vec::new(), files: files.clone() }),
        };
        let shares = [SecretBytes::copy_from(b"one"), SecretBytes::copy_from(b"two")];
        wish.deliver(&shares, Form::Text).unwrap();
        assert_eq!(std::fs::read(&files[1]).unwrap(), b"two\n");
        assert_eq!(std::fs::metadata(&files[1]).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(refuse_existing(&files).is_err());
        assert!(wish.deliver(&shares, Form::Text).is_err());
    }
}
