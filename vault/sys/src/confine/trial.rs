//! Whether a layer holds on this machine: what it must stop is done before it is in force, and again after.
//!
//! Invariant: an act that did not work before tells nothing about the layer, and is reported as such.
//! Invariant: for a process with one thread that does nothing else; there is no way back.
#![expect(unsafe_code, reason = "some of what a filter must stop has no safe wrapper")]

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::ptr;

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{ConfineError, Layer, Profile, State, Violation, ruleset, syscalls};
use crate::locked::LockedKey;
use crate::process::harden;

/// What was tried, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// In words: "read a system file".
    pub what: &'static str,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It worked before, and was refused after.
    Stopped,
    /// It works although the layer is in force.
    Possible,
    /// It did not work before either, and why.
    Unclear(String),
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// This kernel does not have the layer, and why.
    #[error("{0}")]
    Missing(String),
    /// The layer could not be put in force.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// What the acts need could not be prepared.
    #[error("prepare the trial: {0}")]
    Prepare(#[from] io::Error),
}

/// An act and its name.
type Act<'a> = (&'static str, Box<dyn Fn() -> io::Result<()> + 'a>);

/// Puts a layer in force in this process, and tries what it must stop. `scratch` is an empty directory of the caller's, who
/// removes it again: this process cannot.
///
/// # Errors
/// [`TrialError`]; the process must end in any case.
pub fn try_layer(layer: Layer, scratch: &Path) -> Result<Vec<Tried>, TrialError> {
    let offered = match layer {
        Layer::SecretMemory => None,
        Layer::Files | Layer::TcpPorts | Layer::Scopes => {
            ruleset::offered().into_iter().find(|(each, _)| *each == layer).map(|(_, state)| state)
        }
        Layer::SystemCalls => Some(syscalls::offered()),
    };
    if let Some(State::Missing(reason)) = offered {
        return Err(TrialError::Missing(reason));
    }
    match layer {
        Layer::SecretMemory => secret_memory(),
        Layer::Files => files(scratch),
        Layer::TcpPorts => tcp_ports(),
        Layer::Scopes => scopes(),
        Layer::SystemCalls => system_calls(),
    }
}

/// Does what the gateway's filter forbids, as it forbids it in a release: this process must be dead afterwards.
///
/// # Errors
/// [`TrialError`] when there is no filter, or the process lives on.
pub fn violate() -> Result<Tried, TrialError> {
    harden().map_err(ConfineError::from)?;
    syscalls::filter(Profile::Gateway, Violation::Kill)?;
    // Whatever it answers, it came back.
    drop(UnixDatagram::unbound());
    Ok(Tried { what: "live on after a forbidden system call", outcome: Outcome::Possible })
}

/// Tells whether this process, which should have no network, reaches a listener of the host's.
///
/// Before is for whoever holds the listener to try.
pub fn reach(listener: SocketAddr) -> Tried {
    let outcome = match TcpStream::connect(listener) {
        Ok(_) => Outcome::Possible,
        Err(_) => Outcome::Stopped,
    };
    Tried { what: "reach the host's network", outcome }
}

