//! Backups: the whole store as one encrypted file, made while serving, proved by restoring it.
//!
//! | file | what |
//! |---|---|
//! | `stream.rs` | header and chunks: what is encrypted how |
//! | `content.rs` | what lies in the chunks: records and a closing account |
//! | `make.rs` | from the open store to a copy in memory, and from there to a file |
//! | `halt.rs` | ending both when the vault closes |
//! | `transfer.rs` | to and from the operator's tool, in parts |
//! | `journals.rs` | where a journal stands, and what a surviving one says was taken away |
//! | `rebuild.rs` | from a file to the directory of a vault that is judged like any other |
//! | `restore.rs` | from an empty keeper to that vault, across any crash |
//! | `again.rs` | what was taken away after the backup, taken away again |
//!
//! Invariant: a backup is read whole and to its end, or refused; there is no partial restore.
//! Invariant: whoever has no key of the vault learns from a backup its size, its moment, its commit and its seal file.
//! Distrusts: every byte of a file that claims to be a backup.

pub mod again;
pub mod content;
#[cfg(test)]
pub(crate) mod fixture;
pub mod halt;
pub mod journals;
pub mod make;
pub mod rebuild;
pub mod restore;
pub mod stream;
pub mod transfer;

/// How many numbers of commits, and of generations, one life of a vault has.
const LIFE_BITS: u32 = 32;

/// Which life of a vault a number is of; each restore begins one.
pub const fn life_of(number: u64) -> u64 {
    number >> LIFE_BITS
}

/// Where the numbers of a restored vault begin: above every number that the vault could reach that was lost.
pub const fn next_life(number: u64) -> Option<u64> {
    match life_of(number).checked_add(1) {
        Some(life) => life.checked_mul(1 << LIFE_BITS),
        None => None,
    }
}
