//! What every call shares: the way to the keeper, the lanes, the room for bodies, the places to hash, the counters.
//!
//! Invariant: the gateway keeps no state of its own beyond these.

use crate::api::hashing::Hashing;
use crate::budget::BodyBudget;
use crate::keeper_link::KeeperLink;
use crate::lanes::Couriers;
use crate::metrics::Metrics;

/// The gateway's parts.
pub struct Gateway {
    /// The way to the keeper.
    pub keeper: KeeperLink,
    /// The lanes to each courier.
    pub couriers: Couriers,
    /// What happened so far.
    pub metrics: Metrics,
    pub(crate) bodies: BodyBudget,
    pub(crate) hashing: Hashing,
}

/// Why the process must be started anew: none of these connections can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The connection to the keeper.
    #[error("the connection to the keeper broke")]
    Keeper,
    /// The courier of built-in providers has ended.
    #[error("the courier is gone")]
    Courier,
    /// More than a quarter of the lanes to it had to be closed.
    #[error("too few lanes to the courier are left")]
    Lanes,
}

impl Gateway {
    /// Puts the parts together.
    pub fn new(keeper: KeeperLink, couriers: Couriers) -> Self {
        Self {
            keeper,
            couriers,
            metrics: Metrics::default(),
            bodies: BodyBudget::new(),
            hashing: Hashing::new(),
        }
    }
}
