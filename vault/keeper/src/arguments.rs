//! The keeper's command line, as the supervisor writes it.
//!
//! Invariant: an unknown or doubled argument is an error; nothing secret is ever here.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

use nix::unistd::{Gid, Uid, geteuid};
use strongroom_store::{DEFAULT_PORT, Kind, Server};
use strongroom_sys::confine::Layer;

use crate::journal::Durability;
use crate::journal::sinks::{MAX_SINKS, SinkWish};
use crate::settings::Settings;
use crate::tpm::Demand;

/// What the keeper is to do.
#[derive(Debug)]
pub enum Wish {
    /// Serve.
    Serve(Box<Arguments>),
    /// Look whether the store of a data directory opens, on a copy of it.
    Check(Box<Records>),
    /// Move the store of a data directory to what keeps the records from now on; the other is where it is in a database.
    Move(Box<Records>, Option<Server>, Option<RawFd>),
    /// Build the store of a data directory anew. The descriptor, of both, is told how far it is.
    Compact(Box<Records>, Option<RawFd>),
}

/// Where the records are and what keeps them.
#[derive(Debug)]
pub struct Records {
    /// Where everything lies.
    pub data: PathBuf,
    /// What keeps the records.
    pub store: Keeping,
    /// Layers of confinement that may be missing.
    pub accept_missing: Vec<Layer>,
}

/// What keeps the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// sled, in the data directory.
    Sled,
    /// redb, in the data directory.
    Redb,
    /// A PostgreSQL server on this machine.
    Postgres(Server),
}

impl Keeping {
    /// Whether the records are not in the data directory.
    pub fn is_elsewhere(&self) -> bool {
        match self {
            Self::Sled | Self::Redb => false,
            Self::Postgres(_) => true,
        }
    }
}

/// What the keeper is started with.
#[derive(Debug)]
pub struct Arguments {
    /// Where the records are and what keeps them.
    pub records: Records,
    /// Where the sockets lie.
    pub run: PathBuf,
    /// What users call us.
    pub public_url: String,
    /// The operators' group; without one only our own user and root come in.
    pub operator_gid: Option<Gid>,
    /// The gateway's user.
    pub ask_uid: Uid,
    /// The gateway's group.
    pub ask_gid: Option<Gid>,
    /// The user of the courier of built-in providers.
    pub errand_uid: Uid,
    /// Its group.
    pub errand_gid: Option<Gid>,
    /// The user of the courier of operator-defined providers.
    pub errand_defined_uid: Uid,
    /// Its group.
    pub errand_defined_gid: Option<Gid>,
    /// Told when the sockets are there.
    pub ready_fd: Option<RawFd>,
    /// One end of a pair of datagram sockets; the TPM's helper has the other.
    pub tpm_fd: Option<RawFd>,
    /// Whether a vault that is not sealed to a TPM is refused.
    pub tpm_demand: Demand,
    /// When a journal entry is on the disk.
    pub durability: Durability,
    /// Who else is told what stands in the journal.
    pub sinks: Vec<SinkWish>,
    /// What the vault remembers of the configuration.
    pub settings: Settings,
}

/// What is wrong with the command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArguments {
    /// Not one of ours.
    #[error("unknown argument '{0}'")]
    Unknown(String),
    /// Without its value, or with one that does not fit.
    #[error("{0} needs a value that fits")]
    Value(String),
    /// Not given.
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl Wish {
    /// Reads the command line.
    ///
    /// # Errors
    /// See [`BadArguments`].
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, BadArguments> {
        let mut given = Given::default();
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let task = match name.as_str() {
                "--check" => Some(Task::Check),
                "--move" => Some(Task::Move),
                "--compact" => Some(Task::Compact),
                _ => None,
            };
            if task.is_some() {
                given.task = task;
                continue;
            }
            let value = arguments.next().ok_or_else(|| BadArguments::Value(name.clone()))?;
            given.take(&name, value)?;
        }
        match given.task {
            Some(Task::Check) => Ok(Self::Check(Box::new(given.records()?))),
            Some(Task::Compact) => Ok(Self::Compact(Box::new(given.records()?), given.ready_fd)),
            Some(Task::Move) => {
                let from = given.from()?;
                Ok(Self::Move(Box::new(given.records()?), from, given.ready_fd))
            }
            None => Ok(Self::Serve(Box::new(given.whole()?))),
        }
    }
}

/// What is done instead of serving.
#[derive(Clone, Copy)]
enum Task {
    Check,
    Move,
    Compact,
}

