use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use strongroom_sys::Secret;

use super::*;
use crate::keyring::KEYRING_FILE;
use crate::keys::{Epoch, StoreId, TpmLockKey};
use crate::seal::passphrase::tests::CHEAP;
use crate::seal::{
    AttemptRefusal, Bringer, Ceremony, Offer, PassphraseError, Progress, Sealed, ShareRefusal,
    TpmLock, UnsealError, create,
};
use crate::slots::{scratch::Scratch, steps};

const VAULT: StoreId = StoreId([7; 16]);
const AES: Algorithm = Algorithm::Aes256Gcm;

fn shares_of(threshold: u8, count: u8) -> Vec<NewLock<'static>> {
    vec![NewLock::Shares { numbers: (threshold, count), holders: Vec::new() }]
}

/// A vault that two of three shares open.
fn vault(scratch: &Scratch) -> (Unsealed, Vec<Share>) {
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let place = (VAULT, WayId(1));
    let (way, shares) =
        Way::make(place, &root, shares_of(2, 3), AES, &mut getrandom::fill).unwrap();
    let made = create(scratch.directory(), VAULT, (root, vec![way]), AES, &mut getrandom::fill);
    (made.unwrap(), shares)
}

fn bring(directory: &Path, shares: &[Share]) -> Result<(RootKey, WayId), AttemptRefusal> {
    let mut sealed = Sealed::load(directory).unwrap();
    let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
    for share in shares {
        let (who, text) = ((Bringer(0), None), share.write());
        let (now, random) = (Instant::now(), &mut getrandom::fill);
        let offer = Offer::Share(&text);
        if let Progress::Complete(root, way) =
            ceremony.offer(who, offer, now, &mut sealed, random)?
        {
            return Ok((root, way));
        }
    }
    panic!("too few shares")
}

fn say(directory: &Path, passphrase: &[u8]) -> Result<(RootKey, WayId), AttemptRefusal> {
    let mut sealed = Sealed::load(directory).unwrap();
    let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
    let passphrase = Secret::copy_from(passphrase);
    loop {
        let (now, random) = (Instant::now(), &mut getrandom::fill);
        let offer = Offer::Passphrase(&passphrase);
        match ceremony.offer((Bringer(0), None), offer, now, &mut sealed, random) {
            Ok(Progress::Complete(root, way)) => return Ok((root, way)),
            Ok(Progress::Waiting(standing)) => panic!("{standing:?}"),
            Err(AttemptRefusal::Passphrase(PassphraseError::Busy)) => std::thread::yield_now(),
            Err(refusal) => return Err(refusal),
        }
    }
}

fn change(
    open: &mut Unsealed,
    shares: &[Share],
    mut change: impl FnMut() -> Change<'static>,
) -> Result<Changed, ChangeError> {
    loop {
        let (root, _) = bring(open.directory(), shares).unwrap();
        match open.change_ways(root, change(), AES, &mut getrandom::fill) {
            Err(ChangeError::Way(WayError::Passphrase(PassphraseError::Busy))) => {
                std::thread::yield_now();
            }
            other => return other,
        }
    }
}

fn made(changed: Result<Changed, ChangeError>) -> Vec<Share> {
    match changed.unwrap() {
        Changed::Waiting(shares) => shares,
        Changed::InForce => panic!("nothing was made"),
    }
}

fn accept(open: &mut Unsealed, shares: &[Share]) -> Result<(), ChangeError> {
    let opened = bring(open.directory(), shares).unwrap();
    open.accept_incoming(opened, &mut getrandom::fill)
}

fn unseal(directory: &Path, shares: &[Share]) -> Result<Unsealed, String> {
    let opened = bring(directory, shares).map_err(|error| error.to_string())?;
    let sealed = Sealed::load(directory).unwrap();
    sealed.unseal(opened, AES, &mut getrandom::fill).map_err(|still| still.error.to_string())
}

fn stale(answer: &Result<(RootKey, WayId), AttemptRefusal>) -> bool {
    matches!(answer, Err(AttemptRefusal::Share(ShareRefusal::Stale)))
}

