//! `--move` and `--compact`: the store built anew while nobody serves from it. Needs no key, has none, and reads no message.
//!
//! Whoever started it may hear on a descriptor how far it is, a line of JSON each time, and why it refused:
//!
//! ```text
//! {"rows": 960, "all": 4000}        {"code": "SR-STORE-017", "message": "…", "next": "…"}
//! ```
//! Invariant: no record is read before the process is confined.
//! Invariant: the data directory is held meanwhile, so that no keeper opens what is being moved.
//! Invariant: what the store was moved from stays until a vault that was unsealed has vouched for what it was moved to.

use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use strongroom_store::check::CheckError;
use strongroom_store::moving::{self, MoveError, Moved};
use strongroom_store::{Choice, Database, Kind, Server, StoreError};
use strongroom_sys::inherited::take_unix_stream;

use crate::arguments::Records;
use crate::books::STORE_DIRECTORY;
use crate::founding::VAULT_DIRECTORY;
use crate::start::{choose, confine_for_store, hold, refusal};

/// Rows between two words about how far it is.
const TELL_EVERY: u64 = 960;

/// Why nothing was moved, for people.
#[derive(Debug, Serialize, thiserror::Error)]
#[error("{code}: {message}; {next}")]
struct Refused {
    code: &'static str,
    message: String,
    next: String,
}

/// How far it is.
#[derive(Serialize)]
struct Far {
    rows: u64,
    all: u64,
}

/// Who is told; without one what happens is in the log alone.
struct Told(Option<UnixStream>);

/// Moves the store to what is chosen now.
pub fn move_to(records: &Records, from: Option<Server>, told: Option<RawFd>) -> ExitCode {
    rebuild(told, records, |found, to| {
        if found == to.kind() {
            let message = format!("the store is kept by {found} already");
            let refused = ("SR-STORE-017", "to rebuild it: strongroom store compact");
            return Err(Refused::new(message, refused).into());
        }
        match (found, from) {
            (Kind::Sled, _) => Ok(Choice::Sled),
            (Kind::Redb, _) => Ok(Choice::Redb),
            (Kind::Postgres, Some(server)) => Ok(Choice::Postgres(Arc::new(
                Database::connect(server).map_err(|error| Refused::of(&error))?,
            ))),
            (Kind::Postgres, None) => {
                let refused = ("SR-STORE-018", "name it with --from-database");
                Err(Refused::new("the store is in a database", refused).into())
            }
        }
    })
}

/// Builds the store anew by what keeps it.
pub fn compact(records: &Records, told: Option<RawFd>) -> ExitCode {
    rebuild(told, records, |found, to| {
        if found == to.kind() {
            return Ok(to.clone());
        }
        let (found, chosen) = (found, to.kind());
        Err(Refused::of(&StoreError::OtherKind { found, chosen }).into())
    })
}

fn rebuild(
    told: Option<RawFd>,
    records: &Records,
    from: impl FnOnce(Kind, &Choice) -> anyhow::Result<Choice>,
) -> ExitCode {
    let mut told = match told.map(take_unix_stream).transpose() {
        Ok(told) => Told(told),
        Err(error) => return end(&mut Told(None), Err(error.into())),
    };
    let moved = try_to(records, from, &mut told);
    end(&mut told, moved)
}

fn try_to(
    records: &Records,
    from: impl FnOnce(Kind, &Choice) -> anyhow::Result<Choice>,
    told: &mut Told,
) -> anyhow::Result<Moved> {
    let _held = hold(&records.data).map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => error.into(),
        Err(_) => anyhow::Error::from(Refused::of(&StoreError::InUse)),
    })?;
    let store = records.data.join(VAULT_DIRECTORY).join(STORE_DIRECTORY);
    let refused = |error: StoreError| Refused::of(&error);
    moving::settle(&store).map_err(refused)?;
    let found = Kind::found_in(&store).map_err(refused)?.ok_or_else(|| {
        let message = format!("there is no store in {}", records.data.display());
        Refused::new(message, ("SR-STORE-019", "name the vault's directory: --dir DIR"))
    })?;
    let to = choose(&records.store).map_err(refused)?;
    let from = from(found, &to)?;
    // Both databases are reached, and no record is read yet.
    confine_for_store(records)?;
    let mut name = [0; 16];
    getrandom::fill(&mut name)?;
    let mut last = 0_u64;
    let moved = moving::move_store(&store, (&from, &to), &name, &mut |rows, all| {
        if rows.saturating_sub(last) >= TELL_EVERY || rows == all {
            last = rows;
            told.tell(&Far { rows, all });
        }
    });
    Ok(moved.map_err(|error| Refused::to_move(&error))?)
}

impl Refused {
    fn new(message: impl Into<String>, (code, next): (&'static str, &str)) -> Self {
        Self { code, message: message.into(), next: next.to_owned() }
    }

    fn of(error: &StoreError) -> Self {
        Self::new(error.to_string(), refusal(error))
    }

    fn to_move(error: &MoveError) -> Self {
        let told = match error {
            MoveError::Original(CheckError::Original(refusal)) | MoveError::New(refusal) => {
                return Self::of(refusal);
            }
            MoveError::Original(_) => {
                ("SR-STORE-004", "the old store is as it was: keep it, and restore a backup")
            }
            MoveError::Differs => (
                "SR-STORE-020",
                "the old store is as it was; look at the disk's health, then again",
            ),
            MoveError::Unjudged => (
                "SR-STORE-021",
                "start and unseal the vault once, so that it vouches for its store, then again",
            ),
            MoveError::Database => ("SR-STORE-022", "let its server do it: VACUUM FULL"),
        };
        Self::new(error.to_string(), told)
    }
}

impl Told {
    /// Tells it, if somebody listens; who does not any more is told nothing, and the work goes on.
    fn tell(&mut self, what: &impl Serialize) {
        let Self(Some(stream)) = self else { return };
        let line = serde_json::to_string(what).map(|line| line + "\n");
        if !line.is_ok_and(|line| stream.write_all(line.as_bytes()).is_ok()) {
            self.0 = None;
        }
    }
}

fn end(told: &mut Told, moved: anyhow::Result<Moved>) -> ExitCode {
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
            if let Some(refused) = error.downcast_ref::<Refused>() {
                told.tell(refused);
            }
            // Who was told tells it on.
            if told.0.is_none() || !error.is::<Refused>() {
                tracing::error!("{error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
