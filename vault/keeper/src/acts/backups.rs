//! Backups: made and fetched, brought and proved, restored and confirmed.
//!
//! Invariant: a backup is in the journal before it is made.
//! Invariant: the disk is read and written on other threads; changes wait while the store is copied into memory, calls do not.
//! Invariant: sealing waits for no backup, only until its threads have dropped their copies of the keys, which is their next record.

use std::collections::BTreeSet;
use std::time::Duration;

use strongroom_policy::id::TokenId;
use strongroom_protocol::operator::backup::{
    BackupAnswer, BackupRequest, BroughtFile, Care, Content, KeptTokens, Made, TransferId,
};
use strongroom_protocol::operator::{Answer, Exit, Fault};
use strongroom_store::{Store, StoreError};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{Act, fault, picked};
use crate::backup::halt::Halt;
use crate::backup::journals;
use crate::backup::make::{self, MakeError, Snapshot, Written};
use crate::backup::rebuild::{self, RebuildError};
use crate::backup::restore::{self, RestoreError};
use crate::backup::stream::StreamError;
use crate::backup::transfer::{self, BACKUP_FILE, TransferError, Way, Working};
use crate::clock;
use crate::founding::VAULT_DIRECTORY;
use crate::keeper::{State, Waiting};
use crate::keyring::KeyringError;
use crate::keys::{KeyringKey, StoreId};
use crate::records::{RecordName, RecordPlace};
use crate::tables::{HeldToken, Tables, Tenant};

/// How long a backup waits for what was to be written before it, and for its copy.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);
/// Where a backup is restored to be proved, within its transfer's directory.
const SCRATCH: &str = "scratch";

