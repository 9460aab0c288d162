//! What a process gives up at its start, before it opens anything.
//!
//! Invariant: a process that passed [`harden`] leaves no core file, lends its memory to no other
//! process of its user, and gains no privilege by exec.
//! Invariant: what it says of a panic is a place in the code, never a value.
#![expect(unsafe_code, reason = "closing descriptors and capabilities have no safe wrapper")]

use std::fs;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::panic::{self, PanicHookInfo};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Gid, Pid, Uid};

/// Which of the steps the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A system call of the named step failed.
    #[error("{step}: {errno}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A step that must come first came too late.
    #[error("{0} threads run already; this belongs before the first one")]
    Threads(usize),
    /// `/proc` is missing or unreadable.
    #[error("/proc/self/task: {0}")]
    Proc(#[source] io::Error),
}

/// Makes the process undumpable, without core files, new privileges or readable new files, and its panics mute.
///
/// # Errors
/// Any failure is meant to end the process.
pub fn harden() -> Result<(), ProcessError> {
    prctl::set_no_new_privs().map_err(at("set no_new_privs"))?;
    keep_memory_private()?;
    umask(Mode::from_bits_truncate(0o077));
    Ok(())
}

/// The part of [`harden`] for a program that starts others as root and makes files for all: no core, no debugger of its user, mute
/// panics.
///
/// # Errors
/// Any failure is meant to end the process.
pub fn keep_memory_private() -> Result<(), ProcessError> {
    prctl::set_dumpable(false).map_err(at("set undumpable"))?;
    if prctl::get_dumpable().map_err(at("read dumpable"))? {
        return Err(at("set undumpable")(Errno::EPERM));
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(at("set the core limit"))?;
    panic::set_hook(Box::new(tell_where));
    Ok(())
}

/// A panic's own words may quote what the code had in its hands: a library that cuts a text in the middle of a letter prints the
/// text. Only the place is told.
fn tell_where(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // Nobody is left to hear that this failed.
    let _told = io::stderr().write_all(format!("a defect: panic at {place}\n").as_bytes());
}

/// Tells the scheduler that this process rather finishes what it has at hand than interrupts another (`SCHED_BATCH`).
///
/// Under load each of our processes then finds more of its work gathered when its turn comes: at 64 connections gateway, keeper and courier
/// together took 13 % less CPU a call, and half the context switches. On an idle processor nothing changes.
///
/// # Errors
/// The kernel's refusal; nothing but speed depends on it.
pub fn prefer_batches() -> Result<(), ProcessError> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads one live structure; 0 is the calling thread, and later threads inherit.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
    Errno::result(set).map(drop).map_err(at("prefer batches"))
}

/// Removes every environment variable but those named.
///
/// # Errors
/// [`ProcessError::Threads`] unless the process has a single thread.
pub fn keep_environment(names: &[&str]) -> Result<(), ProcessError> {
    single_thread()?;
    for (name, _) in std::env::vars_os() {
        if !names.iter().any(|kept| name == **kept) {
            // SAFETY: no other thread exists that could read the environment.
            unsafe { std::env::remove_var(name) };
        }
    }
    Ok(())
}

/// Sets an environment variable, for a library that is told in no other way. Never a secret: `/proc` shows it.
///
/// # Errors
/// [`ProcessError::Threads`] unless the process has a single thread.
pub fn set_variable(name: &str, value: &str) -> Result<(), ProcessError> {
    single_thread()?;
    // SAFETY: no other thread exists that could read the environment.
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// Closes every descriptor above standard error but those named.
///
/// Belongs to the first lines of `main`: a descriptor that a library opened would be pulled away
/// under it.
///
/// # Errors
/// [`ProcessError::Threads`] unless the process has a single thread, or the kernel's refusal.
pub fn close_descriptors_except(keep: &[RawFd]) -> Result<(), ProcessError> {
    single_thread()?;
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd.saturating_add(1);
    }
    close_range(first, u32::MAX)
}

