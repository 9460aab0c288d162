//! What lies on the disk, in backups and on paper, after a thief or a broken drive had it.
//!
//! Claims: what is read is written again as the same bytes; what opens was sealed here, and opens nowhere else; of two slots the
//! newest whole one is read whatever happened to the other.

use strongroom_keeper::backup::content::{ContentReader, Item};
use strongroom_keeper::backup::stream::{Header, StreamReader, StreamWriter};
use strongroom_keeper::envelope::{self, EnvelopeError, open_record, seal_record};
use strongroom_keeper::fuzzing::{self, checksum_share, newest_slot, write_slot};
use strongroom_keeper::journal::rfc3339;
use strongroom_keeper::keys::{
    Algorithm, Context, Epoch, Key, KeyringKey, Kind, RecordId, RecordKeySource, RecordVersion,
    Scope, StoreId, SystemSeed,
};
use strongroom_keeper::records::{
    CredentialRecord, RecordName, TokenRecord, UserRecord, WorkspaceRecord,
};
use strongroom_keeper::seal::Share;
use strongroom_keeper::slots::{Capacity, Generation};
use strongroom_keeper::witnesses::WitnessRecord;
use strongroom_sys::Secret;

use crate::Verdict;
use crate::policy::stored;

/// The vault here.
pub const STORE: StoreId = StoreId([1; 16]);

/// A key that seals envelopes here.
pub fn envelope_key() -> KeyringKey {
    Key::from_secret(Secret::copy_from(&[7; 32])).expect("32 bytes")
}

/// What envelopes belong to here.
pub fn context(version: u64) -> Context<'static> {
    Context {
        store: STORE,
        scope: Scope::System,
        epoch: Epoch(0),
        kind: Kind::Keyring,
        record: RecordId(&[]),
        version: RecordVersion(version),
    }
}

/// `kind 1 ‖ bytes`: an envelope as it is, or a plaintext that is sealed, damaged and opened.
pub fn envelope(input: &[u8]) -> Verdict {
    let Some((kind, bytes)) = input.split_first() else { return Verdict::Refused };
    if kind % 2 == 1 {
        return damaged(bytes);
    }
    let key = envelope_key();
    let source = RecordKeySource::from_keyring(&key);
    let header = envelope::Header::parse(bytes);
    let opened = open_record(&source, &context(2), bytes);
    let Ok(plain) = &opened else { return Verdict::Refused };
    let header = header.expect("what opens has a header");
    // Sealed again with its own salt and nonce it is the same envelope: there is no second one of this meaning.
    let mut drawn = [&bytes[14..46], &bytes[78..90]].into_iter();
    let mut random = |out: &mut [u8]| {
        out.copy_from_slice(drawn.next().expect("two draws"));
        Ok(())
    };
    let again = plain
        .expose(|plain| seal_record(&source, &context(2), header.algorithm, plain, &mut random))
        .expect("it was sealed before");
    assert_eq!(again, bytes);
    Verdict::Accepted
}

/// `place u16 ‖ change 1 ‖ plaintext`.
fn damaged(bytes: &[u8]) -> Verdict {
    let [high, low, change, plain @ ..] = bytes else { return Verdict::Refused };
    let key = envelope_key();
    let source = RecordKeySource::from_keyring(&key);
    let mut random = |out: &mut [u8]| {
        out.fill(3);
        Ok(())
    };
    let algorithm =
        if change % 2 == 0 { Algorithm::Aes256Gcm } else { Algorithm::ChaCha20Poly1305 };
    let mut sealed =
        seal_record(&source, &context(2), algorithm, plain, &mut random).expect("fits");
    let opened = open_record(&source, &context(2), &sealed).expect("it was sealed so");
    assert!(opened.expose(|opened| opened == plain));
    assert!(matches!(
        open_record(&source, &context(3), &sealed).err(),
        Some(EnvelopeError::OtherVersion { .. })
    ));
    let place = usize::from(u16::from_be_bytes([*high, *low])) % sealed.len();
    sealed[place] ^= change | 1;
    assert!(open_record(&source, &context(2), &sealed).is_err(), "byte {place} is not protected");
    Verdict::Accepted
}

