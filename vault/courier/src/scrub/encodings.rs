//! The forms in which providers were seen to echo a key.
//!
//! Invariant: the forms stand in one buffer of fixed capacity, so that growing never leaves a copy behind.
//! Invariant: letter case is not told apart when matching, so `%2F` and `%2f`, or hex in either case, are one form.

use zeroize::Zeroizing;

/// The encoded forms of one secret, end to end; wiped on drop.
pub(super) struct Encodings {
    /// All forms, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Where each form ends in `bytes`.
    pub(super) ends: Vec<usize>,
}

impl Drop for Encodings {
    fn drop(&mut self) {
        // `Zeroizing` writes byte by byte, which costs more than all the matching of a call. A fill whose result is shown to
        // an opaque reader is not optimised away; the allocator wipes once more, spare capacity included.
        self.bytes.fill(0);
        std::hint::black_box(&self.bytes);
    }
}

/// The longest form is at most this many times as long as the secret: `\u00XX` for each byte.
pub(super) const LONGEST_FACTOR: usize = 6;

/// Derives every form of `secret`, each once.
pub(super) fn encodings(secret: &[u8]) -> Encodings {
    let plain = secret.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
    let mut forms = Forms::with_capacity(secret.len() * if plain { 30 } else { 105 });
    forms.add(|out| out.extend_from_slice(secret));
    for skipped in 0..3 {
        forms.add(|out| base64(secret, skipped, out));
        forms.add(|out| base64_url(secret, skipped, out));
    }
    forms.add(|out| secret.iter().for_each(|&byte| hex(byte, out)));
    forms.add(|out| secret.iter().for_each(|&byte| percent(byte, out)));
    forms.add(|out| secret.iter().for_each(|&byte| json_unit(u16::from(byte), out)));
    // Encoders that keep letters and digits only.
    forms.add(|out| percent_but(secret, b"", out));
    forms.add(|out| json_but_alphanumeric(secret, out));
    if !plain {
        forms.add_escapes(secret);
    }
    forms.done
}

struct Forms {
    done: Encodings,
}

impl Forms {
    fn with_capacity(bytes: usize) -> Self {
        Self { done: Encodings { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(32) } }
    }

    /// Appends what `write` writes, unless the same form is there already.
    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.done.bytes.len();
        write(&mut self.done.bytes);
        let mut from = 0;
        let (known, new) = self.done.bytes.split_at(start);
        let repeated = self.done.ends.iter().any(|&end| {
            let form = &known[from..end];
            from = end;
            form.eq_ignore_ascii_case(new)
        });
        if repeated || new.is_empty() {
            self.done.bytes.truncate(start);
        } else {
            self.done.ends.push(self.done.bytes.len());
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
    let mut bits = 0_u32;
    let mut pending = 0_u32;
    for (index, &byte) in secret.iter().enumerate() {
        pending = pending << 8 | u32::from(byte);
        bits += if index == 0 { 8 - shared_bits } else { 8 };
        while bits >= 6 {
            bits -= 6;
            out.push(STANDARD[(pending >> bits & 0x3f) as usize]);
        }
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

fn hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

fn percent(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

fn percent_but(secret: &[u8], kept: &[u8], out: &mut Vec<u8>) {
    for &byte in secret {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(byte);
        } else {
            percent(byte, out);
        }
    }
}

fn json_but_alphanumeric(secret: &[u8], out: &mut Vec<u8>) {
    for &byte in secret {
        if byte.is_ascii_alphanumeric() {
            out.push(byte);
        } else {
            json_unit(u16::from(byte), out);
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
            _ => percent(byte, out),
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
    let digit = |byte: u8, shift: u32| HEX[usize::from(byte >> shift & 15)];
    let digits = [digit(high, 4), digit(high, 0), digit(low, 4), digit(low, 0)];
    out.extend_from_slice(&[b'\\', b'u', digits[0], digits[1], digits[2], digits[3]]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

    use super::*;

    fn all(secret: &[u8]) -> Vec<Vec<u8>> {
        let made = encodings(secret);
        let mut from = 0;
        made.ends
            .iter()
            .map(|&end| {
                let form = made.bytes[from..end].to_vec();
                from = end;
                form
            })
            .collect()
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
            let made = encodings(secret);
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
