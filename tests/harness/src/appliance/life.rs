//! Starting, ending and killing the processes of an appliance, and waiting for what they become.
//!
//! Invariant: whatever is started here is ended by its process id.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgid};
use serde_json::Value;

use super::{Appliance, PASSPHRASE, Vault};
use crate::command::{self, Ran};
use crate::patience::{PATIENCE, until, within};
use crate::processes::{self, Part};
use crate::speak;

impl Appliance {
    /// The process id of a part, while it runs.
    pub fn pid(&self, part: Part) -> Option<Pid> {
        let supervisor = self.supervisor.as_ref()?;
        processes::pid_of(supervisor.id(), part)
    }

    /// The process id of the supervisor.
    ///
    /// # Panics
    /// When nothing runs.
    pub fn supervisor(&self) -> Pid {
        let id = self.supervisor.as_ref().expect("it runs").id();
        Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX))
    }

    /// Ends a part as the kernel would, and yields which process that was.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self, part: Part) -> Pid {
        let pid = until("the process runs", || self.pid(part));
        processes::signal(pid, Signal::SIGKILL);
        until("it is gone", || (!processes::runs(pid)).then_some(()));
        pid
    }

    /// The state as `status --json` tells it; null while nobody answers.
    pub fn status(&self) -> Value {
        let ran = self.cli(&["status", "--json"], b"");
        serde_json::from_str(ran.stdout.trim()).unwrap_or(Value::Null)
    }

    /// Waits until calls can be made.
    pub fn wait_ready(&self) {
        self.wait_state("ready");
        let gate = self.gate();
        until("the gateway says that calls can be made", || {
            let mut connection = gate.connect().ok()?;
            let answer = connection.call(&speak::Request::get("/healthz"));
            (answer.status == 200).then_some(())
        });
    }

    /// Waits until all processes are connected and the vault is in a state.
    pub fn wait_state(&self, state: &str) {
        let ready = || {
            let status = self.status();
            let connected = ["courier", "courier_defined", "gateway"]
                .iter()
                .all(|process| status[process] == true);
            (status["state"] == state && connected).then_some(())
        };
        let reached = within(PATIENCE, ready).is_some();
        assert!(reached, "never {state}: {}\n{}", self.status(), self.log());
    }

    /// Opens the vault.
    #[track_caller]
    pub fn unseal(&self) {
        self.cli(&["unseal", "-"], PASSPHRASE.as_bytes()).ok();
    }

    /// Starts the supervisor; an empty directory becomes a vault.
    pub fn up(&mut self) {
        let log = self.scratch.path().join("up.log");
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let out = log.try_clone().expect("a second handle");
        let (data, programs) =
            (self.data.display().to_string(), self.programs.display().to_string());
        let how: &[&str] = match self.vault {
            Vault::Passphrase => &["--passphrase-fd", "0"],
            Vault::None => &["--no-init"],
        };
        let (program, before) = self.tool();
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let arguments =
            [&before, &["up", "--dir", &data, "--binaries", &programs][..], how].concat();
        let passphrase = format!("{PASSPHRASE}\n");
        let input = passphrase.as_bytes();
        let (out, log) = (Stdio::from(out), Stdio::from(log));
        self.supervisor = Some(command::start(&program, &arguments, input, out, log));
    }

    /// What the next start does about a vault.
    pub const fn start_as(&mut self, vault: Vault) {
        self.vault = vault;
    }

    /// Where the next start takes its programs from.
    pub fn start_from(&mut self, programs: PathBuf) {
        self.programs = programs;
    }

    /// Sends the supervisor a signal.
    ///
    /// # Panics
    /// When nothing runs.
    pub fn signal_supervisor(&self, signal: Signal) {
        let id = self.supervisor.as_ref().expect("it runs").id();
        processes::signal(Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX)), signal);
    }

    /// Runs a second `up` on the same directory, or one that is expected to fail, to its end.
    pub fn up_again(&self) -> Ran {
        let programs = self.programs.display().to_string();
        let arguments = ["up", "--binaries", &programs, "--passphrase-fd", "0"];
        self.cli(&arguments, format!("{PASSPHRASE}\n").as_bytes())
    }

    /// Stops all processes in peace.
    pub fn stop(&mut self) {
        let Some(mut supervisor) = self.supervisor.take() else { return };
        let all = processes::descendants(supervisor.id());
        let own = Pid::from_raw(i32::try_from(supervisor.id()).unwrap_or(i32::MAX));
        processes::signal(own, Signal::SIGTERM);
        if within(STOP_PATIENCE, || supervisor.try_wait().ok().flatten()).is_none() {
            processes::signal(own, Signal::SIGKILL);
            let _status = supervisor.wait();
        }
        for (pid, _) in all {
            if within(STOP_PATIENCE, || (!processes::runs(pid)).then_some(())).is_none() {
                processes::signal(pid, Signal::SIGKILL);
            }
        }
    }

    /// Control-C: the terminal sends it to the supervisor and to whoever shares its process group.
    ///
    /// # Panics
    /// When nothing runs.
    pub fn control_c(&self) {
        let id = self.supervisor.as_ref().expect("it runs").id();
        let own = Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX));
        let group = getpgid(Some(own)).expect("it runs");
        let children = processes::descendants(id).into_iter().map(|(pid, _)| pid);
        // All of the group at once, but for the test, which is in it too.
        for pid in children.chain([own]).filter(|pid| getpgid(Some(*pid)) == Ok(group)) {
            processes::signal(pid, Signal::SIGINT);
        }
    }

    /// Ends the supervisor as the kernel would, and yields what it had started.
    pub fn kill_supervisor(&mut self) -> Vec<Pid> {
        let Some(mut supervisor) = self.supervisor.take() else { return Vec::new() };
        let all = processes::descendants(supervisor.id());
        let _gone = supervisor.kill();
        let _status = supervisor.wait();
        all.into_iter().map(|(pid, _)| pid).collect()
    }

    /// The supervisor's exit code, once it has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.supervisor.as_mut()?.try_wait().ok()??;
        status.code()
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6000);
            let from = (from..log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            let _closed = writeln!(
                std::io::stderr(),
                "--- up.log ---\n{}",
                log.get(from..).unwrap_or_default()
            );
        }
        self.stop();
    }
}

/// How long a process may take to end in peace.
const STOP_PATIENCE: Duration = Duration::from_mins(1);
