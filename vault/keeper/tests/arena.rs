//! A vault's keys find no room in locked memory. Alone in its process: it fills what there is.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};

use strongroom_keeper::keyring::{Keyring, KeyringError, KeyringFile, ShredId};
use strongroom_keeper::keys::{Algorithm, DeriveError, RootKey, StoreId, derive_keyring_key};
use strongroom_sys::LockedKey;
use strongroom_sys::locked::{KEYS, LockError};

static ALONE: Mutex<()> = Mutex::new(());

const STORE: StoreId = StoreId([7; 16]);

// Red when a key is put on the heap where the arena has no room.
#[test]
fn a_keyring_whose_keys_find_no_locked_memory_stays_shut_and_opens_when_there_is_room() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = tempfile::tempdir().unwrap();
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let key = || derive_keyring_key(&root, STORE).unwrap();
    let keyring = Keyring::make(STORE, &mut getrandom::fill).unwrap();
    let (place, cipher) = (scratch.path(), Algorithm::Aes256Gcm);
    let made = KeyringFile::create(place, key(), keyring, cipher, &mut getrandom::fill).unwrap();
    drop(made);
    let open = |key| KeyringFile::open(place, key, STORE, cipher, &mut getrandom::fill);
    let its = key();
    let mut others = Vec::new();
    while let Ok(other) = LockedKey::random() {
        others.push(other);
    }
    assert!(others.len() < KEYS, "some keys lie in it already");
    let refused = open(its).unwrap_err();
    let none = DeriveError::Memory(LockError::Exhausted);
    assert!(matches!(refused, KeyringError::Derive(error) if error == none), "{refused}");
    drop(others);
    open(key()).unwrap();
}

// An open vault's share of the arena, with every key of the keyring in use: a tenth is what SECURITY.md says.
#[test]
fn a_keyring_of_many_owners_takes_a_handful_of_places() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = tempfile::tempdir().unwrap();
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let keyring = Keyring::make(STORE, &mut getrandom::fill).unwrap();
    let key = derive_keyring_key(&root, STORE).unwrap();
    let random = &mut getrandom::fill;
    let mut file =
        KeyringFile::create(scratch.path(), key, keyring, Algorithm::Aes256Gcm, random).unwrap();
    let owners: Vec<_> = (0_u32..5_000)
        .map(|number| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ShredId(id)
        })
        .collect();
    file.add_shred_keys(&owners, &mut getrandom::fill).unwrap();
    let mut others = Vec::new();
    while let Ok(other) = LockedKey::random() {
        others.push(other);
    }
    assert!(others.len() > KEYS * 9 / 10, "{} of {KEYS} places are free", others.len());
}
