//! Headers of every answer here: nothing of it is kept, shown in a frame, run, or read by another site.

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Puts them on an answer.
pub(super) async fn shield(mut response: Response) -> Response {
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

const HEADERS: [(&str, &str); 9] = [
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    // Without `includeSubDomains`: the host's domain is its operator's, and may have others below it.
    ("strict-transport-security", "max-age=63072000"),
    ("vary", "Sec-Fetch-Site, Origin, Cookie"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];
