//! The keyring: every random key below R, in one sealed slot file.
//!
//! ```text
//! payload    store id 16 ‖ envelope(keyring key; system, epoch 0, kind keyring, version = generation)
//! plaintext  postcard of `encoding::WireOut`, padded with zeros to a multiple of 1 KiB
//! ```
//!
//! A shred key can have a successor while the records that it seals are rewritten: both are here until the rewriting is
//! durable, then the old one is destroyed.
//!
//! Every change writes both slots and is acknowledged after the second sync, so that a removed key
//! lies in neither. A crash between the two leaves an odd generation; `open` then finishes the job.
//! Nothing is promised for flash remapping, copy-on-write file systems and snapshots.
//!
//! Invariant: what a change answered `Ok` for is on disk, twice.
//! Invariant: a key that was removed is in neither slot.
//! Invariant: a generation is part of the context, so no old slot passes for a newer one.
//! Distrusts: every byte of the file.

mod changes;
pub(crate) mod encoding;
mod exported;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use strongroom_policy::id::{Id, TenantId};

use crate::envelope::{EnvelopeError, open_record, seal_record};
use crate::keys::{
    self, Algorithm, Context, DeriveError, Epoch, EpochKey, FillRandom, Format, Key, KeyringKey,
    Kind, RecordId, RecordKeySource, RecordVersion, Resting, RestingSeal, RestingShredKey,
    RestingTenantKey, Scope, StoreId, SystemSeed, TenantKey, purpose,
};
use crate::slots::{Capacity, Generation, SlotError, SlotFile};
use crate::vault::algorithm;
use encoding::{decode, encode};
pub use exported::stage;

/// The keyring's file in the data directory.
pub const KEYRING_FILE: &str = "keyring";
/// Room for about 80,000 keys.
const CAPACITY: Capacity = Capacity(4 * 1024 * 1024);
/// Keeps the plaintext within its slot: each key takes at most 52 bytes.
pub const MAX_KEYS: usize = 75_000;
/// Most generations of tenant keys at once: each is destroyed when its last record is rewritten.
const MAX_EPOCHS: usize = 16;

/// Whose shred key: the 16 bytes of the id of a credential, a person or a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShredId(pub [u8; 16]);

impl ShredId {
    /// The owner of this id; ids are random, so no two kinds share one.
    pub fn of<K: strongroom_policy::id::Kind>(id: Id<K>) -> Self {
        Self(*id.bytes())
    }
}

