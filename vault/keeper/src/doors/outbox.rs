//! Messages on their way to one peer: gathered, then written in one go.
//!
//! Invariant: what waits is bounded; a peer that does not read is cut off.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use strongroom_protocol::frame::{FrameError, encode_into};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Most bytes that wait for one peer.
const MAX_WAITING_BYTES: usize = 8 * 1024 * 1024;
/// What is kept of a buffer that a burst let grow.
const KEPT_BYTES: usize = 256 * 1024;
/// How long one write may take.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Messages on their way to one peer.
pub struct Outbox {
    waiting: RefCell<Zeroizing<Vec<u8>>>,
    news: Notify,
    end: Notify,
    open: Cell<bool>,
    limit: usize,
}

/// Why a message does not go out.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The peer is gone or does not read.
    #[error("the peer is gone")]
    Closed,
    /// The message is too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl Outbox {
    /// An empty one; messages are at most `limit` bytes.
    pub fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            waiting: RefCell::default(),
            news: Notify::new(),
            end: Notify::new(),
            open: Cell::new(true),
            limit,
        })
    }

    /// Adds a message.
    ///
    /// # Errors
    /// When the peer is gone or the message too long.
    pub fn push<M: Serialize>(&self, message: &M) -> Result<(), OutboxError> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() > MAX_WAITING_BYTES {
            self.close();
        }
        if !self.open.get() {
            return Err(OutboxError::Closed);
        }
        let first = waiting.is_empty();
        encode_into(&mut waiting, message, self.limit)?;
        if first {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Whether the peer is there.
    pub fn is_open(&self) -> bool {
        self.open.get()
    }

    /// Ends the connection.
    pub fn close(&self) {
        self.open.set(false);
        self.news.notify_one();
        self.end.notify_waiters();
    }

    /// Waits until the connection is ended from here: whoever does not read is not listened to either.
    pub async fn closed(&self) {
        while self.open.get() {
            self.end.notified().await;
        }
    }

    /// Writes what waits until the connection ends. Two buffers take turns: one gathers while the other is written.
    pub async fn drain(&self, mut writer: impl AsyncWrite + Unpin) {
        let mut batch = Zeroizing::default();
        while self.open.get() {
            self.news.notified().await;
            std::mem::swap(&mut batch, &mut *self.waiting.borrow_mut());
            if batch.is_empty() {
                continue;
            }
            match timeout(WRITE_PATIENCE, writer.write_all(&batch)).await {
                Ok(Ok(())) => wipe(&mut batch),
                Ok(Err(_)) | Err(_) => self.close(),
            }
        }
    }
}

/// Empties a buffer that lives on; what it held may be secret.
fn wipe(batch: &mut Zeroizing<Vec<u8>>) {
    if batch.capacity() > KEPT_BYTES {
        *batch = Zeroizing::default();
    }
    batch.fill(0);
    batch.clear();
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::{KEPT_BYTES, wipe};

    #[test]
    fn a_usual_buffer_lives_on_and_that_of_a_burst_is_given_back() {
        let mut batch = Zeroizing::new(b"a key".to_vec());
        wipe(&mut batch);
        assert!(batch.is_empty() && batch.capacity() > 0);
        batch.reserve(KEPT_BYTES.saturating_add(1));
        wipe(&mut batch);
        assert_eq!(batch.capacity(), 0);
    }
}