fn before_and_after(
    acts: &[Act<'_>],
    confine: impl FnOnce() -> Result<(), ConfineError>,
) -> Result<Vec<Tried>, TrialError> {
    let before: Vec<io::Result<()>> = acts.iter().map(|(_, act)| act()).collect();
    confine()?;
    let judge = |((what, act), before): (&Act<'_>, io::Result<()>)| {
        let outcome = match (before, act()) {
            (Err(error), _) => Outcome::Unclear(error.to_string()),
            (Ok(()), Ok(())) => Outcome::Possible,
            (Ok(()), Err(_)) => Outcome::Stopped,
        };
        Tried { what, outcome }
    };
    Ok(acts.iter().zip(before).map(judge).collect())
}

/// Landlock asks for the promise that nothing is gained by a program that is run.
fn landlock(profile: Profile<'_>) -> Result<(), ConfineError> {
    harden()?;
    ruleset::restrict(profile)
}

fn files(scratch: &Path) -> Result<Vec<Tried>, TrialError> {
    let own = scratch.join("data");
    DirBuilder::new().mode(0o700).create(&own)?;
    let outside = scratch.join("outside");
    let acts: [Act<'_>; 3] = [
        ("read a system file", Box::new(|| File::open("/etc/passwd").map(drop))),
        ("list the root directory", Box::new(|| fs::read_dir("/").map(drop))),
        ("make a file elsewhere", Box::new(|| File::create(&outside).map(drop))),
    ];
    let profile = Profile::Keeper { data_dir: &own, run_dir: scratch };
    let mut tried = before_and_after(&acts, || landlock(profile))?;
    // A layer that stops everything would stop these as well: what it must leave is tried, too.
    if let Err(error) = File::create(own.join("file")) {
        let outcome = Outcome::Unclear(format!("its own directory is closed as well: {error}"));
        tried.push(Tried { what: "use its own directory", outcome });
    }
    Ok(tried)
}

fn tcp_ports() -> Result<Vec<Tried>, TrialError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let there = listener.local_addr()?;
    let acts: [Act<'_>; 2] = [
        ("connect to a TCP port", Box::new(move || TcpStream::connect(there).map(drop))),
        (
            "listen on a TCP port",
            Box::new(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        ),
    ];
    before_and_after(&acts, || landlock(Profile::Gateway))
}

fn scopes() -> Result<Vec<Tried>, TrialError> {
    let name = format!("strongroom-trial-{}", std::process::id());
    let there = UnixAddress::from_abstract_name(name)?;
    let _outside = UnixListener::bind_addr(&there)?;
    let acts: [Act<'_>; 2] = [
        // Signal 0 only asks whether one could be sent.
        ("signal another process", Box::new(|| kill(Pid::parent(), None).map_err(io::Error::from))),
        ("connect to an abstract socket", Box::new(|| UnixStream::connect_addr(&there).map(drop))),
    ];
    before_and_after(&acts, || landlock(Profile::Gateway))
}

fn system_calls() -> Result<Vec<Tried>, TrialError> {
    let (outside, mail) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
    let (there, own) = (outside.local_addr()?, mail.local_addr()?);
    // Each can be shut down once.
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners = RefCell::new(listeners.into_iter().collect::<io::Result<Vec<_>>>()?);
    let dial = || match listeners.borrow_mut().pop() {
        Some(listener) => dial_by(&listener, there.port()),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let mut acts: Vec<Act<'_>> = vec![
        ("run a program", Box::new(run_program)),
        ("open a file", Box::new(|| File::open("/dev/null").map(drop))),
        ("make a Unix socket", Box::new(|| UnixDatagram::unbound().map(drop))),
        (
            "make an Internet socket",
            Box::new(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        ),
        ("make a netlink socket", Box::new(netlink)),
        ("receive a descriptor", Box::new(receive_descriptor)),
        ("make executable memory", Box::new(executable_memory)),
        ("read memory as a debugger does", Box::new(read_memory)),
        ("change a limit", Box::new(change_limit)),
        ("name an address while sending", Box::new(|| mail.send_to(b"x", own).map(drop))),
    ];
    if opens_fast() {
        acts.push(("dial out by a listener", Box::new(dial)));
    }
    before_and_after(&acts, || {
        harden()?;
        syscalls::filter(Profile::Gateway, Violation::Errno)
    })
}

fn secret_memory() -> Result<Vec<Tried>, TrialError> {
    let key = LockedKey::random().map_err(ConfineError::from)?;
    // Only root opens the memory of a process that cannot be dumped, its own too; there is nothing else in this one.
    set_dumpable(true).map_err(io::Error::from)?;
    let memory = File::open("/proc/self/mem")?;
    let mut seen = [0_u8; 16];
    let ordinary = [1_u8; 16];
    let what = "read a key through /proc";
    if let Err(error) = memory.read_exact_at(&mut seen, address(ordinary.as_ptr())) {
        let outcome = Outcome::Unclear(format!("no memory can be read there: {error}"));
        return Ok(vec![Tried { what, outcome }]);
    }
    let at = key.expose(|bytes| address(bytes.as_ptr()));
    let outcome = match memory.read_exact_at(&mut seen, at) {
        Ok(()) => Outcome::Possible,
        Err(_) => Outcome::Stopped,
    };
    Ok(vec![Tried { what, outcome }])
}

fn address(bytes: *const u8) -> u64 {
    bytes.addr() as u64
}

fn run_program() -> io::Result<()> {
    // This very file: the one program that certainly is there.
    Command::new("/proc/self/exe")
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .status()
        .map(drop)
}

/// Whether this machine dials with the first bytes; where it does not, nobody can be stopped from it.
fn opens_fast() -> bool {
    let setting = fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen").unwrap_or_default();
    setting.trim().parse::<u32>().is_ok_and(|bits| bits & FAST_CLIENT != 0)
}
/// `TFO_CLIENT_ENABLE` in the kernel's tcp.h.
const FAST_CLIENT: u32 = 1;

/// A listener that was shut down is an unconnected socket of the network that it was made in, and needs no `connect` to dial.
fn dial_by(listener: &TcpListener, port: u16) -> io::Result<()> {
    let socket = std::os::fd::AsRawFd::as_raw_fd(listener);
    // SAFETY: an open socket and a number.
    told(i64::from(unsafe { libc::shutdown(socket, libc::SHUT_RDWR) }))?;
    let family = libc::sa_family_t::try_from(libc::AF_INET).map_err(io::Error::other)?;
    let to = libc::sockaddr_in {
        sin_family: family,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&to)).map_err(io::Error::other)?;
    let (to, word) = ((&raw const to).cast(), b"x".as_ptr().cast());
    // SAFETY: an open socket, a live byte, and a live address of the length that is named.
    told(unsafe { libc::sendto(socket, word, 1, libc::MSG_FASTOPEN, to, length) } as i64).map(drop)
}

fn netlink() -> io::Result<()> {
    // SAFETY: numbers only.
    let fd = told(i64::from(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) }))?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    Ok(nix::unistd::close(fd)?)
}

fn receive_descriptor() -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    io::Write::write_all(&mut &ours, b"x")?;
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: all zero is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    let socket = std::os::fd::AsRawFd::as_raw_fd(&theirs);
    // SAFETY: the message's one part is a live buffer of one byte.
    let received = unsafe { libc::recvmsg(socket, &raw mut message, 0) };
    told(received as i64).map(drop)
}

fn executable_memory() -> io::Result<()> {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let page = unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, protection, flags, -1, 0) };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: that mapping, of which nobody else knows.
    told(i64::from(unsafe { libc::munmap(page, PAGE_BYTES) })).map(drop)
}

/// Of this process, which may always be read: it is the call that must be stopped.
fn read_memory() -> io::Result<()> {
    let (from, mut to) = ([7_u8; 8], [0_u8; 8]);
    let there = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let here = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let this = Pid::this().as_raw();
    // SAFETY: each list has one part, a live buffer of eight bytes.
    let read = unsafe { libc::process_vm_readv(this, &raw const here, 1, &raw const there, 1, 0) };
    told(read as i64).map(drop)
}

fn change_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?)
}

fn told(answer: i64) -> io::Result<i64> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

const PAGE_BYTES: usize = 4096;
