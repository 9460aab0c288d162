//! Which implementation keeps a vault's records, and what in a directory says which one made it.
//!
//! Invariant: a store is opened by the implementation that made it, never by another one that happens to be chosen now.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use crate::contract::{Store, StoreError};
use crate::embedded::{self, SledStore};
use crate::postgres::{self, Database, PostgresStore};
use crate::redb_store::{self, RedbStore};

/// An implementation of [`Store`], by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// sled, embedded: the default.
    Sled,
    /// redb, embedded.
    Redb,
    /// A PostgreSQL server on this machine.
    Postgres,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sled, Self::Redb, Self::Postgres];

    /// The name in configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Postgres => "postgres",
        }
    }

    /// What made the store in `dir`, `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] when there are two, or something that no store makes; [`StoreError::Io`].
    pub fn found_in(dir: &Path) -> Result<Option<Self>, StoreError> {
        let mut found = None;
        for kind in Self::ALL {
            let holds = match kind {
                Self::Sled => embedded::holds_store(dir)?,
                Self::Redb => redb_store::holds_store(dir)?,
                Self::Postgres => postgres::holds_store(dir)?,
            };
            if holds && found.replace(kind).is_some() {
                return Err(StoreError::Foreign);
            }
        }
        Ok(found)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is no store's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no store; known are sled, redb, postgres")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

/// The chosen implementation and what it needs.
#[derive(Debug, Clone)]
pub enum Choice {
    /// See [`SledStore`].
    Sled,
    /// See [`RedbStore`].
    Redb,
    /// See [`PostgresStore`].
    Postgres(Arc<Database>),
}

impl Choice {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Sled => Kind::Sled,
            Self::Redb => Kind::Redb,
            Self::Postgres(_) => Kind::Postgres,
        }
    }

    /// The implementation for a store that is thrown away soon: of the same kind where that is embedded, never a database.
    #[must_use]
    pub fn for_scratch(&self) -> Self {
        match self {
            Self::Sled => Self::Sled,
            Self::Redb | Self::Postgres(_) => Self::Redb,
        }
    }

    /// Makes an empty store in `dir`, durable on return. A database knows it by `name`, which no store had before.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when any store is there; what the implementation says.
    pub fn create(&self, dir: &Path, name: &[u8; 16]) -> Result<Arc<dyn Store>, StoreError> {
        match Kind::found_in(dir)? {
            Some(_) => Err(StoreError::Exists),
            None => Ok(match self {
                Self::Sled => Arc::new(SledStore::create(dir)?),
                Self::Redb => Arc::new(RedbStore::create(dir)?),
                Self::Postgres(database) => Arc::new(PostgresStore::create(dir, (database, name))?),
            }),
        }
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::OtherKind`]; what the implementation says.
    pub fn open(&self, dir: &Path) -> Result<Arc<dyn Store>, StoreError> {
        self.suits(dir)?;
        Ok(match self {
            Self::Sled => Arc::new(SledStore::open(dir)?),
            Self::Redb => Arc::new(RedbStore::open(dir)?),
            Self::Postgres(database) => Arc::new(PostgresStore::open(dir, database)?),
        })
    }

    /// That the store in `dir` was made by this implementation.
    pub(crate) fn suits(&self, dir: &Path) -> Result<(), StoreError> {
        match Kind::found_in(dir)? {
            None => Err(StoreError::Missing),
            Some(found) if found == self.kind() => Ok(()),
            Some(found) => Err(StoreError::OtherKind { found, chosen: self.kind() }),
        }
    }
}
