//! What confines each process that runs, as the kernel tells it under `/proc`, and what of the host could get round it.
//!
//! Trusts: `/proc`. Which processes they are: the keeper is who answers at `operator.sock`, the others are its siblings.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use strongroom_policy::provider::Origin;
use strongroom_protocol::operator::{Check, Verdict};
use strongroom_sys::spawn::Network;

use super::check;
use crate::link::Link;
use crate::places::Install;
use crate::settings::Settings;
use crate::up::role::Role;

/// Checks each process that can be found; none when nothing answers at the keeper's socket. With an open vault those that calls
/// need must be there.
pub(super) fn checks(
    link: &Link,
    vault_is_open: bool,
    install: Install,
    settings: Option<&Settings>,
) -> Vec<Check> {
    let Some(keeper) = link.peer() else { return Vec::new() };
    let mut found = vec![(Role::Keeper, keeper)];
    for pid in siblings(keeper) {
        found.extend(role_of(pid).map(|role| (role, pid)));
    }
    let couriers = Origin::ALL.into_iter().map(Role::Courier);
    let missing = couriers
        .chain([Role::Gateway])
        .filter(|role| vault_is_open && found.iter().all(|(there, _)| there != role))
        .map(absent);
    let there = found.iter().map(|(role, pid)| {
        let wants_none = settings.is_some_and(|settings| role.network(settings) == Network::None);
        judge(*role, *pid, install, wants_none)
    });
    there.chain(missing).collect()
}

/// It may have ended just now; whoever asks again sees that.
fn absent(role: Role) -> Check {
    let row = format!("process {}", role.name());
    let detail = "is not to be found, and without it not every call is made";
    check(&row, Verdict::Fail, detail, Some("look at the lines that `strongroom up` wrote"))
}

/// What of the host can get round the processes' walls.
pub(super) fn host() -> Vec<Check> {
    vec![debuggers(), swap()]
}

/// Both couriers are one program: which one it is says the socket that it was started with.
fn role_of(pid: Pid) -> Option<Role> {
    let name = fs::read_to_string(of(pid, "comm")).unwrap_or_default();
    let line = fs::read_to_string(of(pid, "cmdline")).unwrap_or_default();
    let origin =
        if line.contains("errand-defined.sock") { Origin::Operator } else { Origin::BuiltIn };
    [Role::Tpm, Role::Courier(origin), Role::Gateway].into_iter().find(|role| is(*role, &name))
}

/// The kernel keeps 15 bytes of a program's name.
fn is(role: Role, comm: &str) -> bool {
    let comm = comm.trim_end();
    let program = role.program();
    !comm.is_empty() && program.get(..COMM_BYTES).unwrap_or(program) == comm
}
const COMM_BYTES: usize = 15;

fn siblings(keeper: Pid) -> Vec<Pid> {
    let parent = status(keeper).get("PPid").and_then(|pid| pid.parse::<i32>().ok());
    let Some(parent) = parent else { return Vec::new() };
    let children = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(children).unwrap_or_default();
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.map(Pid::from_raw).filter(|pid| *pid != keeper).collect()
}

fn of(pid: Pid, file: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(file)
}

