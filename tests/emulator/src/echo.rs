//! The ways in which a provider has been seen, or could be made, to write a key back.
//!
//! Invariant: every encoding but `Raw` hides the key from a plain search, and decodes to it.

use std::fmt::Write as _;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

/// How the key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Raw,
    /// Standard base64, the key beginning 0, 1 or 2 bytes into a group.
    Base64(usize),
    /// Base64 of the URL alphabet without padding, likewise.
    Base64Url(usize),
    /// Every byte as `%4B`.
    PercentUpper,
    /// Every byte as `%4b`.
    PercentLower,
    /// Only bytes outside letters and digits as `%2D`.
    PercentPartly,
    /// Every byte as `\u004B`.
    JsonUpper,
    /// Every byte as `\u004b`.
    JsonLower,
    /// Only bytes outside letters and digits as `\u002d`.
    JsonPartly,
    /// Hex digits in capitals.
    HexUpper,
    /// Hex digits in small letters.
    HexLower,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Raw,
        Self::Base64(0),
        Self::Base64(1),
        Self::Base64(2),
        Self::Base64Url(0),
        Self::Base64Url(1),
        Self::Base64Url(2),
        Self::PercentUpper,
        Self::PercentLower,
        Self::PercentPartly,
        Self::JsonUpper,
        Self::JsonLower,
        Self::JsonPartly,
        Self::HexUpper,
        Self::HexLower,
    ];

    /// The name used in `emu-echo-key-<name>`.
    pub fn name(self) -> String {
        match self {
            Self::Raw => "raw".to_owned(),
            Self::Base64(shift) => format!("base64-{shift}"),
            Self::Base64Url(shift) => format!("base64url-{shift}"),
            Self::PercentUpper => "percent-upper".to_owned(),
            Self::PercentLower => "percent-lower".to_owned(),
            Self::PercentPartly => "percent-partly".to_owned(),
            Self::JsonUpper => "json-upper".to_owned(),
            Self::JsonLower => "json-lower".to_owned(),
            Self::JsonPartly => "json-partly".to_owned(),
            Self::HexUpper => "hex-upper".to_owned(),
            Self::HexLower => "hex-lower".to_owned(),
        }
    }

    /// The encoding of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.name() == name)
    }

    /// The key so written. A shifted base64 begins with the group's foreign bytes, as when the
    /// key stands inside a longer encoded text.
    pub fn encode(self, key: &str) -> String {
        String::from_utf8_lossy(&self.encode_bytes(key.as_bytes())).into_owned()
    }

    /// The same of any bytes.
    pub fn encode_bytes(self, key: &[u8]) -> Vec<u8> {
        let text = match self {
            Self::Raw => return key.to_vec(),
            Self::Base64(shift) => STANDARD.encode(shifted(key, shift)),
            Self::Base64Url(shift) => URL_SAFE_NO_PAD.encode(shifted(key, shift)),
            Self::PercentUpper => each(key, |_| true, |text, b| write!(text, "%{b:02X}")),
            Self::PercentLower => each(key, |_| true, |text, b| write!(text, "%{b:02x}")),
            Self::PercentPartly => each(key, odd, |text, b| write!(text, "%{b:02X}")),
            Self::JsonUpper => each(key, |_| true, |text, b| write!(text, "\\u{b:04X}")),
            Self::JsonLower => each(key, |_| true, |text, b| write!(text, "\\u{b:04x}")),
            Self::JsonPartly => each(key, odd, |text, b| write!(text, "\\u{b:04x}")),
            Self::HexUpper => hex::encode_upper(key),
            Self::HexLower => hex::encode(key),
        };
        text.into_bytes()
    }
}

/// Where the written key stands in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the text of an error.
    Error,
    /// In a header of its own.
    Header,
    /// In headers named like those that carry keys.
    KeyHeader,
    /// In the reason phrase.
    Reason,
    /// In a cookie.
    Cookie,
    /// In the location of a redirect, and in that answer's `x-goog-api-key`.
    Redirect,
    /// In the text of a good plain answer.
    Text,
    /// In the text of a good stream, split over its events.
    Stream,
    /// In the raw bytes of an event stream, with no event boundary inside the key.
    Event,
    /// In a trailer.
    Trailer,
    /// In a 103 answer before the real one.
    Interim,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Error,
        Self::Header,
        Self::KeyHeader,
        Self::Reason,
        Self::Cookie,
        Self::Redirect,
        Self::Text,
        Self::Stream,
        Self::Event,
        Self::Trailer,
        Self::Interim,
    ];

    /// The name used in `emu-echo-key-<encoding>-at-<name>`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Header => "header",
            Self::KeyHeader => "keyheader",
            Self::Reason => "reason",
            Self::Cookie => "cookie",
            Self::Redirect => "redirect",
            Self::Text => "text",
            Self::Stream => "stream",
            Self::Event => "event",
            Self::Trailer => "trailer",
            Self::Interim => "interim",
        }
    }

    /// The place of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|place| place.name() == name)
    }
}

fn shifted(key: &[u8], shift: usize) -> Vec<u8> {
    [&b"::"[..shift.min(2)], key].concat()
}

fn odd(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric()
}

fn each(
    key: &[u8],
    escapes: impl Fn(u8) -> bool,
    escape: impl Fn(&mut String, u8) -> std::fmt::Result,
) -> String {
    let mut text = String::new();
    for &byte in key {
        if escapes(byte) {
            escape(&mut text, byte).expect("a string takes any text");
        } else {
            text.push(char::from(byte));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::percent_decoded;

    #[test]
    fn every_encoding_hides_the_key_and_decodes_to_it() {
        let key = "sk-proj_Ab9-~x>?";
        for encoding in Encoding::ALL {
            let text = encoding.encode(key);
            assert_eq!(text.contains(key), encoding == Encoding::Raw, "{encoding:?}");
            let decoded = match encoding {
                Encoding::Raw => text,
                Encoding::Base64(shift) => utf8(STANDARD.decode(text).unwrap()).split_off(shift),
                Encoding::Base64Url(shift) => {
                    utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).split_off(shift)
                }
                Encoding::PercentUpper | Encoding::PercentLower | Encoding::PercentPartly => {
                    percent_decoded(&text)
                }
                Encoding::JsonUpper | Encoding::JsonLower | Encoding::JsonPartly => {
                    serde_json::from_str(&format!("\"{text}\"")).unwrap()
                }
                Encoding::HexUpper | Encoding::HexLower => utf8(hex::decode(text).unwrap()),
            };
            assert_eq!(decoded, key, "{encoding:?}");
        }
    }

    #[test]
    fn names_lead_back_to_what_they_name() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_name(&encoding.name()), Some(encoding));
        }
        for place in Place::ALL {
            assert_eq!(Place::from_name(place.name()), Some(place));
        }
    }

    fn utf8(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }
}
