//! Starting one process and waiting until it says that it is ready.
//!
//! Invariant: every wait ends, and ends at once when the process dies or somebody wants the end.
//! Invariant: nobody waits for the TPM helper, since nobody needs it to open the vault otherwise.
//! Invariant: how a process ended that was not ready in the end is told, too.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stdout, fchown, pipe2};
use strongroom_policy::provider::Origin;
use strongroom_sys::spawn::{self, FIRST_INHERITED};

use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::up::accounts::Separation;
use crate::up::ground::Ground;
use crate::up::role::{Role, check_arguments};
use crate::up::signals::{Signals, Woken};

/// Opening a large store takes a while on a slow disk.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// The check reads the whole store.
const CHECKED_WITHIN: Duration = Duration::from_mins(10);
/// `EX_TEMPFAIL` of sysexits(3): the keeper's word for a database that is not there now.
const TRY_AGAIN: u8 = 75;
/// `EX_OSERR` of sysexits(3): the keeper's word for a layer of confinement that this machine does not have.
const UNCONFINED: u8 = 71;
/// What the dynamic linker ends with when a library is missing.
const NOT_LINKED: i32 = 127;
/// Most that is heard of a work: a line for each thousand of many million rows.
const MAX_TOLD_BYTES: u64 = 16 * 1024 * 1024;
const TICK: Duration = Duration::from_millis(50);
/// Nothing of the environment decides anything; this one only takes colours away.
const ENVIRONMENT: &[&str] = &["NO_COLOR"];

/// A process that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// The process.
    pub(crate) child: Child,
    /// Where it is to say that it is ready, if nobody has waited for that.
    pub(crate) ready: Option<File>,
}

/// Why a process does not run.
#[derive(Debug)]
pub(crate) struct NotStarted {
    /// Why.
    pub(crate) failure: Failure,
    /// How it ended, if it had begun.
    pub(crate) ended: Option<ExitStatus>,
}

impl From<Failure> for NotStarted {
    fn from(failure: Failure) -> Self {
        Self { failure, ended: None }
    }
}

/// Starts a process and waits until it is ready, unless it is the TPM helper.
pub(crate) fn start(role: Role, ground: &Ground, signals: &Signals) -> Result<Started, NotStarted> {
    if role == Role::Keeper {
        check_store(ground, signals)?;
    }
    close_sockets(role, ground)?;
    let (ours, theirs) = ready_channel(role, ground)?;
    let mut inherited = vec![theirs.as_fd()];
    if role == Role::Gateway {
        inherited.extend([ground.listener.as_fd(), ground.metrics.as_fd()]);
    }
    match (role, &ground.tpm) {
        (Role::Keeper, Some((end, _))) | (Role::Tpm, Some((_, end))) => inherited.push(end.as_fd()),
        (Role::Keeper | Role::Tpm | Role::Emulator | Role::Courier(_) | Role::Gateway, _) => {}
    }
    let arguments = role.arguments(ground, FIRST_INHERITED);
    let start = || match role {
        Role::Emulator => quietly(|| spawn(role, ground, &arguments, &inherited)),
        Role::Tpm | Role::Keeper | Role::Courier(_) | Role::Gateway => {
            spawn(role, ground, &arguments, &inherited)
        }
    };
    let mut child = start()?;
    drop(theirs);
    if role == Role::Tpm {
        return Ok(Started { child, ready: Some(ours) });
    }
    let ready = wait_until_ready(role, &mut child, ours, signals);
    match ready.and_then(|()| open_sockets(role, ground)) {
        Ok(()) => Ok(Started { child, ready: None }),
        Err(failure) => Err(NotStarted { failure, ended: end(&mut child) }),
    }
}

/// What a process has said that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing yet.
    Nothing,
    /// That it is ready.
    Ready,
    /// That it will say nothing.
    End,
}

/// Listens without waiting.
pub(crate) fn hear(role: Role, ready: &mut File) -> Heard {
    if !is_readable(ready, PollTimeout::ZERO) {
        return Heard::Nothing;
    }
    match said_ready(role, ready) {
        Ok(()) => Heard::Ready,
        Err(_) => Heard::End,
    }
}

