//! seccomp: the lists of system calls, each with its reason, and their installation.
//!
//! Invariant: what is on no list violates; the i386 and x32 entries are on none.
//! Invariant: no process can run a program, make executable memory, trace, or receive descriptors.
//!
//! Three filters are stacked. The strictest answer wins, so a call that shall fail softly passes the list of what is allowed
//! *and* is answered by a filter before it.

use std::collections::BTreeMap;
use std::fs;

use libc::c_long;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use super::durability::flush_reaches_the_disk;
use super::{ConfineError, Layer, Profile, State, Violation};

type Call = (c_long, &'static str);
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Every process: memory, threads, events, and traffic on sockets that exist. What was seen in none under the tests of the
/// whole appliance, and is no other way of the C library to one of these, is not here.
const EVERYONE: &[Call] = &[
    // memory
    (libc::SYS_brk, "allocator"),
    (libc::SYS_munmap, "allocator, thread stacks"),
    (libc::SYS_mremap, "allocator, large blocks; keeps the protection"),
    (libc::SYS_madvise, "allocator returns memory; AWS-LC marks wipe-on-fork"),
    // threads
    (libc::SYS_futex, "locks, parking"),
    (libc::SYS_set_robust_list, "thread start"),
    (libc::SYS_rseq, "thread start"),
    (libc::SYS_sigaltstack, "thread start: the stack for overflow messages"),
    (libc::SYS_sched_getaffinity, "number of processors, thread start"),
    (libc::SYS_sched_yield, "spinning locks"),
    (libc::SYS_gettid, "thread names, abort"),
    (libc::SYS_exit, "thread end"),
    (libc::SYS_exit_group, "process end"),
    // signals of our own
    (libc::SYS_rt_sigaction, "tokio's signal handlers, abort"),
    (libc::SYS_rt_sigprocmask, "thread start, abort"),
    (libc::SYS_rt_sigreturn, "return from a handler"),
    (libc::SYS_restart_syscall, "the kernel resumes a sleep"),
    (libc::SYS_getpid, "fork detection, abort"),
    // time and randomness
    (libc::SYS_clock_gettime, "clock without vDSO"),
    (libc::SYS_clock_nanosleep, "sleep"),
    (libc::SYS_getrandom, "keys, nonces, hash seeds"),
    // events
    (libc::SYS_epoll_create1, "tokio"),
    (libc::SYS_epoll_ctl, "tokio"),
    (libc::SYS_eventfd2, "tokio's waker"),
    // streams; recvmsg and sendmsg are absent, so no descriptor ever crosses
    (libc::SYS_read, "sockets, files"),
    (libc::SYS_write, "sockets, files, log"),
    (libc::SYS_writev, "sockets, log"),
    (libc::SYS_recvfrom, "sockets"),
    (libc::SYS_close, "everything"),
    // Of a listener too, which is then an unconnected socket: `sends` says what keeps it from dialling.
    (libc::SYS_shutdown, "sockets"),
    (libc::SYS_accept4, "listeners that exist"),
];

/// What is set of sockets. An inherited one stays in the network that it was made in, whatever the process's own: no other device,
/// no program in the kernel, no protocol above or instead of TCP.
const SET: &[(i32, i32, &str)] = &[
    (libc::IPPROTO_TCP, libc::TCP_NODELAY, "answers and questions without delay"),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, "a client that takes nothing"),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO, "keeper and TPM helper wait for each other"),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO, "keeper and TPM helper wait for each other"),
];
/// What is asked of sockets.
const ASKED: &[(i32, i32, &str)] = &[
    (libc::SOL_SOCKET, libc::SO_ERROR, "how connecting went, what is wrong"),
    (libc::SOL_SOCKET, libc::SO_PEERCRED, "peer identity"),
];

/// What one architecture calls by another number than the next.
#[cfg(target_arch = "x86_64")]
const EVERYONE_HERE: &[Call] =
    &[(libc::SYS_epoll_wait, "tokio"), (libc::SYS_poll, "std sockets with a time-out")];
#[cfg(not(target_arch = "x86_64"))]
const EVERYONE_HERE: &[Call] =
    &[(libc::SYS_epoll_pwait, "tokio"), (libc::SYS_ppoll, "std sockets with a time-out")];

