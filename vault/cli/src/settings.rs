//! `strongroom.toml`: every setting there is, on one page.
//!
//! Invariant: an unknown key, or a value that is not what it should be, stops the start.
//! Trusts: whoever may write the file (root, or the one person).

mod guarded;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::User;
use serde::Deserialize;
use strongroom_policy::name::HostName;
use strongroom_protocol::tpm::PcrSet;
use strongroom_sys::confine::Layer;

use crate::backup::Recipient;
use crate::failure::{Code, Failure, Outcome};
use crate::{files, render};
pub(crate) use guarded::Guarded;

/// The settings of one install.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where the gateway listens.
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    /// How users reach it; also what providers' upload URLs are rewritten to.
    pub(crate) public_url: Option<String>,
    /// Whom to tell of a vulnerability: `/.well-known/security.txt` says it to everybody.
    pub(crate) security_contact: Option<String>,
    /// Names and addresses in the certificate.
    #[serde(default)]
    pub(crate) names: Vec<HostName>,
    /// Where the gateway's metrics are served.
    #[serde(default = "default_metrics")]
    pub(crate) metrics: SocketAddr,
    /// Connections between gateway and courier: calls that can run at once.
    #[serde(default = "default_lanes")]
    pub(crate) lanes: u16,
    /// Protection layers that may be missing.
    #[serde(default)]
    pub(crate) accept_missing: Vec<String>,
    /// Certificate authorities that the courier trusts for the built-in providers too, PEM files.
    #[serde(default)]
    pub(crate) extra_roots: Vec<PathBuf>,
    /// The gateway's certificate.
    #[serde(default)]
    pub(crate) tls: Tls,
    /// How the courier finds providers.
    #[serde(default)]
    pub(crate) dns: Dns,
    /// The machine's TPM.
    #[serde(default)]
    pub(crate) tpm: Tpm,
    /// Backups by the clock; none without it.
    pub(crate) backup: Option<Backup>,
    /// What keeps the vault's records.
    #[serde(default)]
    pub(crate) store: Store,
    /// How the journal is written.
    #[serde(default)]
    pub(crate) journal: Journal,
}

/// How the journal is written, and who else is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    /// When an entry is on the disk.
    #[serde(default)]
    pub(crate) durability: Durability,
    /// Who else is told.
    #[serde(default)]
    pub(crate) sink: Vec<Sink>,
}

/// When a journal entry is on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Durability {
    /// At most 200 ms after it was answered.
    #[default]
    Group,
    /// Before it is answered.
    Strict,
}

/// Who else is told what stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sink {
    /// How it is told.
    pub(crate) kind: SinkKind,
    /// Where: the log's socket, or a file.
    pub(crate) path: PathBuf,
    /// Whether service stops when it takes nothing.
    #[serde(default)]
    pub(crate) required: bool,
}

/// How a sink is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SinkKind {
    /// RFC 5424 datagrams to a Unix socket.
    Syslog,
    /// Lines of OCSF JSON appended to a file.
    Ocsf,
}

/// Most sinks.
const MAX_SINKS: usize = 8;

impl Durability {
    /// As the keeper's command line has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Strict => "strict",
        }
    }
}

impl Sink {
    /// As the keeper's command line has it.
    pub(crate) fn argument(&self) -> String {
        let kind = match self.kind {
            SinkKind::Syslog => "syslog",
            SinkKind::Ocsf => "ocsf",
        };
        let need = if self.required { "required" } else { "optional" };
        format!("{kind},{need},{}", self.path.display())
    }
}

/// What keeps the vault's records: chosen before `init`, and the vault keeps to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// Which implementation.
    #[serde(default)]
    pub(crate) kind: StoreKind,
    /// With PostgreSQL: the directory of the server's socket.
    pub(crate) socket: Option<PathBuf>,
    /// With PostgreSQL: the number in the socket's name.
    pub(crate) port: Option<u16>,
    /// With PostgreSQL: the database.
    pub(crate) database: Option<String>,
    /// With PostgreSQL: the Unix user that the server runs as.
    pub(crate) owner: Option<String>,
    /// With PostgreSQL: the role, which the keeper's user must be let in as without a password.
    pub(crate) role: Option<String>,
}

