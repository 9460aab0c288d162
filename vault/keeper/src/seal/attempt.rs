//! The ceremony in which people, and the machine, bring what opens a sealed vault.
//!
//! An attempt collects parts until one way is whole: shares, and for a way of several locks the keys of the others. It has
//! an id that ties its parts together and a time at which it ends. Nobody can throw away, replace or block what others
//! brought: a part is only ever added, parts of different sets and ways lie side by side, and an attempt is abandoned by who
//! brought something to it (strangers cancelled such ceremonies in CVE-2025-4656). Whoever seals the vault ends it too: who may
//! seal could stop what it leads to anyway.
//!
//! A passphrase of a way of several locks is not judged before the others are open, so it is kept per operator: another
//! one's wrong passphrase does not replace the right one.
//!
//! Invariant: a refused part leaves the attempt as it was.
//! Invariant: an attempt holds fewer than k shares of a set, none twice; shares that were combined are wiped.
//! Invariant: when it ends, everything in it is wiped.
//! Distrusts: every part. Time is a parameter.

use std::time::{Duration, Instant};

use strongroom_sys::Secret;

use super::Sealed;
use super::failures::Failures;
use super::file::SealFile;
use super::parts::{Attempt, Held};
use super::passphrase::PassphraseError;
use super::shares::{Combined, Share, ShareRefusal, combine};
use super::way::{LockKind, Way};
use crate::envelope::EnvelopeError;
use crate::keys::{FillRandom, LockKey, RootKey, TpmLockKey, WayId};

/// Which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptId(pub [u8; 8]);

/// Who brings something: a Unix user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bringer(pub u32);

/// What is brought.
pub enum Offer<'a> {
    /// A passphrase.
    Passphrase(&'a Secret),
    /// A share, as it was typed.
    Share(&'a Secret),
    /// The key that the TPM unsealed for a way.
    Tpm(WayId, TpmLockKey),
}

/// The place where at most one attempt runs, and where failures are counted.
#[derive(Debug)]
pub struct Ceremony {
    life: Duration,
    attempt: Option<Attempt>,
    failures: Failures,
}

/// How an attempt stands: shown to everyone who may unseal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub id: AttemptId,
    /// The numbers of the shares that were accepted, of the way that is nearest.
    pub accepted: Vec<u8>,
    /// Whose they are, where that is written down.
    pub holders: Vec<String>,
    /// How many more shares are needed; unknown before the first part, when there are several ways.
    pub missing: Option<u8>,
    /// Which other locks of that way are still shut.
    pub shut: Vec<LockKind>,
    /// How long it lives.
    pub expires_in: Duration,
}

/// What an accepted part led to.
#[derive(Debug)]
#[must_use]
pub enum Progress {
    /// More are needed.
    Waiting(Standing),
    /// R, and the way that led to it; the attempt is over.
    Complete(RootKey, WayId),
}

