//! Requests that another site made in its visitor's name.
//!
//! Two tests, each enough for an honest browser: where the browser says that the request comes from, and a token that a page of
//! another site cannot read. The token is a MAC under the session's own text, so it is nobody else's and needs no memory here.
//!
//! Invariant: a cookie alone changes nothing.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{Method, StatusCode};
use strongroom_protocol::SecretBytes;

use super::cookie;
use super::problem::Problem;

/// Where a session's token stands.
const TOKEN: &str = "x-csrf-token";
const SITE: &str = "sec-fetch-site";
const LABEL: &[u8] = b"strongroom/v1/mac/csrf";

/// The token of a session.
pub(super) fn token(session: &SecretBytes) -> String {
    session.expose(|text| URL_SAFE_NO_PAD.encode(sign(&Key::new(HMAC_SHA256, text), LABEL)))
}

/// Whether a request that changes something comes from a page of ours, or from a program that brings no cookie.
pub(super) fn check_origin(parts: &Parts) -> Result<(), Problem> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let header =
        |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let told = |name: &str| parts.headers.contains_key(name);
    let good = if told(SITE) {
        header(SITE) == Some("same-origin")
    } else if told(ORIGIN.as_str()) {
        let host =
            parts.uri.authority().map(http::uri::Authority::as_str).or(header(HOST.as_str()));
        host.is_some_and(|host| header(ORIGIN.as_str()) == Some(&format!("https://{host}")))
    } else {
        !cookie::any(&parts.headers)
    };
    if good { Ok(()) } else { Err(refused("the request comes from another site")) }
}

/// Whether a request shows its session's token.
pub(super) fn check_token(parts: &Parts, session: &SecretBytes) -> Result<(), Problem> {
    let shown = parts.headers.get(TOKEN).map(http::HeaderValue::as_bytes).unwrap_or_default();
    verify_slices_are_equal(shown, token(session).as_bytes())
        .map_err(|_| refused("x-csrf-token is not this session's; ask /api/v1/me for it"))
}

fn refused(what: &str) -> Problem {
    Problem::of(StatusCode::FORBIDDEN, "SR-CSRF-001", what)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use strongroom_protocol::SecretBytes;

    use super::{TOKEN, check_origin, check_token, token};

    fn parts(headers: &[(&str, &str)]) -> http::request::Parts {
        let mut request = Request::post("/api/v1/sign-out").header("host", "keys.example:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    // Red when an absent header counts as a good one while a cookie comes along.
    #[test]
    fn what_another_site_sends_is_refused() {
        let cookie = ("cookie", "a=b");
        for good in [
            &[("sec-fetch-site", "same-origin"), cookie][..],
            &[("origin", "https://keys.example:8443"), cookie],
            &[],
        ] {
            assert!(check_origin(&parts(good)).is_ok(), "{good:?}");
        }
        for bad in [
            &[("sec-fetch-site", "cross-site"), ("origin", "https://keys.example:8443")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("origin", "https://keys.example")],
            &[("origin", "http://keys.example:8443")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[cookie],
        ] {
            assert!(check_origin(&parts(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_its_sessions_alone() {
        let (one, other) = (SecretBytes::copy_from(b"one"), SecretBytes::copy_from(b"other"));
        let shown = token(&one);
        assert_ne!(shown, token(&other));
        assert!(check_token(&parts(&[(TOKEN, &shown)]), &one).is_ok());
        assert!(check_token(&parts(&[(TOKEN, &shown)]), &other).is_err());
        assert!(check_token(&parts(&[(TOKEN, "")]), &one).is_err());
        assert!(check_token(&parts(&[]), &one).is_err());
    }
}
