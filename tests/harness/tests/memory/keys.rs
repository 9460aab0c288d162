//! The vault's own keys, what opens it, and where none of it lies.

use std::fs;
use std::path::Path;
use std::time::Instant;

use strongroom_emulator::Api;
use strongroom_keeper::keyring::Keyring;
use strongroom_keeper::keys::{self, Key};
use strongroom_keeper::seal::{Bringer, Ceremony, Offer, Progress, Sealed};
use strongroom_keeper::vault::{algorithm, tenant_of};
use strongroom_sys::Secret;
use strongroom_tests::appliance::{PASSPHRASE, Vault};
use strongroom_tests::speak::{Shape, models, say};
use strongroom_tests::{Appliance, Options, Part, canary, journal};

use crate::{Needles, is_root, nowhere, search};

// Red when one key lies on the heap, when what derives keys leaves its stack as it is, and without the wiping allocator.
#[test]
fn no_key_of_an_open_vault_and_no_share_lies_in_memory_that_root_reads() {
    if !is_root() {
        return;
    }
    let appliance = Appliance::start(&Options { vault: Vault::None, ..Options::default() });
    let shares = found(&appliance);
    if !has_secret_memory(&appliance) {
        return;
    }
    appliance.json(&["user", "create", "anna"], b"");
    let token = appliance.stock();
    let calls = |appliance: &Appliance| {
        for api in Api::ALL {
            let gate = appliance.gate();
            gate.call(&models(api, &token)).is(200);
            gate.call(&say(api, &token, "a-model", "hello there", Shape::Streamed)).is(200);
        }
    };
    calls(&appliance);
    let needles = secrets(&appliance, &shares);
    nowhere(&appliance, &needles, "open since its founding");
    appliance.cli(&["seal"], b"").ok();
    nowhere(&appliance, &needles, "sealed");
    for (share, code) in shares.iter().zip([3, 0]) {
        assert_eq!(appliance.cli(&["unseal", "-"], share.as_bytes()).code, code);
    }
    appliance.wait_ready();
    nowhere(&appliance, &needles, "just unsealed");
    // Deposits and deletions write the keyring and the manifest anew.
    appliance.json(&["user", "create", "berta"], b"");
    appliance.token("another", &[]);
    calls(&appliance);
    nowhere(&appliance, &needles, "open and used");
    appliance.cli(&["seal"], b"").ok();
    nowhere(&appliance, &needles, "sealed again");
}

#[test]
fn a_passphrase_is_gone_once_the_vault_is_open() {
    if !is_root() {
        return;
    }
    let (appliance, token) = Appliance::stocked();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    let needles = canary::needles_of("the passphrase", PASSPHRASE.as_bytes());
    nowhere(&appliance, &needles, "founded");
    appliance.cli(&["seal"], b"").ok();
    appliance.unseal();
    appliance.wait_ready();
    nowhere(&appliance, &needles, "unsealed");
    let refused = appliance.cli(&["unseal", "-"], b"another passphrase, that opens nothing");
    let wrong = canary::needles_of("a wrong one", b"another passphrase, that opens nothing");
    assert_ne!(refused.code, 101);
    nowhere(&appliance, &wrong, "refused");
}

// Red when `locked` maps other pages.
#[test]
fn the_keepers_keys_lie_in_pages_that_root_cannot_read() {
    if !is_root() {
        return;
    }
    let (appliance, _) = Appliance::stocked();
    let keeper = appliance.pid(Part::Keeper).expect("it runs");
    if !has_secret_memory(&appliance) {
        return;
    }
    let none: Needles = vec![("nothing".to_owned(), b"nothing that is anywhere 2f8a61".to_vec())];
    let unreadable = search(keeper, &none).unreadable;
    assert!(unreadable.iter().any(|line| line.contains("secretmem")), "{unreadable:?}");
}

/// Without it the keys lie in locked pages, where root finds every one of them: `doctor` warns.
fn has_secret_memory(appliance: &Appliance) -> bool {
    let keeper = appliance.pid(Part::Keeper).expect("it runs");
    let maps = fs::read_to_string(format!("/proc/{keeper}/maps")).expect("it runs");
    let has = maps.contains("secretmem");
    if !has {
        strongroom_soak::skipped("this machine has no memfd_secret, or it is switched off");
    }
    has
}

/// Makes a vault of three shares, two of which open it.
fn found(appliance: &Appliance) -> Vec<String> {
    let directory = appliance.scratch().join("shares");
    let out = directory.display().to_string();
    let make = ["init", "--shares", "3", "--threshold", "2", "--plain-shares", "--out", &out];
    appliance.cli(&make, b"plain shares\n").ok();
    let read = |number: usize| {
        let text = fs::read_to_string(directory.join(format!("share-{number}.txt")));
        text.expect("a share").trim_end().to_owned()
    };
    let shares: Vec<String> = (1..=3).map(read).collect();
    for (share, code) in shares.iter().zip([4, 0]) {
        assert_eq!(appliance.cli(&["share", "verify", "-"], share.as_bytes()).code, code);
    }
    appliance.wait_ready();
    shares
}

