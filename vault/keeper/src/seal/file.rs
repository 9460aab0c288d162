//! The seal file's payload, and its older format.
//!
//! ```text
//! payload    postcard of `SealFile`: format u8 = 2 ‖ vault id ‖ next way ‖ ways ‖ incoming ‖ retired share sets
//! ```
//!
//! Format 1 had one passphrase or one set of shares. It is read to be written anew at the next unsealing.
//!
//! Invariant: what is read or written has between one way and eight, of different ids and share sets.
//! Distrusts: every byte.

use serde::{Deserialize, Serialize};

use super::passphrase::{KdfCost, PassphraseError, PassphraseLock};
use super::shares::{SetId, ShareSet};
use super::way::Way;
use super::{MAX_RETIRED, MAX_WAYS, SEAL_FORMAT, SealError};
use crate::envelope::{EnvelopeError, open_record};
use crate::keys::{
    Context, Epoch, Kind, PassphraseKey, RecordId, RecordKeySource, RecordVersion, RootKey, Scope,
    StoreId, WayId,
};

/// What the seal file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealFile {
    format: u8,
    pub(super) vault: StoreId,
    pub(super) next_way: u32,
    pub(super) ways: Vec<Way>,
    pub(super) incoming: Option<Incoming>,
    pub(super) retired: Vec<SetId>,
}

/// Ways that do not count yet: nobody has shown that they are in somebody's hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Incoming {
    pub(super) to: Target,
    pub(super) ways: Vec<Way>,
}

/// Where the incoming ways lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Target {
    /// To the same R, beside the other ways.
    Same,
    /// To the same R, in the place of one way.
    Replace(WayId),
    /// To another R, in the place of all other ways, once the keyring is under it.
    Another,
}

/// A passphrase's seal of format 1.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FirstPassphrase {
    cost: KdfCost,
    salt: [u8; 32],
    wrapped: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
enum FirstSeal {
    Passphrase(FirstPassphrase),
    Shares(ShareSet),
}

#[derive(Debug, Serialize, Deserialize)]
struct FirstFile {
    format: u8,
    vault: StoreId,
    seals: Vec<FirstSeal>,
    retired: Vec<SetId>,
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Read {
    /// As it is written today.
    Current(SealFile),
    /// Format 1 with shares: nothing of it but its shape must change.
    FirstShares(SealFile),
    /// Format 1 with a passphrase: it is needed to seal R anew.
    FirstPassphrase(SealFile, FirstPassphrase),
}

const FIRST_FORMAT: u8 = 1;

impl SealFile {
    /// The file of a new vault.
    pub(super) fn new(vault: StoreId, next_way: u32, ways: Vec<Way>) -> Self {
        Self { format: SEAL_FORMAT, vault, next_way, ways, incoming: None, retired: Vec::new() }
    }

    /// The bytes on disk.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, SealError> {
        self.check()?;
        postcard::to_stdvec(self).map_err(|_| SealError::Malformed)
    }

    /// Reads the bytes on disk.
    pub(crate) fn decode(payload: &[u8]) -> Result<Read, SealError> {
        match payload.first() {
            Some(&FIRST_FORMAT) => Self::decode_first(payload),
            Some(&SEAL_FORMAT) => {
                let file: Self = whole(payload)?;
                file.check()?;
                Ok(Read::Current(file))
            }
            Some(other) => Err(SealError::UnknownFormat(*other)),
            None => Err(SealError::Malformed),
        }
    }

    fn decode_first(payload: &[u8]) -> Result<Read, SealError> {
        let FirstFile { vault, seals, retired, .. } = whole(payload)?;
        let [seal] = <[FirstSeal; 1]>::try_from(seals).map_err(|_| SealError::Malformed)?;
        let (way, next) = (WayId(1), 2);
        let read = match seal {
            FirstSeal::Shares(set) => {
                let ways = vec![Way::of_root_shares(way, set)];
                Read::FirstShares(Self { retired, ..Self::new(vault, next, ways) })
            }
            FirstSeal::Passphrase(seal) => {
                let ways = vec![Way::unwrapped(way, seal.lock())];
                Read::FirstPassphrase(Self { retired, ..Self::new(vault, next, ways) }, seal)
            }
        };
        Ok(read)
    }

