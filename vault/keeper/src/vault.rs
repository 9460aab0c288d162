//! The open vault: keys, tables, store and journal together, for as long as it is unsealed.
//!
//! Invariant: nothing of this type exists while the vault is sealed; dropping it wipes the keys on the heap. What ciphers and
//! MACs left of them on a stack is not wiped.

mod refusal;

pub use refusal::lacks_locked_memory;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strongroom_policy::id::TenantId;
use strongroom_policy::moment::Moment;
use strongroom_protocol::operator::SealKind;
use strongroom_protocol::operator::keys::Sweep;
use strongroom_protocol::upload::{VaultKey, derive_vault_key};
use strongroom_store::Choice;
use strongroom_store::GroupCommit;
use strongroom_store::StoreError;
use strongroom_store::moving;
use strongroom_sys::{Secret, cpu, stack};
use strongroom_tlog::cosignature::WitnessKey;
use strongroom_tlog::{Name, Verifier};
use tokio::sync::oneshot::error::TryRecvError;

use crate::backup::again;
use crate::backup::halt::Halt;
use crate::backup::life_of;
use crate::backup::restore::{self, RestoreError};
use crate::books::{Books, BooksError, Opened, STORE_DIRECTORY, TenantKeys};
use crate::budgets::Budgets;
use crate::journal::entry::{ActResult, Entry};
use crate::journal::found::{Found, StoreState};
use crate::journal::signing::CheckpointKey;
use crate::journal::{Journal, JournalError, Manner, Place, Unfinished, read};
use crate::keyring::{KeyringError, KeyringFile, ShredId};
use crate::keys::{
    self, Algorithm, DeriveError, FillRandom, HPKE_STACK_BYTES, MacKey, Pepper, StoreId,
    SystemSeed, UploadKeyPair, purpose,
};
use crate::manifest::{Manifest, NotNewest};
use crate::memory_seal::MemorySeal;
use crate::people::SigningKey;
use crate::random::Pool;
use crate::records::{RecordName, RecordPlace};
use crate::seal::{Ceremony, Lock, SealError, Sealed, Unsealed};
use crate::settings::{Acceptance, Differences, Judged, Settings};
use crate::tables::{Malformed, Tables};
use crate::tickets::Tickets;
use crate::tpm::link::Link;
use crate::tpm::standing::{Standing, judge_newest, stand};
use crate::tpm::{Demand, freshness};
use crate::uploads::Uploads;
use crate::witnesses::{self, Seen, Witnesses};

/// The journal's directory within the data directory; it outlives a vault that is made anew.
pub const JOURNAL_DIRECTORY: &str = "journal";

/// How long the last write of an opening waits for the store, and how often it looks.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
const STORE_LOOKS: Duration = Duration::from_millis(2);

/// Everything that exists only while the vault is open.
pub struct Vault {
    /// Keyring; changed from threads that may wait for a disk.
    pub unsealed: Arc<Mutex<Unsealed>>,
    /// Which vault.
    pub store: StoreId,
    /// How keys are sealed in memory.
    pub memory_seal: MemorySeal,
    /// Hashes tokens.
    pub token_hash: MacKey<purpose::TokenHash>,
    /// Makes idempotency tags.
    pub subject_tag: MacKey<purpose::SubjectTag>,
    /// Keys what the store has of passwords.
    pub pepper: Pepper,
    /// Opens uploads.
    pub upload_key: UploadKeyPair,
    /// The public half, for the operator's tool to pin.
    pub vault_key: VaultKey,
    /// Records in memory.
    pub tables: Tables,
    /// Records on disk.
    pub books: Books,
    /// The journal.
    pub journal: Arc<Journal>,
    /// Budgets, rates and prices.
    pub budgets: Box<Budgets>,
    /// Calls under way.
    pub tickets: Tickets,
    /// Uploads under way.
    pub uploads: Uploads,
    /// Randomness for ids and tickets.
    pub random: Pool,
    /// What seals it.
    pub seal: SealKind,
    /// Whether a change of the ways waits for its shares.
    pub incoming: bool,
    /// What was brought to show custody of shares, or to prove that a change of the ways may be made.
    pub custody: Arc<Mutex<Custody>>,
    /// Where the journal lies.
    pub journal_directory: PathBuf,
    /// Verifies the journal's checkpoints: a vkey of a signed note.
    pub audit_key: String,
    /// Witnesses: what they saw, and whether it waits for one.
    pub witnesses: Witnesses,
    /// Refusals of strangers since the last entry about them.
    pub strangers: u64,
    /// The rewriting of old records.
    pub sweep: Sweep,
    /// How it stands to its TPM.
    pub tpm: Standing,
    /// The manifest, for who notes a counter in it.
    pub manifest: Arc<Mutex<Manifest>>,
}

