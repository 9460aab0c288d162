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
//! | `GET /.well-known/security.txt` | whom to tell of a vulnerability, if the operator named somebody |
//!
//! Calls are recognised by how their path begins and go to [`crate::call`]; everything else is a page, of axum's router.
//!
//! Invariant: every route but these two pages demands a token; there is no other page.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use strongroom_policy::dialect::Dialect;
use strongroom_protocol::ask::VaultState;

use crate::gateway::Gateway;
use crate::place::Prefix;
use crate::settings::SecurityTxt;

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
pub fn pages(gateway: Arc<Gateway>, security: Option<SecurityTxt>) -> Router {
    let mut pages = Router::new().route("/healthz", get(health));
    if let Some(SecurityTxt { contact, expires }) = security {
        let text = format!("Contact: {contact}\nExpires: {expires}\n");
        let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
        pages = pages.route("/.well-known/security.txt", get(async move || (kind, text)));
    }
    pages.fallback(nothing).with_state(gateway)
}

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
    use strongroom_policy::dialect::Dialect;

    use super::{Prefix, prefix_of};

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
