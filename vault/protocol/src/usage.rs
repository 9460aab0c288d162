//! What a call consumed, as the provider told it.
//!
//! Invariant: a number that was not told is absent, never zero.

use serde::{Deserialize, Serialize};

/// What a call consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens, cached ones included.
    pub input: Option<u64>,
    /// Output tokens, reasoning included.
    pub output: Option<u64>,
    /// Input tokens read from the provider's cache.
    pub cached_input: Option<u64>,
    /// Input tokens written to the provider's cache.
    pub cache_write: Option<u64>,
    /// Output tokens spent on reasoning.
    pub reasoning: Option<u64>,
    /// Exact cost in 1e-10 USD, where the provider says it (xAI).
    pub cost_ticks: Option<u64>,
    /// How much of it the provider told.
    pub told: Told,
}

/// How much of a usage the provider told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// The final numbers.
    Exact,
    /// Numbers up to where the stream was cut.
    Partial,
    /// Nothing.
    #[default]
    Missing,
}
