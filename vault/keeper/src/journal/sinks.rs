//! Who is told what stands in the journal: syslog, a file in OCSF. The journal's own files come first and are no sink.
//!
//! A sink is opened before the process confines itself and can not be opened again afterwards. Each has a thread and a bounded queue
//! of its own. What a required sink does not take within [`SINK_PATIENCE`] stops service until it takes it; what an optional sink
//! does not take is counted, and is not told again.
//!
//! Invariant: telling never waits for a sink.
//! Invariant: a sink is told only what is in the journal.

mod ocsf;
mod syslog;

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use strongroom_tlog::Entries;

use super::JournalError;
use super::entry::SinkState;
use super::writer::spawn;

/// How long a required sink may keep an entry waiting before calls are refused.
pub const SINK_PATIENCE: Duration = Duration::from_millis(600);
/// How often a sink that fails is tried again, and one that is idle looked at.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// Groups that wait for one sink; more are lost to it.
const QUEUE_GROUPS: usize = 4096;
/// Who reads a file that a sink made: its group too, which is whoever collects logs.
const FILE_MODE: u32 = 0o640;
/// Most sinks.
pub const MAX_SINKS: usize = 8;

/// What a sink is to be, as the command line has it: `kind,required|optional,/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkWish {
    /// How entries are told.
    pub kind: SinkKind,
    /// Whether service stops when it takes none.
    pub need: Need,
    /// Where.
    pub path: PathBuf,
}

/// How entries are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkKind {
    /// RFC 5424 datagrams to a Unix socket.
    Syslog,
    /// Lines of OCSF JSON to a file.
    Ocsf,
}

/// Whether service depends on a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It does.
    Required,
    /// It does not.
    Optional,
}

/// An opened sink that nobody tells anything yet.
#[derive(Debug)]
pub struct OpenSink {
    wish: SinkWish,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Socket(UnixDatagram),
    File { file: File, begun: bool },
}

/// The sinks that are told.
#[derive(Default)]
pub(super) struct Sinks(Vec<Sink>);

struct Sink {
    name: String,
    need: Need,
    queue: SyncSender<Arc<[u8]>>,
    state: Arc<State>,
}

struct State {
    base: Instant,
    /// Milliseconds since `base` at which the oldest group that was not told came, plus one; 0 when all is told.
    waiting: AtomicU64,
    queued: AtomicU64,
    fails: AtomicBool,
    why: Mutex<String>,
    lost: AtomicU64,
    told_fails: AtomicBool,
    let_go: AtomicBool,
}

/// How a sink is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkHealth {
    /// Kind and path.
    pub name: String,
    /// Whether service depends on it.
    pub need: Need,
    /// Why it fails, if it does.
    pub fails: Option<String>,
    /// Entries that it did not get.
    pub lost: u64,
}

impl SinkWish {
    /// Opens the sink. Before confinement: it cannot be done later.
    ///
    /// # Errors
    /// When it is not there, or must not be written.
    pub fn open(self) -> io::Result<OpenSink> {
        let target = match self.kind {
            SinkKind::Syslog => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(&self.path)?;
                socket.set_nonblocking(true)?;
                Target::Socket(socket)
            }
            SinkKind::Ocsf => Target::File { file: open_file(&self.path)?, begun: false },
        };
        Ok(OpenSink { wish: self, target })
    }
}

/// Opens a sink's file. One that is made is for its group to read, whatever the process's umask; one that is there keeps the
/// permissions that somebody gave it.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Without waiting: a FIFO that nobody reads must not hold up anything.
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    options.append(true).mode(0o600).custom_flags(flags.bits());
    match options.create_new(true).open(path) {
        Ok(file) => {
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.create_new(false).open(path)
        }
        Err(error) => Err(error),
    }
}

impl Sinks {
    /// Starts a thread for each.
    pub(super) fn start(sinks: &[OpenSink]) -> Result<Self, JournalError> {
        let started = sinks.iter().map(Sink::start).collect::<Result<_, _>>()?;
        Ok(Self(started))
    }