/// The plaintext of a keyring.
pub fn keyring(input: &[u8]) -> Verdict {
    let Some(again) = fuzzing::keyring(input, STORE) else { return Verdict::Refused };
    again.expose(|once| {
        let twice = fuzzing::keyring(once, STORE).expect("what was written can be read");
        assert!(twice.expose(|twice| twice == once), "it changed");
    });
    Verdict::Accepted
}

/// The plaintext of a manifest.
pub fn manifest(input: &[u8]) -> Verdict {
    let Some(once) = fuzzing::manifest(input) else { return Verdict::Refused };
    assert_eq!(fuzzing::manifest(&once).as_ref(), Some(&once));
    Verdict::Accepted
}

/// The payload of a seal file, of either format.
pub fn seal(input: &[u8]) -> Verdict {
    let Some(once) = fuzzing::seal(input) else { return Verdict::Refused };
    assert_eq!(fuzzing::seal(&once).as_ref(), Some(&once));
    Verdict::Accepted
}

/// Room of a slot here.
const ROOM: u32 = 256;

/// `kind 1 ‖ bytes`: the bytes of a slot file, or two slots of which one is damaged.
pub fn slots(input: &[u8]) -> Verdict {
    let Some((kind, bytes)) = input.split_first() else { return Verdict::Refused };
    let capacity = Capacity(ROOM);
    let Some(image) = (if kind % 2 == 0 { Some(bytes.to_vec()) } else { two_slots(bytes) }) else {
        return Verdict::Refused;
    };
    let Some((generation, payload)) = newest_slot(&image, capacity) else {
        return Verdict::Refused;
    };
    let written = write_slot(capacity, generation, payload).expect("it fitted");
    let room = usize::try_from(ROOM).expect("small");
    let starts = |from: usize| image.get(from..).is_some_and(|slot| slot.starts_with(&written));
    assert!(starts(0) || starts(room), "a payload that stands in no slot");
    Verdict::Accepted
}

/// `generation 1 ‖ side and place u16 ‖ change 1 ‖ length 1 ‖ first payload ‖ second payload`.
fn two_slots(bytes: &[u8]) -> Option<Vec<u8>> {
    let [generation, high, low, change, length, payloads @ ..] = bytes else { return None };
    let (one, two) = payloads.split_at_checked(usize::from(*length))?;
    let capacity = Capacity(ROOM);
    let older = write_slot(capacity, Generation(u64::from(*generation)), one)?;
    let newer = write_slot(capacity, Generation(u64::from(*generation) + 1), two)?;
    let room = usize::try_from(ROOM).ok()?;
    let (mut first, mut second) = (older.clone(), newer.clone());
    first.resize(room, 0);
    second.resize(room, 0);
    let mut image = [first, second].concat();
    let whole = newest_slot(&image, capacity).expect("both are whole");
    assert_eq!((whole.0.0, whole.1), (u64::from(*generation) + 1, two));
    let place = usize::from(u16::from_be_bytes([*high, *low])) % image.len();
    image[place] ^= change;
    let (found, payload) = newest_slot(&image, capacity).expect("one is whole");
    // One slot is damaged at most, and the other is read then.
    let in_older = place < older.len();
    let in_newer = (room..room + newer.len()).contains(&place);
    let expected = if *change != 0 && in_newer && !in_older { one } else { two };
    assert_eq!(payload, expected, "generation {found:?}");
    Some(image)
}

