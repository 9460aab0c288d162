//! Random bytes for ids and tickets, drawn from the kernel many at a time.
//!
//! Invariant: each byte is given once, and wiped from the pool when it is.

use strongroom_policy::id::{Id, Kind};
use zeroize::Zeroizing;

/// Random bytes that were drawn and not given yet.
pub struct Pool {
    bytes: Zeroizing<Vec<u8>>,
}

/// How many are drawn at once: a call takes 32.
const DRAW_BYTES: usize = 4096;

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(DRAW_BYTES)) }
    }

    /// Sixteen of them.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn draw(&mut self) -> Result<[u8; 16], getrandom::Error> {
        if self.bytes.is_empty() {
            self.bytes.resize(DRAW_BYTES, 0);
            getrandom::fill(&mut self.bytes).inspect_err(|_| self.bytes.clear())?;
        }
        let start = self.bytes.len().saturating_sub(16);
        let mut drawn = [0; 16];
        for (to, from) in drawn.iter_mut().zip(self.bytes.iter_mut().skip(start)) {
            *to = std::mem::take(from);
        }
        self.bytes.truncate(start);
        Ok(drawn)
    }

    /// An id.
    ///
    /// # Errors
    /// When the kernel gives no randomness.
    pub fn make_id<K: Kind>(&mut self) -> Result<Id<K>, getrandom::Error> {
        self.draw().map(Id::from_random)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Pool;

    #[test]
    fn what_was_drawn_is_not_drawn_again_nor_kept() {
        let mut pool = Pool::new();
        let drawn: BTreeSet<[u8; 16]> = (0..1000).map(|_| pool.draw().unwrap()).collect();
        assert_eq!(drawn.len(), 1000);
        let last = pool.draw().unwrap();
        assert!(!pool.bytes.windows(16).any(|window| window == last));
        assert_eq!(pool.bytes.len() % 16, 0);
    }
}
