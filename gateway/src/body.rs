//! Reads a request body as far as its claims need: JSON whole, forms up to their file or to the model behind it, other bytes not at all.
//!
//! Invariant: the original bytes are what travels; only a copy is parsed.
//! Invariant: beyond [`STRANGER_BYTES`] nothing is read before the keeper has identified the caller.
//! Distrusts: every byte, and the pace at which it comes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::{ModelName, ProviderName};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::BodyKind;
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::Refused;
use strongroom_protocol::body::{BodyError, boundary_of, check_json_type, json, multipart};
use tokio::time::{Instant, timeout};

use crate::budget::Hold;
use crate::connection::Visitor;
use crate::exchange::ONE_WRITE_BYTES;
use crate::gateway::Gateway;
use crate::incoming::Incoming;
use crate::upload::{BODY_IDLE, Source, is_slow};

/// How long a body of unknown length may take to turn out empty, on a path that takes none.
const EMPTY_WAIT: Duration = Duration::from_secs(1);
/// Largest JSON body, and largest form that is read whole.
const MAX_HELD_BYTES: u64 = 32 * 1024 * 1024;
/// Most that is read of a caller whom the keeper has not identified.
const STRANGER_BYTES: u64 = 64 * 1024;
/// Within so many bytes a form that is not held must come to its file.
const MAX_FORM_OPENING_BYTES: usize = 64 * 1024;
/// Room for the opening of a body that streams: what is read until the claims are settled, and one read more.
const OPENING_ROOM_BYTES: u64 = 320 * 1024;
/// How much is scanned before other calls get their turn.
const SCAN_BYTES: usize = 256 * 1024;

/// Everything about a request that reading its body needs.
pub(crate) struct Reading<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) visitor: &'a Visitor,
    pub(crate) proof: &'a SecretBytes,
    pub(crate) provider: &'a ProviderName,
    pub(crate) dialect: Dialect,
    pub(crate) target: &'a Target,
    pub(crate) path_model: Option<ModelName>,
    pub(crate) content_type: &'a str,
    /// `content-length`.
    pub(crate) announced: Option<u64>,
}

/// A body as far as it was read.
pub(crate) struct Read {
    pub(crate) claims: Claims,
    pub(crate) length: Length,
    pub(crate) source: Source,
}

impl Reading<'_> {
    /// Reads by the kind of body that the path has.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(crate) async fn read(self, kind: BodyKind, body: Incoming) -> Result<Read, Refused> {
        let mut pull = Pull::new(self, body);
        match kind {
            BodyKind::Empty => pull.empty().await,
            BodyKind::Json => pull.json().await,
            BodyKind::Multipart => pull.form().await,
            BodyKind::Opaque => pull.opaque().await,
        }
    }
}

/// A body being pulled in.
struct Pull<'a> {
    reading: Reading<'a>,
    body: Incoming,
    kept: Kept,
    hold: Hold,
    received: u64,
    identified: bool,
    begun: Instant,
}

/// The bytes so far: the first piece as it came, a copy only when there are more.
#[derive(Default)]
struct Kept {
    one: Bytes,
    many: BytesMut,
}

impl<'a> Pull<'a> {
    fn new(reading: Reading<'a>, body: Incoming) -> Self {
        let begun = Instant::now();
        Self {
            reading,
            body,
            kept: Kept::default(),
            hold: Hold::default(),
            received: 0,
            identified: false,
            begun,
        }
    }

    async fn empty(&mut self) -> Result<Read, Refused> {
        let empty = match self.reading.announced {
            Some(length) => length == 0,
            None => self.body.is_over() || self.ends_soon().await?,
        };
        if !empty {
            return Err(plain(Refusal::BodyInvalid, "this path takes no body"));
        }
        let claims = Claims::of_no_body(self.reading.path_model.take());
        Ok(Read { claims, length: Length::Known(0), source: self.source(false) })
    }

