//! The ceremony in which k people enter their shares.
//!
//! An attempt has an id that ties its shares together and a time at which it ends. Nobody can
//! throw away what others entered: `begin` refuses while an attempt with shares is alive, and
//! `abandon` needs its id (strangers cancelled such ceremonies in CVE-2025-4656).
//!
//! Invariant: a refused share leaves the attempt as it was.
//! Invariant: an attempt holds fewer than k shares, all of one set, none twice.
//! Invariant: when it ends, its shares are wiped.
//! Distrusts: every share. Time is a parameter.

use std::time::{Duration, Instant};

use super::Sealed;
use super::shares::{SetId, Share, ShareRefusal, combine};
use crate::keys::{FillRandom, RootKey};

/// Which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptId(pub [u8; 8]);

/// The place where at most one attempt runs.
#[derive(Debug)]
pub struct Ceremony {
    life: Duration,
    attempt: Option<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    id: AttemptId,
    ends: Instant,
    accepted: Vec<Share>,
}

/// How an attempt stands: shown to everyone who may unseal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub id: AttemptId,
    /// The numbers of the shares that were accepted.
    pub accepted: Vec<u8>,
    /// How many more are needed; unknown before the first share, which names the set.
    pub missing: Option<u8>,
    /// How long it lives.
    pub expires_in: Duration,
}

/// What an accepted share led to.
#[derive(Debug)]
#[must_use]
pub enum Progress {
    /// More are needed.
    Waiting(Standing),
    /// R; the attempt is over.
    Complete(RootKey),
}

/// Why nothing was done.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AttemptRefusal {
    /// One is alive and has shares: join it by its id.
    #[error("another unseal attempt is under way")]
    UnderWay(Standing),
    /// It ended, was abandoned, or never was.
    #[error("there is no such unseal attempt, it may have expired")]
    NoSuchAttempt,
    /// The share was not taken.
    #[error(transparent)]
    Share(#[from] ShareRefusal),
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
}

impl Ceremony {
    /// How long an attempt lives unless the caller says otherwise.
    pub const STANDARD_LIFE: Duration = Duration::from_mins(10);

    /// No attempt yet; each will live for `life`.
    pub const fn new(life: Duration) -> Self {
        Self { life, attempt: None }
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// `UnderWay` while another one is alive and has a share.
    pub fn begin(
        &mut self,
        now: Instant,
        sealed: &Sealed,
        random: FillRandom<'_>,
    ) -> Result<AttemptId, AttemptRefusal> {
        if let Some(standing) = self.standing(now, sealed).filter(|one| !one.accepted.is_empty()) {
            return Err(AttemptRefusal::UnderWay(standing));
        }
        let mut id = [0; 8];
        random(&mut id)?;
        let ends = now.checked_add(self.life).unwrap_or(now);
        self.attempt = Some(Attempt { id: AttemptId(id), ends, accepted: Vec::new() });
        Ok(AttemptId(id))
    }

    /// Enters a share into the attempt `id`.
    ///
    /// # Errors
    /// `NoSuchAttempt`, or the share is bad: it is named, and the attempt stands as before.
    pub fn offer(
        &mut self,
        id: AttemptId,
        typed: &[u8],
        now: Instant,
        sealed: &Sealed,
    ) -> Result<Progress, AttemptRefusal> {
        let attempt = self.alive(id, now)?;
        let share = Share::parse(typed).map_err(ShareRefusal::from)?;
        let set = share.check(sealed)?;
        let index = share.index();
        if attempt.set().is_some_and(|entered| entered != set.id) {
            return Err(ShareRefusal::WrongSet.into());
        }
        if attempt.accepted.iter().any(|accepted| accepted.index() == index) {
            return Err(ShareRefusal::Duplicate { index }.into());
        }
        attempt.accepted.push(share);
        if attempt.accepted.len() < usize::from(set.threshold) {
            return Ok(Progress::Waiting(attempt.standing(now, sealed)));
        }
        // Whatever comes out, these shares are spent: keeping them could only repeat the failure.
        let combined = combine(set, sealed.vault(), &attempt.accepted);
        self.attempt = None;
        Ok(Progress::Complete(combined?))
    }

    /// Throws an attempt and its shares away, by who knows its id.
    ///
    /// # Errors
    /// `NoSuchAttempt`.
    pub fn abandon(&mut self, id: AttemptId, now: Instant) -> Result<(), AttemptRefusal> {
        self.alive(id, now)?;
        self.attempt = None;
        Ok(())
    }

    /// The living attempt; one that has expired is wiped here.
    pub fn standing(&mut self, now: Instant, sealed: &Sealed) -> Option<Standing> {
        self.attempt.take_if(|attempt| attempt.ends <= now);
        self.attempt.as_ref().map(|attempt| attempt.standing(now, sealed))
    }

    fn alive(&mut self, id: AttemptId, now: Instant) -> Result<&mut Attempt, AttemptRefusal> {
        self.attempt.take_if(|attempt| attempt.ends <= now);
        self.attempt
            .as_mut()
            .filter(|attempt| attempt.id == id)
            .ok_or(AttemptRefusal::NoSuchAttempt)
    }
}

impl Attempt {
    fn set(&self) -> Option<SetId> {
        self.accepted.first().map(Share::set)
    }

