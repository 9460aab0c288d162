//! A share as people write it down and type it in. This form is final: a printed share lasts years.
//!
//! ```text
//! srs1-ggggggg?-ggggggg?-… (16 groups of 8)
//! ```
//!
//! The 66 bytes of the share and 4 of checksum are 560 bits, so 112 characters of 5 bits in
//! Crockford's alphabet (no i, l, o, u). Each group is 7 of them and one check character, so that
//! the group with the mistype is named: `check = group + 1·c1 + 3·c2 + … + 13·c7 (mod 32)`, with
//! groups counted from 1. The odd weights find every single wrong character. Read leniently: case,
//! spaces, dashes and line breaks do not matter, i and l are 1, o is 0.
//!
//! Invariant: what `parse` takes and `write` gives back differ in spelling only.
//! Distrusts: what was typed.

use strongroom_sys::Secret;
use zeroize::Zeroizing;

use super::shares::{BODY_BYTES, POINT_BYTES, SHARE_VERSION, SetId, Share};
use crate::keys;

/// Why a text is not a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadShareText {
    /// It does not begin with `srs1`.
    #[error("a share begins with srs1-")]
    NotAShare,
    /// A character that no share has.
    #[error("group {group} has a character that no share has")]
    Character {
        /// From 1.
        group: u8,
    },
    /// Too many or too few characters.
    #[error("a share has 16 groups of 8 characters after srs1, this has {characters} characters")]
    Length {
        /// How many there were, counted up to 255.
        characters: u8,
    },
    /// The check character does not fit.
    #[error("group {group} is mistyped")]
    Mistyped {
        /// From 1.
        group: u8,
    },
    /// Every group fits, the whole does not: several mistypes.
    #[error("the share is mistyped in more than one place")]
    Checksum,
    /// Of a newer Strongroom.
    #[error("this share is of version {0}, which this program does not know")]
    UnknownVersion(u8),
    /// It says what no share says.
    #[error("this is not a share that was ever handed out")]
    Impossible,
}

const PREFIX: &[u8] = b"srs1";
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const GROUPS: usize = 16;
const GROUP_CHARACTERS: usize = 8;
const CHARACTERS: usize = GROUPS * GROUP_CHARACTERS;
const TEXT_BYTES: usize = BODY_BYTES + 4;
const WEIGHTS: [u8; 7] = [1, 3, 5, 7, 9, 11, 13];

impl Share {
    /// The share as text: 148 bytes of ASCII.
    pub fn write(&self) -> Secret {
        let mut text = Zeroizing::new(Vec::with_capacity(
            PREFIX.len().saturating_add(CHARACTERS).saturating_add(GROUPS),
        ));
        text.extend_from_slice(PREFIX);
        let values = self.body(|body| {
            let checksum = keys::checksum_share(body);
            values_of(body.iter().chain(&checksum))
        });
        for (number, group) in (1_u8..).zip(values.chunks(WEIGHTS.len())) {
            text.push(b'-');
            text.extend(group.iter().chain([&check(number, group)]).map(|value| letter(*value)));
        }
        Secret::copy_from(&text)
    }

    /// Reads a share that somebody typed.
    ///
    /// # Errors
    /// Names the first group that is wrong.
    pub fn parse(typed: &[u8]) -> Result<Self, BadShareText> {
        let mut letters = Zeroizing::new(Vec::with_capacity(CHARACTERS.saturating_add(8)));
        let all = typed.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'-');
        letters.extend(all.take(256).map(u8::to_ascii_lowercase));
        let letters = letters.strip_prefix(PREFIX).ok_or(BadShareText::NotAShare)?;

