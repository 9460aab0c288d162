//! Which paths of a provider may be called: one rule a path, with its class, body and query.
//!
//! Invariant: a path without a rule is refused; there is no wildcard over segments.

use serde::{Deserialize, Serialize};

use crate::name::ModelName;
use crate::target::Target;

/// A request method that providers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or runs.
    Post,
    /// Replaces (resumable uploads).
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
}

impl Method {
    /// The method on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Reads a method; case matters (RFC 9110, 9.1).
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete]
            .into_iter()
            .find(|method| method.name() == text)
    }
}

/// What a path reaches at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathClass {
    /// Nothing is kept that another holder of the same key could name.
    Stateless,
    /// Lists, reads or makes objects that belong to the key's account: whoever shares the key shares them.
    Stateful,
}

/// What the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyKind {
    /// No body is accepted.
    Empty,
    /// One JSON value, read for claims.
    Json,
    /// Canonical multipart, read for claims.
    Multipart,
    /// Bytes that nobody here reads (upload parts).
    Opaque,
}

/// One path of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// The method.
    pub method: Method,
    /// The path; `{name}` stands for one segment, `{name}:verb` for one segment that ends so.
    pub pattern: PathPattern,
    /// What the path reaches.
    pub class: PathClass,
    /// What the body is.
    pub body: BodyKind,
    /// Query parameters that may be sent.
    pub query: Vec<String>,
}

/// A path with placeholders, as `/v1/models/{model}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern {
    text: String,
    /// Length of what comes before the first placeholder.
    literal_len: usize,
}

/// The pattern is not `/segment/{name}/{name}:verb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a path pattern is /segments with {{name}} or {{name}}:verb in place of a segment")]
pub struct BadPattern;

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is not a canonical path with whole-segment placeholders.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let rest = text.strip_prefix('/').ok_or(BadPattern)?;
        let good = text.len() <= 256 && rest.split('/').all(is_segment_pattern);
        let literal_len = text.find('{').unwrap_or(text.len());
        good.then(|| Self { text: text.to_owned(), literal_len }).ok_or(BadPattern)
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a target's path fits; yields the segment that stands for `{model}`, if there is one.
    pub fn matches<'t>(&self, target: &'t Target) -> Option<Option<&'t str>> {
        // Most patterns of a provider are told apart by this alone.
        if !target.path().starts_with(self.text.get(..self.literal_len)?) {
            return None;
        }
        let mut model = None;
        let mut segments = target.segments();
        for part in self.text.split('/').skip(1) {
            let segment = segments.next()?;
            let value = segment_value(part, segment)?;
            if part.starts_with("{model}") {
                model = Some(value);
            }
        }
        segments.next().is_none().then_some(model)
    }
}

/// The text that a placeholder stands for; the whole segment for a literal; `None` when it does not fit.
fn segment_value<'t>(part: &str, segment: &'t str) -> Option<&'t str> {
    let Some(inner) = part.strip_prefix('{') else {
        return (part == segment).then_some(segment);
    };
    let (_, suffix) = inner.split_once('}')?;
    let value = segment.strip_suffix(suffix)?;
    // Google's verbs follow a colon: a bare placeholder must not swallow `x:deleteEverything`,
    // but OpenAI's fine-tuned models are `ft:gpt-4o:org::id`, so only a single colon is a verb.
    let hides_a_verb = suffix.is_empty() && is_verb(value);
    (!value.is_empty() && !hides_a_verb).then_some(value)
}

fn is_verb(value: &str) -> bool {
    !value.starts_with("ft:") && value.contains(':')
}

fn is_segment_pattern(part: &str) -> bool {
    let literal = |text: &str| {
        text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:@!$'()*+,=".contains(&b))
    };
    match part.strip_prefix('{') {
        None => !part.is_empty() && part != "." && part != ".." && literal(part),
        Some(inner) => inner.split_once('}').is_some_and(|(name, suffix)| {
            (1..=32).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && (suffix.is_empty() || suffix.starts_with(':'))
                && literal(suffix)
        }),
    }
}