/// `kind 1 ‖ bytes`: a share as it was typed, or the bytes of one, written as people get it.
pub fn share(input: &[u8]) -> Verdict {
    let Some((kind, bytes)) = input.split_first() else { return Verdict::Refused };
    let typed = if kind % 2 == 0 { Some(bytes.to_vec()) } else { written(bytes) };
    let Some(typed) = typed else { return Verdict::Refused };
    let Ok(share) = Share::parse(&typed) else { return Verdict::Refused };
    let once = share.write();
    once.expose(|once| {
        let again = Share::parse(once).expect("what was written can be read");
        assert!(again.write().expose(|again| again == once));
        // Case, blanks and dashes do not matter.
        let shouted: Vec<u8> =
            once.iter().flat_map(|byte| [byte.to_ascii_uppercase(), b' ']).collect();
        let heard = Share::parse(&shouted).expect("a spelling of the same");
        assert!(heard.write().expose(|heard| heard == once));
        if kind % 2 == 1 {
            assert_eq!(once, typed, "a second way to write it");
        }
    });
    Verdict::Accepted
}

/// A share's 66 bytes as text, written after the specification and not by the code under test.
fn written(body: &[u8]) -> Option<Vec<u8>> {
    let body: &[u8; 66] = body.try_into().ok()?;
    let bits: Vec<bool> = body
        .iter()
        .chain(&checksum_share(body))
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1))
        .collect();
    let values: Vec<u32> = bits
        .chunks(5)
        .map(|five| five.iter().fold(0, |value, bit| value * 2 + u32::from(*bit)))
        .collect();
    let letter = |value: u32| LETTERS[usize::try_from(value % 32).expect("small")];
    let mut text = b"srs1".to_vec();
    for (number, group) in (1..).zip(values.chunks(7)) {
        let weighted =
            group.iter().zip([1, 3, 5, 7, 9, 11, 13]).map(|(value, weight)| value * weight);
        text.push(b'-');
        text.extend(group.iter().map(|value| letter(*value)));
        text.push(letter(number + weighted.sum::<u32>()));
    }
    Some(text)
}

const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The seed that streams are sealed under here.
pub fn stream_seed() -> SystemSeed {
    Key::from_secret(Secret::copy_from(&[9; 32])).expect("32 bytes")
}

/// `kind 1 ‖ bytes`: a backup as a file, or the content of one, which is sealed and read back.
pub fn backup(input: &[u8]) -> Verdict {
    let Some((kind, bytes)) = input.split_first() else { return Verdict::Refused };
    if kind % 2 == 1 {
        return content(bytes);
    }
    let mut source = bytes;
    let Ok(header) = Header::read(&mut source) else { return Verdict::Refused };
    let encoded = header.encode().expect("what was read can be written");
    assert_eq!([encoded.as_slice(), source].concat(), bytes);
    let key = header.derive_key(&stream_seed()).expect("a key");
    let mut reader = StreamReader::begin(source, &key).expect("a cipher");
    let mut plain = Vec::new();
    loop {
        match reader.next_chunk() {
            Ok(Some(chunk)) => plain.extend_from_slice(chunk),
            Ok(None) => break,
            Err(_) => return Verdict::Refused,
        }
    }
    assert_eq!(sealed(&header, &plain), bytes, "a second stream of the same meaning");
    Verdict::Accepted
}

/// A stream of this header and plaintext.
pub fn sealed(header: &Header, plain: &[u8]) -> Vec<u8> {
    let key = header.derive_key(&stream_seed()).expect("a key");
    let mut writer = StreamWriter::begin(Vec::new(), header, &key).expect("a vector takes all");
    writer.write(plain).expect("a vector takes all");
    writer.finish().expect("a vector takes all").0
}

/// A header of a stream.
pub fn stream_header() -> Header {
    Header {
        store: STORE,
        commit: 7,
        when: strongroom_policy::moment::Moment::from_unix_millis(1_700_000_000_000),
        salt: [2; 32],
        keyring: Generation(4),
        seal: b"seal".to_vec(),
        keyring_payload: b"keyring".to_vec(),
    }
}

