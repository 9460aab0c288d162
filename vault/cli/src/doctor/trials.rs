//! Each layer of confinement, tried on this machine: a process of its own puts it in force and does what it must stop.
//!
//! Invariant: nothing of the running appliance takes part; a trial says what this kernel does, not what a process has, and is named so.
//! Invariant: a trial that tells nothing is a failure, not a pass.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use strongroom_protocol::operator::{Check, Verdict};
use strongroom_sys::confine::Layer;
use strongroom_sys::confine::trial::{
    Outcome as Acted, TrialError, Tried, reach, try_layer, violate,
};
use strongroom_sys::inherited::take_unix_stream;
use strongroom_sys::spawn::{Child, FIRST_INHERITED, Network};

use super::check;
use crate::failure::{Code, Failure, Outcome};
use crate::settings::{NO_NETNS, Settings};

/// Arguments of `try-layer`, which only `doctor` runs.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What is tried: a layer's name, `kill` or `netns`
    #[arg(value_name = "WHAT")]
    what: String,
    /// An empty directory
    #[arg(long, value_name = "DIR")]
    scratch: PathBuf,
    /// A listener in the network of whoever asks
    #[arg(long, value_name = "ADDRESS")]
    listener: SocketAddr,
}

/// A trial that is no layer's own: what a release does about a forbidden system call.
const KILL: &str = "kill";
/// A trial ends at once; this is for a machine that does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most that a trial says.
const MAX_TOLD_BYTES: u64 = 16 * 1024;
const MISSING: &str = "missing";

/// Tries every layer.
pub(super) fn checks(settings: Option<&Settings>) -> Vec<Check> {
    match Ground::prepare() {
        Ok(ground) => {
            let mut checks: Vec<Check> =
                Layer::ALL.iter().map(|layer| ground.layer(layer.name(), settings)).collect();
            checks.push(ground.kill());
            checks.push(ground.network(settings));
            checks
        }
        Err(error) => {
            let detail = format!("the layers of confinement cannot be tried: {error}");
            vec![check(
                "confinement",
                Verdict::Fail,
                detail,
                Some("look at the temporary directory"),
            )]
        }
    }
}

/// What the trials share; its directory goes with it.
struct Ground {
    scratch: PathBuf,
    listener: TcpListener,
}

