//! The headers of one part of a form, and what the part means for the claims.
//!
//! Invariant: a part has one name, in visible ASCII without quotes, escapes or a second charset.
//! Distrusts: every byte.

use super::name::is_alike;
use super::{BodyError, FormFlaw, Shown};

/// What a part's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) carries: Carries,
}

/// What a part carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// A value in plain UTF-8 text.
    Text,
    /// A value of a declared type.
    Typed,
    /// A file: it has a file name.
    File,
}

/// What a part's value does to the claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Free,
    Model,
    Stream,
    Answers,
    /// An address that the provider fetches.
    Address,
    /// An id of an object in the account.
    Reference,
}

/// Longest name of a part; the API's own are below 40 bytes.
const MAX_NAME_BYTES: usize = 64;

/// Names that decide, with the bit that remembers them.
const DECIDING: [(&str, Role, u8); 3] =
    [("model", Role::Model, 1), ("stream", Role::Stream, 2), ("n", Role::Answers, 4)];
/// Names that reach elsewhere, at any level of `a[b][c]`.
const REACHING: [(&str, Role); 6] = [
    ("image_url", Role::Address),
    ("file_url", Role::Address),
    ("url", Role::Address),
    ("file_id", Role::Reference),
    ("file_ids", Role::Reference),
    ("vector_store_ids", Role::Reference),
];

impl Role {
    /// The role of a part by its name, and the bit that remembers a name that may come once.
    ///
    /// # Errors
    /// For another spelling of a name that decides: `Model`, `model[]`, `[model]`.
    pub(super) fn of(name: &str) -> Result<(Self, u8), BodyError> {
        let mut levels = name.split(['[', ']']).filter(|level| !level.is_empty());
        if let Some(base) = levels.clone().next() {
            if is_alike(base, "models") {
                return Err(BodyError::ModelList("models"));
            }
            if let Some((expected, role, bit)) =
                DECIDING.into_iter().find(|(listed, _, _)| is_alike(base, listed))
            {
                let found = Shown::of(name);
                let right = name == expected;
                return right.then_some((role, bit)).ok_or(BodyError::Spelling { found, expected });
            }
        }
        let reaching = levels
            .find_map(|level| REACHING.into_iter().find(|(listed, _)| is_alike(level, listed)));
        Ok((reaching.map_or(Self::Free, |(_, role)| role), 0))
    }

    /// The name in the API, for errors.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Free => "part",
            Self::Model => "model",
            Self::Stream => "stream",
            Self::Answers => "n",
            Self::Address => "url",
            Self::Reference => "file_id",
        }
    }
}

impl Head {
    /// Reads the headers of a part, each line with its CRLF, without the empty line.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, FormFlaw> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormFlaw::Header)?;
        let text = text.strip_suffix("\r\n").ok_or(FormFlaw::Header)?;
        let (mut disposition, mut media) = (None, None);
        for line in text.split("\r\n") {
            if line.chars().any(char::is_control) {
                return Err(FormFlaw::Header);
            }
            let (field, value) = line.split_once(':').ok_or(FormFlaw::Header)?;
            let slot = match field {
                _ if field.eq_ignore_ascii_case("content-disposition") => &mut disposition,
                _ if field.eq_ignore_ascii_case("content-type") => &mut media,
                _ => return Err(FormFlaw::Header),
            };
            if slot.replace(value.trim_matches(' ')).is_some() {
                return Err(FormFlaw::Header);
            }
        }
        let (name, has_file) = disposition.and_then(read_disposition).ok_or(FormFlaw::Header)?;
        let carries = match media {
            _ if has_file => Carries::File,
            Some(media) if !is_plain_text(media) => Carries::Typed,
            Some(_) | None => Carries::Text,
        };
        Ok(Self { name: name.to_owned(), carries })
    }
}