/// Becomes another user for good: no supplementary group, and no capability, not even one that a program could be given.
///
/// Safe between fork and exec: it only makes system calls.
///
/// # Errors
/// The kernel's refusal; the process must then end.
pub fn become_user(uid: Uid, gid: Gid) -> Result<(), Errno> {
    // While there is the right to it.
    lower_capability_bound()?;
    unistd::setgroups(&[])?;
    unistd::setresgid(gid, gid, gid)?;
    unistd::setresuid(uid, uid, uid)?;
    // Fail closed: nothing may be left that leads back.
    if !uid.is_root() && unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), uid).is_ok() {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Gives up every capability, also as root, in every set.
///
/// # Errors
/// The kernel's refusal.
pub fn drop_capabilities() -> Result<(), ProcessError> {
    // SAFETY: numbers only.
    let cleared =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(cleared).map_err(at("clear ambient capabilities"))?;
    lower_capability_bound().map_err(at("drop the capability bound"))?;
    // Linux capability header version 3 of the calling thread, and three empty 64-bit sets.
    let (header, none) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    // SAFETY: version 3 takes two header words and six data words, which both arrays hold.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    Errno::result(set).map(|_| ()).map_err(at("drop capabilities"))
}

/// Empties the set of capabilities that a program could ever be given. Only root can; without the right to it the set stays,
/// which `no_new_privs` makes worthless.
///
/// Safe between fork and exec: it only makes system calls.
fn lower_capability_bound() -> Result<(), Errno> {
    for capability in 0..u64::BITS {
        // SAFETY: numbers only.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) => {}
            // Beyond the last capability; or without that right.
            Err(Errno::EINVAL | Errno::EPERM) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Asks the kernel to kill this process when the thread of `parent` that made it ends.
///
/// Must follow a change of user, which clears the wish. Safe between fork and exec.
///
/// # Errors
/// The kernel's refusal, or `ESRCH` when `parent` is gone already.
pub fn die_with_parent(parent: Pid) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have ended before the wish stood.
    if unistd::getppid() == parent { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Fails unless the calling thread is the only one.
///
/// # Errors
/// [`ProcessError::Threads`] with their number.
pub fn single_thread() -> Result<(), ProcessError> {
    match fs::read_dir("/proc/self/task").map_err(ProcessError::Proc)?.count() {
        1 => Ok(()),
        threads => Err(ProcessError::Threads(threads)),
    }
}

fn at(step: &'static str) -> impl Fn(Errno) -> ProcessError {
    move |errno| ProcessError::Refused { step, errno }
}

fn close_range(first: u32, last: u32) -> Result<(), ProcessError> {
    // SAFETY: called before anything but `main` runs, so nobody owns a descriptor in the range.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(closed).map(|_| ()).map_err(at("close inherited descriptors"))
}

#[cfg(test)]
mod tests {
    use super::{
        ProcessError, close_descriptors_except, keep_environment, prefer_batches, set_variable,
    };

    // What `harden` and the others do is shown in tests/confinement.rs, in processes of their own.

    #[test]
    fn threads_that_are_made_afterwards_prefer_batches_too() {
        // Of a thread of its own: the other tests keep their policy.
        let policies = std::thread::spawn(|| {
            // SAFETY: numbers only; 0 is the calling thread.
            let policy = || unsafe { libc::sched_getscheduler(0) };
            let before = policy();
            prefer_batches().unwrap();
            (before, policy(), std::thread::spawn(policy).join().unwrap())
        });
        let (before, after, child) = policies.join().unwrap();
        assert_eq!(
            (before, after, child),
            (libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_BATCH)
        );
    }

    #[test]
    fn the_environment_is_not_touched_beside_other_threads() {
        assert!(matches!(keep_environment(&[]), Err(ProcessError::Threads(_))));
        assert!(matches!(set_variable("PATH", ""), Err(ProcessError::Threads(_))));
        assert!(std::env::var_os("PATH").is_some_and(|path| !path.is_empty()));
    }

    #[test]
    fn no_descriptor_is_closed_beside_other_threads() {
        assert!(matches!(close_descriptors_except(&[]), Err(ProcessError::Threads(_))));
    }
}
