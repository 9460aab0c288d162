//! One golden vector for every kind of message: hex files in `vectors/`, which every version must write and read alike.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod audits;
mod backups;
mod budgets;
mod gateway;
mod operator;
mod people;
mod sealed;
mod things;
mod tpm;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::frame::{decode, encode, split_first};
use strongroom_protocol::person::NotSignedIn;

/// A name, and the bytes that it stands for.
pub(crate) type Vector = (String, Vec<u8>);

#[test]
fn every_message_is_written_as_its_vector_says() {
    for (name, bytes) in all() {
        let path = directory().join(format!("{name}.hex"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, lines_of_hex(&bytes)).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == lines_of_hex(&bytes),
            "{} differs; UPDATE_GOLDEN=1 rewrites it",
            path.display()
        );
    }
}

#[test]
fn no_vector_is_left_of_a_message_that_is_gone() {
    let known: BTreeSet<String> = all().into_iter().map(|(name, _)| name).collect();
    for entry in fs::read_dir(directory()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(file.trim_end_matches(".hex")), "{file} is of no message");
    }
}

/// Text, vectors and code change in one commit.
#[test]
fn the_protocol_page_names_every_vector_and_every_refusal() {
    let page = include_str!("../../PROTOCOL.md");
    for (name, _) in all() {
        assert!(page.contains(&format!("`{name}`")), "PROTOCOL.md does not name `{name}`");
    }
    for (number, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(postcard::to_stdvec(&refusal).unwrap(), [u8::try_from(number).unwrap()]);
        let row = format!("| {number} | `{}` | {refusal:?} |", refusal.code());
        assert!(page.contains(&row), "PROTOCOL.md lacks the row {row}");
    }
    assert_eq!(variants::<Refusal>(), Refusal::ALL.len());
    for (number, why) in NotSignedIn::ALL.into_iter().enumerate() {
        assert_eq!(postcard::to_stdvec(&why).unwrap(), [u8::try_from(number).unwrap()]);
        let row = format!("| {number} | `{}` | {} | {why:?} |", why.code(), why.status());
        assert!(page.contains(&row), "PROTOCOL.md lacks the row {row}");
    }
    assert_eq!(variants::<NotSignedIn>(), NotSignedIn::ALL.len());
}

fn all() -> Vec<Vector> {
    [
        gateway::vectors(),
        operator::vectors(),
        backups::vectors(),
        audits::vectors(),
        budgets::vectors(),
        sealed::vectors(),
        tpm::vectors(),
        people::vectors(),
    ]
    .concat()
}

/// Vectors of one enum: each variant at least once, each wrapped into the message that carries it, which must read back.
pub(crate) fn of_enum<E, M>(
    samples: Vec<E>,
    name: fn(&E) -> &'static str,
    wrap: fn(E) -> M,
    limit: usize,
) -> Vec<Vector>
where
    E: Serialize + DeserializeOwned,
    M: Serialize + DeserializeOwned,
{
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    let mut vectors: Vec<Vector> = Vec::new();
    for sample in samples {
        let plain = name(&sample);
        names.push(plain);
        let name = match names.iter().filter(|known| **known == plain).count() {
            1 => plain.to_owned(),
            twin => format!("{plain}-{twin}"),
        };
        seen.insert(usize::from(postcard::to_stdvec(&sample).unwrap()[0]));
        let frame = encode(&wrap(sample), limit).unwrap().to_vec();
        assert_eq!(again::<M>(&frame, limit), frame, "{name} does not read back");
        vectors.push((name, frame));
    }
    let expected: BTreeSet<usize> = (0..variants::<E>()).collect();
    assert_eq!(seen, expected, "a variant of {} has no vector", std::any::type_name::<E>());
    vectors
}

fn again<M: Serialize + DeserializeOwned>(frame: &[u8], limit: usize) -> Vec<u8> {
    let (body, used) = split_first(frame, limit).unwrap().unwrap();
    assert_eq!(used, frame.len());
    let message: M = decode(body).unwrap();
    encode(&message, limit).unwrap().to_vec()
}

/// How many variants an enum has: a known number alone ends too early or is a message, an unknown one is refused.
fn variants<E: DeserializeOwned>() -> usize {
    let known = |number: &u8| match postcard::from_bytes::<E>(&[*number]) {
        Ok(_) | Err(postcard::Error::DeserializeUnexpectedEnd) => true,
        Err(_) => false,
    };
    (0..128).take_while(known).count()
}

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
}

/// 32 bytes a line.
fn lines_of_hex(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex::encode(line) + "\n").collect()
}
