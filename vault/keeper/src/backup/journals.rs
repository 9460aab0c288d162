//! Journals as a backup needs them: where one stands, and what a surviving one says was taken away.
//!
//! Invariant: a line counts only when its chain holds from the first line on.
//! Distrusts: every byte of a journal; it may come from anywhere.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::content::JournalPoint;
use crate::journal::JOURNAL_FILE;
use crate::journal::read::{CHAIN_CLOSING, CHAIN_OPENING};
use crate::keys::TAG_BYTES;

/// The last line lies within so many bytes of the end.
const TAIL_BYTES: u64 = 64 * 1024;

/// Where a journal stands that this process writes: its last whole line. More lines may follow at once.
///
/// # Errors
/// When the file cannot be read, or its last line is none of a journal.
pub fn point(directory: &Path) -> io::Result<JournalPoint> {
    let mut file = File::open(directory.join(JOURNAL_FILE))?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n');
    let Some(end) = whole else { return Ok(JournalPoint { entries: 0, chain: [0; TAG_BYTES] }) };
    let before = tail.get(..end).unwrap_or_default();
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
    let line = tail.get(start..=end).unwrap_or_default();
    parse(line).ok_or_else(|| io::Error::other("the journal's last line cannot be read"))
}

fn parse(line: &[u8]) -> Option<JournalPoint> {
    let digits = line.strip_prefix(b"{\"n\":")?;
    let digits = digits.get(..digits.iter().position(|byte| *byte == b',')?)?;
    let entries = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let rest = line.strip_suffix(CHAIN_CLOSING)?;
    let (before, text) = rest.split_last_chunk::<{ TAG_BYTES * 2 }>()?;
    before.strip_suffix(CHAIN_OPENING)?;
    let mut chain = [0_u8; TAG_BYTES];
    hex::decode_to_slice(text, &mut chain).ok()?;
    Some(JournalPoint { entries, chain })
}
