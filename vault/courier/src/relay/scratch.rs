//! The memory that a lane's calls use one after the other.
//!
//! Invariant: each part is taken out while a call uses it and comes back wiped; of a call that broke off it does not come back,
//! so nothing has to be wiped on the many ways out.

use crate::scrub::Blank;
use crate::wiped::{ReadBuffer, WipedVec};

/// Between calls: memory without content.
#[derive(Default)]
pub(crate) struct Scratch {
    /// For the head of the request, which holds the key.
    pub(super) request: WipedVec,
    /// For what the provider sends.
    pub(super) answer: ReadBuffer,
    /// For what echoes of the key look like.
    pub(super) blank: Option<Blank>,
}
