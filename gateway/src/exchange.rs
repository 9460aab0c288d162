//! One call's exchange with the courier on one lane: head and body out, answer in, from the first frame to the last.
//!
//! Invariant: after the first frame the lane goes back only with both terminal frames passed, else it is closed.
//! Invariant: a caller that goes away cancels the exchange at once; whoever drops this value is such a caller.
//!
//! The courier's deadlines end a silent exchange; that of the connection is only against a courier that hangs.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::Serialize;
use strongroom_policy::claims::Length;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::call::{FrameHeader, FrameKind, HEADER_BYTES, encode};
use strongroom_socket::Writer;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::inbox::{Inbox, Terminal};
use crate::lanes::{HeldLane, Lane, Pool};
use crate::upload::{Meeting, STOP_WAIT, Source, upload};

/// Bodies up to this size go out with the head in one write; they fit the socket's buffer, so nobody waits.
pub(crate) const ONE_WRITE_BYTES: usize = 60 * 1024;
/// Copying less than this costs less than a further slice to the kernel.
const COPIED_BYTES: usize = 8 * 1024;
/// How long one such write may take.
const WRITE_WAIT: Duration = Duration::from_secs(5);
/// How long a cancelled exchange may take to end: the courier needs milliseconds, but a burst of cancels on a busy
/// machine must not cost lanes, which nobody can open again.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// [`strongroom_protocol::call::CallHead`] with borrowed headers: the same encoding, without copies.
#[derive(Serialize)]
pub(crate) struct BorrowedHead<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) length: Length,
}

/// An exchange under way.
pub(crate) struct Exchange {
    inbox: Option<Inbox>,
    request: Request,
    pool: Arc<Pool>,
}

/// How an answer ended, as the caller must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Whole.
    Complete,
    /// Before its end: the connection or stream must not end cleanly.
    Broken(Refusal),
}

/// The outgoing direction.
enum Request {
    /// All is sent, `BodyEnd` included.
    Sent(Writer),
    /// A task sends; dropping `stop` makes it end with `Cancel`.
    Uploading { stop: oneshot::Sender<()>, meeting: Arc<Meeting> },
    /// A write was torn, or the lane is given back.
    Gone,
}

impl Exchange {
    /// Sends the head and as much of the body as fits one write; a task sends the rest.
    ///
    /// # Errors
    /// [`Refusal::HeadInvalid`] when the head fits no frame; [`Refusal::CourierUnavailable`] when the lane breaks.
    pub(crate) async fn begin(
        lane: HeldLane,
        head: &BorrowedHead<'_>,
        source: Source,
    ) -> Result<Self, Refusal> {
        let head = encode(FrameKind::Head, head).map_err(|_| Refusal::HeadInvalid)?;
        let (Lane { inbox, mut writer }, pool) = lane.begin().ok_or(Refusal::Internal)?;
        let mut exchange = Self { inbox: Some(inbox), request: Request::Gone, pool };
        let whole = source.rest.is_none() && source.first.len() <= ONE_WRITE_BYTES;
        let body = if whole { source.first.clone() } else { Bytes::new() };
        match timeout(WRITE_WAIT, write_opening(&mut writer, head, body, whole)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Refusal::CourierUnavailable),
        }
        exchange.request = if whole {
            Request::Sent(writer)
        } else {
            let (stop, stopped) = oneshot::channel();
            let meeting = Meeting::new(Arc::clone(&exchange.pool));
            tokio::spawn(upload(writer, source, stopped, Arc::clone(&meeting)));
            Request::Uploading { stop, meeting }
        };
        Ok(exchange)
    }

    /// Waits for the answer's head, and yields its payload.
    ///
    /// # Errors
    /// The courier's refusal, or ours when the lane breaks.
    pub(crate) async fn head(&mut self) -> Result<BytesMut, Refusal> {
        let head = std::future::poll_fn(|cx| match &mut self.inbox {
            Some(inbox) => inbox.poll_head(cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        });
        match head.await {
            Ok(Ok(head)) => Ok(head),
            Ok(Err(terminal)) => match self.settle(terminal) {
                Ending::Broken(refusal) => Err(refusal),
                Ending::Complete => Err(Refusal::Internal),
            },
            Err(_) => {
                self.lose();
                Err(Refusal::CourierUnavailable)
            }
        }
    }

    /// Appends what is readable of the body, and tells the end when it has come.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        data: &mut BytesMut,
    ) -> Poll<Option<Ending>> {
        let Some(inbox) = &mut self.inbox else {
            return Poll::Ready(Some(Ending::Broken(Refusal::Internal)));
        };
        Poll::Ready(match std::task::ready!(inbox.poll_body(cx, data)) {
            Ok(None) => None,
            Ok(Some(terminal)) => Some(self.settle(terminal)),
            Err(_) => {
                self.lose();
                Some(Ending::Broken(Refusal::CourierUnavailable))
            }
        })
    }

    /// The courier's terminal frame has passed: the lane goes back as soon as ours has.
    fn settle(&mut self, terminal: Terminal) -> Ending {
        let request = std::mem::replace(&mut self.request, Request::Gone);
        let mut fault = None;
        match (self.inbox.take(), request) {
            (Some(inbox), Request::Sent(writer)) => self.pool.give_back(Lane { inbox, writer }),
            (Some(inbox), Request::Uploading { stop, meeting }) => {
                fault = meeting.fault();
                drop(stop);
                meeting.bring_inbox(inbox);
            }
            (Some(_), Request::Gone) => self.pool.lose(),
            (None, _) => {}
        }
        match terminal {
            Terminal::End => Ending::Complete,
            Terminal::Abort(Refusal::Cancelled) => {
                Ending::Broken(fault.unwrap_or(Refusal::Cancelled))
            }
            Terminal::Abort(refusal) => Ending::Broken(refusal),
        }
    }

    /// The lane broke while reading.
    fn lose(&mut self) {
        if self.inbox.take().is_some() {
            match std::mem::replace(&mut self.request, Request::Gone) {
                Request::Sent(_) | Request::Gone => self.pool.lose(),
                Request::Uploading { meeting, .. } => meeting.lose(),
            }
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.part(Parting::Cancel);
    }
}