#[test]
fn a_rotation_counts_when_the_new_shares_were_entered_back_and_then_only_they_open() {
    let scratch = Scratch::make();
    let (mut open, old) = vault(&scratch);
    let seed = open.keyring().keyring().system().secret().expose(<[u8]>::to_vec);
    let new = made(change(&mut open, &old[..2], || Change::Rotate(vec![shares_of(2, 2)], None)));
    drop(open);
    let refused = unseal(scratch.directory(), &new).unwrap_err();
    assert_eq!(refused, UnsealError::NotInForce.to_string());
    let mut open = unseal(scratch.directory(), &old[1..]).unwrap();
    assert_eq!(open.keyring().keyring().epoch(), Epoch(1));

    assert!(matches!(accept(&mut open, &old[..2]), Err(ChangeError::NotIncoming)));
    accept(&mut open, &new).unwrap();
    assert_eq!(open.keyring().keyring().epoch(), Epoch(2));
    assert!(open.keyring().keyring().system().secret().matches(&seed));
    assert!(stale(&bring(scratch.directory(), &old[..2])));
    assert!(unseal(scratch.directory(), &new).is_ok());
}

#[test]
fn a_rotation_that_was_given_up_leaves_the_old_shares_and_names_the_new_ones_stale() {
    let scratch = Scratch::make();
    let (mut open, old) = vault(&scratch);
    let rotate = || Change::Rotate(vec![shares_of(2, 2)], None);
    let new = made(change(&mut open, &old[..2], rotate));
    let again = change(&mut open, &old[..2], rotate);
    assert!(matches!(again, Err(ChangeError::UnderWay)));
    open.drop_incoming().unwrap();
    assert!(stale(&bring(scratch.directory(), &new)));
    assert!(unseal(scratch.directory(), &old[..2]).is_ok());
    assert!(matches!(open.drop_incoming(), Err(ChangeError::NotIncoming)));
}

#[test]
fn a_passphrase_is_added_changed_and_removed_and_something_always_opens() {
    let scratch = Scratch::make();
    let place = scratch.directory().to_path_buf();
    let (mut open, shares) = vault(&scratch);
    let (one, two): (&'static Secret, &'static Secret) = (
        Box::leak(Box::new(Secret::copy_from(b"first passphrase"))),
        Box::leak(Box::new(Secret::copy_from(b"second passphrase"))),
    );
    let add = || Change::Add(vec![NewLock::Passphrase(one, CHEAP)]);
    assert!(matches!(change(&mut open, &shares[..2], add), Ok(Changed::InForce)));
    let (_, first) = say(&place, b"first passphrase").unwrap();
    let swap = || Change::Replace(first, vec![NewLock::Passphrase(two, CHEAP)]);
    assert!(matches!(change(&mut open, &shares[..2], swap), Ok(Changed::InForce)));
    assert!(say(&place, b"first passphrase").is_err());
    let (root, second) = say(&place, b"second passphrase").unwrap();
    assert_ne!(first, second);

    let gone = |id| change_by(&mut open_again(&place, &shares), &shares, id);
    assert!(matches!(gone(first), Err(ChangeError::NoSuchWay)));
    assert!(matches!(gone(second), Ok(Changed::InForce)));
    assert!(say(&place, b"second passphrase").is_err());
    assert!(matches!(gone(WayId(1)), Err(ChangeError::LastWay)));
    assert!(open.change_ways(root, Change::Remove(WayId(1)), AES, &mut getrandom::fill).is_err());
    assert!(unseal(&place, &shares[1..]).is_ok());
}

fn open_again(place: &Path, shares: &[Share]) -> Unsealed {
    unseal(place, &shares[..2]).unwrap()
}

fn change_by(open: &mut Unsealed, shares: &[Share], id: WayId) -> Result<Changed, ChangeError> {
    change(open, &shares[..2], || Change::Remove(id))
}

