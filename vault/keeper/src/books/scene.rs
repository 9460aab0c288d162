//! A vault's directory for the tests of the books, with its R at hand.

use std::path::Path;
use std::sync::{Arc, Mutex};

use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_store::Choice;
use strongroom_store::{SledStore, Store};
use strongroom_sys::Secret;

use super::{Books, BooksError, Changes, Opened, Portion, TenantKeys, create};
use crate::backup::halt::Halt;
use crate::keyring::{KeyringFile, ShredId};
use crate::keys::{Algorithm, RootKey, StoreId, WayId};
use crate::records::{RecordName, RecordPlace};
use crate::seal::{self, NewLock, Sealed, Unsealed, Way};
use crate::slots::scratch::Scratch;

pub(super) const ANN: UserId = UserId::from_random([1; 16]);
pub(super) const LAB: WorkspaceId = WorkspaceId::from_random([2; 16]);
pub(super) const TOKEN: TokenId = TokenId::from_random([3; 16]);
pub(super) const CARD: CredentialId = CredentialId::from_random([4; 16]);
const WAY: WayId = WayId(1);
pub(super) const TENANT: TenantId = TenantId::from_random([9; 16]);
pub(super) const OTHER: TenantId = TenantId::from_random([8; 16]);

/// One vault on disk.
pub(super) struct Scene {
    pub(super) scratch: Scratch,
    root: [u8; 32],
}

/// It, open.
pub(super) struct OpenScene {
    pub(super) unsealed: Arc<Mutex<Unsealed>>,
    pub(super) books: Books,
    pub(super) records: Vec<(RecordPlace, Secret)>,
    pub(super) taken: Vec<ShredId>,
    algorithm: Algorithm,
}

impl Scene {
    pub(super) fn make(byte: u8) -> Self {
        let scratch = Scratch::make();
        let (store, root) = (StoreId([byte; 16]), [byte; 32]);
        let key = || RootKey::from_secret(Secret::copy_from(&root)).unwrap();
        let (aes, random) = (Algorithm::Aes256Gcm, &mut getrandom::fill);
        let shares = vec![NewLock::Shares { numbers: (2, 2), holders: Vec::new() }];
        let (way, _) = Way::make((store, WAY), &key(), shares, aes, random).unwrap();
        let mut unsealed =
            seal::create(scratch.directory(), store, (key(), vec![way]), aes, random).unwrap();
        for tenant in [TENANT, OTHER] {
            unsealed.keyring_mut().add_tenant(tenant, random).unwrap();
        }
        create(scratch.directory(), &unsealed, aes, &Choice::Sled).unwrap();
        Self { scratch, root }
    }

    pub(super) fn directory(&self) -> &Path {
        self.scratch.directory()
    }

    pub(super) fn unseal(&self) -> Unsealed {
        let root = RootKey::from_secret(Secret::copy_from(&self.root)).unwrap();
        let sealed = Sealed::load(self.directory()).unwrap();
        sealed.unseal((root, WAY), Algorithm::Aes256Gcm, &mut getrandom::fill).unwrap()
    }

    pub(super) fn open(&self, algorithm: Algorithm) -> Result<OpenScene, BooksError> {
        let unsealed = self.unseal();
        let keys = TenantKeys::of(unsealed.keyring().keyring(), TENANT, algorithm)?;
        let unsealed = Arc::new(Mutex::new(unsealed));
        let opened = Books::open(
            (self.directory(), &Choice::Sled, &Halt::default()),
            &unsealed,
            Arc::new(keys),
            |_| Ok(()),
        )?;
        let Opened { books, records, taken, .. } = opened;
        let mut open = OpenScene { unsealed, books, records, taken, algorithm };
        open.learn();
        Ok(open)
    }

    /// What lies in the store, the mark included, read while nobody has it open.
    pub(super) fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let store = SledStore::open(&self.directory().join(super::STORE_DIRECTORY)).unwrap();
        let mut rows = Vec::new();
        store
            .scan_all(&mut |key, value| {
                rows.push((key.as_bytes().to_vec(), value.as_bytes().to_vec()));
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        rows
    }
}

impl OpenScene {
    pub(super) fn keys(&self) -> TenantKeys {
        let guard = self.unsealed.lock().unwrap();
        TenantKeys::of(guard.keyring().keyring(), TENANT, self.algorithm).unwrap()
    }

