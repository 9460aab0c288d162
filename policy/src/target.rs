//! The path and query of a request in their one canonical spelling.
//!
//! Invariant: parsing is idempotent; what is judged is, byte for byte, what is sent.
//! Distrusts: every byte of the caller's request target.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A canonical origin-form target: a path, and a query when there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Target {
    text: String,
    path_len: usize,
}

/// Longest target, bytes: the longest that the providers' SDKs send is below 1 KiB.
pub const MAX_TARGET_BYTES: usize = 4096;
/// Most query parameters.
pub const MAX_QUERY_PARAMETERS: usize = 32;

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// Longer than [`MAX_TARGET_BYTES`].
    #[error("the request target is too long")]
    TooLong,
    /// Not `/…`: absolute form, authority form, or nothing.
    #[error("the request target must begin with a single '/'")]
    Form,
    /// An empty, `.` or `..` segment.
    #[error("empty and dot segments are refused")]
    Segment,
    /// A byte or percent-escape outside the path's alphabet.
    #[error("a character that is not allowed in a path")]
    PathByte,
    /// A byte or percent-escape outside the query's alphabet.
    #[error("a character that is not allowed in a query")]
    QueryByte,
    /// A parameter without a plain name, named twice, or too many.
    #[error("a query parameter is unnamed, oddly named or named twice")]
    Parameter,
}

impl Target {
    /// Reads an origin-form target into its canonical spelling.
    ///
    /// Percent-escapes of characters that need none are resolved; all other escapes in a path are refused,
    /// which closes `%2f`, `%5c`, `%2e%2e` and double encoding alike.
    ///
    /// # Errors
    /// See [`BadTarget`].
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        if text.len() > MAX_TARGET_BYTES {
            return Err(BadTarget::TooLong);
        }
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        let mut canonical = canonical_path(path)?;
        let path_len = canonical.len();
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            check_query(query)?;
            canonical.push('?');
            canonical.push_str(query);
        }
        Ok(Self { text: canonical, path_len })
    }

    /// The whole target, as it is sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.text.get(..self.path_len).unwrap_or_default()
    }

    /// The path's segments, without the leading slash.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').skip(1)
    }

    /// Query parameters as (name, raw value); names carry no escapes.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let query = self.text.get(self.path_len..).unwrap_or_default();
        query
            .strip_prefix('?')
            .into_iter()
            .flat_map(|query| query.split('&'))
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }
}

fn canonical_path(path: &str) -> Result<String, BadTarget> {
    let rest = path.strip_prefix('/').ok_or(BadTarget::Form)?;
    let mut canonical = String::with_capacity(path.len());
    if rest.is_empty() {
        return Ok("/".to_owned());
    }
    for segment in rest.split('/') {
        canonical.push('/');
        let start = canonical.len();
        push_segment(&mut canonical, segment)?;
        let written = canonical.get(start..).unwrap_or_default();
        if matches!(written, "" | "." | "..") {
            return Err(BadTarget::Segment);
        }
    }
    Ok(canonical)
}

fn push_segment(canonical: &mut String, segment: &str) -> Result<(), BadTarget> {
    if segment.bytes().all(is_path_byte) {
        canonical.push_str(segment);
        return Ok(());
    }
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let plain = if byte == b'%' {
            let high = bytes.next().and_then(hex).ok_or(BadTarget::PathByte)?;
            let low = bytes.next().and_then(hex).ok_or(BadTarget::PathByte)?;
            (high << 4) | low
        } else {
            byte
        };
        // An escaped dot never was needed, and is how `..` hides.
        if !is_path_byte(plain) || (byte == b'%' && plain == b'.') {
            return Err(BadTarget::PathByte);
        }
        canonical.push(char::from(plain));
    }
    Ok(())
}

fn check_query(query: &str) -> Result<(), BadTarget> {
    let mut names: Vec<&str> = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain_name = !name.is_empty() && name.bytes().all(is_parameter_name_byte);
        if !plain_name || names.contains(&name) || names.len() >= MAX_QUERY_PARAMETERS {
            return Err(BadTarget::Parameter);
        }
        names.push(name);
        check_value(value)?;
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), BadTarget> {
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        let good = if byte == b'%' {
            let high = bytes.next().and_then(hex).ok_or(BadTarget::QueryByte)?;
            let low = bytes.next().and_then(hex).ok_or(BadTarget::QueryByte)?;
            !((high << 4) | low).is_ascii_control()
        } else {
            byte.is_ascii_alphanumeric() || b"-._~:@!$'()*+,/=".contains(&byte)
        };
        if !good {
            return Err(BadTarget::QueryByte);
        }
    }
    Ok(())
}

/// RFC 3986 `pchar` without `;` (path parameters) and without `&` and `%`.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:@!$'()*+,=".contains(&byte)
}

