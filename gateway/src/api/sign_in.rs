//! Signing in and out, and the first password.
//!
//! Invariant: every name costs the same here: one question, one hash, one question.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::SET_COOKIE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;
use strongroom_policy::moment::Moment;
use strongroom_policy::name::Label;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::person::{
    Issued, Login, NotSignedIn, PersonAnswer, PersonAsk, Told, Which,
};
use zeroize::Zeroizing;

use super::hashing::Place;
use super::password::Password;
use super::problem::Problem;
use super::{asked, cookie, csrf, from, malformed, parse, told};
use crate::gateway::Gateway;
use crate::routes::moment;

/// What a browser is to forget when its user leaves (W3C Clear Site Data).
const CLEAR: (HeaderName, HeaderValue) = (
    HeaderName::from_static("clear-site-data"),
    HeaderValue::from_static("\"cache\", \"storage\""),
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    login: String,
    password: Password,
    tenant: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redeem {
    invitation: String,
    password: Password,
}

pub(super) async fn sign_in(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = asked(request).await?;
    let wish: SignIn = parse(&parts.headers, &body)?;
    let name = |text: &str| {
        Label::parse(text).map_err(|_| malformed("login and tenant are names of 1 to 80 bytes"))
    };
    let tenant = wish.tenant.as_deref().map(name).transpose()?;
    let login = Login { tenant, name: name(&wish.login)? };
    let from = from(&parts)?;
    let place = gateway.hashing.place().await?;
    // Whoever goes away meanwhile is counted all the same, and leaves no attempt that nobody ends.
    let trying = tokio::spawn(attempt(gateway, (place, wish.password), login, from));
    signed_in(&trying.await.map_err(|_| Problem::internal())??)
}

async fn attempt(
    gateway: Arc<Gateway>,
    (place, password): (Place, Password),
    login: Login,
    from: Told,
) -> Result<Issued, Problem> {
    let begun = gateway.keeper.person(PersonAsk::Begin { login, from }).await?;
    let PersonAnswer::Challenge(challenge) = begun else { return Err(Problem::internal()) };
    let (place, proof) = place.prove(Arc::new(password), challenge).await?;
    // The next one may hash while the keeper writes.
    drop(place);
    match gateway.keeper.person(PersonAsk::Finish { proof, from }).await? {
        PersonAnswer::Session(issued) => Ok(issued),
        _ => Err(Problem::internal()),
    }
}

/// The answer that begins a session.
pub(super) fn signed_in(issued: &Issued) -> Result<Response, Problem> {
    let body = json!({ "csrf_token": csrf::token(&issued.text), "ends": date(issued.ends) });
    let mut response = told(&body);
    let line = cookie::set(issued, SystemTime::now()).ok_or_else(Problem::internal)?;
    response.headers_mut().append(SET_COOKIE, line);
    Ok(response)
}

/// A moment, for people.
pub(super) fn date(at: Moment) -> String {
    let since = Duration::from_millis(at.unix_millis());
    moment(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// The session that a request presents, with its token where it changes something.
pub(super) fn session(parts: &http::request::Parts) -> Result<SecretBytes, Problem> {
    let session = cookie::session(&parts.headers).ok_or((NotSignedIn::Session, None))?;
    if !matches!(parts.method, http::Method::GET | http::Method::HEAD) {
        csrf::check_token(parts, &session)?;
    }
    Ok(session)
}

pub(super) async fn sign_out(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = asked(request).await?;
    let session = session(&parts)?;
    let ask = PersonAsk::End { session, which: Which::This };
    match gateway.keeper.person(ask).await {
        Ok(PersonAnswer::Done) | Err((NotSignedIn::Session, _)) => {}
        Ok(_) => return Err(Problem::internal()),
        Err(why) => return Err(why.into()),
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().append(SET_COOKIE, cookie::removal());
    let (name, value) = CLEAR;
    response.headers_mut().insert(name, value);
    Ok(response)
}

pub(super) async fn redeem(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = asked(request).await?;
    let wish: Redeem = parse(&parts.headers, &body)?;
    let (from, text) = (from(&parts)?, Zeroizing::new(wish.invitation));
    let ticket = || SecretBytes::copy_from(text.as_bytes());
    // Before anything is hashed: who has no invitation costs nothing.
    let whom = gateway.keeper.person(PersonAsk::Invitation { ticket: ticket(), from }).await?;
    let PersonAnswer::Invited(name) = whom else { return Err(Problem::internal()) };
    wish.password.check(name.as_ref())?;
    let place = gateway.hashing.place().await?;
    let (place, new) = place.make(Arc::new(wish.password)).await?;
    drop(place);
    match gateway.keeper.person(PersonAsk::Redeem { ticket: ticket(), new, from }).await? {
        PersonAnswer::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(Problem::internal()),
    }
}
