//! Envelopes, seal files, slots, shares, backups, records and entries, written by the keeper where it has a public way to; keyring
//! and manifest are written here after FORMAT.md, by another hand than the keeper's.

use strongroom_fuzz::disk::{STORE, context, envelope_key, sealed, stream_header};
use strongroom_keeper::envelope::seal_record;
use strongroom_keeper::fuzzing::write_slot;
use strongroom_keeper::keys::{Algorithm, Key, RecordKeySource, RootKey, WayId};
use strongroom_keeper::records::{RecordName, UserRecord, WorkspaceRecord};
use strongroom_keeper::seal::{self, KdfCost, NewLock, Share, Way, split_root};
use strongroom_keeper::slots::{Capacity, Generation};
use strongroom_policy::id::{CredentialId, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::rules::Standing;
use strongroom_sys::Secret;

use crate::Seed;

pub(crate) fn all() -> Vec<Seed> {
    [envelopes(), keyrings(), manifests(), seals(), slots(), backups(), records(), entries()]
        .concat()
}

/// Randomness that counts.
fn random() -> impl FnMut(&mut [u8]) -> Result<(), getrandom::Error> {
    let mut next = 0_u8;
    move |out: &mut [u8]| {
        for byte in out {
            next = next.wrapping_add(1);
            *byte = next;
        }
        Ok(())
    }
}

fn envelopes() -> Vec<Seed> {
    let key = envelope_key();
    let source = RecordKeySource::from_keyring(&key);
    let mut seeds: Vec<Seed> = [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305]
        .into_iter()
        .map(|algorithm| {
            let sealed =
                seal_record(&source, &context(2), algorithm, b"plain", &mut random()).unwrap();
            ("envelope", [vec![0], sealed].concat())
        })
        .collect();
    seeds.push(("envelope", b"\x01\x00\x40\x01plaintext".to_vec()));
    seeds.push(("envelope", b"\x01\x00\x00\x80plaintext".to_vec()));
    seeds
}

/// `keyring/encoding.rs` as FORMAT.md has it; each key a byte string of 32.
fn keyrings() -> Vec<Seed> {
    let key = |byte: u8| vec![byte; 32];
    let bytes = |key: Vec<u8>| [vec![32], key].concat();
    let one = |id: Vec<u8>, byte: u8| [vec![1], id, bytes(key(byte))].concat();
    let first = |format: u8| {
        [
            vec![format],
            STORE.0.to_vec(),
            vec![1],         // epoch
            vec![5],         // commit floor
            bytes(key(1)),   // system
            one(vec![1], 2), // epochs
            one(vec![3; 16], 3),
            one(vec![4; 16], 4),
        ]
        .concat()
    };
    let second = [first(2), vec![2], one(vec![4; 16], 5)].concat();
    let padded = [second.clone(), vec![0; 100]].concat();
    [first(1), second, padded].into_iter().map(|plain| ("keyring", plain)).collect()
}

/// As `manifest.rs` draws it.
fn manifests() -> Vec<Seed> {
    let state = |commit: u8| {
        // The set hash is a byte string of 2,048; the journal's head a size and a root.
        [vec![commit, 3, 4], vec![0x80, 0x10], vec![7; 2048], vec![9], vec![8; 32]].concat()
    };
    let counter = [vec![1], vec![6; 32], vec![41, 1]].concat();
    let settled = [state(1), vec![0], vec![0]].concat();
    let pending = [state(1), vec![1], state(2), counter].concat();
    [settled, pending].into_iter().map(|plain| ("manifest", plain)).collect()
}

fn root() -> RootKey {
    Key::from_secret(Secret::copy_from(&[5; 32])).unwrap()
}

fn shares() -> Vec<Share> {
    split_root(&root(), STORE, (2, 3), &mut random()).unwrap().1
}

fn seals() -> Vec<Seed> {
    let passphrase = Secret::copy_from(b"correct horse battery");
    let holders = vec!["alice".to_owned(), "bob".to_owned(), "carol".to_owned()];
    let locks: [Vec<NewLock<'_>>; 3] = [
        vec![NewLock::Passphrase(&passphrase, KdfCost::STANDARD)],
        vec![NewLock::Shares { numbers: (2, 3), holders: holders.clone() }],
        vec![
            NewLock::Passphrase(&passphrase, KdfCost::STANDARD),
            NewLock::Shares { numbers: (2, 3), holders },
        ],
    ];
    let mut seeds = Vec::new();
    let mut ways = Vec::new();
    for (id, locks) in (1..).zip(locks) {
        let (way, _) =
            Way::make((STORE, WayId(id)), &root(), locks, Algorithm::Aes256Gcm, &mut random())
                .unwrap();
        ways.push(way);
        let scratch = tempfile::tempdir().unwrap();
        let made = (root(), ways[ways.len() - 1..].to_vec());
        drop(
            seal::create(scratch.path(), STORE, made, Algorithm::Aes256Gcm, &mut random()).unwrap(),
        );
        seeds.push(("seal", seal::export(scratch.path()).unwrap()));
    }
    for share in shares() {
        let text = share.write().expose(<[u8]>::to_vec);
        seeds.push(("share", [vec![0], text].concat()));
    }
    // Version, set, vault, threshold, count, point and MAC, as `seal/shares.rs` lays them out.
    let body = [&[1][..], &[7; 6], &[1; 8], &[2, 3], &[1; 33], &[4; 16]].concat();
    seeds.push(("share", [vec![1], body].concat()));
    seeds
}

fn slots() -> Vec<Seed> {
    let capacity = Capacity(256);
    let slot = |generation, payload: &[u8]| {
        let mut slot = write_slot(capacity, Generation(generation), payload).unwrap();
        slot.resize(256, 0);
        slot
    };
    let image = [slot(1, b"first"), slot(2, b"the second payload")].concat();
    let one = [slot(9, b"one"), vec![0; 256]].concat();
    vec![
        ("slots", [vec![0], image].concat()),
        ("slots", [vec![0], one].concat()),
        ("slots", b"\x01\x07\x01\x05\x80\x05firstsecond".to_vec()),
        ("slots", b"\x01\x07\x00\x05\x80\x05firstsecond".to_vec()),
    ]
}

fn backups() -> Vec<Seed> {
    let record = |key: &[u8], value: &[u8]| {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[1], &length(key)[..], &length(value), key, value].concat()
    };
    let closing = [
        &[2][..],
        &7_u64.to_be_bytes(),
        &2_u64.to_be_bytes(),
        &[0; 2048],
        &9_u64.to_be_bytes(),
        &[3; 32],
    ]
    .concat();
    let content = [record(b"a", b"one"), record(b"b", &[2; 40]), closing].concat();
    vec![
        ("backup", [vec![0], sealed(&stream_header(), &content)].concat()),
        ("backup", [vec![0], sealed(&stream_header(), b"x")].concat()),
        ("backup", [vec![1], content].concat()),
    ]
}