    /// The same, while the keyring is lent.
    pub(super) fn keys_of(&self, keyring: &KeyringFile) -> TenantKeys {
        TenantKeys::of(keyring.keyring(), TENANT, self.algorithm).unwrap()
    }

    /// Takes over what was changed in the keyring.
    pub(super) fn learn(&mut self) {
        let keys = self.keys();
        let guard = self.unsealed.lock().unwrap();
        self.books.learn(guard.keyring().keyring(), keys).unwrap();
    }

    pub(super) fn add_owner(&mut self, owner: ShredId) {
        self.add_owners(&[owner]);
    }

    pub(super) fn add_owners(&mut self, owners: &[ShredId]) {
        let mut guard = self.unsealed.lock().unwrap();
        guard.keyring_mut().add_shred_keys(owners, &mut getrandom::fill).unwrap();
        drop(guard);
        self.learn();
    }

    pub(super) fn commit(&mut self, changes: Changes) {
        let (outcome, noted) = self.books.submit(changes);
        outcome.blocking_recv().unwrap().unwrap();
        self.books.note(noted);
    }

    pub(super) fn put(&mut self, name: &RecordName, plain: &[u8]) {
        self.put_at(&home(name), plain);
    }

    pub(super) fn put_at(&mut self, place: &RecordPlace, plain: &[u8]) {
        let changes = self.books.changes();
        let changes = self.books.put(changes, place, &Secret::copy_from(plain)).unwrap();
        self.commit(changes);
    }

    pub(super) fn delete(&mut self, name: &RecordName) {
        let changes = self.books.delete(self.books.changes(), &home(name)).unwrap();
        self.commit(changes);
    }

    /// One owner of each kind with every record that an owner has.
    pub(super) fn furnish(&mut self) {
        for owner in [ShredId::of(ANN), ShredId::of(LAB), ShredId::of(CARD)] {
            self.add_owner(owner);
        }
        for (name, plain) in every_record() {
            self.put(&name, plain);
        }
    }

    /// Rewrites a portion as the writer's thread does.
    pub(super) fn rewrite(&mut self, portion: Portion) {
        let (answer, outcome) = std::sync::mpsc::channel();
        self.books.at_rest(move |store| answer.send(portion.rewrite(store)).unwrap()).unwrap();
        let changes = outcome.recv().unwrap().unwrap();
        self.commit(changes);
    }

    /// The whole of a sweep; how many portions it took.
    pub(super) fn sweep(&mut self) -> usize {
        let (mut after, mut portions) = (None::<Vec<u8>>, 0);
        loop {
            let portion = self.books.old_records(after.as_deref(), |_| Some(ANN)).unwrap();
            let next = portion.after.clone();
            if !portion.is_empty() {
                self.rewrite(portion);
                portions += 1;
            }
            match next {
                Some(next) => after = Some(next),
                None => return portions,
            }
        }
    }

    pub(super) fn has(&self, name: &RecordName, plain: &[u8]) -> bool {
        self.records.iter().any(|(found, secret)| *found == home(name) && secret.matches(plain))
    }
}

/// A record of the first tenant.
pub(super) fn home(name: &RecordName) -> RecordPlace {
    RecordPlace { tenant: TENANT, name: name.clone() }
}

/// Names and contents of every kind of record.
pub(super) fn every_record() -> Vec<(RecordName, &'static [u8])> {
    use strongroom_policy::name::ProviderName;
    vec![
        (RecordName::User(ANN), b"a person"),
        (RecordName::Workspace(LAB), b"a workspace"),
        (RecordName::Token(ANN, TOKEN), b"a token"),
        (RecordName::Credential(CARD), b"a description"),
        (RecordName::Key(CARD), b"sk-canary-0123456789"),
        (RecordName::Provider(ProviderName::parse("local-ai").unwrap()), &[7; 20_000]),
    ]
}
