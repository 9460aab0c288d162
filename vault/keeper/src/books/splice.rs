//! Records put together from parts of others: every field of every pair, below the manifest and above it.
//!
//! Below: the manifest is not asked, as if its key were the forger's. Above: rows as they are, in places that are not theirs.

use std::collections::BTreeSet;
use strongroom_soak::tell;

use strongroom_policy::id::{CredentialId, TokenId, UserId, WorkspaceId};
use strongroom_policy::name::ProviderName;

use super::BooksError;
use super::reading::Rows;
use super::scene::{OTHER, OpenScene, Scene, TENANT};
use crate::keyring::ShredId;
use crate::keys::{Algorithm, Format};
use crate::manifest::{Manifest, Refusal};
use crate::records::{RecordName, RecordPlace};

type Row = (Vec<u8>, Vec<u8>);

/// Fields of an envelope, by their place; ciphertext and tag are counted from the end.
const FIELDS: [(&str, usize, usize); 8] = [
    ("format", 0, 1),
    ("algorithm", 1, 2),
    ("epoch", 2, 6),
    ("version", 6, 14),
    ("salt", 14, 46),
    ("commitment", 46, 78),
    ("nonce", 78, 90),
    ("header", 0, 90),
];
const TAG: usize = 16;

/// Records of two tenants. The second one's have the ids, and so the owners, of the first one's: nothing but the tenant tells them apart.
fn names() -> Vec<(RecordPlace, &'static [u8])> {
    let all = names_of_one();
    let tenants = [TENANT, OTHER].into_iter();
    let places = tenants.flat_map(|tenant| {
        let place = move |(name, plain): &(RecordName, &'static [u8])| {
            (RecordPlace { tenant, name: name.clone() }, *plain)
        };
        all.iter().map(place).collect::<Vec<_>>()
    });
    let vaults = |place: &RecordPlace| matches!(place.name, RecordName::Provider(_));
    places.filter(|(place, _)| place.tenant == TENANT || !vaults(place)).collect()
}

fn names_of_one() -> Vec<(RecordName, &'static [u8])> {
    let mut names = Vec::new();
    for byte in [1_u8, 2] {
        let user = UserId::from_random([byte; 16]);
        let provider = ProviderName::parse(if byte == 1 { "local-a" } else { "local-b" }).unwrap();
        names.push((RecordName::User(user), &b"a person of some length"[..]));
        names.push((RecordName::Workspace(WorkspaceId::from_random([byte | 16; 16])), b"a group"));
        names.push((RecordName::Token(user, TokenId::from_random([byte | 32; 16])), b"a token"));
        let card = CredentialId::from_random([byte | 64; 16]);
        names.push((RecordName::Credential(card), b"a description"));
        names.push((RecordName::Key(card), b"sk-canary-0123456789"));
        names.push((RecordName::Provider(provider), &[7; 9000]));
    }
    names
}

fn owners() -> Vec<ShredId> {
    let owners = names().into_iter().filter_map(|(place, _)| place.name.owner(Format::Two));
    owners.collect::<BTreeSet<_>>().into_iter().collect()
}

fn write_all(open: &mut OpenScene) {
    for (place, plain) in names() {
        open.put_at(&place, plain);
    }
}

/// A vault with records of two versions, two epochs and two ciphers; every state of its rows, the newest last.
fn furnish(scene: &Scene) -> Vec<Vec<Row>> {
    let mut states = Vec::new();
    let mut open = scene.open(Algorithm::Aes256Gcm).unwrap();
    open.add_owners(&owners());
    write_all(&mut open);
    drop(open);
    states.push(scene.rows());
    let mut open = scene.open(Algorithm::ChaCha20Poly1305).unwrap();
    write_all(&mut open);
    drop(open);
    states.push(scene.rows());
    let mut open = scene.open(Algorithm::Aes256Gcm).unwrap();
    open.unsealed.lock().unwrap().keyring_mut().start_epoch(&mut getrandom::fill).unwrap();
    let keys = open.keys();
    open.books.turn_to(keys);
    for (place, plain) in names().iter().step_by(2) {
        open.put_at(place, plain);
    }
    drop(open);
    states.push(scene.rows());
    states
}

/// Donors for one place of an envelope: what the exchange makes, unless it changes nothing.
fn exchanges(target: &[u8], donor: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut made = Vec::new();
    for (field, from, to) in FIELDS {
        let mut changed = target.to_vec();
        changed[from..to].copy_from_slice(&donor[from..to]);
        made.push((field, changed));
    }
    let (body, tag) = target.split_at(target.len() - TAG);
    let (other_body, other_tag) = donor.split_at(donor.len() - TAG);
    made.push(("tag", [body, other_tag].concat()));
    made.push(("ciphertext", [&target[..90], &other_body[90..], tag].concat()));
    made.push(("body", [&target[..90], &donor[90..]].concat()));
    made.retain(|(_, changed)| changed != target);
    made
}

/// The rows of the record that a row belongs to, with that row replaced.
fn record_with(state: &[Row], target: &Row, value: &[u8]) -> Vec<Row> {
    let record = &target.0[..target.0.len() - 1];
    let pieces =
        state.iter().filter(|(key, _)| key.len() == target.0.len() && key.starts_with(record));
    let put = |(key, old): &Row| {
        (key.clone(), if *key == target.0 { value.to_vec() } else { old.clone() })
    };
    pieces.map(put).collect()
}

