//! The four APIs: their hosts, how one is recognised, and how each is asked for its key.
//!
//! Invariant: a known host decides alone; the path and the key only speak for unknown hosts.

use serde::Serialize;

use crate::{options::Keys, reply::Reply, request::Call, world::World};

/// One provider's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `api.openai.com`
    OpenAi,
    /// `api.anthropic.com`
    Anthropic,
    /// `generativelanguage.googleapis.com`
    Gemini,
    /// `api.x.ai`
    Xai,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Xai];

    /// The host name that the API has in the world.
    pub fn host(self) -> &'static str {
        match self {
            Self::OpenAi => "api.openai.com",
            Self::Anthropic => "api.anthropic.com",
            Self::Gemini => "generativelanguage.googleapis.com",
            Self::Xai => "api.x.ai",
        }
    }

    /// The short name, as in `--key openai=…`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Xai => "xai",
        }
    }

    /// The API with that short name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.name() == name)
    }

    /// The API meant by a request, and its path without a leading `/openai` and the like.
    pub(crate) fn of(host: &str, path: &str, key: Option<&str>, keys: &Keys) -> (Self, String) {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        if let Some(api) = Self::ALL.into_iter().find(|api| api.host().eq_ignore_ascii_case(name)) {
            return (api, path.to_owned());
        }
        for api in Self::ALL {
            if let Some(rest) = path.strip_prefix('/').and_then(|p| p.strip_prefix(api.name()))
                && rest.starts_with('/')
            {
                return (api, rest.to_owned());
            }
        }
        (Self::by_path(path, key, keys), path.to_owned())
    }

    fn by_path(path: &str, key: Option<&str>, keys: &Keys) -> Self {
        if let Some(api) = key.and_then(|key| keys.owner(key)) {
            return api;
        }
        if path.starts_with("/v1beta")
            || path.starts_with("/v1alpha")
            || path.contains("/upload/v1")
        {
            Self::Gemini
        } else if path.starts_with("/v1/messages") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    /// The refusal of a request whose key is missing or wrong, in this API's own words.
    pub(crate) fn unauthorised(self, key: Option<&str>) -> Reply {
        match self {
            Self::OpenAi => crate::openai::unauthorised(key),
            Self::Anthropic => crate::anthropic::unauthorised(key),
            Self::Gemini => crate::gemini::unauthorised(key),
            Self::Xai => crate::openai::xai::unauthorised(key),
        }
    }

    /// An error with a chosen status and text, in this API's own shape.
    pub(crate) fn error(self, status: u16, message: &str) -> Reply {
        match self {
            Self::OpenAi => crate::openai::error(status, message),
            Self::Anthropic => crate::anthropic::error(status, message),
            Self::Gemini => crate::gemini::error(status, message),
            Self::Xai => crate::openai::xai::error(status, message),
        }
    }

    /// The answer of a good day.
    pub(crate) fn answer(self, call: &Call, world: &World) -> Reply {
        match self {
            Self::OpenAi | Self::Xai => crate::openai::answer(call, world),
            Self::Anthropic => crate::anthropic::answer(call, world),
            Self::Gemini => crate::gemini::answer(call, world),
        }
    }
}