fn spawn(
    role: Role,
    ground: &Ground,
    arguments: &[String],
    inherited: &[BorrowedFd<'_>],
) -> Outcome<Child> {
    let program = ground.binaries.join(role.program());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let child = spawn::Child {
        program: &program,
        arguments: &arguments,
        user: role.identity(ground),
        network: role.network(&ground.settings),
        inherited,
        keep_environment: ENVIRONMENT,
        wipes_freed: role == Role::Tpm,
    };
    child.start().map_err(|error| {
        Failure::new(Code::Process, error.to_string())
            .next("in a container that makes no network namespaces: accept_missing = [\"netns\"]")
    })
}

/// Runs the keeper's program for something else than serving, until it ends by itself. What it tells is heard line by line.
pub(crate) fn run_keeper(
    ground: &Ground,
    arguments: &[String],
    hear: &mut dyn FnMut(&str),
) -> Outcome<ExitStatus> {
    let (ours, theirs) = ready_channel(Role::Keeper, ground)?;
    let told = ["--ready-fd".to_owned(), FIRST_INHERITED.to_string()];
    let arguments = [arguments, &told].concat();
    let mut child = spawn(Role::Keeper, ground, &arguments, &[theirs.as_fd()])?;
    drop(theirs);
    // It ends with the process, which ends by itself.
    for line in BufReader::new(ours.take(MAX_TOLD_BYTES)).lines().map_while(Result::ok) {
        hear(&line);
    }
    child.wait().map_err(|error| Failure::new(Code::Process, format!("the keeper: {error}")))
}

/// Has the keeper's program look at a copy of the store; its exit code is the refusal.
fn check_store(ground: &Ground, signals: &Signals) -> Outcome {
    let arguments = check_arguments(ground);
    let mut child = spawn(Role::Keeper, ground, &arguments, &[])?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < CHECKED_WITHIN => {}
            Ok(None) | Err(_) => {
                end(&mut child);
                return Err(Failure::new(Code::Store, "the check of the store did not end"));
            }
        }
        if signals.wait(TICK)? == Woken::Stop {
            end(&mut child);
            return Err(stopped());
        }
    };
    if status.success() {
        return Ok(());
    }
    let refusal = status.code().and_then(|code| u8::try_from(code).ok());
    if refusal == Some(TRY_AGAIN) {
        return Err(Failure::new(Code::Process, "the database that keeps the vault is not there")
            .next("look at the lines above, and start it"));
    }
    if refusal == Some(UNCONFINED) {
        let what = "the check of the store could not be confined, and did not begin";
        return Err(Failure::new(Code::Process, what).next(
            "the lines above say which layer this machine does not have; strongroom doctor",
        ));
    }
    Err(Failure::new(Code::Store, format!("the check of the store refused it ({status})"))
        .next("keep a copy of the data directory, then look at the lines above")
        .exit(refusal.filter(|code| *code != 0).unwrap_or(5)))
}

/// Where a process says that it is ready. Ours take a socket; the emulator opens a pipe by name.
fn ready_channel(role: Role, ground: &Ground) -> Outcome<(File, OwnedFd)> {
    let failed = |error: io::Error| Failure::new(Code::Process, format!("ready channel: {error}"));
    match role {
        Role::Tpm | Role::Keeper | Role::Courier(_) | Role::Gateway => {
            let (ours, theirs) = UnixStream::pair().map_err(failed)?;
            Ok((File::from(OwnedFd::from(ours)), theirs.into()))
        }
        Role::Emulator => {
            let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
            // Opening by name asks for the pipe's owner.
            if let Some((uid, gid)) = role.identity(ground) {
                fchown(&theirs, Some(uid), Some(gid)).map_err(|errno| failed(errno.into()))?;
            }
            Ok((ours.into(), theirs))
        }
    }
}

fn wait_until_ready(role: Role, child: &mut Child, mut ours: File, signals: &Signals) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < READY_WITHIN {
        if signals.wait(Duration::ZERO)? == Woken::Stop {
            return Err(stopped());
        }
        if is_readable(&ours, tick()) {
            return match said_ready(role, &mut ours) {
                Ok(()) => Ok(()),
                Err(_) => Err(died(role, child)),
            };
        }
    }
    let what = format!("the {} was not ready within {} s", role.name(), READY_WITHIN.as_secs());
    Err(Failure::new(Code::Process, what).next("look at the lines above"))
}

/// Whether a byte or the end is there in time.
fn is_readable(ours: &File, at_most: PollTimeout) -> bool {
    let mut ready = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut ready, at_most), Ok(1..))
}

fn tick() -> PollTimeout {
    PollTimeout::from(u16::try_from(TICK.as_millis()).unwrap_or(u16::MAX))
}

/// Any byte will do, but the emulator writes a line in pieces and would die of a pipe that is closed
/// between them.
fn said_ready(role: Role, ours: &mut File) -> io::Result<()> {
    let mut byte = [0_u8];
    ours.read_exact(&mut byte)?;
    while role == Role::Emulator && byte != *b"\n" && is_readable(ours, tick()) {
        ours.read_exact(&mut byte)?;
    }
    Ok(())
}

