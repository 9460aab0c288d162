//! A PostgreSQL server of the test's own, behind a Unix socket in its own directory.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_store::{Choice, DEFAULT_PORT, Database};

use crate::mount::run;

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    settings: Vec<String>,
    child: Child,
}

impl Server {
    /// Makes and starts one with these settings besides; `None`, with the reason printed, where none is installed.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            strongroom_soak::skipped("Debian's postgresql is needed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        if we_are_root() {
            assert!(run(Command::new("chown").arg("postgres").arg(dir.path())));
        }
        let mut init = as_its_user(&programs.join("initdb"));
        init.arg("-D").arg(dir.path().join("data")).args(["-A", "trust", "-U", "super"]);
        assert!(run(init.args(["--no-sync", "--locale=C", "-E", "UTF8"])));
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let child = launch(dir.path(), &settings);
        let server = Self { dir, settings, child };
        server.sql("postgres", "CREATE ROLE keeper LOGIN");
        server.sql("postgres", "CREATE DATABASE strongroom OWNER keeper");
        Some(server)
    }

    /// The directory of its socket.
    pub(crate) fn socket(&self) -> &Path {
        self.dir.path()
    }

    /// A choice with a connection of its own.
    pub(crate) fn choice(&self) -> Choice {
        choice_at(self.socket())
    }

    /// Kills the server without a word, as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on what it left.
    pub(crate) fn start_again(&mut self) {
        self.child = launch(self.dir.path(), &self.settings);
    }

    /// Runs a statement as its superuser.
    pub(crate) fn sql(&self, database: &str, text: &str) {
        assert!(ask(self.dir.path(), database, text), "{text}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A server as the keeper uses it.
pub(crate) fn address(socket: &Path) -> strongroom_store::Server {
    strongroom_store::Server {
        socket: socket.to_owned(),
        port: DEFAULT_PORT,
        database: "strongroom".to_owned(),
        role: "keeper".to_owned(),
        trusted: vec![std::fs::metadata(socket).unwrap().uid()],
    }
}

/// A choice with a connection of its own.
pub(crate) fn choice_at(socket: &Path) -> Choice {
    Choice::Postgres(Arc::new(Database::connect(address(socket)).unwrap()))
}

/// A server that was killed leaves processes that end a moment later; until then a new one does not start.
fn launch(dir: &Path, settings: &[String]) -> Child {
    let give_up = Instant::now() + PATIENCE;
    let mut child = spawn(dir, settings);
    while !ask(dir, "postgres", "SELECT 1") {
        let log = || std::fs::read_to_string(dir.join("log")).unwrap();
        assert!(Instant::now() < give_up, "{}", log());
        if child.try_wait().unwrap().is_some() {
            child = spawn(dir, settings);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child
}

fn spawn(dir: &Path, settings: &[String]) -> Child {
    let mut command = as_its_user(&programs().unwrap().join("postgres"));
    command.arg("-D").arg(dir.join("data")).arg("-k").arg(dir);
    command.args(["-c", "listen_addresses="]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    let log = std::fs::File::create(dir.join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn ask(dir: &Path, database: &str, text: &str) -> bool {
    let mut command = Command::new(programs().unwrap().join("psql"));
    command.args(["-X", "-q", "-U", "super", "-v", "ON_ERROR_STOP=1", "-h"]).arg(dir);
    command.args(["-d", database, "-c", text]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// It refuses to run as root.
fn as_its_user(program: &Path) -> Command {
    if !we_are_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn we_are_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Where Debian puts the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let found = versions.filter_map(|version| {
        let path = version.ok()?.path().join("bin");
        let fits = path.join("postgres").metadata().ok()?.permissions().mode() & 0o111 != 0;
        fits.then_some(path)
    });
    found.max()
}

const PATIENCE: Duration = Duration::from_mins(1);
