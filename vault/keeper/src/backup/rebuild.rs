//! From a backup to the directory of a vault, which is then opened and judged like any other.
//!
//! Invariant: nothing is believed because the backup says it: the store that was built is scanned into the set hash, and
//! every record is opened with the keys of the backup's own keyring.
//! Invariant: the directory that is built is no vault's; whoever uses it moves it into place.
//! Invariant: a halt ends it at the next record, with every key that it holds.
//! Distrusts: every byte of the file.

use std::fs::{DirBuilder, File};
use std::io::BufReader;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use strongroom_policy::provider::Origin;
use strongroom_protocol::operator::backup::Content;
use strongroom_store::{Batch, Choice, Key, Store, StoreError, Value};
use strongroom_sys::Secret;

use super::content::{Closing, ContentError, ContentReader, Item};
use super::halt::Halt;
use super::next_life;
use super::stream::{Header, StreamError, StreamReader};
use crate::books::{Books, BooksError, Opened, make_store};
use crate::keyring::{KeyringError, KeyringFile, ShredId};
use crate::keys::{DeriveError, KeyringKey, StoreId};
use crate::manifest::{Account, MARK_RECORD, Manifest, ManifestError};
use crate::memory_seal::MemorySeal;
use crate::people::SigningKey;
use crate::records::RecordPlace;
use crate::seal::{self, SealError, Unsealed};
use crate::tables::{Malformed, Tables};
use crate::vault::{algorithm, open_books, tenant_of};

/// Records of one batch: few syncs, and far from a batch's limits.
const BATCH_RECORDS: usize = 96;

