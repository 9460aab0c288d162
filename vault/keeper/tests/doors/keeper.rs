//! The keeper's binary as a child process, and its doors as plain blocking sockets.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_protocol::frame::{announced, decode, encode};
use strongroom_protocol::operator::{Answer, Request};

use crate::disk::Disk;

pub(crate) const PASSPHRASE: &[u8] = b"correct horse battery staple";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// What needs no more than a moment, on a machine that is loaded.
pub(crate) const PROMPT: Duration = Duration::from_secs(10);
/// What is promised within a second, in one of three tries.
pub(crate) const A_SECOND: Duration = Duration::from_secs(2);
const LIMIT: usize = 1024 * 1024;

pub(crate) struct Keeper {
    // Dropped in this order, after the child: what is mounted cannot be removed.
    disk: Option<Disk>,
    place: tempfile::TempDir,
    store: Vec<String>,
    child: Child,
    ended: Cell<bool>,
}

pub(crate) struct Door(UnixStream);

impl Keeper {
    pub(crate) fn start() -> Self {
        Self::start_over(&[])
    }

    /// With arguments that choose its store.
    pub(crate) fn start_over(store: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), None, store)
    }

    /// With its journal on a file system of its own; `None` for who is not root.
    pub(crate) fn start_on_a_disk() -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let disk = Disk::mount(place.path(), "data/journal")?;
        Some(Self::start_in(place, Some(disk), &[]))
    }

    fn start_in(place: tempfile::TempDir, disk: Option<Disk>, store: &[&str]) -> Self {
        fs::create_dir(place.path().join("run")).unwrap();
        let store: Vec<String> = store.iter().map(ToString::to_string).collect();
        let child = spawn(place.path(), &store);
        Self { disk, place, store, child, ended: Cell::new(false) }
    }

    /// Over a copy of another keeper's data directory, as it is now.
    pub(crate) fn start_on_a_copy(other: &Self, store: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        copy(&other.data(), &place.path().join("data"));
        Self::start_in(place, None, store)
    }

    /// Chooses another store for the next start.
    pub(crate) fn choose(&mut self, store: &[&str]) {
        self.store = store.iter().map(ToString::to_string).collect();
    }

    /// What `--check` answers, run by itself.
    pub(crate) fn check(&self) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom-keeper"));
        command.arg("--check").arg("--data").arg(self.data()).args(&self.store);
        command.output().unwrap()
    }

    /// Moves or compacts the store of a keeper that is not there; the arguments are those of the store from now on.
    pub(crate) fn rebuild(&mut self, task: &[&str], store: &[&str]) -> Output {
        self.choose(store);
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom-keeper"));
        command.args(task).arg("--data").arg(self.data()).args(&self.store);
        command.output().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ended.set(true);
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// Whether its first thread has ended; another may be stuck in the kernel.
    pub(crate) fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        stat.is_ok_and(|stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let status = self.child.wait().unwrap();
        self.ended.set(true);
        status
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.place.path(), &self.store);
        self.ended.set(false);
    }

    pub(crate) fn kill_and_start(&mut self) {
        self.kill();
        self.start_again();
    }

    pub(crate) fn second(&self) -> Output {
        command(self.place.path(), &self.store).output().unwrap()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    /// The bundle that is being filled; these tests write less than one.
    pub(crate) fn journal(&self) -> PathBuf {
        self.data().join("journal/tail")
    }

    /// All entries, one a line.
    pub(crate) fn told(&self) -> String {
        let bytes = fs::read(self.journal()).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How many entries of a kind there are.
    pub(crate) fn entries(&self, what: &str) -> usize {
        let wanted = format!("\"what\":\"{what}\"");
        self.told().lines().filter(|line| line.contains(&wanted)).count()
    }

    /// How often an act was begun.
    pub(crate) fn acts(&self, act: &str) -> usize {
        let wanted = format!("\"act\":\"{act}\"");
        self.told().lines().filter(|line| line.contains(&wanted)).count()
    }

    pub(crate) fn operator(&self) -> Door {
        self.door("operator")
    }

    pub(crate) fn ask(&self) -> Door {
        self.door("ask")
    }

    pub(crate) fn errand(&self) -> Door {
        self.door("errand")
    }

    pub(crate) fn errand_defined(&self) -> Door {
        self.door("errand-defined")
    }

    fn door(&self, name: &str) -> Door {
        let path = self.place.path().join(format!("run/{name}/{name}.sock"));
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Door(stream)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.ended.get() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

impl Door {
    pub(crate) fn send<M: Serialize>(&mut self, message: &M) {
        self.0.write_all(&encode(message, LIMIT).unwrap()).unwrap();
    }

    pub(crate) fn receive<M: DeserializeOwned>(&mut self) -> M {
        let mut prefix = [0; 4];
        self.0.read_exact(&mut prefix).unwrap();
        let mut body = vec![0; announced(prefix, LIMIT).unwrap()];
        self.0.read_exact(&mut body).unwrap();
        decode(&body).unwrap()
    }

    pub(crate) fn request(&mut self, request: &Request) -> Answer {
        self.send(request);
        self.receive()
    }
}

fn command(place: &Path, store: &[String]) -> Command {
    let uid = nix::unistd::getuid().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom-keeper"));
    command
        .arg("--data")
        .arg(place.join("data"))
        .arg("--run")
        .arg(place.join("run"))
        .args(["--public-url", "https://localhost:8443"])
        .args(["--ask-uid", &uid, "--errand-uid", &uid, "--errand-defined-uid", &uid])
        .args(store);
    command
}

/// Starts the keeper and waits until it says that it is there.
fn spawn(place: &Path, store: &[String]) -> Child {
    let mut child = command(place, store).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("the keeper is there") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "the keeper ended");
        eprint!("{line}");
    }
    std::thread::spawn(move || {
        for line in said.lines().map_while(Result::ok) {
            eprintln!("{line}");
        }
    });
    child
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn each_file(directory: &Path, see: &mut impl FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, see);
        } else {
            see(&path, &fs::read(&path).unwrap());
        }
    }
}

/// Tries until one of three takes less than `limit`: what waits does so each time, what only the machine holds up does not.
pub(crate) fn one_of_three_within(limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    while times.iter().all(|took| *took >= limit) {
        assert!(times.len() < 3, "{times:?}");
        times.push(attempt());
    }
}

pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}
