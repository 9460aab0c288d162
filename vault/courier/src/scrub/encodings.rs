//! The forms in which providers were seen to echo a key.
//!
//! Invariant: the forms stand in one buffer of fixed capacity, so that growing never leaves a copy behind.
//! Invariant: letter case is not told apart when matching, so `%2F` and `%2f`, or hex in either case, are one form.

use zeroize::Zeroizing;

use crate::wiped::WipedVec;

/// The encoded forms of one secret, end to end, in memory that serves one secret after the other.
#[derive(Default)]
pub(crate) struct Encodings {
    /// All forms, one after the other.
    pub(crate) bytes: WipedVec,
    /// Where each form ends in `bytes`.
    pub(crate) ends: Vec<usize>,
}

/// The longest form is at most this many times as long as the secret: `\u00XX` for each byte.
pub(super) const LONGEST_FACTOR: usize = 6;

impl Encodings {
    /// Derives every form of `secret`, each once.
    pub(crate) fn derive(&mut self, secret: &[u8]) {
        let plain = secret.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
        self.ends.clear();
        self.bytes.begin(secret.len() * if plain { 30 } else { 105 });
        self.add(|out| out.extend_from_slice(secret));
        for skipped in 0..3 {
            let from = self.bytes.len();
            self.add(|out| base64(secret, skipped, out));
            if self.bytes[from..].iter().any(|byte| matches!(byte, b'+' | b'/')) {
                self.add(|out| base64_url(secret, skipped, out));
            }
        }
        self.add(|out| write_each(secret, out, |byte| [hex(byte >> 4), hex(byte & 15)]));
        self.add(|out| write_each(secret, out, percent));
        self.add(|out| write_each(secret, out, json_byte_unit));
        if !secret.iter().all(u8::is_ascii_alphanumeric) {
            // Encoders that keep letters and digits only.
            self.add(|out| percent_but(secret, b"", out));
            self.add(|out| json_but_alphanumeric(secret, out));
        }
        if !plain {
            self.add_escapes(secret);
        }
    }

    /// Forgets the secret.
    pub(super) fn wipe(&mut self) {
        self.bytes.wipe();
        self.ends.clear();
    }

    /// Each form.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        self.ends.iter().map(move |&end| &self.bytes[std::mem::replace(&mut from, end)..end])
    }

    /// Appends what `write` writes, unless the same form is there already.
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        let new = &self.bytes[start..];
        let repeated = self.iter().any(|form| form.eq_ignore_ascii_case(new));
        if repeated || new.is_empty() {
            self.bytes.truncate(start);
        } else {
            self.ends.push(self.bytes.len());
        }
    }

    /// Forms that differ from the raw one only for keys with other characters than letters, digits, `-`, `_` and `.`.
    fn add_escapes(&mut self, secret: &[u8]) {
        // RFC 3986, `encodeURIComponent`, `encodeURI` and HTML forms leave different characters alone.
        for kept in ["-_.~", "-_.!~*'()", "-_.!~*'();/?:@&=+$,#", "-_.*"] {
            self.add(|out| percent_but(secret, kept.as_bytes(), out));
        }
        self.add(|out| form(secret, out));
        // Bare minimum, PHP's slashes, Go's and Gson's HTML safety.
        for escaped in ["", "/", "<>&", "<>&='"] {
            self.add(|out| json(secret, escaped.as_bytes(), NonAscii::Raw, out));
            self.add(|out| json(secret, escaped.as_bytes(), NonAscii::Escaped, out));
        }
        if let Ok(text) = std::str::from_utf8(secret) {
            self.add(|out| text.encode_utf16().for_each(|unit| json_unit(unit, out)));
        }
        for skipped in 0..3 {
            self.add(|out| {
                let mut encoded = Zeroizing::new(Vec::with_capacity(secret.len() * 2));
                base64(secret, skipped, &mut encoded);
                json(&encoded, b"/", NonAscii::Raw, out);
            });
        }
    }
}

/// The characters of base64 that `secret` alone decides when `skipped` (0 to 2) bytes stand before it in its group of three.
fn base64(secret: &[u8], skipped: usize, out: &mut Vec<u8>) {
    // The first character that holds no bit of a byte before the secret starts this many bits into it.
    let shared_bits = [0, 4, 2][skipped];
    let character = |bits: u32| STANDARD[(bits & 0x3f) as usize];
    // Four characters from each three bytes and the first bits of the next.
    let mut rest = secret;
    while let [first, second, third, fourth, ..] = *rest {
        let bits = u32::from_be_bytes([first, second, third, fourth]) << shared_bits >> 8;
        out.extend_from_slice(&[18, 12, 6, 0].map(|shift| character(bits >> shift)));
        rest = &rest[3..];
    }
    let mut bits = rest.len() * 8 - shared_bits;
    let pending = rest.iter().fold(0, |pending, &byte| pending << 8 | u32::from(byte));
    while bits >= 6 {
        bits -= 6;
        out.push(character(pending >> bits));
    }
}

