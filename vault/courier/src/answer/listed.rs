//! The headers of an answer that a caller may see: an auditor's page.
//!
//! Invariant: what is not listed is dropped. Among the dropped: `set-cookie`, `authorization`, `x-api-key`, `x-goog-api-key`
//! (a provider was seen to send the key back in it), `server`, `alt-svc` (would send clients past us), `location`, and
//! everything that describes the provider's connection rather than the answer.

use std::borrow::Cow;

/// The name in lower case when the header passes.
pub(super) fn passing_name(name: &str) -> Option<Cow<'static, str>> {
    if let Some(listed) = NAMES.iter().find(|listed| listed.eq_ignore_ascii_case(name)) {
        return Some(Cow::Borrowed(listed));
    }
    let family = FAMILIES.iter().any(|family| {
        name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family))
    });
    (family && name.len() <= MAX_NAME_BYTES).then(|| Cow::Owned(name.to_ascii_lowercase()))
}

const NAMES: [&str; 12] = [
    "content-type",
    "content-disposition",
    "content-language",
    "cache-control",
    "date",
    "etag",
    "last-modified",
    "retry-after",
    "retry-after-ms",
    "request-id",
    "x-request-id",
    "x-should-retry",
];

const FAMILIES: [&str; 4] = ["x-ratelimit-", "anthropic-", "openai-", "x-goog-upload-"];

const MAX_NAME_BYTES: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_credential_cookie_or_connection_header_passes() {
        for name in [
            "set-cookie",
            "Set-Cookie2",
            "authorization",
            "x-api-key",
            "X-Goog-Api-Key",
            "proxy-authenticate",
            "server",
            "alt-svc",
            "via",
            "location",
            "connection",
            "keep-alive",
            "transfer-encoding",
            "trailer",
            "upgrade",
            "content-length",
            "www-authenticate",
            "x-unknown",
            "strict-transport-security",
            "refresh",
            "link",
            "é",
        ] {
            assert_eq!(passing_name(name), None, "{name}");
        }
    }

    #[test]
    fn what_the_sdks_read_passes_in_lower_case() {
        for name in [
            "Content-Type",
            "Retry-After-Ms",
            "X-Request-Id",
            "request-id",
            "X-RateLimit-Remaining-Tokens",
            "Anthropic-RateLimit-Requests-Reset",
            "OpenAI-Processing-MS",
            "x-should-retry",
            "X-Goog-Upload-Status",
        ] {
            assert_eq!(passing_name(name).as_deref(), Some(name.to_ascii_lowercase().as_str()));
        }
    }
}
