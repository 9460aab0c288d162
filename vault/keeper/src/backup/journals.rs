//! Journals as a backup needs them: where one stands.
//!
//! Distrusts: every byte of a journal; it may come from anywhere.

use std::io;
use std::path::Path;

use super::content::JournalPoint;
use crate::journal::{Place, read};

/// Where a journal stands that this process writes: its newest whole entry. More may follow at once.
///
/// # Errors
/// When a file cannot be read, or the entry is none of a journal.
pub fn point(directory: &Path) -> io::Result<JournalPoint> {
    let (entries, chain) = read::newest(&Place::new(directory))?;
    Ok(JournalPoint { entries, chain })
}
