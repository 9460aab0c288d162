//! The keeper's records on disk: sealed one by one, committed in groups, kept in step with the manifest.
//!
//! A record longer than one value lies in numbered pieces: `store key ‖ piece number`; the first byte of the first
//! piece is how many there are.
//!
//! Invariant: plaintext exists in memory only; what reaches the store is an envelope.
//! Invariant: a commit that was answered is durable, and the manifest knows it.
//! Distrusts: the store's files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_policy::id::TenantId;
use strongroom_store::check::{CheckError, with_copy};
use strongroom_store::{
    Batch, Change, GroupCommit, Key, SledStore, Store, StoreError, Value, Witness, WitnessError,
};
use strongroom_sys::Secret;
use tokio::sync::oneshot;

use crate::envelope::{EnvelopeError, Header, open_record, seal_record};
use crate::keyring::{KeyringError, ShredId};
use crate::keys::{
    Algorithm, Context, Epoch, RecordId, RecordKeySource, RecordVersion, Scope, ShredKey, StoreId,
    TenantKey,
};
use crate::manifest::{MARK_RECORD, Manifest, ManifestError, Refusal, Verdict};
use crate::records::RecordName;
use crate::seal::Unsealed;

/// The store's directory within the vault's.
pub const STORE_DIRECTORY: &str = "store";
/// Plaintext of one piece; with the envelope it stays under the store's 8 KiB.
const PIECE_BYTES: usize = 7 * 1024;
/// Most pieces of one record.
const MAX_PIECES: usize = 16;

/// The one tenant's keys and identity, as records are sealed with them.
pub struct TenantKeys {
    /// The vault.
    pub store: StoreId,
    /// The tenant.
    pub tenant: TenantId,
    /// The generation of keys that new records are written under.
    pub epoch: Epoch,
    /// The tenant's key in that generation.
    pub key: TenantKey,
    /// The cipher of new records.
    pub algorithm: Algorithm,
}

/// The open store.
pub struct Books {
    group: GroupCommit,
    keys: Arc<TenantKeys>,
    versions: BTreeMap<Vec<u8>, Written>,
}

/// What is known of a stored record.
#[derive(Debug, Clone, Copy)]
struct Written {
    version: u64,
    pieces: u8,
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
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A record that no version of this program wrote.
    #[error("a record is malformed")]
    Malformed,
    /// Longer than all pieces together.
    #[error("a record is too long")]
    TooLong,
    /// A thread ended.
    #[error("the store's writer has ended")]
    Stopped,
}

/// Changes that are committed together.
pub struct Changes {
    batch: Batch,
    written: Vec<(Vec<u8>, Option<Written>)>,
}

/// What lay in the store at unseal.
pub struct Opened {
    /// The open store.
    pub books: Books,
    /// Every record in clear.
    pub records: Vec<(RecordName, Secret)>,
    /// How many commits there were.
    pub commit: u64,
}

/// Makes the files of an empty store in a new vault's directory.
///
/// # Errors
/// When there are some, or they cannot be written.
pub fn create(
    directory: &Path,
    unsealed: &Unsealed,
    algorithm: Algorithm,
) -> Result<(), BooksError> {
    drop(SledStore::create(&directory.join(STORE_DIRECTORY))?);
    drop(Manifest::create(directory, unsealed.keyring(), algorithm, &mut getrandom::fill)?);
    Ok(())
}

impl Books {
    /// Opens the store, judges every record against the manifest, and opens every record. Blocks.
    ///
    /// # Errors
    /// When the store is damaged, rolled back, spliced or another vault's; nothing is written then.
    pub fn open(
        directory: &Path,
        unsealed: &Arc<Mutex<Unsealed>>,
        keys: Arc<TenantKeys>,
    ) -> Result<Opened, BooksError> {
        let guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        let keyring = guard.keyring();
        let mut manifest = Manifest::open(directory, keyring, keys.algorithm)?;
        let place = directory.join(STORE_DIRECTORY);
        // A copy is judged first: opening a damaged store rewrites it, and then nobody can tell what happened.
        with_copy(&place, |copy| judge(&manifest, keyring, copy).map(drop))?.0?;
        let store: Arc<dyn Store> = Arc::new(SledStore::open(&place)?);
        let (verdict, rows) = judge(&manifest, keyring, &*store)?;
        match verdict {
            Verdict::Same => {}
            Verdict::IntendedNotApplied => manifest.abandon(&mut getrandom::fill)?,
            Verdict::IntendedApplied => drop(manifest.finish(&mut getrandom::fill)?),
        }
        let (records, versions) = open_all(rows, &keys, |owner| {
            keyring.keyring().shred_key(owner).map_err(BooksError::from)
        })?;
        drop(guard);
        let commit = manifest.commit();
        let witness = ManifestWitness { manifest, unsealed: Arc::clone(unsealed) };
        let group = GroupCommit::start(store, witness)?;
        Ok(Opened { books: Self { group, keys, versions }, records, commit })
    }