/// Why an unsealed keyring did not become an open vault.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Books(#[from] BooksError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
    /// The seal file.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Settings that the vault does not remember.
    #[error("{0}")]
    Settings(Differences),
    /// A backup that was to become this vault.
    #[error("the backup is not restored: {0}")]
    Restore(#[from] RestoreError),
    /// A record that no version of this program wrote.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Two ceremonies of an open vault.
pub struct Custody {
    /// Shares of a change that waits.
    pub incoming: Ceremony,
    /// What opens the vault, for a change that is asked for.
    pub proofs: Ceremony,
}

impl Default for Custody {
    fn default() -> Self {
        let ceremony = || Ceremony::new(Ceremony::STANDARD_LIFE);
        Self { incoming: ceremony(), proofs: ceremony() }
    }
}

impl Custody {
    /// Wipes what was brought to attempts whose time is over.
    pub fn expire(&mut self, now: Instant) {
        self.incoming.expire(now);
        self.proofs.expire(now);
    }
}

/// Who opened the vault, and what happened while it was sealed.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The Unix user who brought the last part.
    pub operator: u32,
    /// What opened it, as in `shares` or `passphrase+tpm`.
    pub way: &'static str,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// When.
    pub now: Moment,
    /// The TPM's helper, when there is one.
    pub tpm: Option<Arc<Link>>,
    /// Whether a vault that is not sealed to a TPM is refused.
    pub demand: Demand,
    /// The checkpoint that all who brought a part have confirmed.
    pub confirmed: Option<String>,
    /// What the vault remembers of the configuration, as it is at this start.
    pub settings: Arc<Settings>,
    /// An operator's word that these settings are meant.
    pub accepted: Option<Acceptance>,
}

/// The cipher for new records on this machine.
pub fn algorithm() -> Algorithm {
    if cpu::has_aes() { Algorithm::Aes256Gcm } else { Algorithm::ChaCha20Poly1305 }
}

/// The first tenant: every vault is made with it, and its id is the vault's.
pub fn tenant_of(store: StoreId) -> TenantId {
    TenantId::from_random(store.0)
}

/// What opens a vault without its TPM, for people: by the first way.
pub fn seal_kind(sealed: &Sealed) -> SealKind {
    let first = sealed.ways().iter().find(|way| way.tpm().is_none());
    let shares = first.into_iter().flat_map(|way| &way.locks).find_map(|lock| match lock {
        Lock::Shares { set, .. } => {
            Some(SealKind::Shares { threshold: set.threshold, count: set.count })
        }
        Lock::Passphrase(_) | Lock::Tpm(_) => None,
    });
    shares.unwrap_or(SealKind::Passphrase)
}