impl Act<'_> {
    /// Requests about backups; which of them take a turn is decided one by one.
    pub(super) async fn backup(&self, request: &BackupRequest) -> Result<Answer, Fault> {
        match request {
            // It takes a turn for as long as the store is copied, and none while it is written and proved.
            BackupRequest::Create(care) => self.backup_create(*care).await,
            BackupRequest::Next(id) => self.backup_next(*id).await,
            BackupRequest::Bring => self.backup_bring().await,
            BackupRequest::Put { transfer, file, bytes } => {
                self.backup_put(*transfer, file, bytes).await
            }
            BackupRequest::Verify(id) => self.backup_verify(*id).await,
            BackupRequest::Restore(id) => self.backup_restore(*id).await,
            BackupRequest::Standing => self.vault(|vault| {
                let restored = vault.tables.restored.clone().map(Box::new);
                Ok(Answer::Backup(BackupAnswer::Standing(restored)))
            }),
            BackupRequest::Confirm(kept) => self.backup_confirm(kept).await,
        }
    }

    async fn backup_create(&self, care: Care) -> Result<Answer, Fault> {
        self.vault(|_| Ok(()))?;
        let working = transfer::begin(self.keeper).await.map_err(|error| transfer_fault(&error))?;
        let path = working.directory().join(BACKUP_FILE);
        let written = self.write_backup(&working).await?;
        let proved = match care {
            Care::Written => None,
            Care::Proved => Some(self.prove(&working).await?),
        };
        let file = std::fs::File::open(&path).map_err(|error| transfer_fault(&error.into()))?;
        let Written { bytes, commit, when, records } = written;
        let made = Made { transfer: working.id(), bytes, commit, when, records, proved };
        working.wait(Way::Out(file));
        Ok(Answer::Backup(BackupAnswer::Made(made)))
    }

    async fn write_backup(&self, working: &Working) -> Result<Written, Fault> {
        // No act is half done while the store is copied: behind its last journal entry nothing is missing in it.
        let turn = self.keeper.acts.lock().await;
        self.begin("backup.create", "store".to_owned()).await?;
        let journal = self.vault(|vault| Ok(vault.journal_directory.clone()))?;
        let path = working.directory().join(BACKUP_FILE);
        let ready =
            on_thread(move || Ok((journals::point(&journal)?, transfer::create_file(&path)?)));
        let (point, file) = ready
            .await?
            .map_err(|error: std::io::Error| transfer_fault(&TransferError::Io(error)))?;
        let held = self.keeper.copies.hold();
        let snapshot = self.snapshot(working.halt().clone()).await?;
        // Whatever this takes, no act waits for it and no lock is held.
        drop(turn);
        let halt = working.halt().clone();
        let written = on_thread(move || {
            let written = make::Careful::new(file)
                .map_err(|error| MakeError::from(StreamError::from(error)))
                .and_then(|out| snapshot.write(point, (out, &halt)));
            drop(held);
            written
        });
        written.await?.map_err(|error| make_fault(&error))
    }

    /// Copies the vault of this moment, behind all that was done before it.
    async fn snapshot(&self, halt: Halt) -> Result<Snapshot, Fault> {
        let (answer, taken) = oneshot::channel();
        let when = clock::now();
        self.vault(|vault| {
            let work = move |store: &dyn Store, manifest: &_, unsealed: &_| {
                // Whoever stopped waiting has reported it already.
                drop(answer.send(Snapshot::take(store, (manifest, unsealed), (when, &halt))));
            };
            vault.books.whole_at_rest(work).map_err(|error| make_fault(&error.into()))
        })?;
        match timeout(SNAPSHOT_PATIENCE, taken).await {
            Ok(Ok(taken)) => taken.map_err(|error| make_fault(&error)),
            Ok(Err(_)) => Err(make_fault(&StoreError::Stopped.into())),
            Err(_) => Err(make_fault(&StoreError::TimedOut.into())),
        }
    }

    async fn prove(&self, working: &Working) -> Result<Content, Fault> {
        let held = self.keeper.copies.hold();
        let key = self.own_key()?;
        let backup = working.directory().join(BACKUP_FILE);
        let scratch = working.directory().join(SCRATCH);
        let choice = self.keeper.settings.store.for_scratch();
        let halt = working.halt().clone();
        let proved = on_thread(move || {
            let proved = rebuild::verify(&backup, key, (&scratch, &choice, &halt));
            drop(held);
            proved
        })
        .await?;
        proved.map_err(|error| rebuild_fault(&error))
    }

    /// What opens the backups of this vault.
    fn own_key(&self) -> Result<(StoreId, KeyringKey), Fault> {
        self.vault(|vault| {
            let unsealed = vault.unsealed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let key = unsealed.keyring().copy_key();
            Ok((vault.store, key.map_err(|error| rebuild_fault(&error.into()))?))
        })
    }

    async fn backup_next(&self, id: TransferId) -> Result<Answer, Fault> {
        let (working, way) =
            transfer::take(self.keeper, id).map_err(|error| transfer_fault(&error))?;
        let Way::Out(mut file) = way else {
            working.wait(way);
            return Err(transfer_fault(&TransferError::Unknown));
        };
        let read = on_thread(move || {
            let part = transfer::next_part(&mut file);
            (part, file)
        });
        let (part, file) = read.await?;
        let part = part.map_err(|error| transfer_fault(&error.into()))?;
        // Behind the last part the transfer ends.
        if part.is_empty() {
            working.end().await.map_err(|error| transfer_fault(&error))?;
        } else {
            working.wait(Way::Out(file));
        }
        Ok(Answer::Backup(BackupAnswer::Part(part)))
    }

    async fn backup_bring(&self) -> Result<Answer, Fault> {
        let working = transfer::begin(self.keeper).await.map_err(|error| transfer_fault(&error))?;
        let id = working.id();
        working.wait(Way::In);
        Ok(Answer::Backup(BackupAnswer::Bring(id)))
    }

    async fn backup_put(
        &self,
        id: TransferId,
        file: &BroughtFile,
        bytes: &[u8],
    ) -> Result<Answer, Fault> {
        let working = self.take_brought(id)?;
        let (directory, file) = (working.directory().to_owned(), file.clone());
        let bytes = bytes.to_vec();
        let put = on_thread(move || transfer::put(&directory, &file, &bytes)).await?;
        put.map_err(|error| transfer_fault(&error))?;
        working.wait(Way::In);
        Ok(Answer::Done)
    }

    async fn backup_verify(&self, id: TransferId) -> Result<Answer, Fault> {
        let working = self.take_brought(id)?;
        let proved = self.prove(&working).await;
        working.end().await.map_err(|error| transfer_fault(&error))?;
        Ok(Answer::Backup(BackupAnswer::Verified(proved?)))
    }

    async fn backup_restore(&self, id: TransferId) -> Result<Answer, Fault> {
        let turn = self.keeper.acts.lock().await;
        let working = self.take_brought(id)?;
        let data = self.keeper.settings.data.clone();
        let waits = match &*self.keeper.state.borrow() {
            State::Uninitialised(None) => true,
            State::Sealed(_) | State::Faulty(_) => {
                !data.join(VAULT_DIRECTORY).try_exists().unwrap_or(true)
            }
            State::Uninitialised(Some(_)) | State::Opening | State::Ready(_) => false,
        };
        if !waits {
            return Err(restore_fault(&RestoreError::Exists));
        }
        let brought = working.directory().to_owned();
        let staged = on_thread(move || restore::stage(&data, &brought)).await?;
        let sealed = staged.map_err(|error| restore_fault(&error))?;
        drop(working);
        self.keeper.enter(State::Sealed(Box::new(Waiting::new(sealed))));
        drop(turn);
        Ok(Answer::Done)
    }

    async fn backup_confirm(&self, kept: &KeptTokens) -> Result<Answer, Fault> {
        let (commit, revoked) = self.vault(|vault| {
            let tables = &vault.tables;
            let Some(restored) = &tables.restored else {
                let next = "nothing to do";
                return Err(fault("SR-BACKUP-012", "no restored vault waits for a word", next));
            };
            let tokens = tables.count(|tenant| tenant.tokens().len());
            let unknown = restored.journal.is_none() && tokens > 0;
            Ok((restored.commit, revoked(tables, (unknown, kept))?))
        })?;
        for (place, token) in revoked {
            let act = self.within(place.tenant);
            act.commit(
                ("token.revoke", token.to_string()),
                |vault, changes| vault.books.delete(changes, &place),
                |vault| vault.tables.remove_token(place.tenant, token),
            )
            .await?;
        }
        self.commit(
            ("backup.confirm", commit.to_string()),
            |vault, changes| vault.books.delete(changes, &vault.place(RecordName::Restored)),
            |vault| vault.tables.restored = None,
        )
        .await?;
        Ok(Answer::Done)
    }

    fn take_brought(&self, id: TransferId) -> Result<Working, Fault> {
        let (working, way) =
            transfer::take(self.keeper, id).map_err(|error| transfer_fault(&error))?;
        match way {
            Way::In => Ok(working),
            Way::Out(_) => {
                working.wait(way);
                Err(transfer_fault(&TransferError::Unknown))
            }
        }
    }
}

