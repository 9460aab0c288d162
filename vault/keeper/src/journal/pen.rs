//! The hand that writes: groups of entries into the tail, and the switch to the next bundle.
//!
//! Invariant: a group of up to 256 entries is written whole or not at all; a partial write is cut off before anyone is answered.
//! Invariant: after a failed cut, a switch that stopped half way or a failed sync nothing is written again by this process.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use strongroom_tlog::{Hash, leaf_hash};

use super::JournalError;
use super::disk;
use super::entry::Entry;
use super::line::{CHAIN_CLOSING, CHAIN_OPENING};
use super::lines::Lines;
use super::place::{BUNDLE_ENTRIES, Place};
use super::shared::{Shared, Switched};
use super::writer::Durability;
use crate::keys::purpose::Journal;
use crate::keys::{self, MacKey, TAG_BYTES};

/// What the writing thread owns.
pub(super) struct Pen {
    pub(super) place: Place,
    pub(super) tail: Arc<File>,
    pub(super) tail_bytes: u64,
    /// Entries in the journal.
    pub(super) entries: u64,
    pub(super) chain: [u8; TAG_BYTES],
    pub(super) key: MacKey<Journal>,
    pub(super) shared: Arc<Shared>,
    pub(super) durability: Durability,
    pub(super) encoded: Encoded,
}

/// Entries as they stand in a bundle: the length of each, its bytes; and what the tree and the chain take of them.
#[derive(Default)]
pub(super) struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    leaves: Vec<Hash>,
    chain: [u8; TAG_BYTES],
}

impl Pen {
    /// Writes a group.
    pub(super) fn write(&mut self, group: &Lines) -> Result<(), JournalError> {
        self.shared.health()?;
        let mut encoded = std::mem::take(&mut self.encoded);
        let outcome = self.write_encoded(group, &mut encoded);
        self.encoded = encoded;
        outcome
    }

    fn write_encoded(&mut self, group: &Lines, encoded: &mut Encoded) -> Result<(), JournalError> {
        encoded.begin(self.chain);
        let mut number = self.entries;
        // A group without entries has no moment to tell it at.
        let gap = self.shared.gap().zip(group.moment());
        if let Some((gap, now)) = &gap {
            let mut lines = Lines::default();
            lines.push(
                &Entry::Gap { since: &gap.since, reason: gap.reason, refused: gap.refused },
                *now,
            )?;
            number = encoded.append(&lines, number, &self.key)?;
        }
        encoded.append(group, number, &self.key)?;
        let count = encoded.ends.len();
        let chunk = usize::try_from(BUNDLE_ENTRIES).unwrap_or(usize::MAX);
        for from in (0..count).step_by(chunk) {
            let to = from.saturating_add(chunk).min(count);
            if let Err(error) = self.put(encoded, from..to) {
                if from > 0 {
                    self.shared.stop("a group of entries was written in part");
                }
                self.shared.refused(&error, group);
                return Err(error);
            }
        }
        self.chain = encoded.chain;
        if self.durability == Durability::Strict || group.must_last() {
            self.sync(&[&self.tail])?;
        }
        if gap.is_some() {
            self.shared.gap_is_told();
        }
        self.shared.tell_sinks(&encoded.bytes);
        Ok(())
    }

    /// Writes at most 256 entries: so that one bundle at most becomes full.
    fn put(&mut self, encoded: &Encoded, entries: Range<usize>) -> Result<(), JournalError> {
        let filled = self.entries.checked_rem(BUNDLE_ENTRIES).unwrap_or(0);
        let room = usize::try_from(BUNDLE_ENTRIES.saturating_sub(filled)).unwrap_or(usize::MAX);
        let split = entries.start.saturating_add(room).min(entries.end);
        let bytes = encoded.bytes_of(entries.start..split);
        if let Err(error) = disk::write(&self.tail, bytes) {
            self.cut_back();
            return Err(JournalError::write(&error));
        }
        let fills = entries.len() >= room;
        let rest = encoded.bytes_of(split..entries.end);
        let switched = if fills { Some(self.switch(rest)?) } else { None };
        let leaves = encoded.leaves.get(entries.clone()).unwrap_or_default();
        self.entries = self.shared.grow(leaves, switched)?;
        let before = if fills { 0 } else { self.tail_bytes };
        self.tail_bytes = before.saturating_add(length(if fills { rest } else { bytes }));
        Ok(())
    }

