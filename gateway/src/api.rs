//! What people ask for: signing in and out, their sessions, their password. JSON over HTTP, below `/api/v1`.
//!
//! | route | for |
//! |---|---|
//! | `POST /sign-in` | `{"login", "password", "tenant"?}`: a session in a cookie, and its token against forged requests |
//! | `POST /sign-out` | ends the session |
//! | `GET /me` | whose session it is |
//! | `GET /me/sessions` | all sessions of this person |
//! | `DELETE /me/sessions` | ends all but this one |
//! | `DELETE /me/sessions/{id}` | ends one |
//! | `POST /me/password` | `{"old", "new"}`: every session ends, and a new one begins |
//! | `POST /invitations/redeem` | `{"invitation", "password"}`: sets the first password |
//!
//! Invariant: what changes something is asked by a page of this origin, or by a program that sends no cookie; with a session it shows
//! the session's token as well ([`csrf`]).
//! Invariant: bodies are JSON of 16 KiB at most; nobody keeps an answer.
//! Distrusts: the caller. Whether anybody is signed in is the keeper's word alone.

mod agent;
mod cookie;
mod csrf;
pub(crate) mod hashing;
mod me;
mod password;
mod problem;
mod shield;
mod sign_in;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use strongroom_protocol::person::Told;
use tokio::time::timeout;

use crate::gateway::Gateway;
use problem::Problem;

/// Largest body.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024;
/// How long a body may take.
pub(crate) const BODY_WAIT: Duration = Duration::from_secs(10);

/// Where a request came from: the address at the other end of its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client(pub(crate) IpAddr);

/// Whether a page of this path reads its request's body.
pub(crate) fn takes_body(target: &str) -> bool {
    target.starts_with("/api/v1/")
}

/// The routes.
pub(crate) fn router() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/sign-in", post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/me", get(me::me))
        .route("/me/sessions", get(me::sessions).delete(me::end_others))
        .route("/me/sessions/{id}", delete(me::end_one))
        .route("/me/password", post(me::password))
        .route("/invitations/redeem", post(sign_in::redeem))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(map_response(shield::shield))
}

/// `/.well-known/jwks.json`: what verifies sessions (RFC 7517), for other programs.
pub(crate) async fn keys(State(gateway): State<Arc<Gateway>>) -> Response {
    let key = gateway.keeper.snapshot().session_key.clone();
    let row = |key: strongroom_protocol::person::SessionKey| {
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": key.kid,
            "n": number(&key.modulus),
            "e": number(&key.exponent),
        })
    };
    let keys: Vec<Value> = key.into_iter().map(row).collect();
    shield::shield(told(&json!({ "keys": keys }))).await
}

async fn nothing() -> Problem {
    Problem::of(StatusCode::NOT_FOUND, "SR-API-001", "there is no such page")
}

async fn other_method() -> Problem {
    let what = "this page takes another method";
    Problem::of(StatusCode::METHOD_NOT_ALLOWED, "SR-API-002", what)
}

/// An answer in JSON.
fn told(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// The head of a request and, of one that changes something, its body; one that another site made is refused.
async fn asked(request: Request) -> Result<(Parts, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    csrf::check_origin(&parts)?;
    let read = timeout(BODY_WAIT, to_bytes(body, MAX_BODY_BYTES));
    let read = read.await.map_err(|_| {
        Problem::of(StatusCode::REQUEST_TIMEOUT, "SR-API-003", "the body did not come in time")
    })?;
    let body = read.map_err(|_| {
        let what = "the body is larger than 16 KiB, or broke off";
        Problem::of(StatusCode::PAYLOAD_TOO_LARGE, "SR-API-004", what)
    })?;
    Ok((parts, body))
}

/// Reads a body. No other type of content: a form could be sent by a page of another site without asking first.
fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let plain = kind.split(';').next().unwrap_or_default().trim();
    if !plain.eq_ignore_ascii_case("application/json") {
        let what = "send application/json";
        return Err(Problem::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, "SR-API-005", what));
    }
    serde_json::from_slice(body).map_err(|_| malformed("the body is not what this page reads"))
}

fn malformed(what: &str) -> Problem {
    Problem::of(StatusCode::BAD_REQUEST, "SR-API-006", what)
}

/// Where the caller is, for the keeper.
fn from(parts: &Parts) -> Result<Told, Problem> {
    let client = parts.extensions.get::<Client>().ok_or_else(Problem::internal)?;
    Ok(Told { address: client.0, agent: agent::agent(&parts.headers) })
}
