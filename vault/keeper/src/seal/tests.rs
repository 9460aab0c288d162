use std::time::Instant;

use super::passphrase::tests::{CHEAP, patiently};
use super::*;
use crate::slots::scratch::Scratch;

const VAULT: StoreId = StoreId([7; 16]);
const AES: Algorithm = Algorithm::Aes256Gcm;
const SHARES: (u8, u8) = (2, 3);

fn passphrase_way(root: &RootKey, id: u32, passphrase: &[u8]) -> Way {
    let passphrase = Secret::copy_from(passphrase);
    let made = patiently(|| {
        let locks = vec![NewLock::Passphrase(&passphrase, CHEAP)];
        Way::make((VAULT, WayId(id)), root, locks, AES, &mut getrandom::fill).map_err(|error| {
            match error {
                WayError::Passphrase(error) => error,
                other => panic!("{other}"),
            }
        })
    });
    made.unwrap().0
}

fn open(sealed: &mut Sealed, passphrase: &[u8]) -> Result<(RootKey, WayId), AttemptRefusal> {
    let passphrase = Secret::copy_from(passphrase);
    let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
    loop {
        let (who, offer) = ((Bringer(0), None), Offer::Passphrase(&passphrase));
        match ceremony.offer(who, offer, Instant::now(), sealed, &mut getrandom::fill) {
            Ok(Progress::Complete(root, way)) => return Ok((root, way)),
            Ok(Progress::Waiting(standing)) => panic!("{standing:?}"),
            Err(AttemptRefusal::Passphrase(PassphraseError::Busy)) => std::thread::yield_now(),
            Err(refusal) => return Err(refusal),
        }
    }
}

fn bring(sealed: &mut Sealed, shares: &[Share]) -> Result<(RootKey, WayId), AttemptRefusal> {
    let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
    for share in shares {
        let (who, text) = ((Bringer(0), None), share.write());
        let (now, random) = (Instant::now(), &mut getrandom::fill);
        if let Progress::Complete(root, way) =
            ceremony.offer(who, Offer::Share(&text), now, sealed, random)?
        {
            return Ok((root, way));
        }
    }
    panic!("too few shares")
}

fn vault(scratch: &Scratch) -> Unsealed {
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let ways = vec![passphrase_way(&root, 1, b"correct horse")];
    create(scratch.directory(), VAULT, (root, ways), AES, &mut getrandom::fill).unwrap()
}

#[test]
fn a_vault_opens_again_with_its_passphrase_and_keeps_its_keys() {
    let scratch = Scratch::make();
    let made = vault(&scratch);
    let before = made.keyring().keyring().system().secret().expose(<[u8]>::to_vec);
    let mut sealed = made.seal().unwrap();
    let root = open(&mut sealed, b"correct horse").unwrap();
    let open = sealed.unseal(root, AES, &mut getrandom::fill).unwrap();
    assert!(open.keyring().keyring().system().secret().matches(&before));
}

#[test]
fn a_wrong_passphrase_is_said_to_be_wrong() {
    let scratch = Scratch::make();
    let mut sealed = vault(&scratch).seal().unwrap();
    let refused = open(&mut sealed, b"Correct horse");
    assert_eq!(refused.unwrap_err(), PassphraseError::WrongPassphrase.into());
}

// Red when `Unsealed` is made without opening the keyring.
#[test]
fn another_root_key_leaves_the_vault_sealed() {
    let scratch = Scratch::make();
    let sealed = vault(&scratch).seal().unwrap();
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let still = sealed.unseal((root, WayId(1)), AES, &mut getrandom::fill).unwrap_err();
    assert!(matches!(still.error, UnsealError::Keyring(KeyringError::Envelope(_))));
    assert_eq!(still.sealed.vault(), VAULT);
}

#[test]
fn a_vault_is_never_made_over_another_or_over_the_half_of_one() {
    let scratch = Scratch::make();
    drop(vault(&scratch));
    for remaining in [SEAL_FILE, KEYRING_FILE] {
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let ways = vec![passphrase_way(&root, 1, b"x")];
        let again = create(scratch.directory(), VAULT, (root, ways), AES, &mut getrandom::fill);
        assert!(again.is_err());
        assert!(exists(scratch.directory()).unwrap());
        if remaining == SEAL_FILE {
            std::fs::remove_file(scratch.path(SEAL_FILE)).unwrap();
        }
    }
}

#[test]
fn a_vault_without_a_way_is_not_made() {
    let scratch = Scratch::make();
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let made = create(scratch.directory(), VAULT, (root, vec![]), AES, &mut getrandom::fill);
    assert!(matches!(made, Err(SealError::WayCount)));
    assert!(!exists(scratch.directory()).unwrap());
}

#[test]
fn locks_that_make_no_way_are_refused() {
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let make = |locks| {
        Way::make((VAULT, WayId(1)), &root, locks, AES, &mut getrandom::fill).map(|(way, _)| way)
    };
    let shares = |holders: &[&str]| NewLock::Shares {
        numbers: SHARES,
        holders: holders.iter().map(ToString::to_string).collect(),
    };
    assert!(matches!(make(vec![]), Err(WayError::Locks)));
    assert!(matches!(make(vec![shares(&[]), shares(&[])]), Err(WayError::Locks)));
    for holders in [&["a"][..], &["a", "b", "a"], &["a", "b", ""], &["a", "b", &"c".repeat(65)]] {
        assert!(matches!(make(vec![shares(holders)]), Err(WayError::Holders)), "{holders:?}");
    }
    assert!(make(vec![shares(&["a", "b", "c"])]).is_ok());
    let big = TpmLock { machine: vec![0; MAX_TPM_BLOB_BYTES + 1], ..TpmLock::sample(1) };
    let key = keys::TpmLockKey::make(&mut getrandom::fill).unwrap();
    assert!(matches!(make(vec![NewLock::Tpm(big, key)]), Err(WayError::Blobs)));
}