/// The same in the URL-safe alphabet.
fn base64_url(secret: &[u8], skipped: usize, out: &mut Vec<u8>) {
    let start = out.len();
    base64(secret, skipped, out);
    for character in &mut out[start..] {
        *character = match *character {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        };
    }
}

/// Writes `N` characters for each byte, in one pass that needs no look at the room for each.
fn write_each<const N: usize>(secret: &[u8], out: &mut Vec<u8>, write: impl Fn(u8) -> [u8; N]) {
    let start = out.len();
    out.resize(start + secret.len() * N, 0);
    for (place, &byte) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(secret) {
        *place = write(byte);
    }
}

/// The hex digit of a value below 16.
fn hex(value: u8) -> u8 {
    value + if value < 10 { b'0' } else { b'a' - 10 }
}

fn percent(byte: u8) -> [u8; 3] {
    [b'%', hex(byte >> 4), hex(byte & 15)]
}

fn json_byte_unit(byte: u8) -> [u8; 6] {
    [b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]
}

fn percent_but(secret: &[u8], kept: &[u8], out: &mut Vec<u8>) {
    for &byte in secret {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&percent(byte));
        }
    }
}

fn json_but_alphanumeric(secret: &[u8], out: &mut Vec<u8>) {
    for &byte in secret {
        if byte.is_ascii_alphanumeric() {
            out.push(byte);
        } else {
            out.extend_from_slice(&json_byte_unit(byte));
        }
    }
}

/// `application/x-www-form-urlencoded`: a blank is `+`.
fn form(secret: &[u8], out: &mut Vec<u8>) {
    for &byte in secret {
        match byte {
            b' ' => out.push(b'+'),
            b'-' | b'_' | b'.' | b'*' => out.push(byte),
            _ if byte.is_ascii_alphanumeric() => out.push(byte),
            _ => out.extend_from_slice(&percent(byte)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum NonAscii {
    Raw,
    Escaped,
}

/// A JSON string's inside: `/` escaped with a backslash, the other `escaped` characters with `\u00XX`.
fn json(secret: &[u8], escaped: &[u8], non_ascii: NonAscii, out: &mut Vec<u8>) {
    let text = std::str::from_utf8(secret).ok().filter(|_| non_ascii == NonAscii::Escaped);
    let Some(text) = text else {
        for &byte in secret {
            json_byte(byte, escaped, out);
        }
        return;
    };
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => json_byte(byte, escaped, out),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    json_unit(*unit, out);
                }
            }
        }
    }
}

fn json_byte(byte: u8, escaped: &[u8], out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'/' if escaped.contains(&byte) => out.extend_from_slice(b"\\/"),
        _ if escaped.contains(&byte) => json_unit(u16::from(byte), out),
        _ => out.push(byte),
    }
}

fn json_unit(unit: u16, out: &mut Vec<u8>) {
    let [high, low] = unit.to_be_bytes();
    out.extend_from_slice(b"\\u");
    out.extend_from_slice(&[high >> 4, high & 15, low >> 4, low & 15].map(hex));
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    use super::*;

    fn all(secret: &[u8]) -> Vec<Vec<u8>> {
        let mut made = Encodings::default();
        made.derive(secret);
        made.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn base64_of_any_surrounding_holds_one_of_the_forms() {
        let secret = b"sk-proj-\xff\xfe?>/0123456789";
        let forms = all(secret);
        for before in 0..6 {
            for after in 0..6 {
                let text = [&vec![b'x'; before][..], secret, &vec![b'y'; after]].concat();
                for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    let found = forms
                        .iter()
                        .any(|form| memchr::memmem::find(encoded.as_bytes(), form).is_some());
                    assert!(found, "{before} before, {after} after");
                }
            }
        }
    }

    #[test]
    fn a_plain_key_has_nine_forms_and_each_stands_once() {
        let forms = all(b"sk-ant-REDACTED");
        assert_eq!(
            forms.len(),
            9,
            "raw, three alignments, hex, percent and JSON, each whole and in part"
        );
    }

    #[test]
    fn the_buffer_never_grows() {
        for secret in
            [&[0xff_u8; 100][..], &[b'a'; 100], &[b'/'; 100], "ü€/<&\"".repeat(9).as_bytes()]
        {
            let plain = secret[0] == b'a';
            let mut made = Encodings::default();
            made.derive(secret);
            assert_eq!(made.bytes.capacity(), secret.len() * if plain { 30 } else { 105 });
        }
    }

    #[test]
    fn no_form_is_longer_than_the_cap_allows() {
        for secret in ["a".repeat(20), "ü".repeat(10), "€".repeat(7), "\u{1f511}".repeat(5)] {
            for form in all(secret.as_bytes()) {
                assert!(form.len() <= secret.len() * LONGEST_FACTOR);
            }
        }
    }
}
