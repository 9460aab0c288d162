//! What another user of the machine can try against a process, a file or a socket: one attempt for each start, and how it went.
//!
//! Prints `done`, or `refused` and why. Where a process is named, `own` stands for one that this program starts itself: on it the
//! same attempt succeeds.
//!
//! Invariant: nothing here decides what is good; the test does.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test tool: what does not work here ends it, with a sentence"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::sys::wait::waitpid;
use nix::unistd::{AccessFlags, Pid, access};
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, pidfd_getfd, pidfd_open, pidfd_send_signal,
    prlimit,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (&attempt, words) = words.split_first().expect("an attempt");
    if attempt == "wait" {
        println!("here");
        let _end = io::stdin().read(&mut [0]);
        return;
    }
    if attempt == "reach" {
        return reach();
    }
    match try_to(attempt, words) {
        Ok(()) => println!("done"),
        Err(error) => println!("refused {error}"),
    }
}

fn try_to(attempt: &str, words: &[&str]) -> io::Result<()> {
    let own = Victim::start(words);
    match (attempt, words) {
        ("attach", _) => {
            ptrace::attach(own.pid())?;
            waitpid(own.pid(), None)?;
            Ok(ptrace::detach(own.pid(), None)?)
        }
        ("seize", _) => Ok(ptrace::seize(own.pid(), ptrace::Options::empty())?),
        ("read-memory", _) => {
            let remote = [RemoteIoVec { base: own.address(words)?, len: 8 }];
            let mut bytes = [0; 8];
            Ok(process_vm_readv(own.pid(), &mut [IoSliceMut::new(&mut bytes)], &remote)
                .map(drop)?)
        }
        ("write-memory", _) => {
            let remote = [RemoteIoVec { base: own.address(words)?, len: 1 }];
            Ok(process_vm_writev(own.pid(), &[IoSlice::new(&[0])], &remote).map(drop)?)
        }
        ("signal", [_, number, ..]) => {
            let number: i32 = number.parse().expect("a number");
            let signal = (number != 0).then(|| Signal::try_from(number).expect("a signal"));
            Ok(kill(own.pid(), signal)?)
        }
        ("handle", [_, what, ..]) => by_handle(own.pid(), what),
        ("limit", _) => {
            // Reads and writes it, as one call.
            let pid = rustix::process::Pid::from_raw(own.pid().as_raw());
            let none = Rlimit { current: Some(64), maximum: Some(64) };
            Ok(prlimit(pid, Resource::Nofile, none).map(drop)?)
        }
        ("proc", [_, name, ..]) => look(&Path::new("/proc").join(own.pid().to_string()).join(name)),
        ("connect", [path]) => {
            let mut stream = UnixStream::connect(path)?;
            // A door that takes strangers in says something, or waits for them to; only where one does, this takes its time.
            stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
            match stream.read(&mut [0]) {
                Ok(0) => Err(io::Error::other("shown out")),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                Ok(_) | Err(_) => Ok(()),
            }
        }
        ("push", [path, rest @ ..]) => push(path, rest),
        _ => panic!("no such attempt: {attempt} {words:?}"),
    }
}

/// By a descriptor that stands for a process: takes one of its own out of it, or signals it.
fn by_handle(pid: Pid, what: &str) -> io::Result<()> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    match what {
        "take" => Ok(pidfd_getfd(&handle, 0, PidfdGetfdFlags::empty()).map(drop)?),
        "signal" => Ok(pidfd_send_signal(&handle, rustix::process::Signal::USR1)?),
        _ => panic!("no such attempt: {what}"),
    }
}

/// Sends frames from standard input, each byte of them with a descriptor beside it.
fn push(path: &str, rest: &[&str]) -> io::Result<()> {
    let stream = UnixStream::connect(path)?;
    let times: usize = rest.first().map_or(1, |times| times.parse().expect("a number"));
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    let pushed = File::open("/dev/null")?;
    let fds = [pushed.as_raw_fd(); 8];
    for _ in 0..times {
        let (parts, with) = ([IoSlice::new(&bytes)], [ControlMessage::ScmRights(&fds)]);
        let sent = sendmsg::<()>(stream.as_raw_fd(), &parts, &with, MsgFlags::MSG_NOSIGNAL, None)?;
        if sent != bytes.len() {
            return Err(io::Error::other("not all of it was taken"));
        }
    }
    // Until the other side has read all of it.
    stream.shutdown(Shutdown::Write)?;
    let mut stream = stream;
    match io::copy(&mut stream, &mut io::sink()) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}

/// For each path on standard input, what can be done with it.
fn reach() {
    let paths = io::read_to_string(io::stdin()).expect("paths");
    for path in paths.lines().map(Path::new) {
        let mut can = Vec::new();
        if path.is_dir() {
            if fs::read_dir(path).is_ok() {
                can.push("list");
            }
            let new = path.join("neighbour");
            if File::create(&new).is_ok() {
                let _gone = fs::remove_file(&new);
                can.push("make");
            }
        } else {
            if File::open(path).is_ok_and(|mut file| file.read(&mut [0]).is_ok()) {
                can.push("read");
            }
            if OpenOptions::new().write(true).open(path).is_ok() {
                can.push("write");
            }
        }
        if access(path, AccessFlags::X_OK).is_ok() && path.is_file() {
            can.push("run");
        }
        println!("{}\t{}", path.display(), can.join(" "));
    }
}

/// Reads what a name below `/proc/PID` shows, whatever it is.
fn look(path: &Path) -> io::Result<()> {
    if path.is_symlink() {
        return fs::read_link(path).map(drop);
    }
    if path.is_dir() {
        return fs::read_dir(path).map(drop);
    }
    let mut file = File::open(path)?;
    match file.read(&mut [0; 64]) {
        // `mem` has nothing at its beginning.
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(()),
        read => read.map(drop),
    }
}

/// The process that is attacked.
enum Victim {
    Named(Pid),
    Own(Child),
}

impl Victim {
    fn start(words: &[&str]) -> Self {
        match words.first().map(|word| (word, word.parse())) {
            Some((_, Ok(pid))) => Self::Named(Pid::from_raw(pid)),
            Some((&"own", _)) => {
                let own = std::env::current_exe().expect("its program");
                let mut child = Command::new(own);
                let mut child = child
                    .arg("wait")
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("it can start itself");
                let said = child.stdout.as_mut().expect("it is read");
                said.read_exact(&mut [0; 5]).expect("it runs");
                Self::Own(child)
            }
            _ => Self::Named(Pid::this()),
        }
    }

    fn pid(&self) -> Pid {
        match self {
            Self::Named(pid) => *pid,
            Self::Own(child) => Pid::from_raw(i32::try_from(child.id()).expect("a pid")),
        }
    }

    /// Of its own victim it finds one; of another's it is told one.
    fn address(&self, words: &[&str]) -> io::Result<usize> {
        let found = match words {
            [_, address, ..] => (*address).to_owned(),
            _ => fs::read_to_string(format!("/proc/{}/maps", self.pid()))?,
        };
        let writable = found.lines().find(|line| line.contains("rw-p")).unwrap_or(&found);
        let digits = writable.split('-').next().unwrap_or_default();
        usize::from_str_radix(digits, 16).map_err(io::Error::other)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Self::Own(child) = self {
            let _gone = child.kill();
            let _status = child.wait();
        }
    }
}
