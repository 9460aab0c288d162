//! The test program started again as a child, for tests whose subject dies.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use strongroom_store::{Choice, Kind};

use crate::server;

/// Starts `test` of this program alone, with a store as its task; its stderr is a pipe.
pub(crate) fn start(test: &str, place: (&Choice, &Path)) -> Child {
    start_under(&[], test, place)
}

/// As [`start`], run by another program that is given its command line.
pub(crate) fn start_under(under: &[&str], test: &str, (choice, dir): (&Choice, &Path)) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match under.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    if let Choice::Postgres(database) = choice {
        command.env(SOCKET, &database.server().socket);
    }
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(TASK, dir)
        .env(KIND, choice.kind().name())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The store that a parent gave to this process, if it is such a child.
pub(crate) fn task() -> Option<(Choice, std::path::PathBuf)> {
    let dir = std::env::var_os(TASK)?.into();
    let choice = match std::env::var(KIND).unwrap().parse().unwrap() {
        Kind::Sled => Choice::Sled,
        Kind::Redb => Choice::Redb,
        Kind::Postgres => server::choice_at(Path::new(&std::env::var_os(SOCKET).unwrap())),
    };
    Some((choice, dir))
}

/// How the child ended; one that hangs is killed and counts as failed.
pub(crate) fn end(child: &mut Child) -> Option<ExitStatus> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > give_up {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        // There is no portable wait for a process with a limit.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Numbers for choices that should differ from run to run; the seed is printed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = now.as_secs() ^ (u64::from(now.subsec_nanos()) << 20) | 1;
        println!("dice: {seed}");
        Self(seed)
    }

    /// 0 to `sides - 1`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

const TASK: &str = "STRONGROOM_STORE_TEST_TASK";
const SOCKET: &str = "STRONGROOM_STORE_TEST_SOCKET";
const KIND: &str = "STRONGROOM_STORE_TEST_KIND";
const PATIENCE: Duration = Duration::from_mins(1);
