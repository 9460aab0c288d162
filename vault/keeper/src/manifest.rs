//! The manifest beside the store: what the store must contain, so that nothing is swapped under it.
//!
//! ```text
//! payload    store id 16 ‖ envelope(manifest key; system, epoch 0, kind manifest, version = generation)
//! plaintext  postcard of `Record`: settled state, intended state or none, a TPM's counter or none
//! state      commit u64 ‖ record count u64 ‖ keyring generation u64 ‖ set hash 2,048 bytes ‖ journal: size u64 ‖ root 32
//! mark       store id 16 ‖ commit u64 ‖ HMAC, in the store under `MARK_RECORD`
//! ```
//!
//! The set hash is a sum, lane by lane, of one pseudo-random element per record (`LtHash16`, Bellare
//! and Micciancio; XOR would be forgeable from observed changes). It is keyed and lies sealed.
//!
//! What the caller must do, for each commit:
//! 1. build a [`Delta`] with exactly the records that the batch puts and deletes, and the
//!    [`Delta`] must not contain the mark;
//! 2. [`Manifest::begin`], which is durable on return and answers the mark;
//! 3. one atomic, durable batch on the store: the records, and the mark under [`MARK_RECORD`];
//! 4. [`Manifest::finish`], durable on return; only then acknowledge.
//!
//! At unseal: scan the whole store into a [`Scan`] (every record but the mark), call
//! [`Manifest::judge`], and serve nothing before it answered `Ok`. When a batch fails after
//! `begin`, seal the vault: the next unseal finds out whether it was applied.
//!
//! Limit: whoever restores store, manifest *and* keyring of one moment together, or the store of
//! the last commit while destroying the newest manifest slot, goes unnoticed here; a witness or a
//! counter outside the disk finds that.
//!
//! Invariant: at unseal exactly two states are accepted: the settled one and the intended one.
//! Distrusts: every byte of the disk.

mod counter;
mod judge;
mod set_hash;

use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_sys::Secret;

use crate::envelope::{EnvelopeError, open_record, seal_record};
use crate::journal::found::{Head, StoreState};
use crate::keyring::KeyringFile;
use crate::keys::{
    self, Algorithm, Context, DeriveError, Epoch, FillRandom, Kind, ManifestKey, MarkKey, RecordId,
    RecordKeySource, RecordVersion, Scope, SetHashKey, StoreId,
};
use crate::slots::{Capacity, Generation, SlotError, SlotFile};

pub use counter::{Checkpoint, CounterNote, Motion, NotNewest, Seen};
pub use judge::{Part, Reference, Refusal, Scan, Scanned, Verdict};
pub use set_hash::{Accumulator, Delta};

/// The manifest's file in the data directory.
pub const MANIFEST_FILE: &str = "manifest";
/// The store's key of the commit mark; no other record begins with a zero byte.
pub const MARK_RECORD: &[u8] = b"\0mark";
/// Two states of 2 KiB and their envelope, twice over.
const CAPACITY: Capacity = Capacity(8192);
const MARK_BYTES: usize = 16 + 8 + keys::TAG_BYTES;

/// Why the manifest was not made, opened or written. At unseal these are `Refusal`s.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The slot file; after a failed write the vault must seal itself.
    #[error("manifest file: {0}")]
    Slots(#[from] SlotError),
    /// It is of another vault.
    #[error("the manifest belongs to another vault")]
    Foreign,
    /// It does not open under this vault's key.
    #[error("the manifest does not open: {0}")]
    Envelope(#[from] EnvelopeError),
    /// It opens, and is not a manifest.
    #[error("the manifest is malformed")]
    Malformed,
    /// `begin` during a commit, or `finish` without one.
    #[error("the manifest's steps were called out of order")]
    OutOfOrder,
    /// A count or a commit number would leave its range: the delta does not fit the store.
    #[error("the change does not fit the record count")]
    Count,
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

impl ManifestError {
    /// What an unseal that met this error says.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Foreign => Refusal::Foreign,
            Self::Slots(_)
            | Self::Envelope(_)
            | Self::Malformed
            | Self::OutOfOrder
            | Self::Count
            | Self::Derive(_) => Refusal::Corrupt,
        }
    }
}

/// The three keys of the manifest.
#[derive(Debug)]
struct Keys {
    seal: ManifestKey,
    set_hash: SetHashKey,
    mark: MarkKey,
}

/// The manifest with its file.
#[derive(Debug)]
pub struct Manifest {
    slots: SlotFile,
    keys: Keys,
    store: StoreId,
    algorithm: Algorithm,
    record: Record,
    /// The journal's last durable checkpoint, for the next state that is written.
    journal: Head,
}

/// One state of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    commit: u64,
    count: u64,
    keyring: Generation,
    set_hash: Accumulator,
    journal: Head,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    settled: State,
    intended: Option<State>,
    counter: Option<CounterNote>,
}

