//! The store in a PostgreSQL server on this machine: ciphertext in one schema a vault, every write fenced.
//!
//! Invariant: each commit is one serialisable transaction, and it counts only while its keeper's turn is the newest: who
//! opens the store takes the next turn, and the next write of whoever had it before is refused and poisons it.
//! Invariant: any failure whose outcome is unknown poisons the handle for good; a lost connection is not made again.
//! Invariant: opening for a check reads one snapshot and writes nothing.
//! Trusts: the server to keep what it confirmed, and to answer with its newest rows: nothing here notices an older one.
//! The keyed manifest beside the keyring does, when the vault is unsealed.
//! Distrusts: what the rows hold, as every store's.

mod line;
mod server;
mod snapshot;
mod statements;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_postgres::Client;

use crate::batch::Batch;
use crate::contract::{Store, StoreError};
use crate::place::{self, Hold};
use crate::poison::Poison;
use crate::record::{Key, Value};
use line::{Fault, Line};
use server::Schema;
pub(crate) use server::holds_store;
pub use server::{DEFAULT_PORT, Server};
pub(crate) use snapshot::Snapshot;
use statements::{Statements, Turn, make_schema};

/// A connection to a server, made before a process gives up the right to make any.
#[derive(Debug)]
pub struct Database {
    server: Server,
    line: Mutex<Line>,
}

impl Database {
    /// Connects. Makes no thread, and needs no system call later that a store of files does not need.
    ///
    /// # Errors
    /// [`StoreError::Io`] when there is nobody, [`StoreError::Server`] when we are not let in,
    /// [`StoreError::Unfit`] when the server does not keep what it confirms or makes us superuser.
    pub fn connect(server: Server) -> Result<Self, StoreError> {
        let line = Mutex::new(Line::connect(&server)?);
        Ok(Self { server, line })
    }

    /// Which server it is.
    pub fn server(&self) -> &Server {
        &self.server
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // The client keeps its own state; one that a panic left behind answers what comes next with an error.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(
        &self,
        act: &'static str,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.line().run(act, work)
    }
}

/// The schema that a store's directory names, if its records are in a database.
pub(crate) fn schema_of(dir: &Path) -> Result<Option<String>, StoreError> {
    if holds_store(dir)? { Ok(Some(Schema::marked(dir)?.to_string())) } else { Ok(None) }
}

/// Removes the schema that a directory names, if it does: of a store that was being built.
pub(crate) fn drop_schema_of(dir: &Path, database: &Database) -> Result<(), StoreError> {
    let Some(schema) = schema_of(dir)? else { return Ok(()) };
    let statement = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
    database.run("remove a schema", async |client| Ok(client.batch_execute(&statement).await?))
}

/// One vault's records in a database, open for writing by one keeper.
pub struct PostgresStore {
    database: Arc<Database>,
    statements: Statements,
    turn: Turn,
    poison: Poison,
    hold: Hold,
}

impl PostgresStore {
    /// Makes an empty store: a schema in the database, and in `dir` (mode 0700) the file that names it.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if `dir` names one; [`StoreError::Server`]; [`StoreError::Io`].
    pub fn create(
        dir: &Path,
        (database, name): (&Arc<Database>, &[u8; 16]),
    ) -> Result<Self, StoreError> {
        place::make_directory(dir)?;
        let hold = Hold::take(dir)?;
        if holds_store(hold.dir())? {
            return Err(StoreError::Exists);
        }
        let schema = Schema::of(name);
        database.run("make the schema", async |client| make_schema(client, &schema).await)?;
        schema.mark(hold.dir())?;
        Self::take(hold, (database, &schema))
    }

    /// Opens the store that `dir` names, and takes the turn from whoever has it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when `dir` names none or it is not in this database; [`StoreError::InUse`];
    /// [`StoreError::Disconnected`], [`StoreError::Server`], [`StoreError::Io`].
    pub fn open(dir: &Path, database: &Arc<Database>) -> Result<Self, StoreError> {
        let hold = Hold::take(dir)?;
        let schema = Schema::marked(hold.dir())?;
        Self::take(hold, (database, &schema))
    }

    fn take(hold: Hold, (database, schema): (&Arc<Database>, &Schema)) -> Result<Self, StoreError> {
        let (statements, turn) = database.run("open the store", async |client| {
            let statements = Statements::prepare(client, schema).await?;
            let turn = statements.take_turn(client).await?;
            Ok((statements, turn))
        })?;
        let database = Arc::clone(database);
        Ok(Self { database, statements, turn, poison: Poison::default(), hold })
    }

    /// After a failure nothing is believed; a failed expectation is none.
    fn judged<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.inspect_err(|error| {
            if !matches!(error, StoreError::Conflict) {
                self.poison();
            }
        })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PostgresStore({}, {:?})", self.hold.dir().display(), self.turn)
    }
}

impl Store for PostgresStore {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.poison.absent()?;
        let found = self
            .database
            .run("read a record", async |client| self.statements.get(client, key).await);
        self.judged(found)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.poison.absent()?;
        let page = self.database.run("read records", async |client| {
            self.statements.page(client, (prefix, after), limit).await
        });
        self.judged(page)
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        batch.within_limits()?;
        let mut line = self.database.line();
        // Under the connection's lock, so that no writer passes who waited while another one failed.
        self.poison.absent()?;
        self.judged(
            line.run("commit", async |client| {
                self.statements.commit(client, self.turn, &batch).await
            }),
        )
    }

    fn poison(&self) {
        self.poison.set();
    }
}
