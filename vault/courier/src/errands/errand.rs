//! The courier's form of the keeper's messages: read in place, their destinations shared with the errands before.
//!
//! Most errands go where the last ones went: a dozen texts and certificates would be copied and judged anew for each call.
//!
//! Invariant: the encoding is that of `strongroom_protocol::errand`, field by field; a test compares them.
//! Invariant: a destination is shared only when every field is the same. Nothing of a key is kept.
//!
//! Trusts: the keeper.

use std::sync::Arc;

use serde::Deserialize;
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::destination::{Destination, Injection, Reach};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::{CallId, CredentialId};
use strongroom_policy::name::{BetaName, HostName};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::errand::{Deadlines, Recall};
use strongroom_protocol::frame::FrameError;

/// A message of the keeper.
pub(crate) enum Message {
    Errand { ticket: Ticket, errand: Box<Errand> },
    Refused { ticket: Ticket, refusal: Refusal },
    Probe(Box<Errand>),
    Recall(Recall),
}

/// One call to make; the fields are the protocol's.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) call: CallId,
    pub(crate) credential: CredentialId,
    pub(crate) credential_version: u64,
    pub(crate) destination: Arc<Destination>,
    pub(crate) secret: SecretBytes,
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) dialect: Dialect,
    pub(crate) body: BodyKind,
    pub(crate) claims: Claims,
    pub(crate) length: Length,
    pub(crate) betas: Vec<BetaName>,
    pub(crate) idempotency_tag: SecretBytes,
    pub(crate) public_prefix: String,
    pub(crate) deadlines: Deadlines,
}

/// Reads messages.
#[derive(Default)]
pub(crate) struct Reader {
    /// Where the last errands went, the latest last.
    destinations: Vec<Arc<Destination>>,
}

/// Destinations that are kept: those in use at a time are few.
const MAX_DESTINATIONS: usize = 16;

impl Reader {
    /// Reads a frame's body.
    ///
    /// # Errors
    /// When it is no message, or does not end with it.
    pub(crate) fn read(&mut self, body: &[u8]) -> Result<Message, FrameError> {
        let (written, rest) = postcard::take_from_bytes(body).map_err(|_| FrameError::Malformed)?;
        if !rest.is_empty() {
            return Err(FrameError::Malformed);
        }
        Ok(match written {
            Written::Errand { ticket, errand } => {
                Message::Errand { ticket, errand: self.errand(errand)? }
            }
            Written::Refused { ticket, refusal } => Message::Refused { ticket, refusal },
            Written::Probe(errand) => Message::Probe(self.errand(errand)?),
            Written::Recall(recall) => Message::Recall(recall),
        })
    }

    fn errand(&mut self, written: WrittenErrand<'_>) -> Result<Box<Errand>, FrameError> {
        Ok(Box::new(Errand {
            call: written.call,
            credential: written.credential,
            credential_version: written.credential_version,
            destination: self.destination(&written.destination)?,
            secret: written.secret,
            method: written.method,
            target: Target::parse(written.target).map_err(|_| FrameError::Malformed)?,
            dialect: written.dialect,
            body: written.body,
            claims: written.claims,
            length: written.length,
            betas: written.betas,
            idempotency_tag: written.idempotency_tag,
            public_prefix: written.public_prefix.to_owned(),
            deadlines: written.deadlines,
        }))
    }

    fn destination(
        &mut self,
        written: &WrittenDestination<'_>,
    ) -> Result<Arc<Destination>, FrameError> {
        let known = self.destinations.iter().rev().find(|known| written.is(known));
        if let Some(known) = known {
            return Ok(Arc::clone(known));
        }
        let made = Arc::new(written.parse()?);
        if self.destinations.len() >= MAX_DESTINATIONS {
            self.destinations.remove(0);
        }
        self.destinations.push(Arc::clone(&made));
        Ok(made)
    }
}

/// `ToCourier`.
#[derive(Deserialize)]
enum Written<'a> {
    Errand {
        ticket: Ticket,
        #[serde(borrow)]
        errand: WrittenErrand<'a>,
    },
    Refused {
        ticket: Ticket,
        refusal: Refusal,
    },
    Probe(#[serde(borrow)] WrittenErrand<'a>),
    Recall(Recall),
}

