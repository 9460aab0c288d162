//! Reads the gateway's frames off a lane, in the order that the state table allows.
//!
//! Invariant: at most `MAX_WATCHED_BYTES` and one frame are buffered; the rest waits in the socket.
//! Invariant: every wait can be abandoned without losing a byte.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Buf, Bytes};
use strongroom_protocol::call::{FrameHeader, FrameKind, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::phase::{Act, Phase, act};
use super::{LaneFault, Stop};
use crate::timer::Timer;
use crate::wiped::{READ_BYTES, ReadBuffer};

/// Reads frames.
pub(crate) struct FrameReader<R> {
    half: R,
    buffer: ReadBuffer,
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
        Self { half, buffer: ReadBuffer::default(), phase }
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
    pub(crate) async fn settle(
        &mut self,
        timer: &mut Timer,
        patience: Duration,
    ) -> Result<(), LaneFault> {
        let ended = timer.limit(patience, async {
            while self.phase == Phase::Sending {
                self.next().await?;
            }
            Ok(())
        });
        ended.await.unwrap_or(Err(LaneFault::Stalled))
    }

    /// Between exchanges: what the last one left in memory is wiped.
    pub(crate) fn rest(&mut self) {
        self.phase = Phase::Idle;
        // A cancel that crossed with our last frame may be there already.
        self.buffer.wipe_taken();
    }

    async fn watch_buffered(&mut self) -> Result<Stop, LaneFault> {
        let (mut phase, mut at) = (self.phase, 0);
        loop {
            while let Some((kind, end)) = peek(&self.buffer.bytes, at)? {
                let (act, next) = turn(phase, kind)?;
                (phase, at) = (next, end);
                if act == Act::Stop {
                    self.buffer.bytes.advance(at);
                    self.phase = next;
                    return Ok(Stop::Cancelled);
                }
            }
            if self.buffer.bytes.len() >= MAX_WATCHED_BYTES {
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
        let Some((kind, end)) = peek(&self.buffer.bytes, 0)? else { return Ok(None) };
        let (act, next) = turn(self.phase, kind)?;
        self.buffer.bytes.advance(HEADER_BYTES);
        let payload = self.buffer.bytes.split_to(end - HEADER_BYTES).freeze();
        self.phase = next;
        Ok(Some(match act {
            Act::Begin => Incoming::Head(payload),
            Act::Take => Incoming::Body(payload),
            Act::Complete => Incoming::BodyEnd,
            Act::Stop | Act::Crossed => Incoming::Cancel,
        }))
    }

    async fn fill(&mut self) -> Result<(), LaneFault> {
        let buffer = &self.buffer.bytes;
        let announced = match buffer.first_chunk::<HEADER_BYTES>() {
            Some(header) => FrameHeader::parse(*header)?.length + HEADER_BYTES,
            None => HEADER_BYTES,
        };
        let room = buffer.capacity() - buffer.len();
        if buffer.len() + room < announced || room < LEAST_ROOM_BYTES {
            let missing = announced.saturating_sub(buffer.len());
            self.buffer.make_room(missing.max(READ_BYTES));
        }
        match self.half.read_buf(&mut self.buffer.bytes).await? {
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

/// Less room than this is not worth a read.
const LEAST_ROOM_BYTES: usize = 1024;
/// How far ahead of the body a cancel is looked for.
const MAX_WATCHED_BYTES: usize = 2 * MAX_PAYLOAD_BYTES;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    use super::*;
    use crate::wiped::tests::memory_at;

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
    async fn nothing_of_an_exchange_is_left_after_it() {
        let (mut theirs, ours) = tokio::io::duplex(64 * 1024);
        let mut reader = FrameReader::new(ours);
        let all = [
            frame(FrameKind::Head, &[7; 100]),
            frame(FrameKind::Body, &[7; 500]),
            frame(FrameKind::BodyEnd, b""),
        ];
        for _ in 0..3 {
            theirs.write_all(&all.concat()).await.unwrap();
            let head = reader.next().await.unwrap();
            let Incoming::Head(head) = head else { panic!("{head:?}") };
            let at = head.as_ptr();
            drop(head);
            while reader.next().await.unwrap() != Incoming::BodyEnd {}
            assert_eq!(memory_at(at, 100), [7; 100]);
            reader.rest();
            assert_eq!(memory_at(at, 600), [0; 600], "kept and wiped");
        }
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