impl Record {
    fn newest(&self) -> &State {
        self.intended.as_ref().unwrap_or(&self.settled)
    }
}

/// What a state says of the store alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The commit.
    pub commit: u64,
    /// How many records.
    pub count: u64,
    /// Over all of them.
    pub set_hash: Accumulator,
}

/// What the batch must put under [`MARK_RECORD`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(pub Vec<u8>);

impl Manifest {
    /// Writes the manifest of an empty store: commit 0, no mark.
    ///
    /// # Errors
    /// When there is one already, or it cannot be sealed or written.
    pub fn create(
        directory: &Path,
        keyring: &KeyringFile,
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Self, ManifestError> {
        let (store, keys) = (keyring.keyring().store(), derive_keys(keyring)?);
        let settled = State {
            commit: 0,
            count: 0,
            keyring: keyring.generation(),
            set_hash: Accumulator::empty(),
            journal: Head::default(),
        };
        let record = Record { settled, intended: None, counter: None };
        let [one, two] = Generation::FIRST_TWO;
        let first = seal(&keys.seal, store, (&record, one), algorithm, random)?;
        let second = seal(&keys.seal, store, (&record, two), algorithm, random)?;
        let path = directory.join(MANIFEST_FILE);
        let slots = SlotFile::create(&path, CAPACITY, [&first, &second])?;
        Ok(Self { slots, keys, store, algorithm, record, journal: Head::default() })
    }

    /// Writes the manifest of a restored store, which is to be judged by it like any other.
    ///
    /// # Errors
    /// When there is one already, or it cannot be sealed or written.
    pub fn restore(
        directory: &Path,
        keyring: &KeyringFile,
        Account { commit, count, set_hash }: Account,
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Self, ManifestError> {
        let mut manifest = Self::create(directory, keyring, algorithm, random)?;
        let keyring = keyring.generation();
        let journal = Head::default();
        let settled = State { commit, count, keyring, set_hash, journal };
        // Twice: both slots speak of this store and of no empty one.
        manifest
            .write(Record { settled: settled.clone(), intended: None, counter: None }, random)?;
        manifest.write(Record { settled, intended: None, counter: None }, random)?;
        Ok(manifest)
    }

    /// Opens the manifest of a vault; [`Self::judge`] must accept the store before anything else.
    ///
    /// # Errors
    /// When it is missing, torn in both slots, of another vault, or altered.
    pub fn open(
        directory: &Path,
        keyring: &KeyringFile,
        algorithm: Algorithm,
    ) -> Result<Self, ManifestError> {
        let (store, keys) = (keyring.keyring().store(), derive_keys(keyring)?);
        let (slots, payload) = SlotFile::open(&directory.join(MANIFEST_FILE), CAPACITY)?;
        let (found, envelope) =
            payload.split_first_chunk::<16>().ok_or(ManifestError::Malformed)?;
        if *found != store.0 {
            return Err(ManifestError::Foreign);
        }
        let context = context(store, slots.generation());
        let plain = open_record(&RecordKeySource::from_manifest(&keys.seal), &context, envelope)?;
        let record = plain.expose(decode)?;
        let journal = record.newest().journal;
        Ok(Self { slots, keys, store, algorithm, record, journal })
    }

    /// The settled state, as the journal names it.
    pub fn state(&self) -> StoreState {
        let State { commit, count, keyring, set_hash, journal: _ } = &self.record.settled;
        let set_hash = Vec::from(set_hash.clone());
        let digest = keys::digest_state(self.store, (*commit, *count), keyring.0, &set_hash);
        StoreState { commit: *commit, digest }
    }

    /// How far the journal is at least.
    pub fn noted(&self) -> Head {
        self.record.newest().journal
    }

    /// How far the journal is known to be on the disk, for the next state that is written. It never goes back.
    pub fn note(&mut self, journal: Head) {
        if journal.size > self.journal.size {
            self.journal = journal;
        }
    }

    /// Writes what was noted since the last commit, when the vault is sealed.
    ///
    /// # Errors
    /// `OutOfOrder` during a commit, or the write failed.
    pub fn keep_note(&mut self, random: FillRandom<'_>) -> Result<(), ManifestError> {
        if self.record.intended.is_some() {
            return Err(ManifestError::OutOfOrder);
        }
        let settled = State { journal: self.journal, ..self.record.settled.clone() };
        if settled == self.record.settled {
            return Ok(());
        }
        self.write(Record { settled, intended: None, counter: self.record.counter }, random)
    }

    /// The last settled commit.
    pub fn commit(&self) -> u64 {
        self.record.settled.commit
    }

    /// What the settled state says of the store.
    pub fn account(&self) -> Account {
        let State { commit, count, set_hash, .. } = self.record.settled.clone();
        Account { commit, count, set_hash }
    }

    /// The mark of the settled commit.
    pub fn mark(&self) -> Mark {
        mark(&self.keys.mark, self.store, self.commit())
    }

    /// An empty change, to be filled with what the batch does.
    pub fn delta(&self) -> Delta<'_> {
        Delta::new(&self.keys.set_hash)
    }

    /// An empty scan, to be filled with every record of the store.
    pub fn scan(&self) -> Scan<'_> {
        Scan::new(&self.keys.set_hash)
    }