impl Vault {
    /// Opens store and journal under an unsealed keyring. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// When either does not hold; nothing is written then.
    pub fn open(
        (unsealed, seal): (Unsealed, SealKind),
        (data, choice): (&Path, &Choice),
        opening: &Opening,
        manner: &Manner,
    ) -> Result<Self, OpenError> {
        let unsealed = restore::complete(unsealed, (data, choice), opening.now)?;
        let directory = unsealed.directory().to_path_buf();
        let keyring = unsealed.keyring().keyring();
        let (store, system) = (keyring.store(), keyring.system());
        let (token_hash, subject_tag, journal_key) = macs(system, store)?;
        let upload_key = keys::derive_upload_key_pair(system, store)?;
        let pepper = keys::derive_pepper(system, store)?;
        let unsealed = Arc::new(Mutex::new(unsealed));
        let (opened, counted) = open_newest((&directory, choice), &unsealed, opening)?;
        let memory_seal = MemorySeal::draw(algorithm(), &mut getrandom::fill)?;
        let hold = |id, plain: &Secret| memory_seal.seal(id, plain).map_err(|_| Malformed);
        let sign = |plain: &Secret| SigningKey::hold(&memory_seal, plain);
        let mut tables = Tables::read(tenant_of(store), opened.records, hold, sign)?;
        let signer = audit_signer(&unsealed, store)?;
        let verifier = signer.verifier();
        let (mut books, journal_directory) = (opened.books, data.join(JOURNAL_DIRECTORY));
        let found = Found::look(&journal_directory, journal_key, &verifier, opened.noted)?;
        let named = judge_state(found.state(), opened.state)?;
        let judged = judge_settings(&tables, is_first_of_life(named, opened.state), opening)?;
        // Nothing is destroyed before store, manifest and journal have vouched for each other.
        settle_keyring(&unsealed, &tables, (&opened.taken, books.commit()))?;
        learn_keys(&unsealed, &mut books)?;
        let (journal, unfinished) = Journal::start(found, signer, manner)?;
        let journal = Arc::new(journal);
        opened.journal.open(&journal);
        let budgets = budgets_of(&mut tables, &journal_directory, opening.now)?;
        let witnesses = witnesses_of(&tables, &journal_directory, &verifier)?;
        let vault_key = public_of(&upload_key)?;
        let held = (Arc::clone(&opened.manifest), Arc::clone(&unsealed));
        let tpm = stand(opening.tpm.clone(), held, counted);
        let vault = Self {
            unsealed,
            store,
            memory_seal,
            token_hash,
            subject_tag,
            pepper,
            upload_key,
            vault_key,
            tables,
            books,
            journal,
            budgets: Box::new(budgets),
            tickets: Tickets::default(),
            uploads: Uploads::default(),
            random: Pool::new(),
            seal,
            incoming: Sealed::load(&directory)?.incoming().is_some(),
            custody: Arc::default(),
            journal_directory,
            audit_key: verifier.vkey(),
            witnesses,
            strangers: 0,
            sweep: Sweep::Idle,
            tpm,
            manifest: opened.manifest,
        };
        vault.record_opening(&unfinished, (named, opened.state, &judged), opening)?;
        let vault = vault.remembering(&judged, &opening.settings)?;
        forget_former(&directory);
        Ok(vault)
    }

    fn record_opening(
        &self,
        unfinished: &Unfinished,
        (named, found, judged): (Option<StoreState>, StoreState, &Judged),
        opening: &Opening,
    ) -> Result<(), JournalError> {
        let mut entries = vec![Entry::Unseal {
            seal: opening.way,
            operator: opening.operator,
            failed_attempts: opening.failed_attempts,
            cut_bytes: self.journal.cut_bytes(),
            made_tiles: self.journal.made_tiles(),
        }];
        let restored = self.tables.restored.as_ref();
        let restored = restored.filter(|_| is_first_of_life(named, found));
        entries.extend(restored.map(|restored| Entry::Act {
            act: "backup.restore",
            operator: opening.operator,
            tenant: None,
            target: restored.commit.to_string(),
            result: ActResult::Begun,
        }));
        entries.extend(settings_entry(judged, opening.operator));
        let StoreState { commit, digest } = found;
        entries.extend((named != Some(found)).then_some(Entry::State { commit, digest }));
        let stops = unfinished.stops.iter();
        entries.extend(stops.map(|(at, reason)| Entry::Stopped { at: at.clone(), reason }));
        entries.extend(unfinished.calls.iter().map(|call| Entry::Lost { call: *call }));
        self.journal.record_blocking(&entries, opening.now)?;
        if !unfinished.stops.is_empty() {
            Journal::empty_reserve(&Place::new(&self.journal_directory))?;
        }
        Ok(())
    }