/// `Errand`.
#[derive(Deserialize)]
struct WrittenErrand<'a> {
    call: CallId,
    credential: CredentialId,
    credential_version: u64,
    #[serde(borrow)]
    destination: WrittenDestination<'a>,
    secret: SecretBytes,
    method: Method,
    target: &'a str,
    dialect: Dialect,
    body: BodyKind,
    claims: Claims,
    length: Length,
    betas: Vec<BetaName>,
    idempotency_tag: SecretBytes,
    public_prefix: &'a str,
    deadlines: Deadlines,
}

/// `Destination`.
#[derive(Deserialize)]
struct WrittenDestination<'a> {
    host: &'a str,
    port: u16,
    tls_name: &'a str,
    #[serde(borrow)]
    extra_authorities: Vec<&'a [u8]>,
    reach: Reach,
    base_path: &'a str,
    injection: Injection,
    #[serde(borrow)]
    fixed_headers: Vec<(&'a str, &'a str)>,
}

impl WrittenDestination<'_> {
    fn is(&self, known: &Destination) -> bool {
        let Destination {
            host,
            port,
            tls_name,
            extra_authorities,
            reach,
            base_path,
            injection,
            fixed_headers,
        } = known;
        let fixed = fixed_headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        self.host == host.as_ref()
            && self.port == *port
            && self.tls_name == tls_name.as_ref()
            && self.extra_authorities == *extra_authorities
            && self.reach == *reach
            && self.base_path == base_path
            && self.injection == *injection
            && self.fixed_headers.iter().copied().eq(fixed)
    }

    fn parse(&self) -> Result<Destination, FrameError> {
        let host = |text| HostName::parse(text).map_err(|_| FrameError::Malformed);
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Ok(Destination {
            host: host(self.host)?,
            port: self.port,
            tls_name: host(self.tls_name)?,
            extra_authorities: self.extra_authorities.iter().map(|der| der.to_vec()).collect(),
            reach: self.reach,
            base_path: self.base_path.to_owned(),
            injection: self.injection.clone(),
            fixed_headers: self.fixed_headers.iter().map(owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use strongroom_policy::claims::Stream;
    use strongroom_policy::name::ModelName;
    use strongroom_protocol::errand::{Errand as Sent, ToCourier};
    use strongroom_protocol::frame::{MAX_ERRAND_BYTES, PREFIX_BYTES, decode, encode};

    use super::*;

    fn destination() -> Destination {
        Destination {
            host: HostName::parse("api.example.com").unwrap(),
            port: 8443,
            tls_name: HostName::parse("tls.example.com").unwrap(),
            extra_authorities: vec![vec![0xff; 600], Vec::new()],
            reach: Reach::Private,
            base_path: "/base".to_owned(),
            injection: Injection::Header("x-api-key".to_owned()),
            fixed_headers: vec![("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())],
        }
    }

    fn errand(destination: Destination) -> Box<Sent> {
        let model = Some(ModelName::parse("a-model").unwrap());
        Box::new(Sent {
            call: CallId::from_random([1; 16]),
            credential: CredentialId::from_random([2; 16]),
            credential_version: 300,
            destination,
            secret: SecretBytes::copy_from(b"sk-0123456789abcdef"),
            method: Method::Patch,
            target: Target::parse("/v1/x?a=b").unwrap(),
            dialect: Dialect::Gemini,
            body: BodyKind::Multipart,
            claims: Claims {
                model,
                stream: Stream::Streamed,
                answers: 7,
                ..Claims::of_no_body(None)
            },
            length: Length::Known(77),
            betas: vec![BetaName::parse("beta-1").unwrap(), BetaName::parse("beta-2").unwrap()],
            idempotency_tag: SecretBytes::copy_from(b"tag"),
            public_prefix: "https://our.example/p".to_owned(),
            deadlines: Deadlines { idle: Duration::from_millis(1500), ..Deadlines::PROBE },
        })
    }

    /// Another message does not compile before it is listed here, and read above.
    fn body(message: &ToCourier) -> Vec<u8> {
        match message {
            ToCourier::Errand { .. }
            | ToCourier::Refused { .. }
            | ToCourier::Probe(_)
            | ToCourier::Recall(_) => {}
        }
        encode(message, MAX_ERRAND_BYTES).unwrap()[PREFIX_BYTES..].to_vec()
    }

    /// Debug prints no secret; these are compared on their own.
    fn assert_same(read: &Errand, sent: &Sent) {
        let text = |debug: String| debug.replace("Errand ", "").replace("Sent ", "");
        assert_eq!(text(format!("{read:?}")), text(format!("{sent:?}")));
        for (read, sent) in
            [(&read.secret, &sent.secret), (&read.idempotency_tag, &sent.idempotency_tag)]
        {
            assert!(read.expose(|read| sent.expose(|sent| read == sent)));
        }
    }

    #[test]
    fn every_message_reads_as_the_protocol_reads_it() {
        let mut reader = Reader::default();
        for probe in [false, true] {
            let errand = errand(destination());
            let message = if probe {
                ToCourier::Probe(errand)
            } else {
                ToCourier::Errand { ticket: Ticket([9; 16]), errand }
            };
            let mut body = body(&message);
            match (reader.read(&body).unwrap(), decode::<ToCourier>(&body).unwrap()) {
                (Message::Probe(read), ToCourier::Probe(sent)) => assert_same(&read, &sent),
                (
                    Message::Errand { ticket, errand: read },
                    ToCourier::Errand { ticket: its, errand: sent },
                ) => {
                    assert_eq!(ticket, its);
                    assert_same(&read, &sent);
                }
                _ => panic!("another message"),
            }
            for cut in 0..body.len() {
                assert!(reader.read(&body[..cut]).is_err(), "{cut}");
            }
            body.push(0);
            assert!(reader.read(&body).is_err());
        }
        let refused =
            ToCourier::Refused { ticket: Ticket([9; 16]), refusal: Refusal::TicketUnknown };
        let read = reader.read(&body(&refused)).unwrap();
        assert!(matches!(
            read,
            Message::Refused { ticket: Ticket([9, ..]), refusal: Refusal::TicketUnknown }
        ));
        let recall = ToCourier::Recall(Recall::Calls(vec![CallId::from_random([5; 16])]));
        let read = reader.read(&body(&recall)).unwrap();
        assert!(matches!(read, Message::Recall(Recall::Calls(calls)) if calls.len() == 1));
    }

    // Red when the host, the name of TLS or the target is taken without a look.
    #[test]
    fn a_name_or_target_that_is_none_is_no_message() {
        for (good, bad) in [
            (&b"api.example.com"[..], &b"api..xample.com"[..]),
            (b"tls.example.com", b"tls..xample.com"),
            (b"/v1/x", b"/v//x"),
            (b"/v1/x", b"/../x"),
            (b"/v1/x", b"/v1#x"),
            (b"/v1/x", b"/v1 x"),
        ] {
            let message =
                ToCourier::Errand { ticket: Ticket([9; 16]), errand: errand(destination()) };
            let mut body = body(&message);
            let at = memchr::memmem::find(&body, good).unwrap();
            body[at..at + good.len()].copy_from_slice(&bad[..good.len()]);
            assert!(Reader::default().read(&body).is_err(), "{}", bad.escape_ascii());
            assert!(decode::<ToCourier>(&body).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_destination_is_shared_only_when_all_of_it_is_the_same() {
        let mut reader = Reader::default();
        let mut read = |destination: &Destination| {
            let message = ToCourier::Probe(errand(destination.clone()));
            match reader.read(&body(&message)).unwrap() {
                Message::Probe(errand) => {
                    assert_eq!(*errand.destination, *destination);
                    errand.destination
                }
                _ => panic!("another message"),
            }
        };
        let first = read(&destination());
        assert!(Arc::ptr_eq(&first, &read(&destination())));
        let changes: [fn(&mut Destination); 9] = [
            |to| to.host = HostName::parse("b.example.com").unwrap(),
            |to| to.port = 443,
            |to| to.tls_name = HostName::parse("b.example.com").unwrap(),
            |to| to.extra_authorities[0][599] = 0,
            |to| to.extra_authorities.truncate(1),
            |to| to.reach = Reach::Public,
            |to| to.base_path.clear(),
            |to| to.injection = Injection::Bearer,
            |to| to.fixed_headers[1].1.clear(),
        ];
        for change in changes {
            let mut changed = destination();
            change(&mut changed);
            assert!(!Arc::ptr_eq(&first, &read(&changed)));
        }
        for port in 1000..1000 + u16::try_from(MAX_DESTINATIONS).unwrap() {
            read(&Destination { port, ..destination() });
        }
        assert!(!Arc::ptr_eq(&first, &read(&destination())), "the oldest is forgotten");
        assert_eq!(reader.destinations.len(), MAX_DESTINATIONS);
    }
}