#[derive(Default)]
struct Given {
    task: Option<Task>,
    from_socket: Option<PathBuf>,
    from_port: Option<u16>,
    from_database: Option<String>,
    from_role: Option<String>,
    data: Option<PathBuf>,
    store: Option<Kind>,
    store_socket: Option<PathBuf>,
    store_owner: Option<u32>,
    store_port: Option<u16>,
    store_database: Option<String>,
    store_role: Option<String>,
    run: Option<PathBuf>,
    public_url: Option<String>,
    operator_gid: Option<u32>,
    ask_uid: Option<u32>,
    ask_gid: Option<u32>,
    errand_uid: Option<u32>,
    errand_gid: Option<u32>,
    errand_defined_uid: Option<u32>,
    errand_defined_gid: Option<u32>,
    ready_fd: Option<RawFd>,
    tpm_fd: Option<RawFd>,
    tpm_demand: Demand,
    accept_missing: Vec<Layer>,
    durability: Durability,
    sinks: Vec<SinkWish>,
    settings: Settings,
}

impl Given {
    fn take(&mut self, name: &str, value: String) -> Result<(), BadArguments> {
        match name {
            "--data" => self.data = Some(value.into()),
            "--store" => self.store = Some(number(name, &value)?),
            "--from-socket" => self.from_socket = Some(value.into()),
            "--from-port" => self.from_port = Some(number(name, &value)?),
            "--from-database" => self.from_database = Some(value),
            "--from-role" => self.from_role = Some(value),
            "--store-owner" => self.store_owner = Some(number(name, &value)?),
            "--store-socket" => self.store_socket = Some(value.into()),
            "--store-port" => self.store_port = Some(number(name, &value)?),
            "--store-database" => self.store_database = Some(value),
            "--store-role" => self.store_role = Some(value),
            "--run" => self.run = Some(value.into()),
            "--public-url" => self.public_url = Some(value),
            "--operator-gid" => self.operator_gid = Some(number(name, &value)?),
            "--ask-uid" => self.ask_uid = Some(number(name, &value)?),
            "--ask-gid" => self.ask_gid = Some(number(name, &value)?),
            "--errand-uid" => self.errand_uid = Some(number(name, &value)?),
            "--errand-gid" => self.errand_gid = Some(number(name, &value)?),
            "--errand-defined-uid" => self.errand_defined_uid = Some(number(name, &value)?),
            "--errand-defined-gid" => self.errand_defined_gid = Some(number(name, &value)?),
            "--ready-fd" => self.ready_fd = Some(number(name, &value)?),
            "--tpm-fd" => self.tpm_fd = Some(number(name, &value)?),
            "--tpm-seal" => {
                self.tpm_demand = match value.as_str() {
                    "optional" => Demand::None,
                    "required" => Demand::Sealed,
                    _ => return Err(BadArguments::Value(name.to_owned())),
                }
            }
            "--accept-missing" => {
                for layer in value.split(',').filter(|layer| !layer.is_empty()) {
                    self.accept_missing.push(number(name, layer)?);
                }
            }
            "--journal-durability" => {
                self.durability = match value.as_str() {
                    "group" => Durability::Group,
                    "strict" => Durability::Strict,
                    _ => return Err(BadArguments::Value(name.to_owned())),
                }
            }
            "--setting" => self
                .settings
                .add(number(name, &value)?)
                .map_err(|_| BadArguments::Value(name.to_owned()))?,
            "--sink" if self.sinks.len() < MAX_SINKS => self.sinks.push(number(name, &value)?),
            _ => return Err(BadArguments::Unknown(name.to_owned())),
        }
        Ok(())
    }

    fn records(&mut self) -> Result<Records, BadArguments> {
        Ok(Records {
            data: self.data.take().ok_or(BadArguments::Missing("--data"))?,
            store: self.keeping()?,
            accept_missing: std::mem::take(&mut self.accept_missing),
        })
    }

    /// The database that the records are moved out of. Its server's user is the one of `--store-owner`.
    fn from(&mut self) -> Result<Option<Server>, BadArguments> {
        let Some(database) = self.from_database.take() else { return Ok(None) };
        // Only a move into a database has another use for it.
        let owner = match self.store.unwrap_or(Kind::Sled) {
            Kind::Postgres => self.store_owner,
            Kind::Sled | Kind::Redb => self.store_owner.take(),
        };
        Ok(Some(Server {
            socket: self.from_socket.take().ok_or(BadArguments::Missing("--from-socket"))?,
            port: self.from_port.unwrap_or(DEFAULT_PORT),
            database,
            role: self.from_role.take().ok_or(BadArguments::Missing("--from-role"))?,
            trusted: trusted(owner),
        }))
    }