        let mut values = Zeroizing::new(Vec::with_capacity(CHARACTERS));
        for (number, group) in (1_u8..).zip(letters.chunks(GROUP_CHARACTERS)) {
            for byte in group {
                values.push(value(*byte).ok_or(BadShareText::Character { group: number })?);
            }
        }
        if values.len() != CHARACTERS {
            let characters = u8::try_from(values.len()).unwrap_or(u8::MAX);
            return Err(BadShareText::Length { characters });
        }
        let mut data = Zeroizing::new(Vec::with_capacity(CHARACTERS));
        let (groups, _) = values.as_chunks::<GROUP_CHARACTERS>();
        for (number, [group @ .., last]) in (1_u8..).zip(groups) {
            if check(number, group) != *last {
                return Err(BadShareText::Mistyped { group: number });
            }
            data.extend_from_slice(group);
        }
        Self::of_bytes(&bytes_of(&data))
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, BadShareText> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(BadShareText::Checksum)?;
        if keys::checksum_share(body) != *checksum {
            return Err(BadShareText::Checksum);
        }
        let ([version], rest) = take(body)?;
        if *version != SHARE_VERSION {
            return Err(BadShareText::UnknownVersion(*version));
        }
        let (set, rest) = take(rest)?;
        let (vault, rest) = take(rest)?;
        let ([threshold, count], rest) = take(rest)?;
        let (point, rest) = take::<POINT_BYTES>(rest)?;
        let (mac, _) = take(rest)?;
        let share = Self {
            set: SetId(*set),
            vault: *vault,
            threshold: *threshold,
            count: *count,
            point: Secret::copy_from(point),
            mac: *mac,
        };
        let index = share.index();
        if index == 0 || index > *count || *threshold < 2 || threshold > count {
            return Err(BadShareText::Impossible);
        }
        Ok(share)
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), BadShareText> {
    bytes.split_first_chunk().ok_or(BadShareText::Impossible)
}

fn check(group: u8, values: &[u8]) -> u8 {
    let sum = values
        .iter()
        .zip(WEIGHTS)
        .fold(group, |sum, (value, weight)| sum.wrapping_add(value.wrapping_mul(weight)));
    sum & 31
}

/// 8 bits in, 5 bits out, most significant first; 560 divides by both.
fn values_of<'a>(bytes: impl Iterator<Item = &'a u8>) -> Zeroizing<Vec<u8>> {
    let mut values = Zeroizing::new(Vec::with_capacity(CHARACTERS));
    let (mut held, mut bits) = (0_u16, 0_u32);
    for byte in bytes {
        held = (held << 8) | u16::from(*byte);
        bits = bits.saturating_add(8);
        while bits >= 5 {
            bits = bits.saturating_sub(5);
            let [_, value] = held.wrapping_shr(bits).to_be_bytes();
            values.push(value & 31);
        }
    }
    values
}

fn bytes_of(values: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(TEXT_BYTES));
    let (mut held, mut bits) = (0_u16, 0_u32);
    for value in values {
        held = (held << 5) | u16::from(*value);
        bits = bits.saturating_add(5);
        if bits >= 8 {
            bits = bits.saturating_sub(8);
            let [_, byte] = held.wrapping_shr(bits).to_be_bytes();
            bytes.push(byte);
        }
    }
    bytes
}

/// Looks at every letter, so that the time does not tell which one it was.
fn letter(value: u8) -> u8 {
    (0_u8..).zip(ALPHABET).fold(0, |found, (index, letter)| {
        found | (letter & 0_u8.wrapping_sub(u8::from(index == value)))
    })
}