// Guards every change against a thief at an open vault's socket. Red when `change_ways` does not compare R.
#[test]
fn another_r_changes_nothing() {
    let scratch = Scratch::make();
    let (mut open, _) = vault(&scratch);
    let before = fs::read(scratch.path(SEAL_FILE)).unwrap();
    let changes = [
        Change::Remove(WayId(1)),
        Change::Add(shares_of(2, 2)),
        Change::Rotate(vec![shares_of(2, 2)], None),
    ];
    for change in changes {
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let refused = open.change_ways(root, change, AES, &mut getrandom::fill);
        assert!(matches!(refused, Err(ChangeError::NotTheRoot)));
    }
    assert_eq!(fs::read(scratch.path(SEAL_FILE)).unwrap(), before);
}

#[test]
fn added_shares_count_when_they_were_entered_back_or_opened_the_vault() {
    let scratch = Scratch::make();
    let (mut open, first) = vault(&scratch);
    let second = made(change(&mut open, &first[..2], || Change::Add(shares_of(2, 2))));
    accept(&mut open, &second).unwrap();
    let third = made(change(&mut open, &second, || Change::Add(shares_of(3, 3))));
    drop(open);
    drop(unseal(scratch.directory(), &third).unwrap());
    let sealed = Sealed::load(scratch.directory()).unwrap();
    assert_eq!((sealed.ways().len(), sealed.incoming()), (3, None));
    for shares in [&first[1..], &second, &third] {
        assert!(unseal(scratch.directory(), shares).is_ok());
    }
}

/// What lies on the disk at one moment; the keyring's slots are cut after what is used of them.
#[derive(Clone, PartialEq, Eq)]
struct Image {
    seal: Vec<u8>,
    keyring: [Vec<u8>; 2],
}

const KEYRING_SLOT: u64 = 4 * 1024 * 1024;
const KEYRING_HEAD: usize = 16 * 1024;

impl Image {
    fn take(directory: &Path) -> Self {
        let file = fs::File::open(directory.join(KEYRING_FILE)).unwrap();
        let head = |offset| {
            let mut head = vec![0; KEYRING_HEAD];
            file.read_exact_at(&mut head, offset).unwrap();
            head
        };
        let seal = fs::read(directory.join(SEAL_FILE)).unwrap();
        Self { seal, keyring: [head(0), head(KEYRING_SLOT)] }
    }

    fn lay(&self) -> Scratch {
        let scratch = Scratch::make();
        fs::write(scratch.path(SEAL_FILE), &self.seal).unwrap();
        let path = scratch.path(KEYRING_FILE);
        let file = OpenOptions::new().create_new(true).write(true).open(path).unwrap();
        file.set_len(KEYRING_SLOT * 2).unwrap();
        file.write_all_at(&self.keyring[0], 0).unwrap();
        file.write_all_at(&self.keyring[1], KEYRING_SLOT).unwrap();
        scratch
    }

    /// A power cut in the middle of the write that led to `next`: its first bytes, then those of before.
    fn torn(&self, next: &Self, quarter: usize) -> Self {
        let tear = |before: &Vec<u8>, after: &Vec<u8>| {
            let differs = |(one, two): (&u8, &u8)| one != two;
            let pairs = || before.iter().zip(after);
            let Some(first) = pairs().position(differs) else { return before.clone() };
            let last = before.len().min(after.len()) - 1 - pairs().rev().position(differs).unwrap();
            let cut = first + (last - first) * quarter / 4;
            [&after[..cut], &before[cut..]].concat()
        };
        let [a, b] = &self.keyring;
        let [c, d] = &next.keyring;
        Self { seal: tear(&self.seal, &next.seal), keyring: [tear(a, c), tear(b, d)] }
    }
}

/// Who opens what lies in an image: by the old shares, by the new ones.
fn openers(image: &Image, old: &[Share], new: &[Share]) -> (bool, bool) {
    let by = |shares: &[Share]| {
        let scratch = image.lay();
        match unseal(scratch.directory(), shares) {
            // What opened once opens again by the same shares: nothing was left half done.
            Ok(open) => {
                drop(open);
                assert!(unseal(scratch.directory(), shares).is_ok());
                true
            }
            Err(_) => false,
        }
    };
    (by(old), by(new))
}