    fn standing(&self, now: Instant, sealed: &Sealed) -> Standing {
        let accepted: Vec<u8> = self.accepted.iter().map(Share::index).collect();
        let mut sets = sealed.share_sets();
        let set = match self.set() {
            Some(entered) => sets.find(|set| set.id == entered),
            // With one set there is no doubt which will be entered.
            None => sets.next().filter(|_| sets.next().is_none()),
        };
        let have = u8::try_from(accepted.len()).unwrap_or(u8::MAX);
        Standing {
            id: self.id,
            missing: set.map(|set| set.threshold.saturating_sub(have)),
            accepted,
            expires_in: self.ends.saturating_duration_since(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Algorithm, StoreId};
    use crate::seal::{BadShareText, Seal, create, split_root};
    use crate::slots::scratch::Scratch;
    use strongroom_sys::Secret;

    struct Vault {
        _scratch: Scratch,
        sealed: Sealed,
        root: Vec<u8>,
        shares: Vec<Secret>,
        share_bodies: Vec<Share>,
    }

    fn vault(id: u8) -> Vault {
        let scratch = Scratch::make();
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let id = StoreId([id; 16]);
        let (set, shares) = split_root(&root, id, (3, 5), &mut getrandom::fill).unwrap();
        let kept = root.secret().expose(<[u8]>::to_vec);
        let made = (root, vec![Seal::Shares(set)]);
        let directory = scratch.directory();
        let open = create(directory, id, made, Algorithm::Aes256Gcm, &mut getrandom::fill).unwrap();
        Vault {
            sealed: open.seal().unwrap(),
            _scratch: scratch,
            root: kept,
            shares: shares.iter().map(Share::write).collect(),
            share_bodies: shares,
        }
    }

    struct Table {
        vault: Vault,
        ceremony: Ceremony,
        id: AttemptId,
        now: Instant,
    }

    impl Table {
        fn lay() -> Self {
            let (vault, now) = (vault(1), Instant::now());
            let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
            let id = ceremony.begin(now, &vault.sealed, &mut getrandom::fill).unwrap();
            Self { vault, ceremony, id, now }
        }

        fn offer(&mut self, index: usize) -> Result<Progress, AttemptRefusal> {
            let (ceremony, sealed) = (&mut self.ceremony, &self.vault.sealed);
            self.vault.shares[index - 1]
                .expose(|text| ceremony.offer(self.id, text, self.now, sealed))
        }

        fn offer_share(&mut self, share: &Share) -> Result<Progress, AttemptRefusal> {
            let (ceremony, sealed) = (&mut self.ceremony, &self.vault.sealed);
            share.write().expose(|text| ceremony.offer(self.id, text, self.now, sealed))
        }

        fn accepted(&mut self) -> Vec<u8> {
            self.ceremony.standing(self.now, &self.vault.sealed).unwrap().accepted
        }

        fn missing(&mut self) -> Option<u8> {
            self.ceremony.standing(self.now, &self.vault.sealed).unwrap().missing
        }
    }

    #[test]
    fn three_of_five_open_the_vault() {
        let mut table = Table::lay();
        assert_eq!(table.missing(), Some(3));
        assert!(matches!(table.offer(4), Ok(Progress::Waiting(_))));
        assert!(matches!(table.offer(2), Ok(Progress::Waiting(_))));
        assert_eq!((table.accepted(), table.missing()), (vec![4, 2], Some(1)));
        let Ok(Progress::Complete(root)) = table.offer(5) else { panic!("not complete") };
        assert!(root.secret().matches(&table.vault.root));
        assert!(
            table.vault.sealed.unseal(root, Algorithm::Aes256Gcm, &mut getrandom::fill).is_ok()
        );
        assert!(table.ceremony.attempt.is_none());
    }

    fn share_refusal(answer: Result<Progress, AttemptRefusal>) -> ShareRefusal {
        match answer {
            Err(AttemptRefusal::Share(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_bad_share_is_named_and_the_accepted_ones_stay() {
        let mut table = Table::lay();
        let (other_vault, id) = (vault(2), StoreId([1; 16]));
        let root = RootKey::from_secret(Secret::copy_from(&table.vault.root)).unwrap();
        let (retired, stale) = split_root(&root, id, (3, 5), &mut getrandom::fill).unwrap();
        let (_, unknown) = split_root(&root, id, (3, 5), &mut getrandom::fill).unwrap();
        table.vault.sealed.file.retired.push(retired.id);
        assert!(table.offer(1).is_ok());

        assert_eq!(share_refusal(table.offer(1)), ShareRefusal::Duplicate { index: 1 });
        assert_eq!(
            share_refusal(table.offer_share(&other_vault.share_bodies[1])),
            ShareRefusal::ForeignVault
        );
        assert_eq!(share_refusal(table.offer_share(&stale[1])), ShareRefusal::Stale);
        assert_eq!(share_refusal(table.offer_share(&unknown[1])), ShareRefusal::WrongSet);
        let mut typed = table.vault.shares[1].expose(<[u8]>::to_vec);
        typed[30] = if typed[30] == b'x' { b'y' } else { b'x' };
        let answer = table.ceremony.offer(table.id, &typed, table.now, &table.vault.sealed);
        assert_eq!(share_refusal(answer), BadShareText::Mistyped { group: 3 }.into());
        assert_eq!(table.accepted(), [1]);
    }

    // Guards against a wrong share silently giving a wrong R. Red when the digest is not compared.
    #[test]
    fn a_share_with_another_point_and_a_good_checksum_is_altered() {
        let mut table = Table::lay();
        let honest = &table.vault.share_bodies[1];
        let mut point = honest.point.expose(<[u8]>::to_vec);
        point[0] ^= 1;
        let forged = Share { point: Secret::take(point), ..*honest };
        let answer = table.offer_share(&forged);
        assert_eq!(share_refusal(answer), ShareRefusal::Altered { index: 2 });
        assert!(table.accepted().is_empty());
    }

    #[test]
    fn shares_of_two_standing_sets_do_not_mix() {
        let mut table = Table::lay();
        let root = RootKey::from_secret(Secret::copy_from(&table.vault.root)).unwrap();
        let (set, second) =
            split_root(&root, StoreId([1; 16]), (2, 2), &mut getrandom::fill).unwrap();
        table.vault.sealed.file.seals.push(Seal::Shares(set));
        assert_eq!(table.missing(), None);
        assert!(table.offer(1).is_ok());
        assert_eq!(share_refusal(table.offer_share(&second[1])), ShareRefusal::WrongSet);
        assert_eq!(table.missing(), Some(2));
    }

    // Guards against CVE-2025-4656. Red when `begin` replaces a living attempt.
    #[test]
    fn nobody_can_reset_an_attempt_that_has_shares_without_its_id() {
        let mut table = Table::lay();
        assert!(table.offer(1).is_ok());
        let again = table.ceremony.begin(table.now, &table.vault.sealed, &mut getrandom::fill);
        assert!(matches!(again, Err(AttemptRefusal::UnderWay(_))));
        let stranger = table.ceremony.abandon(AttemptId([0; 8]), table.now);
        assert_eq!(stranger, Err(AttemptRefusal::NoSuchAttempt));
        assert_eq!(table.accepted(), [1]);
        table.ceremony.abandon(table.id, table.now).unwrap();
        assert!(table.ceremony.begin(table.now, &table.vault.sealed, &mut getrandom::fill).is_ok());
    }

    #[test]
    fn an_attempt_expires_and_takes_its_shares_with_it() {
        let mut table = Table::lay();
        assert!(table.offer(1).is_ok() && table.offer(2).is_ok());
        let end = table.now + Ceremony::STANDARD_LIFE;
        table.now = end.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(table.accepted(), [1, 2]);
        table.now = end;
        assert_eq!(table.offer(3).unwrap_err(), AttemptRefusal::NoSuchAttempt);
        assert!(table.ceremony.attempt.is_none());
        let next = table.ceremony.begin(table.now, &table.vault.sealed, &mut getrandom::fill);
        assert_ne!(next.unwrap(), table.id);
    }

    // Red when `combine` does not compare the commitment: a seal file edited by a thief.
    #[test]
    fn good_shares_under_an_edited_seal_file_do_not_give_a_root() {
        let mut table = Table::lay();
        let [Seal::Shares(set)] = table.vault.sealed.file.seals.as_mut_slice() else { panic!() };
        set.threshold = 2;
        assert!(table.offer(1).is_ok());
        assert_eq!(share_refusal(table.offer(2)), ShareRefusal::NotTheRoot);
        assert!(table.ceremony.attempt.is_none());
    }
}
