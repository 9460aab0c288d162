//! An errand written from what the keeper holds: the same bytes as [`Errand`], and nothing is copied only to be encoded.
//!
//! Invariant: field for field the message of `errand.sock`; a test compares the bytes.
//! Invariant: an opened key is lent from where it was opened to the courier's buffer, with no copy between.
//!
//! [`Errand`]: strongroom_protocol::errand::Errand

use serde::{Serialize, Serializer};
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::destination::Destination;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::{CallId, CredentialId};
use strongroom_policy::name::BetaName;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_policy::target::Target;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::errand::Deadlines;

/// `ToCourier::Errand`, the first of its variants.
#[derive(Serialize)]
pub enum LentToCourier<'a> {
    /// The errand of a redeemed ticket.
    Errand {
        /// The ticket that was redeemed.
        ticket: Ticket,
        /// What to do.
        errand: LentErrand<'a>,
    },
}

/// `Errand`, in its order.
#[derive(Serialize)]
pub struct LentErrand<'a> {
    /// Names the call.
    pub call: CallId,
    /// Separates pooled connections.
    pub credential: CredentialId,
    /// The version of the credential.
    pub credential_version: u64,
    /// Where to.
    pub destination: &'a Destination,
    /// The key.
    pub secret: LentSecret<'a>,
    /// The method that was judged.
    pub method: Method,
    /// The target that was judged.
    pub target: &'a Target,
    /// The API shape.
    pub dialect: Dialect,
    /// What kind of body was judged.
    pub body: BodyKind,
    /// The claims that were judged.
    pub claims: &'a Claims,
    /// The length that was judged.
    pub length: Length,
    /// The beta values that were judged.
    pub betas: &'a [BetaName],
    /// Key for idempotency keys.
    pub idempotency_tag: LentSecret<'a>,
    /// Where users reach the provider through us.
    pub public_prefix: &'a str,
    /// How long to wait.
    pub deadlines: Deadlines,
}

/// Secret bytes that are written where they go: no `Debug`.
pub struct LentSecret<'a>(pub &'a [u8]);

impl Serialize for LentSecret<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(self.0)
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::claims::{Features, Stream};
    use strongroom_policy::destination::{Injection, Reach};
    use strongroom_policy::name::{HostName, ModelName};
    use strongroom_protocol::SecretBytes;
    use strongroom_protocol::errand::{Errand, ToCourier};
    use strongroom_protocol::frame::{MAX_ERRAND_BYTES, encode};

    use super::*;

    fn errand() -> Errand {
        let host = |text| HostName::parse(text).unwrap();
        Errand {
            call: CallId::from_random([1; 16]),
            credential: CredentialId::from_random([2; 16]),
            credential_version: 300,
            destination: Destination {
                host: host("ai.example"),
                port: 8443,
                tls_name: host("other.example"),
                extra_authorities: vec![vec![0x30; 300], vec![0xff]],
                reach: Reach::Private,
                base_path: "/base".to_owned(),
                injection: Injection::Header("x-api-key".to_owned()),
                fixed_headers: vec![("organisation".to_owned(), "one".to_owned())],
            },
            secret: SecretBytes::copy_from(b"a key"),
            method: Method::Post,
            target: Target::parse("/v1/chat/completions?a=b").unwrap(),
            dialect: Dialect::Anthropic,
            body: BodyKind::Json,
            claims: Claims {
                model: Some(ModelName::parse("gpt-4o").unwrap()),
                max_output: Some(7),
                answers: 2,
                stream: Stream::Streamed,
                features: Features::ALL,
                extent: strongroom_policy::claims::Extent::Text,
            },
            length: Length::Known(500),
            betas: vec![BetaName::parse("files-1").unwrap()],
            idempotency_tag: SecretBytes::copy_from(&[9; 32]),
            public_prefix: "https://localhost:8443/openai".to_owned(),
            deadlines: Deadlines::USUAL,
        }
    }

    #[test]
    fn a_lent_errand_has_the_bytes_of_an_errand() {
        let (ticket, errand) = (Ticket([3; 16]), errand());
        let lent = errand.secret.expose(|secret| {
            let errand = LentErrand {
                call: errand.call,
                credential: errand.credential,
                credential_version: errand.credential_version,
                destination: &errand.destination,
                secret: LentSecret(secret),
                method: errand.method,
                target: &errand.target,
                dialect: errand.dialect,
                body: errand.body,
                claims: &errand.claims,
                length: errand.length,
                betas: &errand.betas,
                idempotency_tag: LentSecret(&[9; 32]),
                public_prefix: &errand.public_prefix,
                deadlines: errand.deadlines,
            };
            encode(&LentToCourier::Errand { ticket, errand }, MAX_ERRAND_BYTES).unwrap()
        });
        let owned = ToCourier::Errand { ticket, errand: Box::new(errand) };
        assert_eq!(lent, encode(&owned, MAX_ERRAND_BYTES).unwrap());
    }
}
