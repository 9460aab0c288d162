//! What must stand before the first process: one supervisor, users, directories, settings, certificates, listeners.
//!
//! Invariant: every step can be repeated; a second start finds what the first one made.
//! Distrusts: a data directory that another user owns or can be reached through; settings and certificates that others can change.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use strongroom_policy::provider::Origin;
use strongroom_protocol::operator::SEAL_MARK;
use strongroom_sys::inherited::is_listening;
use time::OffsetDateTime;

use crate::authority::{self, Certificates, Issued};
use crate::failure::{Code, Failure, Outcome};
use crate::files;
use crate::out;
use crate::places::{Install, Places, open_to_all};
use crate::settings::{
    DEFAULT_PORT, FirstSettings, NO_NETNS, NO_UIDS, Settings, StoreKind, first_names,
};
use crate::trusted::{Trusted, is_ours};
use crate::up::Arguments;
use crate::up::accounts::{Accounts, GATEWAY_USER, KEEPER_USER, Separation};
use crate::up::role::{NOBODY, Role};

const LISTEN_SETTING: &str = "`listen` in strongroom.toml";
const METRICS_SETTING: &str = "`metrics` in strongroom.toml";

/// What the processes stand on.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Where things are.
    pub(crate) places: Places,
    /// As the file says.
    pub(crate) settings: Settings,
    /// What the gateway shows.
    pub(crate) certificates: Certificates,
    /// Who each process is.
    pub(crate) accounts: Accounts,
    /// Where the programs are.
    pub(crate) binaries: PathBuf,
    /// Where users come in; kept open over the gateway's restarts, as long as it listens.
    pub(crate) listener: TcpListener,
    /// Where metrics are read.
    pub(crate) metrics: TcpListener,
    /// What keeper and TPM helper talk over, an end each, where there is a TPM; kept open over their restarts.
    pub(crate) tpm: Option<(OwnedFd, OwnedFd)>,
    /// Who runs the database, where the records are in one.
    pub(crate) store_owner: Option<u32>,
    demo: bool,
    _lock: Flock<File>,
}

impl Ground {
    /// Makes what is missing.
    pub(crate) fn prepare(places: Places, arguments: &Arguments, demo: bool) -> Outcome<Self> {
        let binaries = places.binaries(arguments.binaries.as_deref())?;
        check_programs(&places, &binaries, demo)?;
        let outer = match places.install {
            Install::System => 0o755,
            Install::Personal => 0o700,
        };
        files::directory(&places.data, outer)?;
        let lock = lock(&places.lock())?;
        let settings = settings(&places, arguments.port)?;
        let accounts = accounts(&places, &settings)?;
        refuse_exposure(&places, &settings, &accounts)?;
        refuse_foreign_owner(&places, &accounts)?;
        directories(&places, &accounts, outer, demo)?;
        let certificates = certificates(&places, &settings, &accounts)?;
        let listener = listen(settings.listen, LISTEN_SETTING)?;
        let metrics = listen(settings.metrics, METRICS_SETTING)?;
        raise_descriptor_limit();
        let tpm = settings.tpm.tcti.as_ref().map(|_| pair(&places, &binaries)).transpose()?;
        let store_owner = match settings.store.kind {
            StoreKind::Postgres => settings.store.owner()?,
            StoreKind::Sled | StoreKind::Redb => None,
        };
        Ok(Self {
            places,
            settings,
            certificates,
            accounts,
            binaries,
            listener,
            metrics,
            tpm,
            store_owner,
            demo,
            _lock: lock,
        })
    }

    /// Listens anew where a gateway that was captured has shut a listener down, which it shares with every later one.
    pub(crate) fn listen_again(&mut self) -> Outcome {
        for (listener, address, setting) in [
            (&mut self.listener, self.settings.listen, LISTEN_SETTING),
            (&mut self.metrics, self.settings.metrics, METRICS_SETTING),
        ] {
            if !is_listening(listener) {
                out::warn(&format!("the gateway that ended had shut its listener down: {address}"));
                *listener = listen(address, setting)?;
            }
        }
        Ok(())
    }

    /// Whether this is the demonstration.
    pub(crate) const fn is_demo(&self) -> bool {
        self.demo
    }
}