    fn check(&self) -> Result<(), SealError> {
        if self.ways.is_empty() || self.ways.len() > MAX_WAYS {
            return Err(SealError::WayCount);
        }
        let mut ids: Vec<u32> = self.all_ways().map(|way| way.id.0).collect();
        let mut sets: Vec<[u8; 6]> = self.share_sets().map(|set| set.id.0).collect();
        let (ids_before, sets_before) = (ids.len(), sets.len());
        ids.sort_unstable();
        ids.dedup();
        sets.sort_unstable();
        sets.dedup();
        let good = ids.len() == ids_before
            && sets.len() == sets_before
            && ids.iter().all(|id| *id < self.next_way)
            && self.incoming.as_ref().is_none_or(|incoming| incoming.ways.len() <= MAX_WAYS)
            && self.retired.len() <= MAX_RETIRED
            && self.incoming.as_ref().is_none_or(|incoming| !incoming.ways.is_empty())
            && self.all_ways().all(Way::is_sound);
        if good { Ok(()) } else { Err(SealError::Malformed) }
    }

    /// The ways that count and those that do not yet.
    pub(super) fn all_ways(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter().chain(self.incoming.iter().flat_map(|incoming| &incoming.ways))
    }

    /// The way with this id.
    pub(super) fn way(&self, id: WayId) -> Option<&Way> {
        self.all_ways().find(|way| way.id == id)
    }

    /// The way that a set of shares belongs to.
    pub(super) fn way_of_set(&self, id: SetId) -> Option<&Way> {
        self.all_ways().find(|way| way.shares().is_some_and(|(set, _)| set.id == id))
    }

    /// The sets of shares that are given out.
    pub(super) fn share_sets(&self) -> impl Iterator<Item = &ShareSet> {
        self.all_ways().filter_map(|way| way.shares().map(|(set, _)| set))
    }

    /// The id of the next way.
    pub(super) fn take_id(&mut self) -> Result<WayId, SealError> {
        let id = WayId(self.next_way);
        self.next_way = self.next_way.checked_add(1).ok_or(SealError::WayCount)?;
        Ok(id)
    }

    /// Puts the incoming ways in force.
    pub(super) fn promote(&mut self) {
        let Some(Incoming { to, ways }) = self.incoming.take() else { return };
        let gone = match to {
            Target::Same => Vec::new(),
            Target::Replace(old) => self.ways.extract_if(.., |way| way.id == old).collect(),
            Target::Another => std::mem::take(&mut self.ways),
        };
        self.retire(&gone);
        self.ways.extend(ways);
    }

    /// Names the shares of a way that is gone as stale; the oldest are forgotten when there are too many.
    pub(super) fn retire(&mut self, ways: &[Way]) {
        self.retired.extend(ways.iter().filter_map(|way| way.shares().map(|(set, _)| set.id)));
        let surplus = self.retired.len().saturating_sub(MAX_RETIRED);
        self.retired.drain(..surplus);
    }
}

impl Incoming {
    /// Whether it has this way.
    pub(super) fn has(&self, way: WayId) -> bool {
        self.ways.iter().any(|one| one.id == way)
    }
}

impl FirstPassphrase {
    pub(super) fn lock(&self) -> PassphraseLock {
        PassphraseLock { cost: self.cost, salt: self.salt }
    }

    /// Opens R as format 1 sealed it.
    pub(super) fn open(
        &self,
        vault: StoreId,
        key: &PassphraseKey,
    ) -> Result<RootKey, PassphraseError> {
        let record = self.cost.encode();
        let context = Context {
            store: vault,
            scope: Scope::System,
            epoch: Epoch(0),
            kind: Kind::Root,
            record: RecordId(&record),
            version: RecordVersion(0),
        };
        let root =
            match open_record(&RecordKeySource::from_passphrase(key), &context, &self.wrapped) {
                Err(EnvelopeError::OtherKeyOrContext) => {
                    return Err(PassphraseError::WrongPassphrase);
                }
                opened => opened?,
            };
        Ok(RootKey::from_secret(root).map_err(EnvelopeError::from)?)
    }
}

fn whole<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, SealError> {
    let (file, rest) = postcard::take_from_bytes(payload).map_err(|_| SealError::Malformed)?;
    if rest.is_empty() { Ok(file) } else { Err(SealError::Malformed) }
}