/// Which tokens end when a restored vault is confirmed.
fn revoked(
    tables: &Tables,
    (unknown, kept): (bool, &KeptTokens),
) -> Result<Vec<(RecordPlace, TokenId)>, Fault> {
    let all = || tables.tenants().flat_map(tokens_of);
    let kept: BTreeSet<TokenId> = match kept {
        KeptTokens::Known if unknown => {
            let what =
                format!("{} tokens sleep: it is not known which were revoked", all().count());
            let next = "name those that live on: 'strongroom backup confirm --token NAME', or --all-tokens, or --no-tokens";
            return Err(fault("SR-BACKUP-013", what, next));
        }
        KeptTokens::Known | KeptTokens::All => return Ok(Vec::new()),
        KeptTokens::Only(picks) => picks
            .iter()
            .map(|pick| picked(tables.pick_token(None, pick)))
            .collect::<Result<_, _>>()?,
    };
    let ended = all().filter(|(_, (id, _))| !kept.contains(id));
    let place = |tenant: &Tenant, id, user| (tenant.place(RecordName::Token(user, id)), id);
    Ok(ended.map(|(tenant, (id, held))| place(tenant, *id, held.record.user)).collect())
}

/// A tenant's tokens, each with its tenant.
fn tokens_of(tenant: &Tenant) -> impl Iterator<Item = (&Tenant, (&TokenId, &HeldToken))> {
    tenant.tokens().iter().map(move |one| (tenant, one))
}