/// Programs that others could replace would run with the keeper's rights.
fn check_programs(places: &Places, binaries: &Path, demo: bool) -> Outcome {
    let needed = |role: &Role| *role != Role::Tpm && (demo || *role != Role::Emulator);
    Role::ALL.into_iter().filter(needed).try_for_each(|role| check_program(places, binaries, role))
}

/// A way between keeper and TPM helper.
fn pair(places: &Places, binaries: &Path) -> Outcome<(OwnedFd, OwnedFd)> {
    check_program(places, binaries, Role::Tpm)?;
    let (keeper, helper) = UnixDatagram::pair()
        .map_err(|error| Failure::new(Code::Process, format!("the TPM's socket: {error}")))?;
    Ok((keeper.into(), helper.into()))
}

fn check_program(places: &Places, binaries: &Path, role: Role) -> Outcome {
    let program = binaries.join(role.program());
    if !program.is_file() {
        return Err(Failure::new(Code::Process, format!("{} is missing", program.display()))
            .next("build or install all programs, or name their place: --binaries DIR"));
    }
    if places.install == Install::System && !(is_ours(&program) && is_ours(binaries)) {
        let what = format!("{} can be changed by another user than root", program.display());
        return Err(Failure::new(Code::Process, what)
            .next("install the programs to /usr/local/lib/strongroom, owned by root"));
    }
    Ok(())
}

fn lock(path: &Path) -> Outcome<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::file(path, error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        Failure::new(Code::Process, "Strongroom is running here already").next("strongroom status")
    })
}

fn settings(places: &Places, port: Option<u16>) -> Outcome<Settings> {
    let path = places.settings();
    refuse_changeable(&path)?;
    if let Some(settings) = Settings::read(&path)? {
        let differs = port.filter(|port| *port != 0 && *port != settings.listen.port());
        return match differs {
            None => Ok(settings),
            Some(port) => {
                let listen = settings.listen;
                let what = format!("{} says listen = \"{listen}\", not {port}", path.display());
                Err(Failure::new(Code::Settings, what).next("change it there"))
            }
        };
    }
    let accept_missing = match places.install {
        Install::System => Vec::new(),
        Install::Personal => vec![NO_UIDS.to_owned(), NO_NETNS.to_owned()],
    };
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let first = FirstSettings {
        listen: free(local(port.unwrap_or(DEFAULT_PORT)))?,
        metrics: free(local(9464)).or_else(|_| free(local(0)))?,
        names: first_names(),
        accept_missing,
    };
    files::create(&path, first.write().as_bytes(), 0o644)?;
    out::say(&format!("wrote {}", path.display()));
    Settings::read(&path)?.ok_or_else(|| Failure::file(&path, "is gone"))
}

/// What others can change may have been changed already.
fn refuse_changeable(path: &Path) -> Outcome {
    let flaw = Trusted::public(path).flaw().map_err(|error| Failure::file(path, error))?;
    match flaw {
        None => Ok(()),
        Some(flaw) => {
            let next = format!("look at what is in it, then: {}", flaw.fix());
            Err(Failure::new(Code::Files, flaw.why).next(next))
        }
    }
}

/// The address if it is free; port 0 takes a free port once and for all.
fn free(address: SocketAddr) -> Outcome<SocketAddr> {
    let listener = listen(address, "--port")?;
    listener.local_addr().map_err(Failure::argument)
}

fn listen(address: SocketAddr, setting: &str) -> Outcome<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let next = match error.kind() {
            ErrorKind::AddrInUse => {
                format!("another program listens there; choose another port: {setting}")
            }
            _ => format!("correct {setting}"),
        };
        Failure::new(Code::Settings, format!("cannot listen on {address}: {error}")).next(next)
    })
}

fn accounts(places: &Places, settings: &Settings) -> Outcome<Accounts> {
    match places.install {
        Install::System if settings.accepts(NO_UIDS) => {
            out::warn("all processes run as root: accept_missing names \"uids\"");
            Ok(Accounts::shared())
        }
        Install::System => Accounts::separate(settings),
        Install::Personal if settings.accepts(NO_UIDS) => {
            out::say(
                "without root: all processes run as you (no separate users, no network namespaces). \
                 Other programs of yours can reach what you can; for real keys run it as root.",
            );
            Ok(Accounts::shared())
        }
        Install::Personal => Err(Failure::new(Code::Settings, "separate users need root")
            .next("run it as root, or accept_missing = [\"uids\", \"netns\"]")),
    }
}

