//! Every route of the gateway.
//!
//! | route | for |
//! |---|---|
//! | `/openai/…` | OpenAI; base URL `https://HOST:8443/openai/v1` |
//! | `/anthropic/…` | Anthropic; base URL `https://HOST:8443/anthropic` |
//! | `/google/…` | Google Gemini; base URL `https://HOST:8443/google` |
//! | `/xai/…` | xAI; base URL `https://HOST:8443/xai/v1` |
//! | `/p/{provider}/…` | any provider by its name |
//! | `GET /healthz` | whether calls can be made, and nothing more |
//! | `/api/v1/…` | people who sign in: see [`crate::api`] |
//! | `GET /.well-known/jwks.json` | what verifies their sessions |
//! | `GET /.well-known/security.txt` | whom to tell of a vulnerability, if the operator named somebody |
//!
//! Calls are recognised by how their path begins and go to [`crate::call`]; everything else is a page, of axum's router.
//!
//! Invariant: every route but these three pages demands a token, a session, a password or an invitation; there is no other page.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use strongroom_policy::dialect::Dialect;
use strongroom_protocol::ask::VaultState;

use crate::api;
use crate::gateway::Gateway;
use crate::place::Prefix;

/// Which calls a path is for; `None` for a page. The path is taken as it came: `/OPENAI` and `/%6fpenai` are no calls.
pub fn prefix_of(target: &str) -> Option<Prefix> {
    let path = target.split('?').next().unwrap_or_default();
    let (first, rest) = path.strip_prefix('/')?.split_once('/')?;
    let prefix = match first {
        "openai" => Prefix::BuiltIn(Dialect::OpenAi),
        "anthropic" => Prefix::BuiltIn(Dialect::Anthropic),
        "google" => Prefix::BuiltIn(Dialect::Gemini),
        "xai" => Prefix::BuiltIn(Dialect::Xai),
        "p" => {
            let (provider, rest) = rest.split_once('/')?;
            return (!provider.is_empty() && !rest.is_empty()).then_some(Prefix::Named);
        }
        _ => return None,
    };
    (!rest.is_empty()).then_some(prefix)
}

/// The pages.
pub fn pages(gateway: Arc<Gateway>, security_contact: Option<String>) -> Router {
    let mut pages = Router::new()
        .route("/healthz", get(health))
        .route("/.well-known/jwks.json", get(api::keys))
        .nest("/api/v1", api::router());
    if let Some(contact) = security_contact {
        let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
        let page = async move || (kind, security_txt(&contact, SystemTime::now()));
        pages = pages.route("/.well-known/security.txt", get(page));
    }
    pages.fallback(nothing).with_state(gateway)
}

/// Counts from the request: a gateway that runs for years never tells a date that is over.
fn security_txt(contact: &str, now: SystemTime) -> String {
    let expires = moment(now.checked_add(CONTACT_HOLDS).unwrap_or(now));
    format!("Contact: {contact}\nExpires: {expires}\n")
}

/// RFC 3339, from the one form of HTTP's dates: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn moment(at: SystemTime) -> String {
    let text = httpdate::fmt_http_date(at);
    let words: Vec<&str> = text.split(' ').collect();
    let &[_, day, name, year, time, _] = words.as_slice() else { return text };
    let month = MONTHS.iter().zip(1..).find(|(month, _)| **month == name);
    format!("{year}-{:02}-{day}T{time}Z", month.map_or(0, |(_, number)| number))
}

/// RFC 9116, 2.5.5, wants less than a year.
const CONTACT_HOLDS: Duration = Duration::from_hours(24 * 364);
/// RFC 9110, 5.6.7.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

async fn health(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.keeper.snapshot().state {
        VaultState::Ready => (StatusCode::OK, "ok\n").into_response(),
        VaultState::Uninitialised
        | VaultState::Sealed
        | VaultState::Unsealing
        | VaultState::Faulty => (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n").into_response(),
    }
}

async fn nothing() -> Response {
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use strongroom_policy::dialect::Dialect;

    use super::{Prefix, prefix_of, security_txt};

    // Red when a month, or the length of the time, is another.
    #[test]
    fn a_contact_holds_for_364_days_from_the_request_on() {
        for (now, expires) in [
            (0, "1970-12-31T00:00:00Z"),
            (1_709_164_799, "2025-02-26T23:59:59Z"),
            (1_795_816_977, "2027-11-26T22:02:57Z"),
        ] {
            let told = security_txt("mailto:a@b", UNIX_EPOCH + Duration::from_secs(now));
            assert_eq!(told, format!("Contact: mailto:a@b\nExpires: {expires}\n"));
        }
        for month in 0..12_u32 {
            let now = UNIX_EPOCH + Duration::from_hours(u64::from(month) * 24 * 30 + 24 * 10);
            let told = security_txt("", now);
            assert!(told.contains(&format!("-{:02}-", month + 1)), "{told}");
        }
    }

    #[test]
    fn only_what_is_written_exactly_so_is_a_call() {
        for (target, prefix) in [
            ("/openai/v1/models", Prefix::BuiltIn(Dialect::OpenAi)),
            ("/openai//v1", Prefix::BuiltIn(Dialect::OpenAi)),
            ("/anthropic/v1/messages?beta=true", Prefix::BuiltIn(Dialect::Anthropic)),
            ("/google/v1beta/models?key=a/b", Prefix::BuiltIn(Dialect::Gemini)),
            ("/xai/v1/models", Prefix::BuiltIn(Dialect::Xai)),
            ("/p/demo-openai/v1/models", Prefix::Named),
        ] {
            assert_eq!(prefix_of(target), Some(prefix), "{target}");
        }
        for target in [
            "",
            "/",
            "openai/v1",
            "/openai",
            "/openai/",
            "/openai?/v1",
            "/OPENAI/v1",
            "/%6fpenai/v1",
            "/p",
            "/p/",
            "/p/openai",
            "/p/openai/",
            "/p//v1",
            "/healthz",
            "//openai/v1",
            "*",
        ] {
            assert_eq!(prefix_of(target), None, "{target}");
        }
    }
}
