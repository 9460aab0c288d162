//! What was brought to one attempt, until it opens a way or ends.
//!
//! Invariant: fewer than k shares of a set lie here, none twice; once combined they are wiped.
//! Invariant: a part is never replaced but by its own bringer's newer one, or by the same key again.

use std::time::Instant;

use super::attempt::{AttemptId, AttemptRefusal, Bringer, Standing};
use super::file::SealFile;
use super::shares::{SetId, Share, ShareRefusal};
use super::way::{Lock, LockKind, Way};
use crate::keys::{LockKey, WayId};

/// Passphrases of different operators that are kept for one way.
const MAX_PASSPHRASES: usize = 4;

/// One attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) ends: Instant,
    entered: Vec<Entered>,
    held: Vec<Held>,
    bringers: Vec<Bringer>,
}

/// Shares of one set.
#[derive(Debug)]
struct Entered {
    set: SetId,
    accepted: Vec<u8>,
    /// Empty when they were combined.
    shares: Vec<Share>,
}

/// The key of one lock of a way of several.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) way: WayId,
    pub(super) by: Bringer,
    pub(super) key: LockKey,
}

impl Attempt {
    /// Nothing was brought yet.
    pub(super) fn new(id: AttemptId, ends: Instant) -> Self {
        Self { id, ends, entered: Vec::new(), held: Vec::new(), bringers: Vec::new() }
    }

    /// Whether `who` brought something to it.
    pub(super) fn is_of(&self, who: Bringer) -> bool {
        self.bringers.contains(&who)
    }

    /// Whether nothing is in it any more.
    pub(super) fn is_empty(&self) -> bool {
        self.entered.is_empty() && self.held.is_empty()
    }

    /// Notes who brought a part that was accepted.
    pub(super) fn bring(&mut self, who: Bringer) {
        if !self.is_of(who) {
            self.bringers.push(who);
        }
    }

    /// Takes a share that was checked; tells whether there are enough of its set now.
    pub(super) fn enter(&mut self, share: Share, threshold: u8) -> Result<bool, ShareRefusal> {
        let (set, index) = (share.set(), share.index());
        let at = self.entered.iter().position(|entered| entered.set == set);
        let at = at.unwrap_or_else(|| {
            self.entered.push(Entered { set, accepted: Vec::new(), shares: Vec::new() });
            self.entered.len().saturating_sub(1)
        });
        let entered = self.entered.get_mut(at).ok_or(ShareRefusal::WrongSet)?;
        if entered.accepted.contains(&index) {
            return Err(ShareRefusal::Duplicate { index });
        }
        if entered.accepted.len() >= usize::from(threshold) {
            return Err(ShareRefusal::NotNeeded { index });
        }
        entered.accepted.push(index);
        entered.shares.push(share);
        Ok(entered.shares.len() == usize::from(threshold))
    }

    /// The shares of a set that are not combined yet.
    pub(super) fn shares_of(&self, set: SetId) -> &[Share] {
        let entered = self.entered.iter().find(|entered| entered.set == set);
        entered.map_or(&[], |entered| &entered.shares)
    }

    /// Wipes the shares of a set that were combined.
    pub(super) fn spend(&mut self, set: SetId) {
        if let Some(entered) = self.entered.iter_mut().find(|entered| entered.set == set) {
            entered.shares.clear();
        }
    }

    /// Forgets a set: keeping its shares could only repeat the failure.
    pub(super) fn forget(&mut self, set: SetId) {
        self.entered.retain(|entered| entered.set != set);
    }

    /// Keeps the key of one lock.
    pub(super) fn hold(&mut self, new: Held) -> Result<(), AttemptRefusal> {
        let (way, kind) = (new.way, new.kind());
        match kind {
            LockKind::Passphrase => {
                self.held.retain(|held| held.by != new.by || !held.is_for(way, kind));
                let others = self.held.iter().filter(|held| held.is_for(way, kind)).count();
                if others >= MAX_PASSPHRASES {
                    return Err(AttemptRefusal::Crowded);
                }
            }
            // Authenticated already: it can only be the same key again.
            LockKind::Shares | LockKind::Tpm => self.held.retain(|held| !held.is_for(way, kind)),
        }
        self.held.push(new);
        Ok(())
    }