/// Why nothing was done.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptRefusal {
    /// It ended, was abandoned, never was, or is another one's.
    #[error("there is no such unseal attempt, it may have expired")]
    NoSuchAttempt,
    /// This operator failed too often.
    #[error("too many failed attempts: wait {} s", .wait.as_secs().saturating_add(1))]
    TooMany {
        /// How long.
        wait: Duration,
    },
    /// The share was not taken.
    #[error(transparent)]
    Share(#[from] ShareRefusal),
    /// The passphrase was not taken.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// All parts of a way are there, and a passphrase that was brought before is wrong.
    #[error("this part is in, but the passphrase that was entered before is wrong")]
    EarlierPassphrase,
    /// There are several passphrases already.
    #[error("too many different passphrases were brought to this attempt")]
    Crowded,
    /// No way has such a lock.
    #[error("no way into this vault leads over this TPM")]
    NoSuchLock,
    /// All parts are right, what they seal was altered.
    #[error("the way into the vault is damaged: {0}")]
    Damaged(#[source] EnvelopeError),
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
}

impl AttemptRefusal {
    /// Whether it is a failure of who brought the part.
    fn counts(&self) -> bool {
        match self {
            Self::Share(ShareRefusal::Duplicate { .. } | ShareRefusal::NotNeeded { .. })
            | Self::Passphrase(
                PassphraseError::Busy
                | PassphraseError::Memory
                | PassphraseError::Random(_)
                | PassphraseError::Key(_),
            )
            | Self::NoSuchAttempt
            | Self::TooMany { .. }
            | Self::EarlierPassphrase
            | Self::Random(_) => false,
            Self::Share(_)
            | Self::Passphrase(_)
            | Self::Crowded
            | Self::NoSuchLock
            | Self::Damaged(_) => true,
        }
    }
}

impl Ceremony {
    /// How long an attempt lives unless the caller says otherwise.
    pub const STANDARD_LIFE: Duration = Duration::from_mins(10);

    /// No attempt yet; each will live for `life`.
    pub fn new(life: Duration) -> Self {
        Self { life, attempt: None, failures: Failures::default() }
    }

    /// Takes a part. The first good one begins an attempt; `tied` refuses one that belongs to another attempt than its
    /// bringer was told. Stretches a passphrase: about 0.3 s for each way that has one.
    ///
    /// # Errors
    /// Says what is wrong with the part; the attempt stands as before.
    pub fn offer(
        &mut self,
        (by, tied): (Bringer, Option<AttemptId>),
        offer: Offer<'_>,
        now: Instant,
        sealed: &mut Sealed,
        random: FillRandom<'_>,
    ) -> Result<Progress, AttemptRefusal> {
        self.admit((by, tied), now)?;
        let taken = match offer {
            Offer::Share(typed) => self.take_share(by, typed, now, (&sealed.file, random)),
            Offer::Passphrase(passphrase) => {
                self.take_passphrase(by, passphrase, now, (sealed, random))
            }
            Offer::Tpm(way, key) => self.take_tpm(by, (way, key), now, (sealed, random)),
        };
        if taken.as_ref().is_err_and(AttemptRefusal::counts) {
            self.failures.count(by, now);
        }
        if matches!(taken, Ok(Progress::Complete(..))) {
            self.attempt = None;
        }
        taken
    }

    /// Whether a part of this bringer is looked at now; asked before a TPM is shown a PIN.
    ///
    /// # Errors
    /// `NoSuchAttempt` or `TooMany`.
    pub fn admit(
        &mut self,
        (by, tied): (Bringer, Option<AttemptId>),
        now: Instant,
    ) -> Result<(), AttemptRefusal> {
        self.expire(now);
        if tied.is_some() && tied != self.attempt.as_ref().map(|attempt| attempt.id) {
            return Err(AttemptRefusal::NoSuchAttempt);
        }
        match self.failures.wait(by, now) {
            Some(wait) => Err(AttemptRefusal::TooMany { wait }),
            None => Ok(()),
        }
    }

    /// Counts a part that somebody else refused: a wrong PIN.
    pub fn count_failure(&mut self, by: Bringer, now: Instant) {
        self.failures.count(by, now);
    }

    /// Throws an attempt and its parts away, by who brought one of them.
    ///
    /// # Errors
    /// `NoSuchAttempt`.
    pub fn abandon(
        &mut self,
        by: Bringer,
        id: AttemptId,
        now: Instant,
    ) -> Result<(), AttemptRefusal> {
        self.expire(now);
        let theirs = |attempt: &&Attempt| attempt.id == id && attempt.is_of(by);
        self.attempt.as_ref().filter(theirs).ok_or(AttemptRefusal::NoSuchAttempt)?;
        self.attempt = None;
        Ok(())
    }

    /// Wipes what was brought: an operator seals the vault, or one operator alone brings all at once. Failures stay counted.
    pub fn clear(&mut self) {
        self.attempt = None;
    }

    /// The id of the living attempt that begins with these hex digits.
    pub fn find(&mut self, digits: &str, now: Instant) -> Result<AttemptId, AttemptRefusal> {
        self.expire(now);
        let id = self.attempt.as_ref().map(|attempt| attempt.id);
        let named = |id: &AttemptId| digits.len() >= 4 && hex::encode(id.0).starts_with(digits);
        id.filter(named).ok_or(AttemptRefusal::NoSuchAttempt)
    }

    /// The living attempt.
    pub fn standing(&mut self, now: Instant, sealed: &Sealed) -> Option<Standing> {
        self.expire(now);
        self.attempt.as_ref().map(|attempt| attempt.standing(now, &sealed.file))
    }

    /// Whether an attempt lives.
    pub fn is_under_way(&self, now: Instant) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| now < attempt.ends)
    }

    /// Wipes an attempt whose time is over; tells whether there was one.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.attempt.take_if(|attempt| attempt.ends <= now).is_some()
    }

    /// Parts that were refused since the vault was sealed.
    pub fn failed(&self) -> u64 {
        self.failures.total()
    }

    fn take_share(
        &mut self,
        by: Bringer,
        typed: &Secret,
        now: Instant,
        (file, random): (&SealFile, FillRandom<'_>),
    ) -> Result<Progress, AttemptRefusal> {
        let share = typed.expose(Share::parse).map_err(ShareRefusal::from)?;
        let set = share.check(file)?;
        let way = file.way_of_set(set.id).ok_or(ShareRefusal::WrongSet)?;
        let (_, gives) = way.shares().ok_or(ShareRefusal::WrongSet)?;
        let attempt = self.attempt(now, random)?;
        if !attempt.enter(share, set.threshold)? {
            attempt.bring(by);
            return Ok(Progress::Waiting(attempt.standing(now, file)));
        }
        match combine((set, gives), file.vault, attempt.shares_of(set.id)) {
            Ok(Combined::Root(root)) => Ok(Progress::Complete(root, way.id)),
            Ok(Combined::Lock(key)) => {
                attempt.spend(set.id);
                attempt.bring(by);
                attempt.hold(Held { way: way.id, by, key: LockKey::Shares(key) })?;
                self.complete(by, way, now, file)
            }
            Err(refusal) => {
                attempt.forget(set.id);
                self.attempt.take_if(|attempt| attempt.is_empty());
                Err(refusal.into())
            }
        }
    }

    fn take_passphrase(
        &mut self,
        by: Bringer,
        passphrase: &Secret,
        now: Instant,
        (sealed, random): (&mut Sealed, FillRandom<'_>),
    ) -> Result<Progress, AttemptRefusal> {
        if let Some((root, way)) = sealed.open_first(passphrase, random)? {
            return Ok(Progress::Complete(root, way));
        }
        let file = &sealed.file;
        let mut refused = PassphraseError::NoSuchSeal;
        let mut kept = Vec::new();
        for way in file.all_ways() {
            let Some(lock) = way.passphrase() else { continue };
            let key = LockKey::Passphrase(lock.stretch(passphrase)?);
            if way.locks.len() > 1 {
                kept.push((way, key));
                continue;
            }
            match way.open(file.vault, &[&key]) {
                Ok(root) => return Ok(Progress::Complete(root, way.id)),
                Err(EnvelopeError::OtherKeyOrContext) => refused = PassphraseError::WrongPassphrase,
                Err(damage) => refused = PassphraseError::Damaged(damage),
            }
        }
        if kept.is_empty() {
            return Err(refused.into());
        }
        let attempt = self.attempt(now, random)?;
        let mut ways = Vec::new();
        for (way, key) in kept {
            attempt.hold(Held { way: way.id, by, key })?;
            ways.push(way);
        }
        attempt.bring(by);
        let mut last = Err(AttemptRefusal::NoSuchLock);
        for way in ways {
            last = self.complete(by, way, now, file);
            if matches!(last, Ok(Progress::Complete(..))) {
                return last;
            }
        }
        last
    }

    fn take_tpm(
        &mut self,
        by: Bringer,
        (way, key): (WayId, TpmLockKey),
        now: Instant,
        (sealed, random): (&Sealed, FillRandom<'_>),
    ) -> Result<Progress, AttemptRefusal> {
        let file = &sealed.file;
        let way = file.way(way).filter(|way| way.tpm().is_some());
        let way = way.ok_or(AttemptRefusal::NoSuchLock)?;
        let key = LockKey::Tpm(key);
        if way.locks.len() == 1 {
            return open_by_tpm((sealed, way), &key);
        }
        let attempt = self.attempt(now, random)?;
        attempt.hold(Held { way: way.id, by, key })?;
        attempt.bring(by);
        self.complete(by, way, now, file)
    }

    /// Opens a way of several locks, if each of them is open.
    fn complete(
        &mut self,
        by: Bringer,
        way: &Way,
        now: Instant,
        file: &SealFile,
    ) -> Result<Progress, AttemptRefusal> {
        let attempt = self.attempt.as_mut().ok_or(AttemptRefusal::NoSuchAttempt)?;
        let mut wrong = Vec::new();
        let opened = loop {
            let Some(keys) = attempt.keys_of(way, &wrong) else { break None };
            match way.open(file.vault, &keys) {
                Ok(root) => break Some(root),
                Err(EnvelopeError::OtherKeyOrContext) => {
                    // Shares are authenticated and the TPM vouches for its key: it is the passphrase.
                    let Some(who) = attempt.passphrase_of(way, &wrong) else {
                        return Err(AttemptRefusal::Damaged(EnvelopeError::OtherKeyOrContext));
                    };
                    wrong.push(who);
                }
                Err(damage) => return Err(AttemptRefusal::Damaged(damage)),
            }
        };
        if let Some(root) = opened {
            return Ok(Progress::Complete(root, way.id));
        }
        attempt.forget_passphrases(way.id, &wrong);
        let standing = attempt.standing(now, file);
        self.attempt.take_if(|attempt| attempt.is_empty());
        for who in wrong.iter().filter(|who| **who != by) {
            self.failures.count(*who, now);
        }
        if wrong.contains(&by) {
            return Err(PassphraseError::WrongPassphrase.into());
        }
        if wrong.is_empty() {
            Ok(Progress::Waiting(standing))
        } else {
            Err(AttemptRefusal::EarlierPassphrase)
        }
    }

    /// The living attempt, begun if there is none.
    fn attempt(
        &mut self,
        now: Instant,
        random: FillRandom<'_>,
    ) -> Result<&mut Attempt, AttemptRefusal> {
        if self.attempt.is_none() {
            let mut id = [0; 8];
            random(&mut id)?;
            let ends = now.checked_add(self.life).unwrap_or(now);
            self.attempt = Some(Attempt::new(AttemptId(id), ends));
        }
        self.attempt.as_mut().ok_or(AttemptRefusal::NoSuchAttempt)
    }
}

/// Opens a way over the TPM alone. A rotation has the same lock on the old way and on the new one, and a crash may have left
/// the keyring under either's R: the way that opens it is the one.
fn open_by_tpm((sealed, way): (&Sealed, &Way), key: &LockKey) -> Result<Progress, AttemptRefusal> {
    let vault = sealed.file.vault;
    let counter = way.tpm().map(|lock| lock.counter);
    let twin = sealed.file.all_ways().find(|other| {
        let same = other.tpm().map(|lock| lock.counter) == counter;
        other.id != way.id && other.locks.len() == 1 && same
    });
    if let Some(twin) = twin
        && let Ok(root) = twin.open(vault, &[key])
        && sealed.fits(&root)
    {
        return Ok(Progress::Complete(root, twin.id));
    }
    let root = way.open(vault, &[key]).map_err(AttemptRefusal::Damaged)?;
    Ok(Progress::Complete(root, way.id))
}

#[cfg(test)]
mod tests;