    /// Tells each what was written, as it stands in a bundle.
    pub(super) fn tell(&self, bundle: &[u8]) {
        if self.0.is_empty() {
            return;
        }
        let bundle: Arc<[u8]> = bundle.into();
        for sink in &self.0 {
            sink.tell(&bundle);
        }
    }

    /// Whether every required sink takes entries.
    pub(super) fn health(&self) -> Result<(), JournalError> {
        if self.0.iter().any(|sink| sink.need == Need::Required && sink.state.is_stuck()) {
            return Err(JournalError::Sink);
        }
        Ok(())
    }

    pub(super) fn each(&self) -> Vec<SinkHealth> {
        self.0.iter().map(Sink::health).collect()
    }

    /// Sinks that began or ended to fail since the last time somebody asked.
    pub(super) fn changes(&self) -> Vec<(String, SinkState, u64)> {
        let change = |sink: &Sink| {
            let fails = sink.state.is_stuck();
            let changed = sink.state.told_fails.swap(fails, Ordering::Relaxed) != fails;
            let state = if fails { SinkState::Fails } else { SinkState::Takes };
            changed.then(|| (sink.name.clone(), state, sink.state.lost.load(Ordering::Relaxed)))
        };
        self.0.iter().filter_map(change).collect()
    }
}

impl Sink {
    fn start(open: &OpenSink) -> Result<Self, JournalError> {
        let kind = match open.wish.kind {
            SinkKind::Syslog => "syslog",
            SinkKind::Ocsf => "ocsf",
        };
        let name = format!("{kind} {}", open.wish.path.display());
        let (queue, groups) = sync_channel(QUEUE_GROUPS);
        let state = Arc::new(State::since(Instant::now()));
        let target = open.target.try_clone().map_err(|error| JournalError::write(&error))?;
        let (watched, path) = (Arc::clone(&state), open.wish.path.clone());
        // It ends when the journal lets go of the queue: a sink that is stuck must not hold up the sealing.
        drop(spawn("journal-sink", move || tell_all(target, &path, &groups, &watched))?);
        Ok(Self { name, need: open.wish.need, queue, state })
    }

    fn tell(&self, bundle: &Arc<[u8]>) {
        self.state.comes();
        if self.queue.try_send(Arc::clone(bundle)).is_err() {
            self.state.queued.fetch_sub(1, Ordering::AcqRel);
            self.state.lose(bundle);
        }
    }

    fn health(&self) -> SinkHealth {
        let fails = self.state.is_stuck().then(|| {
            let why = self.state.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if why.is_empty() { "it does not answer".to_owned() } else { why }
        });
        let lost = self.state.lost.load(Ordering::Relaxed);
        SinkHealth { name: self.name.clone(), need: self.need, fails, lost }
    }
}