/// Why the keyring was not made, opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The slot file; after a failed write the vault must seal itself.
    #[error("keyring file: {0}")]
    Slots(#[from] SlotError),
    /// It is of another vault.
    #[error("the keyring belongs to another vault")]
    Foreign,
    /// It does not open under this R.
    #[error("the keyring does not open: {0}")]
    Envelope(#[from] EnvelopeError),
    /// It opens, and is not a keyring.
    #[error("the keyring is malformed")]
    Malformed,
    /// There is such a key already.
    #[error("that key exists already")]
    Exists,
    /// There is no such key, or it was destroyed.
    #[error("no such key")]
    Unknown,
    /// Too many generations.
    #[error("there are {MAX_EPOCHS} generations of keys whose records are not rewritten yet")]
    Epochs,
    /// No room for more.
    #[error("the keyring holds {MAX_KEYS} keys, and that is all it has room for")]
    Full,
    /// No randomness, no locked memory, or a defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// Every random key below R.
#[derive(Debug)]
pub struct Keyring {
    store: StoreId,
    epoch: Epoch,
    epochs: BTreeMap<Epoch, EpochKey>,
    tenants: BTreeMap<TenantId, Resting<purpose::TenantRoot>>,
    shreds: BTreeMap<ShredId, RestingShredKey>,
    successors: BTreeMap<ShredId, RestingShredKey>,
    rest: RestingSeal,
    system: SystemSeed,
    commit_floor: u64,
    lowest_format: Format,
}

impl Keyring {
    /// Draws the keyring of a new vault: epoch 1, no tenant.
    ///
    /// # Errors
    /// When there is no randomness or no locked memory.
    pub fn make(store: StoreId, random: FillRandom<'_>) -> Result<Self, DeriveError> {
        Ok(Self {
            store,
            epoch: Epoch(1),
            epochs: BTreeMap::from([(Epoch(1), Key::make(random)?)]),
            tenants: BTreeMap::new(),
            shreds: BTreeMap::new(),
            successors: BTreeMap::new(),
            rest: RestingSeal::draw(algorithm(), random)?,
            system: Key::make(random)?,
            commit_floor: 0,
            lowest_format: Format::NEWEST,
        })
    }

    /// The vault.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The generation that new writes use.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The root of the system keys.
    pub fn system(&self) -> &SystemSeed {
        &self.system
    }

    /// The commit below which no manifest is accepted.
    pub fn commit_floor(&self) -> u64 {
        self.commit_floor
    }

    /// The format below which no record of a tenant is opened.
    pub fn lowest_format(&self) -> Format {
        self.lowest_format
    }

    /// The generations whose keys there are.
    pub fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.epochs.keys().copied()
    }

    /// The key of a generation.
    pub fn epoch_key(&self, epoch: Epoch) -> Option<&EpochKey> {
        self.epochs.get(&epoch)
    }

    /// A tenant's key in an epoch.
    ///
    /// # Errors
    /// `Unknown` when the tenant's root or the epoch's key is gone.
    pub fn tenant_key(&self, tenant: TenantId, epoch: Epoch) -> Result<TenantKey, KeyringError> {
        let root = self.tenants.get(&tenant).ok_or(KeyringError::Unknown)?;
        let epoch_key = self.epochs.get(&epoch).ok_or(KeyringError::Unknown)?;
        Ok(keys::derive_tenant_key(&root.open()?, (epoch, epoch_key), (self.store, &tenant))?)
    }

    /// The same, laid to rest.
    ///
    /// # Errors
    /// As [`Self::tenant_key`].
    pub fn resting_tenant_key(
        &self,
        tenant: TenantId,
        epoch: Epoch,
    ) -> Result<RestingTenantKey, KeyringError> {
        Ok(RestingTenantKey::of(&self.rest, self.tenant_key(tenant, epoch)?)?)
    }

    /// The tenants whose roots there are.
    pub fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.keys().copied()
    }

    /// The shred key of an owner.
    ///
    /// # Errors
    /// `Unknown` when there is none, or it was destroyed.
    pub fn shred_key(&self, owner: ShredId) -> Result<&RestingShredKey, KeyringError> {
        self.shreds.get(&owner).ok_or(KeyringError::Unknown)
    }

    /// Whose shred keys there are.
    pub fn shred_owners(&self) -> impl Iterator<Item = ShredId> {
        self.shreds.keys().copied()
    }

    /// The key that is to replace an owner's shred key, while its records are rewritten.
    pub fn successor(&self, owner: ShredId) -> Option<&RestingShredKey> {
        self.successors.get(&owner)
    }

    /// Whose shred keys are being replaced.
    pub fn succeeded(&self) -> impl Iterator<Item = ShredId> {
        self.successors.keys().copied()
    }

    /// How many keys there are, of at most [`MAX_KEYS`].
    pub fn keys(&self) -> usize {
        let tables =
            [self.epochs.len(), self.tenants.len(), self.shreds.len(), self.successors.len()];
        tables.into_iter().fold(0_usize, usize::saturating_add)
    }

    fn has_room(&self, more: usize) -> Result<(), KeyringError> {
        if self.keys().saturating_add(more) <= MAX_KEYS { Ok(()) } else { Err(KeyringError::Full) }
    }
}

/// The keyring together with its file: every change is durable when it answers.
#[derive(Debug)]
pub struct KeyringFile {
    slots: SlotFile,
    key: KeyringKey,
    algorithm: Algorithm,
    keyring: Keyring,
}

