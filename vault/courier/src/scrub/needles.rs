//! Finds any of a few dozen needles in a text, skipping most of it (Wu and Manber, 1994).
//!
//! Why not an automaton: a DFA over every form of a key costs about a megabyte and a millisecond to build, would have to be
//! kept between calls, and hides copies of the key in its tables. This table is 4 KiB and takes a microsecond.
//!
//! Invariant: a needle is found wherever it stands, letter case aside.
//! Invariant: the needles and the table are wiped on drop.

use zeroize::Zeroizing;

use super::encodings::Encodings;

/// What is looked for.
pub(super) struct Needles {
    forms: Encodings,
    /// Bytes of each needle's start that the table knows: the length of the shortest, at most `MAX_WINDOW_BYTES`.
    window: usize,
    /// How far a window may move, by the hash of its last three bytes. Eight entries to a word, so that wiping is cheap.
    shifts: Box<Zeroizing<[u64; SHIFT_WORDS]>>,
}

/// Where a needle stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Needles {
    pub(super) fn new(forms: Encodings) -> Self {
        let mut from = 0;
        let mut window = MAX_WINDOW_BYTES;
        for &end in &forms.ends {
            window = window.min(end - from);
            from = end;
        }
        let window = window.max(BLOCK_BYTES);
        let longest_shift = (window - BLOCK_BYTES + 1).to_le_bytes()[0];
        let mut shifts =
            Box::new(Zeroizing::new([u64::from_le_bytes([longest_shift; 8]); SHIFT_WORDS]));
        let mut from = 0;
        for &end in &forms.ends {
            let start = &forms.bytes[from..end.min(from + window)];
            for (offset, block) in start.windows(BLOCK_BYTES).enumerate() {
                let shift = (start.len() - BLOCK_BYTES - offset).to_le_bytes()[0];
                lower(&mut shifts, hash(block[0], block[1], block[2]), shift);
            }
            from = end;
        }
        Self { forms, window, shifts }
    }

    /// The first needle that starts at `from` or later; of several that start there, the longest.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<Hit> {
        let mut last = from + self.window - 1;
        while last < text.len() {
            let slot = hash(text[last - 2], text[last - 1], text[last]);
            let shift = self.shifts[slot / 8].to_le_bytes()[slot % 8];
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
        let mut from = 0;
        let mut longest = None;
        for &end in &self.forms.ends {
            let needle = &self.forms.bytes[from..end];
            from = end;
            let stands = text
                .get(start..start + needle.len())
                .is_some_and(|candidate| candidate.eq_ignore_ascii_case(needle));
            if stands {
                longest = longest.max(Some(start + needle.len()));
            }
        }
        longest
    }
}

fn lower(shifts: &mut [u64; SHIFT_WORDS], slot: usize, shift: u8) {
    let mut word = shifts[slot / 8].to_le_bytes();
    word[slot % 8] = word[slot % 8].min(shift);
    shifts[slot / 8] = u64::from_le_bytes(word);
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
const SHIFT_WORDS: usize = 4096 / 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(list: &[&str]) -> Needles {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for needle in list {
            bytes.extend_from_slice(needle.as_bytes());
            ends.push(bytes.len());
        }
        Needles::new(Encodings { bytes, ends })
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