fn without_mark(state: &[Row]) -> Vec<Row> {
    state.iter().filter(|(key, _)| key != crate::manifest::MARK_RECORD).cloned().collect()
}

// Red when any field is left out of the context, or the commitment or the tag is not compared.
#[test]
fn no_field_of_a_record_can_be_exchanged_for_that_of_another() {
    let (scene, other) = (Scene::make(1), Scene::make(2));
    let states = furnish(&scene);
    let foreign = furnish(&other);
    let open = scene.open(Algorithm::Aes256Gcm).unwrap();
    let guard = open.unsealed.lock().unwrap();
    let (keyring, keys) = (guard.keyring(), open.keys_of(guard.keyring()));
    let newest = without_mark(states.last().unwrap());
    assert!(Rows::of(newest.clone()).open(&keys, keyring).is_ok());
    let mut donors: BTreeSet<Row> =
        states.iter().chain(&foreign).flat_map(|one| without_mark(one)).collect();
    let ownerless = |(place, _): &&(RecordPlace, _)| place.name.owner(Format::One).is_none();
    for (place, plain) in names().iter().filter(ownerless) {
        let key = super::piece_key(&place.store_key(TENANT), 0);
        donors.insert((key, keys.seal_first((place, 1), &plain[..7], None)));
    }
    let (mut tried, mut fields) = (0_u64, BTreeSet::new());
    for target in &newest {
        for donor in &donors {
            let mut made = exchanges(&target.1, &donor.1);
            // A whole record as it once was is a replay: the manifest's to refuse, below.
            let whole = record_with(&newest, target, &[]).len() == 1;
            let ours = !foreign.iter().any(|state| state.contains(donor));
            if !(whole && ours && donor.0 == target.0) {
                made.push(("value", donor.1.clone()));
            }
            for (field, value) in made.into_iter().filter(|(_, value)| *value != target.1) {
                let rows = record_with(&newest, target, &value);
                let opened = Rows::of(rows).open(&keys, keyring);
                assert!(opened.is_err(), "{field} of {:?} in {:?}", donor.0, target.0);
                fields.insert(field);
                tried += 1;
            }
        }
    }
    assert_eq!(fields.len(), FIELDS.len() + 4);
    assert!(tried > 5_000, "{tried}");
    tell("splice", "exchanges refused", tried);
}

#[test]
fn no_record_opens_under_the_name_of_another() {
    let scene = Scene::make(1);
    let states = furnish(&scene);
    let open = scene.open(Algorithm::Aes256Gcm).unwrap();
    let guard = open.unsealed.lock().unwrap();
    let (keyring, keys) = (guard.keyring(), open.keys_of(guard.keyring()));
    let rows = without_mark(states.last().unwrap());
    let single: Vec<&Row> = rows.iter().filter(|(key, _)| key[0] != b'p').collect();
    let mut tried = 0;
    for (key, _) in &single {
        for (other, value) in single.iter().filter(|(other, _)| other != key) {
            let opened = Rows::of(vec![(key.clone(), value.clone())]).open(&keys, keyring);
            assert!(opened.is_err(), "{other:?} under {key:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, 20 * 19);
}

// Red when `Scan::take` leaves the key or the value out, or `judge` does not compare the set hash.
#[test]
fn no_rows_exchanged_taken_or_brought_back_pass_the_manifest() {
    let scene = Scene::make(1);
    let states = furnish(&scene);
    let unsealed = scene.unseal();
    let keyring = unsealed.keyring();
    let manifest = Manifest::open(scene.directory(), keyring, Algorithm::Aes256Gcm).unwrap();
    let newest = states.last().unwrap();
    assert!(Rows::of(newest.clone()).judge(&manifest, keyring).is_ok());
    let mark = newest.iter().position(|(key, _)| key == crate::manifest::MARK_RECORD).unwrap();
    let records: Vec<usize> = (0..newest.len()).filter(|index| *index != mark).collect();
    let mut tried = 0;
    let mut refused = |rows: Vec<Row>, what: &str| {
        let judged = Rows::of(rows).judge(&manifest, keyring);
        assert!(matches!(judged, Err(BooksError::Refused(Refusal::Spliced))), "{what}: {judged:?}");
        tried += 1;
    };
    for (place, one) in records.iter().enumerate() {
        // One exchanged for another, one taken away, one twice under two keys.
        for two in &records[place + 1..] {
            let mut rows = newest.clone();
            let value = std::mem::replace(&mut rows[*one].1, newest[*two].1.clone());
            rows[*two].1 = value;
            refused(rows, "exchanged");
        }
        let mut rows = newest.clone();
        rows.remove(*one);
        refused(rows, "taken away");
        // Several at once: rotated among themselves, and brought back from an earlier state.
        for many in 3..=8 {
            let chosen: Vec<usize> =
                (0..many).map(|step| records[(place + step) % records.len()]).collect();
            let mut rows = newest.clone();
            for (index, from) in chosen.iter().zip(chosen.iter().cycle().skip(1)) {
                rows[*index].1 = newest[*from].1.clone();
            }
            refused(rows, "rotated");
            for earlier in &states[..2] {
                let mut rows = newest.clone();
                for index in &chosen {
                    let old = earlier.iter().find(|(key, _)| *key == newest[*index].0).unwrap();
                    rows[*index] = old.clone();
                }
                if rows != *newest {
                    refused(rows, "brought back");
                }
            }
        }
    }
    assert!(tried > 300, "{tried}");
    tell("splice", "forged sets refused", tried);
}
