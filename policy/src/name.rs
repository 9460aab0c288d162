//! Names that people and programs choose, each with its alphabet and length.
//!
//! Invariant: a value of these types is valid; there is no other way to make one.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A provider's name in routes and commands: `[a-z0-9-]`, 1 to 40 bytes, begins with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ProviderName(String);

/// A model's name as the provider spells it: visible ASCII without quotes or backslash, 1 to 200 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ModelName(String);

/// A name that people read (user, workspace, credential, token): letters, digits, space and `._@+-`, 1 to 80 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(String);

/// One value of a provider's beta header: `[A-Za-z0-9._=-]`, 1 to 80 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct BetaName(String);

/// A host as it is dialled and checked: a lower-case DNS name or an IP literal, 1 to 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

/// The text is no name of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct NotAName {
    /// What was read.
    pub what: &'static str,
    /// What it must look like.
    pub rule: &'static str,
}

impl ProviderName {
    /// Reads a provider's name.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        Self::try_from(text.to_owned())
    }
}

impl ModelName {
    /// Reads a model's name.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        Self::try_from(text.to_owned())
    }

    /// Whether a rule's pattern names this model: equal, or equal up to a final `*`.
    pub fn matches(&self, pattern: &Self) -> bool {
        pattern.0.strip_suffix('*').map_or(self.0 == pattern.0, |prefix| self.0.starts_with(prefix))
    }
}

impl Label {
    /// Reads a name for people; surrounding spaces are not part of it.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let text = text.trim();
        let good = (1..=80).contains(&text.len())
            && text.chars().all(|c| c.is_alphanumeric() || " ._@+-".contains(c));
        let rule = "1 to 80 bytes of letters, digits, spaces and . _ @ + -";
        good.then(|| Self(text.to_owned())).ok_or(NotAName { what: "a name", rule })
    }
}

impl BetaName {
    /// Reads one value of a beta header.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let good = (1..=80).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=-".contains(&b));
        let rule = "1 to 80 of A-Z, a-z, 0-9 and . _ = -";
        good.then(|| Self(text.to_owned())).ok_or(NotAName { what: "a beta value", rule })
    }
}

impl HostName {
    /// Reads a host: a DNS name (stored in lower case) or an IP literal without brackets.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        Self::try_from(text.to_owned())
    }
}

/// RFC 1123 labels, without a trailing dot; a last label of digits only would be an odd IPv4 form.
fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (1..=253).contains(&text.len())
        && text.split('.').all(label)
        && text.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
        && text.rsplit('.').next().is_some_and(|last| !last.starts_with("0x"))
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for BetaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ProviderName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl AsRef<str> for ModelName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl AsRef<str> for Label {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl AsRef<str> for BetaName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

// What stands in every message of a call is taken over, not copied.
impl TryFrom<String> for ProviderName {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        let good = text.len() <= 40
            && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let rule = "1 to 40 of a-z, 0-9 and '-', beginning with a letter";
        good.then_some(Self(text)).ok_or(NotAName { what: "a provider's name", rule })
    }
}
impl TryFrom<String> for ModelName {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        let good = (1..=200).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
        let rule = "1 to 200 visible ASCII characters without '\"' and '\\'";
        good.then_some(Self(text)).ok_or(NotAName { what: "a model's name", rule })
    }
}
impl TryFrom<String> for Label {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}
impl TryFrom<String> for BetaName {
    type Error = NotAName;
    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}
