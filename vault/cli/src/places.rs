//! Where things are: data, sockets, programs.
//!
//! Invariant: a place that does not work is named before anything starts.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use strongroom_policy::provider::Origin;
use strongroom_sys::socket_directory::MAX_PATH_BYTES;

use crate::failure::{Code, Failure, Outcome};

/// Whose machine this is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Install {
    /// Root's: each process is a user of its own.
    System,
    /// One person's: all processes are this person.
    Personal,
}

/// What the choice of places depends on.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Who runs this.
    pub(crate) install: Install,
    /// `$HOME`.
    pub(crate) home: Option<OsString>,
    /// `$XDG_STATE_HOME`.
    pub(crate) state_home: Option<OsString>,
    /// `$XDG_RUNTIME_DIR`.
    pub(crate) runtime: Option<OsString>,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Whose.
    pub(crate) install: Install,
    /// Settings, certificates, the vault.
    pub(crate) data: PathBuf,
    /// Sockets.
    pub(crate) run: PathBuf,
}

/// Installed programs of a system install.
const SYSTEM_BINARIES: &str = "/usr/local/lib/strongroom";

impl Surroundings {
    /// Those of this process.
    pub(crate) fn here() -> Self {
        let install = if Uid::effective().is_root() { Install::System } else { Install::Personal };
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            install,
            home: variable("HOME"),
            state_home: variable("XDG_STATE_HOME"),
            runtime: variable("XDG_RUNTIME_DIR"),
        }
    }
}

impl Places {
    /// Chooses the places. `name` is `strongroom` or `strongroom-demo`.
    pub(crate) fn choose(around: &Surroundings, dir: Option<&Path>, demo: bool) -> Outcome<Self> {
        let name = if demo { "strongroom-demo" } else { "strongroom" };
        let install = around.install;
        let (data, run) = match (dir, install) {
            (Some(dir), _) => {
                let data = std::path::absolute(dir).map_err(|error| Failure::file(dir, error))?;
                let run = data.join("run");
                (data, run)
            }
            (None, Install::System) => {
                (Path::new("/var/lib").join(name), Path::new("/run").join(name))
            }
            (None, Install::Personal) => {
                let data = personal_data(around)?.join(name);
                let run = match &around.runtime {
                    Some(runtime) => Path::new(runtime).join(name),
                    None => data.join("run"),
                };
                (data, run)
            }
        };
        Ok(Self { install, data, run })
    }

    /// Those of a client: without places of one's own, the machine's are meant.
    pub(crate) fn of_client(
        around: &Surroundings,
        dir: Option<&Path>,
        demo: bool,
    ) -> Outcome<Self> {
        let own = Self::choose(around, dir, demo)?;
        if dir.is_none() && own.install == Install::Personal && !own.data.exists() {
            let system = Surroundings { install: Install::System, ..around.clone() };
            let machine = Self::choose(&system, None, demo)?;
            if machine.data.exists() {
                return Ok(machine);
            }
        }
        Ok(own)
    }

    /// Fails when a socket's path is longer than the kernel's address holds.
    pub(crate) fn check(&self) -> Outcome {
        let longest = self.errand_socket(Origin::Operator);
        let length = longest.as_os_str().len();
        if length <= MAX_PATH_BYTES {
            return Ok(());
        }
        let what = format!(
            "the socket path {} has {length} bytes; a Unix socket's path has at most {MAX_PATH_BYTES}",
            longest.display()
        );
        Err(Failure::new(Code::Files, what).next("choose a shorter directory with --dir"))
    }

