//! Reading the journal: the check of its chain, its last lines, and the sums of usage.
//!
//! Invariant: a line is believed only if its number follows and its chain value holds.
//! Distrusts: the file; a thief may have had it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use strongroom_policy::id::CallId;
use strongroom_protocol::operator::UsageBy;
use strongroom_protocol::operator::listing::{JournalRow, UsageRow};
use subtle::ConstantTimeEq;

use super::{JOURNAL_FILE, JournalError};
use crate::keys::purpose::Journal;
use crate::keys::{self, MacKey, TAG_BYTES};

/// What stands between a line and its chain value.
pub(crate) const CHAIN_OPENING: &[u8] = b",\"chain\":\"";
/// What ends a line.
pub(crate) const CHAIN_CLOSING: &[u8] = b"\"}\n";

/// Longest line that is read, and how much is read from the end at first.
const MAX_LINE_BYTES: u64 = 32 * 1024;
/// Most lines in one answer.
pub const MAX_ROWS: usize = 500;
/// Most keys that usage is summed by; further ones fall under `other`.
const MAX_SUMS: usize = 10_000;
/// Most calls that are open at once in a sound journal; more are not followed.
const MAX_OPEN_CALLS: usize = 64 * 1024;

/// What a whole reading found.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) entries: u64,
    pub(super) whole_bytes: u64,
    pub(super) torn_bytes: u64,
    pub(super) chain: [u8; TAG_BYTES],
    pub(super) open_calls: Vec<CallId>,
}

/// The fields that the keeper itself reads back.
#[derive(Deserialize)]
struct Known<'a> {
    n: u64,
    #[serde(borrow)]
    t: &'a str,
    #[serde(borrow)]
    what: &'a str,
    call: Option<&'a str>,
    user: Option<&'a str>,
    token: Option<&'a str>,
    credential: Option<&'a str>,
    provider: Option<&'a str>,
    model: Option<&'a str>,
    input: Option<u64>,
    output: Option<u64>,
    cost_ticks: Option<u64>,
    told: Option<&'a str>,
}

/// Checks every line from the first.
pub(super) fn verify(file: &mut File, key: &MacKey<Journal>) -> Result<Verified, JournalError> {
    let failed = |error: io::Error| JournalError::Write(error.to_string());
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut reader = BufReader::with_capacity(256 * 1024, &*file);
    let mut state = Verified {
        entries: 0,
        whole_bytes: 0,
        torn_bytes: 0,
        chain: [0; TAG_BYTES],
        open_calls: Vec::new(),
    };
    let mut open = BTreeSet::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length =
            (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(failed)?;
        if length == 0 {
            break;
        }
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        if line.last() != Some(&b'\n') {
            if bytes == MAX_LINE_BYTES {
                return Err(damaged(&state, "a line is too long"));
            }
            state.torn_bytes = bytes;
            break;
        }
        state.chain = check_line(&line, &state, key)?;
        state.entries = state.entries.saturating_add(1);
        state.whole_bytes = state.whole_bytes.saturating_add(bytes);
        follow(&line, &mut open).map_err(|reason| damaged(&state, reason))?;
    }
    state.open_calls = open.into_iter().collect();
    Ok(state)
}

fn check_line(
    line: &[u8],
    state: &Verified,
    key: &MacKey<Journal>,
) -> Result<[u8; TAG_BYTES], JournalError> {
    let hex_bytes = TAG_BYTES.saturating_mul(2);
    let tail = CHAIN_OPENING.len().saturating_add(hex_bytes).saturating_add(CHAIN_CLOSING.len());
    let cut = line.len().checked_sub(tail).ok_or_else(|| damaged(state, "a line is too short"))?;
    let (body, rest) = line.split_at_checked(cut).unwrap_or_default();
    let chain = rest
        .strip_prefix(CHAIN_OPENING)
        .and_then(|rest| rest.strip_suffix(CHAIN_CLOSING))
        .ok_or_else(|| damaged(state, "a line has no chain value"))?;
    let expected = keys::tag_journal(key, &state.chain, body);
    // As text, because a digit in the other case is another byte of the file.
    if bool::from(hex::encode(expected).as_bytes().ct_eq(chain)) {
        Ok(expected)
    } else {
        Err(damaged(
            state,
            "its chain value does not hold: it was changed, or entries are missing before it",
        ))
    }
}

fn damaged(state: &Verified, reason: &'static str) -> JournalError {
    JournalError::Damaged { entry: state.entries.saturating_add(1), reason }
}

/// Keeps the set of calls that are admitted and not closed.
fn follow(line: &[u8], open: &mut BTreeSet<CallId>) -> Result<(), &'static str> {
    let known: Known<'_> = serde_json::from_slice(line).map_err(|_| "a line is not an entry")?;
    let call = known.call.map(str::parse::<CallId>).transpose().map_err(|_| "a call has no id")?;
    match (known.what, call) {
        ("admit", Some(call)) if open.len() < MAX_OPEN_CALLS => {
            open.insert(call);
        }
        ("close" | "lost", Some(call)) => {
            open.remove(&call);
        }
        _ => {}
    }
    Ok(())
}