fn died(role: Role, child: &mut Child) -> Failure {
    let ended = end(child);
    let how = ended.map_or_else(|| "unseen".to_owned(), |status| status.to_string());
    Failure::new(Code::Process, format!("the {} did not start ({how})", role.name())).next(
        next_step(role, ended)
            .unwrap_or("the lines above say why; strongroom doctor looks further"),
    )
}

/// What helps a process that ended like this, if that is known.
pub(crate) fn next_step(role: Role, ended: Option<ExitStatus>) -> Option<&'static str> {
    let (code, signal) = (ended?.code(), ended?.signal());
    match role {
        // No other program of ours needs a library that a system may lack.
        Role::Tpm if code == Some(NOT_LINKED) => Some(
            "it needs libtss2: apt-get install libtss2-esys-3.0.2-0 libtss2-tctildr0 \
             libtss2-tcti-device0; or take tcti out of [tpm]",
        ),
        // Its alarm and its watchdog.
        Role::Tpm
            if [Signal::SIGALRM, Signal::SIGABRT]
                .map(|given| Some(given as i32))
                .contains(&signal) =>
        {
            Some("the TPM says nothing; what else opens the vault opens it without it")
        }
        Role::Tpm | Role::Keeper | Role::Emulator | Role::Courier(_) | Role::Gateway => None,
    }
}

fn stopped() -> Failure {
    Failure::new(Code::Process, "stopped before everything was started")
}

/// Kills a process that is of no use, and takes its exit status: it may have ended by itself before.
fn end(child: &mut Child) -> Option<ExitStatus> {
    let _gone = child.kill();
    child.wait().ok()
}

/// The directories of a process's sockets belong to it alone until the sockets stand.
fn close_sockets(role: Role, ground: &Ground) -> Outcome {
    let Some(owner) = role.identity(ground) else { return Ok(()) };
    for (directory, _, _) in sockets(role, ground) {
        files::directory(&directory, 0o700)?;
        files::give(&directory, owner)?;
    }
    Ok(())
}

/// Opens a process's sockets to the group of their one client.
fn open_sockets(role: Role, ground: &Ground) -> Outcome {
    match ground.accounts.separation {
        Separation::None => {}
        Separation::Users => {
            for (directory, socket, client) in sockets(role, ground) {
                files::give_to_group(&socket, client)?;
                files::give_to_group(&directory, client)?;
            }
        }
    }
    Ok(())
}

type SocketOf = (std::path::PathBuf, std::path::PathBuf, nix::unistd::Gid);

fn sockets(role: Role, ground: &Ground) -> Vec<SocketOf> {
    let (places, accounts) = (&ground.places, &ground.accounts);
    let of = |socket: std::path::PathBuf, client| {
        let directory = socket.parent().unwrap_or(&places.run).to_owned();
        (directory, socket, client)
    };
    match role {
        Role::Keeper => vec![
            of(places.operator_socket(), accounts.operators),
            of(places.ask_socket(), accounts.gateway.1),
            of(places.errand_socket(Origin::BuiltIn), accounts.courier.1),
            of(places.errand_socket(Origin::Operator), accounts.courier_defined.1),
        ],
        Role::Courier(origin) => vec![of(places.call_socket(origin), accounts.gateway.1)],
        Role::Tpm | Role::Emulator | Role::Gateway => Vec::new(),
    }
}

/// What a child prints on standard output would be taken for our data.
fn quietly<T>(start: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let failed =
        |error: io::Error| Failure::new(Code::Process, format!("standard output: {error}"));
    let before = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    let null = File::options().write(true).open("/dev/null").map_err(failed)?;
    dup2_stdout(&null).map_err(|errno| failed(errno.into()))?;
    let started = start();
    dup2_stdout(&before).map_err(|errno| failed(errno.into()))?;
    started
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::{NOT_LINKED, Role, next_step};

    #[test]
    fn a_tpm_helper_without_its_libraries_names_their_packages() {
        let exit = |code: i32| Some(ExitStatus::from_raw(code << 8));
        let named =
            |role, code| next_step(role, exit(code)).unwrap_or("").contains("libtss2-tcti-device0");
        assert!(named(Role::Tpm, NOT_LINKED));
        assert!(!named(Role::Tpm, 1) && !named(Role::Keeper, NOT_LINKED));
        assert!(next_step(Role::Tpm, Some(ExitStatus::from_raw(14))).is_some(), "by its alarm");
    }
}
