//! The keeper's records on disk: sealed one by one, committed in groups, kept in step with the manifest.
//!
//! Invariant: plaintext exists in memory only; what reaches the store is an envelope.
//! Invariant: a commit that was answered is durable, and the manifest knows it.
//! Invariant: what is written is under the newest epoch, in the newest format, and under its owner's shred key.
//! Distrusts: the store's files.

mod ledger;
mod reading;
mod sealing;
mod sweep;
mod witness;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_store::check::CheckError;
use strongroom_store::{Batch, Choice, GroupCommit, Key, Store, StoreError, Value};
use strongroom_sys::Secret;
use tokio::sync::oneshot;

use crate::backup::halt::Halt;
use crate::envelope::EnvelopeError;
use crate::journal::found::{Head, StoreState};
use crate::keyring::{Keyring, KeyringError, ShredId};
use crate::keys::{self, Algorithm, Epoch, Format, RestingShredKey};
use crate::manifest::{Checkpoint, Manifest, ManifestError, NotNewest, Refusal, Verdict};
use crate::records::{RecordName, RecordPlace};
use crate::seal::Unsealed;
use ledger::{Ledger, Written};
use reading::{Read, Rows};
use sealing::piece_key;
pub use sealing::{MAX_RECORD_BYTES, TenantKeys};
pub use sweep::Portion;
pub use witness::JournalLink;
use witness::ManifestWitness;

/// The store's directory within the vault's.
pub const STORE_DIRECTORY: &str = "store";

/// The open store.
pub struct Books {
    group: GroupCommit,
    manifest: Arc<Mutex<Manifest>>,
    unsealed: Arc<Mutex<Unsealed>>,
    keys: Arc<TenantKeys>,
    /// Copies of the keyring's: it is locked while it is being written, and calls do not wait for that.
    shreds: BTreeMap<ShredId, RestingShredKey>,
    ledger: Ledger,
    commit: Arc<AtomicU64>,
}

/// Why the store is not opened or a record not written.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy that is judged first.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The manifest's own files.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store is not the one that the manifest describes.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A record does not open.
    #[error("a record does not open: {0}")]
    Envelope(#[from] EnvelopeError),
    /// It is not known to be the newest, and nobody confirmed it.
    #[error("{why}; what lies here is checkpoint {checkpoint}")]
    NotNewest {
        /// Why not.
        why: NotNewest,
        /// What people would have to confirm.
        checkpoint: Checkpoint,
    },
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Its generation of keys was destroyed.
    #[error("a record is of epoch {}, whose key was destroyed", .0.0)]
    Retired(Epoch),
    /// Its tenant's root was destroyed.
    #[error("a record is of a tenant whose keys were destroyed")]
    TenantGone,
    /// It has an owner without a shred key, or a shred key without an owner.
    #[error("a record's owner has no shred key")]
    Ownerless,
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] keys::DeriveError),
    /// A record that no version of this program wrote.
    #[error("a record is malformed")]
    Malformed,
    /// Longer than all pieces together.
    #[error("a record is too long")]
    TooLong,
    /// A thread ended.
    #[error("the store's writer has ended")]
    Stopped,
    /// Whoever it was opened for called a halt.
    #[error("the vault was sealed meanwhile")]
    Halted,
}

/// Changes that are committed together.
#[must_use]
pub struct Changes {
    batch: Batch,
    written: Vec<(Vec<u8>, Option<Written>)>,
}

/// What lay in the store at unseal.
pub struct Opened {
    /// The open store.
    pub books: Books,
    /// Where the journal is set, once it is open.
    pub journal: JournalLink,
    /// The store's state, as the journal names it.
    pub state: StoreState,
    /// How far the journal must be at least.
    pub noted: Head,
    /// Its manifest, for who notes a counter in it.
    pub manifest: Arc<Mutex<Manifest>>,
    /// Every record in clear.
    pub records: Vec<(RecordPlace, Secret)>,
    /// Whose records were sealed under the successor of their shred key.
    pub taken: Vec<ShredId>,
}

/// How far the rewriting of old records is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generations {
    /// The generation that new records are sealed under.
    pub epoch: Epoch,
    /// Every generation whose key exists, and how many records it has.
    pub epochs: BTreeMap<Epoch, usize>,
    /// How many records are to be rewritten.
    pub old: usize,
    /// How many records there are.
    pub records: usize,
    /// The format below which no record is opened.
    pub lowest_format: Format,
    /// What new records are sealed with.
    pub algorithm: Algorithm,
    /// How many keys the keyring holds.
    pub keys: usize,
}

impl Generations {
    /// Whether there is nothing to rewrite and nothing to destroy.
    pub fn is_settled(&self) -> bool {
        self.old == 0 && self.epochs.len() <= 1 && self.lowest_format == Format::NEWEST
    }
}

/// Makes the files of an empty store in a new vault's directory.
///
/// # Errors
/// When there are some, or they cannot be written.
pub fn create(
    directory: &Path,
    unsealed: &Unsealed,
    algorithm: Algorithm,
    choice: &Choice,
) -> Result<(), BooksError> {
    drop(make_store(directory, choice)?);
    drop(Manifest::create(directory, unsealed.keyring(), algorithm, &mut getrandom::fill)?);
    Ok(())
}