fn value(byte: u8) -> Option<u8> {
    let byte = match byte {
        b'i' | b'l' => b'1',
        b'o' => b'0',
        other => other,
    };
    (0_u8..).zip(ALPHABET).fold(
        None,
        |found, (index, letter)| {
            if *letter == byte { Some(index) } else { found }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{RootKey, StoreId};
    use crate::seal::shares::tests::golden_random;
    use crate::seal::shares::{interpolate, split_root};

    /// Shares 1, 2 and 3 of 2 of 3, of the root 00 01 … 1f in the vault a0 a1 … af. Printed shares
    /// outlive programs: these three lines never change.
    const GOLDEN: [&str; 3] = [
        "srs1-05w6y0cg-jy2sa18m-d2mejabv-9n7081jc-4b01vc3f-a4tkt0bw-bhv0wx3e-j3n72696-\
         v59b5h7g-8rqt8vg4-n7m6nrgr-0r17sj96-8yh3sf7t-j7f2pyvx-1zgm8tby-dmew8etq",
        "srs1-05w6y0cg-jy2sa18m-d2mejabv-9n7081m6-8pr4n000-51qqx3jj-q2801n5x-w3veext5-\
         ky8m7b7x-hn3djnc9-brfnn2js-9r2rjq28-z5zkm6mn-e732178c-9cz96wnh-r2ym52rb",
        "srs1-05w6y0cg-jy2sa18m-d2mejabv-9n7081p0-cxg7e01m-ffcm02s5-r372547d-t7eq8v29-\
         ak8eaz8d-ff8vvwt4-e4r3ebyf-er3zmr9v-n6hteq31-d9nb32pv-16dkhnp6-972dfb8v",
    ];

    fn golden() -> Vec<Share> {
        let root: Vec<u8> = (0..32).collect();
        let root = RootKey::from_secret(Secret::copy_from(&root)).unwrap();
        let mut vault = [0; 16];
        (0xa0..).zip(&mut vault).for_each(|(value, byte)| *byte = value);
        split_root(&root, StoreId(vault), (2, 3), &mut golden_random()).unwrap().1
    }

    fn text(share: &Share) -> String {
        share.write().expose(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn golden_shares_are_written_and_read_for_ever() {
        for (share, golden) in golden().iter().zip(GOLDEN) {
            assert_eq!(text(share), golden);
            assert_eq!(text(&Share::parse(golden.as_bytes()).unwrap()), golden);
        }
    }

    #[test]
    fn golden_shares_still_give_their_root() {
        let [_, two, three] = GOLDEN.map(|golden| Share::parse(golden.as_bytes()).unwrap());
        let root: Vec<u8> = (0..32).collect();
        assert!(interpolate(&[two, three]).unwrap().matches(&root));
    }

    #[test]
    fn case_spaces_and_look_alike_letters_do_not_matter() {
        let golden = text(&golden()[1]);
        let shouted = golden.to_uppercase().replace('-', "  \n");
        assert_eq!(text(&Share::parse(shouted.as_bytes()).unwrap()), golden);
        let (prefix, body) = golden.split_at(4);
        let handwritten = format!("{prefix}{}", body.replace('0', "O").replace('1', "l"));
        assert_eq!(text(&Share::parse(handwritten.as_bytes()).unwrap()), golden);
    }

    // Guards the check characters. Red when a weight is even or the group's number is left out.
    #[test]
    fn every_single_wrong_character_is_found_and_its_group_is_named() {
        let golden = text(&golden()[0]);
        for at in 5..golden.len() {
            let group = u8::try_from((at - 5) / 9 + 1).unwrap();
            for wrong in ALPHABET {
                let mut typed = golden.clone().into_bytes();
                if typed[at] == b'-' || typed[at] == *wrong {
                    continue;
                }
                typed[at] = *wrong;
                assert_eq!(Share::parse(&typed).unwrap_err(), BadShareText::Mistyped { group });
            }
        }
    }

    #[test]
    fn two_groups_in_the_wrong_order_and_swapped_neighbours_are_found() {
        let golden = text(&golden()[0]);
        let mut groups: Vec<&str> = golden.split('-').collect();
        groups.swap(3, 4);
        assert!(Share::parse(groups.join("-").as_bytes()).is_err());
        for at in 5..golden.len() - 1 {
            let mut typed = golden.clone().into_bytes();
            if typed[at] == typed[at + 1] || typed[at] == b'-' || typed[at + 1] == b'-' {
                continue;
            }
            typed.swap(at, at + 1);
            assert!(Share::parse(&typed).is_err(), "at {at}");
        }
    }

    #[test]
    fn what_is_not_a_share_is_said_plainly() {
        let golden = text(&golden()[0]);
        let parse = |typed: &str| Share::parse(typed.as_bytes()).unwrap_err();
        assert_eq!(parse(""), BadShareText::NotAShare);
        assert_eq!(parse("sr_abc"), BadShareText::NotAShare);
        assert_eq!(parse("srs1-"), BadShareText::Length { characters: 0 });
        assert_eq!(parse(&golden[..140]), BadShareText::Length { characters: 120 });
        assert_eq!(parse(&format!("{golden}0")), BadShareText::Length { characters: 129 });
        assert_eq!(parse(&golden.replacen('-', "-u", 1)), BadShareText::Character { group: 1 });
        assert_eq!(parse("srs1-é"), BadShareText::Character { group: 1 });
        let endless = format!("srs1-{}", "0".repeat(100_000));
        assert!(matches!(parse(&endless), BadShareText::Length { .. }));
    }

    #[test]
    fn a_share_of_a_newer_version_or_with_impossible_numbers_is_refused() {
        let bytes = golden()[0].body(<[u8]>::to_vec);
        let refused = |at: usize, value: u8| {
            let mut body = bytes.clone();
            body[at] = value;
            let checksum = keys::checksum_share(&body);
            Share::of_bytes(&[body.as_slice(), &checksum].concat()).unwrap_err()
        };
        assert_eq!(refused(0, 2), BadShareText::UnknownVersion(2));
        for (at, value) in [(15, 0), (15, 1), (15, 4), (16, 0), (49, 0), (49, 4)] {
            assert_eq!(refused(at, value), BadShareText::Impossible, "byte {at} = {value}");
        }
    }
}
