//! The keeper's real process on a directory of the test's own, and its doors as plain blocking sockets.
//!
//! Invariant: a keeper that panicked fails the test, however well it answered.

use std::fs::DirBuilder;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, announced, decode, encode};
use strongroom_protocol::operator::listing::JournalRow;
use strongroom_protocol::operator::{Answer, Fault, Request, SealWish, Status, UnsealWith};
use strongroom_tests::patience::{PATIENCE, within};
use strongroom_tests::scratch;
use tempfile::TempDir;

/// A running keeper; it ends with this value.
pub(crate) struct Keeper {
    child: Child,
    run: TempDir,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// A keeper that ended before it served.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
}

/// One connection to a keeper.
pub(crate) struct Door(UnixStream);

/// The connection broke.
#[derive(Debug)]
pub(crate) struct Gone;

impl Keeper {
    /// Starts a keeper and waits until it serves.
    ///
    /// # Errors
    /// When it ends instead.
    pub(crate) fn try_start(data: &Path) -> Result<Self, Ended> {
        let run = scratch::directory();
        let mut child = command(data, run.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the keeper is built");
        let mut pipe = BufReader::new(child.stderr.take().expect("a pipe"));
        let said = Arc::new(Mutex::new(String::new()));
        let mut line = String::new();
        while !line.contains("the keeper is there") {
            line.clear();
            let read = pipe.read_line(&mut line).expect("text");
            said.lock().expect("nobody panics").push_str(&line);
            if read == 0 {
                let status = child.wait().expect("our child");
                let said = said.lock().expect("nobody panics").clone();
                return Err(Ended { status, said });
            }
        }
        let more = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                let mut said = more.lock().expect("nobody panics");
                said.push_str(&line);
                said.push('\n');
            }
        });
        Ok(Self { child, run, said, reader: Some(reader) })
    }

    /// Starts a keeper that must serve.
    #[track_caller]
    pub(crate) fn start(data: &Path) -> Self {
        Self::try_start(data).unwrap_or_else(|ended| panic!("the keeper ended: {ended:?}"))
    }

    pub(crate) fn operator(&self) -> Door {
        self.door("operator").expect("the operator's door")
    }

    pub(crate) fn door(&self, name: &str) -> std::io::Result<Door> {
        let path = self.run.path().join(name).join(format!("{name}.sock"));
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Door(stream))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// What it wrote to its standard error.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("nobody panics").clone()
    }

    /// Ends it after its disk has failed: the embedded store may have ended it before, by a panic while it closed its file.
    ///
    /// Answers whether it had.
    #[track_caller]
    pub(crate) fn kill_on_a_bad_disk(mut self) -> bool {
        let _gone = self.child.kill();
        let status = self.wait();
        let said = self.said();
        let panics = said.lines().filter(|line| line.contains("panicked at"));
        let strange = panics.clone().find(|line| !line.contains("/sled-0.34"));
        assert!(strange.is_none(), "the keeper panicked ({status}): {said}");
        panics.count() > 0
    }

    /// Ends it as the kernel would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our child");
        self.end();
    }

    /// Asks it to end, as the supervisor does, and waits until it has.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        let _gone = kill(self.pid(), Signal::SIGTERM);
        let ended = within(PATIENCE, || self.child.try_wait().expect("our child"));
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}: {}", self.said());
        self.end();
    }

    fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("our child");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        status
    }

    fn end(&mut self) {
        let status = self.wait();
        let said = self.said();
        let aborted = status.signal().is_some_and(|signal| signal != Signal::SIGKILL as i32);
        let sound = !aborted && !said.contains("panicked at");
        assert!(sound || std::thread::panicking(), "the keeper panicked ({status}): {said}");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.reader.is_some() {
            let _ended = self.child.kill();
            self.end();
        }
    }
}

impl Door {
    pub(crate) fn send<M: Serialize>(&mut self, message: &M) -> Result<(), Gone> {
        let frame = encode(message, MAX_OPERATOR_BYTES).expect("a message within its limit");
        self.0.write_all(&frame).map_err(|_| Gone)
    }