/// Makes an empty store in a vault's directory, under a name that no store had before.
///
/// # Errors
/// When there is one, or it cannot be written.
pub fn make_store(directory: &Path, choice: &Choice) -> Result<Arc<dyn Store>, BooksError> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(EnvelopeError::from)?;
    Ok(choice.create(&directory.join(STORE_DIRECTORY), &name)?)
}

impl Books {
    /// Opens the store, judges every record against the manifest, and opens every record. Blocks.
    ///
    /// `newest` judges whether the store that the manifest describes is the newest there is. A halt ends it at the next record.
    ///
    /// # Errors
    /// When the store is damaged, rolled back, spliced or another vault's, or a halt was called; nothing is written then.
    pub fn open(
        (directory, choice, halt): (&Path, &Choice, &Halt),
        unsealed: &Arc<Mutex<Unsealed>>,
        keys: Arc<TenantKeys>,
        newest: impl FnOnce(&Manifest) -> Result<(), BooksError>,
    ) -> Result<Opened, BooksError> {
        let guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        let keyring = guard.keyring();
        let mut manifest = Manifest::open(directory, keyring, keys.algorithm())?;
        let place = directory.join(STORE_DIRECTORY);
        // A copy is judged first: opening a damaged store may rewrite it, and then nobody can tell what happened.
        let judged = choice.with_copy(&place, |copy| {
            let rows = Rows::read(copy, halt)?;
            Ok::<_, BooksError>((rows.judge(&manifest, keyring)?, rows.digest()))
        });
        let (mut verdict, digest) = judged??;
        let store = choice.open(&place)?;
        let rows = Rows::read(&*store, halt)?;
        if rows.digest() != digest {
            verdict = rows.judge(&manifest, keyring)?;
        }
        newest(&manifest)?;
        match verdict {
            Verdict::Same => {}
            Verdict::IntendedNotApplied => manifest.abandon(&mut getrandom::fill)?,
            Verdict::IntendedApplied => drop(manifest.finish(&mut getrandom::fill)?),
        }
        let Read { records, ledger, taken } = rows.open(&keys, keyring)?;
        drop(guard);
        let commit = Arc::new(AtomicU64::new(manifest.commit()));
        let (manifest, unsealed) = (Arc::new(Mutex::new(manifest)), Arc::clone(unsealed));
        let journal = JournalLink::default();
        let (state, noted) = {
            let manifest = manifest.lock().unwrap_or_else(PoisonError::into_inner);
            (manifest.state(), manifest.noted())
        };
        let witness = ManifestWitness {
            manifest: Arc::clone(&manifest),
            unsealed: Arc::clone(&unsealed),
            commit: Arc::clone(&commit),
            journal: journal.clone(),
        };
        let group = GroupCommit::start(store, witness)?;
        let shreds = BTreeMap::new();
        let shared = Arc::clone(&manifest);
        let books = Self { group, manifest, unsealed, keys, shreds, ledger, commit };
        Ok(Opened { books, manifest: shared, journal, state, noted, records, taken })
    }

