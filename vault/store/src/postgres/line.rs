//! One connection to the server, made once, used by blocking calls that each have an end.
//!
//! Invariant: it is connected in [`Line::connect`] and never again, so that a process which cannot connect any more still
//! works with it; what is lost stays lost.
//! Invariant: every wait for the server ends after [`ANSWER_PATIENCE`].
//! Distrusts: the server's settings: one that does not sync, or where our role is a superuser, is refused.

use std::fmt;

use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use super::server::Server;
use crate::contract::StoreError;

/// A connection and the little runtime that drives it while somebody waits.
pub(super) struct Line {
    client: Client,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Line {
    /// Connects as the server's peer, and looks whether the server keeps what it confirms. Makes no thread.
    pub(super) fn connect(server: &Server) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StoreError::io("make a runtime"))?;
        let client = runtime.block_on(async {
            timeout(ANSWER_PATIENCE, open(server)).await.map_err(|_| StoreError::TimedOut)?
        })?;
        Ok(Self { client, runtime: Some(runtime) })
    }

    /// Runs `work` with the client until it ends, or for as long as an answer may take.
    pub(super) fn run<T>(
        &mut self,
        act: &'static str,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let Self { client, runtime } = self;
        let Some(runtime) = runtime else { return Err(StoreError::Disconnected) };
        if client.is_closed() {
            return Err(StoreError::Disconnected);
        }
        let ended = runtime.block_on(async { timeout(ANSWER_PATIENCE, work(client)).await });
        match ended {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(fault)) => Err(fault.refusal(act)),
            Err(_) => Err(StoreError::TimedOut),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // May happen on a thread that must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Line")
    }
}

/// Why a statement did not end well: ours, or the server's.
pub(super) enum Fault {
    Ours(StoreError),
    Server(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Ours(error)
    }
}

impl Fault {
    fn refusal(self, act: &'static str) -> StoreError {
        let error = match self {
            Self::Ours(error) => return error,
            Self::Server(error) => error,
        };
        match error.as_db_error() {
            // Without the schema there is no vault of ours in this database.
            Some(told)
                if [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME]
                    .contains(&told.code()) =>
            {
                StoreError::Missing
            }
            // The server ends our session: it shuts down, or recovers from a crash of its own.
            Some(told) if told.code().code().starts_with(OPERATOR_INTERVENTION) => {
                StoreError::Disconnected
            }
            // Nobody but another keeper of this vault writes where we do.
            Some(told) if *told.code() == SqlState::T_R_SERIALIZATION_FAILURE => StoreError::Fenced,
            Some(told) => StoreError::Server { act, state: told.code().code().to_owned() },
            // Closed, broken, or not PostgreSQL's protocol: there is no going on with it.
            None => StoreError::Disconnected,
        }
    }
}

async fn open(server: &Server) -> Result<Client, StoreError> {
    let path = server.socket.join(format!(".s.PGSQL.{}", server.port));
    server.look_at_directory()?;
    let stream =
        UnixStream::connect(path).await.map_err(StoreError::io("connect to the database"))?;
    let peer = stream.peer_cred().map_err(StoreError::io("ask who runs the database"))?;
    server.look_at_peer(peer.uid())?;
    let mut config = Config::new();
    config.user(&server.role).dbname(&server.database).application_name("strongroom");
    let refused = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(told) => StoreError::Server {
            act: "connect to the database",
            state: told.code().code().to_owned(),
        },
        // A server that asks for a password asks in vain.
        None => StoreError::Unfit("it does not let our user in as this role (peer authentication)"),
    };
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
    // Whatever ends the connection is told by the next statement.
    tokio::spawn(async move { drop(connection.await) });
    client.batch_execute(SESSION).await.map_err(refused)?;
    fit(&client).await?;
    Ok(client)
}

/// The server's own settings, which decide whether a confirmed commit is one.
async fn fit(client: &Client) -> Result<(), StoreError> {
    let failed = |_| StoreError::Unfit("it does not tell its settings");
    let row = client.query_one(FITNESS, &[]).await.map_err(failed)?;
    let is = |column: usize| row.try_get::<_, bool>(column).map_err(failed);
    for (column, complaint) in [
        (0, "our role is a superuser there"),
        (1, "fsync is off: it loses what it confirmed"),
        (2, "full_page_writes is off: a power cut tears its pages"),
        (3, "it is a standby, which takes no writes"),
    ] {
        if is(column)? {
            return Err(StoreError::Unfit(complaint));
        }
    }
    Ok(())
}

/// Once a session; a pooler between must keep sessions (`pool_mode = session` in `PgBouncer`).
const SESSION: &str = "\
    SET search_path = pg_catalog; \
    SET synchronous_commit = on; \
    SET statement_timeout = '20s'; \
    SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '60s'; \
    SET default_transaction_isolation = 'serializable'";

/// Each true column is a reason to refuse.
const FITNESS: &str = "\
    SELECT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), \
    current_setting('fsync') <> 'on', \
    current_setting('full_page_writes') <> 'on', \
    pg_catalog.pg_is_in_recovery()";

/// Class 57 of SQLSTATE.
const OPERATOR_INTERVENTION: &str = "57P";

/// The longest that the server may take for one piece of work; shorter than whoever commits waits
/// ([`crate::COMMIT_PATIENCE`]).
pub(super) const ANSWER_PATIENCE: std::time::Duration = std::time::Duration::from_secs(25);
