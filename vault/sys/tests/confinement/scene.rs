//! Directories and listeners that the attempts aim at, and how an attempt is started and judged.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

pub(crate) const NOBODY_UID: Uid = Uid::from_raw(65534);
pub(crate) const NOBODY_GID: Gid = Gid::from_raw(65534);

/// Directories and a listener that the attempts aim at.
pub(crate) struct Scene {
    pub(crate) directory: tempfile::TempDir,
    listener: TcpListener,
    _outer: UnixListener,
    _box: UnixDatagram,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["data", "run"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self {
            _outer: UnixListener::bind(directory.path().join("outer.sock")).unwrap(),
            _box: UnixDatagram::bind(directory.path().join("outer.datagram")).unwrap(),
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            directory,
        }
    }

    pub(crate) fn command(
        &self,
        program: &Path,
        profile: &str,
        mode: &str,
        attempt: &str,
    ) -> Command {
        let mut command = Command::new(program);
        let port = self.listener.local_addr().unwrap().port().to_string();
        command
            .arg("--attempt")
            .args([profile, mode, attempt])
            .arg(self.directory.path())
            .arg(port);
        command.env("CARRIED", "1");
        command
    }

    pub(crate) fn run(&self, profile: &str, mode: &str, attempt: &str) -> Output {
        let program = env::current_exe().unwrap();
        self.command(&program, profile, mode, attempt).output().unwrap()
    }

    pub(crate) fn denies(&self, profile: &str, attempts: &[(&str, Errno)]) {
        for (attempt, errno) in attempts {
            let output = self.run(profile, "errno", attempt);
            assert_eq!(text(&output), format!("{errno:?}\n"), "{profile} {attempt}: {output:?}");
            // The attempt itself works, so that the ban above is what stopped it.
            if !UNPROVABLE.contains(attempt) {
                let output = self.run("none", "errno", attempt);
                assert_eq!(text(&output), "ok\n", "unconfined {attempt}: {output:?}");
            }
        }
    }

    pub(crate) fn allows(&self, profile: &str, attempts: &[&str]) {
        for attempt in attempts {
            let output = self.run(profile, "errno", attempt);
            let aborted = *attempt == "abort" && output.status.signal() == Some(libc::SIGABRT);
            assert!(text(&output) == "ok\n" || aborted, "{profile} {attempt}: {output:?}");
        }
    }
}

/// Attempts that do not succeed without confinement either, or only as root or on some kernels.
const UNPROVABLE: &[&str] =
    &["connect_inherited", "io_uring", "multipath_tcp", "new_namespace", "become_dumpable"];

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