    /// Waits for an end that HTTP/2 brings in a frame of its own. Whoever keeps it open would keep the head here too.
    async fn ends_soon(&mut self) -> Result<bool, Refused> {
        self.make_room(STRANGER_BYTES).await?;
        match timeout(EMPTY_WAIT, self.piece()).await {
            Ok(piece) => piece.map(|piece| piece.is_none()),
            Err(_) => Ok(false),
        }
    }

    async fn json(&mut self) -> Result<Read, Refused> {
        check_json_type(self.reading.content_type).map_err(|error| refused(&error))?;
        if self.reading.announced.is_some_and(|length| length > MAX_HELD_BYTES) {
            return Err(Refused::plain(Refusal::BodyTooLarge));
        }
        self.make_room(MAX_HELD_BYTES).await?;
        let reading = &mut self.reading;
        let mut scanner =
            json::Scanner::new(reading.dialect, reading.target, reading.path_model.take());
        while let Some(piece) = self.piece().await? {
            if self.received > MAX_HELD_BYTES {
                return Err(Refused::plain(Refusal::BodyTooLarge));
            }
            for part in piece.chunks(SCAN_BYTES) {
                scanner.feed(part).map_err(|error| refused(&error))?;
                if part.len() == SCAN_BYTES {
                    tokio::task::yield_now().await;
                }
            }
            self.kept.push(piece, self.reading.announced);
        }
        let claims = scanner.finish().map_err(|error| refused(&error))?;
        Ok(Read { claims, length: Length::Known(self.received), source: self.source(false) })
    }

    /// The SDKs put `model` before a file or after it. Behind its model a form goes on from its first file; without one so far
    /// it is held, to look behind the file. What only uploads a file, or is too large to hold, goes on in any case. The
    /// courier refuses whatever a later part adds to the claims.
    async fn form(&mut self) -> Result<Read, Refused> {
        let boundary = boundary_of(self.reading.content_type).map_err(|error| refused(&error))?;
        let announced = self.reading.announced;
        let fits = announced.is_none_or(|length| length <= MAX_HELD_BYTES);
        let may_hold = fits && !uploads(self.reading.target);
        self.make_room(OPENING_ROOM_BYTES).await?;
        let mut scanner = multipart::Scanner::new(&boundary);
        while let Some(piece) = self.piece().await? {
            scanner.feed(&piece).map_err(|error| refused(&error))?;
            self.kept.push(piece, None);
            if self.kept.len() <= ONE_WRITE_BYTES && self.is_small() {
                continue;
            }
            let claims = scanner.at_file().cloned();
            let nameless = claims.as_ref().is_some_and(|claims| claims.model.is_none());
            if nameless && may_hold && self.received <= MAX_HELD_BYTES {
                self.identify().await?;
                self.grow(announced.unwrap_or(self.received)).await?;
                continue;
            }
            if let Some(claims) = claims {
                return Ok(Read { claims, length: self.length(), source: self.source(true) });
            }
            if self.kept.len() > MAX_FORM_OPENING_BYTES {
                let about = "a form's parts must come to its file within the first 64 KiB";
                return Err(plain(Refusal::BodyInvalid, about));
            }
        }
        let claims = scanner.finish().map_err(|error| refused(&error))?;
        Ok(Read { claims, length: Length::Known(self.received), source: self.source(false) })
    }

    async fn opaque(&mut self) -> Result<Read, Refused> {
        let claims = Claims::of_no_body(self.reading.path_model.take());
        self.make_room(OPENING_ROOM_BYTES).await?;
        while self.is_small() {
            let Some(piece) = self.piece().await? else {
                let length = Length::Known(self.received);
                return Ok(Read { claims, length, source: self.source(false) });
            };
            self.kept.push(piece, self.reading.announced);
        }
        self.identify().await?;
        Ok(Read { claims, length: self.length(), source: self.source(true) })
    }

    /// Takes room for what was announced, at most for `most`, or for a beginning, before anything is read.
    async fn make_room(&mut self, most: u64) -> Result<(), Refused> {
        let wanted = self.reading.announced.unwrap_or(STRANGER_BYTES);
        if wanted <= STRANGER_BYTES
            && let Some(hold) = self.reading.gateway.bodies.for_stranger(wanted)
        {
            self.hold = hold;
            return Ok(());
        }
        self.identify().await?;
        self.grow(wanted.min(most)).await
    }

