//! Who is at the other end of a Unix socket, as the kernel recorded it at connect.
//!
//! Trusts: `SO_PEERCRED`. Distrusts: everything the peer says about itself.
//!
//! Descriptors sent along (`SCM_RIGHTS`) never arrive: our readers use `read` and `recv` without
//! room for ancillary data, so the kernel drops them, and the filters forbid `recvmsg`.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Pid, Uid};

/// A peer's process at the time it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its effective user; the only one of the three to decide by.
    pub uid: Uid,
    /// Its effective group.
    pub gid: Gid,
    /// Its process number, for the log: it may belong to another process by now.
    pub pid: Pid,
}

/// Asks the kernel who connected.
///
/// # Errors
/// When the descriptor is no Unix socket.
pub fn peer(socket: impl AsFd) -> Result<Peer, Errno> {
    let told = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Peer {
        uid: Uid::from_raw(told.uid()),
        gid: Gid::from_raw(told.gid()),
        pid: Pid::from_raw(told.pid()),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use nix::unistd::{Gid, Pid, Uid};

    use super::{Peer, peer};

    #[test]
    fn a_peer_is_whom_the_kernel_saw() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let expected = Peer { uid: Uid::effective(), gid: Gid::effective(), pid: Pid::this() };
        assert_eq!(peer(&ours), Ok(expected));
    }

    #[test]
    fn a_tcp_socket_has_no_known_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_ne!(peer(&listener).map(|peer| peer.uid), Ok(Uid::effective()));
    }
}
