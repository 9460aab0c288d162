//! A PostgreSQL server of the test's own: killed when dropped, stopped and started as the test wants.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::keeper::until;

/// A running server with a role `keeper` and its database `strongroom`.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    child: Child,
}

impl Postgres {
    /// `None`, with the reason said, where none is installed or we are not root.
    pub(crate) fn start() -> Option<Self> {
        let programs = programs();
        if programs.is_none() || !nix::unistd::getuid().is_root() {
            strongroom_soak::skipped("root and Debian's postgresql are needed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(Command::new("chown").arg("postgres").arg(dir.path()).status().unwrap().success());
        let mut init = as_its_user(&programs?.join("initdb"));
        init.arg("-D").arg(dir.path().join("data")).args(["-A", "trust", "-U", "super"]);
        init.args(["--no-sync", "--locale=C", "-E", "UTF8"]).stdout(Stdio::null());
        assert!(init.status().unwrap().success());
        let child = launch(dir.path());
        assert!(sql(dir.path(), "CREATE ROLE keeper LOGIN"));
        assert!(sql(dir.path(), "CREATE DATABASE strongroom OWNER keeper"));
        Some(Self { dir, child })
    }

    /// The arguments that make a keeper use it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let socket = self.dir.path().display().to_string();
        let owner = fs::metadata(self.dir.path()).unwrap().uid().to_string();
        ["--store", "postgres", "--store-socket", &socket, "--store-database", "strongroom"]
            .into_iter()
            .chain(["--store-role", "keeper", "--store-owner", &owner])
            .map(ToOwned::to_owned)
            .collect()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // Its processes end a moment after it, and only then answers nobody any more.
        until(|| !sql(self.dir.path(), "SELECT 1"));
    }

    pub(crate) fn start_again(&mut self) {
        self.child = launch(self.dir.path());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn launch(dir: &Path) -> Child {
    let spawn = || {
        let mut command = as_its_user(&programs().unwrap().join("postgres"));
        command.arg("-D").arg(dir.join("data")).arg("-k").arg(dir);
        command.args(["-c", "listen_addresses="]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(dir.join("log")).unwrap()).spawn().unwrap()
    };
    let mut child = spawn();
    until(|| {
        if child.try_wait().unwrap().is_some() {
            child = spawn();
        }
        sql(dir, "SELECT 1")
    });
    child
}

fn sql(dir: &Path, text: &str) -> bool {
    let mut command = Command::new(programs().unwrap().join("psql"));
    command.args(["-X", "-q", "-U", "super", "-d", "postgres", "-c", text, "-h"]).arg(dir);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

fn as_its_user(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let found = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    found.filter(|path| path.join("postgres").exists()).max()
}
