//! Reading the journal while it grows: its entries from a number on, and the sums of usage. On a thread that may wait.
//!
//! Distrusts: the files; what is shown is what lies there, not what was verified.

use std::collections::BTreeMap;
use std::io;

use strongroom_policy::id::TenantId;
use strongroom_policy::moment::Moment;
use strongroom_policy::money::Money;
use strongroom_protocol::operator::UsageBy;
use strongroom_protocol::operator::listing::{JournalRow, UsageRow};
use strongroom_tlog::Entries;
use strongroom_tlog::bundle::MAX_BUNDLE_BYTES;

use super::found::read_file;
use super::line::{Known, chain_of, millis};
use super::place::{BUNDLE_ENTRIES, Place};
use crate::keys::TAG_BYTES;

/// Most entries in one answer.
pub const MAX_ROWS: usize = 500;
/// Most bytes of entries in one answer.
pub const MAX_ROW_BYTES: usize = 4 * 1024 * 1024;
/// Most keys that usage is summed by; further ones fall under `other`.
const MAX_SUMS: usize = 10_000;
/// Most calls whose end is waited for at once.
const MAX_OPEN_CALLS: usize = 64 * 1024;
/// How often a bundle is looked for while it moves to its place.
const LOOKS: usize = 8;

/// The bundle of that index as far as it is written; empty beyond the end, `None` when it was archived.
///
/// # Errors
/// When it cannot be read.
pub fn bundle(place: &Place, index: u64) -> io::Result<Option<Vec<u8>>> {
    let first = index.saturating_mul(BUNDLE_ENTRIES).saturating_add(1);
    // A bundle that becomes full moves: whoever finds it in neither place looks again.
    for _ in 0..LOOKS {
        if let Some(bytes) = read_whole(&place.bundle(index))? {
            return Ok(Some(bytes));
        }
        let tail = read_whole(&place.tail())?.unwrap_or_default();
        let begin = Entries::of(&tail).next().and_then(Result::ok).and_then(Known::read);
        match begin.map(|known| known.n) {
            Some(begins) if begins == first => return Ok(Some(tail)),
            // The tail is of a later bundle: this one was archived, or has just moved.
            Some(begins) if begins > first && !place.bundle(index).exists() => return Ok(None),
            Some(_) | None => {}
        }
    }
    Ok(Some(Vec::new()))
}

/// The checkpoint's text, if there is one.
///
/// # Errors
/// When it cannot be read.
pub fn checkpoint(place: &Place) -> io::Result<Option<Vec<u8>>> {
    read_whole(&place.checkpoint())
}

pub(crate) fn read_whole(path: &std::path::Path) -> io::Result<Option<Vec<u8>>> {
    read_file(path, MAX_BUNDLE_BYTES).map_err(|error| io::Error::other(error.to_string()))
}

/// The number and the chain value of the newest whole entry; 0 and zeros before the first. More may follow at once.
///
/// # Errors
/// When a file cannot be read, or the entry is none of a journal.
pub fn newest(place: &Place) -> io::Result<(u64, [u8; TAG_BYTES])> {
    let bytes = newest_bundle(place)?;
    let Some(entry) = Entries::of(&bytes).map_while(Result::ok).last() else {
        return Ok((0, [0; TAG_BYTES]));
    };
    let known = Known::read(entry).zip(chain_of(entry));
    let (known, chain) =
        known.ok_or_else(|| io::Error::other("the newest entry cannot be read"))?;
    Ok((known.n, chain))
}

/// When the newest whole entry was written; `None` before the first.
///
/// # Errors
/// When a file cannot be read.
pub fn newest_moment(place: &Place) -> io::Result<Option<Moment>> {
    let bytes = newest_bundle(place)?;
    let entry = Entries::of(&bytes).map_while(Result::ok).last();
    Ok(entry.and_then(Known::read).and_then(|known| millis(known.t)))
}

/// The bundle that the newest entry is in.
fn newest_bundle(place: &Place) -> io::Result<Vec<u8>> {
    let mut bytes = read_whole(&place.tail())?.unwrap_or_default();
    if bytes.is_empty() {
        // The tail is new: the newest entry is the last one of the newest full bundle.
        let mut index =
            checkpointed(place)?.checked_div(BUNDLE_ENTRIES).unwrap_or(0).saturating_sub(1);
        while place.bundle(index.saturating_add(1)).exists() {
            index = index.saturating_add(1);
        }
        bytes = read_whole(&place.bundle(index))?.unwrap_or_default();
    }
    Ok(bytes)
}

/// How many entries the checkpoint says that it covers.
fn checkpointed(place: &Place) -> io::Result<u64> {
    let text = read_whole(&place.checkpoint())?.unwrap_or_default();
    let size = text.split(|byte| *byte == b'\n').nth(1).and_then(|line| str::from_utf8(line).ok());
    Ok(size.and_then(|size| size.parse().ok()).unwrap_or(0))
}

/// The index of the bundle that the entry of that number is in.
pub(super) fn bundle_of(number: u64) -> u64 {
    number.saturating_sub(1).checked_div(BUNDLE_ENTRIES).unwrap_or(0)
}

