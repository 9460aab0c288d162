//! Signals as data: they wait in a descriptor until the supervisor has time for them.
//!
//! Invariant: a signal to stop is never lost. The terminal's Control-C reaches this process alone (its children have
//! sessions of their own), so that the others stop in their order.

use std::os::fd::AsFd;
use std::time::Duration;

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
}

/// Held from the start.
const TERMINAL: [Signal; 2] = [Signal::SIGINT, Signal::SIGHUP];
/// Held once the questions are answered.
const OWN: [Signal; 2] = [Signal::SIGTERM, Signal::SIGCHLD];

impl Signals {
    /// Holds back what the terminal sends.
    pub(crate) fn hold() -> Outcome<Self> {
        let all: SigSet = TERMINAL.into_iter().chain(OWN).collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&all, flags).map_err(failed)?;
        change(SigmaskHow::SIG_BLOCK, TERMINAL)?;
        Ok(Self { descriptor })
    }

    /// Holds back everything that is waited for.
    pub(crate) fn hold_all() -> Outcome {
        change(SigmaskHow::SIG_BLOCK, OWN)
    }

    /// Waits for a signal.
    pub(crate) fn wait(&self, at_most: Duration) -> Outcome<Woken> {
        let milliseconds = u16::try_from(at_most.as_millis()).unwrap_or(u16::MAX);
        let mut ready = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        // An interrupted wait is a short one.
        let _interrupted = poll(&mut ready, PollTimeout::from(milliseconds));
        let mut woken = Woken::Look;
        while let Some(told) = self.descriptor.read_signal().map_err(failed)? {
            let is_child = i32::try_from(told.ssi_signo) == Ok(Signal::SIGCHLD as i32);
            if !is_child {
                woken = Woken::Stop;
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
