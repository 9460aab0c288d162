//! Finds any of a few dozen needles in a text, skipping most of it (Wu and Manber, 1994).
//!
//! Why not an automaton: a DFA over every form of a key costs about a megabyte and a millisecond to build, would have to be
//! kept between calls, and hides copies of the key in its tables. This table is 4 KiB and takes half a microsecond.
//!
//! Invariant: a needle is found wherever it stands, letter case aside.
//! Invariant: the memory of needles and table is kept from call to call; its content is wiped at the end of each, and on drop.

use super::encodings::Encodings;
use crate::wiped::wipe;

/// What is looked for, in memory that serves one secret after the other.
pub(super) struct Needles {
    forms: Encodings,
    /// Bytes of each needle's start that the table knows: the length of the shortest, at most `MAX_WINDOW_BYTES`.
    window: usize,
    /// How far a window may move, by the hash of its last three bytes.
    shifts: Box<[u8; SLOTS]>,
}

/// Where a needle stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Default for Needles {
    fn default() -> Self {
        Self { forms: Encodings::default(), window: BLOCK_BYTES, shifts: Box::new([0; SLOTS]) }
    }
}

impl Needles {
    /// Looks for the forms of this secret from now on.
    pub(super) fn derive(&mut self, secret: &[u8]) {
        self.forms.derive(secret);
        self.fill_table();
    }

    /// Forgets the secret.
    pub(super) fn wipe(&mut self) {
        self.forms.wipe();
        wipe(&mut self.shifts[..]);
    }

    fn fill_table(&mut self) {
        let shortest = self.forms.iter().map(<[u8]>::len).min().unwrap_or_default();
        self.window = shortest.clamp(BLOCK_BYTES, MAX_WINDOW_BYTES);
        let longest_shift = narrow(self.window - BLOCK_BYTES + 1);
        self.shifts.fill(longest_shift);
        for form in self.forms.iter() {
            let start = &form[..form.len().min(self.window)];
            // The first block may move furthest; a later one that falls into the same slot lowers it.
            let mut shift = narrow(start.len().saturating_sub(BLOCK_BYTES));
            for block in start.windows(BLOCK_BYTES) {
                let slot = &mut self.shifts[hash(block[0], block[1], block[2])];
                *slot = shift.min(*slot);
                shift = shift.saturating_sub(1);
            }
        }
    }

    /// The first needle that starts at `from` or later; of several that start there, the longest.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<Hit> {
        let mut last = from + self.window - 1;
        while last < text.len() {
            let slot = hash(text[last - 2], text[last - 1], text[last]);
            let shift = self.shifts[slot];
            if shift == 0 {
                let start = last + 1 - self.window;
                if let Some(end) = self.longest_at(text, start) {
                    return Some(Hit { start, end });
                }
                last += 1;
            } else {
                last += usize::from(shift);
            }
        }
        None
    }

    fn longest_at(&self, text: &[u8], start: usize) -> Option<usize> {
        let stands = |needle: &&[u8]| {
            text.get(start..start + needle.len())
                .is_some_and(|candidate| candidate.eq_ignore_ascii_case(needle))
        };
        self.forms.iter().filter(stands).map(|needle| start + needle.len()).max()
    }
}

impl Drop for Needles {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Lengths up to `MAX_WINDOW_BYTES`.
fn narrow(length: usize) -> u8 {
    length.to_le_bytes()[0]
}

/// Folds letter case (and a few other pairs, which `longest_at` tells apart) before hashing.
fn hash(first: u8, second: u8, third: u8) -> usize {
    let block = u32::from_le_bytes([first, second, third, 0]) | 0x0020_2020;
    // 4096 slots: the upper 12 bits of Fibonacci hashing.
    (block.wrapping_mul(0x9E37_79B1) >> 20) as usize
}

const BLOCK_BYTES: usize = 3;
/// Longer windows skip further but fill the table: at 32 bytes a dozen needles take about a tenth of the slots.
const MAX_WINDOW_BYTES: usize = 32;
const SLOTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiped::tests::memory_at;

    fn needles(list: &[&str]) -> Needles {
        let mut needles = Needles::default();
        for needle in list {
            needles.forms.bytes.extend_from_slice(needle.as_bytes());
            needles.forms.ends.push(needles.forms.bytes.len());
        }
        needles.fill_table();
        needles
    }

    #[test]
    fn nothing_of_a_secret_is_left_after_it() {
        let mut needles = Needles::default();
        needles.derive(b"sk-proj-0123456789abcdef");
        let (forms, length) = (needles.forms.bytes.as_ptr(), needles.forms.bytes.capacity());
        assert!(memory_at(forms, length).iter().any(|&byte| byte != 0));
        needles.wipe();
        assert_eq!(needles.forms.bytes.as_ptr(), forms, "the memory is kept");
        assert!(memory_at(forms, length).iter().all(|&byte| byte == 0));
        assert_eq!(needles.shifts[..], [0; SLOTS]);
        assert!(needles.forms.ends.is_empty());
    }

    #[test]
    fn a_needle_is_found_at_every_offset_and_in_either_case() {
        let needles = needles(&["the-quick-brown-fox-jumps-over-the-lazy-dog", "0123456789abcdef"]);
        for offset in 0..70 {
            for needle in ["THE-quick-brown-fox-jumps-over-the-lazy-DOG", "0123456789ABCDEF"] {
                let text = format!("{}{needle}tail", "x".repeat(offset));
                let hit = needles.find(text.as_bytes(), 0);
                assert_eq!(hit, Some(Hit { start: offset, end: offset + needle.len() }));
            }
        }
    }

    #[test]
    fn the_longest_needle_at_a_place_wins() {
        let needles = needles(&["0123456789abcdef", "0123456789abcdefghij"]);
        assert_eq!(needles.find(b"..0123456789abcdefghij", 0), Some(Hit { start: 2, end: 22 }));
        assert_eq!(needles.find(b"..0123456789abcdefghix", 0), Some(Hit { start: 2, end: 18 }));
    }

    #[test]
    fn a_text_shorter_than_the_needle_has_none() {
        let needles = needles(&["0123456789abcdef"]);
        for end in 0..16 {
            assert_eq!(needles.find(&b"0123456789abcdef"[..end], 0), None);
        }
    }
}