impl KeyringFile {
    /// Writes a new vault's keyring.
    ///
    /// # Errors
    /// When there is one already, or it cannot be sealed or written.
    pub fn create(
        directory: &Path,
        key: KeyringKey,
        keyring: Keyring,
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Self, KeyringError> {
        let [one, two] = Generation::FIRST_TWO;
        let first = seal(&key, &keyring, one, algorithm, random)?;
        let second = seal(&key, &keyring, two, algorithm, random)?;
        let slots = SlotFile::create(&directory.join(KEYRING_FILE), CAPACITY, [&first, &second])?;
        Ok(Self { slots, key, algorithm, keyring })
    }

    /// Opens a vault's keyring, and finishes a change that a crash cut in half.
    ///
    /// # Errors
    /// When it is missing, torn in both slots, of another vault, or does not open under `key`.
    pub fn open(
        directory: &Path,
        key: KeyringKey,
        store: StoreId,
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Self, KeyringError> {
        let (slots, payload) = SlotFile::open(&directory.join(KEYRING_FILE), CAPACITY)?;
        let keyring = open_payload(&key, (store, slots.generation()), &payload)?;
        let mut file = Self { slots, key, algorithm, keyring };
        if !file.slots.generation().0.is_multiple_of(2) {
            file.write_once(random)?;
        }
        Ok(file)
    }

    /// Whether the file opens under this key. Writes nothing.
    pub fn opens(directory: &Path, key: &KeyringKey, store: StoreId) -> bool {
        SlotFile::open(&directory.join(KEYRING_FILE), CAPACITY).is_ok_and(|(slots, payload)| {
            open_payload(key, (store, slots.generation()), &payload).is_ok()
        })
    }

    /// The keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Whether it is sealed under this key.
    pub fn is_under(&self, key: &KeyringKey) -> bool {
        key.secret().expose(|key| self.key.secret().matches(key))
    }

    /// How often the keyring was written; the manifest notes it, to find an old keyring.
    pub fn generation(&self) -> Generation {
        self.slots.generation()
    }

    fn write_both(&mut self, random: FillRandom<'_>) -> Result<(), KeyringError> {
        self.write_once(random)?;
        self.write_once(random)
    }

    fn write_once(&mut self, random: FillRandom<'_>) -> Result<(), KeyringError> {
        let generation = self.slots.next_generation();
        let payload = seal(&self.key, &self.keyring, generation, self.algorithm, random)?;
        self.slots.write(&payload)?;
        Ok(())
    }
}

fn open_payload(
    key: &KeyringKey,
    (store, generation): (StoreId, Generation),
    payload: &[u8],
) -> Result<Keyring, KeyringError> {
    let (found, envelope) = payload.split_first_chunk::<16>().ok_or(KeyringError::Malformed)?;
    if *found != store.0 {
        return Err(KeyringError::Foreign);
    }
    let context = context(store, generation);
    let plain = open_record(&RecordKeySource::from_keyring(key), &context, envelope)?;
    plain.expose(|plain| decode(plain, store))
}

fn context(store: StoreId, generation: Generation) -> Context<'static> {
    Context {
        store,
        scope: Scope::System,
        epoch: Epoch(0),
        kind: Kind::Keyring,
        record: RecordId(&[]),
        version: RecordVersion(generation.0),
    }
}

fn seal(
    key: &KeyringKey,
    keyring: &Keyring,
    generation: Generation,
    algorithm: Algorithm,
    random: FillRandom<'_>,
) -> Result<Vec<u8>, KeyringError> {
    let plain = encode(keyring)?;
    let source = RecordKeySource::from_keyring(key);
    let context = context(keyring.store, generation);
    let envelope =
        plain.expose(|plain| seal_record(&source, &context, algorithm, plain, random))?;
    Ok([keyring.store.0.as_slice(), &envelope].concat())
}

#[cfg(test)]
mod tests {
    use strongroom_sys::Secret;
    use zeroize::Zeroizing;

    use super::*;
    use crate::keys::RootKey;
    use crate::slots::scratch::Scratch;

    const STORE: StoreId = StoreId([7; 16]);
    const ONE: TenantId = TenantId::from_random([1; 16]);
    const TWO: TenantId = TenantId::from_random([2; 16]);
    const OWNER: ShredId = ShredId([3; 16]);

    fn keyring_key(byte: u8) -> KeyringKey {
        let root = RootKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap();
        keys::derive_keyring_key(&root, STORE).unwrap()
    }

    fn create(scratch: &Scratch) -> KeyringFile {
        let keyring = Keyring::make(STORE, &mut getrandom::fill).unwrap();
        let (key, algorithm) = (keyring_key(1), Algorithm::Aes256Gcm);
        KeyringFile::create(scratch.directory(), key, keyring, algorithm, &mut getrandom::fill)
            .unwrap()
    }

    fn open(scratch: &Scratch, key: u8, store: StoreId) -> Result<KeyringFile, KeyringError> {
        let (key, algorithm) = (keyring_key(key), Algorithm::ChaCha20Poly1305);
        KeyringFile::open(scratch.directory(), key, store, algorithm, &mut getrandom::fill)
    }

    fn same(one: &Keyring, two: &Keyring) -> bool {
        let (one, two) = (encode(one).unwrap(), encode(two).unwrap());
        one.expose(|one| two.matches(one))
    }