impl Ground {
    fn prepare() -> io::Result<Self> {
        let scratch =
            std::env::temp_dir().join(format!("strongroom-doctor-{}", std::process::id()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        DirBuilder::new().mode(0o700).create(&scratch)?;
        Ok(Self { scratch, listener })
    }

    fn layer(&self, name: &str, settings: Option<&Settings>) -> Check {
        match self.trial(name, Network::Host) {
            Ok((told, _)) => judge(name, &told, settings),
            Err(error) => unknown(name, &error),
        }
    }

    /// Whether a forbidden system call is the end, as in a release.
    fn kill(&self) -> Check {
        let name = format!("{KERNEL} {} kills", Layer::SystemCalls);
        match self.trial(KILL, Network::Host) {
            Ok((_, status)) if status.signal() == Some(Signal::SIGSYS as i32) => {
                let detail = "tried here: a forbidden system call ended its process at once";
                check(&name, Verdict::Ok, detail, None)
            }
            Ok((told, status)) => {
                let detail =
                    format!("a forbidden system call did not end its process: {status} {told}");
                check(&name, Verdict::Fail, detail.trim_end(), Some(NEWER))
            }
            Err(error) => unknown(&name, &error),
        }
    }

    /// Whether a process gets a network of its own; only root makes one.
    fn network(&self, settings: Option<&Settings>) -> Check {
        let name = format!("{KERNEL} {NO_NETNS}");
        if !Uid::effective().is_root() {
            let detail = "not tried: only root gives a process a network of its own";
            return check(&name, Verdict::Warn, detail, Some("run doctor as root"));
        }
        if let Err(error) = self.listener.local_addr().and_then(TcpStream::connect) {
            return unknown(&name, &error);
        }
        match self.trial(NO_NETNS, Network::None) {
            Ok((told, _)) => judge(NO_NETNS, &told, settings),
            Err(error) => judge(NO_NETNS, &format!("{MISSING}\t{error}\n"), settings),
        }
    }

    /// Runs this program as a trial, and yields what it told and how it ended.
    fn trial(&self, what: &str, network: Network) -> io::Result<(String, ExitStatus)> {
        let program = std::env::current_exe()?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let (scratch, there) = (self.scratch.join(what), self.listener.local_addr()?.to_string());
        DirBuilder::new().mode(0o700).create(&scratch)?;
        let scratch = scratch.display().to_string();
        let arguments = ["try-layer", what, "--scratch", &scratch, "--listener", &there];
        let child = Child {
            program: &program,
            arguments: &arguments,
            user: None,
            network,
            inherited: &[theirs.as_fd()],
            keep_environment: &[],
            wipes_freed: false,
        };
        let mut child = child.start().map_err(io::Error::other)?;
        drop(theirs);
        let mut told = String::new();
        let heard = ours.take(MAX_TOLD_BYTES).read_to_string(&mut told);
        if heard.is_err() {
            child.kill()?;
        }
        let status = child.wait()?;
        heard?;
        Ok((told, status))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.scratch) {
            crate::out::warn(&format!("{}: {error}", self.scratch.display()));
        }
    }
}

/// Reads what a trial told: one act a line.
fn judge(name: &str, told: &str, settings: Option<&Settings>) -> Check {
    let row = format!("{KERNEL} {name}");
    let (mut stopped, mut bad) = (Vec::new(), Vec::new());
    for line in told.lines() {
        let mut parts = line.splitn(3, '\t');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(MISSING), Some(why), _) => return missing(name, &row, why, settings),
            (Some("stopped"), Some(what), _) => stopped.push(what),
            (Some("possible"), Some(what), _) => bad.push(format!("{what} was possible")),
            (Some("unclear"), Some(what), Some(why)) => bad.push(format!("{what}: {why}")),
            _ => bad.push("a trial told something else".to_owned()),
        }
    }
    if stopped.is_empty() && bad.is_empty() {
        bad.push("the trial told nothing".to_owned());
    }
    if bad.is_empty() {
        let detail = format!("tried here, and stopped: {}", stopped.join(", "));
        return there(name, &row, &detail, settings);
    }
    if name == Layer::SecretMemory.name() && stopped.is_empty() {
        // The keeper starts with locked pages as well, and says so.
        let detail = format!("tried here: {}, for root", bad.join("; "));
        return check(
            &row,
            Verdict::Warn,
            detail,
            Some(
                "boot with secretmem.enable=1, or Linux 6.5; a container must let memfd_secret through",
            ),
        );
    }
    check(&row, Verdict::Fail, format!("tried here: {}", bad.join("; ")), Some(NEWER))
}

/// What works needs no leave to be missing: it would go unnoticed the day that it is.
fn there(name: &str, row: &str, detail: &str, settings: Option<&Settings>) -> Check {
    if !settings.is_some_and(|settings| settings.accepts(name)) {
        return check(row, Verdict::Ok, detail, None);
    }
    let detail = format!("{detail}; accept_missing names it all the same");
    let fix = format!("take \"{name}\" out of accept_missing in strongroom.toml and start again");
    check(row, Verdict::Warn, detail, Some(&fix))
}

fn missing(name: &str, row: &str, why: &str, settings: Option<&Settings>) -> Check {
    if settings.is_some_and(|settings| settings.accepts(name)) {
        let detail = format!("missing, as accept_missing says: {why}");
        return check(row, Verdict::Warn, detail, Some(NEWER));
    }
    let fix = format!("{NEWER}; or start without it: accept_missing = [\"{name}\"]");
    check(row, Verdict::Fail, format!("missing: {why}"), Some(&fix))
}

