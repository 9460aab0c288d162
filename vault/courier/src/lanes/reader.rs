//! Reads the gateway's frames off a lane, in the order that the state table allows.
//!
//! Invariant: at most `MAX_WATCHED_BYTES` and one frame are buffered; the rest waits in the socket.
//! Invariant: every wait can be abandoned without losing a byte.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use strongroom_protocol::call::{FrameHeader, FrameKind, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::phase::{Act, Phase, act};
use super::{LaneFault, Stop};

/// Reads frames.
pub(crate) struct FrameReader<R> {
    half: R,
    buffer: BytesMut,
    phase: Phase,
}

/// One frame of the gateway.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The opening.
    Head(Bytes),
    /// Bytes of the body.
    Body(Bytes),
    /// The body is complete.
    BodyEnd,
    /// Nobody waits any more.
    Cancel,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(half: R) -> Self {
        Self::in_phase(half, Phase::Idle)
    }

    /// Starts in the midst of an exchange.
    pub(crate) fn in_phase(half: R, phase: Phase) -> Self {
        Self { half, buffer: BytesMut::new(), phase }
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Result<Incoming, LaneFault> {
        loop {
            if let Some(frame) = self.take_buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Waits for the gateway to cancel, to leave or to break the rules; frames of the body stay where they are.
    pub(crate) async fn watch(&mut self) -> Stop {
        match self.watch_buffered().await {
            Ok(stop) => stop,
            Err(fault) => Stop::Lane(fault),
        }
    }

    /// The same, throwing away what comes of a body that nobody needs any more.
    pub(crate) async fn discard(&mut self) -> Stop {
        match self.discard_all().await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    /// After our terminal frame: reads to the gateway's.
    pub(crate) async fn settle(&mut self, patience: Duration) -> Result<(), LaneFault> {
        let ended = timeout(patience, async {
            while self.phase == Phase::Sending {
                self.next().await?;
            }
            Ok(())
        });
        ended.await.unwrap_or(Err(LaneFault::Stalled))
    }

    /// Between exchanges: what the last one left in memory is given back, and so wiped.
    pub(crate) fn rest(&mut self) {
        self.phase = Phase::Idle;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    async fn watch_buffered(&mut self) -> Result<Stop, LaneFault> {
        let (mut phase, mut at) = (self.phase, 0);
        loop {
            while let Some((kind, end)) = peek(&self.buffer, at)? {
                let (act, next) = turn(phase, kind)?;
                (phase, at) = (next, end);
                if act == Act::Stop {
                    self.buffer.advance(at);
                    self.phase = next;
                    return Ok(Stop::Cancelled);
                }
            }
            if self.buffer.len() >= MAX_WATCHED_BYTES {
                return std::future::pending().await;
            }
            self.fill().await?;
        }
    }

    async fn discard_all(&mut self) -> Result<Infallible, Stop> {
        loop {
            match self.next().await? {
                Incoming::Cancel => return Err(Stop::Cancelled),
                Incoming::Head(_) | Incoming::Body(_) | Incoming::BodyEnd => {}
            }
        }
    }

    fn take_buffered(&mut self) -> Result<Option<Incoming>, LaneFault> {
        let Some((kind, end)) = peek(&self.buffer, 0)? else { return Ok(None) };
        let (act, next) = turn(self.phase, kind)?;
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(end - HEADER_BYTES).freeze();
        self.phase = next;
        Ok(Some(match act {
            Act::Begin => Incoming::Head(payload),
            Act::Take => Incoming::Body(payload),
            Act::Complete => Incoming::BodyEnd,
            Act::Stop | Act::Crossed => Incoming::Cancel,
        }))
    }

    async fn fill(&mut self) -> Result<(), LaneFault> {
        let announced = match self.buffer.first_chunk::<HEADER_BYTES>() {
            Some(header) => FrameHeader::parse(*header)?.length + HEADER_BYTES,
            None => HEADER_BYTES,
        };
        let room = self.buffer.capacity() - self.buffer.len();
        if self.buffer.len() + room < announced || room < LEAST_ROOM_BYTES {
            let missing = announced.saturating_sub(self.buffer.len());
            self.buffer.reserve(missing.max(READ_BYTES));
        }
        match self.half.read_buf(&mut self.buffer).await? {
            0 => Err(LaneFault::Closed),
            _ => Ok(()),
        }
    }
}

/// The frame at `at`, once it is whole: its kind, and where it ends.
fn peek(buffer: &[u8], at: usize) -> Result<Option<(FrameKind, usize)>, LaneFault> {
    let Some(header) = buffer.get(at..).and_then(<[u8]>::first_chunk::<HEADER_BYTES>) else {
        return Ok(None);
    };
    let header = FrameHeader::parse(*header)?;
    let end = at + HEADER_BYTES + header.length;
    Ok((end <= buffer.len()).then_some((header.kind, end)))
}

fn turn(phase: Phase, kind: FrameKind) -> Result<(Act, Phase), LaneFault> {
    act(phase, kind).ok_or(LaneFault::OutOfTurn { phase, kind })
}

/// What one read asks for: most calls fit, and giving the buffer back wipes it, which costs by its size.
const READ_BYTES: usize = 4 * 1024;
/// Less room than this is not worth a read.
const LEAST_ROOM_BYTES: usize = 1024;
/// How far ahead of the body a cancel is looked for.
const MAX_WATCHED_BYTES: usize = 2 * MAX_PAYLOAD_BYTES;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
        let mut frame = FrameHeader::bytes(kind, payload.len()).unwrap().to_vec();
        frame.extend_from_slice(payload);
        frame
    }

    #[tokio::test]
    async fn a_cancel_is_seen_behind_a_body_that_nobody_reads_yet() {
        let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
        let mut reader = FrameReader::new(ours);
        let all = [
            frame(FrameKind::Head, b"head"),
            frame(FrameKind::Body, b"body"),
            frame(FrameKind::Cancel, b""),
            frame(FrameKind::Head, b"next"),
        ];
        theirs.write_all(&all.concat()).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Incoming::Head(Bytes::from_static(b"head")));
        assert!(matches!(reader.watch().await, Stop::Cancelled));
        assert_eq!(reader.next().await.unwrap(), Incoming::Head(Bytes::from_static(b"next")));
    }

    #[tokio::test]
    async fn watching_leaves_the_body_to_be_read() {
        let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
        let mut reader = FrameReader::new(ours);
        let all = [frame(FrameKind::Head, b""), frame(FrameKind::Body, b"body")];
        theirs.write_all(&all.concat()).await.unwrap();
        reader.next().await.unwrap();
        let watched = timeout(Duration::from_millis(1), reader.watch()).await;
        assert!(watched.is_err());
        assert_eq!(reader.next().await.unwrap(), Incoming::Body(Bytes::from_static(b"body")));
        drop(theirs);
        assert!(matches!(reader.watch().await, Stop::Lane(LaneFault::Closed)));
    }

    #[tokio::test]
    async fn a_frame_out_of_turn_is_a_fault_also_while_watching() {
        for second in [FrameKind::Head, FrameKind::Answer] {
            let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
            let mut reader = FrameReader::new(ours);
            let all = [frame(FrameKind::Head, b""), frame(second, b"")];
            theirs.write_all(&all.concat()).await.unwrap();
            reader.next().await.unwrap();
            let stop = reader.watch().await;
            assert!(matches!(stop, Stop::Lane(LaneFault::OutOfTurn { .. })), "{second:?}");
        }
    }

    #[tokio::test]
    async fn the_largest_frame_comes_through_and_a_larger_one_does_not() {
        let (mut theirs, ours) = tokio::io::duplex(1024 * 1024);
        let mut reader = FrameReader::in_phase(ours, Phase::Sending);
        let payload = vec![7; MAX_PAYLOAD_BYTES];
        theirs.write_all(&frame(FrameKind::Body, &payload)).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), Incoming::Body(payload.into()));
        theirs.write_all(&[2, 1, 0, 1]).await.unwrap();
        assert!(matches!(reader.next().await, Err(LaneFault::Frame(_))));
    }
}