/// The keeper works on files below its directory; Landlock says which.
const KEEPER: &[Call] = &[
    (libc::SYS_openat, "store, keyring, journal"),
    (libc::SYS_newfstatat, "file sizes, and those of open files"),
    (libc::SYS_statx, "file sizes"),
    (libc::SYS_fstat, "file sizes, in a C library before 2.33"),
    (libc::SYS_lseek, "file positions"),
    (libc::SYS_pread64, "store pages, slot files"),
    (libc::SYS_pwrite64, "store pages, slot files"),
    (libc::SYS_ftruncate, "store growth, journal repair"),
    (libc::SYS_fallocate, "the journal's reserve"),
    (libc::SYS_fsync, "durability"),
    (libc::SYS_fdatasync, "durability"),
    (libc::SYS_flock, "one keeper per store"),
    (libc::SYS_fchmod, "std copies files with their mode; only its own are open"),
    (libc::SYS_renameat2, "atomic exchange of the checkpoint"),
    (libc::SYS_unlinkat, "trees of files: backups, the check's copy"),
    (libc::SYS_getdents64, "store snapshots, journal tiles"),
    (libc::SYS_fstatfs, "free space"),
    (libc::SYS_sysinfo, "amount of memory: sled sizes its cache"),
];

#[cfg(target_arch = "x86_64")]
const KEEPER_HERE: &[Call] = &[
    (libc::SYS_mkdir, "store and journal directories"),
    (libc::SYS_rename, "atomic replacement"),
    (libc::SYS_unlink, "old snapshots, own sockets"),
    (libc::SYS_rmdir, "old directories"),
];
#[cfg(not(target_arch = "x86_64"))]
const KEEPER_HERE: &[Call] = &[
    (libc::SYS_mkdirat, "store and journal directories"),
    (libc::SYS_renameat, "atomic replacement"),
];

/// The courier dials. `listen` is absent, so `bind` serves only the ports of DNS queries, and
/// Landlock refuses it for TCP.
const COURIER: &[Call] = &[
    (libc::SYS_connect, "providers; there is no new Unix socket to connect"),
    (libc::SYS_bind, "random source ports of DNS queries"),
];

/// libtss2 dials a software TPM for each command; Landlock says on which ports.
const SOFTWARE_TPM: &[Call] = &[(libc::SYS_connect, "a software TPM, and its control channel")];

/// Answered ENOSYS, for the fall-back it causes.
const NOT_IMPLEMENTED: &[c_long] = &[
    // glibc then uses clone, whose flags a filter can read.
    libc::SYS_clone3,
    // sled's flush calls this alone, which neither empties the drive's cache nor writes the
    // metadata of a grown file; at ENOSYS it calls fsync.
    libc::SYS_sync_file_range,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
];

/// Answered EACCES to everyone: libraries look for files that may not exist, and go on.
#[cfg(target_arch = "x86_64")]
const NO_PROBING: &[c_long] = &[
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getcwd,
    libc::SYS_readlink,
    libc::SYS_access,
];
#[cfg(not(target_arch = "x86_64"))]
const NO_PROBING: &[c_long] = &[libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_getcwd];

/// Answered EACCES to all but the keeper as well. AWS-LC, glibc's allocator and std's count of
/// processors open files under /dev, /proc and /sys late, and take a refusal.
const NO_FILES: &[c_long] = &[libc::SYS_openat, libc::SYS_newfstatat, libc::SYS_statx];

/// Whether the kernel filters system calls and can kill a process for one.
pub(super) fn offered() -> State {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "kill_process") => {
            State::Present
        }
        Ok(_) => State::Missing("seccomp cannot kill a process; it needs Linux 4.14".to_owned()),
        Err(error) => State::Missing(format!("seccomp is not in this kernel ({error})")),
    }
}

