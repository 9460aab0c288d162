//! A person at a terminal: a program whose three streams are a pseudo-terminal, keys that are pressed, and what is shown.
//!
//! Invariant: what is started here is ended by its process id.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::patience::{until, within};
use crate::{PATIENCE, processes};

/// A program at a terminal.
pub struct Terminal {
    child: Child,
    keys: File,
    screen: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a program at a terminal of its own.
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let ends = openpty(None, None).expect("a pseudo-terminal");
        let stream = |end: &OwnedFd| end.try_clone().expect("a second handle");
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("NO_COLOR", "1");
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .stdin(Stdio::from(stream(&ends.slave)))
            .stdout(Stdio::from(stream(&ends.slave)))
            .stderr(Stdio::from(stream(&ends.slave)));
        let child = command.spawn().expect("the program starts");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (keys, other) = (File::from(stream(&ends.master)), Arc::clone(&shown));
        // It ends with the test's process at the latest.
        thread::spawn(move || keep(File::from(ends.master), &other));
        Self { child, keys, screen: File::from(ends.slave), shown }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).expect("the terminal is there");
    }

    /// What was shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("nobody panics with it")).into_owned()
    }

    /// Waits until so many times a text was shown.
    #[track_caller]
    pub fn wait_for(&self, text: &str, times: usize) {
        let seen = || (self.shown().matches(text).count() >= times).then_some(());
        assert!(within(PATIENCE, seen).is_some(), "never {text:?} {times} times: {}", self.shown());
    }

    /// Waits until a hidden question stands: nothing that is pressed from now on is thrown away.
    #[track_caller]
    pub fn wait_for_question(&self, text: &str, times: usize) {
        self.wait_for(text, times);
        until("the terminal is quiet", || (!self.echoes()).then_some(()));
    }

    /// Whether the terminal shows what is typed, edits lines and raises signals, as it was found.
    pub fn is_as_found(&self) -> bool {
        let usual = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        tcgetattr(&self.screen).expect("a terminal").local_flags.contains(usual)
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.screen).expect("a terminal").local_flags.contains(LocalFlags::ECHO)
    }

    /// The program's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// Sends the program a signal, as another program would.
    pub fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    /// Waits for the program's end, and yields its exit code.
    #[track_caller]
    pub fn ended(&mut self) -> Option<i32> {
        let status = within(PATIENCE, || self.child.try_wait().ok().flatten());
        status.unwrap_or_else(|| panic!("it goes on: {}", self.shown())).code()
    }
}

/// Keeps what is shown. The terminal hangs up when its last user is gone.
fn keep(mut master: File, shown: &Mutex<Vec<u8>>) {
    let mut piece = [0_u8; 4096];
    while let Ok(length @ 1..) = master.read(&mut piece) {
        shown.lock().expect("nobody panics with it").extend_from_slice(&piece[..length]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_some() {
            return;
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        let all = processes::descendants(self.child.id());
        processes::signal(pid, Signal::SIGTERM);
        if within(PATIENCE, || self.child.try_wait().ok().flatten()).is_none() {
            processes::signal(pid, Signal::SIGKILL);
            let _status = self.child.wait();
        }
        for (pid, _) in all {
            if within(PATIENCE, || (!processes::runs(pid)).then_some(())).is_none() {
                processes::signal(pid, Signal::SIGKILL);
            }
        }
    }
}
