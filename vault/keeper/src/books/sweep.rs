//! Rewriting old records under the newest keys and in the newest format, a few at a time.
//!
//! Invariant: a record is replaced only where it still is what was read: the batch expects the old value.
//! Invariant: what is rewritten keeps its plaintext and grows in version.

use std::sync::Arc;

use strongroom_policy::id::{TokenId, UserId};
use strongroom_store::{Batch, Store};

use super::ledger::Written;
use super::sealing::{Shreds, Stored, piece_key};
use super::{Books, BooksError, Changes, TenantKeys, store_key, value};
use crate::keys::{Format, RestingShredKey};
use crate::records::{RecordName, RecordPlace};

/// Most pieces of one portion: half of a group's room, so that an operator's change fits beside it.
const MAX_PIECES_OF_PORTION: usize = 64;
/// Most records of one portion.
const MAX_RECORDS_OF_PORTION: usize = 64;

/// Old records that are to be rewritten together.
pub struct Portion {
    jobs: Vec<Job>,
    keys: Arc<TenantKeys>,
    /// Up to which record was looked; `None` at the end.
    pub after: Option<Vec<u8>>,
}

struct Job {
    place: RecordPlace,
    written: Written,
    old_shred: Option<RestingShredKey>,
    /// Its place and owner's key from now on.
    next: RecordPlace,
    new_shred: Option<RestingShredKey>,
}

impl Books {
    /// Some old records after `after`. A token of the first version has its person found by `person_of`.
    ///
    /// # Errors
    /// When a record's owner has no shred key.
    pub fn old_records(
        &self,
        after: Option<&[u8]>,
        person_of: impl Fn(TokenId) -> Option<UserId>,
    ) -> Result<Portion, BooksError> {
        let newest = (self.keys.epoch(), Format::NEWEST);
        let (found, mut after) = self.ledger.old_after(after, newest, MAX_RECORDS_OF_PORTION);
        let (mut jobs, mut pieces) = (Vec::new(), 0_usize);
        for (key, written) in found {
            pieces = pieces.saturating_add(usize::from(written.pieces));
            if pieces > MAX_PIECES_OF_PORTION && !jobs.is_empty() {
                break;
            }
            let place = RecordPlace::parse(&key, self.keys.first()).ok_or(BooksError::Malformed)?;
            let next = match &place.name {
                RecordName::LooseToken(id) => {
                    RecordName::Token(person_of(*id).ok_or(BooksError::Ownerless)?, *id)
                }
                RecordName::Tenant
                | RecordName::User(_)
                | RecordName::Workspace(_)
                | RecordName::Token(..)
                | RecordName::Credential(_)
                | RecordName::Key(_)
                | RecordName::Provider(_)
                | RecordName::Restored
                | RecordName::Settings
                | RecordName::Personal(..)
                | RecordName::Nobody
                | RecordName::SessionKey
                | RecordName::Rules
                | RecordName::Witness(_)
                | RecordName::Budget(_)
                | RecordName::Spent(_)
                | RecordName::Prices => place.name.clone(),
            };
            let old_shred = self.shred_of(&place.name, written.format)?;
            let new_shred = self.shred_of(&next, Format::NEWEST)?;
            let next = RecordPlace { tenant: place.tenant, name: next };
            jobs.push(Job { place, written, old_shred, next, new_shred });
            after = Some(key);
        }
        Ok(Portion { jobs, keys: Arc::clone(&self.keys), after })
    }
}

impl Portion {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Reads, opens and seals anew. Blocks: for the thread that writes.
    ///
    /// # Errors
    /// When a record cannot be read, or does not open.
    pub fn rewrite(self, store: &dyn Store) -> Result<Changes, BooksError> {
        let mut changes = Changes { batch: Batch::new(), written: Vec::new() };
        for job in &self.jobs {
            changes = job.rewrite(&self.keys, changes, store)?;
        }
        Ok(changes)
    }
}

impl Job {
    fn rewrite(
        &self,
        keys: &TenantKeys,
        changes: Changes,
        store: &dyn Store,
    ) -> Result<Changes, BooksError> {
        let Changes { mut batch, mut written } = changes;
        let first = keys.first();
        let (old_key, new_key) = (self.place.store_key(first), self.next.store_key(first));
        let mut pieces = Vec::new();
        for number in 0..self.written.pieces {
            let key = store_key(&piece_key(&old_key, number))?;
            let found = store.get(&key)?.ok_or(BooksError::Malformed)?;
            pieces.push(found.as_bytes().to_vec());
            // Deleted first: where the name stays, the put below has the last word.
            batch = batch.expect(key.clone(), Some(found)).delete(key);
        }
        let stored = Stored { place: self.place.clone(), pieces };
        let shreds = |_: &RecordName, _: Format| {
            Ok(self.old_shred.as_ref().map_or(Shreds::None, Shreds::One))
        };
        let (plain, found, _) = keys.open(&stored, shreds)?;
        if found != self.written {
            return Err(BooksError::Malformed);
        }
        let version = self.written.version.saturating_add(1);
        let sealed = keys.seal((&self.next, version), &plain, self.new_shred.as_ref())?;
        let count = u8::try_from(sealed.len()).map_err(|_| BooksError::TooLong)?;
        for (number, envelope) in (0_u8..).zip(&sealed) {
            batch = batch.put(store_key(&piece_key(&new_key, number))?, value(envelope)?);
        }
        if old_key != new_key {
            written.push((old_key, None));
        }
        let now = Written { version, pieces: count, epoch: keys.epoch(), format: Format::NEWEST };
        written.push((new_key, Some(now)));
        Ok(Changes { batch, written })
    }
}
