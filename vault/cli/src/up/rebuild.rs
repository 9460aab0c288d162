//! The store built anew by the keeper's program, while nothing else runs.
//!
//! Invariant: it runs as the keeper does: the same user, and nothing of it in this process.
//! Invariant: what it refuses is told under its own code.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use crate::arguments::Common;
use crate::failure::{Code, Failure, Outcome};
use crate::places::{Places, Surroundings};
use crate::progress::Progress;
use crate::settings::{DEBIAN_SOCKET, StoreKind, owner_uid};
use crate::up::Arguments;
use crate::up::accounts::KEEPER_USER;
use crate::up::ground::Ground;
use crate::up::launch;
use crate::up::role::task_arguments;

/// What is done to the store.
#[derive(Debug)]
pub(crate) enum Task {
    /// Into what the settings say now.
    Move(Origin),
    /// Into fresh files.
    Compact,
}

/// The database that records are moved out of.
#[derive(Debug, Args)]
pub(crate) struct Origin {
    /// Out of PostgreSQL: the database
    #[arg(long = "from-database", value_name = "NAME")]
    database: Option<String>,
    /// Out of PostgreSQL: the directory of the server's socket [default: /run/postgresql]
    #[arg(long = "from-socket", value_name = "DIR", requires = "database")]
    socket: Option<PathBuf>,
    /// Out of PostgreSQL: the number in the socket's name [default: 5432]
    #[arg(long = "from-port", value_name = "PORT", requires = "database")]
    port: Option<u16>,
    /// Out of PostgreSQL: the role [default: strongroom-keeper]
    #[arg(long = "from-role", value_name = "ROLE", requires = "database")]
    role: Option<String>,
    /// Out of PostgreSQL: the Unix user that the server runs as [default: postgres]
    #[arg(long = "from-owner", value_name = "USER", requires = "database")]
    owner: Option<String>,
}

impl Origin {
    fn arguments(&self) -> Outcome<Vec<String>> {
        let Some(database) = &self.database else { return Ok(Vec::new()) };
        let socket = self.socket.clone().unwrap_or_else(|| DEBIAN_SOCKET.into());
        let role = self.role.as_deref().unwrap_or(KEEPER_USER);
        let mut line = vec!["--from-database".to_owned(), database.clone()];
        line.extend(["--from-socket".to_owned(), socket.display().to_string()]);
        line.extend(["--from-role".to_owned(), role.to_owned()]);
        if let Some(port) = self.port {
            line.extend(["--from-port".to_owned(), port.to_string()]);
        }
        if let Some(owner) = owner_uid(self.owner.as_deref())? {
            line.extend(["--store-owner".to_owned(), owner.to_string()]);
        }
        Ok(line)
    }
}

/// A line of the keeper's program; see `vault/keeper/src/moving.rs`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Heard {
    /// How many rows are copied, and of how many.
    Far { rows: u64, all: u64 },
    /// Why nothing was done.
    Refused { code: String, message: String, next: String },
}

fn heard(line: &str) -> Option<Heard> {
    serde_json::from_str(line).ok()
}

/// Runs it; answers what keeps the records now.
pub(crate) fn run(task: &Task, binaries: Option<PathBuf>, common: &Common) -> Outcome<StoreKind> {
    let places = Places::choose(&Surroundings::here(), common.dir.as_deref(), common.demo)?;
    places.check()?;
    if !places.vault().join("vault").exists() {
        let what = format!("there is no vault in {}", places.data.display());
        return Err(Failure::new(Code::Store, what).next("name its directory: --dir DIR"));
    }
    let arguments =
        Arguments { port: None, passphrase_fd: None, no_init: true, binaries, user: None };
    let ground = Ground::prepare(places, &arguments, common.demo)?;
    let (word, more) = match task {
        Task::Move(from) => ("--move", from.arguments()?),
        Task::Compact => ("--compact", Vec::new()),
    };
    let (mut progress, mut refused) = (None::<Progress>, None);
    let arguments = [task_arguments(word, &ground), more].concat();
    let ended = launch::run_keeper(&ground, &arguments, &mut |line| match heard(line) {
        Some(Heard::Far { rows, all }) => {
            progress.get_or_insert_with(|| Progress::new("rows", all)).show(rows);
        }
        Some(Heard::Refused { code, message, next }) => {
            let failure = Failure { code: code.into(), message, next: Some(next), exit: 1 };
            refused = Some(failure);
        }
        None => {}
    })?;
    drop(progress);
    if ended.success() {
        return Ok(ground.settings.store.kind);
    }
    if let Some(refused) = refused {
        return Err(refused);
    }
    Err(Failure::new(Code::Store, format!("the store is as it was ({ended})"))
        .next("look at the lines above"))
}

#[cfg(test)]
mod tests {
    use super::{Heard, heard};

    #[test]
    fn what_the_keeper_tells_is_understood_and_nothing_else() {
        let far = Heard::Far { rows: 960, all: 4000 };
        assert_eq!(heard("{\"rows\":960,\"all\":4000}"), Some(far));
        let refused = heard("{\"code\":\"SR-STORE-021\",\"message\":\"m\",\"next\":\"n\"}");
        assert!(matches!(refused, Some(Heard::Refused { code, .. }) if code == "SR-STORE-021"));
        assert_eq!(heard("{\"rows\":960}"), None);
        assert_eq!(heard("copied"), None);
    }
}