    /// Whether a commit is begun and not finished.
    pub fn is_pending(&self) -> bool {
        self.record.intended.is_some()
    }

    /// Makes the intention of the next commit durable; answers the mark for its batch.
    ///
    /// # Errors
    /// `OutOfOrder` when a commit is under way, `Count` when the change does not fit, or the write
    /// failed.
    pub fn begin(
        &mut self,
        change: Change,
        keyring: Generation,
        random: FillRandom<'_>,
    ) -> Result<Mark, ManifestError> {
        if self.record.intended.is_some() {
            return Err(ManifestError::OutOfOrder);
        }
        let Change { count, set_hash } = change;
        let settled = &self.record.settled;
        let commit = settled.commit.checked_add(1).ok_or(ManifestError::Count)?;
        let count = settled.count.checked_add_signed(count).ok_or(ManifestError::Count)?;
        let keyring = keyring.max(settled.keyring);
        let set_hash = settled.set_hash.plus(&set_hash);
        let intended = State { commit, count, keyring, set_hash, journal: self.journal };
        let counter = self.record.counter;
        self.write(Record { settled: settled.clone(), intended: Some(intended), counter }, random)?;
        Ok(mark(&self.keys.mark, self.store, commit))
    }

    /// Makes the intended state the settled one, after the batch is durable.
    ///
    /// # Errors
    /// `OutOfOrder` when none is intended, or the write failed.
    pub fn finish(&mut self, random: FillRandom<'_>) -> Result<u64, ManifestError> {
        let settled = self.record.intended.clone().ok_or(ManifestError::OutOfOrder)?;
        let commit = settled.commit;
        self.write(Record { settled, intended: None, counter: self.record.counter }, random)?;
        Ok(commit)
    }

    /// Drops an intention that [`Self::judge`] found not applied.
    ///
    /// # Errors
    /// `OutOfOrder` when none is intended, or the write failed.
    pub fn abandon(&mut self, random: FillRandom<'_>) -> Result<(), ManifestError> {
        if self.record.intended.is_none() {
            return Err(ManifestError::OutOfOrder);
        }
        let (settled, counter) = (self.record.settled.clone(), self.record.counter);
        self.write(Record { settled, intended: None, counter }, random)
    }

    fn write(&mut self, record: Record, random: FillRandom<'_>) -> Result<(), ManifestError> {
        let generation = self.slots.next_generation();
        let sealed =
            seal(&self.keys.seal, self.store, (&record, generation), self.algorithm, random)?;
        self.slots.write(&sealed)?;
        self.record = record;
        Ok(())
    }
}

/// What a batch does to count and set hash; made by [`Delta::change`].
#[derive(Debug)]
pub struct Change {
    count: i64,
    set_hash: Accumulator,
}

fn derive_keys(keyring: &KeyringFile) -> Result<Keys, DeriveError> {
    let (seed, store) = (keyring.keyring().system(), keyring.keyring().store());
    Ok(Keys {
        seal: keys::derive_manifest_key(seed, store)?,
        set_hash: keys::derive_set_hash_key(seed, store)?,
        mark: keys::derive_mark_key(seed, store)?,
    })
}

fn mark(key: &MarkKey, store: StoreId, commit: u64) -> Mark {
    let tag = keys::tag_mark(key, store, commit);
    Mark([store.0.as_slice(), &commit.to_be_bytes(), &tag].concat())
}

fn context(store: StoreId, generation: Generation) -> Context<'static> {
    Context {
        store,
        scope: Scope::System,
        epoch: Epoch(0),
        kind: Kind::Manifest,
        record: RecordId(&[]),
        version: RecordVersion(generation.0),
    }
}

fn seal(
    key: &ManifestKey,
    store: StoreId,
    (record, generation): (&Record, Generation),
    algorithm: Algorithm,
    random: FillRandom<'_>,
) -> Result<Vec<u8>, ManifestError> {
    let plain = Secret::take(postcard::to_stdvec(record).map_err(|_| ManifestError::Malformed)?);
    let (source, context) = (RecordKeySource::from_manifest(key), context(store, generation));
    let envelope =
        plain.expose(|plain| seal_record(&source, &context, algorithm, plain, random))?;
    Ok([store.0.as_slice(), &envelope].concat())
}

pub(crate) fn decode(plain: &[u8]) -> Result<Record, ManifestError> {
    let (record, rest) =
        postcard::take_from_bytes::<Record>(plain).map_err(|_| ManifestError::Malformed)?;
    if rest.is_empty() { Ok(record) } else { Err(ManifestError::Malformed) }
}
