//! How the supervisor starts a process: its user, its descriptors, its environment, its end.
//!
//! Invariant: the child holds standard streams and the listed descriptors, and nothing else.
//! Invariant: the child is killed when the thread that started it ends.
//! Invariant: the child has no terminal but to write to: what is typed there, Control-C and passphrases, reaches the supervisor alone.
#![expect(unsafe_code, reason = "code between fork and exec must keep to what is safe there")]

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Pid, Uid, setsid};

use crate::process::{become_user, die_with_parent};

/// How our programs' malloc is set: more small blocks are kept at hand, and few arenas hold freed memory.
const MALLOC: &str = "glibc.malloc.tcache_count=100:glibc.malloc.arena_max=2";
/// The same for a program through whose C libraries secrets pass: what C frees is overwritten, and nothing is kept at hand,
/// since that would not be.
const WIPING_MALLOC: &str =
    "glibc.malloc.tcache_count=0:glibc.malloc.perturb=165:glibc.malloc.arena_max=2";

/// The number under which a child finds its first inherited descriptor; the next ones follow.
pub const FIRST_INHERITED: RawFd = 3;
/// More descriptors than any of our processes takes.
pub const MAX_INHERITED: usize = 32;

/// Why a child did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// More than [`MAX_INHERITED`] descriptors.
    #[error("more than {MAX_INHERITED} descriptors for one process")]
    TooManyDescriptors,
    /// A descriptor could not be duplicated.
    #[error("duplicate a descriptor: {0}")]
    Descriptor(#[from] Errno),
    /// The terminal cannot be opened anew.
    #[error(
        "open the terminal to write to it alone: {0}; or show its lines by another program: strongroom up 2>&1 | cat"
    )]
    Terminal(#[source] io::Error),
    /// The program could not be started, or could not become its user.
    #[error("start {program}: {source}")]
    Start {
        /// The program's path.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// What a process sees of the network. Inherited sockets stay in the network that they were made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// A namespace without interfaces: a new socket has no way out. Needs root.
    None,
}

/// A process to be started.
pub struct Child<'a> {
    /// The program's absolute path; no search in `PATH`.
    pub program: &'a Path,
    /// Its arguments, without the program's name. Never a secret: every user can read them.
    pub arguments: &'a [&'a str],
    /// Whom it becomes before exec; `None` keeps the supervisor's user.
    pub user: Option<(Uid, Gid)>,
    /// Whether it gets the host's network, or one of its own without any interface.
    pub network: Network,
    /// The n-th one is descriptor [`FIRST_INHERITED`] + n in the child.
    pub inherited: &'a [BorrowedFd<'a>],
    /// Names of environment variables that it may see.
    pub keep_environment: &'a [&'a str],
    /// Whether C's `free` overwrites; Rust's does by our allocator in any case.
    pub wipes_freed: bool,
}

impl Child<'_> {
    /// Starts it, with `/dev/null` as its input. Its life is bound to the calling *thread*, so
    /// this belongs to the main thread.
    ///
    /// # Errors
    /// [`SpawnError`]; a child that could not become its user never ran.
    pub fn start(&self) -> Result<process::Child, SpawnError> {
        let end = descriptor_number(self.inherited.len())?;
        let spare = self.inherited.iter().map(|fd| duplicate(*fd, end));
        let spare = spare.collect::<Result<Vec<OwnedFd>, Errno>>()?;
        let reserved = reserve(end)?;
        let (user, network, parent) = (self.user, self.network, Pid::this());
        let mut command = Command::new(self.program);
        command.args(self.arguments).stdin(Stdio::null()).env_clear();
        command.stdout(to_write(&io::stdout())?).stderr(to_write(&io::stderr())?);
        command.env("GLIBC_TUNABLES", if self.wipes_freed { WIPING_MALLOC } else { MALLOC });
        for name in self.keep_environment {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let prepare = move || {
            for (number, fd) in (FIRST_INHERITED..).zip(&spare) {
                place(fd.as_raw_fd(), number)?;
            }
            close_on_exec_from(end)?;
            setsid()?;
            if network == Network::None {
                unshare(CloneFlags::CLONE_NEWNET)?;
            }
            if let Some((uid, gid)) = user {
                become_user(uid, gid)?;
            }
            // A supervisor that takes its signals by descriptor has blocked them; its children need them.
            SigSet::empty().thread_set_mask()?;
            Ok(die_with_parent(parent)?)
        };
        // SAFETY: the closure only makes system calls; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(prepare) };
        let started = command.spawn();
        drop(reserved);
        started.map_err(|source| SpawnError::Start {
            program: self.program.display().to_string(),
            source,
        })
    }
}

/// A stream for a child to write to. A terminal is opened to be read as well; the child gets one that is not.
fn to_write(stream: &(impl AsFd + IsTerminal)) -> Result<Stdio, SpawnError> {
    if !stream.is_terminal() {
        return Ok(Stdio::inherit());
    }
    let path = format!("/proc/self/fd/{}", stream.as_fd().as_raw_fd());
    let opened = File::options().write(true).custom_flags(libc::O_NOCTTY).open(path);
    opened.map(Stdio::from).map_err(SpawnError::Terminal)
}

/// One above the highest number that the child's descriptors take.
fn descriptor_number(count: usize) -> Result<RawFd, SpawnError> {
    let count = Some(count).filter(|count| *count <= MAX_INHERITED);
    let count = count.and_then(|count| RawFd::try_from(count).ok());
    Ok(FIRST_INHERITED + count.ok_or(SpawnError::TooManyDescriptors)?)
}

/// Occupies the free numbers below `end`, so that the pipe by which `Command` learns of a failed
/// exec does not get one and is not overwritten in the child.
fn reserve(end: RawFd) -> Result<Vec<OwnedFd>, SpawnError> {
    let null = File::open("/dev/null").map_err(|_| Errno::ENOENT)?;
    let each = (FIRST_INHERITED..end).map(|number| duplicate(null.as_fd(), number));
    Ok(each.collect::<Result<Vec<OwnedFd>, Errno>>()?)
}

/// Duplicates at the lowest free number that is not below `lowest`, closed on exec.
fn duplicate(fd: BorrowedFd<'_>, lowest: RawFd) -> Result<OwnedFd, Errno> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: the kernel just made it and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts `fd` under `number`, to stay open over exec.
fn place(fd: RawFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: runs in the child, where nothing owns `number` that would still be used.
    Errno::result(unsafe { libc::dup2(fd, number) }).map(|_| ())
}

/// Also what a library opened without that flag. Closing at once would cut the pipe by which
/// `Command` learns of a failed exec.
fn close_on_exec_from(first: RawFd) -> Result<(), Errno> {
    let flag = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: sets a flag on descriptors, none of which the child uses under another assumption.
    let set = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flag) };
    Errno::result(set).map(|_| ())
}