    #[test]
    fn every_change_is_on_disk_when_it_is_acknowledged() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        let random: FillRandom<'_> = &mut getrandom::fill;
        file.add_tenant(ONE, random).unwrap();
        file.add_tenant(TWO, random).unwrap();
        file.add_shred_key(OWNER, random).unwrap();
        assert_eq!(file.start_epoch(random).unwrap(), Epoch(2));
        file.raise_commit_floor(41, random).unwrap();
        file.remove_tenant(TWO, &[], random).unwrap();
        let again = open(&scratch, 1, STORE).unwrap();
        assert!(same(file.keyring(), again.keyring()));
        assert_eq!(again.keyring().commit_floor(), 41);
        assert!(again.keyring().tenant_key(ONE, Epoch(1)).is_ok());
        assert!(matches!(again.keyring().tenant_key(TWO, Epoch(1)), Err(KeyringError::Unknown)));
    }

    #[test]
    fn a_keyring_of_many_keys_survives_its_encoding() {
        let mut keyring = Keyring::make(STORE, &mut getrandom::fill).unwrap();
        for number in 0_u32..3_000 {
            let mut id = [0xFF; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            keyring
                .shreds
                .insert(ShredId(id), Resting::make(&keyring.rest, &mut getrandom::fill).unwrap());
        }
        keyring.commit_floor = u64::MAX;
        let plain = encode(&keyring).unwrap();
        assert!(same(&keyring, &plain.expose(|plain| decode(plain, STORE)).unwrap()));
    }

    // Guards real deletion. Red when `remove_shred_keys` writes one slot only.
    #[test]
    fn a_destroyed_key_is_in_neither_slot() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        file.add_shred_key(OWNER, &mut getrandom::fill).unwrap();
        let path = scratch.path(KEYRING_FILE);
        let half = usize::try_from(CAPACITY.0).unwrap();
        file.remove_shred_keys(&[OWNER], &mut getrandom::fill).unwrap();
        let written = std::fs::read(&path).unwrap();
        for side in 0..2 {
            let mut image = written.clone();
            image[side * half..][..8].fill(0);
            std::fs::write(&path, &image).unwrap();
            let survivor = open(&scratch, 1, STORE).unwrap();
            assert!(matches!(survivor.keyring().shred_key(OWNER), Err(KeyringError::Unknown)));
        }
    }