    /// `strongroom.toml`.
    pub(crate) fn settings(&self) -> PathBuf {
        self.data.join("strongroom.toml")
    }
    /// The keeper's own directory: store, keyring, journal.
    pub(crate) fn vault(&self) -> PathBuf {
        self.data.join("vault")
    }
    /// Certificates.
    pub(crate) fn tls(&self) -> PathBuf {
        self.data.join("tls")
    }
    /// The vault's public key as it was when the vault was made.
    pub(crate) fn pin(&self) -> PathBuf {
        self.data.join("vault.pub")
    }
    /// The key that signs the journal's checkpoints, as it was when the vault was made.
    pub(crate) fn audit_pin(&self) -> PathBuf {
        self.data.join("audit.pub")
    }
    /// The journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.data.join("vault/journal")
    }
    /// The first token.
    pub(crate) fn token(&self) -> PathBuf {
        self.data.join("token")
    }
    /// Ready-to-run examples.
    pub(crate) fn examples(&self) -> PathBuf {
        self.data.join("examples")
    }
    /// Exports for shells.
    pub(crate) fn environment(&self) -> PathBuf {
        self.data.join("env.sh")
    }
    /// The demonstration's provider.
    pub(crate) fn emulator(&self) -> PathBuf {
        self.data.join("emulator")
    }
    /// The demonstration's passphrase.
    pub(crate) fn demo_passphrase(&self) -> PathBuf {
        self.data.join("demo-passphrase")
    }
    /// What the schedule of backups made and removed.
    pub(crate) fn backups(&self) -> PathBuf {
        self.data.join("backups.json")
    }
    /// The lock of the one supervisor.
    pub(crate) fn lock(&self) -> PathBuf {
        self.data.join("up.lock")
    }
    /// Where the operator's tool talks to the keeper.
    pub(crate) fn operator_socket(&self) -> PathBuf {
        self.run.join("operator").join("operator.sock")
    }
    /// Where the gateway talks to the keeper.
    pub(crate) fn ask_socket(&self) -> PathBuf {
        self.run.join("ask").join("ask.sock")
    }
    /// Where a courier talks to the keeper.
    pub(crate) fn errand_socket(&self, origin: Origin) -> PathBuf {
        match origin {
            Origin::BuiltIn => self.run.join("errand").join("errand.sock"),
            Origin::Operator => self.run.join("errand-defined").join("errand-defined.sock"),
        }
    }
    /// Where the gateway talks to a courier.
    pub(crate) fn call_socket(&self, origin: Origin) -> PathBuf {
        match origin {
            Origin::BuiltIn => self.run.join("call").join("call.sock"),
            Origin::Operator => self.run.join("call-defined").join("call-defined.sock"),
        }
    }

    /// The directory of the other programs: the one named, else this program's own, else the
    /// system's. Own comes first so that all are of one build.
    pub(crate) fn binaries(&self, named: Option<&Path>) -> Outcome<PathBuf> {
        let mut places: Vec<PathBuf> = Vec::new();
        if let Some(named) = named {
            places.push(named.to_owned());
        } else {
            let own = std::env::current_exe().ok();
            places.extend(own.and_then(|exe| Some(exe.parent()?.to_owned())));
            places.push(SYSTEM_BINARIES.into());
        }
        let usable = |place: &&PathBuf| {
            place.join("strongroom-keeper").is_file()
                && (self.install == Install::Personal || open_to_all(place))
        };
        places.iter().find(usable).cloned().ok_or_else(|| {
            let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
            let what = format!(
                "no strongroom-keeper that the system users may run in {}",
                looked.join(" or ")
            );
            Failure::new(Code::Process, what).next(format!(
                "install the programs to {SYSTEM_BINARIES}, or name them: --binaries DIR"
            ))
        })
    }
}

/// Whether another uid can reach what is in a directory.
pub(crate) fn open_to_all(directory: &Path) -> bool {
    let canonical = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    canonical
        .ancestors()
        .all(|each| fs::metadata(each).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

fn personal_data(around: &Surroundings) -> Outcome<PathBuf> {
    match (&around.state_home, &around.home) {
        (Some(state), _) => Ok(PathBuf::from(state)),
        (None, Some(home)) => Ok(Path::new(home).join(".local").join("state")),
        (None, None) => {
            Err(Failure::new(Code::Files, "neither HOME nor XDG_STATE_HOME says where data goes")
                .next("name a directory: --dir DIR"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Install, Places, Surroundings};

    fn around(install: Install) -> Surroundings {
        Surroundings { install, home: Some("/home/a".into()), state_home: None, runtime: None }
    }

    #[test]
    fn root_has_the_system_places_and_the_demo_its_own() {
        let places = Places::choose(&around(Install::System), None, false).unwrap();
        assert_eq!(places.data, Path::new("/var/lib/strongroom"));
        assert_eq!(places.operator_socket(), Path::new("/run/strongroom/operator/operator.sock"));
        let demo = Places::choose(&around(Install::System), None, true).unwrap();
        assert_eq!(demo.data, Path::new("/var/lib/strongroom-demo"));
        assert_eq!(demo.run, Path::new("/run/strongroom-demo"));
    }

    #[test]
    fn a_person_has_places_below_their_home() {
        let mut person = around(Install::Personal);
        let places = Places::choose(&person, None, false).unwrap();
        assert_eq!(places.data, Path::new("/home/a/.local/state/strongroom"));
        assert_eq!(places.run, Path::new("/home/a/.local/state/strongroom/run"));
        person.state_home = Some("/s".into());
        person.runtime = Some("/run/user/1000".into());
        let places = Places::choose(&person, None, true).unwrap();
        assert_eq!(places.data, Path::new("/s/strongroom-demo"));
        assert_eq!(places.run, Path::new("/run/user/1000/strongroom-demo"));
        (person.home, person.state_home) = (None, None);
        assert!(Places::choose(&person, None, false).is_err());
    }

    #[test]
    fn a_named_directory_holds_everything() {
        for install in [Install::System, Install::Personal] {
            let places = Places::choose(&around(install), Some(Path::new("/d")), true).unwrap();
            assert_eq!(
                (places.data.as_path(), places.run.as_path()),
                (Path::new("/d"), Path::new("/d/run"))
            );
        }
    }

    #[test]
    fn a_socket_path_that_the_kernel_would_cut_is_refused_by_name() {
        let longest = "/run/errand-defined/errand-defined.sock";
        let room = super::MAX_PATH_BYTES - longest.len() - 1;
        let fits = format!("/{}", "d".repeat(room));
        let long = format!("/{}", "d".repeat(room + 1));
        let place = |dir: &str| {
            Places::choose(&around(Install::Personal), Some(Path::new(dir)), false).unwrap()
        };
        assert!(place(&fits).check().is_ok());
        let failure = place(&long).check().unwrap_err();
        assert!(failure.message.contains("107"), "{failure}");
    }
}
