//! System calls that fail: `strace` answers a chosen one of a running keeper in the kernel's place.
//!
//! Invariant: only calls on the files that are named fail, and the call that fails has done nothing.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// What fails, as `strace` names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    /// System calls, separated by commas.
    pub(crate) calls: &'static str,
    /// `EIO` or `ENOSPC`.
    pub(crate) error: &'static str,
    /// Each thread's call of this number fails, counted from 1.
    pub(crate) number: u64,
    /// And all after it.
    pub(crate) for_good: bool,
}

/// An attached tracer; it lets go when it is dropped.
pub(crate) struct Tracer(Child);

/// Whether this user may trace a keeper, which is not dumpable.
pub(crate) fn may_trace() -> bool {
    let may = Uid::effective().is_root();
    if !may {
        strongroom_soak::skipped("only root traces a keeper");
    }
    may
}

impl Tracer {
    /// Attaches to all threads of a process.
    #[track_caller]
    pub(crate) fn attach(pid: Pid, failure: Failure, files: &[PathBuf]) -> Self {
        let Failure { calls, error, number, for_good } = failure;
        let more = if for_good { "+" } else { "" };
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-p", &pid.to_string()]);
        strace.args(["-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:error={error}:when={number}{more}")]);
        for file in files {
            strace.arg("-P").arg(file);
        }
        let child = strace.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("strace is installed");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            let read = said.read_line(&mut line).expect("text");
            assert!(read > 0 && !line.contains("Operation not permitted"), "strace: {line}");
        }
        // It tells of each thread that begins; nobody may make it wait.
        std::thread::spawn(move || said.lines().map_while(Result::ok).for_each(drop));
        Self(child)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id()).expect("a process id");
        let _gone = kill(Pid::from_raw(id), Signal::SIGINT);
        let _status = self.0.wait();
    }
}