/// What the vault's keys are, out of a copy of its files and two shares.
fn secrets(appliance: &Appliance, shares: &[String]) -> Needles {
    let copy = appliance.scratch().join("copy");
    fs::create_dir(&copy).expect("a directory");
    for file in ["seal", "keyring"] {
        let whole = Path::new("vault").join(file);
        let files = journal::files(appliance.data());
        let found = files.iter().find(|path| path.ends_with(&whole)).expect("an open vault");
        fs::copy(found, copy.join(file)).expect("a copy");
    }
    let mut needles = Needles::new();
    for (number, share) in (1..).zip(shares) {
        needles.extend(canary::needles_of(&format!("share {number}"), share.as_bytes()));
        needles.extend(canary::traces_of(&format!("the point of share {number}"), &point(share)));
    }
    let (root, unsealed) = open(&copy, shares);
    needles.extend(canary::traces_of("the root key", &root));
    needles.extend(of_keyring(unsealed.keyring().keyring()));
    needles
}

fn open(directory: &Path, shares: &[String]) -> ([u8; 32], strongroom_keeper::seal::Unsealed) {
    let mut sealed = Sealed::load(directory).expect("a seal file");
    let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
    for share in shares {
        let typed = Secret::copy_from(share.as_bytes());
        let by = (Bringer(0), None);
        let offer = Offer::Share(&typed);
        let taken = ceremony.offer(by, offer, Instant::now(), &mut sealed, &mut getrandom::fill);
        if let Progress::Complete(root, way) = taken.expect("a share of it") {
            let bytes = bytes_of(&root);
            let opened = sealed.unseal((root, way), algorithm(), &mut getrandom::fill);
            return (bytes, opened.expect("it opens"));
        }
    }
    panic!("two shares open it")
}

fn of_keyring(keyring: &Keyring) -> Needles {
    let (store, system) = (keyring.store(), keyring.system());
    let (epoch, tenant) = (keyring.epoch(), tenant_of(keyring.store()));
    let mut all = vec![
        ("the system seed", bytes_of(system)),
        ("the epoch key", bytes_of(keyring.epoch_key(epoch).expect("a key"))),
        ("the tenant key", bytes_of(&keyring.tenant_key(tenant, epoch).expect("a key"))),
        (
            "the token-hash key",
            bytes_of(&keys::derive_token_hash_key(system, store).expect("a key")),
        ),
        (
            "the subject-tag key",
            bytes_of(&keys::derive_subject_tag_key(system, store).expect("a key")),
        ),
        ("the pepper", bytes_of(&keys::derive_pepper(system, store).expect("a key"))),
        ("the journal's key", bytes_of(&keys::derive_journal_key(system, store).expect("a key"))),
        (
            "the signing seed",
            bytes_of(&keys::derive_audit_signing_seed(system, store).expect("a key")),
        ),
        ("the manifest's key", bytes_of(&keys::derive_manifest_key(system, store).expect("a key"))),
        ("the set-hash key", bytes_of(&keys::derive_set_hash_key(system, store).expect("a key"))),
        ("the mark's key", bytes_of(&keys::derive_mark_key(system, store).expect("a key"))),
        ("the upload key", bytes_of(&keys::derive_upload_key_pair(system, store).expect("a key"))),
    ];
    let owners: Vec<_> = keyring.shred_owners().collect();
    assert!(owners.len() >= 5, "a person and four credentials");
    for owner in owners {
        let key = keyring.shred_key(owner).expect("a key").open().expect("room");
        all.push(("a shred key", bytes_of(&key)));
    }
    all.iter().flat_map(|(name, key)| canary::traces_of(name, key)).collect()
}

fn bytes_of<P>(key: &Key<P>) -> [u8; 32] {
    key.expose(|bytes| bytes.try_into().expect("32 bytes"))
}

/// The point of a share by its text: FORMAT.md, "The text of a share".
fn point(share: &str) -> [u8; 32] {
    const ALPHABET: &str = "0123456789abcdefghjkmnpqrstvwxyz";
    let letters: Vec<char> = share.chars().filter(|one| *one != '-').skip(4).collect();
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_usize, 0_usize);
    for letter in letters.chunks(8).flat_map(|group| group.iter().take(7)) {
        bits = bits << 5 | ALPHABET.find(*letter).expect("a letter of the alphabet");
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held).expect("a byte"));
            bits &= (1 << held) - 1;
        }
    }
    // Version 1, set 6, vault 8, threshold 1, count 1.
    bytes[17..49].try_into().expect("32 bytes")
}
