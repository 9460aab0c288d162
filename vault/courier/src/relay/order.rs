//! What is to be sent: the keeper's errand and the caller's headers, brought together.
//!
//! Invariant: the gateway's head adds headers only; its length must be the one that was judged.
//!
//! Trusts: the errand. Distrusts: the caller's headers.

use std::borrow::Cow;

use strongroom_policy::claims::Length;
use strongroom_policy::destination::Destination;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::call::MAX_HEADERS;
use strongroom_protocol::errand::Deadlines;

use super::origin::Origin;
use crate::errands::Errand;
use crate::lanes::Opening;
use crate::pool::Purpose;
use crate::request::{BodyLength, Request, write_head};
use crate::wiped::WipedVec;

pub(super) struct Order<'h> {
    errand: Box<Errand>,
    key: Option<SecretBytes>,
    headers: Vec<(&'h str, Cow<'h, [u8]>)>,
    /// Path and query in origin form, when the errand's target alone is not it: there is a base path, or a redirect within the
    /// origin was followed.
    target: Option<String>,
}

impl<'h> Order<'h> {
    /// Brings the two together.
    pub(super) fn new(mut errand: Box<Errand>, head: Opening<'h>) -> Result<Self, Refusal> {
        if head.length != errand.length || head.headers.len() > MAX_HEADERS {
            return Err(Refusal::BodyMismatch);
        }
        let mut headers = Vec::with_capacity(head.headers.len() + 1);
        for (name, value) in head.headers {
            // Beta values are policy: those that were judged go out, not those that the gateway names.
            if !name.eq_ignore_ascii_case(ANTHROPIC_BETA) {
                headers.push((name, Cow::Borrowed(value.as_bytes())));
            }
        }
        if !errand.betas.is_empty() {
            headers.push((ANTHROPIC_BETA, Cow::Owned(join_betas(&errand))));
        }
        let base = &errand.destination.base_path;
        let target = (!base.is_empty()).then(|| format!("{base}{}", errand.target.as_str()));
        let key = std::mem::replace(&mut errand.secret, SecretBytes::copy_from(b""));
        Ok(Self { key: Some(key), headers, target, errand })
    }

    /// The head of the request, in a buffer that is wiped.
    pub(super) fn write_head(&self) -> Result<WipedVec, Refusal> {
        let destination = &self.errand.destination;
        let written = self.with_key(|key| {
            self.errand.idempotency_tag.expose(|subject| {
                let request = Request {
                    method: self.errand.method.name(),
                    target: self.target.as_deref().unwrap_or(self.errand.target.as_str()),
                    host: destination.host.as_ref(),
                    port: destination.port,
                    injection: &destination.injection,
                    secret: key,
                    fixed: &destination.fixed_headers,
                    headers: &self.headers,
                    subject,
                    body: self.body_length(),
                };
                write_head(&request)
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
        self.target = Some(target);
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
            .map(|(_, value)| &**value);
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

    /// What its connection is for.
    pub(super) fn purpose(&self) -> Purpose<'_> {
        let Errand { credential, credential_version: version, destination, .. } = &*self.errand;
        Purpose { credential: *credential, version: *version, destination }
    }

    /// The destination's own URLs; few answers have any.
    pub(super) fn origin(&self) -> Origin {
        Origin::new(&self.errand.destination, &self.errand.public_prefix)
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
