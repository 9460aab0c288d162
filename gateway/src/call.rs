//! The life of one call in the gateway, in order: read the head, read the body, ask the keeper, relay.
//!
//! Invariant: the order of refusals tells a stranger nothing: measure, token, seal, provider, path, and only then the
//! rest.
//! Invariant: what the keeper judged is what is sent; after its leave nothing of the request is read again but bytes.

use std::sync::Arc;

use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::{ModelName, ProviderName};
use strongroom_policy::provider::Origin;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{CallAsk, Refused, Route, Snapshot, VaultState};
use tokio::time::Instant;

use crate::answer::{AnswerBody, HeadSink, ReplyBody, Told, respond};
use crate::body::{Read, Reading};
use crate::connection::{MAX_HEADERS, Visitor};
use crate::exchange::{BorrowedHead, Exchange};
use crate::gateway::Gateway;
use crate::head::{Gathered, Head};
use crate::incoming::Incoming;
use crate::place::{Place, Prefix, check_authority};
use crate::request::RequestHead;
use crate::wording::{self, Stream};

/// Makes one call: writes the answer's head, whatever happens in the route's dialect, and yields its body.
pub(crate) async fn call(
    (gateway, visitor): (&Gateway, &Visitor),
    prefix: Prefix,
    head: &RequestHead<'_>,
    body: Incoming,
    sink: &mut impl HeadSink,
) -> ReplyBody {
    let mut dialect = prefix.dialect();
    match make((gateway, visitor), (prefix, head), body, &mut dialect, sink).await {
        Ok(body) => ReplyBody::Provider(Box::new(body)),
        Err(refused) => refuse(gateway, dialect, &refused, sink),
    }
}

/// Refuses a call.
pub(crate) fn refuse(
    gateway: &Gateway,
    dialect: Dialect,
    refused: &Refused,
    sink: &mut impl HeadSink,
) -> ReplyBody {
    gateway.metrics.refused(refused.refusal);
    ReplyBody::Ours(wording::refuse(dialect, refused, sink))
}

/// Refuses a call whose answer did not come.
pub(crate) fn give_up(gateway: &Gateway, prefix: Prefix, sink: &mut impl HeadSink) -> ReplyBody {
    refuse(gateway, prefix.dialect(), &Refused::plain(Refusal::ProviderTimeout), sink)
}

/// A request whose head was read.
struct Asked {
    proof: SecretBytes,
    provider: ProviderName,
    origin: Origin,
    dialect: Dialect,
    method: Method,
    target: Target,
    body: BodyKind,
    path_model: Option<ModelName>,
    head: Head,
}

async fn make(
    (gateway, visitor): (&Gateway, &Visitor),
    (prefix, head): (Prefix, &RequestHead<'_>),
    body: Incoming,
    dialect: &mut Dialect,
    sink: &mut impl HeadSink,
) -> Result<AnswerBody, Refused> {
    // Before anything is waited for: an HTTP/2 head of a few wire bytes can unpack to very many fields.
    if head.lines.count() > MAX_HEADERS {
        return Err(Refused::plain(Refusal::HeadInvalid));
    }
    let snapshot = gateway.keeper.snapshot();
    let gathered = Gathered::of(&head.lines);
    let asked = read_head(&snapshot, prefix, (head, &gathered), dialect).map_err(Refused::plain)?;
    let ahead = if body.is_over() { 0 } else { asked.head.length.unwrap_or(u64::MAX) };
    let _place = visitor.place(&gateway.bodies, ahead).await.map_err(Refused::plain)?;
    let reading = Reading {
        gateway,
        visitor,
        proof: &asked.proof,
        provider: &asked.provider,
        dialect: asked.dialect,
        target: &asked.target,
        path_model: asked.path_model,
        content_type: gathered.content_type.unwrap_or_default(),
        announced: asked.head.length,
    };
    let Read { claims, length, source } = reading.read(asked.body, body).await?;
    gateway.metrics.read(source.first.len());

    let lane = gateway.couriers.of(asked.origin).borrow().await.map_err(Refused::plain)?;
    let stream = Stream::of(asked.dialect, &asked.target);
    let provider = asked.provider.clone();
    let ask = CallAsk {
        proof: asked.proof,
        provider: asked.provider,
        choice: asked.head.choice,
        method: asked.method,
        target: asked.target,
        betas: asked.head.betas,
        claims,
        length,
    };
    let begun = Instant::now();
    let (ticket, call, budget) = gateway.keeper.call(ask).await?;
    let told = Told {
        dialect: asked.dialect,
        stream,
        budget,
        passed: Arc::clone(&gateway.metrics.answered_bytes),
    };
    gateway.metrics.asked(begun.elapsed());
    visitor.is_known();

    let named = |refusal| Refused { call: Some(call), ..Refused::plain(refusal) };
    let head = BorrowedHead { ticket, headers: gathered.into_travelling(), length };
    let mut exchange = Exchange::begin(lane, &head, source).await.map_err(named)?;
    let payload = exchange.head().await.map_err(named)?;
    let (status, body) = respond(&payload, exchange, call, told, sink).map_err(named)?;
    gateway.metrics.answered(&provider, status.as_u16());
    Ok(body)
}

/// Reads all of the head that is said to the keeper.
fn read_head(
    snapshot: &Snapshot,
    prefix: Prefix,
    (request, gathered): (&RequestHead<'_>, &Gathered<'_>),
    dialect: &mut Dialect,
) -> Result<Asked, Refusal> {
    gathered.refuse_upgrade()?;
    let place = Place::read(prefix, request.target)?;
    *dialect = place.dialect;
    let provider = place.provider_name();
    let route = provider.as_ref().ok().and_then(|name| route(snapshot, name));
    *dialect = route.map_or(place.dialect, |route| route.dialect);
    let proof = gathered.offers.token(place.key.as_ref().map(|key| key.as_str()))?;
    ready(snapshot.state)?;
    let (provider, route) = (provider?, route.ok_or(Refusal::ProviderUnknown)?);
    let method = Method::parse(request.method).ok_or(Refusal::MethodUnknown)?;
    let target = place.target()?;
    let (body, path_model) = path(route, method, &target)?;
    check_authority(request.authority, gathered.host)?;
    let head = gathered.read(route.dialect, request.version)?;
    let (dialect, origin) = (route.dialect, route.origin);
    Ok(Asked { proof, provider, origin, dialect, method, target, body, path_model, head })
}

fn ready(state: VaultState) -> Result<(), Refusal> {
    match state {
        VaultState::Ready => Ok(()),
        VaultState::Uninitialised | VaultState::Sealed | VaultState::Unsealing => {
            Err(Refusal::Sealed)
        }
        VaultState::Faulty => Err(Refusal::StoreUnavailable),
    }
}

fn route<'s>(snapshot: &'s Snapshot, name: &ProviderName) -> Option<&'s Route> {
    snapshot.providers.iter().find(|route| route.name == *name)
}

/// The kind of body of a path, and the model that the path names.
fn path(
    route: &Route,
    method: Method,
    target: &Target,
) -> Result<(BodyKind, Option<ModelName>), Refusal> {
    let fits = |path: &&strongroom_protocol::ask::RoutePath| path.method == method;
    let found = route
        .paths
        .iter()
        .filter(fits)
        .find_map(|path| path.pattern.matches(target).map(|model| (path.body, model)));
    let (body, model) = found.ok_or(Refusal::PathUnknown)?;
    let model = model.map(ModelName::parse).transpose().map_err(|_| Refusal::PathUnknown)?;
    Ok((body, model))
}