// Guards the binding of a way. Red when the way's id or costs are not in the context.
#[test]
fn no_byte_of_a_way_can_be_edited_and_no_way_moved() {
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let key = keys::TpmLockKey::make(&mut getrandom::fill).unwrap();
    let again = keys::TpmLockKey::from_secret(key.secret().expose(Secret::copy_from));
    let again = LockKey::Tpm(again.unwrap());
    let lock = TpmLock::sample(1);
    let locks = vec![NewLock::Tpm(lock, key)];
    let (way, _) = Way::make((VAULT, WayId(1)), &root, locks, AES, &mut getrandom::fill).unwrap();
    assert!(way.open(VAULT, &[&again]).is_ok());
    assert!(way.open(StoreId([8; 16]), &[&again]).is_err());
    let mut moved = way.clone();
    moved.id = WayId(2);
    assert!(moved.open(VAULT, &[&again]).is_err());
    let bytes = postcard::to_stdvec(&way).unwrap();
    for at in bytes.len() - 138..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let opened = postcard::from_bytes::<Way>(&altered).map(|way| way.open(VAULT, &[&again]));
        assert!(!matches!(opened, Ok(Ok(_))), "byte {at}");
    }
}

/// A vault whose seal file is as format 1 wrote it: format, vault, one seal, none retired.
fn first_format(scratch: &Scratch, root: RootKey, seal: &[u8]) {
    let ways = vec![passphrase_way(&root, 1, b"replaced")];
    drop(create(scratch.directory(), VAULT, (root, ways), AES, &mut getrandom::fill).unwrap());
    let payload = [&[1][..], &VAULT.0, &[1], seal, &[0]].concat();
    let (mut slots, _) = SlotFile::open(&scratch.path(SEAL_FILE), CAPACITY).unwrap();
    slots.write(&payload).unwrap();
}

/// The format in each slot.
fn formats_on_disk(scratch: &Scratch) -> [u8; 2] {
    let image = std::fs::read(scratch.path(SEAL_FILE)).unwrap();
    let half = usize::try_from(CAPACITY.0).unwrap();
    [image[20], image[half + 20]]
}

// Red when `settle` does not write, or writes one slot.
#[test]
fn shares_of_format_1_open_and_the_file_is_written_anew() {
    let scratch = Scratch::make();
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let (set, shares) = split_root(&root, VAULT, SHARES, &mut getrandom::fill).unwrap();
    first_format(&scratch, root, &[&[1][..], &postcard::to_stdvec(&set).unwrap()].concat());
    for shares in [&shares[1..], &shares[..2]] {
        let mut sealed = Sealed::load(scratch.directory()).unwrap();
        let root = bring(&mut sealed, shares).unwrap();
        drop(sealed.unseal(root, AES, &mut getrandom::fill).unwrap());
        assert_eq!(formats_on_disk(&scratch), [2, 2]);
    }
}

#[test]
fn a_passphrase_of_format_1_opens_and_is_sealed_anew() {
    let scratch = Scratch::make();
    let root = RootKey::from_secret(Secret::copy_from(&[3; 32])).unwrap();
    first_format(&scratch, root, &hex::decode(FIRST_PASSPHRASE).unwrap());
    let mut sealed = Sealed::load(scratch.directory()).unwrap();
    let wrong = open(&mut sealed, b"wrong horse").unwrap_err();
    assert_eq!(wrong, PassphraseError::WrongPassphrase.into());
    assert_ne!(formats_on_disk(&scratch), [2, 2]);
    for _ in 0..2 {
        let root = open(&mut sealed, b"correct horse").unwrap();
        drop(sealed.unseal(root, AES, &mut getrandom::fill).unwrap());
        assert_eq!(formats_on_disk(&scratch), [2, 2]);
        sealed = Sealed::load(scratch.directory()).unwrap();
    }
}

#[test]
fn a_seal_file_of_another_format_or_cut_short_is_refused() {
    let root = RootKey::make(&mut getrandom::fill).unwrap();
    let file = SealFile::new(VAULT, 2, vec![passphrase_way(&root, 1, b"p")]);
    let good = file.encode().unwrap();
    assert!(matches!(SealFile::decode(&good), Ok(Read::Current(_))));
    for length in 0..good.len() {
        assert!(SealFile::decode(&good[..length]).is_err(), "length {length}");
    }
    let mut other = good.clone();
    other[0] = 3;
    assert!(matches!(SealFile::decode(&other), Err(SealError::UnknownFormat(3))));
    let twice = SealFile::new(VAULT, 2, [file.ways.clone(), file.ways].concat());
    assert!(matches!(twice.encode(), Err(SealError::Malformed)));
}

/// R = 03…03 under "correct horse", as format 1 sealed it: its tag, costs, salt and envelope.
const FIRST_PASSPHRASE: &str = "00400101e3ef7cae94d556299eba91f9d7153bf5fa9aa7d4776a2935d967dc15a470cba98a010102\
     00000000000000000000000039b1860d925e6719c5d3831af883c8ae2f2e6517496bbc4035322e46\
     cf4ba8982977e2a9deb58af8f02840b70add0d9fa6c1b6abed2a4eab73a3f8a5720147ff21fb13be\
     18cbc901e77c54bccca4c506d62643fc3ac20af5c389f966b45663668a0c02415304d0b1ec51117c\
     db8b3cdbb2816971a53833a7dbd0e96c";
