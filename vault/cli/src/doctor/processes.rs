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
use strongroom_sys::confine::Layer;
use strongroom_sys::spawn::Network;

use super::check;
use crate::link::Link;
use crate::places::Install;
use crate::settings::{NO_NETNS, Settings};
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
    let there =
        found.iter().map(|(role, pid)| judge(*role, *pid, &Promise::of(*role, install, settings)));
    let dumps: Vec<_> = found.iter().map(|(role, pid)| (role.name(), Dump::of(*pid))).collect();
    there.chain(missing).chain([core_dumps(&dumps)]).collect()
}

/// What a process should have, and what may be missing.
struct Promise {
    install: Install,
    /// Whether its network should be empty; as accepted, it may be the host's.
    network: Wanted,
    filters: Wanted,
}

/// How much something is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yes,
    /// `accept_missing` says that it may be missing.
    MayMiss,
    No,
}

impl Promise {
    fn of(role: Role, install: Install, settings: Option<&Settings>) -> Self {
        let accepts = |name| settings.is_some_and(|settings| settings.accepts(name));
        let strict = settings.map(Settings::strict);
        let wants_none = strict.is_some_and(|settings| role.network(&settings) == Network::None);
        Self {
            install,
            network: match (wants_none, accepts(NO_NETNS)) {
                (false, _) => Wanted::No,
                (true, false) => Wanted::Yes,
                (true, true) => Wanted::MayMiss,
            },
            filters: if accepts(Layer::SystemCalls.name()) { Wanted::MayMiss } else { Wanted::Yes },
        }
    }
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

fn judge(role: Role, pid: Pid, promise: &Promise) -> Check {
    let row = format!("process {}", role.name());
    let fields = status(pid);
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let (mut bad, mut accepted) = (Vec::new(), Vec::new());
    let lacking = WANTED
        .iter()
        .filter(|(name, wanted, _)| !wanted.contains(&field(name)))
        .filter(|(name, _, _)| promise.install == Install::System || *name != OF_ROOT);
    for (name, _, without) in lacking {
        let may_miss = *name == FILTERED && promise.filters == Wanted::MayMiss;
        if may_miss { accepted.push(*without) } else { bad.push(*without) }
    }
    let own = own_filters(&fields);
    if own.is_some_and(|own| own < OWN_FILTERS) {
        let may_miss = promise.filters == Wanted::MayMiss;
        if may_miss { &mut accepted } else { &mut bad }.push("lacks one of its filters");
    }
    let network = own_network(pid);
    if network == Some(false) {
        match promise.network {
            Wanted::Yes => bad.push("is in the host's network"),
            Wanted::MayMiss => accepted.push("is in the host's network"),
            Wanted::No => {}
        }
    }
    let uid = field("Uid").split_whitespace().next().unwrap_or("?");
    let head = format!("pid {pid}, uid {uid}");
    let again = Some("stop it and start it again with `strongroom up`");
    let accepted = accepted.join(", ");
    match (bad.is_empty(), accepted.is_empty()) {
        (true, true) => check(&row, Verdict::Ok, format!("{head}{}", has(own, network)), None),
        (true, false) => {
            let detail = format!("{head}: {accepted}, as accept_missing says");
            let fix = "take out of accept_missing what this machine has, and start again";
            check(&row, Verdict::Warn, detail, Some(fix))
        }
        (false, true) => check(&row, Verdict::Fail, format!("{head}: {}", bad.join(", ")), again),
        (false, false) => {
            let detail =
                format!("{head}: {}; as accept_missing says it {accepted}", bad.join(", "));
            check(&row, Verdict::Fail, detail, again)
        }
    }
}

fn has(own: Option<u32>, network: Option<bool>) -> String {
    let filters = own.map_or_else(|| "its".to_owned(), |own| own.to_string());
    let network = match network {
        Some(true) => ", a network of its own",
        Some(false) => ", the host's network",
        None => "",
    };
    format!(
        ": no new privileges, no capability, {filters} filters of system calls of its own{network}"
    )
}

/// What of a process says whether a crash, or a debugger of its user, could write its memory down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dump {
    /// Who owns its memory map: root, where it is undumpable; `None` where that tells nothing, or cannot be seen.
    map_owner: Option<u32>,
    /// The soft limit of a core file, in bytes; `None` where it cannot be seen, the largest where there is none.
    core_bytes: Option<u64>,
}

impl Dump {
    fn of(pid: Pid) -> Self {
        let uid =
            status(pid).get("Uid").and_then(|uids| uids.split_whitespace().next()?.parse().ok());
        let map_owner = fs::metadata(of(pid, "maps")).ok().map(|found| found.uid());
        let limits = fs::read_to_string(of(pid, "limits")).unwrap_or_default();
        // Root's own processes have root's maps either way.
        Self { map_owner: map_owner.filter(|_| uid != Some(0)), core_bytes: core_limit(&limits) }
    }
}

fn core_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        bytes => bytes.parse().ok(),
    }
}

