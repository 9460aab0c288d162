//! Sends the request and checks its body on the way.
//!
//! Invariant: the claims are read from the very bytes that travel. The last piece of the body is held back until they agree
//! with what was judged, so a provider never gets a whole request that differs.
//! Invariant: never more bytes go out than were announced.
//!
//! Trusts: the errand's claims and length. Distrusts: the body.

use std::time::Duration;

use bytes::Bytes;
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::name::ModelName;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::BodyKind;
use strongroom_protocol::body::{BodyError, boundary_of, check_json_type, json, multipart};
use strongroom_socket::write_parts;
use tokio::io::{AsyncRead, AsyncWrite};

use super::order::Order;
use crate::errands::Errand;
use crate::lanes::{FrameReader, Incoming, Stop};
use crate::request::BodyLength;
use crate::timer::Timer;
use crate::wiped::WipedVec;

/// The body of one request.
pub(super) struct Upload {
    check: Check,
    claims: Claims,
    length: Length,
    framing: BodyLength,
    /// How long the caller or the provider may do nothing.
    stall: Duration,
    /// The last piece that came.
    withheld: Bytes,
    pieces: u64,
    received_bytes: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Coming,
    /// All is here and agrees.
    Agreed,
}

/// What reads the claims.
enum Check {
    /// No body may come.
    Empty,
    Json(Box<json::Scanner>),
    Form(Box<multipart::Scanner>),
    /// Only the length counts.
    Opaque,
    Done,
}

/// Why the request did not go out.
pub(super) enum Unsent {
    /// The provider does not take it.
    Provider,
    Stop(Stop),
}

impl<S: Into<Stop>> From<S> for Unsent {
    fn from(stop: S) -> Self {
        Self::Stop(stop.into())
    }
}

impl Upload {
    /// Prepares the check that the errand names; the content type must be one that it reads.
    pub(super) fn new(order: &Order<'_>) -> Result<Self, Refusal> {
        let errand = order.errand();
        let check = match errand.body {
            BodyKind::Empty => Check::Empty,
            BodyKind::Opaque => Check::Opaque,
            BodyKind::Json => {
                let media = order.content_type().unwrap_or_default();
                check_json_type(media).map_err(|error| mismatch(errand, &error))?;
                let model = path_model(errand);
                let scanner = json::Scanner::new(order.dialect(), &errand.target, model);
                Check::Json(Box::new(scanner))
            }
            BodyKind::Multipart => {
                let media = order.content_type().unwrap_or_default();
                let boundary = boundary_of(media).map_err(|error| mismatch(errand, &error))?;
                Check::Form(Box::new(multipart::Scanner::new(&boundary)))
            }
        };
        Ok(Self {
            check,
            claims: errand.claims.clone(),
            length: errand.length,
            framing: order.body_length(),
            stall: order.deadlines().body_idle,
            withheld: Bytes::new(),
            pieces: 0,
            received_bytes: 0,
            state: State::Coming,
        })
    }

    /// Whether the whole body is still at hand.
    pub(super) fn can_be_sent_again(&self) -> bool {
        self.state == State::Agreed && self.pieces <= 1
    }

    /// Sends head and body, counting the body in `sent_bytes`; of a small body all goes out in one write.
    /// Again after [`Self::can_be_sent_again`].
    pub(super) async fn send<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        (lane, timer): (&mut FrameReader<R>, &mut Timer),
        sink: &mut W,
        head: &mut WipedVec,
        sent_bytes: &mut u64,
    ) -> Result<(), Unsent> {
        let mut out = Out { sink, head, framing: self.framing, stall: self.stall };
        *sent_bytes = 0;
        while self.state == State::Coming {
            let frame =
                timer.limit(self.stall, lane.next()).await.map_err(|_| Refusal::BodySlow)?;
            match frame.map_err(Stop::Lane)? {
                Incoming::Body(piece) if piece.is_empty() => {}
                Incoming::Body(piece) => {
                    self.take(&piece)?;
                    let ready = std::mem::replace(&mut self.withheld, piece);
                    if !ready.is_empty() {
                        out.piece(timer, &ready).await?;
                        *sent_bytes += widen(ready.len());
                    }
                }
                Incoming::BodyEnd => self.agree()?,
                Incoming::Cancel => return Err(Stop::Cancelled.into()),
                // The state table lets no head through here.
                Incoming::Head(_) => return Err(Refusal::Internal.into()),
            }
        }
        out.last(timer, &self.withheld).await?;
        *sent_bytes += widen(self.withheld.len());
        Ok(())
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.pieces += 1;
        self.received_bytes += widen(piece.len());
        let over = match self.length {
            Length::Known(length) => self.received_bytes > length,
            Length::Chunked => false,
        };
        let read = match &mut self.check {
            _ if over => return Err(Refusal::BodyMismatch),
            Check::Empty | Check::Done => return Err(Refusal::BodyMismatch),
            Check::Json(scanner) => scanner.feed(piece),
            // A form names its parts in any order: what goes beyond the judgement stops in the frame where it stands.
            Check::Form(scanner) => {
                scanner.feed(piece).map_err(|_| Refusal::BodyMismatch)?;
                return within(scanner.so_far(), &self.claims);
            }
            Check::Opaque => Ok(()),
        };
        read.map_err(|_| Refusal::BodyMismatch)
    }

    fn agree(&mut self) -> Result<(), Refusal> {
        let complete = match self.length {
            Length::Known(length) => self.received_bytes == length,
            Length::Chunked => true,
        };
        let found = match std::mem::replace(&mut self.check, Check::Done) {
            Check::Empty | Check::Opaque => None,
            Check::Json(scanner) => Some(scanner.finish()),
            Check::Form(scanner) => Some(scanner.finish()),
            Check::Done => return Err(Refusal::Internal),
        };
        let agreed = match found {
            None => true,
            Some(Ok(found)) => bears_out(&found, &self.claims),
            Some(Err(_)) => false,
        };
        if !(complete && agreed) {
            return Err(Refusal::BodyMismatch);
        }
        self.state = State::Agreed;
        Ok(())
    }
}

