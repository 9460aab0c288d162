//! Takes from a process, for good, every power that its work does not need.
//!
//! Invariant: runs while the process has one thread, because Landlock binds only threads that
//! are made after it (a worker made before read /etc/passwd afterwards).
//! Invariant: a layer that the kernel does not offer stops the start, unless the operator named
//! it; nothing is left out silently.
//!
//! | | files | TCP | an address while sending | new sockets | new programs |
//! |---|---|---|---|---|---|
//! | keeper | its data directory | none | never | none | none |
//! | courier | none | connects, never binds or listens | of datagrams | TCP and UDP, which it binds | none |
//! | gateway | none | accepts on what it inherited | never | none | none |
//! | TPM helper | none; its device is open | none | never | none | none |
//! | the same, of a software TPM | none | connects to two ports, never binds or listens | never | TCP | none |
//!
//! An inherited socket stays in the network that it was made in, and Landlock rules `bind` and `connect` alone: that nothing else is
//! done with it is seccomp's part. Options of sockets are a short list for everyone.

mod durability;
mod layers;
mod ruleset;
mod syscalls;
pub mod trial;

use std::path::{Path, PathBuf};

pub use durability::flush_reaches_the_disk;
pub use layers::{Layer, Report, State};

use crate::locked::{self, LockError, Protection};
use crate::process::{ProcessError, drop_capabilities, harden, single_thread};

/// Which process this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile<'a> {
    /// Keys and disk, no network. Its sockets are bound before.
    Keeper {
        /// The one directory that it reads and writes.
        data_dir: &'a Path,
        /// Where it removes its own sockets when it ends.
        run_dir: &'a Path,
    },
    /// Dials the providers. Its Unix sockets are bound and connected before.
    Courier {
        /// The TCP ports that it may dial; without a list, any.
        ports: Option<&'a [u16]>,
    },
    /// Accepts on the inherited listener. Its connections to the vault are made before.
    Gateway,
    /// Talks to a TPM and to the keeper; both ways are open before.
    Tpm,
    /// The same with a software TPM, which libtss2 dials anew for each command.
    SoftwareTpm {
        /// The TCP ports of its commands and of its control channel.
        ports: [u16; 2],
    },
}

impl Profile<'_> {
    /// The name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Profile::Keeper { .. } => "keeper",
            Profile::Courier { .. } => "courier",
            Profile::Gateway => "gateway",
            Profile::Tpm | Profile::SoftwareTpm { .. } => "tpm",
        }
    }

    /// The TCP ports that it may dial, where these are counted.
    fn dials(&self) -> &[u16] {
        match self {
            Profile::Courier { ports } => ports.unwrap_or_default(),
            Profile::SoftwareTpm { ports } => ports,
            Profile::Keeper { .. } | Profile::Gateway | Profile::Tpm => &[],
        }
    }
}

/// What happens at a system call that is on no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The process dies at once (`SIGSYS`).
    Kill,
    /// The call fails with `EPERM`: for tests and for finding what a new library needs.
    Errno,
}

/// The operator's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Layers that may be missing (`accept_missing` in the configuration).
    pub accept_missing: Vec<Layer>,
    /// By default [`Violation::Kill`], in builds with debug assertions [`Violation::Errno`].
    pub on_violation: Violation,
}

impl Default for Options {
    fn default() -> Self {
        let on_violation = if cfg!(debug_assertions) { Violation::Errno } else { Violation::Kill };
        Self { accept_missing: Vec::new(), on_violation }
    }
}

/// Why the process must not go on.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel does not offer a layer and the operator did not accept that.
    #[error(
        "confinement layer `{layer}` is missing: {reason}; \
         to start without it, set accept_missing = [\"{layer}\"]"
    )]
    Missing {
        /// Which layer.
        layer: Layer,
        /// Why the kernel does not have it.
        reason: String,
    },
    /// Threads run already, or a step of hardening failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No locked memory for the keeper's keys.
    #[error(transparent)]
    Memory(#[from] LockError),
    /// A directory of the keeper cannot be opened.
    #[error("{path}: {reason}")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the kernel answered.
        reason: String,
    },
    /// A layer that the kernel offers could not be put in force.
    #[error("confinement layer `{layer}` was not enforced: {reason}")]
    NotEnforced {
        /// Which layer.
        layer: Layer,
        /// What failed.
        reason: String,
    },
}

/// Confines the calling process. There is no way back.
///
/// # Errors
/// [`ConfineError`]; the process is then half confined and must end.
pub fn confine(profile: Profile<'_>, options: &Options) -> Result<Report, ConfineError> {
    single_thread()?;
    let report = probe(profile, options.on_violation)?;
    for (layer, state) in &report.layers {
        if let State::Missing(reason) = state
            && !options.accept_missing.contains(layer)
        {
            return Err(ConfineError::Missing { layer: *layer, reason: reason.clone() });
        }
    }
    harden()?;
    drop_capabilities()?;
    if report.has(Layer::Files) {
        ruleset::restrict(profile)?;
    }
    if report.has(Layer::SystemCalls) {
        syscalls::filter(profile, options.on_violation)?;
    }
    Ok(report)
}

/// Tells which layers this kernel offers, without confining anything but memory for keys.
///
/// # Errors
/// [`ConfineError::Memory`] when the keeper can have no locked memory.
pub fn probe(profile: Profile<'_>, on_violation: Violation) -> Result<Report, ConfineError> {
    let mut layers = Vec::new();
    match profile {
        Profile::Keeper { .. } => layers.push((Layer::SecretMemory, secret_memory()?)),
        Profile::Courier { .. } | Profile::Gateway | Profile::Tpm | Profile::SoftwareTpm { .. } => {
        }
    }
    layers.extend(ruleset::offered());
    layers.push((Layer::SystemCalls, syscalls::offered()));
    Ok(Report { process: profile.name(), on_violation, layers })
}

fn secret_memory() -> Result<State, LockError> {
    Ok(match locked::prepare()? {
        Protection::SecretMemory => State::Present,
        Protection::Locked => State::Weaker(
            "memfd_secret is not available; keys lie in locked pages, which root can read \
             (kernels before 6.5 need secretmem.enable=1 at boot)"
                .to_owned(),
        ),
    })
}
