//! What a request body asks for, as the gateway says and the courier recomputes from the bytes that travel.
//!
//! Invariant: the set of features is closed; a field that is not known to be harmless has a feature or refuses the body.

use serde::{Deserialize, Serialize};

use crate::name::ModelName;

/// What one request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The model, when the body or the path names one.
    pub model: Option<ModelName>,
    /// The most output tokens the caller allows, when said.
    pub max_output: Option<u64>,
    /// How many answers are asked for (`n`, `candidateCount`); 1 when unsaid.
    pub answers: u32,
    /// Whether the answer is to be streamed.
    pub stream: Stream,
    /// What else the body reaches for.
    pub features: Features,
    /// What its length says about its cost.
    pub extent: Extent,
}

/// What the length of a body says about how much it can cost. A greater one costs more than its bytes show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Extent {
    /// Only text: no more input tokens than bytes.
    Text,
    /// Also pictures, sound, files, or what only the provider can read: as many input tokens as the model takes.
    Media,
    /// It has the provider work or charge beyond one reading and one answer: nothing bounds it.
    Open,
}

impl Extent {
    /// The name in refusals and the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Media => "media",
            Self::Open => "open",
        }
    }
}

/// Whether the answer is to be streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// One answer at the end.
    Whole,
    /// Server-sent events, or an array in pieces.
    Streamed,
}

/// Length of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// Bytes, known before the first.
    Known(u64),
    /// Ends when it ends.
    Chunked,
}

/// One thing a body can reach for beyond a plain completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Feature {
    /// Tools that run at the provider: web search, code, computer, file search, MCP servers, connectors.
    HostedTools,
    /// URLs that the provider will fetch (images, files, MCP server addresses).
    RemoteUrls,
    /// Ids of objects stored under the provider's account: files, responses, conversations, caches, prompts, containers.
    ObjectReferences,
    /// Leaves an object behind at the provider (`store`, cached content).
    StoredState,
    /// Goes on after the connection ends (`background`).
    Background,
    /// A service tier other than the default one.
    ServiceTier,
    /// More than one answer.
    ManyAnswers,
}

impl Feature {
    /// Every feature, for tables and help texts.
    pub const ALL: [Self; 7] = [
        Self::HostedTools,
        Self::RemoteUrls,
        Self::ObjectReferences,
        Self::StoredState,
        Self::Background,
        Self::ServiceTier,
        Self::ManyAnswers,
    ];

    /// The name in commands, rules and the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostedTools => "hosted-tools",
            Self::RemoteUrls => "remote-urls",
            Self::ObjectReferences => "object-references",
            Self::StoredState => "stored-state",
            Self::Background => "background",
            Self::ServiceTier => "service-tier",
            Self::ManyAnswers => "many-answers",
        }
    }

    /// Finds a feature by that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::HostedTools => 1,
            Self::RemoteUrls => 2,
            Self::ObjectReferences => 4,
            Self::StoredState => 8,
            Self::Background => 16,
            Self::ServiceTier => 32,
            Self::ManyAnswers => 64,
        }
    }
}

/// A set of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Features(u8);

impl Features {
    /// No feature.
    pub const NONE: Self = Self(0);
    /// Every feature.
    pub const ALL: Self = Self(0x7f);
    /// Those that the ready-made rules allow with a key that several people use.
    ///
    /// Who shares a key must not reach objects stored under it, nor have the provider fetch from or run at places of their choosing.
    pub const OF_SHARED_KEYS: Self = Self::ALL
        .without(Feature::HostedTools)
        .without(Feature::ObjectReferences)
        .without(Feature::Background);

    /// This set and one feature more.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | feature.bit())
    }

    /// This set without one feature.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !feature.bit())
    }

    /// What both sets hold.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the feature is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// The first feature that `allowed` lacks.
    pub fn first_beyond(self, allowed: Self) -> Option<Feature> {
        Feature::ALL.into_iter().find(|feature| self.has(*feature) && !allowed.has(*feature))
    }

    /// The features in the set, in their fixed order.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }
}

/// A number with bits that no feature has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown feature bits")]
pub struct UnknownFeature;

impl TryFrom<u8> for Features {
    type Error = UnknownFeature;

    fn try_from(bits: u8) -> Result<Self, UnknownFeature> {
        if bits & !Self::ALL.0 == 0 { Ok(Self(bits)) } else { Err(UnknownFeature) }
    }
}

impl From<Features> for u8 {
    fn from(features: Features) -> Self {
        features.0
    }
}

impl Claims {
    /// The claims of a request that has no body to read.
    pub const fn of_no_body(model: Option<ModelName>) -> Self {
        Self {
            model,
            max_output: None,
            answers: 1,
            stream: Stream::Whole,
            features: Features::NONE,
            extent: Extent::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop_assert_eq, proptest};
    use proptest::sample::subsequence;

    use super::{Feature, Features, UnknownFeature};

    proptest! {
        /// Against the plainest set there is.
        #[test]
        fn features_are_a_set(
            one in subsequence(Feature::ALL.to_vec(), 0..=7),
            other in subsequence(Feature::ALL.to_vec(), 0..=7),
        ) {
            let made = |list: &[Feature]| list.iter().copied().fold(Features::NONE, Features::with);
            let model = |list: &[Feature]| list.iter().copied().collect::<BTreeSet<_>>();
            let (a, b) = (made(&one), made(&other));
            let (in_a, in_b) = (model(&one), model(&other));
            let listed = |set: Features| set.iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(listed(a), in_a.clone());
            prop_assert_eq!(listed(a.and(b)), &in_a & &in_b);
            prop_assert_eq!(listed(other.iter().copied().fold(a, Features::with)), &in_a | &in_b);
            let only_a = in_a.difference(&in_b).copied().collect();
            prop_assert_eq!(listed(other.iter().copied().fold(a, Features::without)), only_a);
            prop_assert_eq!(a.first_beyond(b), in_a.difference(&in_b).next().copied());
        }

        #[test]
        fn a_number_is_a_set_of_features_or_refused(bits in any::<u8>()) {
            let read = Features::try_from(bits);
            let known = bits & !u8::from(Features::ALL) == 0;
            prop_assert_eq!(read.map(u8::from), if known { Ok(bits) } else { Err(UnknownFeature) });
        }
    }

    #[test]
    fn a_feature_is_found_by_its_name_alone() {
        for feature in Feature::ALL {
            assert_eq!(Feature::by_name(feature.name()), Some(feature));
        }
        assert_eq!(Feature::by_name("hosted"), None);
        assert_eq!(Feature::by_name(""), None);
    }
}
