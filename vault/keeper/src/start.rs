//! What the keeper opens before it confines itself, and what it runs afterwards.
//!
//! Invariant: every socket is bound in [`open`]; [`run`] binds and connects nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};
use strongroom_policy::provider::Origin;
use strongroom_protocol::operator::{Check, Exit, Fault, Verdict};
use strongroom_store::check::{CheckError, Report as Checked};
use strongroom_store::moving;
use strongroom_store::{Choice, Database, StoreError};
use strongroom_sys::confine::{
    ConfineError, Layer, Options, Profile, Report, State as LayerState, confine,
};
use strongroom_sys::inherited::{take_unix_datagram, take_unix_stream};
use strongroom_sys::peer::Peer;
use strongroom_sys::socket_directory::SocketDirectory;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval};

use crate::acts::tpm::follow_if_due;
use crate::acts::{fault, leasing};
use crate::arguments::{Arguments, Keeping, Records};
use crate::backup::{restore, transfer};
use crate::books::STORE_DIRECTORY;
use crate::doors::{self, Guard};
use crate::founding::{Founding, VAULT_DIRECTORY};
use crate::journal::Manner;
use crate::keeper::{After, Keeper, Settings, State, Waiting};
use crate::people;
use crate::pipeline::{self, STRANGERS_EVERY};
use crate::seal::Sealed;
use crate::settings::Settings as Guarded;
use crate::store_fault::told;
use crate::tpm::Demand;
use crate::tpm::link::Link;
use crate::vault::JOURNAL_DIRECTORY;

/// Everything from outside that the keeper holds.
pub struct Opened {
    operator: StdListener,
    ask: StdListener,
    errand: StdListener,
    errand_defined: StdListener,
    ready: Option<StdStream>,
    tpm: Option<Arc<Link>>,
    tpm_demand: Demand,
    lock: Flock<File>,
    guards: [Guard; 3],
    data: PathBuf,
    store: Choice,
    public_url: String,
    network: Check,
    journal: Manner,
    guarded: Arc<Guarded>,
}

/// How long after `SIGTERM` the writers may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often tickets and counters are swept.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Takes the data directory and binds the four doors.
///
/// # Errors
/// The first thing that cannot be had.
pub fn open(arguments: &Arguments) -> anyhow::Result<Opened> {
    let data = arguments.records.data.clone();
    for directory in [&data, &data.join(JOURNAL_DIRECTORY)] {
        make_directory(directory)?;
    }
    let lock = hold(&data)?;
    people::warm_up()?;
    moving::settle(&data.join(VAULT_DIRECTORY).join(STORE_DIRECTORY))?;
    let store =
        choose(&arguments.records.store).map_err(|error| anyhow::anyhow!(refusal_line(&error)))?;
    let door = |name: &str, gid| {
        let directory = SocketDirectory::make(&arguments.run.join(name), gid)?;
        directory.bind_in(&format!("{name}.sock"))
    };
    Ok(Opened {
        operator: door("operator", arguments.operator_gid)?,
        ask: door("ask", arguments.ask_gid)?,
        errand: door("errand", arguments.errand_gid)?,
        errand_defined: door("errand-defined", arguments.errand_defined_gid)?,
        ready: arguments.ready_fd.map(take_unix_stream).transpose()?,
        tpm: arguments.tpm_fd.map(take_unix_datagram).transpose()?.map(Link::new).map(Arc::new),
        tpm_demand: arguments.tpm_demand,
        lock,
        guards: [arguments.ask_uid, arguments.errand_uid, arguments.errand_defined_uid]
            .map(Guard::Only),
        data,
        store,
        public_url: arguments.public_url.clone(),
        network: network_check(),
        journal: open_sinks(arguments)?,
        guarded: Arc::new(arguments.settings.clone()),
    })
}

/// Sinks are opened here, for the confined process can open none.
fn open_sinks(arguments: &Arguments) -> anyhow::Result<Manner> {
    let mut sinks = Vec::new();
    for wish in &arguments.sinks {
        let told = || format!("SR-JOURNAL-009: open the journal's sink {}", wish.path.display());
        sinks.push(wish.clone().open().with_context(told)?);
    }
    Ok(Manner { durability: arguments.durability, sinks: sinks.into() })
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("make {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One keeper for a data directory: the lock ends with the process, however it ends.
pub(crate) fn hold(data: &Path) -> anyhow::Result<Flock<File>> {
    let path = data.join("keeper.lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        anyhow::anyhow!(
            "SR-STORE-002: another Strongroom uses {}; stop it, or choose another --dir",
            data.display()
        )
    })
}

