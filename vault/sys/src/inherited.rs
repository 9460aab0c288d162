//! Sockets that the supervisor opened and this process received by number.
//!
//! Invariant: each number is taken at most once, and only as what the kernel says it is.
//! Trusts: the supervisor. Distrusts: a start by hand, with other descriptors at these numbers.
#![expect(unsafe_code, reason = "the one place where a number becomes an owned descriptor")]

use std::net::TcpListener;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{getsockname, getsockopt, sockopt};

use crate::spawn::FIRST_INHERITED;

/// Why a number did not become a socket. The descriptor, if any, is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InheritError {
    /// Standard stream, negative, or beyond what a supervisor hands over.
    #[error("descriptor {0} is not one that a supervisor hands over")]
    Number(RawFd),
    /// Asked for a second time.
    #[error("descriptor {0} was taken already")]
    Taken(RawFd),
    /// Nothing is open there.
    #[error("descriptor {0} is not open: {1}")]
    Closed(RawFd, Errno),
    /// Open, but something else.
    #[error("descriptor {0} is not {1}")]
    Kind(RawFd, &'static str),
}

/// Takes over a listening TCP socket.
///
/// # Errors
/// [`InheritError`].
pub fn take_tcp_listener(fd: RawFd) -> Result<TcpListener, InheritError> {
    let socket = take(fd)?;
    let inet = matches!(family(&socket), Some(AddressFamily::Inet | AddressFamily::Inet6));
    if inet && is_stream(&socket) && is_listening(&socket) {
        Ok(TcpListener::from(socket))
    } else {
        Err(InheritError::Kind(fd, "a listening TCP socket"))
    }
}

/// Takes over a listening Unix socket.
///
/// # Errors
/// [`InheritError`].
pub fn take_unix_listener(fd: RawFd) -> Result<UnixListener, InheritError> {
    let socket = take(fd)?;
    let unix = family(&socket) == Some(AddressFamily::Unix);
    if unix && is_stream(&socket) && is_listening(&socket) {
        Ok(UnixListener::from(socket))
    } else {
        Err(InheritError::Kind(fd, "a listening Unix socket"))
    }
}

/// Takes over one end of a connected Unix stream.
///
/// # Errors
/// [`InheritError`].
pub fn take_unix_stream(fd: RawFd) -> Result<UnixStream, InheritError> {
    let socket = take(fd)?;
    let unix = family(&socket) == Some(AddressFamily::Unix);
    let stream = UnixStream::from(socket);
    if unix && is_stream(&stream) && !is_listening(&stream) && stream.peer_addr().is_ok() {
        Ok(stream)
    } else {
        Err(InheritError::Kind(fd, "a connected Unix socket"))
    }
}

/// Takes over one end of a pair of Unix datagram sockets.
///
/// # Errors
/// [`InheritError`].
pub fn take_unix_datagram(fd: RawFd) -> Result<UnixDatagram, InheritError> {
    let socket = take(fd)?;
    let unix = family(&socket) == Some(AddressFamily::Unix);
    let datagram = getsockopt(&socket, sockopt::SockType) == Ok(SockType::Datagram);
    let socket = UnixDatagram::from(socket);
    if unix && datagram && socket.peer_addr().is_ok() {
        Ok(socket)
    } else {
        Err(InheritError::Kind(fd, "one of a pair of Unix datagram sockets"))
    }
}

/// Another descriptor for what a person's shell opened at a number: both read on where either stopped. Works too where whoever
/// opened it is another user, whose pipe cannot be opened again by its name.
///
/// What a shell opens goes through to whatever it starts; what this program opened itself does not, and is none of theirs.
///
/// # Errors
/// When nothing is open there, or this program opened it.
pub fn duplicate(fd: RawFd) -> Result<OwnedFd, InheritError> {
    // SAFETY: asks about a number, touches no memory.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    let flags = Errno::result(flags).map_err(|errno| InheritError::Closed(fd, errno))?;
    if FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC) {
        return Err(InheritError::Kind(fd, "one that the shell opened"));
    }
    // SAFETY: takes a number, and makes a descriptor of it or fails; touches no memory.
    let made = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, FIRST_INHERITED) };
    let made = Errno::result(made).map_err(|errno| InheritError::Closed(fd, errno))?;
    // SAFETY: just made, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// One bit for each number that was taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

