//! Reads the keeper's messages from a buffer that is wiped as it is read.
//!
//! Invariant: one allocation, made at the start; no read or decode copies a key into memory that is not wiped.

use std::io;

use strongroom_protocol::frame::{MAX_ERRAND_BYTES, PREFIX_BYTES, split_first};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use super::LinkLost;
use super::errand::{Message, Reader};
use crate::wiped::wipe;

pub(super) struct Inbox {
    half: strongroom_socket::Reader,
    buffer: Zeroizing<Vec<u8>>,
    /// Where unread bytes begin and end.
    start: usize,
    end: usize,
    reader: Reader,
}

impl Inbox {
    pub(super) fn new(half: strongroom_socket::Reader) -> Self {
        let buffer = Zeroizing::new(vec![0; PREFIX_BYTES + MAX_ERRAND_BYTES]);
        Self { half, buffer, start: 0, end: 0, reader: Reader::default() }
    }

    /// The next message.
    ///
    /// # Errors
    /// When the keeper is gone or says what is none.
    pub(super) async fn next(&mut self) -> Result<Message, LinkLost> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some((body, used)) = split_first(unread, MAX_ERRAND_BYTES)? {
                let message = self.reader.read(body)?;
                let read = self.start + used;
                wipe(&mut self.buffer[self.start..read]);
                self.start = read;
                return Ok(message);
            }
            self.make_room();
            match self.half.read(&mut self.buffer[self.end..]).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                read => self.end += read,
            }
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            let kept = self.end - self.start;
            wipe(&mut self.buffer[kept..self.end]);
            (self.start, self.end) = (0, kept);
        }
    }
}