    /// Keeps the settings of this start, once what was said about them is in the journal.
    fn remember(&mut self, judged: &Judged, settings: &Settings) -> Result<(), BooksError> {
        match judged {
            Judged::Same => return Ok(()),
            Judged::First | Judged::Accepted { .. } => {}
        }
        let changes = self.books.changes();
        let changes =
            again::put(&self.books, changes, &self.place(RecordName::Settings), settings)?;
        let (mut outcome, noted) = self.books.submit(changes);
        let begun = Instant::now();
        loop {
            match outcome.try_recv() {
                Ok(stored) => break stored?,
                Err(TryRecvError::Closed) => return Err(BooksError::Stopped),
                Err(TryRecvError::Empty) if begun.elapsed() >= STORE_PATIENCE => {
                    return Err(StoreError::TimedOut.into());
                }
                Err(TryRecvError::Empty) => std::thread::sleep(STORE_LOOKS),
            }
        }
        self.books.note(noted);
        self.tables.settings = Some(settings.clone());
        Ok(())
    }

    fn remembering(mut self, judged: &Judged, settings: &Settings) -> Result<Self, OpenError> {
        match self.remember(judged, settings) {
            Ok(()) => Ok(self),
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// Shuts a vault whose last write while it was opened failed. Writers that a disk holds up are left to it: nobody waits.
    fn give_up(self, error: BooksError) -> OpenError {
        let writers = self.into_writers();
        if matches!(error, BooksError::Store(StoreError::TimedOut)) {
            drop(std::thread::Builder::new().spawn(move || drop(writers)));
        }
        error.into()
    }

    /// Wipes every key that no other thread is using at this moment, drops every table, and answers what still has to write: the
    /// TPM's half of a key and the manifest's own open nothing. Waits for nothing.
    pub fn into_writers(self) -> (Arc<Journal>, GroupCommit, Standing) {
        if let Ok(mut unsealed) = self.unsealed.try_lock()
            && let Err(error) = unsealed.keyring_mut().wipe()
        {
            tracing::error!(%error, "a key was not wiped");
        }
        let Self { journal, books, tpm, .. } = self;
        (journal, books.into_writer(), tpm)
    }

    /// The place of a record that is the whole vault's.
    pub fn place(&self, name: RecordName) -> RecordPlace {
        RecordPlace { tenant: tenant_of(self.store), name }
    }

    /// Changes the keyring; durable when this answers. The change also notes how far the store is: a store and a manifest
    /// from before this moment are refused from now on. Blocks.
    ///
    /// # Errors
    /// Those of the change.
    pub fn change_keyring<T>(
        (unsealed, commit): (&Mutex<Unsealed>, u64),
        change: impl FnOnce(&mut KeyringFile) -> Result<T, KeyringError>,
    ) -> Result<T, KeyringError> {
        let mut guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        guard.keyring_mut().reach(commit);
        change(guard.keyring_mut())
    }
}

/// The keys of token hashes, idempotency tags and the journal's chain.
type Macs = (MacKey<purpose::TokenHash>, MacKey<purpose::SubjectTag>, MacKey<purpose::Journal>);

fn macs(system: &SystemSeed, store: StoreId) -> Result<Macs, OpenError> {
    Ok((
        MacKey::new(&keys::derive_token_hash_key(system, store)?)?,
        MacKey::new(&keys::derive_subject_tag_key(system, store)?)?,
        MacKey::new(&keys::derive_journal_key(system, store)?)?,
    ))
}

/// The journal does not name a state of a restored vault's life before its first opening, and with that one it does.
fn is_first_of_life(named: Option<StoreState>, found: StoreState) -> bool {
    named.is_none_or(|named| life_of(named.commit) < life_of(found.commit))
}

/// The settings of this start by those that the vault remembers. A restore is a start of its own, on purpose and on another machine
/// perhaps: what it brought is not asked for.
fn judge_settings(tables: &Tables, first: bool, opening: &Opening) -> Result<Judged, OpenError> {
    let restored = first && tables.restored.is_some();
    let remembered = tables.settings.as_ref().filter(|_| !restored);
    opening.settings.judge(remembered, opening.accepted.as_ref()).map_err(OpenError::Settings)
}

fn settings_entry(judged: &Judged, operator: u32) -> Option<Entry<'static>> {
    let (tenant, result) = (None, ActResult::Begun);
    match judged {
        Judged::Same => None,
        Judged::First => {
            let (act, target) = ("settings.record", "all".to_owned());
            Some(Entry::Act { act, operator, tenant, target, result })
        }
        Judged::Accepted { by, names } => {
            let (act, target) = ("settings.accept", names.clone());
            Some(Entry::Act { act, operator: *by, tenant, target, result })
        }
    }
}

/// The witnesses as they are when the vault is opened: it waits for the required ones.
fn witnesses_of(tables: &Tables, journal: &Path, log: &Verifier) -> Result<Witnesses, OpenError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|_| DeriveError::Defect)?;
    let required = tables.witnesses.iter().filter(|(_, record)| record.required);
    let required = required.map(|(name, _)| name.clone()).collect();
    let mut witnesses = Witnesses::begin(required, nonce, Instant::now());
    for (name, record) in &tables.witnesses {
        let key = WitnessKey::parse(&record.key).map_err(|_| Malformed)?;
        if let Some(shown) = witnesses::kept(journal, &key, log) {
            witnesses.saw(name.clone(), Seen { size: shown.head.size, at: shown.at });
        }
    }
    Ok(witnesses)
}