fn take(fd: RawFd) -> Result<OwnedFd, InheritError> {
    let number = u32::try_from(fd).ok().filter(|_| fd >= FIRST_INHERITED);
    let bit = number.and_then(|number| 1_u64.checked_shl(number));
    let bit = bit.ok_or(InheritError::Number(fd))?;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(InheritError::Taken(fd));
    }
    // SAFETY: asks about a number, touches no memory.
    let open = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    Errno::result(open).map_err(|errno| InheritError::Closed(fd, errno))?;
    // SAFETY: open, inherited, and by the bit above taken by nobody else.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&owned, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|errno| InheritError::Closed(fd, errno))?;
    Ok(owned)
}

fn family(socket: &OwnedFd) -> Option<AddressFamily> {
    use std::os::fd::AsRawFd;
    getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(|address| address.family())
}

fn is_stream(socket: &impl AsFd) -> bool {
    getsockopt(socket, sockopt::SockType) == Ok(SockType::Stream)
}

/// Whether a socket listens. One that did, and was shut down by whoever held it too, does no more.
pub fn is_listening(socket: &impl AsFd) -> bool {
    getsockopt(socket, sockopt::AcceptConn) == Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::{
        InheritError, duplicate, take_tcp_listener, take_unix_datagram, take_unix_listener,
        take_unix_stream,
    };

    /// Leaves a copy of `fd` at a number that only this test uses.
    fn hand_over(fd: impl AsFd, at: RawFd) -> RawFd {
        let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(at)).unwrap();
        // SAFETY: just made; `into_raw_fd` gives it up again.
        unsafe { OwnedFd::from_raw_fd(number) }.into_raw_fd()
    }

    #[test]
    fn a_listening_socket_is_taken_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = hand_over(&listener, 40);
        let taken = take_tcp_listener(fd).unwrap();
        assert_eq!(taken.local_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(take_tcp_listener(fd).map(|_| ()), Err(InheritError::Taken(fd)));
    }

    #[test]
    fn a_socket_of_another_kind_is_refused() {
        let udp = hand_over(UdpSocket::bind("127.0.0.1:0").unwrap(), 46);
        assert!(matches!(take_tcp_listener(udp), Err(InheritError::Kind(..))));
        let (end, _other) = UnixStream::pair().unwrap();
        let stream = hand_over(&end, 48);
        assert!(matches!(take_unix_listener(stream), Err(InheritError::Kind(..))));
        let scratch = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(scratch.path().join("s")).unwrap();
        let listener = hand_over(&listener, 52);
        assert!(matches!(take_unix_stream(listener), Err(InheritError::Kind(..))));
    }

    #[test]
    fn one_end_of_a_pair_is_taken_as_a_stream() {
        let (end, _other) = UnixStream::pair().unwrap();
        let _taken = take_unix_stream(hand_over(&end, 58)).unwrap();
    }

    #[test]
    fn one_end_of_a_pair_of_datagram_sockets_is_taken_and_a_lone_one_is_not() {
        let (end, other) = UnixDatagram::pair().unwrap();
        let taken = take_unix_datagram(hand_over(&end, 34)).unwrap();
        other.send(b"whole").unwrap();
        let mut bytes = [0; 8];
        assert_eq!((taken.recv(&mut bytes).unwrap(), &bytes[..5]), (5, &b"whole"[..]));
        let alone = hand_over(UnixDatagram::unbound().unwrap(), 36);
        assert!(matches!(take_unix_datagram(alone), Err(InheritError::Kind(..))));
        let (stream, _other) = UnixStream::pair().unwrap();
        let stream = hand_over(&stream, 38);
        assert!(matches!(take_unix_datagram(stream), Err(InheritError::Kind(..))));
    }

    #[test]
    fn numbers_outside_the_handed_over_range_are_refused() {
        for fd in [-1, 0, 2, 64, RawFd::MAX] {
            assert_eq!(take_unix_stream(fd).map(|_| ()), Err(InheritError::Number(fd)));
        }
        assert!(matches!(take_unix_stream(63), Err(InheritError::Closed(63, _))));
    }

    #[test]
    fn a_duplicate_reads_on_where_the_other_stopped() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"one two").unwrap();
        drop(ours);
        let number = hand_over(&theirs, 57);
        let own = duplicate(number);
        assert!(matches!(own, Err(InheritError::Kind(57.., _))), "closed on exec: not a shell's");
        // SAFETY: open, and ours.
        let shell = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(shell, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        drop(theirs);
        let read = |length| {
            let mut bytes = vec![0; length];
            File::from(duplicate(number).unwrap()).read_exact(&mut bytes).unwrap();
            bytes
        };
        assert_eq!((read(4), read(3)), (b"one ".to_vec(), b"two".to_vec()));
        assert!(matches!(duplicate(1_000_000), Err(InheritError::Closed(1_000_000, _))));
    }
}