impl Store {
    fn check(&self) -> Result<(), String> {
        let named = self.socket.is_some() || self.port.is_some();
        let named = named || self.database.is_some() || self.role.is_some() || self.owner.is_some();
        match self.kind {
            StoreKind::Sled | StoreKind::Redb if named => {
                Err("store: socket, port, database, owner and role belong to kind = \"postgres\""
                    .to_owned())
            }
            StoreKind::Sled | StoreKind::Redb => Ok(()),
            StoreKind::Postgres if self.database.is_none() => {
                Err("store.database: the database's name is missing".to_owned())
            }
            StoreKind::Postgres if self.socket().is_absolute() => Ok(()),
            StoreKind::Postgres => {
                Err("store.socket is not the whole path of a directory".to_owned())
            }
        }
    }

    /// The directory of the server's socket; by default Debian's.
    pub(crate) fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(DEBIAN_SOCKET))
    }
}

impl Store {
    /// The uid of the server's user.
    pub(crate) fn owner(&self) -> Outcome<Option<u32>> {
        owner_uid(self.owner.as_deref())
    }
}

/// The uid of a database server's user: the one that is named, or Debian's if there is such a user.
pub(crate) fn owner_uid(named: Option<&str>) -> Outcome<Option<u32>> {
    let name = named.unwrap_or(DEBIAN_OWNER);
    let found = User::from_name(name).map_err(|error| Failure::argument(error.to_string()))?;
    match found {
        Some(user) => Ok(Some(user.uid.as_raw())),
        None if named.is_none() => Ok(None),
        None => {
            let what = format!("there is no user called {name}");
            Err(Failure::new(Code::Settings, what).next("name the user that the server runs as"))
        }
    }
}

/// Whom Debian's server runs as.
const DEBIAN_OWNER: &str = "postgres";
/// Where Debian's server listens.
pub(crate) const DEBIAN_SOCKET: &str = "/run/postgresql";

/// The implementations of the store, as the keeper's `--store` spells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    /// sled, embedded.
    #[default]
    Sled,
    /// redb, embedded.
    Redb,
    /// A PostgreSQL server on this machine.
    Postgres,
}

impl StoreKind {
    /// The keeper's word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Postgres => "postgres",
        }
    }
}

/// Backups by the clock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backup {
    /// Where they go; best on another disk.
    pub(crate) directory: PathBuf,
    /// How often.
    #[serde(default = "default_every", deserialize_with = "interval")]
    pub(crate) every: Duration,
    /// How many are kept.
    #[serde(default = "default_keep")]
    pub(crate) keep: u32,
    /// age keys that they are encrypted to as well.
    #[serde(default)]
    pub(crate) recipients: Vec<String>,
}

const fn default_every() -> Duration {
    Duration::from_hours(24)
}

const fn default_keep() -> u32 {
    14
}

fn interval<'d, D: serde::Deserializer<'d>>(source: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(source)?;
    render::duration(&text).map_err(|failure| serde::de::Error::custom(failure.message))
}

/// A certificate of one's own instead of the local authority's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// Certificate chain, PEM.
    pub(crate) cert: Option<PathBuf>,
    /// Key, PEM; readable by the gateway's user.
    pub(crate) key: Option<PathBuf>,
}

/// The machine's TPM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tpm {
    /// Where it is: `device:PATH`, or a software TPM's `swtpm:ADDRESS:PORT`, whose control channel is at the next port.
    pub(crate) tcti: Option<String>,
    /// Registers that `tpm seal` takes unless it is told others.
    pub(crate) pcrs: Vec<u8>,
    /// Whether `up` opens a vault by its TPM without anybody there.
    pub(crate) unattended: bool,
    /// Whether a vault that is not sealed to the TPM is refused: a copy from before it was. Set it after `tpm seal`.
    pub(crate) required: bool,
}

impl Default for Tpm {
    fn default() -> Self {
        Self { tcti: None, pcrs: vec![7], unattended: false, required: false }
    }
}