/// Budgets as the store has them. A clock that ran back since the newest entry does not give back what was spent until then.
fn budgets_of(tables: &mut Tables, journal: &Path, now: Moment) -> Result<Budgets, OpenError> {
    let newest = read::newest_moment(&Place::new(journal));
    let newest = newest.map_err(|error| JournalError::Read(error.to_string()))?;
    let stored = std::mem::take(&mut tables.stored_budgets);
    Ok(Budgets::open(stored, newest.map_or(now, |newest| newest.max(now)))?)
}

/// Removes the store that this one was moved from: manifest, keyring and journal have vouched for this one.
fn forget_former(directory: &Path) {
    if let Err(error) = moving::forget_former(&directory.join(STORE_DIRECTORY)) {
        tracing::warn!(%error, "the store that this one was moved from is not removed");
    }
}

/// Who signs the journal's checkpoints: the key's name is the log's origin.
///
/// # Errors
/// When the keyring is wiped.
pub fn audit_signer(
    unsealed: &Mutex<Unsealed>,
    store: StoreId,
) -> Result<CheckpointKey, DeriveError> {
    let guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = keys::derive_audit_signing_seed(guard.keyring().keyring().system(), store)?;
    let name = Name::parse(&format!("strongroom/{}", hex::encode(store.0)));
    CheckpointKey::new(name.map_err(|_| DeriveError::Defect)?, seed)
}

/// The public half of the key that opens uploads.
fn public_of(upload_key: &UploadKeyPair) -> Result<VaultKey, DeriveError> {
    upload_key.secret().expose(|secret| {
        let secret = secret.try_into().map_err(|_| DeriveError::Defect)?;
        Ok(stack::wiping::<HPKE_STACK_BYTES, _>(|| derive_vault_key(secret)))
    })
}

