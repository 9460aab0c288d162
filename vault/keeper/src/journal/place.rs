//! Where things lie in the journal's directory.
//!
//! ```text
//! checkpoint        the signed size and root, replaced whole; checkpoint.new, the one before
//! tile/<L>/<N>      full hash tiles, written once, not synced  (C2SP tlog-tiles)
//! tile/entries/<N>  full bundles of 256 entries, written once
//! tail              the bundle that is being filled
//! next              the one after it, for as long as a switch takes
//! reserve           room for the last words, section of its own
//! ```
//! Invariant: what lies below `tile/` is full; what is partial is `tail` or `next`.

use std::path::{Path, PathBuf};

use strongroom_tlog::{Bundle, Tile, Width};

/// Entries in a full bundle.
pub(crate) const BUNDLE_ENTRIES: u64 = 256;
/// The journal of versions before tiles.
const OLD_FILE: &str = "journal.jsonl";

/// The journal's directory.
#[derive(Debug, Clone)]
pub struct Place(PathBuf);

impl Place {
    /// A directory that is there.
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_path_buf())
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint")
    }

    pub(crate) fn tail(&self) -> PathBuf {
        self.0.join("tail")
    }

    pub(crate) fn next(&self) -> PathBuf {
        self.0.join("next")
    }

    pub(super) fn reserve(&self) -> PathBuf {
        self.0.join("reserve")
    }

    pub(super) fn old(&self) -> PathBuf {
        self.0.join(OLD_FILE)
    }

    pub(super) fn bundle(&self, index: u64) -> PathBuf {
        self.0.join(Bundle { index, width: Width::FULL }.path())
    }

    pub(super) fn tile(&self, tile: Tile) -> PathBuf {
        self.0.join(tile.path())
    }
}
