//! A Unix stream between two of our processes that wakes its owner only for what it waits for.
//!
//! The runtime's own stream asks for room to write from the start, and the kernel tells of it whenever the peer has read:
//! a third of all wake-ups of a call were for nobody. Here a write asks for room only once there was none.
//!
//! Invariant: a write that finds no room is woken when there is some; what was asked for is taken back with its success.
//! Invariant: an end of the stream is seen after the last byte before it.
#![forbid(unsafe_code)]

mod one_slice;

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

pub use self::one_slice::{OneSlice, write_parts};

/// Least that one read asks for. A read clears what it asks for first, so it asks for little until little was not enough.
const LEAST_READ_BYTES: usize = 4 * 1024;
/// Most that one read asks for.
const MOST_READ_BYTES: usize = 64 * 1024;

/// The incoming direction.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<AsyncFd<UnixStream>>,
    /// What the next read asks for.
    wanted_bytes: usize,
}

/// The outgoing direction. Dropped, it ends the stream for the peer.
#[derive(Debug)]
pub struct Writer {
    stream: Arc<AsyncFd<UnixStream>>,
    /// Asks for room, while a write is held up.
    held_up: Option<AsyncFd<OwnedFd>>,
}

/// Gives a connected stream to the runtime of the calling task, and takes it apart.
///
/// # Errors
/// When the runtime or the kernel does not take it.
pub fn split(stream: UnixStream) -> io::Result<(Reader, Writer)> {
    stream.set_nonblocking(true)?;
    let stream = Arc::new(watch(stream, Interest::READABLE)?);
    let reader = Reader { stream: Arc::clone(&stream), wanted_bytes: LEAST_READ_BYTES };
    Ok((reader, Writer { stream, held_up: None }))
}

/// The same for a stream that the runtime has already.
///
/// # Errors
/// When the runtime or the kernel does not take it.
pub fn split_again(stream: tokio::net::UnixStream) -> io::Result<(Reader, Writer)> {
    split(stream.into_std()?)
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor changes; one that the standard library owns never does"
)]
fn watch<T: AsRawFd>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let asked = self.wanted_bytes.min(buffer.remaining());
        loop {
            let mut ready = ready!(self.stream.poll_read_ready(cx))?;
            match ready.get_inner().read(buffer.initialize_unfilled_to(asked)) {
                Ok(read) => {
                    if 0 < read && read < asked {
                        // All that was there (epoll(7)); an end that was told already stays told.
                        ready.clear_ready();
                    }
                    drop(ready);
                    self.wanted_bytes = match read {
                        read if read == self.wanted_bytes => (read * 2).min(MOST_READ_BYTES),
                        read if read < LEAST_READ_BYTES => LEAST_READ_BYTES,
                        _ => self.wanted_bytes,
                    };
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Writer {
    /// Tries a write, and waits for room when there is none.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut room = match &self.held_up {
                Some(held_up) => Some(ready!(held_up.poll_write_ready(cx))?),
                None => None,
            };
            match write(self.stream.get_ref()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Some(room) = &mut room {
                        room.clear_ready();
                        continue;
                    }
                    // A second descriptor: the runtime asks for one thing by each.
                    let second = OwnedFd::from(self.stream.get_ref().try_clone()?);
                    self.held_up = Some(watch(second, Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => {
                    self.held_up = None;
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // One slice is written with less ado.
        match one_slice::only(slices) {
            Some(one) => self.poll(cx, |mut stream| stream.write(one)),
            None => self.poll(cx, |mut stream| stream.write_vectored(slices)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The reading half may live on; a peer that is gone needs no end.
        drop(self.stream.get_ref().shutdown(Shutdown::Write));
    }
}

#[cfg(test)]
mod tests;