/// An entry as it is shown.
pub(super) fn row(number: u64, entry: &[u8]) -> Option<JournalRow> {
    let line = std::str::from_utf8(entry).ok()?.trim_end().to_owned();
    Some(JournalRow { number, line })
}

/// Entries with a number above `after`, oldest first; the last ones of `entries` when `after` is `None`.
///
/// # Errors
/// When a file cannot be read.
pub fn tail(
    place: &Place,
    (entries, first_kept): (u64, u64),
    after: Option<u64>,
    limit: usize,
) -> io::Result<Vec<JournalRow>> {
    let limit = limit.min(MAX_ROWS);
    let last = u64::try_from(limit).unwrap_or(u64::MAX);
    let after =
        after.unwrap_or_else(|| entries.saturating_sub(last)).max(first_kept.saturating_sub(1));
    let mut rows = Vec::new();
    let mut bytes = 0_usize;
    for index in bundle_of(after.saturating_add(1))..=bundle_of(entries) {
        let Some(found) = bundle(place, index)? else { continue };
        let first = index.saturating_mul(BUNDLE_ENTRIES);
        for (number, entry) in
            (first.saturating_add(1)..).zip(Entries::of(&found).map_while(Result::ok))
        {
            if number <= after {
                continue;
            }
            bytes = bytes.saturating_add(entry.len());
            if rows.len() >= limit || bytes > MAX_ROW_BYTES {
                return Ok(rows);
            }
            rows.extend(row(number, entry));
        }
    }
    Ok(rows)
}

/// Which tenants' calls count.
#[derive(Debug, Clone, Default)]
pub struct Whose {
    /// The tenant of a call whose entry names none: it is of a time when there was this one only.
    first: String,
    /// Only of this one's.
    only: Option<String>,
}

impl Whose {
    /// One tenant's, or all, in a vault whose first tenant is `first`.
    pub fn of(first: TenantId, only: Option<TenantId>) -> Self {
        Self { first: first.to_string(), only: only.map(|id| id.to_string()) }
    }

    fn tenant<'a>(&'a self, named: Option<&'a str>) -> &'a str {
        named.unwrap_or(&self.first)
    }

    /// Whether a call of the tenant that its entry names counts.
    pub(super) fn count(&self, named: Option<&str>) -> bool {
        self.only.as_deref().is_none_or(|only| self.tenant(named) == only)
    }

    /// Whether all tenants' do.
    pub(super) const fn are_all(&self) -> bool {
        self.only.is_none()
    }
}

/// Which sums.
#[derive(Debug, Clone)]
pub struct Sums {
    /// Only of calls that began then or later.
    pub since: Moment,
    /// What to sum by.
    pub by: UsageBy,
    /// Of which tenants.
    pub whose: Whose,
}

/// Sums usage over calls.
///
/// # Errors
/// When a file cannot be read.
pub fn usage(
    place: &Place,
    (entries, first_kept): (u64, u64),
    which: &Sums,
) -> io::Result<Vec<UsageRow>> {
    let mut sums: BTreeMap<String, UsageRow> = BTreeMap::new();
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    for index in bundle_of(first_kept)..=bundle_of(entries) {
        let Some(found) = bundle(place, index)? else { continue };
        for entry in Entries::of(&found).map_while(Result::ok) {
            if let Some(known) = Known::read(entry) {
                fold(&known, which, &mut sums, &mut open);
            }
        }
    }
    Ok(sums.into_values().collect())
}

fn fold(
    known: &Known<'_>,
    which: &Sums,
    sums: &mut BTreeMap<String, UsageRow>,
    open: &mut BTreeMap<String, String>,
) {
    let Some(call) = known.call else { return };
    let counts =
        || which.whose.count(known.tenant) && millis(known.t).is_some_and(|at| at >= which.since);
    match known.what {
        "admit" if counts() => {
            let key = which.key_of(known);
            sum(sums, &key).calls = sum(sums, &key).calls.saturating_add(1);
            if open.len() < MAX_OPEN_CALLS {
                open.insert(call.to_owned(), key);
            }
        }
        "refuse" if counts() => {
            let row = sum(sums, &which.key_of(known));
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
    match known.cost {
        Some(cost) => row.cost = row.cost.plus(Money::from_micros(cost)),
        None => row.unpriced = row.unpriced.saturating_add(1),
    }
    if known.told != Some("exact") {
        row.untold = row.untold.saturating_add(1);
    }
}

impl Sums {
    fn key_of(&self, known: &Known<'_>) -> String {
        let key = match self.by {
            UsageBy::User => known.user,
            UsageBy::Token => known.token,
            // Whose a credential is, the journal does not say: whoever asks puts them together.
            UsageBy::Credential | UsageBy::Workspace => known.credential,
            UsageBy::Model => known.model,
            UsageBy::Provider => known.provider,
            UsageBy::Tenant => Some(self.whose.tenant(known.tenant)),
        };
        key.unwrap_or("-").to_owned()
    }
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
        cost: Money::ZERO,
        unpriced: 0,
    })
}