/// Google's system parameters begin with `$`; brackets stand in array parameters of some SDKs.
fn is_parameter_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.$[]".contains(&byte)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl TryFrom<String> for Target {
    type Error = BadTarget;

    fn try_from(text: String) -> Result<Self, BadTarget> {
        Self::parse(&text)
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&self.text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{BadTarget, Target};

    #[test]
    fn tricks_with_the_path_are_refused() {
        for bad in [
            "",
            "v1",
            "//evil.example/v1",
            "/v1//models",
            "/v1/",
            "/v1/./models",
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "/v1/%2E/admin",
            "/v1/a%2eb",
            "/v1/a%2fb",
            "/v1/a%5cb",
            "/v1/a\\b",
            "/v1/a;b",
            "/v1/a#b",
            "/v1/a%00b",
            "/v1/a%25b",
            "/v1/a%2",
            "/v1/a%zz",
            "/v1/a b",
            "/v1/a\u{7f}",
            "/v1/ä",
            "/v1/a&b",
            "https://evil.example/v1",
            "*",
            "/v1/models?a=1&a=2",
            "/v1/models?=1",
            "/v1/models?a%3d=1",
            "/v1/models?a=%0d%0a",
            "/v1/models?a=%1F",
            "/v1/models?a=%7f",
            "/v1/models?a=#",
            "/v1/models?a=1?b",
            "/v1/models?&",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_escape_that_was_not_needed_is_resolved() {
        let target = Target::parse("/v1beta/models/gemini%2D2:generateContent?alt=sse").unwrap();
        assert_eq!(target.as_str(), "/v1beta/models/gemini-2:generateContent?alt=sse");
        assert_eq!(target.path(), "/v1beta/models/gemini-2:generateContent");
        assert_eq!(target.parameters().collect::<Vec<_>>(), [("alt", "sse")]);
        assert_eq!(target.to_string(), target.as_str());
        assert_eq!(Target::parse("/v1/a.b%2Dc").unwrap().as_str(), "/v1/a.b-c");
    }

    #[test]
    fn an_escape_in_a_value_stays_as_it_was_sent() {
        let target = Target::parse("/v1/files?after=%41%20b").unwrap();
        assert_eq!(target.as_str(), "/v1/files?after=%41%20b");
    }

    #[test]
    fn a_long_target_is_refused() {
        assert_eq!(Target::parse(&format!("/{}", "a".repeat(4096))), Err(BadTarget::TooLong));
        assert!(Target::parse(&format!("/{}", "a".repeat(4095))).is_ok());
    }

    /// The path as a list of characters, each with whether it was escaped; a plain second reading of the rules.
    fn read_plainly(path: &str) -> Option<String> {
        let mut rest = path.as_bytes();
        let mut read: Vec<(u8, bool)> = Vec::new();
        while let [first, tail @ ..] = rest {
            let (byte, escaped, after) = match (first, tail) {
                (b'%', [high, low, after @ ..]) => {
                    let digits = [*high, *low];
                    let digits = std::str::from_utf8(&digits).ok()?;
                    let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    (u8::from_str_radix(digits, 16).ok().filter(|_| plain)?, true, after)
                }
                (b'%', _) => return None,
                _ => (*first, false, tail),
            };
            read.push((byte, escaped));
            rest = after;
        }
        let allowed =
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:@!$'()*+,=";
        let good = |(byte, escaped): &(u8, bool)| match (byte, escaped) {
            (b'/' | b'.', true) => false,
            (b'/', false) => true,
            (other, _) => allowed.as_bytes().contains(other),
        };
        let plain: String = read.iter().map(|(byte, _)| char::from(*byte)).collect();
        let no_dots = |segment: &str| !["", ".", ".."].contains(&segment);
        let whole = plain == "/" || plain.strip_prefix('/')?.split('/').all(no_dots);
        (read.iter().all(good) && whole).then_some(plain)
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in any::<String>()) {
            if let Ok(once) = Target::parse(&format!("/{text}")) {
                prop_assert_eq!(Target::parse(once.as_str()), Ok(once));
            }
        }

        #[test]
        fn parsing_path_like_text_is_idempotent(text in "(/[a-z%.0-9A-F:]{0,6}){1,4}(\\?[a-z]=[a-z%0-9]{0,4})?") {
            if let Ok(once) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(once.as_str()), Ok(once));
            }
        }

        /// Red when a dot, a slash or an escape of them is taken for something else by the one than by the other.
        #[test]
        fn a_path_is_read_as_a_plain_second_reader_does(
            path in "(/|%2[EeFf5]|%[0-9A-Fa-f]{0,2}|\\.|[a-c:;&_ ~=]|/\\.{0,2}|[\\x00-\\xff]){0,12}"
        ) {
            let path = format!("/{}", path.replace('?', ""));
            let read = Target::parse(&path).map(|target| target.path().to_owned());
            prop_assert_eq!(read.ok(), read_plainly(&path), "{:?}", path);
        }
    }
}