fn status(pid: Pid) -> BTreeMap<String, String> {
    let text = fs::read_to_string(of(pid, "status")).unwrap_or_default();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn judge(role: Role, pid: Pid, install: Install, wants_no_network: bool) -> Check {
    let row = format!("process {}", role.name());
    let fields = status(pid);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let mut bad: Vec<&str> = WANTED
        .iter()
        .filter(|(name, wanted, _)| !wanted.contains(&field(name)))
        .filter(|(name, _, _)| install == Install::System || *name != OF_ROOT)
        .map(|(_, _, without)| *without)
        .collect();
    let own = own_filters(&fields);
    if own.is_some_and(|own| own < OWN_FILTERS) {
        bad.push("lacks one of its filters");
    }
    let network = own_network(pid);
    if wants_no_network && network == Some(false) {
        bad.push("is in the host's network");
    }
    let uid = field("Uid").split_whitespace().next().unwrap_or("?");
    let mut detail = format!("pid {pid}, uid {uid}");
    if bad.is_empty() {
        let filters = own.map_or_else(|| "its".to_owned(), |own| own.to_string());
        detail.push_str(": no new privileges, no capability, ");
        detail.push_str(&filters);
        detail.push_str(" filters of system calls of its own");
    } else {
        detail.push_str(": ");
        detail.push_str(&bad.join(", "));
    }
    detail.push_str(match network {
        Some(true) => ", a network of its own",
        Some(false) if bad.is_empty() => ", the host's network",
        Some(false) | None => "",
    });
    let verdict = if bad.is_empty() { Verdict::Ok } else { Verdict::Fail };
    let fix = (!bad.is_empty()).then_some("stop it and start it again with `strongroom up`");
    check(&row, verdict, detail, fix)
}

/// Of each field of `/proc/PID/status`: what it must be, and what it means when it is not.
const WANTED: &[(&str, &[&str], &str)] = &[
    ("NoNewPrivs", &["1"], "may gain privileges"),
    ("Seccomp", &["2"], "has no filter of system calls"),
    ("CapPrm", &[NO_CAPABILITY], "holds capabilities"),
    ("CapEff", &[NO_CAPABILITY], "uses capabilities"),
    ("CapInh", &[NO_CAPABILITY], "hands capabilities on"),
    ("CapBnd", &[NO_CAPABILITY], "can be given capabilities"),
    ("CapAmb", &[NO_CAPABILITY], "keeps capabilities over exec"),
];
/// How many filters a process has beyond its parent's: what a container or systemd puts over all of them counts for nothing.
/// Kernels before 5.11 do not tell.
fn own_filters(fields: &BTreeMap<String, String>) -> Option<u32> {
    let count = |fields: &BTreeMap<String, String>| fields.get("Seccomp_filters")?.parse().ok();
    let all: u32 = count(fields)?;
    let parent = fields.get("PPid")?.parse().ok().map(Pid::from_raw)?;
    // A parent that cannot be seen may have put all of them there.
    Some(all.saturating_sub(count(&status(parent)).unwrap_or(all)))
}

/// Those of `vault/sys/src/confine/syscalls.rs`.
const OWN_FILTERS: u32 = 3;
/// Only root can empty it; `no_new_privs` makes it worthless.
const OF_ROOT: &str = "CapBnd";
const NO_CAPABILITY: &str = "0000000000000000";

/// Only root is told.
fn own_network(pid: Pid) -> Option<bool> {
    let network = |path: PathBuf| fs::metadata(path).ok().map(|about| about.ino());
    let (theirs, ours) = (network(of(pid, "ns/net"))?, network("/proc/self/ns/net".into())?);
    Some(theirs != ours)
}

/// Root can attach a debugger to the keeper unless this says no to everybody.
fn debuggers() -> Check {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    match scope.trim() {
        "3" => check("debuggers", Verdict::Ok, "nobody can attach one, root included", None),
        scope => {
            let (is, fix) = match scope {
                "" => ("not there", "a kernel with Yama, and in it kernel.yama.ptrace_scope=3"),
                scope => (scope, "sysctl kernel.yama.ptrace_scope=3"),
            };
            let detail = format!(
                "ptrace_scope is {is}: root can attach one to the keeper and make it print its keys"
            );
            check("debuggers", Verdict::Warn, detail, Some(fix))
        }
    }
}

/// What lies in ordinary memory for the length of a call can be written to swap.
fn swap() -> Check {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let on: Vec<&str> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if on.is_empty() {
        return check("swap", Verdict::Ok, "there is none", None);
    }
    let detail = format!("{}: what lies in memory can be written there", on.join(", "));
    check("swap", Verdict::Warn, detail, Some("swapoff -a, or swap to an encrypted device"))
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;
    use strongroom_protocol::operator::Verdict;

    use super::{Install, Role, is, judge, own_filters, siblings, status};

    #[test]
    fn a_process_that_is_not_confined_fails_and_says_what_it_lacks() {
        let found = judge(Role::Keeper, Pid::this(), Install::System, true);
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.detail.contains("has no filter of system calls"), "{}", found.detail);
    }

    // Red when what systemd or a container puts over all processes is counted for this one.
    #[test]
    fn filters_of_the_parent_are_nobodys_own() {
        let fields = |filters: u32, parent: u32| {
            let rows = [("Seccomp_filters", filters), ("PPid", parent)];
            rows.map(|(name, value)| (name.to_owned(), value.to_string())).into()
        };
        let this = std::process::id();
        let parents = status(Pid::this())["Seccomp_filters"].parse::<u32>().unwrap();
        assert_eq!(own_filters(&fields(parents, this)), Some(0));
        assert_eq!(own_filters(&fields(parents + 3, this)), Some(3));
    }

    // Red when a process that is in the network that it should not have passes.
    #[test]
    fn the_hosts_network_fails_where_there_should_be_none() {
        let found = |wants_none| judge(Role::Gateway, Pid::this(), Install::System, wants_none);
        assert!(found(true).detail.contains("is in the host's network"));
        assert!(!found(false).detail.contains("is in the host's network"));
    }

    #[test]
    fn a_program_is_known_by_the_name_that_the_kernel_keeps() {
        assert!(is(Role::Gateway, "strongroom-gate\n") && is(Role::Tpm, "strongroom-tpm\n"));
        assert!(!is(Role::Gateway, "") && !is(Role::Gateway, "strongroom\n"));
        assert!(!siblings(Pid::this()).contains(&Pid::this()));
    }
}