    async fn grow(&mut self, bytes: u64) -> Result<(), Refused> {
        let Reading { gateway, visitor, .. } = &self.reading;
        gateway.bodies.grow(&mut self.hold, &visitor.share, bytes).await.map_err(Refused::plain)
    }

    /// The next bytes, once there is room for them; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Refused> {
        if self.body.is_over() {
            return Ok(None);
        }
        let data = match timeout(BODY_IDLE, self.body.piece()).await {
            Err(_) => return Err(Refused::plain(Refusal::BodySlow)),
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(fault)) => return Err(Refused::plain(fault.into())),
            Ok(Ok(Some(data))) => data,
        };
        self.received += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if is_slow(self.begun.elapsed(), self.received) {
            return Err(Refused::plain(Refusal::BodySlow));
        }
        if self.received > STRANGER_BYTES && self.reading.announced.is_none() {
            self.identify().await?;
            self.grow(self.received.next_power_of_two().min(MAX_HELD_BYTES)).await?;
        }
        Ok(Some(data))
    }

    /// Asks the keeper once whether this caller may call this provider at all.
    async fn identify(&mut self) -> Result<(), Refused> {
        if self.identified {
            return Ok(());
        }
        let Reading { gateway, visitor, proof, provider, .. } = &self.reading;
        let proof = proof.expose(SecretBytes::copy_from);
        gateway.keeper.identify(proof, (*provider).clone()).await?;
        visitor.is_known();
        self.identified = true;
        Ok(())
    }

    /// Whether the whole body goes out with its head.
    fn is_small(&self) -> bool {
        let limit = u64::try_from(ONE_WRITE_BYTES).unwrap_or(u64::MAX);
        self.reading.announced.is_some_and(|length| length <= limit)
    }

    fn length(&self) -> Length {
        self.reading.announced.map_or(Length::Chunked, Length::Known)
    }

    /// What was read, and, when asked for, what still comes.
    fn source(&mut self, more: bool) -> Source {
        let rest = more.then(|| std::mem::replace(&mut self.body, Incoming::Here(Bytes::new())));
        Source { first: self.kept.take(), rest, hold: std::mem::take(&mut self.hold) }
    }
}

impl Kept {
    fn push(&mut self, piece: Bytes, announced: Option<u64>) {
        if self.many.is_empty() && self.one.is_empty() {
            self.one = piece;
            return;
        }
        if self.many.is_empty() {
            // Room for it was taken from the budget.
            let length = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
            self.many.reserve(length.max(2 * (self.one.len() + piece.len())));
            self.many.extend_from_slice(&std::mem::take(&mut self.one));
        }
        self.many.extend_from_slice(&piece);
    }

    fn len(&self) -> usize {
        self.one.len() + self.many.len()
    }

    fn take(&mut self) -> Bytes {
        let one = std::mem::take(&mut self.one);
        if one.is_empty() { std::mem::take(&mut self.many).freeze() } else { one }
    }
}

/// Paths that take a file to keep it, of any size and for no model.
fn uploads(target: &Target) -> bool {
    target.segments().any(|segment| matches!(segment, "files" | "uploads"))
}

fn refused(error: &BodyError) -> Refused {
    let refusal = match error {
        BodyError::MediaType(_) => Refusal::BodyUnsupported,
        BodyError::Json { .. }
        | BodyError::Twice(_)
        | BodyError::Spelling { .. }
        | BodyError::LongName
        | BodyError::Value { .. }
        | BodyError::OtherModel
        | BodyError::ModelList(_)
        | BodyError::Form(_) => Refusal::BodyInvalid,
    };
    Refused { about: Some(error.to_string()), ..Refused::plain(refusal) }
}

fn plain(refusal: Refusal, about: &str) -> Refused {
    Refused { about: Some(about.to_owned()), ..Refused::plain(refusal) }
}
