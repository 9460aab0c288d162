//! Runs the operator's `strongroom` as a person would.
//!
//! Invariant: secrets go in by standard input; the environment is bare.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::patience::within;

/// How long one command may take: unsealing derives a key from a passphrase in an unoptimised build.
const COMMAND_PATIENCE: Duration = Duration::from_mins(1);

/// What a command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code; 128 and more for signals.
    pub code: i32,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Ran {
    /// The command's data as JSON.
    ///
    /// # Panics
    /// When it failed, or said something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(self.stdout.trim())
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// The command, which must have succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// Starts a command with a bare environment; its input is closed after `stdin` is written.
///
/// # Panics
/// When the program is not there.
pub fn start(program: &Path, arguments: &[&str], stdin: &[u8], out: Stdio, err: Stdio) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(out).stderr(err);
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{} does not start ({error}); build the programs first", program.display())
    });
    if let Some(mut input) = child.stdin.take() {
        // A command that refuses its arguments closes its input unread.
        let _unread = input.write_all(stdin);
    }
    child
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not end.
pub fn run(program: &Path, arguments: &[&str], stdin: &[u8]) -> Ran {
    let child = start(program, arguments, stdin, Stdio::piped(), Stdio::piped());
    finish(child, arguments)
}

fn finish(mut child: Child, arguments: &[&str]) -> Ran {
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    // Read on the side, so that a talkative command does not wait for us while we wait for it.
    let reader = |from: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut from) = from {
                let _partial = from.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let stdout = reader(out.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>));
    let stderr = reader(err.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read + Send>));
    let status = within(COMMAND_PATIENCE, || child.try_wait().ok().flatten());
    let Some(status) = status else {
        let _gone = child.kill();
        let text = stderr.join().unwrap_or_default();
        panic!("`strongroom {}` did not end: {text}", arguments.join(" "));
    };
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
    Ran {
        code: status.code().unwrap_or(128 + signal),
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    }
}