    /// Begins a set of changes.
    pub fn changes(&self) -> Changes {
        Changes { batch: Batch::new(), written: Vec::new() }
    }

    /// Adds the writing of a record; a credential's key takes its shred key.
    ///
    /// # Errors
    /// When it is too long or cannot be sealed.
    pub fn put(
        &self,
        changes: Changes,
        name: &RecordName,
        plain: &Secret,
        shred: Option<&ShredKey>,
    ) -> Result<Changes, BooksError> {
        let key = name.store_key();
        let before = self.versions.get(&key).copied();
        let version = before.map_or(0, |written| written.version).saturating_add(1);
        let pieces = split(plain)?;
        let count = u8::try_from(pieces.len()).map_err(|_| BooksError::TooLong)?;
        let mut batch = changes.batch;
        for (number, piece) in (0_u8..).zip(&pieces) {
            let piece_key = piece_key(&key, number);
            let context = self.keys.context(name, &piece_key, (self.keys.epoch, version));
            let source = RecordKeySource::from_tenant(&self.keys.key, shred);
            let envelope = piece.expose(|plain| {
                seal_record(&source, &context, self.keys.algorithm, plain, &mut getrandom::fill)
            })?;
            batch = batch.put(store_key(&piece_key)?, value(&envelope)?);
        }
        for number in count..before.map_or(0, |written| written.pieces) {
            batch = batch.delete(store_key(&piece_key(&key, number))?);
        }
        let mut written = changes.written;
        written.push((key, Some(Written { version, pieces: count })));
        Ok(Changes { batch, written })
    }

    /// Adds the removal of a record.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn delete(&self, changes: Changes, name: &RecordName) -> Result<Changes, BooksError> {
        let key = name.store_key();
        let mut batch = changes.batch;
        for number in 0..self.versions.get(&key).map_or(0, |written| written.pieces) {
            batch = batch.delete(store_key(&piece_key(&key, number))?);
        }
        let mut written = changes.written;
        written.push((key, None));
        Ok(Changes { batch, written })
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

    /// Hands changes to the writer; the receiver answers when they are durable.
    pub fn submit(&mut self, changes: Changes) -> oneshot::Receiver<Result<(), StoreError>> {
        let (answer, outcome) = oneshot::channel();
        for (key, written) in changes.written {
            match written {
                Some(written) => drop(self.versions.insert(key, written)),
                None => drop(self.versions.remove(&key)),
            }
        }
        // Whoever stopped waiting has reported the fault already.
        self.group.submit(changes.batch, move |result| drop(answer.send(result)));
        outcome
    }
}