impl TryFrom<String> for HostName {
    type Error = NotAName;
    fn try_from(mut text: String) -> Result<Self, NotAName> {
        text.make_ascii_lowercase();
        let good = text.parse::<std::net::IpAddr>().is_ok() || is_dns_name(&text);
        let rule = "a DNS name or an IP address";
        good.then_some(Self(text)).ok_or(NotAName { what: "a host", rule })
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::{BetaName, HostName, Label, ModelName, ProviderName};

    #[test]
    fn names_outside_their_alphabet_are_refused() {
        for bad in ["", "OpenAI", "1ai", "a b", "a/b", "ü"] {
            assert!(ProviderName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "a b", "a\"b", "a\\b", "gpt\u{0}", "gpt\r\n"] {
            assert!(ModelName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", " ", "a\nb", "a\u{202e}b", "a/b", "<b>"] {
            assert!(Label::parse(bad).is_err(), "{bad}");
        }
        for bad in
            ["", "a..b", ".a", "a.", "a_b", "1.2.3", "0x7f.1", "127.1", "a@b", "[::1]", "a:1"]
        {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_has_one_spelling() {
        assert_eq!(HostName::parse("API.OpenAI.com"), HostName::parse("api.openai.com"));
    }

    #[test]
    fn a_star_ends_a_pattern_and_stands_nowhere_else() {
        let model = |text| ModelName::parse(text).unwrap();
        assert!(model("gpt-4o-mini").matches(&model("gpt-4o*")));
        assert!(!model("gpt-4o-mini").matches(&model("gpt-4o")));
        assert!(!model("gpt-4o").matches(&model("*4o")));
    }

    /// Each alphabet whole, and each length to its last byte: what is missing here breaks a caller.
    #[test]
    fn names_within_their_alphabet_and_length_are_taken_as_they_are() {
        let long = |letter: &str, length| letter.repeat(length);
        for good in ["openai", "a-1", &long("a", 40)] {
            assert_eq!(ProviderName::parse(good).unwrap().as_ref(), good);
        }
        assert!(ProviderName::parse(&long("a", 41)).is_err());
        for good in ["o3", "ft:gpt-4o:org::id", "meta/llama@1~[x]", &long("m", 200)] {
            assert_eq!(ModelName::parse(good).unwrap().as_ref(), good);
        }
        assert!(ModelName::parse(&long("m", 201)).is_err());
        for good in ["Ärzte 1", "a.b_c@d+e-f", &long("l", 80)] {
            assert_eq!(Label::parse(good).unwrap().as_ref(), good);
        }
        assert!(Label::parse(&long("l", 81)).is_err());
        for good in ["files-api-2025-04-14", "A.b_c=1", &long("b", 80)] {
            assert_eq!(BetaName::parse(good).unwrap().as_ref(), good);
        }
        for bad in ["", "a b", "a,b", "a\r\nb", &long("b", 81)] {
            assert!(BetaName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_is_a_dns_name_or_an_address() {
        let label = "l".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "l".repeat(61));
        for good in ["a", "api.x.ai", "xn--mnchen-3ya.de", "a-b.c1", "127.0.0.1", "::1", &longest] {
            assert_eq!(HostName::parse(good).unwrap().as_ref(), good);
        }
        let (label, long) = ("l".repeat(64), format!("{longest}l"));
        for bad in ["-a.example", "a-.example", "a.0x7f", "1.2.3.4.5", "a b.example", "ä.example"]
        {
            assert!(HostName::parse(bad).is_err(), "{bad}");
        }
        assert!(HostName::parse(&label).is_err());
        assert!(HostName::parse(&long).is_err());
    }

    #[test]
    fn a_label_is_taken_without_the_space_around_it() {
        assert_eq!(Label::parse(" a b ").unwrap().as_ref(), "a b");
    }

    /// Errors and listings are made of these.
    #[test]
    fn a_name_is_shown_as_it_is() {
        assert_eq!(ProviderName::parse("openai").unwrap().to_string(), "openai");
        assert_eq!(ModelName::parse("gpt-4o").unwrap().to_string(), "gpt-4o");
        assert_eq!(Label::parse("a b").unwrap().to_string(), "a b");
        assert_eq!(BetaName::parse("b-1").unwrap().to_string(), "b-1");
        assert_eq!(HostName::parse("a.b").unwrap().to_string(), "a.b");
        assert_eq!(String::from(ModelName::parse("gpt-4o").unwrap()), "gpt-4o");
    }
}
