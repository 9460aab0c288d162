//! Programs that this run starts, and ends.
//!
//! Invariant: what was started here is ended here, by its process id, also when the run fails.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process;

/// From the request to end to the order to.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
/// The end of a log that is shown when a program fails.
const SHOWN_BYTES: usize = 2000;

/// A running program.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts a program; what it says goes to `log`.
    pub(crate) fn start(command: &mut Command, stdin: Stdio, log: &Path) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let errors = out.try_clone()?;
        let child = command
            .stdin(stdin)
            .stdout(out)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the program reads as its standard input, when that was piped.
    pub(crate) fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Polls until `ready` yields something; fails when the program ends or the time is over.
    pub(crate) fn until<T>(
        &mut self,
        patience: Duration,
        log: &Path,
        mut ready: impl FnMut(u32) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(value) = ready(self.pid()) {
                return Ok(value);
            }
            let said = || {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                text.get(text.len().saturating_sub(SHOWN_BYTES)..).unwrap_or(&text).to_owned()
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, said());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {patience:?}: {}", self.name, said());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Ends the program and, if it leaves some behind, its descendants.
    pub(crate) fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let descendants: Vec<_> = process::family(self.pid())
            .into_iter()
            .map(|pid| (pid, process::program(pid)))
            .collect();
        signal(self.pid(), Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
        for (pid, program) in descendants {
            // The number may belong to another process by now; its program would differ.
            if process::program(pid) == program && !program.is_empty() {
                signal(pid, Signal::SIGKILL);
            }
        }
        // Reaps it; there is nothing to be done about a failure.
        drop(self.child.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // Gone already is what is wanted.
        let _gone = kill(Pid::from_raw(pid), signal);
    }
}
