//! Backups: the whole store as one encrypted file, made while serving, proved by restoring it.
//!
//! | file | what |
//! |---|---|
//! | `stream.rs` | header and chunks: what is encrypted how |
//! | `content.rs` | what lies in the chunks: records and a closing account |
//!
//! Invariant: a backup is read whole and to its end, or refused; there is no partial restore.
//! Invariant: whoever has no key of the vault learns from a backup its size, its moment, its commit and its seal file.
//! Distrusts: every byte of a file that claims to be a backup.

pub mod content;
pub mod stream;