/// Installs the three filters; the last one forbids any further.
pub(super) fn filter(profile: Profile<'_>, on_violation: Violation) -> Result<(), ConfineError> {
    let mut no_access = NO_PROBING.to_vec();
    match profile {
        Profile::Keeper { .. } => {}
        Profile::Courier { .. } | Profile::Gateway | Profile::Tpm | Profile::SoftwareTpm { .. } => {
            no_access.extend(NO_FILES);
        }
    }
    let violation = match on_violation {
        Violation::Kill => SeccompAction::KillProcess,
        Violation::Errno => SeccompAction::Errno(errno(libc::EPERM)),
    };
    let programs = [
        answer(NOT_IMPLEMENTED, libc::ENOSYS),
        answer(&no_access, libc::EACCES),
        allowed(profile).and_then(|rules| compile(rules, violation, SeccompAction::Allow)),
    ];
    for program in programs {
        let program = program.map_err(|error| not_enforced(error.to_string()))?;
        apply_filter(&program).map_err(|error| not_enforced(error.to_string()))?;
    }
    match profile {
        Profile::Keeper { .. } if !flush_reaches_the_disk() => {
            Err(not_enforced("sync_file_range still works; flushes would not be durable".into()))
        }
        Profile::Keeper { .. }
        | Profile::Courier { .. }
        | Profile::Gateway
        | Profile::Tpm
        | Profile::SoftwareTpm { .. } => Ok(()),
    }
}

/// What passes the list; the filters before it answer some of that with an error.
fn allowed(profile: Profile<'_>) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let (own, own_here): (&[Call], &[Call]) = match profile {
        Profile::Keeper { .. } => (KEEPER, KEEPER_HERE),
        Profile::Courier { .. } => (COURIER, &[]),
        // They read and write what was opened before, like everyone.
        Profile::Gateway | Profile::Tpm => (&[], &[]),
        Profile::SoftwareTpm { .. } => (SOFTWARE_TPM, &[]),
    };
    for (call, _reason) in [EVERYONE, EVERYONE_HERE, own, own_here].concat() {
        rules.insert(call, Vec::new());
    }
    for call in [NOT_IMPLEMENTED, NO_PROBING, NO_FILES].concat() {
        rules.insert(call, Vec::new());
    }
    arguments_for_everyone(&mut rules)?;
    rules.insert(libc::SYS_sendto, sends(profile)?);
    let streams = (libc::SOCK_STREAM, libc::IPPROTO_TCP);
    let datagrams = (libc::SOCK_DGRAM, libc::IPPROTO_UDP);
    match profile {
        Profile::Courier { .. } => {
            rules.insert(libc::SYS_socket, internet_sockets(&[streams, datagrams])?)
        }
        // No rule of Landlock is about datagrams.
        Profile::SoftwareTpm { .. } => {
            rules.insert(libc::SYS_socket, internet_sockets(&[streams])?)
        }
        Profile::Keeper { .. } | Profile::Gateway | Profile::Tpm => None,
    };
    Ok(rules)
}

/// Sending. An address in the call is a second way to dial, which Landlock does not see for a TCP socket (`MSG_FASTOPEN`) and which
/// takes a datagram to any path; so nobody gives one but the courier, to name servers.
fn sends(profile: Profile<'_>) -> Result<Vec<SeccompRule>, BackendError> {
    let no_flag_but = MaskedEq(u64::from(u32::MAX) & !number(libc::MSG_NOSIGNAL));
    let flags = SeccompCondition::new(3, SeccompCmpArgLen::Dword, no_flag_but, 0)?;
    let nowhere = SeccompCondition::new(4, SeccompCmpArgLen::Qword, Eq, 0)?;
    let conditions = match profile {
        Profile::Courier { .. } => vec![flags],
        Profile::Keeper { .. } | Profile::Gateway | Profile::Tpm | Profile::SoftwareTpm { .. } => {
            vec![flags, nowhere]
        }
    };
    Ok(vec![SeccompRule::new(conditions)?])
}

