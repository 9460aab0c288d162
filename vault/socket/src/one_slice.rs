//! A stream whose single slices are written as such.
//!
//! TLS writes every record as a list of one slice, for which the kernel has a longer way than for a slice.
//!
//! Invariant: the bytes and their order are the inner stream's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Any stream.
#[derive(Debug)]
pub struct OneSlice<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for OneSlice<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OneSlice<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match only(slices) {
            Some(one) => Pin::new(&mut self.0).poll_write(cx, one),
            None => Pin::new(&mut self.0).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The one slice that holds anything.
pub(crate) fn only<'s>(slices: &'s [IoSlice<'_>]) -> Option<&'s [u8]> {
    let mut full = slices.iter().filter(|slice| !slice.is_empty());
    match (full.next(), full.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

/// Writes parts one behind the other: in one write, and so one TLS record, where the stream takes them whole.
///
/// # Errors
/// When the stream takes no more.
pub async fn write_parts<W: AsyncWrite + Unpin>(
    stream: &mut W,
    parts: [&[u8]; 4],
) -> io::Result<()> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut written = 0;
    while written < total {
        let mut rest = parts.map(IoSlice::new);
        let mut rest = &mut rest[..];
        IoSlice::advance_slices(&mut rest, written);
        match stream.write_vectored(rest).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            more => written += more,
        }
    }
    stream.flush().await
}