/// Lines with a number above `after`, oldest first; the last ones when `after` is `None`.
///
/// # Errors
/// When the file cannot be read.
pub fn tail(directory: &Path, after: Option<u64>, limit: usize) -> io::Result<Vec<JournalRow>> {
    let limit = limit.min(MAX_ROWS);
    let mut file = File::open(directory.join(JOURNAL_FILE))?;
    let length = file.metadata()?.len();
    let wanted = MAX_LINE_BYTES.saturating_mul(u64::try_from(limit).unwrap_or(u64::MAX));
    let mut window = wanted.min(256 * 1024).min(length);
    loop {
        file.seek(SeekFrom::Start(length.saturating_sub(window)))?;
        let mut bytes = Vec::new();
        (&mut file).take(window).read_to_end(&mut bytes)?;
        let rows = rows_of(&bytes, window == length);
        let reaches_back = rows.first().is_none_or(|first| match after {
            Some(after) => first.number <= after.saturating_add(1),
            None => rows.len() >= limit,
        });
        if window == length || (reaches_back && !rows.is_empty()) {
            return Ok(choose(rows, after, limit));
        }
        window = window.saturating_mul(4).min(length);
    }
}

fn choose(rows: Vec<JournalRow>, after: Option<u64>, limit: usize) -> Vec<JournalRow> {
    if let Some(after) = after {
        return rows.into_iter().filter(|row| row.number > after).take(limit).collect();
    }
    let skip = rows.len().saturating_sub(limit);
    rows.into_iter().skip(skip).collect()
}

/// The whole lines of a window; its first line is whole only at the file's beginning.
fn rows_of(bytes: &[u8], from_start: bool) -> Vec<JournalRow> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    if !from_start {
        lines.next();
    }
    lines
        .filter(|line| line.last() == Some(&b'\n'))
        .filter_map(|line| {
            let line = std::str::from_utf8(line).ok()?.trim_end();
            let known: Known<'_> = serde_json::from_str(line).ok()?;
            Some(JournalRow { number: known.n, line: line.to_owned() })
        })
        .collect()
}

/// Sums usage over all calls that began at or after `since` (RFC 3339, UTC, as entries have it).
///
/// # Errors
/// When the file cannot be read.
pub fn usage(directory: &Path, since: &str, by: UsageBy) -> io::Result<Vec<UsageRow>> {
    let mut reader =
        BufReader::with_capacity(256 * 1024, File::open(directory.join(JOURNAL_FILE))?);
    let mut sums: BTreeMap<String, UsageRow> = BTreeMap::new();
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    let mut line = String::new();
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE_BYTES).read_line(&mut line)? == 0 {
            return Ok(sums.into_values().collect());
        }
        if let Ok(known) = serde_json::from_str::<Known<'_>>(&line) {
            fold(&known, (since, by), &mut sums, &mut open);
        }
    }
}

fn fold(
    known: &Known<'_>,
    (since, by): (&str, UsageBy),
    sums: &mut BTreeMap<String, UsageRow>,
    open: &mut BTreeMap<String, String>,
) {
    let Some(call) = known.call else { return };
    match known.what {
        "admit" if known.t >= since => {
            let key = key_of(known, by);
            sum(sums, &key).calls = sum(sums, &key).calls.saturating_add(1);
            if open.len() < MAX_OPEN_CALLS {
                open.insert(call.to_owned(), key);
            }
        }
        "refuse" if known.t >= since => {
            let row = sum(sums, &key_of(known, by));
            row.refused = row.refused.saturating_add(1);
        }
        "close" | "lost" => {
            if let Some(key) = open.remove(call) {
                settle(sum(sums, &key), known);
            }
        }
        _ => {}
    }
}

fn settle(row: &mut UsageRow, known: &Known<'_>) {
    row.input = row.input.saturating_add(known.input.unwrap_or(0));
    row.output = row.output.saturating_add(known.output.unwrap_or(0));
    row.cost_ticks = row.cost_ticks.saturating_add(known.cost_ticks.unwrap_or(0));
    if known.told != Some("exact") {
        row.untold = row.untold.saturating_add(1);
    }
}

fn key_of(known: &Known<'_>, by: UsageBy) -> String {
    let key = match by {
        UsageBy::User => known.user,
        UsageBy::Token => known.token,
        UsageBy::Credential => known.credential,
        UsageBy::Model => known.model,
        UsageBy::Provider => known.provider,
    };
    key.unwrap_or("-").to_owned()
}

fn sum<'s>(sums: &'s mut BTreeMap<String, UsageRow>, key: &str) -> &'s mut UsageRow {
    let key = if sums.len() >= MAX_SUMS && !sums.contains_key(key) { "other" } else { key };
    sums.entry(key.to_owned()).or_insert_with(|| UsageRow {
        key: key.to_owned(),
        label: None,
        calls: 0,
        refused: 0,
        input: 0,
        output: 0,
        untold: 0,
        cost_ticks: 0,
    })
}