/// Why a backup is refused, or could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Of another vault than the one that looks at it.
    #[error("this backup is of another vault")]
    OtherVault,
    /// Its keyring does not open.
    #[error("the backup's keyring does not open: {0}")]
    Keyring(#[from] KeyringError),
    /// The stream or what is in it.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// Its seal.
    #[error("the backup's seal: {0}")]
    Seal(#[from] SealError),
    /// Its account.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The closing account is not of the header's commit.
    #[error("the backup's header and its account are of different commits")]
    OtherCommit,
    /// The store that was built.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The records do not add up, or one does not open.
    #[error("the restored store is refused: {0}")]
    Books(BooksError),
    /// Records that do not belong together.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The vault whose key opens it closed meanwhile.
    #[error("the vault was sealed while a backup was being made or checked")]
    Halted,
    /// The directory.
    #[error("the scratch directory cannot be used: {0}")]
    Io(#[from] std::io::Error),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

impl From<BooksError> for RebuildError {
    fn from(error: BooksError) -> Self {
        // What was read so far and every key are dropped on the way to here.
        if matches!(error, BooksError::Halted) { Self::Halted } else { Self::Books(error) }
    }
}

impl From<StreamError> for RebuildError {
    fn from(error: StreamError) -> Self {
        Self::Content(error.into())
    }
}

/// A directory that was built, with its keyring open.
pub struct Rebuilt {
    /// The keyring of the backup's moment.
    pub unsealed: Arc<Mutex<Unsealed>>,
    /// The open store.
    pub books: Books,
    /// All records, read as at an unsealing: every credential has its key.
    pub tables: Tables,
    /// Whose records were sealed under the successor of their shred key.
    pub taken: Vec<ShredId>,
    /// What the backup's header says.
    pub header: Header,
    /// What its account says.
    pub closing: Closing,
}

/// Reads a backup's header.
///
/// # Errors
/// When it is no backup.
pub fn read_header(path: &Path) -> Result<Header, RebuildError> {
    Ok(Header::read(&mut BufReader::new(File::open(path)?))?)
}

/// Builds the vault of a backup in `directory`, which must not exist, with this seal, and opens every record. Its commits
/// begin a life above the backup's and the one of the highest commit that is `known`. Blocks.
///
/// # Errors
/// When anything does not hold; what lies in `directory` then is to be removed.
pub fn rebuild(
    backup: &Path,
    (key, seal, known): (KeyringKey, &[u8], u64),
    (directory, choice, halt): (&Path, &Choice, &Halt),
) -> Result<Rebuilt, RebuildError> {
    let mut file = BufReader::with_capacity(256 * 1024, File::open(backup)?);
    let header = Header::read(&mut file)?;
    DirBuilder::new().mode(0o700).create(directory)?;
    drop(seal::restore(directory, seal)?);
    let commit = next_life(header.commit.max(known)).ok_or(ManifestError::Count)?;
    let keyring = KeyringFile::restore(
        directory,
        key,
        (header.store, header.keyring, &header.keyring_payload),
        (commit, algorithm()),
        &mut getrandom::fill,
    )?;
    let stream = StreamReader::begin(file, &header.derive_key(keyring.keyring().system())?)?;
    let store = make_store(directory, choice)?;
    let closing = fill(&*store, ContentReader::begin(stream), halt)?;
    if closing.commit != header.commit {
        return Err(RebuildError::OtherCommit);
    }
    let account = Account { commit, count: closing.count, set_hash: closing.set_hash.clone() };
    let manifest =
        Manifest::restore(directory, &keyring, account, algorithm(), &mut getrandom::fill)?;
    let mark = Key::new(MARK_RECORD).map_err(StoreError::from)?;
    let value = Value::new(&manifest.mark().0).map_err(StoreError::from)?;
    store.commit(Batch::new().put(mark, value))?;
    drop((store, manifest));
    let unsealed = Arc::new(Mutex::new(Unsealed::of(directory, keyring)));
    let Opened { books, records, taken, .. } =
        open_books((directory, choice, halt), &unsealed, |_| Ok(()))?;
    let tables = read_tables(header.store, records, halt)?;
    Ok(Rebuilt { unsealed, books, tables, taken, header, closing })
}

fn read_tables(
    store: StoreId,
    records: Vec<(RecordPlace, Secret)>,
    halt: &Halt,
) -> Result<Tables, RebuildError> {
    let memory_seal = MemorySeal::draw(algorithm(), &mut getrandom::fill)?;
    let records = records.into_iter().take_while(|_| !halt.is_called());
    let hold = |id, plain: &Secret| memory_seal.seal(id, plain).map_err(|_| Malformed);
    let sign = |plain: &Secret| SigningKey::hold(&memory_seal, plain);
    let tables = Tables::read(tenant_of(store), records, hold, sign);
    // What was cut short is malformed at best.
    if halt.is_called() { Err(RebuildError::Halted) } else { Ok(tables?) }
}

fn fill(
    store: &dyn Store,
    mut content: ContentReader<BufReader<File>>,
    halt: &Halt,
) -> Result<Closing, RebuildError> {
    loop {
        if halt.is_called() {
            return Err(RebuildError::Halted);
        }
        let mut batch = Batch::new();
        for _ in 0..BATCH_RECORDS {
            match content.next_item()? {
                Item::Record(key, value) => batch = batch.put(key, value),
                Item::Closing(closing) => {
                    if !batch.is_empty() {
                        store.commit(batch)?;
                    }
                    return Ok(*closing);
                }
            }
        }
        store.commit(batch)?;
    }
}

/// Restores a backup of this vault into `scratch`, opens every record, and says what is in it. Blocks.
///
/// # Errors
/// When it is of another vault, of an earlier root, or anything in it does not hold.
pub fn verify(
    backup: &Path,
    (store, key): (StoreId, KeyringKey),
    scratch: (&Path, &Choice, &Halt),
) -> Result<Content, RebuildError> {
    if read_header(backup)?.store != store {
        return Err(RebuildError::OtherVault);
    }
    let header = read_header(backup)?;
    let rebuilt = rebuild(backup, (key, &header.seal, 0), scratch)?;
    let Rebuilt { tables, header, closing, .. } = &rebuilt;
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let own = tables.providers.values().filter(|one| one.origin == Origin::Operator);
    let content = Content {
        commit: header.commit,
        when: header.when,
        records: closing.count,
        users: count(tables.count(|one| one.users.len())),
        workspaces: count(tables.count(|one| one.workspaces.len())),
        tokens: count(tables.count(|one| one.tokens().len())),
        credentials: count(tables.count(|one| one.credentials.len())),
        providers: count(own.count()),
        journal_entries: closing.journal.entries,
    };
    Ok(content)
}

#[cfg(test)]
mod tests;
