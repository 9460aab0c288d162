//! The keeper's four doors: who may come in, and what may be said there.
//!
//! Invariant: each door checks its peer's uid before it reads a byte.
//! Invariant: a message that is none of the door's ends the connection.

pub mod ask;
pub mod errand;
pub mod inbox;
pub mod operator;
pub mod outbox;

use nix::unistd::Uid;
use strongroom_sys::peer::{Peer, peer};
use tokio::net::UnixStream;

/// Who may come in.
#[derive(Debug, Clone, Copy)]
pub enum Guard {
    /// This user, and no other.
    Only(Uid),
    /// Whoever the socket's directory lets through.
    Directory,
}

impl Guard {
    /// The peer, if it may come in.
    pub fn admit(self, stream: &UnixStream) -> Option<Peer> {
        let peer = peer(stream).ok()?;
        let good = match self {
            Self::Only(uid) => peer.uid == uid,
            Self::Directory => true,
        };
        if !good {
            tracing::warn!(uid = %peer.uid, "a peer of a foreign uid was turned away");
        }
        good.then_some(peer)
    }
}