    /// Takes the keyring's keys, after it was changed: a new epoch, and every owner's shred key.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn learn(&mut self, keyring: &Keyring, keys: TenantKeys) -> Result<(), KeyringError> {
        self.keys = Arc::new(keys);
        self.shreds.clear();
        for owner in keyring.shred_owners() {
            self.shreds.insert(owner, keyring.shred_key(owner)?.clone());
        }
        Ok(())
    }

    /// Forgets every key, and answers what may still have to write.
    pub fn into_writer(self) -> GroupCommit {
        let Self { group, .. } = self;
        group
    }

    /// Seals under a new generation of keys from now on.
    pub fn turn_to(&mut self, keys: TenantKeys) {
        self.keys = Arc::new(keys);
    }

    /// Takes in the shred key of a new owner, or the one that replaces an owner's.
    pub fn hold_shred(&mut self, owner: ShredId, key: RestingShredKey) {
        self.shreds.insert(owner, key);
    }

    /// Forgets the shred key of an owner that is gone.
    pub fn forget_shred(&mut self, owner: ShredId) {
        self.shreds.remove(&owner);
    }

    /// The last settled commit.
    pub fn commit(&self) -> u64 {
        self.commit.load(Ordering::Acquire)
    }

    /// How far the rewriting of old records is.
    pub fn generations(&self) -> Generations {
        let mut epochs: BTreeMap<Epoch, usize> =
            self.keys.epochs().map(|epoch| (epoch, 0)).collect();
        epochs.extend(self.ledger.epochs());
        let tables = [epochs.len(), self.shreds.len(), self.keys.tenants()];
        let keys = tables.into_iter().fold(0_usize, usize::saturating_add);
        Generations {
            epoch: self.keys.epoch(),
            old: self.ledger.old((self.keys.epoch(), Format::NEWEST)),
            records: self.ledger.len(),
            lowest_format: self.keys.lowest_format(),
            algorithm: self.keys.algorithm(),
            epochs,
            keys,
        }
    }

    /// Begins a set of changes.
    pub fn changes(&self) -> Changes {
        Changes { batch: Batch::new(), written: Vec::new() }
    }

    /// Adds the writing of a record.
    ///
    /// # Errors
    /// When it is too long, cannot be sealed, or its owner has no shred key.
    pub fn put(
        &self,
        changes: Changes,
        place: &RecordPlace,
        plain: &Secret,
    ) -> Result<Changes, BooksError> {
        let shred = self.shred_of(&place.name, Format::NEWEST)?;
        self.put_under(changes, (place, shred.as_ref()), plain)
    }

    /// Adds the writing of a record under a shred key that is to replace its owner's.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn put_under(
        &self,
        changes: Changes,
        (place, shred): (&RecordPlace, Option<&RestingShredKey>),
        plain: &Secret,
    ) -> Result<Changes, BooksError> {
        let key = place.store_key(self.keys.first());
        let before = self.ledger.get(&key);
        let version = before.map_or(0, |written| written.version).saturating_add(1);
        let sealed = self.keys.seal((place, version), plain, shred)?;
        let pieces = u8::try_from(sealed.len()).map_err(|_| BooksError::TooLong)?;
        let Changes { mut batch, mut written } = match place.former(self.keys.first()) {
            Some(former) => self.delete(changes, &former)?,
            None => changes,
        };
        for (number, envelope) in (0_u8..).zip(&sealed) {
            batch = batch.put(store_key(&piece_key(&key, number))?, value(envelope)?);
        }
        for number in pieces..before.map_or(0, |written| written.pieces) {
            batch = batch.delete(store_key(&piece_key(&key, number))?);
        }
        let (epoch, format) = (self.keys.epoch(), Format::NEWEST);
        written.push((key, Some(Written { version, pieces, epoch, format })));
        Ok(Changes { batch, written })
    }

    /// Adds the removal of a record, under whichever name it lies.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn delete(&self, changes: Changes, place: &RecordPlace) -> Result<Changes, BooksError> {
        let Changes { mut batch, mut written } = changes;
        let (first, former) = (self.keys.first(), place.former(self.keys.first()));
        for key in std::iter::once(place).chain(&former).map(|one| one.store_key(first)) {
            let Some(found) = self.ledger.get(&key) else { continue };
            for number in 0..found.pieces {
                batch = batch.delete(store_key(&piece_key(&key, number))?);
            }
            written.push((key, None));
        }
        Ok(Changes { batch, written })
    }

    fn shred_of(
        &self,
        name: &RecordName,
        format: Format,
    ) -> Result<Option<RestingShredKey>, BooksError> {
        let Some(owner) = name.owner(format) else { return Ok(None) };
        self.shreds.get(&owner).cloned().map(Some).ok_or(BooksError::Ownerless)
    }

    /// Runs `work` on the writer's thread between two commits; see [`GroupCommit::at_rest`].
    ///
    /// # Errors
    /// When too much is waiting or the writer has ended; `work` is dropped unrun.
    pub fn at_rest(
        &self,
        work: impl FnOnce(&dyn Store) + Send + 'static,
    ) -> Result<(), StoreError> {
        self.group.at_rest(work)
    }

    /// Runs `work` between two commits over the store, and what it needs of manifest and keyring: it holds their locks for
    /// moments only, since acts and the seal wait for them.
    ///
    /// # Errors
    /// As [`Self::at_rest`].
    pub fn whole_at_rest(
        &self,
        work: impl FnOnce(&dyn Store, &Mutex<Manifest>, &Mutex<Unsealed>) + Send + 'static,
    ) -> Result<(), StoreError> {
        let (manifest, unsealed) = (Arc::clone(&self.manifest), Arc::clone(&self.unsealed));
        self.at_rest(move |store| work(store, &manifest, &unsealed))
    }

    /// Hands changes to the writer. When they are durable, and not before, [`Self::note`] takes them in.
    pub fn submit(&self, changes: Changes) -> (Outcome, Noted) {
        let (answer, outcome) = oneshot::channel();
        // Whoever stopped waiting has reported the fault already.
        self.group.submit(changes.batch, move |result| drop(answer.send(result)));
        (outcome, Noted(changes.written))
    }

    /// Takes in what is durable by now.
    pub fn note(&mut self, noted: Noted) {
        for (key, written) in noted.0 {
            match written {
                Some(written) => self.ledger.put(key, written),
                None => self.ledger.remove(&key),
            }
        }
    }
}

/// Answers when changes are durable, or says why not.
pub type Outcome = oneshot::Receiver<Result<(), StoreError>>;

/// What changes make of the books once they are durable.
#[must_use]
pub struct Noted(Vec<(Vec<u8>, Option<Written>)>);

fn store_key(key: &[u8]) -> Result<Key, BooksError> {
    Key::new(key).map_err(|error| BooksError::Store(error.into()))
}

fn value(envelope: &[u8]) -> Result<Value, BooksError> {
    Value::new(envelope).map_err(|error| BooksError::Store(error.into()))
}

#[cfg(test)]
mod scale;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod splice;
#[cfg(test)]
mod tests;