/// The newest state that the journal names against the one that lies there. A store one or more commits ahead is sound: the last
/// entries of a machine that lost power may be missing, and how far the journal must be at least is in the manifest. Answers what was named.
fn judge_state(
    named: Option<StoreState>,
    found: StoreState,
) -> Result<Option<StoreState>, JournalError> {
    match named {
        Some(named) if named.commit > found.commit => {
            Err(JournalError::StoreRolledBack { found: found.commit, noted: named.commit })
        }
        Some(named) if named.commit == found.commit && named.digest != found.digest => {
            Err(JournalError::Another { entry: 0 })
        }
        Some(_) | None => Ok(named),
    }
}

/// Brings the keyring in step with the records: ends replacements of shred keys that a crash cut short, destroys the roots of
/// tenants and the keys of owners without a record, draws those that records of the first version lack, and notes how far the store is.
///
/// # Errors
/// When the keyring cannot be written.
pub fn settle_keyring(
    unsealed: &Mutex<Unsealed>,
    tables: &Tables,
    (taken, commit): (&[ShredId], u64),
) -> Result<(), KeyringError> {
    let owners = tables.owners();
    let mut guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    let file = guard.keyring_mut();
    let random: FillRandom<'_> = &mut getrandom::fill;
    if file.keyring().succeeded().next().is_some() {
        file.settle_successors(taken, random)?;
    }
    // A tenant that was being made, or deleted: its record is written after its root is, and goes last.
    let rootless = |tenant: &TenantId| tables.tenant(*tenant).is_none();
    let tenants: Vec<TenantId> = file.keyring().tenants().filter(rootless).collect();
    for tenant in tenants {
        file.remove_tenant(tenant, &[], random)?;
    }
    let orphans: Vec<ShredId> =
        file.keyring().shred_owners().filter(|owner| !owners.contains(owner)).collect();
    if !orphans.is_empty() {
        file.remove_shred_keys(&orphans, random)?;
    }
    let bare: Vec<ShredId> =
        owners.into_iter().filter(|owner| file.keyring().shred_key(*owner).is_err()).collect();
    if !bare.is_empty() {
        file.add_shred_keys(&bare, random)?;
    }
    if file.keyring().commit_floor() < commit {
        file.raise_commit_floor(commit, random)?;
    }
    Ok(())
}

/// Opens the store under every tenant's keys.
///
/// # Errors
/// As [`Books::open`].
pub fn open_books(
    place: (&Path, &Choice, &Halt),
    unsealed: &Arc<Mutex<Unsealed>>,
    newest: impl FnOnce(&Manifest) -> Result<(), BooksError>,
) -> Result<Opened, BooksError> {
    let guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    let keyring = guard.keyring().keyring();
    let keys = TenantKeys::of(keyring, tenant_of(keyring.store()), algorithm())?;
    drop(guard);
    Books::open(place, unsealed, Arc::new(keys), newest)
}

/// Gives the books the keyring's keys.
///
/// # Errors
/// When the keyring lacks them.
pub fn learn_keys(unsealed: &Mutex<Unsealed>, books: &mut Books) -> Result<(), KeyringError> {
    let guard = unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    let keyring = guard.keyring().keyring();
    books.learn(keyring, TenantKeys::of(keyring, tenant_of(keyring.store()), algorithm())?)
}

/// What the TPM's counter was found at, and what of it is in doubt.
type Counted = (Option<freshness::Found>, Option<NotNewest>);

/// Opens the books of a vault that is the newest, as far as the TPM's counter tells, or on people's word.
fn open_newest(
    (directory, choice): (&Path, &Choice),
    unsealed: &Arc<Mutex<Unsealed>>,
    opening: &Opening,
) -> Result<(Opened, Counted), OpenError> {
    let (seen, found) = freshness::look((opening.tpm.as_deref(), opening.demand), directory)?;
    let mut doubt = None;
    let opened = open_books((directory, choice, &Halt::default()), unsealed, |manifest| {
        doubt = judge_newest(manifest, &seen, opening.confirmed.as_deref())?;
        Ok(())
    })?;
    Ok((opened, (found, doubt)))
}