fn records() -> Vec<Seed> {
    let user = UserId::from_random([1; 16]);
    let names = [
        RecordName::User(user),
        RecordName::Workspace(WorkspaceId::from_random([2; 16])),
        RecordName::Token(user, TokenId::from_random([3; 16])),
        RecordName::LooseToken(TokenId::from_random([3; 16])),
        RecordName::Credential(CredentialId::from_random([4; 16])),
        RecordName::Key(CredentialId::from_random([4; 16])),
        RecordName::Provider(ProviderName::parse("own").unwrap()),
        RecordName::Restored,
        RecordName::Settings,
    ];
    let label = Label::parse("team key").unwrap();
    let created = Moment::from_unix_millis(1_700_000_000_000);
    let person = UserRecord { label: label.clone(), standing: Standing::Disabled, created };
    let workspace = WorkspaceRecord { label, members: vec![user], created };
    let mut seeds: Vec<Seed> =
        names.iter().map(|name| ("record", [vec![0], name.store_key()].concat())).collect();
    seeds.push(("record", [vec![1], postcard::to_stdvec(&person).unwrap()].concat()));
    seeds.push(("record", [vec![2], postcard::to_stdvec(&workspace).unwrap()].concat()));
    seeds
}

fn entries() -> Vec<Seed> {
    let chain = "ab".repeat(32);
    let bodies = [
        "{\"n\":1,\"t\":\"2026-01-02T03:04:05.678Z\",\"what\":\"unseal\",\"seal\":\"passphrase\",\"operator\":0",
        "{\"n\":2,\"t\":\"2026-01-02T03:04:05Z\",\"what\":\"admit\",\"call\":\"cal_00000000000000000000000000000001\",\"model\":\"gpt-4o\",\"stream\":true",
        "{\"n\":3,\"t\":\"2026-01-02T03:04:06.1Z\",\"what\":\"act\",\"act\":\"token.revoke\",\"operator\":1000,\"target\":\"tok_1\",\"result\":\"begun\"",
        "{\"n\":4,\"t\":\"2026-01-02T03:04:06.1Z\",\"what\":\"state\",\"commit\":7,\"digest\":\"00\"",
    ];
    let mut seeds: Vec<Seed> = bodies
        .iter()
        .map(|body| ("entry", format!("\0{body},\"chain\":\"{chain}\"}}\n").into_bytes()))
        .collect();
    let words = "\u{1}{\"t\":\"2026-01-02T03:04:05.678Z\",\"reason\":\"the disk is full\"}\n{\"t\":\"x\",\"reason\":\"y\"}\n\0\0";
    seeds.push(("entry", words.as_bytes().to_vec()));
    seeds
}
