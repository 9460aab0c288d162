//! Signals as data: they wait in a descriptor until the supervisor has time for them.
//!
//! Invariant: a signal to stop is never lost, nor that a child ended. The terminal's Control-C reaches this process alone (its children have
//! sessions of their own), so that the others stop in their order.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::{Code, Failure, Outcome};

/// What to do about a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Somebody wants the end.
    Stop,
    /// A child ended, or time passed.
    Look,
}

/// The signals that are held back.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
    /// Whether somebody wanted the end at any time: whoever waits in between may have taken the signal.
    end_wanted: Cell<bool>,
}

const MILLISECOND: Duration = Duration::from_millis(1);
/// Held from the start: what the terminal sends, and that a child ended, which no thread may take from the descriptor.
const FIRST: [Signal; 3] = [Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD];
/// Held once the questions are answered.
const LATER: [Signal; 1] = [Signal::SIGTERM];

impl Signals {
    /// Holds back all but what ends this process while it asks questions.
    pub(crate) fn hold() -> Outcome<Self> {
        let all: SigSet = FIRST.into_iter().chain(LATER).collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&all, flags).map_err(failed)?;
        change(SigmaskHow::SIG_BLOCK, FIRST)?;
        Ok(Self { descriptor, end_wanted: Cell::new(false) })
    }

    /// Holds back everything that is waited for.
    pub(crate) fn hold_all() -> Outcome {
        change(SigmaskHow::SIG_BLOCK, LATER)
    }

    /// Whether somebody wanted the end, now or before.
    pub(crate) fn is_end_wanted(&self) -> bool {
        self.end_wanted.get()
    }

    /// Waits for a signal.
    pub(crate) fn wait(&self, at_most: Duration) -> Outcome<Woken> {
        self.wait_for(at_most, &[])
    }

    /// Waits for a signal, until a moment, or until one of others has something to say.
    pub(crate) fn wait_until(&self, until: Instant, others: &[BorrowedFd<'_>]) -> Outcome<Woken> {
        // A poll counts whole milliseconds: one less would wake before the moment, again and again.
        let left = until.saturating_duration_since(Instant::now());
        let rounded = if left.is_zero() { left } else { left.saturating_add(MILLISECOND) };
        self.wait_for(rounded, others)
    }

    fn wait_for(&self, at_most: Duration, others: &[BorrowedFd<'_>]) -> Outcome<Woken> {
        let milliseconds = u16::try_from(at_most.as_millis()).unwrap_or(u16::MAX);
        let all = [&[self.descriptor.as_fd()], others].concat();
        let mut ready: Vec<_> =
            all.into_iter().map(|one| PollFd::new(one, PollFlags::POLLIN)).collect();
        // An interrupted wait is a short one.
        let _interrupted = poll(&mut ready, PollTimeout::from(milliseconds));
        let mut woken = Woken::Look;
        while let Some(told) = self.descriptor.read_signal().map_err(failed)? {
            let is_child = i32::try_from(told.ssi_signo) == Ok(Signal::SIGCHLD as i32);
            if !is_child {
                woken = Woken::Stop;
                self.end_wanted.set(true);
            }
        }
        Ok(woken)
    }
}

fn change(how: SigmaskHow, signals: impl IntoIterator<Item = Signal>) -> Outcome {
    let set: SigSet = signals.into_iter().collect();
    set.thread_swap_mask(how).map(|_| ()).map_err(failed)
}

fn failed(error: nix::Error) -> Failure {
    Failure::new(Code::Process, format!("signals: {error}"))
}
