//! A probe: an errand of the keeper's own, without a lane, of which a short text is told.
//!
//! Invariant: the outcome is told before the text, the text is scrubbed and at most [`MAX_PROBED_BYTES`] long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use strongroom_policy::dialect::Dialect;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::call::{FrameHeader, FrameKind, HEADER_BYTES};
use strongroom_protocol::errand::MAX_PROBED_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::{Courier, perform};
use crate::errands::Assignment;
use crate::lanes::{FrameReader, FrameWriter, Lane, Opening, Phase};
use crate::timer::Timer;
use crate::wiped::ReadBuffer;

/// Most probes at once: people at terminals.
pub(super) const MAX_PROBES: usize = 16;

pub(super) async fn run(courier: &Courier, mut assignment: Assignment, has_room: bool) {
    let call = assignment.report.call();
    let excerpt = if has_room {
        ask(courier, assignment).await
    } else {
        assignment.report.abort(Refusal::Busy);
        drop(assignment);
        Vec::new()
    };
    courier.link.tell_probed(call, text_of(&excerpt));
}

async fn ask(courier: &Courier, assignment: Assignment) -> Vec<u8> {
    let mut headers = vec![("accept", "application/json"), ("user-agent", "strongroom")];
    match assignment.errand.dialect {
        // Anthropic answers nothing without it.
        Dialect::Anthropic => {
            headers.push(("anthropic-version", "2023-06-01"));
        }
        Dialect::OpenAi | Dialect::Gemini | Dialect::Xai => {}
    }
    let opening = Opening { ticket: Ticket([0; 16]), headers, length: assignment.errand.length };
    // A request that is complete, to a caller that never leaves.
    let mut lane = Lane {
        reader: FrameReader::in_phase(NoBody { told: false }, Phase::Sending),
        writer: FrameWriter::new(Excerpt::default()),
        timer: Timer::new(),
        answer: ReadBuffer::default(),
    };
    let asked = timeout(LONGEST_PROBE, perform(courier, &mut lane, assignment, opening)).await;
    tracing::debug!(?asked, "a probe has ended");
    // What was queued when the answer broke off.
    drop(lane.writer.flush(&mut lane.timer, LONGEST_PROBE).await);
    lane.writer.into_half().bytes
}

/// The first bytes of the answer's body.
fn text_of(mut frames: &[u8]) -> String {
    let mut body = Vec::new();
    while let Some((header, rest)) = frames.split_first_chunk::<HEADER_BYTES>() {
        let Ok(header) = FrameHeader::parse(*header) else { break };
        let (payload, rest) = rest.split_at(header.length.min(rest.len()));
        if header.kind == FrameKind::Chunk {
            body.extend_from_slice(payload);
        }
        frames = rest;
    }
    body.truncate(MAX_PROBED_BYTES);
    let mut text = String::from_utf8_lossy(&body).into_owned();
    // Replacement characters are longer than what they replace.
    while text.len() > MAX_PROBED_BYTES {
        text.pop();
    }
    text
}

/// A gateway that says `BodyEnd`, then nothing.
struct NoBody {
    told: bool,
}

impl AsyncRead for NoBody {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.told, true) {
            return Poll::Pending;
        }
        let end = FrameHeader::bytes(FrameKind::BodyEnd, 0).map_err(io::Error::other)?;
        buffer.put_slice(&end);
        Poll::Ready(Ok(()))
    }
}

/// A gateway that keeps the beginning and takes the rest.
#[derive(Default)]
struct Excerpt {
    bytes: Vec<u8>,
}

impl AsyncWrite for Excerpt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = KEPT_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Room for the answer's head frame and the text.
const KEPT_BYTES: usize = 64 * 1024 + 8 * MAX_PROBED_BYTES;
/// A person waits, and the errand's deadlines are shorter; against an answer that never ends.
const LONGEST_PROBE: Duration = Duration::from_secs(30);