    pub(crate) fn receive<M: DeserializeOwned>(&mut self) -> Result<M, Gone> {
        let mut prefix = [0; 4];
        self.0.read_exact(&mut prefix).map_err(|_| Gone)?;
        let length = announced(prefix, MAX_OPERATOR_BYTES).expect("a length within its limit");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(|_| Gone)?;
        Ok(decode(&body).expect("a message"))
    }

    pub(crate) fn request(&mut self, request: &Request) -> Result<Answer, Gone> {
        self.send(request)?;
        self.receive()
    }

    #[track_caller]
    pub(crate) fn status(&mut self) -> Status {
        match self.request(&Request::Status) {
            Ok(Answer::Status(status)) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Makes a vault that two of three shares open.
    #[track_caller]
    pub(crate) fn found(&mut self) -> Vec<SecretBytes> {
        let shares = match self.request(&Request::Init(SealWish::Shares {
            threshold: 2,
            count: 3,
            holders: Vec::new(),
        })) {
            Ok(Answer::Shares(shares)) => shares,
            other => panic!("{other:?}"),
        };
        let show = |share| Request::ShowCustody(UnsealWith::Share(copy(share)));
        let proved: Vec<_> = shares.iter().take(2).map(|one| self.request(&show(one))).collect();
        assert!(matches!(proved.last(), Some(Ok(Answer::Initialised(_)))), "{proved:?}");
        shares
    }

    /// Opens the vault with the first two shares.
    ///
    /// # Errors
    /// What the keeper said instead.
    #[track_caller]
    pub(crate) fn unseal(&mut self, shares: &[SecretBytes]) -> Result<(), Fault> {
        match self.try_unseal(shares) {
            Ok(Answer::Unsealed) => Ok(()),
            Ok(Answer::Failed(fault)) => Err(fault),
            other => panic!("{other:?}"),
        }
    }

    /// Brings the first two shares to a keeper that may be about to end.
    pub(crate) fn try_unseal(&mut self, shares: &[SecretBytes]) -> Result<Answer, Gone> {
        let [first, second, ..] = shares else { panic!("two of three") };
        match self.request(&Request::Unseal(UnsealWith::Share(copy(first))))? {
            Answer::Unsealing(_) => self.request(&Request::Unseal(UnsealWith::Share(copy(second)))),
            other => Ok(other),
        }
    }

    /// All lines of the journal after a number.
    ///
    /// # Errors
    /// What the keeper said instead.
    #[track_caller]
    pub(crate) fn journal(&mut self, after: u64) -> Result<Vec<JournalRow>, Fault> {
        let mut rows: Vec<JournalRow> = Vec::new();
        loop {
            let after = Some(rows.last().map_or(after, |row| row.number));
            let tail = Request::AuditTail { after, limit: 500, wait_ms: 0 };
            match self.request(&tail) {
                Ok(Answer::Journal(more)) if more.is_empty() => return Ok(rows),
                Ok(Answer::Journal(more)) => rows.extend(more),
                Ok(Answer::Failed(fault)) => return Err(fault),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The check before a start: how the supervisor's child ends.
pub(crate) fn check(data: &Path) -> ExitStatus {
    let mut command = Command::new(scratch::programs().join("strongroom-keeper"));
    command.arg("--check").arg("--data").arg(data).args(store()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the keeper is built")
}

fn command(data: &Path, run: &Path) -> Command {
    let uid = Uid::current().to_string();
    let mut command = Command::new(scratch::programs().join("strongroom-keeper"));
    command.arg("--data").arg(data).arg("--run").arg(run);
    command.args(["--public-url", "https://localhost:8443"]);
    command
        .args(["--ask-uid", &uid, "--errand-uid", &uid, "--errand-defined-uid", &uid])
        .args(store());
    command
}

/// `SR_STORE` names another store than the one that keepers have unless told.
fn store() -> Vec<String> {
    std::env::var("SR_STORE").map_or_else(|_| Vec::new(), |kind| vec!["--store".to_owned(), kind])
}

/// A share is used once by the protocol and often by a test.
pub(crate) fn copy(secret: &SecretBytes) -> SecretBytes {
    secret.expose(SecretBytes::copy_from)
}

/// A directory that only its owner enters, as the installer makes it.
pub(crate) fn make_directory(at: &Path) {
    DirBuilder::new().mode(0o700).recursive(true).create(at).expect("a directory");
}
