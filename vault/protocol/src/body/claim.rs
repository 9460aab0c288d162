//! Adds up what the values of a body do to its claims.
//!
//! Invariant: a value of a kind that the API does not define is refused, because a lenient parser may convert it
//! (`"stream": "true"`, `"n": "9"`); null is the same as no value.

use strongroom_policy::claims::{Claims, Extent, Feature, Features, Stream};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::ModelName;

use super::BodyError;
use super::text::Text;
use super::tree::{Effect, HOSTED, Member, REFERENCES, URLS, Words};

/// A value, or the beginning of a container.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'v> {
    Object,
    Array,
    Text(&'v Text),
    Number(&'v str),
    Bool(bool),
    Null,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Directly behind its name.
    Alone,
    /// In an array behind its name.
    Listed,
}

/// What happens to the answer when the body says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    /// It is kept at the provider (`/v1/responses`).
    ByDefault,
    /// It is not.
    OnRequest,
}

/// The claims so far.
#[derive(Debug)]
pub(super) struct Sum {
    dialect: Dialect,
    model: Option<ModelName>,
    max_output: Option<u64>,
    answers: u32,
    prompts: u32,
    stream: Stream,
    store: Option<bool>,
    keeping: Keeping,
    features: Features,
    extent: Extent,
}

impl Sum {
    pub(super) fn new(
        dialect: Dialect,
        path_model: Option<ModelName>,
        stream: Stream,
        keeping: Keeping,
    ) -> Self {
        Self {
            dialect,
            model: path_model,
            max_output: None,
            answers: 1,
            prompts: 0,
            stream,
            store: None,
            keeping,
            features: Features::NONE,
            extent: Extent::Text,
        }
    }

    /// The claims, after the last value.
    pub(super) fn finish(self) -> Claims {
        let answers = self.answers.saturating_mul(self.prompts.max(1));
        let mut features = self.features;
        if answers > 1 {
            features = features.with(Feature::ManyAnswers);
        }
        if self.store.unwrap_or(self.keeping == Keeping::ByDefault) {
            features = features.with(Feature::StoredState);
        }
        let Self { model, max_output, stream, extent, .. } = self;
        Claims { model, max_output, answers, stream, features, extent }
    }

    /// Adds features.
    pub(super) fn give(&mut self, features: Features) {
        self.features = features.iter().fold(self.features, Features::with);
    }

    /// Adds what one value does. Yields the harmless word that it was, if it was one.
    pub(super) fn apply(
        &mut self,
        member: &Member,
        value: Value<'_>,
        standing: Standing,
    ) -> Result<Option<&'static str>, BodyError> {
        let name = member.name;
        self.extent = self.extent.max(extent(member.effect, value));
        match member.effect {
            Effect::Model => self.name_model(name, value)?,
            Effect::ModelList if !matches!(value, Value::Null) => {
                return Err(BodyError::ModelList(name));
            }
            Effect::Stream if truth(name, value)? == Some(true) => self.stream = Stream::Streamed,
            Effect::MaxOutput => self.max_output = self.max_output.max(whole_number(name, value)?),
            Effect::Answers => self.count_answers(name, value)?,
            Effect::Prompts => self.count_prompts(value, standing),
            Effect::Store => self.store = self.store.max(truth(name, value)?),
            Effect::WhenTrue(features) if truth(name, value)? == Some(true) => self.give(features),
            Effect::Background => self.background(name, value)?,
            Effect::Gives(_)
            | Effect::TextGives(_)
            | Effect::ObjectGives(_)
            | Effect::Unlisted
            | Effect::Url
            | Effect::MaybeUrl
            | Effect::FileUri => self.give(given(member.effect, value)),
            Effect::Word(words) => return self.word(name, words, value),
            Effect::Harmless
            | Effect::ModelList
            | Effect::Stream
            | Effect::WhenTrue(_)
            | Effect::Media
            | Effect::Open
            | Effect::OpenUnless(_) => {}
        }
        Ok(None)
    }

    fn name_model(&mut self, name: &'static str, value: Value<'_>) -> Result<(), BodyError> {
        let wrong = BodyError::Value { name, rule: "a model's name" };
        let Value::Text(text) = value else { return Err(wrong) };
        let text = text.whole().ok_or_else(|| wrong.clone())?;
        // Google names a model `x` in the path and `models/x` in the body.
        let plain = match self.dialect {
            Dialect::Gemini => text.strip_prefix("models/").unwrap_or(text),
            Dialect::OpenAi | Dialect::Anthropic | Dialect::Xai => text,
        };
        let model = ModelName::parse(plain).map_err(|_| wrong)?;
        if self.model.as_ref().is_some_and(|before| *before != model) {
            return Err(BodyError::OtherModel);
        }
        self.model = Some(model);
        Ok(())
    }

    fn count_answers(&mut self, name: &'static str, value: Value<'_>) -> Result<(), BodyError> {
        if let Some(count) = whole_number(name, value)? {
            let count = u32::try_from(count)
                .map_err(|_| BodyError::Value { name, rule: "a smaller number" })?;
            self.answers = self.answers.max(count);
        }
        Ok(())
    }

    /// A list of strings, or of token lists, is as many prompts.
    fn count_prompts(&mut self, value: Value<'_>, standing: Standing) {
        match (value, standing) {
            (Value::Object, _) => self.give(REFERENCES),
            (Value::Text(_) | Value::Array, Standing::Listed) => {
                self.prompts = self.prompts.saturating_add(1);
            }
            (Value::Text(_) | Value::Array, Standing::Alone)
            | (Value::Number(_) | Value::Bool(_) | Value::Null, _) => {}
        }
    }

    fn background(&mut self, name: &'static str, value: Value<'_>) -> Result<(), BodyError> {
        let look = ["transparent", "opaque", "auto"];
        if let Value::Text(text) = value
            && text.whole().is_some_and(|word| look.contains(&word))
        {
            return Ok(());
        }
        if truth(name, value)? == Some(true) {
            self.give(Features::NONE.with(Feature::Background));
        }
        Ok(())
    }

    fn word(
        &mut self,
        name: &'static str,
        words: &'static Words,
        value: Value<'_>,
    ) -> Result<Option<&'static str>, BodyError> {
        match value {
            Value::Null => Ok(None),
            Value::Text(text) => {
                let found = text.whole().and_then(|word| words.find(word));
                if found.is_none() {
                    self.give(words.otherwise);
                }
                Ok(found)
            }
            Value::Object | Value::Array | Value::Number(_) | Value::Bool(_) => {
                Err(BodyError::Value { name, rule: "a string" })
            }
        }
    }
}

