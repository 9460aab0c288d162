//! Where a PostgreSQL server is, and what a store's own part of it is called.
//!
//! Invariant: a server is reached by a Unix socket on this machine and by the rights of our own user; no password exists.
//! Invariant: nothing is said to a program that runs as somebody else than the server's user, root or ourselves.
//! Invariant: a name that is put into a statement has 35 bytes of `sr_` and hexadecimal digits, and nothing else.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::contract::StoreError;
use crate::place;

/// A server on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The directory of its socket, such as `/run/postgresql`.
    pub socket: PathBuf,
    /// The number in the socket's name.
    pub port: u16,
    /// The database in it.
    pub database: String,
    /// The role that we are there; not a superuser.
    pub role: String,
    /// Unix users whose program at the socket is believed to be the server.
    pub trusted: Vec<u32>,
}

impl Server {
    /// That nobody else can put a socket in the place of the server's.
    pub(super) fn look_at_directory(&self) -> Result<(), StoreError> {
        let found =
            self.socket.metadata().map_err(StoreError::io("look at the database's socket"))?;
        let mode = found.permissions().mode();
        if mode & EVERYBODY_WRITES != 0 && mode & STICKY == 0 {
            return Err(StoreError::Unfit("everybody may replace the socket in its directory"));
        }
        Ok(())
    }

    /// That the program at the other end is the server's, as the kernel saw it when it began to listen.
    pub(super) fn look_at_peer(&self, uid: u32) -> Result<(), StoreError> {
        if self.trusted.contains(&uid) {
            return Ok(());
        }
        Err(StoreError::Unfit("the program at its socket runs as another user than the server"))
    }
}

/// Write for others, in a directory's mode.
const EVERYBODY_WRITES: u32 = 0o002;
/// Names belong to those who made them, in a directory's mode.
const STICKY: u32 = 0o1000;

/// The port that PostgreSQL has by default.
pub const DEFAULT_PORT: u16 = 5432;

/// The schema that belongs to one store.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Schema(String);

impl Schema {
    /// The schema of this name.
    pub(crate) fn of(name: &[u8; 16]) -> Self {
        let digits = name.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
        Self([PREFIX.to_owned(), digits.collect()].concat())
    }

    /// Takes the name that a marker holds.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text.strip_suffix(b"\n")?).ok()?;
        let digits = text.strip_prefix(PREFIX)?;
        let fits = digits.len() == DIGITS
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| Self(text.to_owned()))
    }

    /// Writes the marker in a store's directory, durable on return.
    pub(crate) fn mark(&self, dir: &Path) -> Result<(), StoreError> {
        let mut file = place::make_file(&dir.join(MARKER))?;
        let text = format!("{}\n", self.0);
        file.write_all(text.as_bytes()).map_err(StoreError::io("write the marker"))?;
        file.sync_all().map_err(StoreError::io("sync the marker"))?;
        place::sync(dir)?;
        place::sync_parent(dir)
    }

    /// Reads the marker in a store's directory.
    pub(crate) fn marked(dir: &Path) -> Result<Self, StoreError> {
        if !holds_store(dir)? {
            return Err(StoreError::Missing);
        }
        let mut text = Vec::new();
        let file = File::open(dir.join(MARKER)).map_err(StoreError::io("open the marker"))?;
        file.take(MARKER_BYTES)
            .read_to_end(&mut text)
            .map_err(StoreError::io("read the marker"))?;
        Self::parse(&text).ok_or(StoreError::Foreign)
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a directory says that its records are in a database.
pub(crate) fn holds_store(dir: &Path) -> Result<bool, StoreError> {
    Ok(place::length(&dir.join(MARKER))?.is_some_and(|length| length > 0))
}

/// The file in a store's directory that names the schema.
pub(crate) const MARKER: &str = "postgres";
/// More than a marker has.
const MARKER_BYTES: u64 = 64;
const PREFIX: &str = "sr_";
/// Of 16 bytes.
const DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_of_ours_is_ever_put_into_a_statement() {
        let name = Schema::of(&[0xA7; 16]).to_string();
        assert_eq!(name, format!("sr_{}", "a7".repeat(16)));
        assert!(Schema::parse(format!("{name}\n").as_bytes()).is_some());
        let upper = name.to_uppercase();
        for bad in [
            "",
            "\n",
            &name,
            &format!("{name}\n\n"),
            &format!("{upper}\n"),
            &format!("{}\n", name.replace('7', "\"")),
            &format!("{name}a\n"),
            &format!("{}\n", &name[..34]),
            "sr_; drop schema public cascade; ----\n",
        ] {
            assert!(Schema::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_marker_is_read_back_and_a_changed_one_is_foreign() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path();
        assert!(matches!(Schema::marked(dir), Err(StoreError::Missing)));
        let schema = Schema::of(&[7; 16]);
        schema.mark(dir).unwrap();
        assert!(Schema::marked(dir).unwrap() == schema);
        std::fs::write(dir.join(MARKER), "public\n").unwrap();
        assert!(matches!(Schema::marked(dir), Err(StoreError::Foreign)));
    }
}
