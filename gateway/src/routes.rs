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
//!
//! Invariant: every route but `/healthz` demands a token; there is no other page.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use http::StatusCode;
use strongroom_policy::dialect::Dialect;
use strongroom_protocol::ask::VaultState;

use crate::call::call;
use crate::gateway::Gateway;
use crate::place::Prefix;

/// The table.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/openai/{*rest}", calls(Prefix::BuiltIn(Dialect::OpenAi)))
        .route("/anthropic/{*rest}", calls(Prefix::BuiltIn(Dialect::Anthropic)))
        .route("/google/{*rest}", calls(Prefix::BuiltIn(Dialect::Gemini)))
        .route("/xai/{*rest}", calls(Prefix::BuiltIn(Dialect::Xai)))
        .route("/p/{provider}/{*rest}", calls(Prefix::Named))
        .route("/healthz", get(health))
        .fallback(nothing)
        .with_state(gateway)
}

fn calls(prefix: Prefix) -> MethodRouter<Arc<Gateway>> {
    any(move |State(gateway): State<Arc<Gateway>>, request: Request| call(gateway, prefix, request))
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