/// `form-data; name="…"` and perhaps `; filename="…"`, in this order, which every client writes.
fn read_disposition(value: &str) -> Option<(&str, bool)> {
    let kind = value.get(..FORM_DATA.len())?;
    let rest = value.get(FORM_DATA.len()..)?;
    let (name, rest) = read_parameter(rest, "name")?;
    // `_charset_` would change how the other parts are read (RFC 7578, 4.6).
    let good = kind.eq_ignore_ascii_case(FORM_DATA)
        && (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-[]".contains(&b))
        && name != "_charset_";
    if !good {
        return None;
    }
    if rest.is_empty() {
        return Some((name, false));
    }
    let (_, rest) = read_parameter(rest, "filename")?;
    rest.is_empty().then_some((name, true))
}

const FORM_DATA: &str = "form-data";

/// `; key="value"`: the value holds no quote and no backslash, about which clients and parsers disagree.
fn read_parameter<'t>(text: &'t str, key: &str) -> Option<(&'t str, &'t str)> {
    let text = text.strip_prefix(';')?.trim_start_matches(' ');
    let text = text.strip_prefix(key)?.strip_prefix("=\"")?;
    let (value, rest) = text.split_once('"')?;
    (!value.contains('\\')).then_some((value, rest))
}

fn is_plain_text(media: &str) -> bool {
    let compact: String = media.chars().filter(|c| *c != ' ').collect();
    ["text/plain", "text/plain;charset=utf-8"].iter().any(|p| compact.eq_ignore_ascii_case(p))
}

#[cfg(test)]
mod tests {
    use super::{Carries, Head, Role};

    #[test]
    fn a_part_that_clients_send_is_read() {
        let head = |text: &str| Head::parse(text.as_bytes()).map(|h| (h.name, h.carries)).ok();
        let file = "content-disposition: form-data; name=\"file\"; filename=\"é 100%.mp3\"\r\n\
                    Content-Type: audio/mpeg\r\n";
        assert_eq!(head(file), Some(("file".to_owned(), Carries::File)));
        let field = "Content-Disposition: form-data; name=\"timestamp_granularities[]\"\r\n";
        assert_eq!(head(field), Some(("timestamp_granularities[]".to_owned(), Carries::Text)));
    }

    #[test]
    fn headers_that_parsers_read_differently_are_refused() {
        for bad in [
            "",
            "\r\n",
            "Content-Disposition: form-data\r\n",
            "Content-Type: text/plain\r\n",
            "Content-Disposition: form-data; name=model\r\n",
            "Content-Disposition: form-data; name=\"mod\\\"el\"\r\n",
            "Content-Disposition: form-data; name=\"mod%65l\"\r\n",
            "Content-Disposition: form-data; name=\"a\"; name=\"model\"\r\n",
            "Content-Disposition: form-data; name=\"a\"; name*=utf-8''model\r\n",
            "Content-Disposition: form-data; name=\"a\"; filename*=utf-8''x\r\n",
            "Content-Disposition: form-data; filename=\"x\"; name=\"a\"\r\n",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"\r\n",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64\r\n",
            "Content-Disposition: form-data;\r\n name=\"a\"\r\n",
            "Content-Disposition: form-data; name=\"a\"\nX: y\r\n",
            "Content-Disposition : form-data; name=\"a\"\r\n",
            "Content-Disposition: attachment; name=\"a\"\r\n",
            "Content-Disposition: form-data; name=\"_charset_\"\r\n",
            "Content-Disposition: form-data; name=\"\"\r\n",
        ] {
            assert!(Head::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_that_decides_has_one_spelling() {
        for bad in
            ["Model", "MODEL", "mo_del", "model[]", "model[0]", "[model]", "Stream", "N", "models"]
        {
            assert!(Role::of(bad).is_err(), "{bad}");
        }
        assert_eq!(Role::of("model"), Ok((Role::Model, 1)));
        assert_eq!(Role::of("metadata[model]"), Ok((Role::Free, 0)));
        assert_eq!(Role::of("input_reference[image_url]"), Ok((Role::Address, 0)));
    }
}
