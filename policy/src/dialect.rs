//! The API shape a route speaks: how a model is named, how an error looks, how usage is told.
//!
//! Invariant: a dialect says nothing about where a call goes; that is the destination's.

use serde::{Deserialize, Serialize};

/// An API shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// `/v1/chat/completions`, `/v1/responses`; nested error objects.
    #[serde(rename = "openai")]
    OpenAi,
    /// `/v1/messages`; typed error objects with a request id.
    Anthropic,
    /// `/v1beta/models/{model}:generateContent`; `google.rpc.Status` errors.
    #[serde(rename = "google")]
    Gemini,
    /// OpenAI's routes with flat errors.
    Xai,
}

impl Dialect {
    /// Every dialect, for tables and help texts.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Xai];

    /// The name in commands and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "google",
            Self::Xai => "xai",
        }
    }

    /// Finds a dialect by that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect;

    #[test]
    fn a_dialect_is_found_by_its_name_alone() {
        for dialect in Dialect::ALL {
            assert_eq!(Dialect::by_name(dialect.name()), Some(dialect));
        }
        assert_eq!(Dialect::by_name("gemini"), None);
    }
}
