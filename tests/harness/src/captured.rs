//! Taking the place of the gateway or of a courier, and speaking the internal protocols from there.
//!
//! Invariant: every byte that the attacker receives is searched for every form of every key.
//! Invariant: keeper and the other process are the very ones that served before, and serve after.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::Serialize;
use strongroom_protocol::call::{FrameHeader, FrameKind, HEADER_BYTES};
use strongroom_protocol::frame::{self, PREFIX_BYTES};
use tempfile::TempDir;

use crate::patience::{PATIENCE, until};
use crate::processes::Part;
use crate::{Appliance, canary, scratch};

/// The appliance's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Socket {
    /// The gateway asks the keeper.
    Ask,
    /// The courier of built-in providers fetches errands from the keeper.
    Errand,
    /// That of operator-defined ones.
    ErrandDefined,
    /// Operators talk to the keeper.
    Operator,
    /// The gateway's lanes to the courier of built-in providers.
    Call,
    /// To that of operator-defined ones.
    CallDefined,
}

/// Where whoever stands in the courier's place brings the gateway's lanes.
pub const LANES: &str = "lanes";
/// Where whoever stands in the gateway's place is told to shut its listener down.
pub const SHUT: &str = "shut";
const PROGRAMS: [&str; 5] =
    ["strongroom", "strongroom-keeper", "strongroom-courier", "strongroom-gateway", CAPTURED];
const CAPTURED: &str = "strongroom-captured";

impl Socket {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ask,
        Self::Errand,
        Self::ErrandDefined,
        Self::Operator,
        Self::Call,
        Self::CallDefined,
    ];

    /// Its name, and its directory's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::Errand => "errand",
            Self::ErrandDefined => "errand-defined",
            Self::Operator => "operator",
            Self::Call => "call",
            Self::CallDefined => "call-defined",
        }
    }

    /// Its path below the directory of all sockets.
    pub fn below(self, run: &Path) -> PathBuf {
        run.join(self.name()).join(format!("{}.sock", self.name()))
    }

    /// Its largest frame, where it has a length first.
    const fn limit(self) -> usize {
        match self {
            Self::Ask => frame::MAX_ASK_BYTES,
            Self::Errand | Self::ErrandDefined => frame::MAX_ERRAND_BYTES,
            Self::Operator | Self::Call | Self::CallDefined => frame::MAX_OPERATOR_BYTES,
        }
    }
}

/// Programs that can be taken the place of.
#[derive(Debug)]
pub struct Programs(TempDir);

/// Where a captured program of this path has its sockets.
pub fn sockets_of(program: &Path) -> PathBuf {
    program.with_extension("d")
}

impl Programs {
    /// All of ours, in a directory of their own.
    ///
    /// # Panics
    /// When one is missing.
    #[expect(clippy::new_without_default, reason = "it makes files")]
    pub fn new() -> Self {
        let programs = Self(scratch::directory());
        for name in PROGRAMS {
            programs.put(name, name);
        }
        programs
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// From its next start on a part's program is there, and is never ready.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn hang(&self, part: Part) {
        let next = self.0.path().join("next");
        fs::write(&next, "#!/bin/sh\nwhile :; do sleep 1; done\n").expect("the directory is ours");
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(&next, self.0.path().join(part.program())).expect("the directory is ours");
    }

    /// From the next start on it is the true one again.
    pub fn mend(&self, part: Part) {
        self.put(part.program(), part.program());
    }

    /// From the next start on `name` is the program that cargo calls `built`.
    fn put(&self, name: &str, built: &str) {
        let (from, to) = (scratch::programs().join(built), self.0.path().join("next"));
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).expect("all programs are built");
        }
        fs::rename(&to, self.0.path().join(name)).expect("the directory is ours");
    }
}

/// A part of a running appliance that is the attacker's.
pub struct Captured<'a> {
    appliance: &'a Appliance,
    programs: &'a Programs,
    part: Part,
    sockets: PathBuf,
    lanes: UnixListener,
    loot: Arc<Mutex<Loot>>,
}

/// What the attacker received.
#[derive(Debug, Default)]
pub struct Loot {
    /// How many bytes.
    pub bytes: u64,
    /// The forms of keys in them.
    pub keys: BTreeSet<String>,
}

/// One conversation at a socket of the appliance.
pub struct Door {
    stream: UnixStream,
    limit: usize,
    got: Vec<u8>,
    read_to: usize,
    loot: Arc<Mutex<Loot>>,
}

impl Appliance {
    /// Ends a part and stands in its place, as its user and with its reach.
    ///
    /// # Panics
    /// When that fails.
    pub fn capture<'a>(&'a self, programs: &'a Programs, part: Part) -> Captured<'a> {
        let sockets = sockets_of(&programs.path().join(part.program()));
        if !sockets.is_dir() {
            fs::create_dir(&sockets).expect("the directory is ours");
            let open = fs::Permissions::from_mode(0o777);
            fs::set_permissions(&sockets, open).expect("its owner may open it");
        }
        let lanes = listen(&sockets.join(LANES));
        programs.put(part.program(), CAPTURED);
        let before = self.kill(part);
        until("another process has taken its place", || {
            let there = self.pid(part).filter(|pid| *pid != before)?;
            UnixStream::connect(sockets.join(Socket::Call.name())).ok().map(|_| there)
        });
        Captured { appliance: self, programs, part, sockets, lanes, loot: Arc::default() }
    }
}

