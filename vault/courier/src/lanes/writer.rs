//! Writes our frames to a lane, all that is ready in one system call.
//!
//! Invariant: an abandoned write leaves no torn frame: what is unsent stays queued and goes out before anything else.
//! Invariant: the queue holds what one reading of the provider gave, and no more, because nothing is read before it is sent.

use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::{Abort, FrameHeader, FrameKind, HEADER_BYTES, MAX_PAYLOAD_BYTES};
use strongroom_protocol::frame::{FrameError, PREFIX_BYTES, encode_into};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::LaneFault;
use super::heads::Reply;
use crate::timer::Timer;
use crate::wiped::wipe_all;

/// Writes frames.
pub(crate) struct FrameWriter<W> {
    half: W,
    /// Goes first.
    lead: Zeroizing<Vec<u8>>,
    /// One large payload, which is not copied.
    large: Bytes,
    /// Goes after `large`.
    tail: Zeroizing<Vec<u8>>,
    /// How much of the three is out.
    written: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(crate) fn new(half: W) -> Self {
        Self {
            half,
            lead: Zeroizing::default(),
            large: Bytes::new(),
            tail: Zeroizing::default(),
            written: 0,
        }
    }

    /// Queues the answer's head.
    ///
    /// # Errors
    /// When it is longer than a frame.
    pub(crate) fn answer(&mut self, head: &Reply<'_>) -> Result<(), FrameError> {
        self.message(FrameKind::Answer, head)
    }

    /// Queues bytes of the answer.
    pub(crate) fn chunk(&mut self, mut data: Bytes) {
        while !data.is_empty() {
            let payload = data.split_to(data.len().min(MAX_PAYLOAD_BYTES));
            self.header(FrameKind::Chunk, payload.len());
            if payload.len() > COPIED_BYTES && self.large.is_empty() {
                self.large = payload;
            } else {
                self.end_of_queue().extend_from_slice(&payload);
            }
        }
    }

    /// Queues the end of the answer.
    pub(crate) fn end(&mut self) {
        self.header(FrameKind::End, 0);
    }

    /// Queues the refusal that ends the exchange.
    pub(crate) fn abort(&mut self, refusal: Refusal) {
        if let Err(error) = self.message(FrameKind::Abort, &Abort { refusal }) {
            tracing::error!(%error, "a refusal fits no frame");
        }
    }

    /// Sends what is queued; `stall` is how long the gateway may take none of it.
    pub(crate) async fn flush(
        &mut self,
        timer: &mut Timer,
        stall: Duration,
    ) -> Result<(), LaneFault> {
        while self.written < self.queued_bytes() {
            let mut rest =
                [IoSlice::new(&self.lead), IoSlice::new(&self.large), IoSlice::new(&self.tail)];
            let mut rest = &mut rest[..];
            IoSlice::advance_slices(&mut rest, self.written);
            match timer.limit(stall, self.half.write_vectored(rest)).await {
                Ok(Ok(0)) => return Err(LaneFault::Closed),
                Ok(Ok(written)) => self.written += written,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(LaneFault::Stalled),
            }
        }
        self.lead.clear();
        self.large = Bytes::new();
        self.tail.clear();
        self.written = 0;
        Ok(())
    }

    /// Between exchanges: wipes what the last one left.
    pub(crate) fn rest(&mut self) {
        wipe_all(&mut self.lead);
        wipe_all(&mut self.tail);
    }

    /// What the frames went to.
    pub(crate) fn into_half(self) -> W {
        self.half
    }

    fn message<M: Serialize>(&mut self, kind: FrameKind, message: &M) -> Result<(), FrameError> {
        let queue = self.end_of_queue();
        let start = queue.len();
        encode_into(queue, message, MAX_PAYLOAD_BYTES)?;
        // The prefix of the other sockets is as long as a frame's header here.
        const { assert!(PREFIX_BYTES == HEADER_BYTES) };
        let header = FrameHeader::bytes(kind, queue.len() - start - HEADER_BYTES)?;
        queue[start..start + HEADER_BYTES].copy_from_slice(&header);
        Ok(())
    }

    fn header(&mut self, kind: FrameKind, length: usize) {
        // Lengths over the limit were cut by the caller.
        if let Ok(header) = FrameHeader::bytes(kind, length) {
            self.end_of_queue().extend_from_slice(&header);
        }
    }

    fn end_of_queue(&mut self) -> &mut Zeroizing<Vec<u8>> {
        if self.large.is_empty() { &mut self.lead } else { &mut self.tail }
    }

    fn queued_bytes(&self) -> usize {
        self.lead.len() + self.large.len() + self.tail.len()
    }
}

/// Copying less than this costs less than a further slice to the kernel.
const COPIED_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use strongroom_protocol::call::encode;
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    use super::*;
    use crate::wiped::tests::memory_at;

    #[tokio::test]
    async fn nothing_of_an_answer_is_left_after_it() {
        let mut writer = FrameWriter::new(tokio::io::sink());
        writer.chunk(Bytes::from(vec![7; 500]));
        let at = writer.lead.as_ptr();
        writer.flush(&mut Timer::new(), Duration::from_secs(9)).await.unwrap();
        assert!(memory_at(at, 500).contains(&7));
        writer.rest();
        assert_eq!(writer.lead.as_ptr(), at, "kept and wiped");
        assert_eq!(memory_at(at, 500), [0; 500]);
    }

    #[tokio::test]
    async fn an_abandoned_write_goes_on_where_it_stopped() {
        let (ours, mut theirs) = tokio::io::duplex(10);
        let mut writer = FrameWriter::new(ours);
        let data = Bytes::from(vec![7; 6000]);
        writer.chunk(data.clone());
        assert!(
            timeout(Duration::ZERO, writer.flush(&mut Timer::new(), Duration::from_secs(9)))
                .await
                .is_err()
        );
        writer.chunk(Bytes::from_static(b"small"));
        writer.abort(Refusal::Cancelled);
        let (flushed, seen) = tokio::join!(
            async {
                let flushed = writer.flush(&mut Timer::new(), Duration::from_secs(9)).await;
                drop(writer);
                flushed
            },
            async {
                let mut seen = Vec::new();
                theirs.read_to_end(&mut seen).await.unwrap();
                seen
            }
        );
        flushed.unwrap();
        let mut expected = vec![18, 0x70, 0x17, 0];
        expected.extend_from_slice(&data);
        expected.extend_from_slice(&[18, 5, 0, 0]);
        expected.extend_from_slice(b"small");
        expected.extend(encode(FrameKind::Abort, &Abort { refusal: Refusal::Cancelled }).unwrap());
        assert!(seen == expected);
    }

    #[tokio::test]
    async fn a_gateway_that_does_not_read_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut writer = FrameWriter::new(ours);
        writer.end();
        writer.end();
        let stalled = writer.flush(&mut Timer::new(), Duration::from_millis(1)).await;
        assert!(matches!(stalled, Err(LaneFault::Stalled)));
    }
}