    /// A place in a server that is not to be used is as wrong as a missing one.
    fn keeping(&mut self) -> Result<Keeping, BadArguments> {
        let (socket, port) = (self.store_socket.take(), self.store_port.take());
        let (database, role) = (self.store_database.take(), self.store_role.take());
        let owner = self.store_owner.take();
        let none = socket.is_none() && port.is_none() && database.is_none() && role.is_none();
        let none = none && owner.is_none();
        match self.store.unwrap_or(Kind::Sled) {
            Kind::Sled if none => Ok(Keeping::Sled),
            Kind::Redb if none => Ok(Keeping::Redb),
            Kind::Sled | Kind::Redb => Err(BadArguments::Value("--store".to_owned())),
            Kind::Postgres => Ok(Keeping::Postgres(Server {
                socket: socket.ok_or(BadArguments::Missing("--store-socket"))?,
                port: port.unwrap_or(DEFAULT_PORT),
                database: database.ok_or(BadArguments::Missing("--store-database"))?,
                role: role.ok_or(BadArguments::Missing("--store-role"))?,
                trusted: trusted(owner),
            })),
        }
    }

    fn whole(mut self) -> Result<Arguments, BadArguments> {
        let user = |uid: Option<u32>, missing| {
            uid.map(Uid::from_raw).ok_or(BadArguments::Missing(missing))
        };
        Ok(Arguments {
            records: self.records()?,
            run: self.run.ok_or(BadArguments::Missing("--run"))?,
            public_url: self.public_url.ok_or(BadArguments::Missing("--public-url"))?,
            operator_gid: self.operator_gid.map(Gid::from_raw),
            ask_uid: user(self.ask_uid, "--ask-uid")?,
            ask_gid: self.ask_gid.map(Gid::from_raw),
            errand_uid: user(self.errand_uid, "--errand-uid")?,
            errand_gid: self.errand_gid.map(Gid::from_raw),
            errand_defined_uid: user(self.errand_defined_uid, "--errand-defined-uid")?,
            errand_defined_gid: self.errand_defined_gid.map(Gid::from_raw),
            ready_fd: self.ready_fd,
            tpm_fd: self.tpm_fd,
            tpm_demand: self.tpm_demand,
            durability: self.durability,
            sinks: self.sinks,
            settings: self.settings,
        })
    }
}

/// Who is root, or ourselves, has the records anyway.
fn trusted(owner: Option<u32>) -> Vec<u32> {
    owner.into_iter().chain([0, geteuid().as_raw()]).collect()
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, BadArguments> {
    value.parse().map_err(|_| BadArguments::Value(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{BadArguments, Wish};

    fn parse(line: &str) -> Result<Wish, BadArguments> {
        Wish::parse(line.split_whitespace().map(ToOwned::to_owned))
    }

    #[test]
    fn what_is_unknown_or_missing_is_an_error() {
        let whole =
            "--data d --run r --public-url u --ask-uid 1 --errand-uid 2 --errand-defined-uid 3";
        assert!(matches!(parse(whole), Ok(Wish::Serve(_))));
        assert!(matches!(parse("--check --data d"), Ok(Wish::Check(_))));
        assert!(matches!(parse("--check --data d --store redb"), Ok(Wish::Check(_))));
        assert!(parse("--check --data d --store files").is_err());
        let place = "--store-socket /s --store-database b --store-role r";
        let postgres = format!("--check --data d --store postgres {place}");
        assert!(matches!(parse(&postgres), Ok(Wish::Check(_))));
        assert!(parse("--check --data d --store postgres --store-socket /s").is_err());
        assert!(parse(&format!("--check --data d --store redb {place}")).is_err());
        assert!(parse(&format!("{postgres} --store-port 70000")).is_err());
        assert!(parse(&format!("{postgres} --store-owner 70000")).is_ok());
        assert!(parse(&format!("{postgres} --store-owner postgres")).is_err());
        assert!(parse("--check --data d --store redb --store-owner 1").is_err());
        assert!(parse(&format!("{whole} --what ever")).is_err());
        assert!(parse(&format!("{whole} --ready-fd x")).is_err());
        assert!(parse(&format!("{whole} --tpm-fd 4")).is_ok());
        assert!(parse(&format!("{whole} --tpm-seal required")).is_ok());
        assert!(parse(&format!("{whole} --tpm-seal yes")).is_err());
        assert!(parse(&format!("{whole} --tpm-fd /dev/tpm0")).is_err());
        assert!(parse(&format!("{whole} --accept-missing nonsense")).is_err());
        assert!(parse(&format!("{whole} --journal-durability strict")).is_ok());
        assert!(parse(&format!("{whole} --journal-durability none")).is_err());
        assert!(
            parse(&format!("{whole} --sink ocsf,required,/x --sink syslog,optional,/dev/log"))
                .is_ok()
        );
        assert!(parse(&format!("{whole} --setting a=1 --setting b=")).is_ok());
        assert!(parse(&format!("{whole} --setting a=1 --setting a=1")).is_err());
        for bad in ["ocsf,required,x", "ocsf,/x", "ocsf,perhaps,/x", "kafka,required,/x", ""] {
            assert!(parse(&format!("{whole} --sink {bad}")).is_err(), "{bad}");
        }
        assert_eq!(parse("--data d").unwrap_err(), BadArguments::Missing("--run"));
    }
}