impl Captured<'_> {
    /// Opens a socket of the appliance as the captured process.
    ///
    /// # Errors
    /// What the kernel says when it does not even let it knock.
    pub fn knock(&self, socket: Socket) -> io::Result<Door> {
        let path = self.sockets.join(socket.name());
        let stream = UnixStream::connect(path).expect("the captured process listens");
        let mut door = Door::new(stream, socket, &self.loot);
        let mut told = [0];
        door.stream.read_exact(&mut told).expect("it tells how that went");
        match told {
            [0] => Ok(door),
            [errno] => Err(io::Error::from_raw_os_error(i32::from(errno))),
        }
    }

    /// Opens a socket that takes the captured process in.
    pub fn open(&self, socket: Socket) -> Door {
        self.knock(socket).expect("its own socket is open to it")
    }

    /// Shuts the listener down that all gateways of this appliance inherit, when this is the gateway.
    pub fn shut_listener(&self) {
        let shut = UnixStream::connect(self.sockets.join(SHUT)).expect("it is the gateway");
        (&shut).read_exact(&mut [0]).expect("it tells when that is done");
    }

    /// Takes the gateway's lanes in, when this is the courier, for as long as the test runs.
    ///
    /// # Panics
    /// When there are no descriptors left.
    pub fn attend(&self, take: impl Fn(Door) + Send + 'static) {
        let (lanes, loot) =
            (self.lanes.try_clone().expect("a second handle"), Arc::clone(&self.loot));
        std::thread::spawn(move || {
            for stream in lanes.incoming().map_while(Result::ok) {
                take(Door::new(stream, Socket::Call, &loot));
            }
        });
    }

    /// What was received so far at doors that are closed.
    pub fn loot(&self) -> Loot {
        let mut loot = self.loot.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut loot)
    }

    /// Gives the place back, and waits until the appliance serves again.
    pub fn release(self) {
        self.programs.mend(self.part);
        let before = self.appliance.kill(self.part);
        until("the true process is back", || {
            self.appliance.pid(self.part).filter(|pid| *pid != before)
        });
        self.appliance.wait_ready();
    }
}

/// Listens where every user may come in: the captured process has another one than the test.
fn listen(path: &Path) -> UnixListener {
    let _none = fs::remove_file(path);
    let listener = UnixListener::bind(path).expect("the directory is open");
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(path, open).expect("its owner may open it");
    listener
}

impl Door {
    fn new(stream: UnixStream, socket: Socket, loot: &Arc<Mutex<Loot>>) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        let loot = Arc::clone(loot);
        Self { stream, limit: socket.limit(), got: Vec::new(), read_to: 0, loot }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the other side has gone, or does not read.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a message with its length, as `ask`, `errand` and `operator` take it.
    ///
    /// # Errors
    /// When the other side has gone.
    pub fn say<M: Serialize>(&mut self, message: &M) -> io::Result<()> {
        let frame = frame::encode(message, frame::MAX_OPERATOR_BYTES).expect("it fits a frame");
        self.send(&frame)
    }

    /// A handle to write by while this one reads.
    ///
    /// # Panics
    /// When there are no descriptors left.
    pub fn second_handle(&self) -> UnixStream {
        self.stream.try_clone().expect("a second handle")
    }

    /// Says that nothing more will come; what the other side still says can be read.
    pub fn shut(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Write);
    }

    /// The next message with a length, or `None` when the other side has ended the conversation.
    ///
    /// # Panics
    /// When it says nothing for too long.
    pub fn heard(&mut self) -> Option<Vec<u8>> {
        let prefix = self.take(PREFIX_BYTES)?;
        let prefix = prefix.first_chunk().copied().expect("so many were taken");
        let length = frame::announced(prefix, self.limit).expect("the appliance keeps its limits");
        self.take(length)
    }

    /// The next frame of a lane, or `None` when the other side has closed it.
    ///
    /// # Panics
    /// When it says nothing for too long.
    pub fn frame(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        let header = self.take(HEADER_BYTES)?;
        let header = header.first_chunk().copied().expect("so many were taken");
        let header = FrameHeader::parse(header).expect("the appliance keeps to its frames");
        Some((header.kind, self.take(header.length)?))
    }

    /// The next frame of a lane, however long it takes; `None` when the other side has closed it.
    pub fn frame_when_it_comes(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        let _kept = self.stream.set_read_timeout(None);
        self.frame()
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.got.len() < self.read_to + length {
            let mut some = [0; 16 * 1024];
            match self.stream.read(&mut some) {
                Ok(0) => return None,
                Ok(read) => self.got.extend_from_slice(some.get(..read)?),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither an answer nor an end: {error}"),
            }
        }
        let taken = self.got.get(self.read_to..self.read_to + length)?.to_vec();
        self.read_to += length;
        Some(taken)
    }
}

impl Drop for Door {
    /// What lies unread in the socket was received too.
    fn drop(&mut self) {
        let _kept = self.stream.set_nonblocking(true);
        let _rest = self.stream.read_to_end(&mut self.got);
        let mut loot = self.loot.lock().unwrap_or_else(PoisonError::into_inner);
        loot.bytes += self.got.len() as u64;
        loot.keys.extend(canary::found(&self.got, &NEEDLES));
    }
}

static NEEDLES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(canary::needles);
