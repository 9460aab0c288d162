//! The four providers that come with the program: every host and every path they may be called by.
//!
//! Invariant: no path that makes, lists or reads keys, people, organisations or ephemeral tokens stands here.
//! Source: the providers' API references and official SDKs, autumn 2026.

use super::{Origin, Probe, ProviderDefinition};
use crate::destination::{Destination, Injection, Reach};
use crate::dialect::Dialect;
use crate::name::{HostName, NotAName, ProviderName};
use crate::route::BodyKind::{Empty, Json, Multipart, Opaque};
use crate::route::Method::{Delete, Get, Post, Put};
use crate::route::PathClass::{Stateful, Stateless};
use crate::route::{BodyKind, Method, PathClass, PathPattern, PathRule};
use crate::target::Target;

/// The TCP port of all of them; their courier dials no other.
pub const PORT: u16 = 443;

/// One line of a path table: method, pattern, class, body, query parameters.
type Row = (Method, &'static str, PathClass, BodyKind, &'static [&'static str]);

const PAGE: &[&str] = &["limit", "after", "order", "before", "purpose", "include", "include[]"];
const EVENTS: &[&str] =
    &["stream", "starting_after", "include", "include[]", "include_obfuscation"];
const NONE: &[&str] = &[];

/// OpenAI. Left out on purpose: `/v1/organization/*`, `/v1/realtime/*` (client secrets, sessions,
/// transcription sessions), `/v1/chatkit/*`, fine-tuning, evals, containers.
const OPENAI: &[Row] = &[
    (Get, "/v1/models", Stateless, Empty, NONE),
    (Get, "/v1/models/{model}", Stateless, Empty, NONE),
    (Post, "/v1/chat/completions", Stateless, Json, NONE),
    (Post, "/v1/completions", Stateless, Json, NONE),
    (Post, "/v1/responses", Stateless, Json, NONE),
    (Post, "/v1/responses/input_tokens", Stateless, Json, NONE),
    (Post, "/v1/embeddings", Stateless, Json, NONE),
    (Post, "/v1/moderations", Stateless, Json, NONE),
    (Post, "/v1/images/generations", Stateless, Json, NONE),
    (Post, "/v1/images/edits", Stateless, Multipart, NONE),
    (Post, "/v1/images/variations", Stateless, Multipart, NONE),
    (Post, "/v1/audio/speech", Stateless, Json, NONE),
    (Post, "/v1/audio/transcriptions", Stateless, Multipart, NONE),
    (Post, "/v1/audio/translations", Stateless, Multipart, NONE),
    (Get, "/v1/responses/{id}", Stateful, Empty, EVENTS),
    (Delete, "/v1/responses/{id}", Stateful, Empty, NONE),
    (Post, "/v1/responses/{id}/cancel", Stateful, Empty, NONE),
    (Get, "/v1/responses/{id}/input_items", Stateful, Empty, PAGE),
    (Get, "/v1/chat/completions", Stateful, Empty, PAGE),
    (Get, "/v1/chat/completions/{id}", Stateful, Empty, NONE),
    (Delete, "/v1/chat/completions/{id}", Stateful, Empty, NONE),
    (Get, "/v1/chat/completions/{id}/messages", Stateful, Empty, PAGE),
    (Get, "/v1/files", Stateful, Empty, PAGE),
    (Post, "/v1/files", Stateful, Multipart, NONE),
    (Get, "/v1/files/{id}", Stateful, Empty, NONE),
    (Delete, "/v1/files/{id}", Stateful, Empty, NONE),
    (Get, "/v1/files/{id}/content", Stateful, Empty, NONE),
    (Post, "/v1/uploads", Stateful, Json, NONE),
    (Post, "/v1/uploads/{id}/parts", Stateful, Multipart, NONE),
    (Post, "/v1/uploads/{id}/complete", Stateful, Json, NONE),
    (Post, "/v1/uploads/{id}/cancel", Stateful, Empty, NONE),
    (Get, "/v1/batches", Stateful, Empty, PAGE),
    (Post, "/v1/batches", Stateful, Json, NONE),
    (Get, "/v1/batches/{id}", Stateful, Empty, NONE),
    (Post, "/v1/batches/{id}/cancel", Stateful, Empty, NONE),
];

const ANTHROPIC_PAGE: &[&str] = &["limit", "after_id", "before_id", "beta"];
const BETA: &[&str] = &["beta"];

/// Anthropic. Left out on purpose: `/v1/organizations/*`, vaults, agents, environments, skills.
const ANTHROPIC: &[Row] = &[
    (Post, "/v1/messages", Stateless, Json, BETA),
    (Post, "/v1/messages/count_tokens", Stateless, Json, BETA),
    (Get, "/v1/models", Stateless, Empty, ANTHROPIC_PAGE),
    (Get, "/v1/models/{model}", Stateless, Empty, BETA),
    (Get, "/v1/messages/batches", Stateful, Empty, ANTHROPIC_PAGE),
    (Post, "/v1/messages/batches", Stateful, Json, BETA),
    (Get, "/v1/messages/batches/{id}", Stateful, Empty, BETA),
    (Delete, "/v1/messages/batches/{id}", Stateful, Empty, BETA),
    (Post, "/v1/messages/batches/{id}/cancel", Stateful, Empty, BETA),
    (Get, "/v1/messages/batches/{id}/results", Stateful, Empty, BETA),
    (Get, "/v1/files", Stateful, Empty, ANTHROPIC_PAGE),
    (Post, "/v1/files", Stateful, Multipart, BETA),
    (Get, "/v1/files/{id}", Stateful, Empty, BETA),
    (Delete, "/v1/files/{id}", Stateful, Empty, BETA),
    (Get, "/v1/files/{id}/content", Stateful, Empty, BETA),
];

const GOOGLE_PAGE: &[&str] = &["pageSize", "pageToken"];
const ALT: &[&str] = &["alt"];
const UPLOAD: &[&str] = &["upload_id", "upload_protocol", "uploadType"];

/// Google Gemini, under `/v1beta` and under `/v1`, which the Python SDK takes since 3.0. Left out on purpose: `auth_tokens`,
/// tuned models, corpora, permissions, `interactions`.
const GOOGLE: &[Row] = &[
    (Get, "/v1beta/models", Stateless, Empty, GOOGLE_PAGE),
    (Get, "/v1beta/models/{model}", Stateless, Empty, NONE),
    (Post, "/v1beta/models/{model}:generateContent", Stateless, Json, ALT),
    (Post, "/v1beta/models/{model}:streamGenerateContent", Stateless, Json, ALT),
    (Post, "/v1beta/models/{model}:countTokens", Stateless, Json, ALT),
    (Post, "/v1beta/models/{model}:embedContent", Stateless, Json, ALT),
    (Post, "/v1beta/models/{model}:batchEmbedContents", Stateless, Json, ALT),
    (Post, "/v1beta/models/{model}:predict", Stateless, Json, ALT),
    (Get, "/v1/models", Stateless, Empty, GOOGLE_PAGE),
    (Get, "/v1/models/{model}", Stateless, Empty, NONE),
    (Post, "/v1/models/{model}:generateContent", Stateless, Json, ALT),
    (Post, "/v1/models/{model}:streamGenerateContent", Stateless, Json, ALT),
    (Post, "/v1/models/{model}:countTokens", Stateless, Json, ALT),
    (Post, "/v1/models/{model}:embedContent", Stateless, Json, ALT),
    (Post, "/v1/models/{model}:batchEmbedContents", Stateless, Json, ALT),
    (Post, "/upload/v1beta/files", Stateful, Opaque, UPLOAD),
    (Put, "/upload/v1beta/files", Stateful, Opaque, UPLOAD),
    (Get, "/v1beta/files", Stateful, Empty, GOOGLE_PAGE),
    (Get, "/v1beta/files/{id}", Stateful, Empty, NONE),
    (Get, "/v1beta/files/{id}:download", Stateful, Empty, ALT),
    (Delete, "/v1beta/files/{id}", Stateful, Empty, NONE),
    (Post, "/upload/v1/files", Stateful, Opaque, UPLOAD),
    (Put, "/upload/v1/files", Stateful, Opaque, UPLOAD),
    (Get, "/v1/files", Stateful, Empty, GOOGLE_PAGE),
    (Get, "/v1/files/{id}", Stateful, Empty, NONE),
    (Get, "/v1/files/{id}:download", Stateful, Empty, ALT),
    (Delete, "/v1/files/{id}", Stateful, Empty, NONE),
    (Get, "/v1beta/cachedContents", Stateful, Empty, GOOGLE_PAGE),
    (Post, "/v1beta/cachedContents", Stateful, Json, NONE),
    (Get, "/v1beta/cachedContents/{id}", Stateful, Empty, NONE),
    (Delete, "/v1beta/cachedContents/{id}", Stateful, Empty, NONE),
];

/// xAI. Left out on purpose: `/v1/api-key`, the management host.
const XAI: &[Row] = &[
    (Get, "/v1/models", Stateless, Empty, NONE),
    (Get, "/v1/models/{model}", Stateless, Empty, NONE),
    (Get, "/v1/language-models", Stateless, Empty, NONE),
    (Get, "/v1/language-models/{model}", Stateless, Empty, NONE),
    (Post, "/v1/chat/completions", Stateless, Json, NONE),
    (Post, "/v1/responses", Stateless, Json, NONE),
    (Post, "/v1/embeddings", Stateless, Json, NONE),
    (Post, "/v1/images/generations", Stateless, Json, NONE),
    (Post, "/v1/tokenize-text", Stateless, Json, NONE),
    (Get, "/v1/responses/{id}", Stateful, Empty, EVENTS),
    (Delete, "/v1/responses/{id}", Stateful, Empty, NONE),
    (Get, "/v1/chat/deferred-completion/{id}", Stateful, Empty, NONE),
];

/// The path table of a dialect's own provider, also for operator-defined providers that speak it.
pub fn paths_of(dialect: Dialect) -> Vec<PathRule> {
    let rows = match dialect {
        Dialect::OpenAi => OPENAI,
        Dialect::Anthropic => ANTHROPIC,
        Dialect::Gemini => GOOGLE,
        Dialect::Xai => XAI,
    };
    rows.iter().filter_map(rule).collect()
}

/// The cheapest request that shows whether a key of this dialect works: list one model.
pub fn probe_of(dialect: Dialect) -> Option<Probe> {
    let target = match dialect {
        Dialect::OpenAi | Dialect::Xai => "/v1/models",
        Dialect::Anthropic => "/v1/models?limit=1",
        Dialect::Gemini => "/v1beta/models?pageSize=1",
    };
    Target::parse(target).ok().map(|target| Probe { method: Get, target })
}

/// How a dialect's own provider takes its key.
pub fn injection_of(dialect: Dialect) -> Injection {
    match dialect {
        Dialect::OpenAi | Dialect::Xai => Injection::Bearer,
        Dialect::Anthropic => Injection::Header("x-api-key".to_owned()),
        Dialect::Gemini => Injection::Header("x-goog-api-key".to_owned()),
    }
}

/// The four built-in providers.
///
/// # Errors
/// Never with the names below; the types demand the check.
pub fn definitions() -> Result<Vec<ProviderDefinition>, NotAName> {
    [
        ("openai", Dialect::OpenAi, "api.openai.com"),
        ("anthropic", Dialect::Anthropic, "api.anthropic.com"),
        ("google", Dialect::Gemini, "generativelanguage.googleapis.com"),
        ("xai", Dialect::Xai, "api.x.ai"),
    ]
    .into_iter()
    .map(|(name, dialect, host)| definition(name, dialect, host))
    .collect()
}

fn definition(name: &str, dialect: Dialect, host: &str) -> Result<ProviderDefinition, NotAName> {
    let host = HostName::parse(host)?;
    Ok(ProviderDefinition {
        name: ProviderName::parse(name)?,
        dialect,
        destination: Destination {
            tls_name: host.clone(),
            host,
            port: PORT,
            extra_authorities: Vec::new(),
            reach: Reach::Public,
            base_path: String::new(),
            injection: injection_of(dialect),
            fixed_headers: Vec::new(),
        },
        paths: paths_of(dialect),
        probe: probe_of(dialect),
        origin: Origin::BuiltIn,
    })
}

fn rule(row: &Row) -> Option<PathRule> {
    let (method, pattern, class, body, query) = *row;
    let pattern = PathPattern::parse(pattern).ok()?;
    let query = query.iter().map(|name| (*name).to_owned()).collect();
    Some(PathRule { method, pattern, class, body, query })
}

#[cfg(test)]
mod tests {
    use super::{ANTHROPIC, GOOGLE, OPENAI, XAI, definitions, paths_of};
    use crate::dialect::Dialect;
    use crate::route::Method;
    use crate::target::Target;

    #[test]
    fn every_row_is_a_rule_and_every_definition_holds() {
        let rows = OPENAI.len() + ANTHROPIC.len() + GOOGLE.len() + XAI.len();
        let definitions = definitions().unwrap();
        assert_eq!(definitions.iter().map(|d| d.paths.len()).sum::<usize>(), rows);
        for definition in definitions {
            definition.check().unwrap();
            let probe = definition.probe.clone().unwrap();
            assert!(definition.paths.iter().any(|rule| {
                rule.fits(probe.method, &probe.target).is_some()
                    && rule.first_foreign_parameter(&probe.target).is_none()
            }));
        }
    }

    #[test]
    fn paths_that_make_or_read_keys_are_in_no_table() {
        for path in [
            "/v1/organization/admin_api_keys",
            "/v1/organization/users",
            "/v1/realtime/client_secrets",
            "/v1/realtime/sessions",
            "/v1/realtime/transcription_sessions",
            "/v1/chatkit/sessions",
            "/v1/organizations/api_keys",
            "/v1/vaults",
            "/v1alpha/auth_tokens",
            "/v1beta/auth_tokens",
            "/v1/api-key",
        ] {
            let target = Target::parse(path).unwrap();
            for dialect in Dialect::ALL {
                for rule in paths_of(dialect) {
                    for method in [Method::Get, Method::Post, Method::Put, Method::Delete] {
                        assert!(rule.fits(method, &target).is_none(), "{path} fits {rule:?}");
                    }
                }
            }
        }
    }
}
