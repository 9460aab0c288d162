//! From a brought backup to the vault of an empty keeper.
//!
//! ```text
//! vault.restore/   what was brought: backup, journal-0/ …; seal and keyring out of the backup's header
//! vault.new/       the vault that is built out of it, from nothing at each try
//! ```
//!
//! Bringing ends with the rename to `vault.restore/`. The keeper is sealed then; the next unsealing opens the keyring in it,
//! builds `vault.new/`, does again what journals say was taken away, and renames it to `vault/`. A crash before that rename
//! leaves `vault.restore/` as it was, one after it leaves a whole vault and something to remove.
//!
//! Invariant: nothing is served before what journals tell was done again, and an operator has looked at it: until then
//! every token sleeps.
//! Invariant: a vault that is there is never touched.
//! Invariant: the journal that the vault will have is judged as its unsealing judges it, before there is a vault: one that would
//! keep it shut is refused while what was brought is still there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use strongroom_policy::moment::Moment;
use strongroom_protocol::operator::backup::{Covered, MAX_JOURNALS, Restored};
use strongroom_store::Choice;

use super::again::{self, Taken};
use super::content::JournalPoint;
use super::halt::Halt;
use super::journals::{self, JournalRefusal, Surviving};
use super::life_of;
use super::rebuild::{self, RebuildError, Rebuilt};
use super::transfer::{BACKUP_FILE, journal_directory};
use crate::books::BooksError;
use crate::erase::erase;
use crate::founding::{FOUNDING_DIRECTORY, VAULT_DIRECTORY};
use crate::keyring::{self, KeyringError};
use crate::keys::{self, DeriveError, MacKey};
use crate::records::{RecordName, RecordPlace};
use crate::seal::{self, SealError, Sealed, Unsealed};
use crate::vault::{JOURNAL_DIRECTORY, audit_signer, learn_keys, settle_keyring};

/// What was brought and waits for its unsealing.
pub const RESTORE_DIRECTORY: &str = "vault.restore";
const STAGING_DIRECTORY: &str = "vault.restore.new";