fn refuse_exposure(places: &Places, settings: &Settings, accounts: &Accounts) -> Outcome {
    if accounts.separation == Separation::None && !settings.listen.ip().is_loopback() {
        let what =
            format!("with one user for all processes it does not listen on {}", settings.listen);
        return Err(
            Failure::new(Code::Settings, what).next("listen on 127.0.0.1, or run it as root")
        );
    }
    if accounts.separation == Separation::None {
        return Ok(());
    }
    if !is_ours(&places.data) {
        return Err(Failure::file(&places.data, "belongs to another user than root")
            .next(format!("chown root: {}", places.data.display())));
    }
    if !open_to_all(&places.data) {
        let what = "cannot be reached by the system users: a directory on the way is closed";
        return Err(Failure::file(&places.data, what)
            .next("choose a place outside home and private directories"));
    }
    Ok(())
}

/// The system users may have been removed and made again, or one user is to run all processes now: then the data is another
/// user's, who might have changed it. Whoever runs this knows; it is not taken back by itself.
fn refuse_foreign_owner(places: &Places, accounts: &Accounts) -> Outcome {
    let keeper = (accounts.keeper.0, KEEPER_USER, "the keeper");
    let gateway = (accounts.gateway.0, GATEWAY_USER, "the gateway");
    let entries = match fs::read_dir(places.vault()) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let entries = entries.map_err(|error| Failure::file(&places.vault(), error))?;
    let key = places.tls().join("key.pem");
    // Root notes there that an operator sealed the vault; nobody reads what is in the mark.
    let entries = entries.into_iter().filter(|entry| entry.file_name() != SEAL_MARK);
    let of_keeper = entries.map(|entry| (entry.path(), places.vault(), keeper));
    let of_gateway = (key.clone(), key, gateway);
    for (path, whole, (owner, name, who)) in of_keeper.chain([of_gateway]) {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) if found.uid() != owner.as_raw() => found.uid(),
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::file(&path, error)),
        };
        let user = match accounts.separation {
            Separation::Users => name.to_owned(),
            Separation::None => owner.to_string(),
        };
        let what = format!("belongs to uid {found}, and {who} runs as {user} (uid {owner})");
        let next = format!(
            "its users were removed, or accept_missing has changed; if nobody else was uid {found} since: \
             chown -R {user}: {}",
            whole.display()
        );
        return Err(Failure::file(&path, what).next(next));
    }
    Ok(())
}

fn directories(places: &Places, accounts: &Accounts, outer: u32, demo: bool) -> Outcome {
    files::directory(&places.run, outer)?;
    files::directory(&places.examples(), outer)?;
    let mut owned = vec![(places.vault(), accounts.keeper)];
    for name in ["operator", "ask", "errand", "errand-defined"] {
        owned.push((places.run.join(name), accounts.keeper));
    }
    for (name, origin) in [("call", Origin::BuiltIn), ("call-defined", Origin::Operator)] {
        owned.push((places.run.join(name), accounts.courier(origin)));
    }
    if demo {
        owned.push((places.emulator(), NOBODY));
    }
    for (path, owner) in owned {
        files::directory(&path, 0o700)?;
        if let Some(owner) = accounts.identity(owner) {
            files::give(&path, owner)?;
        }
    }
    Ok(())
}

fn certificates(
    places: &Places,
    settings: &Settings,
    accounts: &Accounts,
) -> Outcome<Certificates> {
    refuse_changeable(&places.tls())?;
    let gateway = accounts.identity(accounts.gateway);
    let now = OffsetDateTime::now_utc();
    let (certificates, issued) = authority::provide(places, settings, gateway, now)?;
    match (issued, &certificates.authority) {
        (Issued::First, Some(path)) => {
            out::say(&format!("made a local certificate authority: {}", path.display()));
        }
        (Issued::Again, Some(path)) => out::warn(&format!(
            "a NEW local certificate authority was made; programs that trust a copy of the old one \
             need {} again",
            path.display()
        )),
        (Issued::Own | Issued::Kept, _) | (_, None) => {}
    }
    Ok(certificates)
}

/// Each lane and each caller takes a descriptor; children inherit the limit.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err()
    {
        out::warn("the limit of open files could not be raised");
    }
}