/// Whether the parts of a form that have come ask for nothing that was not judged.
fn within(found: &Claims, judged: &Claims) -> Result<(), Refusal> {
    let nothing = Claims::of_no_body(None);
    let Claims { model, max_output, answers, stream, features, extent } = found;
    let good = (model.is_none() || *model == judged.model)
        && (max_output.is_none() || *max_output == judged.max_output)
        && (*answers == nothing.answers || *answers == judged.answers)
        && (*stream == nothing.stream || *stream == judged.stream)
        && features.first_beyond(judged.features).is_none()
        && extent <= &judged.extent;
    if good { Ok(()) } else { Err(Refusal::BodyMismatch) }
}

/// Whether a body asks for what was judged and for no feature beyond it.
fn bears_out(found: &Claims, judged: &Claims) -> bool {
    let Claims { model, max_output, answers, stream, features, extent } = found;
    *model == judged.model
        && *max_output == judged.max_output
        && *answers == judged.answers
        && *stream == judged.stream
        && features.first_beyond(judged.features).is_none()
        && extent <= &judged.extent
}

/// The judged model, where the path names it; a body that names another one is refused by the scanner.
fn path_model(errand: &Errand) -> Option<ModelName> {
    let model = errand.claims.model.as_ref()?;
    let name: &str = model.as_ref();
    let named = |segment: &str| {
        segment.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    errand.target.segments().any(named).then(|| model.clone())
}

fn mismatch(errand: &Errand, error: &BodyError) -> Refusal {
    tracing::warn!(call = %errand.call, %error, "the content type is not the one that was judged");
    Refusal::BodyMismatch
}

/// The writing side of one connection.
struct Out<'a, W> {
    sink: &'a mut W,
    /// Goes first, and is wiped at once.
    head: &'a mut WipedVec,
    framing: BodyLength,
    stall: Duration,
}

impl<W: AsyncWrite + Unpin> Out<'_, W> {
    /// A piece with more behind it.
    async fn piece(&mut self, timer: &mut Timer, piece: &[u8]) -> Result<(), Unsent> {
        self.write(timer, piece, b"\r\n").await
    }

    /// The last piece, which may be empty, and what ends the body.
    async fn last(&mut self, timer: &mut Timer, piece: &[u8]) -> Result<(), Unsent> {
        let end: &[u8] = if piece.is_empty() { b"0\r\n\r\n" } else { b"\r\n0\r\n\r\n" };
        self.write(timer, piece, end).await
    }

    async fn write(
        &mut self,
        timer: &mut Timer,
        piece: &[u8],
        chunk_end: &[u8],
    ) -> Result<(), Unsent> {
        let (size, end) = match self.framing {
            BodyLength::None | BodyLength::Known(_) => (String::new(), &[][..]),
            BodyLength::Chunked if piece.is_empty() => (String::new(), chunk_end),
            BodyLength::Chunked => (format!("{:x}\r\n", piece.len()), chunk_end),
        };
        let parts = [self.head, size.as_bytes(), piece, end];
        let written = timer.limit(self.stall, write_parts(self.sink, parts)).await;
        *self.head = WipedVec::default();
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unsent::Provider),
            Err(_) => Err(Refusal::ProviderTimeout.into()),
        }
    }
}

fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use strongroom_policy::claims::{Extent, Feature, Stream};

    use super::*;

    #[test]
    fn a_part_of_a_form_stops_where_it_goes_beyond_what_was_judged() {
        let nothing = Claims::of_no_body(None);
        let model = |name: &str| Some(ModelName::parse(name).unwrap());
        let judged = Claims { model: model("whisper-1"), ..nothing.clone() };
        assert_eq!(within(&nothing, &judged), Ok(()));
        assert_eq!(within(&judged, &judged), Ok(()));
        for beyond in [
            Claims { model: model("another"), ..nothing.clone() },
            Claims { answers: 9, ..nothing.clone() },
            Claims { stream: Stream::Streamed, ..nothing.clone() },
            Claims { max_output: Some(1), ..nothing.clone() },
            Claims { features: nothing.features.with(Feature::RemoteUrls), ..nothing.clone() },
            Claims { extent: Extent::Media, ..nothing.clone() },
        ] {
            assert_eq!(within(&beyond, &judged), Err(Refusal::BodyMismatch), "{beyond:?}");
            assert_eq!(within(&beyond, &beyond), Ok(()));
        }
    }
}
