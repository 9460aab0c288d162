//! What a crash or a refusal in the middle leaves.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use strongroom_protocol::operator::SealKind;
use strongroom_sys::Secret;

use super::{Bench, Undone, remove};
use crate::keyring::KeyringFile;
use crate::keys::{self, RootKey, StoreId, TpmLockKey, WayId};
use crate::manifest::{CounterNote, Manifest, Motion, NotNewest, Seen};
use crate::seal::{KdfCost, Lock, NewLock, Sealed, TpmLock, Way, create};
use crate::slots::scratch::Scratch;
use crate::slots::steps;
use crate::vault::{algorithm, seal_kind};

const VAULT: StoreId = StoreId([7; 16]);

fn root() -> RootKey {
    RootKey::from_secret(Secret::copy_from(&[3; 32])).unwrap()
}

/// The desk over a vault of shares that is sealed to a TPM of whom nobody asks anything.
fn bench(place: &Path) -> Bench {
    let (random, locks): (keys::FillRandom<'_>, _) =
        (&mut getrandom::fill, vec![NewLock::Shares { numbers: (2, 3), holders: Vec::new() }]);
    let way = Way::make((VAULT, WayId(1)), &root(), locks, algorithm(), random).unwrap().0;
    assert!(matches!(way.locks.as_slice(), [Lock::Shares { .. }]));
    let mut unsealed = create(place, VAULT, (root(), vec![way]), algorithm(), random).unwrap();
    let mut manifest = Manifest::create(place, unsealed.keyring(), algorithm(), random).unwrap();
    let lock = TpmLock::sample(9);
    let (name, value) = (lock.counter.name, lock.newest());
    manifest
        .note_counter(Some(CounterNote { name, value, motion: Motion::Still }), random)
        .unwrap();
    let key = TpmLockKey::from_secret(Secret::copy_from(&[9; 32])).unwrap();
    unsealed.put_tpm_way(&root(), ((lock, key), Vec::new()), random).unwrap();
    let (manifest, unsealed) = (Arc::new(Mutex::new(manifest)), Arc::new(Mutex::new(unsealed)));
    Bench { link: None, store: VAULT, manifest, unsealed, before: None }
}

/// What the next unsealing says of the files as they lie here, with the TPM where it was.
fn judge(place: &Path) -> Result<(), NotNewest> {
    let key = keys::derive_keyring_key(&root(), VAULT).unwrap();
    let keyring = KeyringFile::open(place, key, VAULT, algorithm(), &mut getrandom::fill).unwrap();
    let manifest = Manifest::open(place, &keyring, algorithm()).unwrap();
    let sealed = Sealed::load(place).unwrap();
    let seen = sealed.tpm_way().map_or(Seen::Nowhere, |(_, lock)| Seen::At {
        name: lock.counter.name,
        value: lock.newest(),
    });
    manifest.judge_counter(&seen)
}

// Red when the seal file is written before the note says that the way leaves, or the note is gone before the way is.
#[test]
fn a_crash_while_the_way_over_the_tpm_goes_leaves_a_vault_that_opens() {
    let scratch = Scratch::make();
    let place = scratch.directory().to_path_buf();
    let bench = bench(&place);
    assert_eq!(judge(&place), Ok(()));
    let verdicts = Rc::new(RefCell::new(Vec::new()));
    let look = {
        let (verdicts, place) = (Rc::clone(&verdicts), place.clone());
        move || verdicts.borrow_mut().push(judge(&place))
    };
    let parted = steps::watch(look, || bench.part(remove));
    assert!(matches!(parted, Ok(false)));
    // Two system calls for each of: the note, the seal file's two slots, the note.
    assert_eq!(*verdicts.borrow(), vec![Ok(()); 8]);
    assert_eq!(bench.noted(), None);
}

// Red when the note is left at what was only wished for.
#[test]
fn what_is_refused_leaves_the_note_as_it_was() {
    let scratch = Scratch::make();
    let bench = bench(scratch.directory());
    let before = bench.noted();
    let parted = bench.part(|_| Err(Undone::Refused(super::too_few())));
    assert!(matches!(parted, Err(Undone::Refused(_))));
    assert_eq!((bench.noted(), judge(scratch.directory())), (before, Ok(())));
}

// Red when the shares of a way over the TPM count as what opens the vault without it.
#[test]
fn what_opens_a_vault_without_its_tpm_is_told_whatever_stands_beside_it() {
    let scratch = Scratch::make();
    let (place, random) = (scratch.directory(), &mut getrandom::fill);
    let words = Secret::copy_from(b"five words of mine");
    let locks = vec![NewLock::Passphrase(&words, KdfCost::STANDARD)];
    let way = Way::make((VAULT, WayId(1)), &root(), locks, algorithm(), random).unwrap().0;
    let mut unsealed = create(place, VAULT, (root(), vec![way]), algorithm(), random).unwrap();
    let key = TpmLockKey::from_secret(Secret::copy_from(&[9; 32])).unwrap();
    let shares = vec![NewLock::Shares { numbers: (2, 3), holders: Vec::new() }];
    let (way, _) =
        unsealed.put_tpm_way(&root(), ((TpmLock::sample(9), key), shares), random).unwrap();
    unsealed.accept_incoming((root(), way), random).unwrap();
    let sealed = Sealed::load(place).unwrap();
    assert_eq!((sealed.ways().len(), seal_kind(&sealed)), (2, SealKind::Passphrase));
}
