//! A request body as it comes in, over either version of HTTP.
//!
//! Invariant: pieces are never empty; trailers travel neither way.
//! Distrusts: the caller, in every byte and in its pace.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use strongroom_policy::refusal::Refusal;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::http1::Lent;

/// A body that is coming in.
pub(crate) enum Incoming {
    /// All of it came with its head.
    Here(Bytes),
    /// Over HTTP/1.1.
    Http1(Box<Lent>),
    /// Over HTTP/2.
    Http2(Kept),
}

/// A body over HTTP/2. Whoever is done with it puts it on its shelf, where it stays until the answer has gone out: dropped
/// before its end it would reset the stream, and with it the answer.
pub(crate) struct Kept {
    body: Option<hyper::body::Incoming>,
    shelf: Shelf,
}

/// Where a body waits for its answer's end.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<Option<hyper::body::Incoming>>>);

impl Kept {
    pub(crate) fn new(body: hyper::body::Incoming, shelf: &Shelf) -> Self {
        Self { body: Some(body), shelf: shelf.clone() }
    }

    fn is_over(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Incoming::is_end_stream)
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, BodyFault> {
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            match body.frame().await {
                None => return Ok(None),
                Some(Err(_)) => return Err(BodyFault::Gone),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }
}

impl Shelf {
    /// Its answer has gone out. A body that was not read to its end stays a moment longer: clients that hear of the reset
    /// while they still send (curl before 8) forget the answer that came before it.
    pub(crate) fn answered(&self) {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let unread = body.filter(|body| !body.is_end_stream());
        let (Some(body), Ok(runtime)) = (unread, Handle::try_current()) else { return };
        if let Ok(place) = PAUSES.try_acquire() {
            runtime.spawn(async move {
                sleep(RESET_PAUSE).await;
                drop((body, place));
            });
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        *self.shelf.0.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

/// Unread bodies that stay at a time; further ones are reset at once.
static PAUSES: Semaphore = Semaphore::const_new(256);
/// How long after its answer an unread body's stream is reset.
const RESET_PAUSE: Duration = Duration::from_secs(1);

/// Why no more of a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// The caller went away.
    Gone,
    /// Its framing cannot be read.
    Malformed,
}

impl Incoming {
    /// Whether it is known that nothing more comes.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Here(bytes) => bytes.is_empty(),
            Self::Http1(lent) => lent.is_over(),
            Self::Http2(kept) => kept.is_over(),
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When no more can come before the end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, BodyFault> {
        match self {
            Self::Here(bytes) => Ok(Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Self::Http1(lent) => lent.piece().await,
            Self::Http2(kept) => kept.piece().await,
        }
    }
}

impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::Gone => Self::Cancelled,
            BodyFault::Malformed => Self::BodyInvalid,
        }
    }
}