/// Serves until a signal ends it; the vault is closed before it returns.
///
/// # Errors
/// When a socket cannot be given to the runtime.
pub async fn run(opened: Opened, report: &Report) -> anyhow::Result<()> {
    let standing = checks(report, [opened.network, store_check(&opened.store)]);
    let settings = Settings {
        data: opened.data.clone(),
        store: opened.store,
        public_url: opened.public_url,
        standing,
        journal: opened.journal,
        tpm: opened.tpm,
        tpm_demand: opened.tpm_demand,
        guarded: opened.guarded,
    };
    transfer::clear(&opened.data);
    restore::tidy(&opened.data);
    let state = first_state(&opened.data);
    let keeper = Rc::new(Keeper::new(settings, state));
    let [ask_guard, errand_guard, errand_defined_guard] = opened.guards;
    listen(opened.operator, Guard::Directory, &keeper, |keeper, stream, peer| {
        spawn_local(doors::operator::serve(keeper, stream, peer.uid));
    })?;
    listen(opened.ask, ask_guard, &keeper, |keeper, stream, _| {
        spawn_local(doors::ask::serve(keeper, stream));
    })?;
    for (listener, guard, origin) in [
        (opened.errand, errand_guard, Origin::BuiltIn),
        (opened.errand_defined, errand_defined_guard, Origin::Operator),
    ] {
        listen(listener, guard, &keeper, move |keeper, stream, _| {
            spawn_local(doors::errand::serve(keeper, stream, origin));
        })?;
    }
    spawn_local(sweep(Rc::clone(&keeper)));
    spawn_local(leasing::run(Rc::clone(&keeper)));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut panic = signal(SignalKind::user_defined1())?;
    if let Some(mut ready) = opened.ready {
        ready.write_all(b"ready\n")?;
    }
    tracing::info!(state = ?keeper.vault_state(), "the keeper is there");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = panic.recv() => keeper.panic(),
    }
    keeper.close("the keeper was stopped", After::Sealed).await;
    drop(opened.lock);
    Ok(())
}

fn first_state(data: &Path) -> State {
    match restore::place(data) {
        Ok(None) => match Founding::find(data) {
            Ok(founding) => State::Uninitialised(founding.map(Box::new)),
            Err(error) => State::Faulty(fault(
                "SR-STORE-009",
                format!("the vault that waits for its shares cannot be read: {error}"),
                "nothing was ever stored in it: move vault.provisional away and make another",
            )),
        },
        Ok(Some(place)) => match Sealed::load(&place) {
            Ok(sealed) => State::Sealed(Box::new(Waiting::new(sealed))),
            Err(error) => {
                let why = fault(
                    "SR-STORE-009",
                    format!("the seal's file cannot be read: {error}"),
                    "keep the data directory as it is and restore a backup into another one",
                );
                State::Faulty(Fault { exit: Exit::Corrupt, ..why })
            }
        },
        Err(error) => State::Faulty(fault(
            "SR-STORE-010",
            format!("the data directory cannot be read: {error}"),
            "look at its owner and mode",
        )),
    }
}

fn listen(
    listener: StdListener,
    guard: Guard,
    keeper: &Rc<Keeper>,
    serve: impl Fn(Rc<Keeper>, UnixStream, Peer) + 'static,
) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let keeper = Rc::clone(keeper);
    spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(peer) = guard.admit(&stream) {
                        serve(Rc::clone(&keeper), stream, peer);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(())
}

/// Out of descriptors: wait for some to be closed instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn sweep(keeper: Rc<Keeper>) {
    let mut ticks = interval(SWEEP_EVERY);
    // After a long look everybody else has their turn.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_strangers = Instant::now();
    loop {
        ticks.tick().await;
        let since = last_strangers.elapsed();
        pipeline::sweep(&keeper, since);
        // What could not be made durable is tried again.
        keeper.leases.notify_one();
        follow_if_due(&keeper);
        keeper.expire_attempt();
        transfer::sweep(&keeper);
        if since >= STRANGERS_EVERY {
            last_strangers = Instant::now();
        }
    }
}

/// What the keeper sees of the network, read before it can read no such file any more.
fn network_check() -> Check {
    let told = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    // Two lines of headings; a namespace of one's own has the loopback alone.
    let outside = told.lines().skip(2).any(|line| !line.trim_start().starts_with("lo:"));
    let (verdict, detail, fix) = if outside {
        let fix = "run as root without \"netns\" in accept_missing".to_owned();
        let detail = "the host's, as accept_missing says; its filter makes no socket in it";
        (Verdict::Warn, detail, Some(fix))
    } else {
        (Verdict::Ok, "a namespace without interfaces", None)
    };
    Check { name: "keeper network".to_owned(), verdict, detail: detail.to_owned(), fix }
}

/// What keeps the records.
fn store_check(store: &Choice) -> Check {
    let detail = match store {
        Choice::Sled | Choice::Redb => format!("{}, embedded", store.kind()),
        Choice::Postgres(database) => {
            let server = database.server();
            let (name, socket) = (&server.database, server.socket.display());
            format!("postgres, database {name} by the socket in {socket}, as {}", server.role)
        }
    };
    Check { name: "store".to_owned(), verdict: Verdict::Ok, detail, fix: None }
}

