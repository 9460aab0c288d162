//! One entry as it stands in a bundle, read back: its chain value, and the few fields that the keeper needs of it.
//!
//! Distrusts: the bytes; a thief may have had the disk.

use serde::Deserialize;
use strongroom_policy::moment::Moment;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::keys::purpose::Journal;
use crate::keys::{self, MacKey, TAG_BYTES};

/// What stands between an entry's fields and its chain value.
pub(super) const CHAIN_OPENING: &[u8] = b",\"chain\":\"";
/// What ends an entry.
pub(super) const CHAIN_CLOSING: &[u8] = b"\"}\n";

/// The fields that the keeper itself reads back.
#[derive(Debug, Deserialize)]
pub(crate) struct Known<'a> {
    pub(crate) n: u64,
    #[serde(borrow)]
    pub(crate) t: &'a str,
    #[serde(borrow)]
    pub(crate) what: &'a str,
    pub(super) call: Option<&'a str>,
    pub(super) tenant: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) credential: Option<&'a str>,
    pub(super) provider: Option<&'a str>,
    pub(super) model: Option<&'a str>,
    pub(super) input: Option<u64>,
    pub(super) output: Option<u64>,
    pub(super) cost_ticks: Option<u64>,
    /// Of a version that knew prices.
    pub(super) cost: Option<u64>,
    pub(super) told: Option<&'a str>,
    pub(super) code: Option<&'a str>,
    pub(super) end: Option<&'a str>,
    pub(super) act: Option<&'a str>,
    pub(super) operator: Option<u32>,
    pub(super) commit: Option<u64>,
    pub(super) digest: Option<&'a str>,
    pub(super) first: Option<u64>,
}

impl<'a> Known<'a> {
    /// Reads an entry; nothing of ours has escapes in the texts that are read back.
    pub(crate) fn read(entry: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(entry).ok()
    }
}

/// Splits off an entry's chain value, as its digits.
fn split_chain(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let hex_bytes = TAG_BYTES.saturating_mul(2);
    let tail = CHAIN_OPENING.len().saturating_add(hex_bytes).saturating_add(CHAIN_CLOSING.len());
    let (body, rest) = entry.split_at_checked(entry.len().checked_sub(tail)?)?;
    Some((body, rest.strip_prefix(CHAIN_OPENING)?.strip_suffix(CHAIN_CLOSING)?))
}

/// The chain value of an entry that the tree vouches for.
pub(crate) fn chain_of(entry: &[u8]) -> Option<[u8; TAG_BYTES]> {
    let mut chain = [0; TAG_BYTES];
    hex::decode_to_slice(split_chain(entry)?.1, &mut chain).ok()?;
    Some(chain)
}

/// The chain value of an entry that follows another one.
pub(crate) fn check_chain(
    entry: &[u8],
    before: &[u8; TAG_BYTES],
    key: &MacKey<Journal>,
) -> Result<[u8; TAG_BYTES], &'static str> {
    let (body, chain) = split_chain(entry).ok_or("an entry has no chain value")?;
    let expected = keys::tag_journal(key, before, body);
    // As text, because a digit in the other case is another byte of the file.
    if bool::from(hex::encode(expected).as_bytes().ct_eq(chain)) {
        Ok(expected)
    } else {
        Err("its chain value does not hold: it was changed, or entries are missing before it")
    }
}

/// The moment that a text in RFC 3339 names.
pub(crate) fn millis(text: &str) -> Option<Moment> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let millis = time.unix_timestamp_nanos().checked_div(1_000_000)?;
    u64::try_from(millis).ok().map(Moment::from_unix_millis)
}
