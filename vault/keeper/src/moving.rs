//! `--move` and `--compact`: the store built anew while nobody serves from it. Needs no key, has none, and reads no message.
//!
//! Invariant: the data directory is held meanwhile, so that no keeper opens what is being moved.
//! Invariant: what the store was moved from stays until a vault that was unsealed has vouched for what it was moved to.

use std::process::ExitCode;
use std::sync::Arc;

use strongroom_store::check::CheckError;
use strongroom_store::moving::{self, MoveError, Moved};
use strongroom_store::{Choice, Database, Kind, Server, StoreError};

use crate::arguments::Records;
use crate::books::STORE_DIRECTORY;
use crate::founding::VAULT_DIRECTORY;
use crate::start::{choose, hold, refusal_line};

/// Rows between two words about how far it is.
const TELL_EVERY: u64 = 9600;

/// Moves the store to what is chosen now.
pub fn move_to(records: &Records, from: Option<Server>) -> ExitCode {
    end(try_to(records, |found, to| {
        if found == to.kind() {
            let what = format!(
                "SR-STORE-017: the store is kept by {found} already; to rebuild it: strongroom store compact"
            );
            anyhow::bail!(what);
        }
        match (found, from) {
            (Kind::Sled, _) => Ok(Choice::Sled),
            (Kind::Redb, _) => Ok(Choice::Redb),
            (Kind::Postgres, Some(server)) => Ok(Choice::Postgres(Arc::new(
                Database::connect(server).map_err(|error| anyhow::anyhow!(refusal_line(&error)))?,
            ))),
            (Kind::Postgres, None) => anyhow::bail!(
                "SR-STORE-018: the store is in a database: name it with --from-database"
            ),
        }
    }))
}

/// Builds the store anew by what keeps it.
pub fn compact(records: &Records) -> ExitCode {
    end(try_to(records, |found, to| {
        if found == to.kind() {
            return Ok(to.clone());
        }
        let (found, chosen) = (found, to.kind());
        anyhow::bail!(refusal_line(&StoreError::OtherKind { found, chosen }))
    }))
}

fn try_to(
    records: &Records,
    from: impl FnOnce(Kind, &Choice) -> anyhow::Result<Choice>,
) -> anyhow::Result<Moved> {
    let _held = hold(&records.data)?;
    let store = records.data.join(VAULT_DIRECTORY).join(STORE_DIRECTORY);
    let told = |error: StoreError| anyhow::anyhow!(refusal_line(&error));
    moving::settle(&store).map_err(told)?;
    let found = Kind::found_in(&store).map_err(told)?;
    let found = found.ok_or_else(|| {
        anyhow::anyhow!("SR-STORE-019: there is no store in {}", records.data.display())
    })?;
    let to = choose(&records.store).map_err(told)?;
    let from = from(found, &to)?;
    let mut name = [0; 16];
    getrandom::fill(&mut name)?;
    let mut told = 0_u64;
    let moved = moving::move_store(&store, (&from, &to), &name, &mut |rows| {
        if rows.saturating_sub(told) >= TELL_EVERY {
            told = rows;
            tracing::info!(rows, "copied");
        }
    });
    moved.map_err(|error| anyhow::anyhow!(move_line(&error)))
}

fn move_line(error: &MoveError) -> String {
    let (code, next) = match error {
        MoveError::Original(CheckError::Original(refusal)) | MoveError::New(refusal) => {
            return refusal_line(refusal);
        }
        MoveError::Original(_) => {
            ("SR-STORE-004", "the old store is as it was: keep it, and restore a backup")
        }
        MoveError::Differs => {
            ("SR-STORE-020", "the old store is as it was; look at the disk's health, then again")
        }
        MoveError::Unjudged => (
            "SR-STORE-021",
            "start and unseal the vault once, so that it vouches for its store, then again",
        ),
        MoveError::Database => ("SR-STORE-022", "let its server do it: VACUUM FULL"),
    };
    format!("{code}: {error}; {next}")
}

fn end(moved: anyhow::Result<Moved>) -> ExitCode {
    match moved {
        Ok(Moved { rows, schema }) => {
            tracing::info!(rows, "the store is moved");
            if let Some(schema) = schema {
                tracing::info!(
                    "the old rows stay in the database until somebody says: DROP SCHEMA {schema} CASCADE"
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
