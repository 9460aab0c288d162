//! What is to be sent: the keeper's errand and the caller's headers, brought together.
//!
//! Invariant: the gateway's head adds headers only; its length must be the one that was judged.
//!
//! Trusts: the errand. Distrusts: the caller's headers.

use strongroom_policy::destination::Destination;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::call::{CallHead, MAX_HEADERS};
use strongroom_protocol::errand::{Deadlines, Errand};
use zeroize::Zeroizing;

use super::origin::Origin;
use crate::pool::PoolKey;
use crate::request::{BodyLength, Request, write_head};
use strongroom_policy::claims::Length;

pub(super) struct Order {
    errand: Box<Errand>,
    key: Option<SecretBytes>,
    headers: Vec<(String, Vec<u8>)>,
    /// Path and query in origin form, base path included; a redirect within the origin changes it.
    target: String,
    pool_key: PoolKey,
    origin: Origin,
}

impl Order {
    /// Brings the two together.
    pub(super) fn new(mut errand: Box<Errand>, head: CallHead) -> Result<Self, Refusal> {
        if head.length != errand.length || head.headers.len() > MAX_HEADERS {
            return Err(Refusal::BodyMismatch);
        }
        let mut headers: Vec<(String, Vec<u8>)> = head
            .headers
            .into_iter()
            // Beta values are policy: those that were judged go out, not those that the gateway names.
            .filter(|(name, _)| !name.eq_ignore_ascii_case(ANTHROPIC_BETA))
            .map(|(name, value)| (name, value.into_bytes()))
            .collect();
        if !errand.betas.is_empty() {
            headers.push((ANTHROPIC_BETA.to_owned(), join_betas(&errand)));
        }
        let version = errand.credential_version.to_be_bytes();
        let credential = [&errand.credential.bytes()[..], &version].concat();
        let key = std::mem::replace(&mut errand.secret, SecretBytes::copy_from(b""));
        Ok(Self {
            key: Some(key),
            target: format!("{}{}", errand.destination.base_path, errand.target.as_str()),
            pool_key: PoolKey::derive(&errand.destination, &credential),
            origin: Origin::new(&errand.destination, &errand.public_prefix),
            headers,
            errand,
        })
    }

    /// The head of the request, in a buffer that is wiped.
    pub(super) fn write_head(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let destination = &self.errand.destination;
        let written = self.with_key(|key| {
            self.errand.idempotency_tag.expose(|subject| {
                write_head(&Request {
                    method: self.errand.method.name(),
                    target: &self.target,
                    host: destination.host.as_ref(),
                    port: destination.port,
                    injection: &destination.injection,
                    secret: key,
                    fixed: &destination.fixed_headers,
                    headers: &self.headers,
                    subject,
                    body: self.body_length(),
                })
            })
        })?;
        written.map_err(|error| {
            tracing::warn!(call = %self.errand.call, %error, "no head is written");
            Refusal::HeadInvalid
        })
    }

    /// Lends the key, as long as it is here.
    pub(super) fn with_key<T>(&self, see: impl FnOnce(&[u8]) -> T) -> Result<T, Refusal> {
        self.key.as_ref().map(|key| key.expose(see)).ok_or(Refusal::Internal)
    }

    /// Wipes the key.
    pub(super) fn forget_key(&mut self) {
        self.key = None;
    }

    /// Follows a redirect within the origin.
    pub(super) fn go_to(&mut self, target: String) {
        self.target = target;
    }

    /// How the body's length is told to the provider.
    pub(super) fn body_length(&self) -> BodyLength {
        match (self.errand.body, self.errand.length, self.errand.method) {
            (BodyKind::Empty, _, Method::Get | Method::Delete)
            | (_, Length::Known(0), Method::Get | Method::Delete) => BodyLength::None,
            // RFC 9110, 8.6: methods that expect content say that there is none.
            (BodyKind::Empty, _, Method::Post | Method::Put | Method::Patch) => {
                BodyLength::Known(0)
            }
            (BodyKind::Json | BodyKind::Multipart | BodyKind::Opaque, Length::Known(bytes), _) => {
                BodyLength::Known(bytes)
            }
            (BodyKind::Json | BodyKind::Multipart | BodyKind::Opaque, Length::Chunked, _) => {
                BodyLength::Chunked
            }
        }
    }

    /// The caller's only `content-type`.
    pub(super) fn content_type(&self) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-type"))
            .map(|(_, value)| value);
        match (found.next(), found.next()) {
            (Some(value), None) => std::str::from_utf8(value).ok(),
            (_, _) => None,
        }
    }

    pub(super) fn errand(&self) -> &Errand {
        &self.errand
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.errand.destination
    }

    pub(super) fn method(&self) -> Method {
        self.errand.method
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.errand.dialect
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        self.errand.deadlines
    }

    pub(super) fn pool_key(&self) -> PoolKey {
        self.pool_key
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }
}

fn join_betas(errand: &Errand) -> Vec<u8> {
    let mut joined = Vec::new();
    for beta in &errand.betas {
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(beta.as_ref().as_bytes());
    }
    joined
}

/// The one header in which a dialect names betas.
const ANTHROPIC_BETA: &str = "anthropic-beta";
