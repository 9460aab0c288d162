//! The headers of a caller that a provider may see: an auditor's page.
//!
//! Invariant: what is not listed is dropped. Among the dropped: every form of authentication, `host`, `cookie`, `content-length`,
//! `transfer-encoding`, `accept-encoding`, `expect`, hop-by-hop headers, `range` and `if-range` (they would let a caller choose
//! where an echo is cut), `openai-organization`, `openai-project` and `x-goog-user-project` (stored with the credential), and
//! `x-http-method-override`.

use std::borrow::Cow;

/// The name in lower case when the header passes.
pub(super) fn passing_name(name: &str) -> Option<Cow<'static, str>> {
    if let Some(listed) = NAMES.iter().find(|listed| listed.eq_ignore_ascii_case(name)) {
        return Some(Cow::Borrowed(listed));
    }
    let start =
        name.get(..STAINLESS.len()).is_some_and(|start| start.eq_ignore_ascii_case(STAINLESS));
    (start && is_token(name)).then(|| Cow::Owned(name.to_ascii_lowercase()))
}

/// RFC 9110, 5.6.2, and not endless.
pub(super) fn is_token(name: &str) -> bool {
    (1..=96).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Headers whose second copy another reader could prefer to the first.
pub(super) const SINGLE: [&str; 4] =
    ["content-type", "idempotency-key", "anthropic-version", "user-agent"];

/// Headers that frame or route a message: written by us alone, whatever a definition says.
pub(super) const FRAMING: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept-encoding",
];

const NAMES: [&str; 18] = [
    "accept",
    "content-type",
    "user-agent",
    "idempotency-key",
    // Anthropic.
    "anthropic-version",
    "anthropic-beta",
    // OpenAI.
    "openai-beta",
    "x-client-request-id",
    // Google.
    "x-goog-api-client",
    "x-goog-request-params",
    "x-goog-upload-protocol",
    "x-goog-upload-command",
    "x-goog-upload-offset",
    "x-goog-upload-header-content-length",
    "x-goog-upload-header-content-type",
    "x-goog-upload-file-name",
    "x-server-timeout",
    // xAI: keeps a conversation on one machine's cache.
    "x-grok-conv-id",
];

/// The official SDKs' notes on themselves.
const STAINLESS: &str = "x-stainless-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_authentication_framing_or_capability_header_passes() {
        for name in [
            "authorization",
            "Proxy-Authorization",
            "x-api-key",
            "api-key",
            "X-Goog-Api-Key",
            "xi-api-key",
            "cookie",
            "sec-websocket-protocol",
            "host",
            "content-length",
            "transfer-encoding",
            "accept-encoding",
            "expect",
            "connection",
            "te",
            "upgrade",
            "range",
            "If-Range",
            "if-none-match",
            "openai-organization",
            "OpenAI-Project",
            "x-goog-user-project",
            "x-http-method-override",
            "x-forwarded-for",
            "forwarded",
            "via",
            "origin",
            "referer",
            "x-stainless-\r\nx",
            "x-stainless-é",
            "content-encoding",
            "",
        ] {
            assert_eq!(passing_name(name), None, "{name}");
        }
    }

    #[test]
    fn what_the_sdks_send_passes_in_lower_case() {
        for name in [
            "User-Agent",
            "X-Stainless-Retry-Count",
            "Anthropic-Beta",
            "OpenAI-Beta",
            "X-Goog-Api-Client",
        ] {
            assert_eq!(passing_name(name).as_deref(), Some(name.to_ascii_lowercase().as_str()));
        }
    }
}