fn checks(report: &Report, first: [Check; 2]) -> Vec<Check> {
    let mut checks = Vec::from(first);
    for (layer, state) in &report.layers {
        let (verdict, detail, fix) = match state {
            LayerState::Present if *layer == Layer::SecretMemory => (
                Verdict::Ok,
                "in force: the vault's keys lie where root cannot read".to_owned(),
                None,
            ),
            LayerState::Present => (Verdict::Ok, "in force".to_owned(), None),
            LayerState::Weaker(how) => (
                Verdict::Warn,
                how.clone(),
                Some(
                    "use a newer kernel, or raise the limit that is named; in a container, one that lets it through"
                        .to_owned(),
                ),
            ),
            // It runs without it only when that was accepted.
            LayerState::Missing(why) => (
                Verdict::Warn,
                format!("missing, as accept_missing says: {why}"),
                Some("use a newer kernel; in a container, one that lets it through".to_owned()),
            ),
        };
        checks.push(Check { name: format!("keeper {layer}"), verdict, detail, fix });
    }
    checks
}

/// `--check`: opens a copy of the store and counts its records; the exit code is the answer.
pub fn check(records: &Records) -> ExitCode {
    let store = records.data.join(VAULT_DIRECTORY).join(STORE_DIRECTORY);
    if matches!(fs::exists(&store), Ok(false)) {
        return ExitCode::SUCCESS;
    }
    let chosen = choose(&records.store).map_err(CheckError::Original);
    if let Err(error) = confine_for_store(records) {
        tracing::error!("{error}");
        return ExitCode::from(UNCONFINED);
    }
    match chosen.and_then(|choice| check_when_free(&store, &choice)) {
        Ok(report) => {
            tracing::info!(records = report.records, "the store opens");
            ExitCode::SUCCESS
        }
        Err(CheckError::Original(StoreError::InUse)) => {
            tracing::error!("SR-STORE-011: another process holds the store; it was not looked at");
            ExitCode::FAILURE
        }
        Err(CheckError::Original(
            error @ (StoreError::OtherKind { .. } | StoreError::Unfit(_)),
        )) => {
            tracing::error!("{}", refusal_line(&error));
            ExitCode::FAILURE
        }
        Err(
            error @ (CheckError::Io { kind: ErrorKind::PermissionDenied, .. }
            | CheckError::Original(StoreError::Io {
                kind: ErrorKind::PermissionDenied, ..
            })),
        ) => {
            tracing::error!(%error, "SR-STORE-020: the store was not looked at: its files are not the keeper's; see whose they are and give them to its user");
            ExitCode::FAILURE
        }
        Err(CheckError::Original(error)) if records.store.is_elsewhere() => {
            tracing::error!("{}", refusal_line(&error));
            ExitCode::from(if matches!(error, StoreError::Missing) { CORRUPT } else { TRY_AGAIN })
        }
        Err(error) => {
            tracing::error!(%error, "SR-STORE-004: the store does not open; keep it as it is and restore a backup");
            ExitCode::from(CORRUPT)
        }
    }
}

/// Whoever has the disk chose what is read from it: a process that works on a store instead of serving from it has the keeper's walls.
pub(crate) fn confine_for_store(records: &Records) -> Result<(), ConfineError> {
    let options = Options { accept_missing: records.accept_missing.clone(), ..Options::default() };
    // It has no sockets to remove.
    let profile = Profile::Keeper { data_dir: &records.data, run_dir: &records.data };
    confine(profile, &options).map(drop)
}

/// The chosen implementation of the store; to a database it is connected here, because a confined keeper makes no socket.
pub(crate) fn choose(keeping: &Keeping) -> Result<Choice, StoreError> {
    Ok(match keeping {
        Keeping::Sled => Choice::Sled,
        Keeping::Redb => Choice::Redb,
        Keeping::Postgres(server) => Choice::Postgres(Arc::new(Database::connect(server.clone())?)),
    })
}

/// Code and next step of a store that is not opened, before anybody looked into it.
pub(crate) fn refusal(error: &StoreError) -> (&'static str, &'static str) {
    let unreachable = ("SR-STORE-014", "look whether the database runs and its socket is there");
    told(error).unwrap_or(unreachable)
}

fn refusal_line(error: &StoreError) -> String {
    let (code, next) = refusal(error);
    format!("{code}: {error}; {next}")
}

/// A keeper that was killed holds the store until its last thread has ended; that is no damage.
fn check_when_free(store: &Path, choice: &Choice) -> Result<Checked, CheckError> {
    let begun = Instant::now();
    loop {
        match choice.check(store) {
            Err(CheckError::Original(StoreError::InUse)) if begun.elapsed() < FREE_WITHIN => {
                std::thread::sleep(LOOK_EVERY);
            }
            other => return other,
        }
    }
}

/// How long a killed keeper's threads may take to end.
const FREE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The exit code of a damaged store.
const CORRUPT: u8 = 5;
/// `EX_TEMPFAIL` of sysexits(3): the database is not there now.
const TRY_AGAIN: u8 = 75;
/// `EX_OSERR` of sysexits(3): a layer of confinement is missing, and nothing was looked at.
const UNCONFINED: u8 = 71;

/// Ends the runtime after what was written is written.
pub fn finish(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_timeout(LAST_WORDS);
}