/// Names to addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dns {
    /// Name servers instead of the system's.
    #[serde(default)]
    pub(crate) servers: Vec<SocketAddr>,
    /// Names with fixed addresses.
    #[serde(default)]
    pub(crate) hosts: BTreeMap<HostName, IpAddr>,
}

/// The port that the quick start prints.
pub(crate) const DEFAULT_PORT: u16 = 8443;
/// Each lane is one connection and its buffers in both processes.
const MAX_LANES: u16 = 4096;
/// The processes share one uid.
pub(crate) const NO_UIDS: &str = "uids";
/// The processes share one network.
pub(crate) const NO_NETNS: &str = "netns";

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT))
}

fn default_metrics() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9464))
}

const fn default_lanes() -> u16 {
    512
}

/// What is written on the first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstSettings {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Where to serve metrics.
    pub(crate) metrics: SocketAddr,
    /// Names in the certificate.
    pub(crate) names: Vec<HostName>,
    /// What is reduced.
    pub(crate) accept_missing: Vec<String>,
}

impl Settings {
    /// Reads the file; `None` when there is none.
    pub(crate) fn read(path: &Path) -> Outcome<Option<Self>> {
        let Some(text) = files::read(path)? else { return Ok(None) };
        Self::parse(&text).map(Some).map_err(|error| {
            Failure::new(Code::Settings, format!("{}: {error}", path.display()))
                .next("correct the file; nothing was started")
        })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.public_url {
            check_public_url(url)?;
        }
        if self.security_contact.as_ref().is_some_and(|contact| !is_contact(contact)) {
            return Err("security_contact is mailto:ADDRESS or https://PAGE".to_owned());
        }
        if !(1..=MAX_LANES).contains(&self.lanes) {
            return Err(format!("lanes must be 1 to {MAX_LANES}"));
        }
        if self.tpm.tcti.as_ref().is_some_and(|tcti| !is_place_of_tpm(tcti)) {
            return Err(
                "tpm.tcti is device:/PATH or swtpm:ADDRESS:PORT (libtss2 knows no path of \
                        a software TPM's socket)"
                    .to_owned(),
            );
        }
        if PcrSet::of(&self.tpm.pcrs).is_err() {
            return Err("tpm.pcrs are registers from 0 to 23, at least one".to_owned());
        }
        if self.tpm.unattended && self.tpm.tcti.is_none() {
            return Err("tpm.unattended needs tpm.tcti".to_owned());
        }
        if self.tpm.required && self.tpm.tcti.is_none() {
            return Err("tpm.required needs tpm.tcti".to_owned());
        }
        if let Some(backup) = &self.backup {
            check_backup(backup)?;
        }
        if self.journal.sink.len() > MAX_SINKS {
            return Err(format!("there are at most {MAX_SINKS} journal.sink"));
        }
        if let Some(sink) = self.journal.sink.iter().find(|sink| !sink.path.is_absolute()) {
            return Err(format!("journal.sink: `{}` is not absolute", sink.path.display()));
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return Err("tls.cert and tls.key belong together".to_owned());
        }
        self.store.check()?;
        let known = |name: &&String| {
            [NO_UIDS, NO_NETNS].contains(&name.as_str()) || name.parse::<Layer>().is_ok()
        };
        match self.accept_missing.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let layers = Layer::ALL.map(Layer::name).join(", ");
                Err(format!("accept_missing: `{name}` is not one of uids, netns, {layers}"))
            }
        }
    }

    /// How users reach the gateway, without a final slash.
    pub(crate) fn public_url(&self) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if self.listen.port() == 443 => "https://localhost".to_owned(),
            None => format!("https://localhost:{}", self.listen.port()),
        }
    }

    /// The layers that the processes may miss; the supervisor's own words are not theirs.
    pub(crate) fn missing_layers(&self) -> Vec<&str> {
        let layers = self.accept_missing.iter().map(String::as_str);
        layers.filter(|name| name.parse::<Layer>().is_ok()).collect()
    }

    /// The same, with nothing missing.
    pub(crate) fn strict(&self) -> Self {
        Self { accept_missing: Vec::new(), ..self.clone() }
    }

    /// Whether something may be missing.
    pub(crate) fn accepts(&self, missing: &str) -> bool {
        self.accept_missing.iter().any(|name| name == missing)
    }
}