    // Red when `open` does not look at the parity of the generation.
    #[test]
    fn a_change_cut_between_its_two_writes_is_finished_at_the_next_open() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        file.add_shred_key(OWNER, &mut getrandom::fill).unwrap();
        file.keyring.shreds.clear();
        file.write_once(&mut getrandom::fill).unwrap();
        let healed = open(&scratch, 1, STORE).unwrap();
        assert_eq!(healed.generation().0, file.generation().0 + 1);
        let half = usize::try_from(CAPACITY.0).unwrap();
        let mut image = std::fs::read(scratch.path(KEYRING_FILE)).unwrap();
        image[..8].fill(0);
        std::fs::write(scratch.path(KEYRING_FILE), &image).unwrap();
        assert!(open(&scratch, 1, STORE).unwrap().keyring().shred_key(OWNER).is_err());
        assert!(image.len() == 2 * half);
    }

    #[test]
    fn another_root_key_or_another_vault_is_named() {
        let scratch = Scratch::make();
        drop(create(&scratch));
        assert!(matches!(
            open(&scratch, 2, STORE),
            Err(KeyringError::Envelope(EnvelopeError::OtherKeyOrContext))
        ));
        assert!(matches!(open(&scratch, 1, StoreId([8; 16])), Err(KeyringError::Foreign)));
    }

    // Guards against replay between slots. Red when the version in the context is a constant.
    #[test]
    fn an_old_payload_under_a_newer_generation_is_refused() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        let (_, old) = SlotFile::open(&scratch.path(KEYRING_FILE), CAPACITY).unwrap();
        file.add_tenant(ONE, &mut getrandom::fill).unwrap();
        file.slots.write(&old).unwrap();
        assert!(matches!(
            open(&scratch, 1, STORE),
            Err(KeyringError::Envelope(EnvelopeError::OtherVersion { .. }))
        ));
    }

    #[test]
    fn refused_changes_change_nothing() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        file.add_tenant(ONE, &mut getrandom::fill).unwrap();
        let generation = file.generation();
        let random: FillRandom<'_> = &mut getrandom::fill;
        assert!(matches!(file.add_tenant(ONE, random), Err(KeyringError::Exists)));
        assert!(matches!(file.remove_tenant(TWO, &[], random), Err(KeyringError::Unknown)));
        let some = [OWNER, ShredId([4; 16])];
        file.add_shred_key(OWNER, random).unwrap();
        let generation = file.generation().max(generation);
        assert!(matches!(file.add_shred_keys(&some, random), Err(KeyringError::Exists)));
        assert!(matches!(file.remove_shred_keys(&some, random), Err(KeyringError::Unknown)));
        assert!(matches!(file.add_successor(some[1], random), Err(KeyringError::Unknown)));
        assert!(file.keyring().shred_key(OWNER).is_ok());
        assert_eq!(file.generation(), generation);
    }

    #[test]
    fn a_retired_epochs_keys_are_gone() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        let random: FillRandom<'_> = &mut getrandom::fill;
        file.add_tenant(ONE, random).unwrap();
        file.start_epoch(random).unwrap();
        file.retire_old_epochs(random).unwrap();
        let again = open(&scratch, 1, STORE).unwrap();
        for keyring in [file.keyring(), again.keyring()] {
            assert!(matches!(keyring.tenant_key(ONE, Epoch(1)), Err(KeyringError::Unknown)));
            assert!(keyring.tenant_key(ONE, Epoch(2)).is_ok());
        }
    }

    #[test]
    fn a_full_keyring_says_so_and_stays_as_it_is() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        let id = |number: usize| ShredId(u128::try_from(number).unwrap().to_be_bytes());
        let room = MAX_KEYS - file.keyring().keys();
        let owners: Vec<_> = (0..room).map(id).collect();
        file.add_shred_keys(&owners, &mut getrandom::fill).unwrap();
        let generation = file.generation();
        let random: FillRandom<'_> = &mut getrandom::fill;
        assert!(matches!(file.add_shred_key(id(room), random), Err(KeyringError::Full)));
        assert!(matches!(file.start_epoch(random), Err(KeyringError::Full)));
        assert_eq!(file.generation(), generation);
        assert_eq!(open(&scratch, 1, STORE).unwrap().keyring().keys(), MAX_KEYS);
    }

    #[test]
    fn epochs_whose_records_wait_are_bounded() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        let random: FillRandom<'_> = &mut getrandom::fill;
        for _ in 1..MAX_EPOCHS {
            file.start_epoch(random).unwrap();
        }
        assert!(matches!(file.start_epoch(random), Err(KeyringError::Epochs)));
        file.retire_old_epochs(random).unwrap();
        assert!(file.start_epoch(random).is_ok());
    }

    #[test]
    fn a_replaced_shred_key_is_there_until_its_successor_is_taken_and_then_in_neither_slot() {
        let scratch = Scratch::make();
        let mut file = create(&scratch);
        let random: FillRandom<'_> = &mut getrandom::fill;
        let bytes = |key: &RestingShredKey| key.open().unwrap().secret().expose(<[u8]>::to_vec);
        file.add_shred_key(OWNER, random).unwrap();
        let first = bytes(file.keyring().shred_key(OWNER).unwrap());
        file.add_successor(OWNER, random).unwrap();
        let second = bytes(open(&scratch, 1, STORE).unwrap().keyring().successor(OWNER).unwrap());
        assert_eq!(bytes(file.keyring().shred_key(OWNER).unwrap()), first);
        file.settle_successors(&[], random).unwrap();
        assert_eq!(bytes(file.keyring().shred_key(OWNER).unwrap()), first);
        file.add_successor(OWNER, random).unwrap();
        file.settle_successors(&[OWNER], random).unwrap();
        let again = open(&scratch, 1, STORE).unwrap();
        let third = bytes(again.keyring().shred_key(OWNER).unwrap());
        assert!(third != first && third != second);
        assert!(again.keyring().successor(OWNER).is_none());
    }

    /// The first version's keyring, without successors and lowest format.
    #[test]
    fn a_keyring_of_the_first_format_opens_and_admits_records_of_the_first_format() {
        let keyring = Keyring::make(STORE, &mut getrandom::fill).unwrap();
        let plain = encoding::tests::encode_first(&keyring);
        let read = plain.expose(|plain| decode(plain, STORE)).unwrap();
        assert_eq!(read.lowest_format(), Format::One);
        assert_eq!(keyring.lowest_format(), Format::Two);
        assert_eq!(read.keys(), keyring.keys());
    }

    #[test]
    fn no_prefix_of_a_keyring_decodes() {
        let keyring = Keyring::make(STORE, &mut getrandom::fill).unwrap();
        let plain = Zeroizing::new(encode(&keyring).unwrap().expose(<[u8]>::to_vec));
        let end = plain.iter().rposition(|byte| *byte != 0).unwrap();
        for length in 0..end {
            assert!(decode(&plain[..length], STORE).is_err(), "length {length}");
        }
    }
}
