//! The reading side while a body is read from it, perhaps by a task that outlives the answer.
//!
//! Invariant: it comes home when whoever reads the body is done with it, whatever became of the body.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::reader::Reader;
use crate::incoming::BodyFault;

/// A reading side that is lent.
pub(crate) struct Lent {
    reader: Option<Reader>,
    home: Option<oneshot::Sender<Reader>>,
    /// What of the body came with the head.
    first: Bytes,
    /// Told when more is wanted than came: the caller may wait for `100 Continue`.
    invite: Option<oneshot::Sender<()>>,
}

/// The reading side as the connection sees it.
pub(super) enum ReadingSide {
    Here(Reader),
    Away(oneshot::Receiver<Reader>),
    /// Between two states, and after a panic of whoever had it.
    Lost,
}

impl Lent {
    /// Lends a reader, which comes home through the first receiver; a caller that `expects` is to be invited when the
    /// second one is told.
    pub(super) fn new(
        reader: Reader,
        first: Bytes,
        expects: bool,
    ) -> (Self, oneshot::Receiver<Reader>, Option<oneshot::Receiver<()>>) {
        let (home, comes_home) = oneshot::channel();
        let (invite, invited) =
            if expects { Some(oneshot::channel()).unzip() } else { (None, None) };
        (Self { reader: Some(reader), home: Some(home), first, invite }, comes_home, invited)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.first.is_empty() && self.reader.as_ref().is_none_or(Reader::body_is_over)
    }

    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, BodyFault> {
        if !self.first.is_empty() {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        let Some(reader) = &mut self.reader else { return Ok(None) };
        if let Some(invite) = self.invite.take().filter(|_| !reader.body_is_over()) {
            // The connection may just have ended.
            let _ = invite.send(());
        }
        reader.piece().await
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(home), Some(reader)) = (self.home.take(), self.reader.take()) {
            // A connection that has ended needs it no more.
            drop(home.send(reader));
        }
    }
}

impl ReadingSide {
    /// The reader, when it is here or has come home.
    pub(super) fn reader(&mut self) -> Option<&mut Reader> {
        if let Self::Away(home) = self
            && let Ok(reader) = home.try_recv()
        {
            *self = Self::Here(reader);
        }
        match self {
            Self::Here(reader) => Some(reader),
            Self::Away(_) | Self::Lost => None,
        }
    }

    /// The reader, taken out; [`Self::Lost`] stays.
    pub(super) fn take(&mut self) -> Option<Reader> {
        self.reader()?;
        match std::mem::replace(self, Self::Lost) {
            Self::Here(reader) => Some(reader),
            Self::Away(_) | Self::Lost => None,
        }
    }

    /// The reader, once it is here.
    pub(super) async fn come_home(&mut self) -> Option<&mut Reader> {
        if let Self::Away(home) = self {
            *self = home.await.map_or(Self::Lost, Self::Here);
        }
        self.reader()
    }

    /// Waits for the peer to leave. While the reader is away, whoever has it notices that.
    pub(super) async fn peer_leaves(&mut self) {
        loop {
            match self {
                Self::Here(reader) => {
                    return std::future::poll_fn(|cx| reader.poll_gone(cx)).await;
                }
                Self::Away(home) => *self = home.await.map_or(Self::Lost, Self::Here),
                Self::Lost => return,
            }
        }
    }
}
