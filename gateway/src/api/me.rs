//! Whoever is signed in: who they are, their sessions, their password.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use serde::Deserialize;
use serde_json::{Value, json};
use strongroom_policy::id::SessionId;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::person::{
    Issued, Me, NotSignedIn, PersonAnswer, PersonAsk, SessionRow, Told, Which,
};

use super::hashing::Place;
use super::password::Password;
use super::problem::Problem;
use super::sign_in::{date, session, signed_in};
use super::{asked, cookie, csrf, from, parse, told};
use crate::gateway::Gateway;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    old: Password,
    new: Password,
}

pub(super) async fn me(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = asked(request).await?;
    let session = session(&parts)?;
    let ask = PersonAsk::Look { session: again(&session), from: from(&parts)? };
    let PersonAnswer::Me(me) = gateway.keeper.person(ask).await? else {
        return Err(Problem::internal());
    };
    let Me { name, session: id, ends, renewed } = me;
    let token = csrf::token(renewed.as_ref().map_or(&session, |issued| &issued.text));
    let mut response = told(&json!({
        "name": name,
        "session": id.to_string(),
        "ends": date(ends),
        "csrf_token": token,
    }));
    if let Some(issued) = renewed {
        let line = cookie::set(&issued, SystemTime::now()).ok_or_else(Problem::internal)?;
        response.headers_mut().append(SET_COOKIE, line);
    }
    Ok(response)
}

pub(super) async fn sessions(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = asked(request).await?;
    let ask = PersonAsk::Sessions { session: session(&parts)? };
    let PersonAnswer::Sessions(rows) = gateway.keeper.person(ask).await? else {
        return Err(Problem::internal());
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    Ok(told(&json!({ "sessions": rows })))
}

fn row(row: &SessionRow) -> Value {
    json!({
        "id": row.id.to_string(),
        "this": row.this,
        "began": date(row.began),
        "seen": date(row.seen),
        "ends": date(row.ends),
        "address": row.told.address.to_string(),
        "agent": row.told.agent,
    })
}

pub(super) async fn end_others(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    end(&gateway, request, Which::Others).await
}

pub(super) async fn end_one(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id: SessionId = id.parse().map_err(|_| (NotSignedIn::OtherSession, None))?;
    end(&gateway, request, Which::One(id)).await
}

async fn end(gateway: &Gateway, request: Request, which: Which) -> Result<Response, Problem> {
    let (parts, _) = asked(request).await?;
    let ask = PersonAsk::End { session: session(&parts)?, which };
    match gateway.keeper.person(ask).await? {
        PersonAnswer::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        _ => Err(Problem::internal()),
    }
}

pub(super) async fn password(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = asked(request).await?;
    let session = session(&parts)?;
    let Change { old, new } = parse(&parts.headers, &body)?;
    let from = from(&parts)?;
    let look = PersonAsk::Look { session: again(&session), from };
    let PersonAnswer::Me(me) = gateway.keeper.person(look).await? else {
        return Err(Problem::internal());
    };
    new.check(me.name.as_ref())?;
    let session = me.renewed.map_or(session, |issued| issued.text);
    let place = gateway.hashing.place().await?;
    let changing = tokio::spawn(change(gateway, place, (session, from), (old, new)));
    signed_in(&changing.await.map_err(|_| Problem::internal())??)
}

/// Goes to its end also when the caller does not wait for it, as a sign-in does.
async fn change(
    gateway: Arc<Gateway>,
    place: Place,
    (session, from): (SecretBytes, Told),
    (old, new): (Password, Password),
) -> Result<Issued, Problem> {
    let begin = PersonAsk::BeginAgain { session: again(&session), from };
    let PersonAnswer::Challenge(challenge) = gateway.keeper.person(begin).await? else {
        return Err(Problem::internal());
    };
    let (place, proof) = place.prove(Arc::new(old), challenge).await?;
    let (place, new) = place.make(Arc::new(new)).await?;
    drop(place);
    match gateway.keeper.person(PersonAsk::Change { session, proof, new, from }).await? {
        PersonAnswer::Session(issued) => Ok(issued),
        _ => Err(Problem::internal()),
    }
}

fn again(session: &SecretBytes) -> SecretBytes {
    session.expose(SecretBytes::copy_from)
}
