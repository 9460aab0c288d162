//! The journal as an auditor reads it: the bundles themselves, entry by entry.
//!
//! Invariant: an entry that is no JSON, or out of order, fails the test.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The bundle that is being filled, below a directory.
pub fn find(directory: &Path) -> Option<PathBuf> {
    files(directory).into_iter().find(|file| file.ends_with("journal/tail"))
}

/// All regular files below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

/// All complete entries of the journal whose tail that is. A bundle that moves to its place meanwhile is looked for again.
///
/// # Panics
/// When an entry is no JSON or its number is not the next one.
pub fn read(tail: &Path) -> Vec<Value> {
    let directory = tail.parent().expect("the tail lies in the journal");
    let mut entries: Vec<Value> = Vec::new();
    loop {
        let bundle = directory.join("tile/entries").join(numbered(entries.len() / 256));
        let (bytes, last) = match std::fs::read(&bundle) {
            Ok(bytes) => (bytes, false),
            Err(_) => (std::fs::read(tail).unwrap_or_default(), true),
        };
        let found = parse(&bytes);
        let follows = found.first().is_none_or(|entry| entry["n"] == entries.len() as u64 + 1);
        // It moved between the two looks, and what was read is the tail behind it.
        if last && (!follows || bundle.exists()) {
            continue;
        }
        for entry in found {
            let number = entry["n"].as_u64();
            assert_eq!(number, Some(entries.len() as u64 + 1), "a gap in the journal: {entry}");
            entries.push(entry);
        }
        if last {
            return entries;
        }
    }
}

/// The entries of a bundle, each behind its length.
pub fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((entry, after)) = after.split_at_checked(u16::from_be_bytes(*length).into())
        else {
            break;
        };
        entries.push(entry);
        rest = after;
    }
    entries
}

/// A bundle of entries.
///
/// # Panics
/// When one is longer than 65,535 bytes.
pub fn join(entries: &[&[u8]]) -> Vec<u8> {
    let length = |entry: &[u8]| u16::try_from(entry.len()).expect("an entry").to_be_bytes();
    entries.iter().flat_map(|entry| [&length(entry), *entry].concat()).collect()
}

fn parse(bytes: &[u8]) -> Vec<Value> {
    let read = |entry: &&[u8]| {
        serde_json::from_slice(entry).unwrap_or_else(|error| {
            panic!("the journal is no JSON ({error}): {}", String::from_utf8_lossy(entry))
        })
    };
    split(bytes).iter().map(read).collect()
}

/// `x001/x234/067`, as C2SP tlog-tiles numbers.
fn numbered(index: usize) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// The entries of one kind about one call.
pub fn about<'e>(entries: &'e [Value], what: &str, call: &str) -> Vec<&'e Value> {
    entries.iter().filter(|entry| entry["what"] == what && entry["call"] == call).collect()
}