fn content(plain: &[u8]) -> Verdict {
    if plain.is_empty() {
        return Verdict::Refused;
    }
    let header = stream_header();
    let stream = sealed(&header, plain);
    let mut source = stream.as_slice();
    assert_eq!(Header::read(&mut source).ok().as_ref(), Some(&header));
    let key = header.derive_key(&stream_seed()).expect("a key");
    let mut reader = ContentReader::begin(StreamReader::begin(source, &key).expect("a cipher"));
    let mut again: Vec<u8> = Vec::new();
    loop {
        match reader.next_item() {
            Ok(Item::Record(key, value)) => {
                let length =
                    |bytes: &[u8]| u16::try_from(bytes.len()).expect("short").to_be_bytes();
                let (key, value) = (key.as_bytes(), value.as_bytes());
                again.push(1);
                again.extend(length(key));
                again.extend(length(value));
                again.extend(key);
                again.extend(value);
            }
            Ok(Item::Closing(closing)) => {
                again.push(2);
                again.extend(closing.commit.to_be_bytes());
                again.extend(closing.count.to_be_bytes());
                again.extend(Vec::<u8>::from(closing.set_hash));
                again.extend(closing.journal.entries.to_be_bytes());
                again.extend(closing.journal.chain);
                assert_eq!(again, plain, "a second content of the same meaning");
                return Verdict::Accepted;
            }
            Err(_) => return Verdict::Refused,
        }
    }
}

/// `kind 1 ‖ bytes`: the name of a record in the store, or what a record holds.
pub fn record(input: &[u8]) -> Verdict {
    let Some((kind, bytes)) = input.split_first() else { return Verdict::Refused };
    let accepted = match kind % 6 {
        0 => {
            let name = RecordName::parse(bytes);
            if let Some(name) = &name {
                assert_eq!(name.store_key(), bytes, "a record with two names");
            }
            name.is_some()
        }
        1 => stored::<UserRecord>(bytes).is_some(),
        2 => stored::<WorkspaceRecord>(bytes).is_some(),
        3 => stored::<TokenRecord>(bytes).is_some(),
        4 => stored::<CredentialRecord>(bytes).is_some(),
        _ => stored::<WitnessRecord>(bytes).is_some(),
    };
    if accepted { Verdict::Accepted } else { Verdict::Refused }
}

/// `kind 1 ‖ text`: an entry of the journal, or the words of its reserve.
pub fn entry(input: &[u8]) -> Verdict {
    let Some((kind, text)) = input.split_first() else { return Verdict::Refused };
    if kind % 2 == 1 {
        let words = fuzzing::reserve(text);
        assert!(words.len() <= 16);
        assert!(words.iter().all(|(at, _)| at.is_empty() || at.ends_with('Z')));
        let known = words.iter().any(|(_, reason)| *reason != "unreadable");
        return if known { Verdict::Accepted } else { Verdict::Refused };
    }
    let Some(entry) = fuzzing::entry(text) else { return Verdict::Refused };
    // What the keeper does not read it passes over, UTF-8 or not: the chain value vouches for it. What both read they read alike.
    if let Ok(read) = serde_json::from_slice::<serde_json::Value>(text) {
        assert_eq!(read.get("n").and_then(serde_json::Value::as_u64), Some(entry.number));
        assert_eq!(read.get("what").and_then(serde_json::Value::as_str), Some(entry.what.as_str()));
    }
    if let Some(moment) = entry.moment {
        let written = rfc3339(moment);
        let again = format!("{{\"n\":1,\"t\":\"{written}\",\"what\":\"seal\"}}");
        let again = fuzzing::entry(again.as_bytes()).expect("an entry").moment;
        assert!(again == Some(moment) || written.starts_with('+'), "{written} is another moment");
    }
    if entry.chain.is_some() { Verdict::Accepted } else { Verdict::Refused }
}
