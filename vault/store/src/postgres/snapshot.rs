//! A vault's records as of one moment, for judging them before the store is opened for writing.
//!
//! Invariant: it is one read-only transaction: the server itself refuses every write in it.

use std::path::Path;
use std::sync::Arc;

use super::Database;
use super::server::Schema;
use super::statements::Statements;
use crate::batch::Batch;
use crate::contract::{Store, StoreError};
use crate::place::Hold;
use crate::poison::Poison;
use crate::record::{Key, Value};

/// The snapshot, until dropped.
pub(crate) struct Snapshot {
    database: Arc<Database>,
    statements: Statements,
    poison: Poison,
    _hold: Hold,
}

impl Snapshot {
    /// Takes a snapshot of the store that `dir` names. Nothing else may use the database until it is dropped.
    pub(crate) fn take(dir: &Path, database: &Arc<Database>) -> Result<Self, StoreError> {
        let hold = Hold::take(dir)?;
        let schema = Schema::marked(hold.dir())?;
        let statements = database.run("take a snapshot", async |client| {
            let statements = Statements::prepare(client, &schema).await?;
            client.batch_execute(BEGIN).await?;
            Ok(statements)
        })?;
        let database = Arc::clone(database);
        Ok(Self { database, statements, poison: Poison::default(), _hold: hold })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let ended = self
            .database
            .run("end a snapshot", async |client| Ok(client.batch_execute("ROLLBACK").await?));
        // A connection that cannot even do this fails at the next statement, which says so.
        drop(ended);
    }
}

impl Store for Snapshot {
    fn get(&self, key: &Key) -> Result<Option<Value>, StoreError> {
        self.poison.absent()?;
        self.database.run("read a record", async |client| self.statements.get(client, key).await)
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, StoreError> {
        self.poison.absent()?;
        self.database.run("read records", async |client| {
            self.statements.page(client, (prefix, after), limit).await
        })
    }

    fn commit(&self, _batch: Batch) -> Result<(), StoreError> {
        self.poison.absent()?;
        Err(StoreError::ReadOnly)
    }

    fn poison(&self) {
        self.poison.set();
    }
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
