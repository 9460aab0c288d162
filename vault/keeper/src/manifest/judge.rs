//! The judgement at unseal: is this store the one that the manifest describes?
//!
//! | mark's commit | count and set hash | answer |
//! |---|---|---|
//! | settled | as settled | `Same`, or `IntendedNotApplied` when a commit was begun |
//! | intended | as intended | `IntendedApplied` |
//! | settled or intended | otherwise | spliced |
//! | lower | any | rolled back: the store is older than the manifest |
//! | higher | any | rolled back: the manifest is older than the store |
//!
//! Invariant: pure; nothing is written by judging.

use subtle::ConstantTimeEq;

use super::{Account, Accumulator, MARK_BYTES, Manifest, Mark, State, mark};
use crate::keyring::{Keyring, KeyringFile};
use crate::keys::{self, DeriveError, RecordId, SetHashKey};

/// What the store holds, gathered record by record.
#[derive(Debug)]
pub struct Scan<'a> {
    key: &'a SetHashKey,
    count: u64,
    set_hash: Accumulator,
    mark: Option<Vec<u8>>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(key: &'a SetHashKey) -> Self {
        Self { key, count: 0, set_hash: Accumulator::empty(), mark: None }
    }

    /// Takes in one record of the store, the mark included, in any order.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn take(&mut self, record: RecordId<'_>, value: &[u8]) -> Result<(), DeriveError> {
        if record.0 == super::MARK_RECORD {
            self.mark = Some(value.to_vec());
            return Ok(());
        }
        self.count = self.count.saturating_add(1);
        self.set_hash.add(self.key, record, value)
    }

    /// The result, free of the manifest's key.
    pub fn finish(self) -> Scanned {
        Scanned { count: self.count, set_hash: self.set_hash, mark: self.mark }
    }
}

/// A finished scan.
#[derive(Debug)]
pub struct Scanned {
    count: u64,
    set_hash: Accumulator,
    mark: Option<Vec<u8>>,
}

impl Scanned {
    /// Two scans of parts of one store, as one.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            set_hash: self.set_hash.plus(&other.set_hash),
            mark: self.mark.or(other.mark),
        }
    }
}

/// The store is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It is the settled state.
    Same,
    /// A commit was begun and is not in the store: call `Manifest::abandon`.
    IntendedNotApplied,
    /// A commit is in the store and was not finished: call `Manifest::finish`.
    IntendedApplied,
}

/// The store is refused; nothing of it may be served or rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The manifest, or the mark, cannot be read.
    #[error("the manifest is missing or unreadable")]
    Corrupt,
    /// Store, manifest and keyring are not of one time.
    #[error("the {which} is older than it must be: at {found}, not {expected}")]
    RolledBack {
        /// What is too old.
        which: Part,
        /// Its commit number, or generation for the keyring.
        found: u64,
        /// The least that would be accepted.
        expected: u64,
    },
    /// The commit number is right, the records are not.
    #[error("records were changed, added or removed behind the vault's back")]
    Spliced,
    /// The store or the manifest is of another vault.
    #[error("the store belongs to another vault")]
    Foreign,
}

/// What can be too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Store,
    /// The manifest.
    Manifest,
    /// The keyring.
    Keyring,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Store => "store",
            Self::Manifest => "manifest",
            Self::Keyring => "keyring",
        })
    }
}

impl Refusal {
    /// The exit code of `status`, `doctor` and `keeper --check`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Corrupt => 5,
            Self::RolledBack { .. } => 6,
            Self::Spliced => 7,
            Self::Foreign => 8,
        }
    }
}

/// What a copy of the store at rest must hold, for whoever judges it without the manifest.
#[derive(Debug)]
pub struct Reference {
    account: Account,
    mark: Mark,
    key: SetHashKey,
}