fn unknown(row: &str, error: &io::Error) -> Check {
    check(row, Verdict::Fail, format!("could not be tried: {error}"), Some("run doctor as root"))
}

const NEWER: &str = "use a newer kernel; in a container, one that lets it through";
/// What a trial is about.
const KERNEL: &str = "kernel";

/// One trial, in a process of its own.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Process, format!("a trial: {error}")).next("strongroom doctor")
    };
    let mut told = take_unix_stream(FIRST_INHERITED).map_err(|error| failed(&error))?;
    let lines = trial(&arguments.what, &arguments.scratch, arguments.listener);
    told.write_all(lines.as_bytes()).map_err(|error| failed(&error))
}

fn trial(what: &str, scratch: &Path, listener: SocketAddr) -> String {
    let tried = match what {
        KILL => violate().map(|tried| vec![tried]),
        NO_NETNS => Ok(vec![reach(listener)]),
        name => match name.parse::<Layer>() {
            Ok(layer) => try_layer(layer, scratch),
            Err(error) => Err(TrialError::Missing(error.to_string())),
        },
    };
    match tried {
        Ok(tried) => tried.iter().fold(String::new(), |mut lines, Tried { what, outcome }| {
            // A `String` takes everything.
            let _ = match outcome {
                Acted::Stopped => writeln!(lines, "stopped\t{what}"),
                Acted::Possible => writeln!(lines, "possible\t{what}"),
                Acted::Unclear(why) => writeln!(lines, "unclear\t{what}\t{why}"),
            };
            lines
        }),
        Err(TrialError::Missing(why)) => format!("{MISSING}\t{why}\n"),
        Err(error) => format!("unclear\tput it in force\t{error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::operator::Verdict;

    use super::judge;
    use crate::settings::Settings;

    #[test]
    fn only_what_was_stopped_passes() {
        let verdict = |told: &str| judge("seccomp", told, None).verdict;
        assert_eq!(verdict("stopped\trun a program\nstopped\topen a file\n"), Verdict::Ok);
        assert_eq!(verdict("stopped\trun a program\npossible\topen a file\n"), Verdict::Fail);
        assert_eq!(verdict("unclear\trun a program\tno such file\n"), Verdict::Fail);
        assert_eq!(verdict("missing\ttoo old\n"), Verdict::Fail);
        assert_eq!(verdict(""), Verdict::Fail);
        assert_eq!(verdict("nonsense\n"), Verdict::Fail);
    }

    // Red when what is accepted without need passes in silence.
    #[test]
    fn what_works_and_is_accepted_all_the_same_warns() {
        let settings = Settings::parse("accept_missing = [\"seccomp\", \"netns\"]").unwrap();
        for (name, verdict) in
            [("seccomp", Verdict::Warn), ("netns", Verdict::Warn), ("landlock-tcp", Verdict::Ok)]
        {
            let found = judge(name, "stopped\trun a program\n", Some(&settings));
            assert_eq!(found.verdict, verdict, "{name}");
            let fix = found.fix.unwrap_or_default();
            assert_eq!(fix.contains(&format!("take \"{name}\" out")), verdict == Verdict::Warn);
            assert!(found.name.starts_with("kernel "), "{}", found.name);
        }
    }

    #[test]
    fn what_is_missing_and_accepted_warns() {
        let settings: Settings =
            toml::from_str("accept_missing = [\"landlock-tcp\"]\nnames = [\"localhost\"]").unwrap();
        let check = |name: &str| judge(name, "missing\tit needs Linux 6.7\n", Some(&settings));
        assert_eq!(check("landlock-tcp").verdict, Verdict::Warn);
        let other = check("landlock-scopes");
        assert_eq!(other.verdict, Verdict::Fail);
        assert!(other.fix.unwrap().contains("accept_missing = [\"landlock-scopes\"]"));
    }
}
