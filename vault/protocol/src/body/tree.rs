//! The form of the tables that say where in a body which name matters, and how a name is looked up in them.
//!
//! Invariant: a name matters only in the objects that a table reaches; everything else is somebody's text.
//! Invariant: every name on the way to a name that matters is itself listed, so it cannot be given twice.

use strongroom_policy::claims::{Feature, Features};

use super::name::{Spelling, is_alike, is_spelled};
use super::{BodyError, Shown};

/// How one kind of object is read.
#[derive(Debug)]
pub(super) struct Shape {
    /// The names that matter: once each, in the API's spelling. At most 64.
    pub(super) members: &'static [Member],
    /// Names known to matter to nobody here; their values are not looked into.
    pub(super) harmless: &'static [&'static str],
    /// What any other name means.
    pub(super) rest: &'static Member,
    /// What it means that names are missing.
    pub(super) lacking: &'static [Lacking],
}

/// What a name's value means; in an array, each item's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) effect: Effect,
    /// How an object is read that stands here; `None` is free-form.
    pub(super) inside: Option<&'static Shape>,
}

/// A feature that an object has when names are missing or null in it.
#[derive(Debug)]
pub(super) struct Lacking {
    /// Only for objects whose `type` is this.
    pub(super) of_type: Option<&'static str>,
    /// All of these are missing.
    pub(super) without: &'static [&'static str],
    pub(super) gives: Features,
}

/// What a value does to the claims.
#[derive(Debug, Clone, Copy)]
pub(super) enum Effect {
    /// Nothing.
    Harmless,
    /// The model: a string.
    Model,
    /// Models to choose from: refused.
    ModelList,
    /// Whether to stream: a boolean.
    Stream,
    /// A limit of output tokens: a whole number; the largest counts.
    MaxOutput,
    /// A number of answers: a whole number; the largest counts.
    Answers,
    /// Legacy prompts, each of which gets answers; an object is a stored prompt.
    Prompts,
    /// Whether the provider keeps the answer: a boolean.
    Store,
    /// A boolean that gives features when true.
    WhenTrue(Features),
    /// `true`: goes on without the caller. As a word: the background of an image.
    Background,
    /// Any value but null gives these.
    Gives(Features),
    /// A string gives these.
    TextGives(Features),
    /// An object gives these.
    ObjectGives(Features),
    /// A name that no table has: hosted tools, unless its value cannot switch anything on (null, false, a number).
    Unlisted,
    /// A word from a closed list.
    Word(&'static Words),
    /// An address: all but `data:` are fetched by the provider.
    Url,
    /// Data, which some providers also take as an address.
    MaybeUrl,
    /// Data that is not text: how many tokens it is, its length does not say.
    Media,
    /// Has the provider do more than read once and answer: no length says what that costs.
    Open,
    /// As `Open`, unless it is a word that begins so.
    OpenUnless(&'static [&'static str]),
    /// Google's address of a file, stored there or elsewhere.
    FileUri,
}

/// A closed list of words.
#[derive(Debug)]
pub(super) struct Words {
    pub(super) harmless: &'static [&'static str],
    /// Harmless when only a version follows: digits, as in `bash_20250124`.
    pub(super) versioned: &'static [&'static str],
    /// What every other word gives.
    pub(super) otherwise: Features,
}

pub(super) const HOSTED: Features = Features::NONE.with(Feature::HostedTools);
pub(super) const URLS: Features = Features::NONE.with(Feature::RemoteUrls);
pub(super) const REFERENCES: Features = Features::NONE.with(Feature::ObjectReferences);
pub(super) const TIER: Features = Features::NONE.with(Feature::ServiceTier);

/// Longest name in an object that is read; the APIs' own are below 40 bytes.
const MAX_NAME_BYTES: usize = 128;

/// A name with an effect on the value itself.
pub(super) const fn on(name: &'static str, effect: Effect) -> Member {
    Member { name, effect, inside: None }
}

/// A name whose object, or objects in an array, are read further.
pub(super) const fn within(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, effect: Effect::Harmless, inside: Some(shape) }
}

/// Both.
pub(super) const fn both(name: &'static str, effect: Effect, shape: &'static Shape) -> Member {
    Member { name, effect, inside: Some(shape) }
}

/// Names that no table has, where they are free-form.
pub(super) static FREE: Member = on("…", Effect::Harmless);
/// Names that no table has, where a new one may be a new hosted tool.
pub(super) static UNLISTED: Member = on("…", Effect::Unlisted);

/// Where a name was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) member: Member,
    /// The bit that remembers it; none for names that may repeat.
    pub(super) bit: u64,
}

impl Shape {
    /// Finds what a name means here. `name` is `None` when it was too long to keep.
    pub(super) fn find(&self, name: Option<&str>, spelling: Spelling) -> Result<Place, BodyError> {
        if self.members.is_empty() {
            return Ok(Place { member: *self.rest, bit: 0 });
        }
        let name = name.filter(|n| n.len() <= MAX_NAME_BYTES).ok_or(BodyError::LongName)?;
        if let Some(place) = self.place(|member| member.name == name) {
            return Ok(place);
        }
        if self.harmless.contains(&name) {
            return Ok(Place { member: FREE, bit: 0 });
        }
        if let Some(place) = self.place(|member| is_alike(name, member.name)) {
            let expected = place.member.name;
            let right = is_spelled(name, expected, spelling);
            let found = || BodyError::Spelling { found: Shown::of(name), expected };
            return right.then_some(place).ok_or_else(found);
        }
        let harmless = self.harmless.iter().any(|listed| is_spelled(name, listed, spelling));
        Ok(Place { member: if harmless { FREE } else { *self.rest }, bit: 0 })
    }

    /// The bit of a listed name.
    pub(super) fn bit(&self, name: &str) -> u64 {
        self.place(|member| member.name == name).map_or(0, |place| place.bit)
    }

    fn place(&self, fits: impl Fn(&Member) -> bool) -> Option<Place> {
        let at = self.members.iter().position(fits)?;
        let bit = u32::try_from(at).ok().and_then(|at| 1_u64.checked_shl(at));
        Some(Place { member: *self.members.get(at)?, bit: bit.unwrap_or(0) })
    }
}

impl Words {
    /// The word as listed, when it is harmless.
    pub(super) fn find(&self, word: &str) -> Option<&'static str> {
        let versioned = |stem: &&'static str| {
            word.strip_prefix(*stem)
                .is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit()))
        };
        let exact = self.harmless.iter().find(|listed| **listed == word);
        exact.or_else(|| self.versioned.iter().find(|stem| versioned(stem))).copied()
    }
}