    /// Whose passphrase is the next to be tried on a way.
    pub(super) fn passphrase_of(&self, way: &Way, wrong: &[Bringer]) -> Option<Bringer> {
        self.held_for(way.id, LockKind::Passphrase, wrong).map(|held| held.by)
    }

    /// A key for each lock of a way, in their order, when all are there.
    pub(super) fn keys_of(&self, way: &Way, wrong: &[Bringer]) -> Option<Vec<&LockKey>> {
        let each = way.kinds().map(|kind| self.held_for(way.id, kind, wrong).map(|held| &held.key));
        each.collect()
    }

    /// Forgets the passphrases that these operators brought for a way.
    pub(super) fn forget_passphrases(&mut self, way: WayId, wrong: &[Bringer]) {
        self.held
            .retain(|held| !(held.is_for(way, LockKind::Passphrase) && wrong.contains(&held.by)));
    }

    fn held_for(&self, way: WayId, kind: LockKind, wrong: &[Bringer]) -> Option<&Held> {
        self.held.iter().find(|held| {
            held.is_for(way, kind) && (kind != LockKind::Passphrase || !wrong.contains(&held.by))
        })
    }

    /// How it stands, told of the way that is nearest.
    pub(super) fn standing(&self, now: Instant, file: &SealFile) -> Standing {
        let mut ways: Vec<&Way> = file.all_ways().collect();
        ways.sort_by_key(|way| std::cmp::Reverse(self.progress_of(way)));
        // Before the first part there is no doubt only where there is one way.
        let nearest = ways.first().copied();
        let nearest = nearest.filter(|way| ways.len() == 1 || self.progress_of(way) > 0);
        let entered = nearest.and_then(|way| self.entered_of(way));
        let accepted = entered.map_or_else(Vec::new, |entered| entered.accepted.clone());
        let name = |index: &u8| {
            let at = usize::from(*index).checked_sub(1)?;
            nearest?.holders().get(at).cloned()
        };
        let have = u8::try_from(accepted.len()).unwrap_or(u8::MAX);
        let threshold = nearest.map(|way| way.shares().map_or(0, |(set, _)| set.threshold));
        Standing {
            id: self.id,
            holders: accepted.iter().filter_map(name).collect(),
            missing: threshold.map(|threshold| threshold.saturating_sub(have)),
            accepted,
            shut: nearest.map_or_else(Vec::new, |way| self.shut_of(way)),
            expires_in: self.ends.saturating_duration_since(now),
        }
    }

    fn entered_of(&self, way: &Way) -> Option<&Entered> {
        let (set, _) = way.shares()?;
        self.entered.iter().find(|entered| entered.set == set.id)
    }

    fn progress_of(&self, way: &Way) -> usize {
        let held = self.held.iter().filter(|held| held.way == way.id).count();
        held.saturating_add(self.entered_of(way).map_or(0, |entered| entered.accepted.len()))
    }

    /// The locks of a way for which nothing was brought; shares are told by their number instead.
    fn shut_of(&self, way: &Way) -> Vec<LockKind> {
        let open = |lock: &&Lock| self.held_for(way.id, lock.kind(), &[]).is_some();
        let shut = way.locks.iter().filter(|lock| !open(lock)).map(Lock::kind);
        shut.filter(|kind| *kind != LockKind::Shares).collect()
    }
}

impl Held {
    fn kind(&self) -> LockKind {
        match self.key {
            LockKey::Passphrase(_) => LockKind::Passphrase,
            LockKey::Shares(_) => LockKind::Shares,
            LockKey::Tpm(_) => LockKind::Tpm,
        }
    }

    fn is_for(&self, way: WayId, kind: LockKind) -> bool {
        self.way == way && self.kind() == kind
    }
}