/// Why a backup did not become a vault, for people.
pub fn restore_fault(error: &RestoreError) -> Fault {
    match error {
        RestoreError::Rebuild(error) => rebuild_fault(error),
        RestoreError::Exists => fault(
            "SR-BACKUP-014",
            error.to_string(),
            "restore into an empty appliance: another --dir, started with 'strongroom up --no-init'",
        ),
        RestoreError::Journal { .. } => Fault {
            exit: Exit::Corrupt,
            ..fault(
                "SR-BACKUP-015",
                error.to_string(),
                "keep it as evidence; 'strongroom backup restore' again with another journal or none; journal 0 is the data directory's own: move it elsewhere before",
            )
        },
        RestoreError::Again(_)
        | RestoreError::Keyring(_)
        | RestoreError::Seal(_)
        | RestoreError::Io(_)
        | RestoreError::InUse => fault(
            "SR-BACKUP-016",
            error.to_string(),
            "look at the disk's free space and health, then unseal again",
        ),
    }
}

fn transfer_fault(error: &TransferError) -> Fault {
    let (code, next) = match error {
        TransferError::Busy => {
            ("SR-BACKUP-001", "wait until it is done, at most a minute after its last sign")
        }
        TransferError::Unknown => ("SR-BACKUP-002", "begin again"),
        TransferError::TooLarge => {
            ("SR-BACKUP-003", "check that all Strongroom programs are of one version")
        }
        TransferError::Io(_) => {
            ("SR-BACKUP-004", "free some space on the keeper's disk, then try again")
        }
        TransferError::Random(_) => ("SR-INTERNAL-005", "look at the kernel's log"),
    };
    fault(code, error.to_string(), next)
}

/// The vault closed while its backup was made or checked.
fn halted(message: String) -> Fault {
    Fault {
        exit: Exit::Sealed,
        ..fault("SR-BACKUP-017", message, "run 'strongroom unseal', then try again")
    }
}

fn make_fault(error: &MakeError) -> Fault {
    match error {
        MakeError::Halted => halted(error.to_string()),
        MakeError::Large => fault(
            "SR-BACKUP-018",
            error.to_string(),
            "stop, copy the data directory and the database to another place, and report this",
        ),
        MakeError::Refused(_) => Fault {
            exit: Exit::Spliced,
            ..fault(
                "SR-BACKUP-006",
                error.to_string(),
                "make no backup of this store; 'strongroom seal', then 'strongroom unseal' says what is wrong",
            )
        },
        MakeError::Content(_)
        | MakeError::Store(_)
        | MakeError::Keyring(_)
        | MakeError::Seal(_)
        | MakeError::Slow
        | MakeError::Random(_)
        | MakeError::Derive(_) => fault(
            "SR-BACKUP-005",
            error.to_string(),
            "look at the disk's free space and health ('strongroom doctor'), then try again",
        ),
    }
}

pub(super) fn rebuild_fault(error: &RebuildError) -> Fault {
    let (code, exit, next) = match error {
        RebuildError::Halted => return halted(error.to_string()),
        RebuildError::OtherVault => {
            ("SR-BACKUP-007", Exit::Foreign, "give the backup to the vault that it is of")
        }
        RebuildError::Keyring(KeyringError::Envelope(_)) => (
            "SR-BACKUP-008",
            Exit::Error,
            "it is altered, or sealed under an earlier root: then only the shares of its time open it, in an empty appliance",
        ),
        RebuildError::Io(_) | RebuildError::Store(_) | RebuildError::Derive(_) => {
            ("SR-BACKUP-004", Exit::Error, "free some space on the keeper's disk, then try again")
        }
        RebuildError::Keyring(_)
        | RebuildError::Content(_)
        | RebuildError::Seal(_)
        | RebuildError::Manifest(_)
        | RebuildError::OtherCommit
        | RebuildError::Books(_)
        | RebuildError::Malformed(_) => {
            ("SR-BACKUP-009", Exit::Corrupt, "do not rely on this file; take another backup")
        }
    };
    Fault { exit, ..fault(code, error.to_string(), next) }
}

async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    spawn_blocking(work).await.map_err(|_| {
        fault("SR-INTERNAL-008", "a thread ended", "restart, and report this as a defect")
    })
}