impl Reference {
    /// What the settled state says of the store.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// An empty scan, to be filled with every record of the copy.
    pub fn scan(&self) -> Scan<'_> {
        Scan::new(&self.key)
    }

    /// Judges a scan of the whole copy.
    ///
    /// # Errors
    /// When it is not the settled state.
    pub fn judge(&self, scanned: &Scanned) -> Result<(), Refusal> {
        let Account { commit, count, set_hash } = &self.account;
        match &scanned.mark {
            Some(mark) if bool::from(mark.as_slice().ct_eq(&self.mark.0)) => {}
            None if *commit == 0 => {}
            Some(_) => return Err(Refusal::Spliced),
            None => {
                let (which, expected) = (Part::Store, *commit);
                return Err(Refusal::RolledBack { which, found: 0, expected });
            }
        }
        if *count == scanned.count && *set_hash == scanned.set_hash {
            Ok(())
        } else {
            Err(Refusal::Spliced)
        }
    }
}

impl Manifest {
    /// What the store holds between two commits; `None` while one is under way.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn reference(&self, keyring: &Keyring) -> Result<Option<Reference>, DeriveError> {
        if self.is_pending() {
            return Ok(None);
        }
        let key = keys::derive_set_hash_key(keyring.system(), self.store)?;
        Ok(Some(Reference { account: self.account(), mark: self.mark(), key }))
    }

    /// Judges a scan of the whole store.
    ///
    /// # Errors
    /// When the store is not in the settled or in the intended state, or when manifest, keyring and
    /// store are not of one time or one vault.
    pub fn judge(&self, scanned: &Scanned, keyring: &KeyringFile) -> Result<Verdict, Refusal> {
        let (settled, intended) = (&self.record.settled, self.record.intended.as_ref());
        let newest = intended.unwrap_or(settled);

        // A keyring is written before the manifest that notes it, a floor after the commit it names.
        let (found, expected) = (keyring.generation().0, newest.keyring.0);
        if found < expected {
            return Err(Refusal::RolledBack { which: Part::Keyring, found, expected });
        }
        let floor = keyring.keyring().commit_floor();
        if newest.commit < floor {
            let (found, expected) = (newest.commit, floor);
            return Err(Refusal::RolledBack { which: Part::Manifest, found, expected });
        }

        let commit = self.commit_of(scanned)?;
        if let Some(intended) = intended.filter(|intended| intended.commit == commit) {
            return agrees(intended, scanned, Verdict::IntendedApplied);
        }
        if commit < settled.commit {
            let (found, expected) = (commit, settled.commit);
            return Err(Refusal::RolledBack { which: Part::Store, found, expected });
        }
        if commit > settled.commit {
            let (found, expected) = (newest.commit, commit);
            return Err(Refusal::RolledBack { which: Part::Manifest, found, expected });
        }
        let verdict = match intended {
            Some(_) => Verdict::IntendedNotApplied,
            None => Verdict::Same,
        };
        agrees(settled, scanned, verdict)
    }

    /// The commit that the store's mark names; a store without a mark is at commit 0.
    fn commit_of(&self, scanned: &Scanned) -> Result<u64, Refusal> {
        let Some(bytes) = &scanned.mark else { return Ok(0) };
        let bytes: &[u8; MARK_BYTES] = bytes.as_slice().try_into().map_err(|_| Refusal::Spliced)?;
        let (store, rest) = bytes.split_first_chunk::<16>().ok_or(Refusal::Spliced)?;
        if *store != self.store.0 {
            return Err(Refusal::Foreign);
        }
        let (commit, _) = rest.split_first_chunk::<8>().ok_or(Refusal::Spliced)?;
        let commit = u64::from_be_bytes(*commit);
        let expected = mark(&self.keys.mark, self.store, commit);
        if bool::from(expected.0.as_slice().ct_eq(bytes)) {
            Ok(commit)
        } else {
            Err(Refusal::Spliced)
        }
    }
}

