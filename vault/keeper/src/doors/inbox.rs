//! Reading frames: many in one read, each decoded or the end.
//!
//! Invariant: memory for one connection is bounded by its door's frame limit.
//! Distrusts: every byte.

use serde::de::DeserializeOwned;
use strongroom_protocol::frame::{FrameError, PREFIX_BYTES, decode, split_first};
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

/// The frames that one peer sends.
pub struct Inbox<R> {
    reader: R,
    buffer: Zeroizing<Vec<u8>>,
    filled: usize,
    read_to: usize,
    limit: usize,
}

/// Why there is no next message.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Ended,
    /// The peer does not read what it is told.
    #[error("the peer does not read")]
    Stalled,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// Not a message of this door.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Enough for a usual batch; a longer frame gets a buffer of its own length.
const FIRST_BYTES: usize = 32 * 1024;

impl<R: AsyncRead + Unpin> Inbox<R> {
    /// Frames of at most `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Self {
        let buffer = Zeroizing::new(vec![0; FIRST_BYTES]);
        Self { reader, buffer, filled: 0, read_to: 0, limit }
    }

    /// The next message. Not to be dropped half-way: bytes stay, the read goes on with the next call.
    ///
    /// # Errors
    /// When the peer is gone or sent something else.
    pub async fn next<M: DeserializeOwned>(&mut self) -> Result<M, InboxError> {
        loop {
            let waiting = self.buffer.get(self.read_to..self.filled).unwrap_or_default();
            if let Some((body, used)) = split_first(waiting, self.limit)? {
                let message = decode(body)?;
                self.read_to = self.read_to.saturating_add(used);
                return Ok(message);
            }
            self.make_room();
            let space = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let read = self.reader.read(space).await?;
            if read == 0 {
                return Err(InboxError::Ended);
            }
            self.filled = self.filled.saturating_add(read);
        }
    }

    /// Moves what is left to the front; doubles the buffer when a frame needs it.
    fn make_room(&mut self) {
        if self.read_to > 0 {
            self.buffer.copy_within(self.read_to..self.filled, 0);
            let kept = self.filled.saturating_sub(self.read_to);
            // What was read may hold secrets, and must not lie behind.
            if let Some(stale) = self.buffer.get_mut(kept..self.filled) {
                stale.fill(0);
            }
            self.filled = kept;
            self.read_to = 0;
        }
        if self.filled == self.buffer.len() {
            let most = self.limit.saturating_add(PREFIX_BYTES);
            let length = self.buffer.len().saturating_mul(2).min(most);
            let mut larger = Zeroizing::new(vec![0; length]);
            for (to, from) in larger.iter_mut().zip(self.buffer.iter()) {
                *to = *from;
            }
            self.buffer = larger;
        }
    }
}