impl TenantKeys {
    fn context<'a>(
        &self,
        name: &RecordName,
        piece_key: &'a [u8],
        (epoch, version): (Epoch, u64),
    ) -> Context<'a> {
        Context {
            store: self.store,
            scope: Scope::Tenant(self.tenant),
            epoch,
            kind: name.kind(),
            record: RecordId(piece_key),
            version: RecordVersion(version),
        }
    }
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn judge(
    manifest: &Manifest,
    keyring: &crate::keyring::KeyringFile,
    store: &dyn Store,
) -> Result<(Verdict, Rows), BooksError> {
    let mut scan = manifest.scan();
    let mut rows = Vec::new();
    let mut failed = None;
    store.scan_all(&mut |key, value| {
        if let Err(error) = scan.take(RecordId(key.as_bytes()), value.as_bytes()) {
            failed = Some(error);
            return std::ops::ControlFlow::Break(());
        }
        if key.as_bytes() != MARK_RECORD {
            rows.push((key.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        std::ops::ControlFlow::Continue(())
    })?;
    if let Some(error) = failed {
        return Err(ManifestError::from(error).into());
    }
    let scanned = scan.finish();
    Ok((manifest.judge(&scanned, keyring)?, rows))
}

type OpenRecords = (Vec<(RecordName, Secret)>, BTreeMap<Vec<u8>, Written>);

/// Rows come in key order, so the pieces of a record follow each other from 0.
fn open_all<'k>(
    rows: Rows,
    keys: &TenantKeys,
    shred_of: impl Fn(ShredId) -> Result<&'k ShredKey, BooksError>,
) -> Result<OpenRecords, BooksError> {
    let mut records = Vec::new();
    let mut versions = BTreeMap::new();
    let mut rows = rows.into_iter().peekable();
    while let Some((first_key, envelope)) = rows.next() {
        let (number, key) = first_key.split_last().ok_or(BooksError::Malformed)?;
        let name = RecordName::parse(key).ok_or(BooksError::Malformed)?;
        if *number != 0 {
            return Err(BooksError::Malformed);
        }
        let shred = match &name {
            RecordName::Key(id) => Some(shred_of(ShredId(*id.bytes()))?),
            RecordName::User(_)
            | RecordName::Workspace(_)
            | RecordName::Token(_)
            | RecordName::Credential(_)
            | RecordName::Provider(_) => None,
        };
        let source = RecordKeySource::from_tenant(&keys.key, shred);
        let version = Header::parse(&envelope)?.version.0;
        let open = |piece: &[u8], envelope: &[u8]| {
            let epoch = Header::parse(envelope)?.epoch;
            open_record(&source, &keys.context(&name, piece, (epoch, version)), envelope)
        };
        let first = open(&first_key, &envelope)?;
        let pieces = first.expose(|plain| plain.first().copied()).ok_or(BooksError::Malformed)?;
        let mut plain = first
            .expose(|plain| zeroize::Zeroizing::new(plain.get(1..).unwrap_or_default().to_vec()));
        for number in 1..pieces {
            let wanted = piece_key(key, number);
            let (piece, envelope) =
                rows.next_if(|(found, _)| *found == wanted).ok_or(BooksError::Malformed)?;
            let more = open(&piece, &envelope)?;
            // Only definitions and rules have several pieces; a provider's key has one.
            more.expose(|more| plain.extend_from_slice(more));
        }
        versions.insert(key.to_vec(), Written { version, pieces });
        records.push((name, Secret::copy_from(&plain)));
    }
    Ok((records, versions))
}

fn split(plain: &Secret) -> Result<Vec<Secret>, BooksError> {
    plain.expose(|plain| {
        let count = plain.len().div_ceil(PIECE_BYTES).max(1);
        if count > MAX_PIECES {
            return Err(BooksError::TooLong);
        }
        let count_byte = u8::try_from(count).map_err(|_| BooksError::TooLong)?;
        let (first, rest) = plain.split_at_checked(PIECE_BYTES).unwrap_or((plain, &[]));
        let mut head = zeroize::Zeroizing::new(Vec::with_capacity(PIECE_BYTES.saturating_add(1)));
        head.push(count_byte);
        head.extend_from_slice(first);
        let mut pieces = vec![Secret::copy_from(&head)];
        pieces.extend(rest.chunks(PIECE_BYTES).map(Secret::copy_from));
        Ok(pieces)
    })
}

fn piece_key(key: &[u8], number: u8) -> Vec<u8> {
    let mut piece = key.to_vec();
    piece.push(number);
    piece
}

fn store_key(key: &[u8]) -> Result<Key, BooksError> {
    Key::new(key).map_err(|error| BooksError::Store(error.into()))
}

fn value(envelope: &[u8]) -> Result<Value, BooksError> {
    Value::new(envelope).map_err(|error| BooksError::Store(error.into()))
}

/// Keeps the manifest in step with each group of commits.
struct ManifestWitness {
    manifest: Manifest,
    unsealed: Arc<Mutex<Unsealed>>,
}

impl Witness for ManifestWitness {
    fn before(&mut self, changes: &[Change]) -> Result<Option<(Key, Value)>, WitnessError> {
        let mut delta = self.manifest.delta();
        for change in changes {
            let record = RecordId(change.key.as_bytes());
            let before = change.before.as_ref().map(Value::as_bytes);
            match (&change.after, before) {
                (Some(after), before) => delta.put(record, before, after.as_bytes()),
                (None, Some(before)) => delta.delete(record, before),
                (None, None) => Ok(()),
            }
            .map_err(WitnessError::new)?;
        }
        let change = delta.change();
        let generation =
            self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).keyring().generation();
        let mark = self
            .manifest
            .begin(change, generation, &mut getrandom::fill)
            .map_err(WitnessError::new)?;
        let key = Key::new(MARK_RECORD).map_err(WitnessError::new)?;
        let value = Value::new(&mark.0).map_err(WitnessError::new)?;
        Ok(Some((key, value)))
    }

    fn after(&mut self) -> Result<(), WitnessError> {
        self.manifest.finish(&mut getrandom::fill).map(drop).map_err(WitnessError::new)
    }
}