fn core_dumps(processes: &[(&str, Dump)]) -> Check {
    const ROW: &str = "core dumps";
    let (mut bad, mut unseen) = (Vec::new(), Vec::new());
    for (name, dump) in processes {
        match dump.map_owner {
            Some(0) => {}
            Some(_) => bad.push(format!("the {name} can be dumped and traced by its user")),
            None => unseen.push(format!("whether the {name} can be dumped")),
        }
        match dump.core_bytes {
            Some(0) => {}
            Some(_) => bad.push(format!("the {name} may leave a core file")),
            None => unseen.push(format!("the core limit of the {name}")),
        }
    }
    let again = Some("stop it and start it again with `strongroom up`");
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    match (bad.is_empty(), unseen.is_empty()) {
        (false, _) => check(ROW, Verdict::Fail, bad.join(", "), again),
        (true, false) => {
            let detail = format!("not to be seen: {}", unseen.join(", "));
            check(
                ROW,
                Verdict::Warn,
                detail,
                Some("run doctor as root; with \"uids\" accepted root's processes do not show it"),
            )
        }
        (true, true) => {
            let detail = format!(
                "none of the {} processes can be dumped or leave a core file; core_pattern is {:?}",
                processes.len(),
                pattern.trim()
            );
            check(ROW, Verdict::Ok, detail, None)
        }
    }
}

/// Of each field of `/proc/PID/status`: what it must be, and what it means when it is not.
const WANTED: &[(&str, &[&str], &str)] = &[
    ("NoNewPrivs", &["1"], "may gain privileges"),
    (FILTERED, &["2"], "has no filter of system calls"),
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
const FILTERED: &str = "Seccomp";
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

    use super::{
        Dump, Install, Promise, Role, Wanted, core_dumps, core_limit, is, judge, own_filters,
        siblings, status,
    };
    use crate::settings::Settings;

    fn promise(network: Wanted, filters: Wanted) -> Promise {
        Promise { install: Install::System, network, filters }
    }

    #[test]
    fn a_process_that_is_not_confined_fails_and_says_what_it_lacks() {
        let found = judge(Role::Keeper, Pid::this(), &promise(Wanted::Yes, Wanted::Yes));
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(found.detail.contains("has no filter of system calls"), "{}", found.detail);
    }

    #[test]
    fn what_may_be_missing_is_what_the_settings_accept() {
        let of = |role, text: &str| {
            let settings = Settings::parse(text).unwrap();
            let promise = Promise::of(role, Install::System, Some(&settings));
            (promise.network, promise.filters)
        };
        let all = "accept_missing = [\"netns\", \"seccomp\"]";
        assert_eq!(of(Role::Keeper, ""), (Wanted::Yes, Wanted::Yes));
        assert_eq!(of(Role::Keeper, all), (Wanted::MayMiss, Wanted::MayMiss));
        assert_eq!(of(Role::Emulator, all).0, Wanted::No);
        assert_eq!(of(Role::Gateway, "accept_missing = [\"uids\"]"), (Wanted::Yes, Wanted::Yes));
    }

    // Red when what can be dumped passes, and when what cannot be seen does.
    #[test]
    fn core_dumps_are_judged_by_what_the_kernel_says_of_each_process() {
        for (map_owner, core_bytes, verdict) in [
            (Some(0), Some(0), Verdict::Ok),
            (Some(999), Some(0), Verdict::Fail),
            (Some(0), Some(4096), Verdict::Fail),
            (Some(0), Some(u64::MAX), Verdict::Fail),
            (None, Some(u64::MAX), Verdict::Fail),
            (None, Some(0), Verdict::Warn),
            (Some(0), None, Verdict::Warn),
        ] {
            let good = ("gateway", Dump { map_owner: Some(0), core_bytes: Some(0) });
            let found = core_dumps(&[good, ("keeper", Dump { map_owner, core_bytes })]);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert_eq!(found.detail.contains("the keeper"), verdict != Verdict::Ok, "{found:?}");
        }
        let line = |limit: &str| {
            format!("Limit  Soft  Hard\nMax core file size        {limit}  0  bytes\n")
        };
        assert_eq!(core_limit(&line("0")), Some(0));
        assert_eq!(core_limit(&line("unlimited")), Some(u64::MAX));
        assert_eq!(core_limit("Max open files 3 3 files"), None);
        assert!(Dump::of(Pid::this()).core_bytes.is_some());
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
        let found =
            |network| judge(Role::Gateway, Pid::this(), &promise(network, Wanted::Yes)).detail;
        assert!(found(Wanted::Yes).contains("is in the host's network"));
        assert!(
            found(Wanted::MayMiss).contains("as accept_missing says it is in the host's network")
        );
        assert!(!found(Wanted::No).contains("is in the host's network"));
    }

    #[test]
    fn a_program_is_known_by_the_name_that_the_kernel_keeps() {
        assert!(is(Role::Gateway, "strongroom-gate\n") && is(Role::Tpm, "strongroom-tpm\n"));
        assert!(!is(Role::Gateway, "") && !is(Role::Gateway, "strongroom\n"));
        assert!(!siblings(Pid::this()).contains(&Pid::this()));
    }
}