fn agrees(state: &State, scanned: &Scanned, verdict: Verdict) -> Result<Verdict, Refusal> {
    if state.count == scanned.count && state.set_hash == scanned.set_hash {
        Ok(verdict)
    } else {
        Err(Refusal::Spliced)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::keyring::{KEYRING_FILE, Keyring};
    use crate::keys::{Algorithm, RootKey, StoreId, derive_keyring_key};
    use crate::manifest::{MANIFEST_FILE, MARK_RECORD, ManifestError};
    use crate::slots::scratch::Scratch;
    use strongroom_sys::Secret;

    type Store = BTreeMap<Vec<u8>, Vec<u8>>;
    pub(in crate::manifest) type Batch<'a> = &'a [(&'a [u8], Option<&'a [u8]>)];

    pub(in crate::manifest) struct Vault {
        scratch: Scratch,
        keyring: KeyringFile,
        pub(in crate::manifest) manifest: Manifest,
        store: Store,
    }

    impl Vault {
        pub(in crate::manifest) fn make(id: u8) -> Self {
            let scratch = Scratch::make();
            let store = StoreId([id; 16]);
            let keyring = Keyring::make(store, &mut getrandom::fill).unwrap();
            let keyring = KeyringFile::create(
                scratch.directory(),
                keyring_key(store),
                keyring,
                Algorithm::Aes256Gcm,
                &mut getrandom::fill,
            )
            .unwrap();
            let manifest = Manifest::create(
                scratch.directory(),
                &keyring,
                Algorithm::Aes256Gcm,
                &mut getrandom::fill,
            )
            .unwrap();
            Self { scratch, keyring, manifest, store: Store::new() }
        }

        pub(in crate::manifest) fn begin(&mut self, batch: Batch<'_>) -> Mark {
            let mut delta = self.manifest.delta();
            for (record, value) in batch {
                let old = self.store.get(*record).map(Vec::as_slice);
                match value {
                    Some(value) => delta.put(RecordId(record), old, value).unwrap(),
                    None => delta.delete(RecordId(record), old.unwrap()).unwrap(),
                }
            }
            let change = delta.change();
            let generation = self.keyring.generation();
            self.manifest.begin(change, generation, &mut getrandom::fill).unwrap()
        }

        pub(in crate::manifest) fn apply(&mut self, batch: Batch<'_>, mark: Mark) {
            for (record, value) in batch {
                match value {
                    Some(value) => self.store.insert(record.to_vec(), value.to_vec()),
                    None => self.store.remove(*record),
                };
            }
            self.store.insert(MARK_RECORD.to_vec(), mark.0);
        }

        pub(in crate::manifest) fn commit(&mut self, batch: Batch<'_>) {
            let mark = self.begin(batch);
            self.apply(batch, mark);
            self.manifest.finish(&mut getrandom::fill).unwrap();
        }

        pub(in crate::manifest) fn reopen(&self) -> Manifest {
            Manifest::open(self.scratch.directory(), &self.keyring, Algorithm::Aes256Gcm).unwrap()
        }

        fn judge(&self, store: &Store) -> Result<Verdict, Refusal> {
            let manifest =
                Manifest::open(self.scratch.directory(), &self.keyring, Algorithm::Aes256Gcm)
                    .map_err(|error| error.refusal())?;
            let mut scan = manifest.scan();
            for (record, value) in store {
                scan.take(RecordId(record), value).unwrap();
            }
            manifest.judge(&scan.finish(), &self.keyring)
        }
    }

    fn keyring_key(store: StoreId) -> keys::KeyringKey {
        let root = RootKey::from_secret(Secret::copy_from(&[1; 32])).unwrap();
        derive_keyring_key(&root, store).unwrap()
    }

    fn three_commits() -> Vault {
        let mut vault = Vault::make(1);
        vault.commit(&[(b"a", Some(b"1")), (b"b", Some(b"2"))]);
        vault.commit(&[(b"a", Some(b"3")), (b"c", Some(b"4"))]);
        vault.commit(&[(b"b", None)]);
        vault
    }

    #[test]
    fn an_empty_vault_and_an_untouched_store_are_accepted() {
        assert_eq!(Vault::make(1).judge(&Store::new()), Ok(Verdict::Same));
        let vault = three_commits();
        assert_eq!(vault.judge(&vault.store), Ok(Verdict::Same));
        assert_eq!(vault.manifest.commit(), 3);
    }

    #[test]
    fn a_crash_between_any_two_steps_is_recovered_and_the_next_commit_works() {
        let batch: Batch<'_> = &[(b"a", Some(b"5")), (b"d", Some(b"6")), (b"c", None)];
        let mut vault = three_commits();
        let mark = vault.begin(batch);
        assert_eq!(vault.judge(&vault.store), Ok(Verdict::IntendedNotApplied));
        vault.manifest.abandon(&mut getrandom::fill).unwrap();
        assert_eq!(vault.judge(&vault.store), Ok(Verdict::Same));
        drop(mark);

        let mark = vault.begin(batch);
        vault.apply(batch, mark);
        assert_eq!(vault.judge(&vault.store), Ok(Verdict::IntendedApplied));
        vault.manifest.finish(&mut getrandom::fill).unwrap();
        assert_eq!(vault.judge(&vault.store), Ok(Verdict::Same));
        vault.commit(&[(b"a", None)]);
        assert_eq!(vault.judge(&vault.store), Ok(Verdict::Same));
    }

    // Guards against half a batch. Red when `agrees` ignores the set hash.
    #[test]
    fn a_store_between_the_two_accepted_states_is_refused() {
        let batch: Batch<'_> = &[(b"a", Some(b"5")), (b"c", Some(b"6"))];
        let mut vault = three_commits();
        let mark = vault.begin(batch);
        let half: Batch<'_> = &[(b"a", Some(b"5"))];
        let before = vault.store.clone();
        vault.apply(half, mark);
        assert_eq!(vault.judge(&vault.store), Err(Refusal::Spliced));
        let mut unmarked = vault.store.clone();
        unmarked.insert(MARK_RECORD.to_vec(), before[MARK_RECORD].clone());
        assert_eq!(vault.judge(&unmarked), Err(Refusal::Spliced));
    }

    // Guards against rollback of the store. Red when a lower commit is not compared.
    #[test]
    fn an_older_store_is_rolled_back_and_so_is_an_emptied_one() {
        let mut vault = three_commits();
        let old = vault.store.clone();
        vault.commit(&[(b"a", Some(b"revoked"))]);
        let refused = vault.judge(&old);
        let expected = Refusal::RolledBack { which: Part::Store, found: 3, expected: 4 };
        assert_eq!(refused, Err(expected));
        assert_eq!(expected.exit_code(), 6);
        assert!(matches!(vault.judge(&Store::new()), Err(Refusal::RolledBack { .. })));
    }

    #[test]
    fn an_older_manifest_is_rolled_back() {
        let mut vault = three_commits();
        let path = vault.scratch.path(MANIFEST_FILE);
        let old = std::fs::read(&path).unwrap();
        vault.commit(&[(b"a", Some(b"x"))]);
        std::fs::write(&path, &old).unwrap();
        let refused = vault.judge(&vault.store);
        assert!(matches!(refused, Err(Refusal::RolledBack { which: Part::Manifest, .. })));
    }

    // Red when the floor is not compared.
    #[test]
    fn store_and_manifest_rolled_back_together_fall_under_the_keyrings_floor() {
        let mut vault = three_commits();
        let path = vault.scratch.path(MANIFEST_FILE);
        let (old_manifest, old_store) = (std::fs::read(&path).unwrap(), vault.store.clone());
        vault.commit(&[(b"a", Some(b"x"))]);
        vault.keyring.raise_commit_floor(4, &mut getrandom::fill).unwrap();
        std::fs::write(&path, &old_manifest).unwrap();
        let expected = Refusal::RolledBack { which: Part::Manifest, found: 3, expected: 4 };
        assert_eq!(vault.judge(&old_store), Err(expected));
    }

    // Guards deletion against an old keyring. Red when the generation is not compared.
    #[test]
    fn an_older_keyring_is_rolled_back() {
        let mut vault = three_commits();
        let path = vault.scratch.path(KEYRING_FILE);
        let old = std::fs::read(&path).unwrap();
        vault.keyring.raise_commit_floor(1, &mut getrandom::fill).unwrap();
        vault.commit(&[(b"a", Some(b"x"))]);
        std::fs::write(&path, &old).unwrap();
        vault.keyring = KeyringFile::open(
            vault.scratch.directory(),
            keyring_key(StoreId([1; 16])),
            StoreId([1; 16]),
            Algorithm::Aes256Gcm,
            &mut getrandom::fill,
        )
        .unwrap();
        let refused = vault.judge(&vault.store);
        assert!(matches!(refused, Err(Refusal::RolledBack { which: Part::Keyring, .. })));
    }

    #[test]
    fn a_record_changed_added_removed_swapped_or_restored_is_spliced() {
        let mut vault = three_commits();
        let old = vault.store.clone();
        vault.commit(&[(b"a", Some(b"newer"))]);
        let forge = |edit: &dyn Fn(&mut Store)| {
            let mut store = vault.store.clone();
            edit(&mut store);
            let refused = vault.judge(&store);
            assert_eq!(refused, Err(Refusal::Spliced));
        };
        forge(&|store| drop(store.insert(b"a".to_vec(), b"other".to_vec())));
        forge(&|store| drop(store.insert(b"z".to_vec(), b"9".to_vec())));
        forge(&|store| drop(store.remove(b"c".as_slice())));
        forge(&|store| drop(store.insert(b"a".to_vec(), old[b"a".as_slice()].clone())));
        forge(&|store| {
            let (a, c) = (store[b"a".as_slice()].clone(), store[b"c".as_slice()].clone());
            store.insert(b"a".to_vec(), c);
            store.insert(b"c".to_vec(), a);
        });
        assert_eq!(Refusal::Spliced.exit_code(), 7);
    }

    // Red when the mark's MAC is not compared: the old store would pass for a spliced one at best.
    #[test]
    fn a_mark_cannot_be_forged_to_another_commit() {
        let vault = three_commits();
        for index in 16..MARK_BYTES {
            let mut store = vault.store.clone();
            store.get_mut(MARK_RECORD).unwrap()[index] ^= 1;
            assert_eq!(vault.judge(&store), Err(Refusal::Spliced), "byte {index}");
        }
        let mut store = vault.store.clone();
        store.get_mut(MARK_RECORD).unwrap().pop();
        assert_eq!(vault.judge(&store), Err(Refusal::Spliced));
    }

    #[test]
    fn another_vaults_store_or_manifest_is_foreign() {
        let (one, mut two) = (three_commits(), Vault::make(2));
        two.commit(&[(b"a", Some(b"1"))]);
        assert_eq!(one.judge(&two.store), Err(Refusal::Foreign));
        let other = std::fs::read(two.scratch.path(MANIFEST_FILE)).unwrap();
        std::fs::write(one.scratch.path(MANIFEST_FILE), other).unwrap();
        assert_eq!(one.judge(&one.store), Err(Refusal::Foreign));
        assert_eq!(Refusal::Foreign.exit_code(), 8);
    }

    #[test]
    fn a_missing_or_ruined_manifest_is_corrupt() {
        let vault = three_commits();
        let path = vault.scratch.path(MANIFEST_FILE);
        let image = std::fs::read(&path).unwrap();
        std::fs::write(&path, vec![0; image.len()]).unwrap();
        assert_eq!(vault.judge(&vault.store), Err(Refusal::Corrupt));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(vault.judge(&vault.store), Err(Refusal::Corrupt));
        assert_eq!(Refusal::Corrupt.exit_code(), 5);
    }

    #[test]
    fn steps_out_of_order_are_refused() {
        let mut vault = three_commits();
        let random: keys::FillRandom<'_> = &mut getrandom::fill;
        assert!(matches!(vault.manifest.finish(random), Err(ManifestError::OutOfOrder)));
        assert!(matches!(vault.manifest.abandon(random), Err(ManifestError::OutOfOrder)));
        let _mark = vault.begin(&[(b"a", None)]);
        let change = vault.manifest.delta().change();
        let generation = vault.keyring.generation();
        let again = vault.manifest.begin(change, generation, &mut getrandom::fill);
        assert!(matches!(again, Err(ManifestError::OutOfOrder)));
    }
}
