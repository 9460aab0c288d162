//! Every statement that is ever sent about records, prepared once for one vault's schema.
//!
//! Invariant: keys, values and numbers travel as parameters; only a [`Schema`]'s name is text in a statement.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, IsolationLevel, Row, Statement, Transaction};

use super::line::Fault;
use super::server::Schema;
use crate::batch::Batch;
use crate::contract::{MAX_SCAN_RECORDS, StoreError};
use crate::record::{Key, Value};

/// The number of a keeper's turn: who opened the store last has the highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(pub(super) i64);

/// The prepared statements of one schema.
#[derive(Clone)]
pub(super) struct Statements {
    record: Statement,
    from: Statement,
    after: Statement,
    held: Statement,
    put: Statement,
    delete: Statement,
    fence: Statement,
    take: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client, schema: &Schema) -> Result<Self, Fault> {
        let prepare =
            async |text: &str| client.prepare(&text.replace("{vault}", &schema.to_string())).await;
        Ok(Self {
            record: prepare("SELECT value FROM {vault}.records WHERE key = $1").await?,
            from: prepare("SELECT key, value FROM {vault}.records WHERE key >= $1 ORDER BY key LIMIT $2").await?,
            after: prepare("SELECT key, value FROM {vault}.records WHERE key > $1 ORDER BY key LIMIT $2").await?,
            held: prepare("SELECT key, value FROM {vault}.records WHERE key = ANY($1::bytea[])").await?,
            put: prepare(
                "INSERT INTO {vault}.records (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .await?,
            delete: prepare("DELETE FROM {vault}.records WHERE key = ANY($1::bytea[])").await?,
            fence: prepare("UPDATE {vault}.keeper SET commits = commits + 1 WHERE turn = $1").await?,
            take: prepare("UPDATE {vault}.keeper SET turn = turn + 1 RETURNING turn").await?,
        })
    }

    /// Takes the next turn: from now on no commit of an earlier one counts. Waits for the commit that is under way;
    /// a serialisable transaction would fail on it instead.
    pub(super) async fn take_turn(&self, client: &mut Client) -> Result<Turn, Fault> {
        let waiting = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let transaction = waiting.start().await?;
        let row = transaction.query_opt(&self.take, &[]).await?.ok_or(StoreError::Foreign)?;
        let turn = Turn(row.try_get(0)?);
        transaction.commit().await?;
        Ok(turn)
    }

    pub(super) async fn get(&self, client: &Client, key: &Key) -> Result<Option<Value>, Fault> {
        let row = client.query_opt(&self.record, &[&key.as_bytes()]).await?;
        row.map(|row| value(&row, 0)).transpose()
    }

    pub(super) async fn page(
        &self,
        client: &Client,
        (prefix, after): (&[u8], Option<&Key>),
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, Fault> {
        let (statement, start) = match after {
            Some(after) if after.as_bytes() >= prefix => (&self.after, after.as_bytes()),
            _ => (&self.from, prefix),
        };
        let limit = i64::try_from(limit.min(MAX_SCAN_RECORDS)).map_err(|_| StoreError::Corrupt)?;
        let mut page = Vec::new();
        for row in client.query(statement, &[&start, &limit]).await? {
            let key: &[u8] = row.try_get(0)?;
            if !key.starts_with(prefix) {
                break;
            }
            page.push((Key::new(key).map_err(|_| StoreError::Corrupt)?, value(&row, 1)?));
        }
        Ok(page)
    }

    /// One serialisable transaction that begins with its fence.
    pub(super) async fn commit(
        &self,
        client: &mut Client,
        turn: Turn,
        batch: &Batch,
    ) -> Result<(), Fault> {
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::Serializable)
            .start()
            .await?;
        if transaction.execute(&self.fence, &[&turn.0]).await? != 1 {
            return Err(StoreError::Fenced.into());
        }
        self.holds(&transaction, batch).await?;
        self.write(&transaction, batch).await?;
        Ok(transaction.commit().await?)
    }

    async fn holds(&self, transaction: &Transaction<'_>, batch: &Batch) -> Result<(), Fault> {
        let keys: Vec<&[u8]> = batch.expectations().map(|(key, _)| key.as_bytes()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let rows = transaction.query(&self.held, &[&keys]).await?;
        let mut held = std::collections::BTreeMap::new();
        for row in &rows {
            held.insert(row.try_get::<_, &[u8]>(0)?, row.try_get::<_, &[u8]>(1)?);
        }
        let mut wanted = batch.expectations();
        if wanted
            .all(|(key, value)| held.get(key.as_bytes()).copied() == value.map(Value::as_bytes))
        {
            Ok(())
        } else {
            Err(StoreError::Conflict.into())
        }
    }

    async fn write(&self, transaction: &Transaction<'_>, batch: &Batch) -> Result<(), Fault> {
        let (mut gone, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in batch.writes() {
            match value {
                Some(value) => {
                    keys.push(key.as_bytes());
                    values.push(value.as_bytes());
                }
                None => gone.push(key.as_bytes()),
            }
        }
        let puts: [&(dyn ToSql + Sync); 2] = [&keys, &values];
        if !keys.is_empty() {
            transaction.execute(&self.put, &puts).await?;
        }
        if !gone.is_empty() {
            transaction.execute(&self.delete, &[&gone]).await?;
        }
        Ok(())
    }
}

fn value(row: &Row, column: usize) -> Result<Value, Fault> {
    Ok(Value::new(row.try_get(column)?).map_err(|_| StoreError::Corrupt)?)
}

/// Makes a vault's schema, with no record in it.
pub(super) async fn make_schema(client: &mut Client, schema: &Schema) -> Result<(), Fault> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(&TABLES.replace("{vault}", &schema.to_string())).await?;
    Ok(transaction.commit().await?)
}

/// Values are ciphertext: compressing them is lost work. Nobody but the owner has rights in a new schema.
const TABLES: &str = "\
    CREATE SCHEMA {vault}; \
    CREATE TABLE {vault}.records ( \
        key bytea PRIMARY KEY CHECK (octet_length(key) BETWEEN 1 AND 256), \
        value bytea NOT NULL CHECK (octet_length(value) <= 8192)); \
    ALTER TABLE {vault}.records ALTER COLUMN value SET STORAGE EXTERNAL; \
    CREATE TABLE {vault}.keeper ( \
        one boolean PRIMARY KEY DEFAULT true CHECK (one), \
        turn bigint NOT NULL, \
        commits bigint NOT NULL); \
    INSERT INTO {vault}.keeper (turn, commits) VALUES (0, 0)";