// Red when the keyring moves before the new ways stand in the file, or the old ways go before the keyring moved.
#[test]
fn a_rotation_cut_between_any_two_system_calls_or_in_a_write_leaves_old_or_new_shares_that_open() {
    let scratch = Scratch::make();
    let place = scratch.directory().to_path_buf();
    let (mut open, old) = vault(&scratch);
    let images = Rc::new(RefCell::new(vec![Image::take(&place)]));
    let look = {
        let (images, place) = (Rc::clone(&images), place.clone());
        move || images.borrow_mut().push(Image::take(&place))
    };
    let rotate = || Change::Rotate(vec![shares_of(2, 2)], None);
    let new = made(steps::watch(look.clone(), || change(&mut open, &old[..2], rotate)));
    steps::watch(look, || accept(&mut open, &new)).unwrap();
    let images = Rc::try_unwrap(images).ok().unwrap().into_inner();
    // Two system calls for each of: the seal file's slots, the keyring's, the seal file's again.
    assert_eq!(images.len(), 1 + 2 * 6);

    let mut by_step = Vec::new();
    for (step, pair) in images.windows(2).enumerate() {
        let [before, after] = pair else { panic!() };
        let torn = (1..4).map(|quarter| before.torn(after, quarter));
        for image in std::iter::once(before.clone()).chain(torn) {
            let (by_old, by_new) = openers(&image, &old[..2], &new);
            assert!(by_old || by_new, "nothing opens after step {step}");
            by_step.push((by_old, by_new));
        }
    }
    by_step.push(openers(images.last().unwrap(), &old[..2], &new));
    assert_eq!((by_step[0], *by_step.last().unwrap()), ((true, false), (false, true)));
    let moved = by_step.iter().position(|(by_old, _)| !by_old).unwrap();
    assert!(by_step[..moved].iter().all(|opens| *opens == (true, false)));
    assert!(by_step[moved..].iter().all(|opens| *opens == (false, true)));
}

#[test]
fn a_change_of_one_way_cut_anywhere_leaves_the_other_way_open() {
    let scratch = Scratch::make();
    let place = scratch.directory().to_path_buf();
    let (mut open, first) = vault(&scratch);
    let second = made(change(&mut open, &first[..2], || Change::Add(shares_of(2, 2))));
    accept(&mut open, &second).unwrap();
    let images = Rc::new(RefCell::new(vec![Image::take(&place)]));
    let look = {
        let (images, place) = (Rc::clone(&images), place.clone());
        move || images.borrow_mut().push(Image::take(&place))
    };
    let removed = steps::watch(look, || change(&mut open, &second, || Change::Remove(WayId(1))));
    assert!(matches!(removed, Ok(Changed::InForce)));
    for pair in images.borrow().windows(2) {
        let [before, after] = pair else { panic!() };
        for image in [before.clone(), before.torn(after, 2), after.clone()] {
            assert!(openers(&image, &first[..2], &second).1);
        }
    }
    assert!(stale(&bring(&place, &first[..2])));
}

fn tpm_key() -> TpmLockKey {
    TpmLockKey::from_secret(Secret::copy_from(&[9; 32])).unwrap()
}

/// As [`vault`], and sealed to a TPM.
fn vault_with_a_tpm(scratch: &Scratch) -> (Unsealed, Vec<Share>) {
    let (mut open, shares) = vault(scratch);
    let (root, _) = bring(scratch.directory(), &shares[..2]).unwrap();
    open.put_tpm_way(&root, ((TpmLock::sample(9), tpm_key()), Vec::new()), &mut getrandom::fill)
        .unwrap();
    (open, shares)
}