/// The features that a value gives by itself. An array gives what its items give.
fn given(effect: Effect, value: Value<'_>) -> Features {
    match (effect, value) {
        (_, Value::Null | Value::Array) => Features::NONE,
        (Effect::Gives(features), _)
        | (Effect::TextGives(features), Value::Text(_))
        | (Effect::ObjectGives(features), Value::Object) => features,
        (Effect::Unlisted, Value::Text(_) | Value::Object | Value::Bool(true)) => HOSTED,
        (Effect::Url, Value::Text(text)) if !begins(text.kept(), "data:") => URLS,
        (Effect::MaybeUrl, Value::Text(text)) if has_scheme(text.kept()) => URLS,
        (Effect::FileUri, Value::Text(text)) if is_stored_file(text.kept()) => REFERENCES,
        (Effect::FileUri, Value::Text(_)) => URLS,
        _ => Features::NONE,
    }
}

/// What a value does to what the body's length says of its cost. An array does what its items do.
fn extent(effect: Effect, value: Value<'_>) -> Extent {
    match (effect, value) {
        (_, Value::Null | Value::Array) => Extent::Text,
        (Effect::OpenUnless(stems), Value::Text(text)) if is_one_of(text, stems) => Extent::Text,
        (Effect::Open | Effect::OpenUnless(_), _) => Extent::Open,
        (Effect::Media, _) | (Effect::Url | Effect::MaybeUrl | Effect::FileUri, Value::Text(_)) => {
            Extent::Media
        }
        _ => Extent::Text,
    }
}

fn is_one_of(text: &Text, stems: &[&str]) -> bool {
    text.whole().is_some_and(|word| stems.iter().any(|stem| word.starts_with(stem)))
}

fn truth(name: &'static str, value: Value<'_>) -> Result<Option<bool>, BodyError> {
    match value {
        Value::Bool(truth) => Ok(Some(truth)),
        Value::Null => Ok(None),
        Value::Object | Value::Array | Value::Text(_) | Value::Number(_) => {
            Err(BodyError::Value { name, rule: "true or false" })
        }
    }
}

/// Digits, with at most a fraction of zeros, as languages without integers write them.
fn whole_number(name: &'static str, value: Value<'_>) -> Result<Option<u64>, BodyError> {
    let wrong = || BodyError::Value { name, rule: "a whole number" };
    match value {
        Value::Null => Ok(None),
        Value::Number(text) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let zeros = fraction.bytes().all(|b| b == b'0');
            let number = whole.parse().ok().filter(|_| zeros);
            number.map(Some).ok_or_else(wrong)
        }
        Value::Object | Value::Array | Value::Text(_) | Value::Bool(_) => Err(wrong()),
    }
}

fn begins(text: &str, with: &str) -> bool {
    text.as_bytes()
        .get(..with.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
}

/// Whether a URL parser finds a scheme other than `data:` in front: white space is ignored within it, and after
/// `http:` the slashes may be missing (WHATWG URL). Base64 has no colon, a time of day no `://`.
fn has_scheme(text: &str) -> bool {
    let start: String =
        text.chars().filter(|c| !c.is_ascii_whitespace()).take(SCHEME_CHARS).collect();
    let Some((scheme, rest)) = start.split_once(':') else { return false };
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let web = ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    web || (scheme.chars().all(in_scheme) && rest.starts_with("//"))
}

/// Characters in which a scheme and its slashes are looked for.
const SCHEME_CHARS: usize = 24;

fn is_stored_file(text: &str) -> bool {
    begins(text, "files/") || begins(text, "https://generativelanguage.googleapis.com/")
}
