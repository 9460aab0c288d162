//! A small vault in a scratch directory, for the tests of backups.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use strongroom_policy::destination::{Destination, Injection, Reach};
use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{HostName, Label, ProviderName};
use strongroom_policy::rules::{Choice, CredentialRules, Home, Standing, TokenScope};
use strongroom_store::Choice as Kept;
use strongroom_sys::Secret;

use super::content::JournalPoint;
use super::halt::Halt;
use super::make::{Careful, MakeError, Snapshot, Written};
use super::stream::StreamError;
use crate::books::{self, Books, Changes};
use crate::keyring::ShredId;
use crate::keys::{KeyringKey, RootKey, StoreId, WayId};
use crate::records::{
    CredentialRecord, RecordName, RecordPlace, TenantRecord, TokenRecord, UserRecord,
    WorkspaceRecord,
};
use crate::seal::{self, NewLock, Unsealed, Way};
use crate::slots::scratch::Scratch;
use crate::vault::{algorithm, learn_keys, open_books, tenant_of};

pub(crate) const USER: UserId = UserId::from_random([1; 16]);
pub(crate) const OTHER_USER: UserId = UserId::from_random([2; 16]);
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId::from_random([3; 16]);
pub(crate) const TOKEN: TokenId = TokenId::from_random([4; 16]);
pub(crate) const OTHER_TOKEN: TokenId = TokenId::from_random([5; 16]);
pub(crate) const CREDENTIAL: CredentialId = CredentialId::from_random([6; 16]);
pub(crate) const SHARED: CredentialId = CredentialId::from_random([7; 16]);
pub(crate) const ACME: TenantId = TenantId::from_random([20; 16]);
pub(crate) const ACME_USER: UserId = UserId::from_random([21; 16]);
pub(crate) const ACME_TOKEN: TokenId = TokenId::from_random([22; 16]);
pub(crate) const ACME_CREDENTIAL: CredentialId = CredentialId::from_random([23; 16]);
pub(crate) const KEY: &[u8] = b"sk-canary-0123456789abcdefghijklmnop";
pub(crate) const NOWHERE: JournalPoint = JournalPoint { entries: 0, chain: [0; 32] };

/// A vault of two people, a workspace, two tokens and two credentials.
pub(crate) struct Small {
    pub(crate) scratch: Scratch,
    pub(crate) store: StoreId,
    pub(crate) unsealed: Arc<Mutex<Unsealed>>,
    pub(crate) books: Books,
}

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(crate) fn user(name: &str) -> UserRecord {
    let created = Moment::from_unix_millis(1);
    UserRecord { label: label(name), standing: Standing::Active, created }
}

pub(crate) fn token(user: UserId, name: &str) -> TokenRecord {
    let scope = TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 10,
    };
    TokenRecord {
        user,
        label: label(name),
        scope,
        hash: [9; 32],
        created: Moment::from_unix_millis(1),
    }
}

pub(crate) fn credential(home: Home, name: &str) -> CredentialRecord {
    let host = HostName::parse("api.openai.com").unwrap();
    CredentialRecord {
        label: label(name),
        provider: ProviderName::parse("openai").unwrap(),
        home,
        destination: Destination {
            host: host.clone(),
            port: 443,
            tls_name: host,
            extra_authorities: Vec::new(),
            reach: Reach::Public,
            base_path: String::new(),
            injection: Injection::Bearer,
            fixed_headers: Vec::new(),
        },
        rules: CredentialRules::default(),
        version: 1,
        created: Moment::from_unix_millis(1),
        rotated: Moment::from_unix_millis(1),
    }
}

impl Small {
    pub(crate) fn make() -> Self {
        Self::of(7)
    }

    /// A vault of which `byte` decides the id and R.
    pub(crate) fn of(byte: u8) -> Self {
        let scratch = Scratch::make();
        let directory = scratch.path("vault");
        std::fs::create_dir(&directory).unwrap();
        let store = StoreId([byte; 16]);
        let root = || RootKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap();
        let random = &mut getrandom::fill;
        let shares = vec![NewLock::Shares { numbers: (2, 2), holders: Vec::new() }];
        let (way, _) = Way::make((store, WayId(1)), &root(), shares, algorithm(), random).unwrap();
        let ways = vec![way];
        let mut made =
            seal::create(&directory, store, (root(), ways), algorithm(), random).unwrap();
        made.keyring_mut().add_tenant(tenant_of(store), random).unwrap();
        books::create(&directory, &made, algorithm(), &Kept::Sled).unwrap();
        let unsealed = Arc::new(Mutex::new(made));
        let books = open_books((&directory, &Kept::Sled, &Halt::default()), &unsealed, |_| Ok(()))
            .unwrap()
            .books;
        let mut small = Self { scratch, store, unsealed, books };
        small.furnish();
        small
    }