impl Exchange {
    /// All announced bytes have passed, and only the terminal frame may be missing: that is no cancel.
    pub(crate) fn let_end(&mut self) {
        self.part(Parting::LetEnd);
    }

    fn part(&mut self, parting: Parting) {
        let Some(inbox) = self.inbox.take() else { return };
        let (request, pool) =
            (std::mem::replace(&mut self.request, Request::Gone), Arc::clone(&self.pool));
        let Ok(runtime) = Handle::try_current() else { return };
        match request {
            Request::Sent(writer) => {
                runtime.spawn(part_with(Lane { inbox, writer }, parting, pool));
            }
            Request::Uploading { stop, meeting } => {
                drop(stop);
                runtime.spawn(drain(inbox, meeting));
            }
            // Closing the lane cancels what runs on it.
            Request::Gone => pool.lose(),
        }
    }
}

/// Head, body and end in one write.
async fn write_opening(
    writer: &mut Writer,
    head: Vec<u8>,
    body: Bytes,
    whole: bool,
) -> io::Result<()> {
    let frame = |kind, length| FrameHeader::bytes(kind, length).map_err(io::Error::other);
    let mut opening = head;
    if !body.is_empty() {
        opening.extend_from_slice(&frame(FrameKind::Body, body.len())?);
    }
    let end = frame(FrameKind::BodyEnd, 0)?;
    let end: &[u8] = if whole { &end } else { &end[HEADER_BYTES..] };
    if body.len() <= COPIED_BYTES {
        opening.extend_from_slice(&body);
        opening.extend_from_slice(end);
        return writer.write_all(&opening).await;
    }
    let mut all = Bytes::from(opening).chain(body).chain(end);
    writer.write_all_buf(&mut all).await
}

/// Why nobody reads the answer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    /// The caller is gone.
    Cancel,
    /// It has all.
    LetEnd,
}

async fn part_with(mut lane: Lane, parting: Parting, pool: Arc<Pool>) {
    let ended = timeout(CANCEL_WAIT, async {
        if parting == Parting::Cancel {
            let frame = FrameHeader::bytes(FrameKind::Cancel, 0).map_err(io::Error::other)?;
            lane.writer.write_all(&frame).await?;
        }
        std::future::poll_fn(|cx| lane.inbox.poll_drain(cx)).await
    });
    if let Ok(Ok(())) = ended.await {
        pool.give_back(lane);
    } else {
        drop(lane);
        pool.lose();
    }
}

/// The uploading task sends `Cancel`.
async fn drain(mut inbox: Inbox, meeting: Arc<Meeting>) {
    let ended = timeout(STOP_WAIT + CANCEL_WAIT, std::future::poll_fn(|cx| inbox.poll_drain(cx)));
    if let Ok(Ok(())) = ended.await {
        meeting.bring_inbox(inbox);
    } else {
        drop(inbox);
        meeting.lose();
    }
}