impl PathRule {
    /// Whether this rule is about a request; yields the model that the path names.
    ///
    /// # Errors
    /// When the path's `{model}` is no model name: the rule fits, the request does not.
    pub fn fits(
        &self,
        method: Method,
        target: &Target,
    ) -> Option<Result<Option<ModelName>, BadModel>> {
        if self.method != method {
            return None;
        }
        let model = self.pattern.matches(target)?;
        Some(model.map(|text| ModelName::parse(text).map_err(|_| BadModel)).transpose())
    }

    /// The first query parameter that this rule does not allow.
    pub fn first_foreign_parameter<'t>(&self, target: &'t Target) -> Option<&'t str> {
        target
            .parameters()
            .map(|(name, _)| name)
            .find(|name| !self.query.iter().any(|allowed| allowed == name))
    }
}

/// The path names a model that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path does not name a model")]
pub struct BadModel;

impl TryFrom<String> for PathPattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        Self::parse(&text)
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.text
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyKind, Method, PathClass, PathPattern, PathRule};
    use crate::target::Target;

    /// The model that the path names, an empty text when it fits and names none.
    fn matched(pattern: &str, path: &str) -> Option<String> {
        let target = Target::parse(path).unwrap();
        let pattern = PathPattern::parse(pattern).unwrap();
        pattern.matches(&target).map(|model| model.unwrap_or_default().to_owned())
    }

    #[test]
    fn a_placeholder_is_one_segment() {
        let model = Some("gemini-2".to_owned());
        let pattern = "/v1beta/models/{model}:generateContent";
        assert_eq!(matched(pattern, "/v1beta/models/gemini-2:generateContent"), model);
        assert_eq!(matched(pattern, "/v1beta/models/a/b:generateContent"), None);
        assert_eq!(matched(pattern, "/v1beta/models/:generateContent"), None);
        assert_eq!(matched(pattern, "/v1beta/models/gemini-2:streamGenerateContent"), None);
        assert_eq!(matched("/v1/models", "/v1/models/x"), None);
        assert_eq!(matched("/v1/models/{model}", "/v1/models"), None);
    }

    #[test]
    fn a_bare_placeholder_does_not_swallow_a_verb() {
        assert_eq!(matched("/v1beta/models/{model}", "/v1beta/models/x:delete"), None);
        assert!(matched("/v1/models/{model}", "/v1/models/ft:gpt-4o:org::id").is_some());
    }

    #[test]
    fn a_pattern_without_canonical_segments_is_refused() {
        for bad in ["", "v1", "/", "/v1//x", "/v1/..", "/v1/*/x%2f", "/{a}b", "/{}", "/{A}", "/x?y"]
        {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_method_has_one_spelling() {
        for method in [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete] {
            assert_eq!(Method::parse(method.name()), Some(method));
        }
        for bad in ["get", "HEAD", "CONNECT", ""] {
            assert_eq!(Method::parse(bad), None, "{bad}");
        }
    }

    /// What an operator is shown, and what is stored, is what is judged by.
    #[test]
    fn a_pattern_is_shown_and_stored_as_it_was_written() {
        let pattern = PathPattern::parse("/v1/models/{model}:predict").unwrap();
        assert_eq!(pattern.as_str(), "/v1/models/{model}:predict");
        let stored = String::from(pattern.clone());
        assert_eq!(PathPattern::try_from(stored), Ok(pattern));
    }

    #[test]
    fn each_parameter_of_a_query_is_on_the_list() {
        let rule = PathRule {
            method: Method::Get,
            pattern: PathPattern::parse("/v1/files").unwrap(),
            class: PathClass::Stateful,
            body: BodyKind::Empty,
            query: vec!["limit".to_owned(), "after".to_owned()],
        };
        for (path, foreign) in [
            ("/v1/files", None),
            ("/v1/files?after=a&limit=1", None),
            ("/v1/files?limit=1&key=k", Some("key")),
            ("/v1/files?Limit=1", Some("Limit")),
        ] {
            let target = Target::parse(path).unwrap();
            assert_eq!(rule.first_foreign_parameter(&target), foreign, "{path}");
        }
    }
}
