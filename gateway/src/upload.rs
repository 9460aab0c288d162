//! Sends a request body that does not fit one write, while the answer may already be coming.
//!
//! Invariant: ends with exactly one terminal frame, `BodyEnd` or `Cancel`; a torn frame closes the lane.
//! Invariant: a caller that stops sending is given up after [`BODY_IDLE`], or below [`MIN_BYTES_PER_SECOND`].

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::{FrameHeader, FrameKind, MAX_PAYLOAD_BYTES};
use strongroom_socket::Writer;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::budget::Hold;
use crate::inbox::Inbox;
use crate::incoming::Incoming;
use crate::lanes::{Lane, Pool};

/// Longest pause of a caller that sends a body.
pub(crate) const BODY_IDLE: Duration = Duration::from_secs(30);
/// Slowest sender, on average from [`BODY_IDLE`] on.
pub(crate) const MIN_BYTES_PER_SECOND: u64 = 1024;
/// How long the last frames may take once nobody waits for the answer. A courier that waits for its provider reads on
/// only after its own deadline for bodies (30 s); closing lanes earlier would let callers use them up.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(45);

/// What is sent: bytes that are here, then those that still come.
pub(crate) struct Source {
    pub(crate) first: Bytes,
    pub(crate) rest: Option<Incoming>,
    /// The room that `first` takes up.
    pub(crate) hold: Hold,
}

/// Where the two halves of a lane meet again. Whoever comes last gives the lane back.
pub(crate) struct Meeting {
    pool: Arc<Pool>,
    halves: Mutex<Halves>,
}

#[derive(Default)]
struct Halves {
    inbox: Option<Inbox>,
    writer: Option<Writer>,
    /// Why the body was given up.
    fault: Option<Refusal>,
    lost: bool,
}

impl Meeting {
    pub(crate) fn new(pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { pool, halves: Mutex::default() })
    }

    /// Why the body was given up, if it was.
    pub(crate) fn fault(&self) -> Option<Refusal> {
        self.halves().fault
    }

    pub(crate) fn bring_inbox(&self, inbox: Inbox) {
        let mut halves = self.halves();
        halves.inbox = Some(inbox);
        self.join(halves);
    }

    fn bring_writer(&self, writer: Writer) {
        let mut halves = self.halves();
        halves.writer = Some(writer);
        self.join(halves);
    }

    /// One half is broken: the lane is counted out once, and the other half is closed when it comes.
    pub(crate) fn lose(&self) {
        let mut halves = self.halves();
        let first = !std::mem::replace(&mut halves.lost, true);
        (halves.inbox, halves.writer) = (None, None);
        drop(halves);
        if first {
            self.pool.lose();
        }
    }

    fn join(&self, mut halves: MutexGuard<'_, Halves>) {
        if halves.lost {
            (halves.inbox, halves.writer) = (None, None);
            return;
        }
        match (halves.inbox.take(), halves.writer.take()) {
            (Some(inbox), Some(writer)) => {
                drop(halves);
                self.pool.give_back(Lane { inbox, writer });
            }
            (inbox, writer) => (halves.inbox, halves.writer) = (inbox, writer),
        }
    }

    fn halves(&self) -> MutexGuard<'_, Halves> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the body until it ends, fails, or `stop` is dropped.
pub(crate) async fn upload(
    mut writer: Writer,
    source: Source,
    mut stop: oneshot::Receiver<()>,
    meeting: Arc<Meeting>,
) {
    let (terminal, fault) = match send(&mut writer, source, &mut stop).await {
        Ok(Sent::Whole) => (FrameKind::BodyEnd, None),
        Ok(Sent::Stopped) => (FrameKind::Cancel, None),
        Ok(Sent::GivenUp(refusal)) => (FrameKind::Cancel, Some(refusal)),
        Err(_) => return meeting.lose(),
    };
    // Before the frame is out: the courier's answer to it asks for the reason.
    meeting.halves().fault = fault;
    let Ok(frame) = FrameHeader::bytes(terminal, 0) else { return meeting.lose() };
    match timeout(STOP_WAIT, writer.write_all(&frame)).await {
        Ok(Ok(())) => meeting.bring_writer(writer),
        Ok(Err(_)) | Err(_) => meeting.lose(),
    }
}

enum Sent {
    Whole,
    /// The answer ended first, or nobody waits for it.
    Stopped,
    GivenUp(Refusal),
}

async fn send(
    writer: &mut Writer,
    source: Source,
    stop: &mut oneshot::Receiver<()>,
) -> io::Result<Sent> {
    let begun = Instant::now();
    let mut received = 0_u64;
    let Source { mut first, rest, hold } = source;
    if !write(writer, &mut first, stop).await? {
        return Ok(Sent::Stopped);
    }
    drop(hold);
    let Some(mut rest) = rest else { return Ok(Sent::Whole) };
    loop {
        let piece = tokio::select! {
            biased;
            _ = &mut *stop => return Ok(Sent::Stopped),
            piece = timeout(BODY_IDLE, rest.piece()) => piece,
        };
        let mut data = match piece {
            Err(_) => return Ok(Sent::GivenUp(Refusal::BodySlow)),
            Ok(Ok(None)) => return Ok(Sent::Whole),
            Ok(Err(fault)) => return Ok(Sent::GivenUp(fault.into())),
            Ok(Ok(Some(data))) => data,
        };
        received = received.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if is_slow(begun.elapsed(), received) {
            return Ok(Sent::GivenUp(Refusal::BodySlow));
        }
        if !write(writer, &mut data, stop).await? {
            return Ok(Sent::Stopped);
        }
    }
}

/// Whether a body comes more slowly than any honest connection.
pub(crate) fn is_slow(elapsed: Duration, received: u64) -> bool {
    elapsed > BODY_IDLE && received < elapsed.as_secs() * MIN_BYTES_PER_SECOND
}

/// Writes body frames; false when stopped between two of them.
async fn write(
    writer: &mut Writer,
    data: &mut Bytes,
    stop: &mut oneshot::Receiver<()>,
) -> io::Result<bool> {
    while !data.is_empty() {
        let piece = data.split_to(data.len().min(MAX_PAYLOAD_BYTES));
        let header = FrameHeader::bytes(FrameKind::Body, piece.len()).map_err(io::Error::other)?;
        let mut frame = (&header[..]).chain(piece);
        tokio::select! {
            biased;
            written = writer.write_all_buf(&mut frame) => written?,
            _ = &mut *stop => {
                // A torn frame would put the lane out of step: finish it, or lose the lane.
                timeout(STOP_WAIT, writer.write_all_buf(&mut frame)).await??;
                return Ok(false);
            }
        }
    }
    Ok(true)
}