    fn furnish(&mut self) {
        let owners = [
            ShredId::of(USER),
            ShredId::of(OTHER_USER),
            ShredId::of(WORKSPACE),
            ShredId::of(CREDENTIAL),
            ShredId::of(SHARED),
        ];
        let mut guard = self.unsealed.lock().unwrap();
        guard.keyring_mut().add_shred_keys(&owners, &mut getrandom::fill).unwrap();
        drop(guard);
        learn_keys(&self.unsealed, &mut self.books).unwrap();
        self.put(&RecordName::User(USER), &user("ann"));
        self.put(&RecordName::User(OTHER_USER), &user("bob"));
        let members = vec![USER, OTHER_USER];
        let workspace =
            WorkspaceRecord { label: label("lab"), members, created: Moment::from_unix_millis(1) };
        self.put(&RecordName::Workspace(WORKSPACE), &workspace);
        self.put(&RecordName::Token(USER, TOKEN), &token(USER, "one"));
        let other = TokenRecord { hash: [8; 32], ..token(OTHER_USER, "two") };
        self.put(&RecordName::Token(OTHER_USER, OTHER_TOKEN), &other);
        self.credential(CREDENTIAL, &credential(Home::Personal(USER), "main"));
        self.credential(SHARED, &credential(Home::Workspace(WORKSPACE), "shared"));
    }

    fn credential(&mut self, id: CredentialId, record: &CredentialRecord) {
        let plain = Secret::take(postcard::to_stdvec(record).unwrap());
        let changes = self.books.changes();
        let changes =
            self.books.put(changes, &self.place(RecordName::Credential(id)), &plain).unwrap();
        let key = Secret::copy_from(KEY);
        let changes = self.books.put(changes, &self.place(RecordName::Key(id)), &key).unwrap();
        self.commit(changes);
    }

    pub(crate) fn put<T: serde::Serialize>(&mut self, name: &RecordName, record: &T) {
        let plain = Secret::take(postcard::to_stdvec(record).unwrap());
        let place = self.place(name.clone());
        let changes = self.books.put(self.books.changes(), &place, &plain).unwrap();
        self.commit(changes);
    }

    /// A second tenant: a person, a token of hash 6 and a credential, with the labels that the first one has.
    pub(crate) fn add_acme(&mut self) {
        let owners = [ShredId::of(ACME_USER), ShredId::of(ACME_CREDENTIAL)];
        let mut guard = self.unsealed.lock().unwrap();
        guard.keyring_mut().add_tenant(ACME, &mut getrandom::fill).unwrap();
        guard.keyring_mut().add_shred_keys(&owners, &mut getrandom::fill).unwrap();
        drop(guard);
        learn_keys(&self.unsealed, &mut self.books).unwrap();
        let tenant =
            TenantRecord { label: label("acme"), standing: Standing::Active, created: None };
        let held = credential(Home::Personal(ACME_USER), "main");
        for (name, plain) in [
            (RecordName::Tenant, postcard::to_stdvec(&tenant)),
            (RecordName::User(ACME_USER), postcard::to_stdvec(&user("ann"))),
            (
                RecordName::Token(ACME_USER, ACME_TOKEN),
                postcard::to_stdvec(&TokenRecord { hash: [6; 32], ..token(ACME_USER, "one") }),
            ),
            (RecordName::Credential(ACME_CREDENTIAL), postcard::to_stdvec(&held)),
        ] {
            self.put_at(&RecordPlace { tenant: ACME, name }, &Secret::take(plain.unwrap()));
        }
        let key = RecordPlace { tenant: ACME, name: RecordName::Key(ACME_CREDENTIAL) };
        self.put_at(&key, &Secret::copy_from(KEY));
    }

    fn put_at(&mut self, place: &RecordPlace, plain: &Secret) {
        let changes = self.books.put(self.books.changes(), place, plain).unwrap();
        self.commit(changes);
    }

    /// A record of the first tenant.
    pub(crate) fn place(&self, name: RecordName) -> RecordPlace {
        RecordPlace { tenant: tenant_of(self.store), name }
    }

    pub(crate) fn commit(&mut self, changes: Changes) {
        let (outcome, noted) = self.books.submit(changes);
        outcome.blocking_recv().unwrap().unwrap();
        self.books.note(noted);
    }

    /// Its R.
    pub(crate) fn root(&self) -> (RootKey, WayId) {
        (RootKey::from_secret(Secret::copy_from(&[self.store.0[0]; 32])).unwrap(), WayId(1))
    }

    pub(crate) fn key(&self) -> KeyringKey {
        self.unsealed.lock().unwrap().keyring().copy_key().unwrap()
    }

    /// Makes a backup in a file of this name.
    pub(crate) fn backup(&self, name: &str) -> (PathBuf, Written) {
        self.backup_at(name, NOWHERE)
    }

    pub(crate) fn backup_at(&self, name: &str, point: JournalPoint) -> (PathBuf, Written) {
        let path = self.scratch.path(name);
        let written = self.try_backup(&path, point).unwrap();
        (path, written)
    }

    pub(crate) fn try_backup(
        &self,
        path: &Path,
        point: JournalPoint,
    ) -> Result<Written, MakeError> {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(path);
        let out = Careful::new(file.unwrap()).map_err(StreamError::from)?;
        self.snapshot()?.write(point, (out, &Halt::default()))
    }

    /// Copies it as it is now.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, MakeError> {
        let (answer, taken) = channel();
        let work = move |store: &dyn strongroom_store::Store, manifest: &_, unsealed: &_| {
            let now = (Moment::from_unix_millis(77), &Halt::default());
            assert!(answer.send(Snapshot::take(store, (manifest, unsealed), now)).is_ok());
        };
        self.books.whole_at_rest(work).unwrap();
        taken.recv().unwrap()
    }
}
