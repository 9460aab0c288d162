//! Ways to the decoders of this crate that are private, for `fuzz/`; nothing in the product calls them.
//!
//! Invariant: each takes bytes and answers with what was read: no connection, no call.

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use strongroom_http1::Framing;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Refused;

use crate::answer::HeadSink;
use crate::authenticate::Offers;
use crate::head::Gathered;
use crate::http1::parse::{lower_names, parse};
use crate::wording;

/// A request's head as the gateway understands it.
#[derive(Debug)]
pub struct Request<'r> {
    /// As in the request line.
    pub method: &'r str,
    /// Path and query, raw.
    pub target: &'r str,
    /// Of an absolute target.
    pub authority: Option<&'r str>,
    /// `None` when it is ambiguous: nothing more is read on the connection.
    pub framing: Option<Framing>,
    /// Whether the connection ends with the answer.
    pub close: bool,
    /// The header lines.
    pub lines: Vec<(&'r str, &'r [u8])>,
    /// Those that would travel to the courier, or why the request is refused.
    pub travelling: Result<Vec<(&'r str, &'r str)>, Refusal>,
    /// The length that the keeper would be told.
    pub length: Option<u64>,
    /// What is offered as a token.
    pub offers: Offers<'r>,
}

/// Lowers the names of a whole head, as [`request`] wants it.
pub fn lower(head: &mut BytesMut) {
    lower_names(head);
}

/// Reads a whole head whose names were lowered.
///
/// # Errors
/// The status of the answer to what is no request.
pub fn request(head: &[u8], dialect: Dialect) -> Result<Request<'_>, StatusCode> {
    let announced = parse(head)?;
    let mut gathered = Gathered::of(&announced.head.lines);
    let read = gathered.read(dialect, announced.head.version);
    let offers = std::mem::take(&mut gathered.offers);
    let length = read.as_ref().ok().and_then(|head| head.length);
    Ok(Request {
        method: announced.head.method,
        target: announced.head.target,
        authority: announced.head.authority,
        framing: announced.framing,
        close: announced.close,
        lines: announced.head.lines.iter().collect(),
        travelling: read.map(|_| gathered.into_travelling()),
        length,
        offers,
    })
}

/// A head that is written down.
#[derive(Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The lines.
    pub lines: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
}

impl HeadSink for Answer {
    fn begin(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    fn line(&mut self, name: &str, value: &[u8]) {
        self.lines.push((name.to_owned(), value.to_vec()));
    }
}

/// A refusal as a caller gets it.
pub fn refuse(dialect: Dialect, refused: &Refused) -> Answer {
    let mut answer = Answer::default();
    answer.body = wording::refuse(dialect, refused, &mut answer);
    answer
}