fn check_backup(backup: &Backup) -> Result<(), String> {
    if !backup.directory.is_absolute() {
        return Err("backup.directory must be an absolute path".to_owned());
    }
    if backup.every.is_zero() || backup.keep == 0 {
        return Err("backup.every and backup.keep must be more than nothing".to_owned());
    }
    backup.recipients.iter().try_for_each(|text| Recipient::parse(text).map(drop))
}

/// `https://host[:port]`, nothing after it: routes are appended to it.
/// As the TPM helper reads it.
fn is_place_of_tpm(tcti: &str) -> bool {
    match tcti.split_once(':') {
        Some(("device", path)) => path.starts_with('/'),
        Some(("swtpm", address)) => address.parse::<SocketAddr>().is_ok(),
        Some(_) | None => false,
    }
}

/// RFC 9116, 2.5.3: a URI. It stands on a line of its own.
fn is_contact(contact: &str) -> bool {
    let rest = contact.strip_prefix("mailto:").or_else(|| contact.strip_prefix("https://"));
    let is_plain = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_graphic());
    rest.is_some_and(|rest| (1..=MAX_CONTACT_BYTES).contains(&rest.len()) && is_plain(rest))
}
const MAX_CONTACT_BYTES: usize = 256;

fn check_public_url(url: &str) -> Result<(), String> {
    let bad = || format!("public_url: `{url}` is not https://host or https://host:port");
    let rest = url.trim_end_matches('/').strip_prefix("https://").ok_or_else(bad)?;
    let (host, port) = match rest.strip_prefix('[') {
        Some(literal) => literal.split_once(']').ok_or_else(bad)?,
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let port_fits = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    if port_fits && HostName::parse(host).is_ok() { Ok(()) } else { Err(bad()) }
}

impl FirstSettings {
    /// The commented file.
    pub(crate) fn write(&self) -> String {
        let list = |items: &[String]| {
            let quoted: Vec<_> = items.iter().map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let names: Vec<_> = self.names.iter().map(ToString::to_string).collect();
        let mut text = TEMPLATE.to_owned();
        for (mark, value) in [
            ("{listen}", self.listen.to_string()),
            ("{port}", self.listen.port().to_string()),
            ("{metrics}", self.metrics.to_string()),
            ("{names}", list(&names)),
            ("{accept_missing}", list(&self.accept_missing)),
        ] {
            text = text.replace(mark, &value);
        }
        text
    }
}

/// The names that a machine's certificate starts with.
pub(crate) fn first_names() -> Vec<HostName> {
    let mut names = String::from("localhost 127.0.0.1 ::1");
    if let Ok(hostname) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        // Writing to a string does not fail.
        let _infallible = write!(names, " {}", hostname.trim());
    }
    let mut parsed: Vec<HostName> = Vec::new();
    for name in names.split_whitespace().filter_map(|name| HostName::parse(name).ok()) {
        if !parsed.contains(&name) {
            parsed.push(name);
        }
    }
    parsed
}

const TEMPLATE: &str = include_str!("templates/strongroom.toml");

#[cfg(test)]
mod tests {
    use super::{FirstSettings, Settings, StoreKind, first_names};

    fn first() -> FirstSettings {
        FirstSettings {
            listen: "127.0.0.1:9443".parse().unwrap(),
            metrics: "127.0.0.1:9999".parse().unwrap(),
            names: first_names(),
            accept_missing: vec!["uids".into(), "netns".into()],
        }
    }

    #[test]
    fn the_first_file_reads_back_as_it_was_meant() {
        let settings = Settings::parse(&first().write()).unwrap();
        assert_eq!(settings.listen.port(), 9443);
        assert_eq!(settings.metrics.port(), 9999);
        assert_eq!(settings.names, first_names());
        assert!(settings.accepts("uids") && settings.accepts("netns"));
        assert!(settings.missing_layers().is_empty());
        assert_eq!(settings.public_url(), "https://localhost:9443");
    }

    #[test]
    fn every_commented_setting_is_a_setting() {
        let text = first().write();
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n");
        assert_ne!(text, uncommented);
        // The one setting whose commented lines belong together.
        let settings = Settings::parse(&uncommented).unwrap();
        assert_eq!(settings.store.kind, StoreKind::Postgres);
        assert!(settings.security_contact.is_some());
        assert!(settings.public_url.is_some() && settings.tls.key.is_some());
        assert_eq!((settings.dns.hosts.len(), settings.dns.servers.len()), (1, 1));
        assert_eq!(settings.extra_roots.len(), 1);
        assert_eq!(settings.journal.sink[0].argument(), "syslog,optional,/dev/log");
        assert_eq!(
            settings.journal.sink[1].argument(),
            "ocsf,required,/var/log/strongroom/audit.json"
        );
        assert_eq!(settings.journal.durability, super::Durability::Strict);
    }

    #[test]
    fn an_unknown_key_stops_the_start() {
        for bad in ["proxy = \"x\"", "[tls]\ncrt = \"x\"", "[dns]\nports = 1", "lsiten = \"x\""] {
            assert!(Settings::parse(bad).unwrap_err().contains("unknown field"), "{bad}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_stops_the_start() {
        for bad in [
            "listen = \"8443\"",
            "public_url = \"http://a\"",
            "security_contact = \"security@example.com\"",
            "security_contact = \"mailto:a\\nContact: b\"",
            "security_contact = \"mailto:\"",
            "public_url = \"https://a/b\"",
            "public_url = \"https://a@b\"",
            "lanes = 0",
            "lanes = 5000",
            "accept_missing = [\"sandbox\"]",
            "names = [\"*.example.com\"]",
            "[tls]\ncert = \"/c\"",
            "[store]\nkind = \"files\"",
            "[store]\nkind = \"postgres\"",
            "[store]\nkind = \"redb\"\ndatabase = \"d\"",
            "[store]\nkind = \"redb\"\nowner = \"postgres\"",
            "[store]\nkind = \"postgres\"\ndatabase = \"d\"\nsocket = \"run\"",
            "[store]\nkind = \"postgres\"\ndatabase = \"d\"\npassword = \"p\"",
            "[tpm]\ntcti = \"/dev/tpmrm0\"",
            "[tpm]\ntcti = \"device:tpmrm0\"",
            "[tpm]\ntcti = \"swtpm:/run/swtpm\"",
            "[tpm]\ntcti = \"swtpm:localhost:2321\"",
            "[tpm]\npcrs = []",
            "[tpm]\npcrs = [24]",
            "[tpm]\nunattended = true",
            "[tpm]\nrequired = true",
            "[backup]\nkeep = 3",
            "[backup]\ndirectory = \"b\"",
            "[backup]\ndirectory = \"/b\"\nevery = \"often\"",
            "[backup]\ndirectory = \"/b\"\nkeep = 0",
            "[backup]\ndirectory = \"/b\"\nrecipients = [\"age1nonsense\"]",
            "[journal]\ndurability = \"none\"",
            "[[journal.sink]]\nkind = \"kafka\"\npath = \"/x\"",
            "[[journal.sink]]\nkind = \"ocsf\"\npath = \"x\"",
            "[[journal.sink]]\nkind = \"ocsf\"\npath = \"/x\"\nneeded = true",
            "[dns.hosts]\n\"api.openai.com\" = \"localhost\"",
        ] {
            assert!(Settings::parse(bad).is_err(), "{bad}");
        }
        for good in [
            "",
            "[store]\nkind = \"redb\"",
            "[store]\nkind = \"postgres\"\ndatabase = \"d\"",
            "public_url = \"https://[::1]:1/\"",
            "public_url = \"https://a.b:443\"",
        ] {
            assert!(Settings::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_missing_file_is_no_error_and_a_bad_one_names_itself() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("strongroom.toml");
        assert_eq!(Settings::read(&path).unwrap(), None);
        std::fs::write(&path, "x = 1").unwrap();
        let failure = Settings::read(&path).unwrap_err();
        assert!(failure.code == "SR-CLI-004" && failure.message.contains("strongroom.toml"));
    }
}