/// Why a backup is not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is a vault.
    #[error("there is a vault in this directory already")]
    Exists,
    /// The backup.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// A journal that was brought, or that lies in the data directory.
    #[error("journal {number}: {refusal}")]
    Journal {
        /// Which, in the order that they were named; the directory's own is 0.
        number: usize,
        /// Why.
        refusal: JournalRefusal,
    },
    /// What was taken away could not be taken away again.
    #[error(transparent)]
    Again(#[from] BooksError),
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The seal's file.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file system.
    #[error("the restored vault's files: {0}")]
    Io(#[from] io::Error),
    /// A defect of ours: something still holds the keyring.
    #[error("the restored vault is still in use")]
    InUse,
}

impl From<DeriveError> for RestoreError {
    fn from(error: DeriveError) -> Self {
        Self::Keyring(error.into())
    }
}

/// The directory of the vault that a keeper has: its own, or one that waits to be restored.
///
/// # Errors
/// When the data directory cannot be read.
pub fn place(data: &Path) -> io::Result<Option<PathBuf>> {
    for name in [VAULT_DIRECTORY, RESTORE_DIRECTORY] {
        let place = data.join(name);
        if place.try_exists()? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Erases what restores left behind: all of it once there is a vault, and else what was only half built.
pub fn tidy(data: &Path) {
    let done = data.join(VAULT_DIRECTORY).try_exists().unwrap_or(false);
    let waiting = done.then_some(RESTORE_DIRECTORY);
    for name in [Some(STAGING_DIRECTORY), Some(FOUNDING_DIRECTORY), waiting].into_iter().flatten() {
        if let Err(error) = erase(&data.join(name)) {
            tracing::warn!(%error, name, "what a restore left behind is not removed");
        }
    }
}

/// Takes what was brought as the vault to be: from now on the keeper is sealed by what sealed that vault. Blocks.
///
/// # Errors
/// When there is a vault, or what was brought is no backup.
pub fn stage(data: &Path, brought: &Path) -> Result<Sealed, RestoreError> {
    if data.join(VAULT_DIRECTORY).try_exists()? {
        return Err(RestoreError::Exists);
    }
    let header = rebuild::read_header(&brought.join(BACKUP_FILE))?;
    drop(seal::restore(brought, &header.seal)?);
    keyring::stage(brought, (header.keyring, &header.keyring_payload))?;
    sync_all(brought)?;
    let (staging, waiting) = (data.join(STAGING_DIRECTORY), data.join(RESTORE_DIRECTORY));
    erase(&staging)?;
    fs::rename(brought, &staging)?;
    erase(&waiting)?;
    fs::rename(&staging, &waiting)?;
    File::open(data)?.sync_all()?;
    Ok(Sealed::load(&waiting)?)
}

/// Finishes a restore that waits, if this is one; answers the vault in its own place. Blocks.
///
/// # Errors
/// When the backup or a journal does not hold; what was brought stays, and nothing is a vault.
pub fn complete(
    unsealed: Unsealed,
    (data, choice): (&Path, &Choice),
    now: Moment,
) -> Result<Unsealed, RestoreError> {
    let waiting = data.join(RESTORE_DIRECTORY);
    if unsealed.directory() != waiting {
        return Ok(unsealed);
    }
    let building = data.join(FOUNDING_DIRECTORY);
    erase(&building)?;
    let built = build(unsealed, (&waiting, &building), (data, choice), now);
    if built.is_err()
        && let Err(error) = erase(&building)
    {
        tracing::warn!(%error, "what was half restored is not removed");
    }
    let unsealed = built?;
    let place = data.join(VAULT_DIRECTORY);
    fs::rename(&building, &place)?;
    File::open(data)?.sync_all()?;
    tidy(data);
    Ok(unsealed.moved_to(&place))
}

fn build(
    unsealed: Unsealed,
    (waiting, building): (&Path, &Path),
    (data, choice): (&Path, &Choice),
    now: Moment,
) -> Result<Unsealed, RestoreError> {
    let key = unsealed.keyring().copy_key()?;
    // The seal's file of the waiting directory: what opened it may have changed it.
    let seal = seal::export(waiting)?;
    drop(unsealed);
    let (backup, halt) = (waiting.join(BACKUP_FILE), Halt::default());
    let mut rebuilt = rebuild::rebuild(&backup, (key, &seal, 0), (building, choice, &halt))?;
    let Journals { furthest, named } = surviving(&rebuilt, (data, waiting))?;
    if life_of(named) >= life_of(rebuilt.books.commit()) {
        // This backup was restored before, and that vault's journal is here: once more, above all that it names.
        let key = close(rebuilt)?.keyring().copy_key()?;
        erase(building)?;
        rebuilt = rebuild::rebuild(&backup, (key, &seal, named), (building, choice, &halt))?;
    }
    record(&mut rebuilt, furthest.as_ref().map(|(_, surviving)| surviving), now)?;
    let unsealed = close(rebuilt)?;
    if let Some((directory, _)) = furthest {
        adopt(data, &directory)?;
    }
    Ok(unsealed)
}

/// What journals there are.
struct Journals {
    /// The one that reaches furthest, if any tells of the time since the backup.
    furthest: Option<(PathBuf, Surviving)>,
    /// The highest commit that the vault's journal to be, or one beside it, names.
    named: u64,
}

/// Reads those that were brought and the one in the data directory.
fn surviving(rebuilt: &Rebuilt, (data, waiting): (&Path, &Path)) -> Result<Journals, RestoreError> {
    let guard = rebuilt.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    let keyring = guard.keyring().keyring();
    let secret = keys::derive_journal_key(keyring.system(), keyring.store())?;
    let store = keyring.store();
    drop(guard);
    let verifier = audit_signer(&rebuilt.unsealed, store)?.verifier();
    let brought = (0..MAX_JOURNALS).map(|number| journal_directory(waiting, number));
    let from: JournalPoint = rebuilt.closing.journal;
    let mut journals = Journals { furthest: None, named: 0 };
    for (number, directory) in
        std::iter::once(data.join(JOURNAL_DIRECTORY)).chain(brought).enumerate()
    {
        if number > 0 {
            journals::settle(&directory)?;
        }
        if !journals::is_begun(&directory)? {
            continue;
        }
        let refused = |refusal| RestoreError::Journal { number, refusal };
        let surviving =
            match journals::gather(&directory, (&MacKey::new(&secret)?, &verifier), from) {
                Ok(surviving) => Some(surviving),
                // It tells nothing of the time since the backup, and takes nothing from what others tell.
                Err(JournalRefusal::Older(_)) => None,
                Err(refusal) => return Err(refused(refusal)),
            };
        // One that was brought and tells nothing stays where it is; the directory's own may stay the vault's.
        if surviving.is_none() && number > 0 {
            continue;
        }
        let named = journals::judge(&directory, (MacKey::new(&secret)?, &verifier));
        journals.named = journals.named.max(named.map_err(refused)?);
        let Some(surviving) = surviving else { continue };
        let furthest = journals.furthest.as_ref();
        if furthest.is_none_or(|(_, furthest)| surviving.entries > furthest.entries) {
            journals.furthest = Some((directory, surviving));
        }
    }
    Ok(journals)
}

/// Does again what was taken away, and writes down what is known of the time since the backup.
fn record(
    rebuilt: &mut Rebuilt,
    surviving: Option<&Surviving>,
    now: Moment,
) -> Result<(), RestoreError> {
    let Rebuilt { unsealed, books, tables, taken, header, .. } = rebuilt;
    settle_keyring(unsealed, tables, (taken, books.commit()))?;
    learn_keys(unsealed, books)?;
    let taken = Taken::of(surviving.map_or(&[], |surviving| surviving.acts.as_slice()));
    let done_again = taken.apply(books, tables)?;
    let restored = Restored {
        commit: header.commit,
        backup: header.when,
        restored: now,
        journal: surviving.map(|surviving| Covered {
            entries: surviving.entries,
            until: surviving.until.clone(),
        }),
        sleeping_tokens: u32::try_from(tables.count(|tenant| tenant.tokens().len()))
            .unwrap_or(u32::MAX)
            .saturating_sub(done_again.tokens),
        done_again,
        left_open: taken.left_open,
        left_open_count: taken.left_open_count,
    };
    let place = RecordPlace { tenant: tables.first(), name: RecordName::Restored };
    let changes = again::put(books, books.changes(), &place, &restored)?;
    Ok(again::commit(books, changes)?)
}

/// Lets the store's writer end, and answers the keyring.
fn close(rebuilt: Rebuilt) -> Result<Unsealed, RestoreError> {
    let Rebuilt { unsealed, books, .. } = rebuilt;
    drop(books);
    let unsealed = Arc::try_unwrap(unsealed).map_err(|_| RestoreError::InUse)?;
    Ok(unsealed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Puts a journal in the place of the data directory's own, which is set aside if there is one.
fn adopt(data: &Path, from: &Path) -> Result<(), RestoreError> {
    let own = data.join(JOURNAL_DIRECTORY);
    if from == own {
        return Ok(());
    }
    if journals::is_begun(&own)? {
        let mut number = 1_u32;
        let aside = loop {
            let aside = data.join(format!("{JOURNAL_DIRECTORY}.aside-{number}"));
            if !aside.try_exists()? {
                break aside;
            }
            number = number.saturating_add(1);
        };
        fs::rename(&own, aside)?;
    } else {
        erase(&own)?;
    }
    fs::rename(from, &own)?;
    File::open(data)?.sync_all()?;
    Ok(())
}

/// Makes a directory with all that is in it durable.
fn sync_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests;