    /// Puts the full tail in its place, and a new one that begins with these bytes in the tail's.
    fn switch(&mut self, begin: &[u8]) -> Result<Switched, JournalError> {
        let index = self.entries.checked_div(BUNDLE_ENTRIES).unwrap_or(0);
        let (tail, next, bundle) = (self.place.tail(), self.place.next(), self.place.bundle(index));
        let begun = disk::make_directory_of(&bundle, self.place.root())
            .and_then(|()| disk::create(&next))
            .and_then(|file| disk::write(&file, begin).map(|()| file));
        let file = begun.map_err(|error| {
            if let Err(error) = disk::remove(&next) {
                tracing::error!(%error, "a journal file that was begun cannot be taken away");
                self.shared.stop("a file that was begun cannot be taken away");
            }
            self.cut_back();
            JournalError::write(&error)
        })?;
        let file = Arc::new(file);
        if self.durability == Durability::Strict {
            self.sync(&[&self.tail, &file])?;
        }
        let moved = self.shared.while_nobody_looks(|| {
            disk::rename(&tail, &bundle)?;
            disk::rename(&next, &tail)
        });
        let synced = moved.and_then(|()| match self.durability {
            Durability::Group => Ok(()),
            Durability::Strict => {
                disk::sync_directory(bundle.parent().unwrap_or(self.place.root()))?;
                disk::sync_directory(self.place.root())
            }
        });
        if let Err(error) = synced {
            self.shared.stop("a full bundle could not be put in its place");
            return Err(JournalError::write(&error));
        }
        let full = std::mem::replace(&mut self.tail, Arc::clone(&file));
        Ok(Switched { bundle, full, tail: file })
    }

    fn sync(&self, files: &[&Arc<File>]) -> Result<(), JournalError> {
        for file in files {
            if let Err(error) = disk::sync(file) {
                self.shared.stop("entries could not be handed to the disk");
                return Err(JournalError::write(&error));
            }
        }
        Ok(())
    }

    /// Half an entry must not stand before the next one.
    fn cut_back(&mut self) {
        if let Err(error) = disk::truncate(&self.tail, self.tail_bytes) {
            tracing::error!(%error, "a partial journal entry cannot be cut off");
            self.shared.stop("a partial entry cannot be cut off");
        }
    }
}

impl Encoded {
    fn begin(&mut self, chain: [u8; TAG_BYTES]) {
        self.bytes.clear();
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        self.ends.clear();
        self.leaves.clear();
        self.chain = chain;
    }

    /// Appends a group's entries, and answers the last one's number.
    fn append(
        &mut self,
        group: &Lines,
        mut number: u64,
        key: &MacKey<Journal>,
    ) -> Result<u64, JournalError> {
        for line in group.iter() {
            number = number.saturating_add(1);
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&[0; 2]);
            let entry = start.saturating_add(2);
            self.chain = append(&mut self.bytes, number, &self.chain, (line, key));
            let text = self.bytes.get(entry..).unwrap_or_default();
            self.leaves.push(leaf_hash(text));
            let length = u16::try_from(text.len()).map_err(|_| JournalError::TooLong)?;
            if let Some(place) = self.bytes.get_mut(start..entry) {
                place.copy_from_slice(&length.to_be_bytes());
            }
            self.ends.push(self.bytes.len());
        }
        Ok(number)
    }

    fn bytes_of(&self, entries: Range<usize>) -> &[u8] {
        let end_of = |count: usize| match count.checked_sub(1) {
            Some(last) => self.ends.get(last).copied().unwrap_or(0),
            None => 0,
        };
        self.bytes.get(end_of(entries.start)..end_of(entries.end)).unwrap_or_default()
    }
}

/// Writes one line and answers its chain value.
fn append(
    buffer: &mut Vec<u8>,
    number: u64,
    before: &[u8; TAG_BYTES],
    (body, key): (&[u8], &MacKey<Journal>),
) -> [u8; TAG_BYTES] {
    let start = buffer.len();
    // A `Vec` takes everything.
    drop(write!(buffer, "{{\"n\":{number}"));
    buffer.extend_from_slice(body);
    let chain = keys::tag_journal(key, before, buffer.get(start..).unwrap_or_default());
    buffer.extend_from_slice(CHAIN_OPENING);
    let digits = buffer.len();
    buffer.resize(digits.saturating_add(chain.len().saturating_mul(2)), b'0');
    // The one error is a place that is not twice as long.
    let _ = hex::encode_to_slice(chain, buffer.get_mut(digits..).unwrap_or_default());
    buffer.extend_from_slice(CHAIN_CLOSING);
    chain
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// What is kept of a buffer that a burst let grow.
const KEPT_BYTES: usize = 512 * 1024;

impl JournalError {
    pub(super) fn write(error: &io::Error) -> Self {
        Self::Write(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Red when each group makes a buffer of its own, or one burst keeps its memory for good.
    #[test]
    fn the_buffer_lives_on_unless_a_burst_let_it_grow() {
        let mut encoded = Encoded::default();
        for (burst, kept) in [(100, 100), (KEPT_BYTES + 1, 0), (50, 50)] {
            encoded.bytes = Vec::with_capacity(burst);
            encoded.bytes.push(7);
            encoded.ends.push(1);
            encoded.leaves.push(Hash([7; 32]));
            encoded.begin([9; TAG_BYTES]);
            assert!(encoded.bytes.capacity() >= kept && encoded.bytes.capacity() <= KEPT_BYTES);
            assert!(
                encoded.bytes.is_empty() && encoded.ends.is_empty() && encoded.leaves.is_empty()
            );
            assert_eq!(encoded.chain, [9; TAG_BYTES]);
        }
    }
}
