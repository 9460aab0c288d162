//! The clocks of one process, moved under it as a jump of the host's clock would move them.
//!
//! All processes of ours ask `__vdso_clock_gettime`, which the kernel maps into each of them and which no confinement can take
//! away. As a debugger would, this writes other code over it in the memory of one process: the system call of the same name, and a
//! number of seconds that is added to what it says. The process is the real one, confined as it is, and nothing else of it changes.
//!
//! Invariant: a process is written to only while all its threads are stopped outside of that code.
//! Invariant: timers of the kernel go on as they were; only what a process reads moves.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::patience::until;
use crate::processes::signal;

/// The clocks of one process.
#[derive(Debug)]
pub struct Clocks {
    pid: Pid,
    memory: File,
    /// The mapping of the kernel's code.
    mapped: (u64, u64),
    /// Where that function begins.
    function: u64,
}

/// How far clocks are from where they were at first, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    /// `CLOCK_REALTIME`: the time of the day.
    pub day: i64,
    /// `CLOCK_MONOTONIC`: what measures spans.
    pub span: i64,
}

impl Clocks {
    /// Of a process; `None` where the code below cannot run.
    #[must_use]
    pub fn of(pid: Pid) -> Option<Self> {
        if cfg!(not(target_arch = "x86_64")) {
            return None;
        }
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("root may read it");
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("it has one");
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        let address = |digits| u64::from_str_radix(digits, 16).expect("an address");
        let mapped = (address(from), address(to));
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let memory = memory.expect("root may write it");
        let mut code = vec![0; usize::try_from(mapped.1 - mapped.0).expect("it is small")];
        memory.read_exact_at(&mut code, mapped.0).expect("it can be read");
        let (at, length) = function(&code, "__vdso_clock_gettime").expect("it is there");
        assert!(length >= code_of(Ahead::default()).len(), "it has room: {length}");
        Some(Self { pid, memory, mapped, function: mapped.0 + at })
    }

    /// Moves them, at once for all threads.
    pub fn set(&self, ahead: Ahead) {
        until("no thread is asking for the time", || {
            signal(self.pid, Signal::SIGSTOP);
            until("all threads are stopped", || self.each_task(is_stopped).then_some(()));
            let may = self.each_task(|task| self.is_elsewhere(task));
            if may {
                let code = code_of(ahead);
                self.memory.write_all_at(&code, self.function).expect("root may write it");
            }
            signal(self.pid, Signal::SIGCONT);
            may.then_some(())
        });
    }

    fn each_task(&self, holds: impl Fn(&Path) -> bool) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("it runs").flatten();
        tasks.map(|task| task.path()).all(|task| holds(&task))
    }

    /// Whether a stopped thread goes on outside of the kernel's code.
    fn is_elsewhere(&self, task: &Path) -> bool {
        let told = fs::read_to_string(task.join("syscall")).unwrap_or_default();
        let at = told.split_whitespace().last().and_then(|word| word.strip_prefix("0x"));
        let at = at.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        at.is_some_and(|at| !(self.mapped.0..self.mapped.1).contains(&at))
    }
}

fn is_stopped(task: &Path) -> bool {
    let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, tail)| tail.starts_with('T'))
}

/// The system call, then as many seconds more in the answer.
fn code_of(ahead: Ahead) -> Vec<u8> {
    [
        // mov eax, 228 (clock_gettime); syscall
        &[0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05][..],
        // mov rcx, day; test edi, edi (CLOCK_REALTIME); je add
        &[0x48, 0xb9],
        &ahead.day.to_le_bytes(),
        &[0x85, 0xff, 0x74, 0x0f],
        // mov rcx, span; cmp edi, 1 (CLOCK_MONOTONIC); jne return
        &[0x48, 0xb9],
        &ahead.span.to_le_bytes(),
        &[0x83, 0xff, 0x01, 0x75, 0x03],
        // add: add [rsi], rcx; return: ret
        &[0x48, 0x01, 0x0e, 0xc3],
    ]
    .concat()
}

/// Where a function of an ELF file of 64 bits begins, and its length, by the table of dynamic symbols.
fn function(file: &[u8], name: &str) -> Option<(u64, usize)> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    let section = |index: usize| Some(number(0x28, 8)? + index * number(0x3a, 2)?);
    for index in 0..number(0x3c, 2)? {
        let symbols = section(index)?;
        // SHT_DYNSYM
        if number(symbols + 4, 4)? != 11 {
            continue;
        }
        let names = number(section(number(symbols + 0x28, 4)?)? + 0x18, 8)?;
        let (first, length) = (number(symbols + 0x18, 8)?, number(symbols + 0x20, 8)?);
        for symbol in (first..first + length).step_by(24) {
            let own = file.get(names + number(symbol, 4)?..)?;
            if own.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
                return Some((
                    u64::try_from(number(symbol + 8, 8)?).ok()?,
                    number(symbol + 16, 8)?,
                ));
            }
        }
    }
    None
}
