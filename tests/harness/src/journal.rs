//! The journal as an auditor reads it: the file itself, line by line.
//!
//! Invariant: a line that is no JSON, or out of order, fails the test.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The journal file below a directory.
pub fn find(directory: &Path) -> Option<PathBuf> {
    files(directory)
        .into_iter()
        .find(|file| file.file_name().is_some_and(|name| name == "journal.jsonl"))
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

/// All complete entries of a journal file.
///
/// # Panics
/// When a line is no JSON or its number is not the next one.
pub fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let mut entries = Vec::new();
    for line in complete.lines() {
        let entry: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("the journal is no JSON ({error}): {line}"));
        let number = entry["n"].as_u64();
        assert_eq!(number, Some(entries.len() as u64 + 1), "a gap in the journal: {line}");
        entries.push(entry);
    }
    entries
}

/// The entries of one kind about one call.
pub fn about<'e>(entries: &'e [Value], what: &str, call: &str) -> Vec<&'e Value> {
    entries.iter().filter(|entry| entry["what"] == what && entry["call"] == call).collect()
}