/// Calls that are allowed for some arguments only.
fn arguments_for_everyone(rules: &mut Rules) -> Result<(), BackendError> {
    // New memory is never executable: what was linked in is all that runs.
    let executable = number(libc::PROT_EXEC);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(&[(2, MaskedEq(executable), 0)])?]);
    }
    // Threads, not processes, and in no new namespace.
    let thread = number(libc::CLONE_VM | libc::CLONE_THREAD);
    let namespaces = number(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWUTS)
        | number(libc::CLONE_NEWIPC | libc::CLONE_NEWUSER | libc::CLONE_NEWPID)
        | number(libc::CLONE_NEWNET);
    rules.insert(libc::SYS_clone, vec![rule(&[(0, MaskedEq(thread | namespaces), thread)])?]);
    // Thread names.
    rules.insert(libc::SYS_prctl, vec![rule(&[(0, Eq, number(libc::PR_SET_NAME))])?]);
    // Limits are read, of this process, never set: the new value is a null pointer.
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, Eq, 0)?;
    let null = SeccompCondition::new(2, SeccompCmpArgLen::Qword, Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![own, null])?]);
    // Abort, in this process only.
    let this = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(&[(0, Eq, this)])?]);
    // A stream pair, for tokio's signals. A datagram pair could be connected elsewhere.
    rules.insert(
        libc::SYS_socketpair,
        vec![rule(&[(0, Eq, number(libc::AF_UNIX)), of_type(libc::SOCK_STREAM)])?],
    );
    rules.insert(libc::SYS_setsockopt, options(SET)?);
    rules.insert(libc::SYS_getsockopt, options(ASKED)?);
    let commands =
        [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
    rules.insert(libc::SYS_fcntl, one_of(1, &commands.map(number))?);
    // Non-blocking mode; bytes that wait; whether the log is a terminal.
    let requests = [libc::FIONBIO, libc::FIONREAD, libc::TCGETS];
    rules.insert(libc::SYS_ioctl, one_of(1, &requests)?);
    Ok(())
}

/// Kinds by their plain protocols: MPTCP and SCTP streams would pass by Landlock's ports.
fn internet_sockets(kinds: &[(i32, i32)]) -> Result<Vec<SeccompRule>, BackendError> {
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, plain) in kinds {
            for protocol in [0, *plain] {
                let family = (0, Eq, number(family));
                rules.push(rule(&[family, of_type(*kind), (2, Eq, number(protocol))])?);
            }
        }
    }
    Ok(rules)
}

/// Level and name of an option.
fn options(listed: &[(i32, i32, &str)]) -> Result<Vec<SeccompRule>, BackendError> {
    listed
        .iter()
        .map(|(level, name, _reason)| rule(&[(1, Eq, number(*level)), (2, Eq, number(*name))]))
        .collect()
}

/// An argument's number, and what its lower 32 bits must be: all that the kernel reads of these.
type Condition = (u8, SeccompCmpOp, u64);

/// The second argument of `socket`, without its flags.
fn of_type(kind: i32) -> Condition {
    // SOCK_TYPE_MASK in the kernel's net.h.
    (1, MaskedEq(0xf), number(kind))
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| rule(&[(argument, Eq, *value)])).collect()
}

fn rule(conditions: &[Condition]) -> Result<SeccompRule, BackendError> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

fn answer(calls: &[c_long], error: i32) -> Result<BpfProgram, BackendError> {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    compile(rules, SeccompAction::Allow, SeccompAction::Errno(errno(error)))
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()
}

fn not_enforced(reason: String) -> ConfineError {
    ConfineError::NotEnforced { layer: Layer::SystemCalls, reason }
}

/// The kernel's constants are small and not negative.
fn number(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}

fn errno(constant: i32) -> u32 {
    constant.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// How many calls a process can make that do something: those that are always answered with an error are not counted.
    fn count(profile: Profile<'_>) -> usize {
        let soft = match profile {
            Profile::Keeper { .. } => [NOT_IMPLEMENTED, NO_PROBING].concat(),
            Profile::Courier { .. }
            | Profile::Gateway
            | Profile::Tpm
            | Profile::SoftwareTpm { .. } => [NOT_IMPLEMENTED, NO_PROBING, NO_FILES].concat(),
        };
        let rules = allowed(profile).unwrap();
        rules.keys().filter(|call| !soft.contains(call)).count()
    }

    /// A longer list needs a reason, and this number.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_lists_do_not_grow_unseen() {
        let here = Path::new("/");
        let counts = [
            Profile::Keeper { data_dir: here, run_dir: here },
            Profile::Courier { ports: None },
            Profile::Gateway,
            Profile::Tpm,
            Profile::SoftwareTpm { ports: [1, 2] },
        ]
        .map(count);
        println!("keeper, courier, gateway, TPM helper, of a software TPM: {counts:?}");
        assert_eq!(counts, [67, 48, 45, 45, 47]);
    }
}