impl State {
    fn since(base: Instant) -> Self {
        Self {
            base,
            waiting: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            why: Mutex::default(),
            lost: AtomicU64::new(0),
            told_fails: AtomicBool::new(false),
            let_go: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn is_stuck(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Acquire);
        let patience = u64::try_from(SINK_PATIENCE.as_millis()).unwrap_or(u64::MAX);
        self.fails.load(Ordering::Acquire)
            || (waiting > 0 && self.now().saturating_sub(waiting) > patience)
    }

    /// A group is about to be queued. Before it is: whoever tells it takes the mark away.
    fn comes(&self) {
        self.queued.fetch_add(1, Ordering::SeqCst);
        self.mark();
    }

    /// The first that waits says since when.
    fn mark(&self) {
        let now = self.now();
        let _since = self.waiting.compare_exchange(0, now, Ordering::SeqCst, Ordering::Relaxed);
    }

    /// A group was told; the next one waits from now on.
    fn is_told(&self) {
        self.queued.fetch_sub(1, Ordering::SeqCst);
        self.waiting.store(0, Ordering::SeqCst);
        // Looked at after the mark is gone (hence the one order of all four): who came meanwhile has found it, and made none.
        if self.queued.load(Ordering::SeqCst) > 0 {
            self.mark();
        }
    }

    fn lose(&self, bundle: &[u8]) {
        let entries = Entries::of(bundle).flatten().count();
        self.lost.fetch_add(u64::try_from(entries).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn fail(&self, why: &str) {
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.fails.swap(true, Ordering::AcqRel) {
            tracing::error!(why, "a sink of the journal takes no entries");
        }
    }

    fn work(&self) {
        self.fails.store(false, Ordering::Release);
    }
}

fn tell_all(mut target: Target, path: &Path, groups: &Receiver<Arc<[u8]>>, state: &State) {
    loop {
        match groups.recv_timeout(TRY_EVERY) {
            Ok(group) => {
                if tell_until_told(&mut target, (path, &group), state).is_none() {
                    return;
                }
                state.is_told();
            }
            Err(RecvTimeoutError::Timeout) => match target.look(path) {
                Ok(()) => state.work(),
                Err(why) => state.fail(&why.to_string()),
            },
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Answers when the group was told; `None` when the journal was let go meanwhile.
fn tell_until_told(
    target: &mut Target,
    (path, group): (&Path, &[u8]),
    state: &State,
) -> Option<()> {
    for entry in Entries::of(group).map_while(Result::ok) {
        let line = match target {
            Target::Socket(_) => syslog::message(entry),
            Target::File { .. } => ocsf::line(entry),
        };
        while let Err(error) = target.look(path).and_then(|()| target.put(&line)) {
            state.fail(&error.to_string());
            if state.let_go.load(Ordering::Acquire) {
                return None;
            }
            std::thread::sleep(TRY_EVERY);
        }
        state.work();
    }
    Some(())
}

impl Target {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Socket(socket) => Self::Socket(socket.try_clone()?),
            Self::File { file, .. } => Self::File { file: file.try_clone()?, begun: false },
        })
    }

    /// Whether what is written is what lies under the name.
    fn look(&self, path: &Path) -> io::Result<()> {
        let Self::File { file, .. } = self else { return Ok(()) };
        let (ours, named) = (file.metadata()?, std::fs::metadata(path));
        let same =
            |named: &std::fs::Metadata| (named.dev(), named.ino()) == (ours.dev(), ours.ino());
        if named.as_ref().is_ok_and(same) {
            return Ok(());
        }
        Err(io::Error::other("its file was taken away; restart strongroom to open it anew"))
    }

    /// One line or datagram, whole. Half a line that an error left stands on a line of its own.
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let (file, begun) = match self {
            Self::Socket(socket) => return socket.send(line).map(drop),
            Self::File { file, begun } => (file, begun),
        };
        if *begun {
            file.write_all(b"\n")?;
            *begun = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let written = file.write(rest).inspect_err(|_| *begun = rest.len() < line.len())?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.state.let_go.store(true, Ordering::Release);
    }
}

/// A sink's kind, need and path are not what they must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sink is syslog|ocsf,required|optional,/absolute/path")]
pub struct BadSink;

impl FromStr for SinkWish {
    type Err = BadSink;

    fn from_str(text: &str) -> Result<Self, BadSink> {
        let mut parts = text.splitn(3, ',');
        let kind = match parts.next() {
            Some("syslog") => SinkKind::Syslog,
            Some("ocsf") => SinkKind::Ocsf,
            Some(_) | None => return Err(BadSink),
        };
        let need = match parts.next() {
            Some("required") => Need::Required,
            Some("optional") => Need::Optional,
            Some(_) | None => return Err(BadSink),
        };
        let path = parts.next().map(PathBuf::from).filter(|path| path.is_absolute());
        Ok(Self { kind, need, path: path.ok_or(BadSink)? })
    }
}

#[cfg(test)]
mod tests;
