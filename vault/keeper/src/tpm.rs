//! The TPM, as the keeper sees it: a lock that gives its key, and a counter that shows whether a vault is the newest.
//!
//! The keeper never speaks to the device; its helper does (`vault/tpm`), over an inherited socket.
//!
//! Invariant: nothing here runs on the thread that decides.

pub mod freshness;
pub mod link;
pub mod lock;
pub mod standing;

use std::time::Duration;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::tpm::{Counter, Name};

use crate::seal::TpmCounter;

/// Longest that a change waits until the counter moves behind it; changes that restrict do not wait at all.
pub const COUNTER_EVERY: Duration = Duration::from_mins(1);

/// The counter as the helper takes it.
pub(crate) fn named(counter: &TpmCounter) -> Counter {
    Counter {
        index: counter.index,
        name: Name(counter.name),
        secret: SecretBytes::copy_from(&counter.authority),
    }
}

/// Whether the settings say that this vault is sealed to a TPM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Demand {
    /// They say nothing: a vault that knows of no TPM is opened.
    #[default]
    None,
    /// They do: a vault that knows of none is a copy of before.
    Sealed,
}