fn unseal_by_tpm(directory: &Path) -> Result<Unsealed, String> {
    let mut sealed = Sealed::load(directory).unwrap();
    let (way, _) = sealed.tpm_way().ok_or("no way over a TPM")?;
    let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
    let offer = Offer::Tpm(way, tpm_key());
    let who = (Bringer(0), None);
    let brought = ceremony.offer(who, offer, Instant::now(), &mut sealed, &mut getrandom::fill);
    let Progress::Complete(root, way) = brought.map_err(|error| error.to_string())? else {
        return Err("more is needed".to_owned());
    };
    sealed.unseal((root, way), AES, &mut getrandom::fill).map_err(|still| still.error.to_string())
}

// Red when the TPM opens the way in force alone, or when the counter is followed by one of the two ways alone.
#[test]
fn a_rotation_that_takes_the_tpm_along_opens_by_it_wherever_it_was_cut() {
    let scratch = Scratch::make();
    let place = scratch.directory().to_path_buf();
    let (mut open, old) = vault_with_a_tpm(&scratch);
    let images = Rc::new(RefCell::new(vec![Image::take(&place)]));
    let look = {
        let (images, place) = (Rc::clone(&images), place.clone());
        move || images.borrow_mut().push(Image::take(&place))
    };
    let rotate = || Change::Rotate(vec![shares_of(2, 2)], Some(tpm_key()));
    let new = made(steps::watch(look.clone(), || change(&mut open, &old[..2], rotate)));
    // The counter moves while the shares are on their way: both ways follow it.
    let mut moved = TpmLock::sample(9);
    moved.moments[0].value = 2;
    steps::watch(look.clone(), || open.write_tpm_lock(&moved)).unwrap();
    steps::watch(look, || accept(&mut open, &new)).unwrap();
    let images = Rc::try_unwrap(images).ok().unwrap().into_inner();
    assert_eq!(images.len(), 1 + 2 * 8);
    for (step, pair) in images.windows(2).enumerate() {
        let [before, after] = pair else { panic!() };
        let torn = (1..4).map(|quarter| before.torn(after, quarter));
        for image in std::iter::once(before.clone()).chain(torn).chain([after.clone()]) {
            let scratch = image.lay();
            drop(unseal_by_tpm(scratch.directory()).unwrap_or_else(|why| panic!("{step}: {why}")));
            // And again, after whatever the first time finished.
            assert!(unseal_by_tpm(scratch.directory()).is_ok(), "step {step}");
        }
        let (by_old, by_new) = openers(before, &old[..2], &new);
        assert!(by_old != by_new, "step {step}");
    }
    let sealed = Sealed::load(&place).unwrap();
    assert_eq!((sealed.ways().len(), sealed.incoming()), (2, None));
    assert_eq!(sealed.tpm_way().map(|(_, lock)| lock.newest()), Some(2));
    assert!(stale(&bring(&place, &old[..2])));
}

#[test]
fn a_way_over_a_tpm_is_neither_lost_by_a_change_nor_the_last_one() {
    let scratch = Scratch::make();
    let (mut open, shares) = vault_with_a_tpm(&scratch);
    let without = change(&mut open, &shares[..2], || Change::Rotate(vec![shares_of(2, 2)], None));
    assert!(matches!(without, Err(ChangeError::Tpm)));
    let alone = change(&mut open, &shares[..2], || Change::Rotate(Vec::new(), Some(tpm_key())));
    assert!(matches!(alone, Err(ChangeError::LastWay)));
    let last = change(&mut open, &shares[..2], || Change::Remove(WayId(1)));
    assert!(matches!(last, Err(ChangeError::LastWay)), "a TPM that breaks would be the end of it");
    let rotate = || Change::Rotate(vec![shares_of(2, 2)], Some(tpm_key()));
    let new = made(change(&mut open, &shares[..2], rotate));
    assert!(open.remove_tpm_way().unwrap(), "also while a rotation waits");
    accept(&mut open, &new).unwrap();
    let sealed = Sealed::load(scratch.directory()).unwrap();
    assert!(sealed.tpm_way().is_none());
}
