//! The command line, as the supervisor writes it. All settings of this process stand here.
//!
//! Invariant: an unknown or incomplete argument stops the start; no setting is a secret.

use std::os::fd::RawFd;
use std::path::PathBuf;

use strongroom_sys::confine::Layer;

/// How the process was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `--listener-fd N`: the inherited public TCP listener.
    pub listener_fd: RawFd,
    /// `--cert FILE`: the certificate chain, PEM.
    pub cert: PathBuf,
    /// `--key FILE`: its private key, PEM.
    pub key: PathBuf,
    /// `--ask PATH`: the keeper's socket.
    pub ask: PathBuf,
    /// `--call PATH`: the socket of the courier of built-in providers.
    pub call: PathBuf,
    /// `--call-defined PATH`: that of the courier of operator-defined ones.
    pub call_defined: PathBuf,
    /// `--lanes N`: calls at a time to each courier, 1 to 4096; one connection more is opened as a sentinel.
    pub lanes: usize,
    /// `--max-connections N`: 1 to 65536.
    pub max_connections: usize,
    /// `--metrics-listener-fd N`: an inherited local TCP listener for `GET /metrics`.
    pub metrics_listener_fd: Option<RawFd>,
    /// `--ready-fd N`: an inherited Unix stream; `ready` and a newline are written when calls are accepted.
    pub ready_fd: Option<RawFd>,
    /// `--security-contact URI`, `mailto:` or `https:`: whom `/.well-known/security.txt` names; without it no such page.
    pub security_contact: Option<String>,
    /// `--accept-missing LAYER`, repeatable: confinement layers that this kernel may lack.
    pub accept_missing: Vec<Layer>,
}

/// Why the arguments are not settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// No such flag.
    #[error("unknown argument '{0}'")]
    Unknown(String),
    /// A flag at the end, without its value.
    #[error("{0} needs a value")]
    NoValue(String),
    /// A value that the flag does not take.
    #[error("{flag}: '{value}' is not {expected}")]
    Value {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
    /// A flag that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// Concurrent calls of a courier: each lane is one descriptor here and one there.
const DEFAULT_LANES: usize = 512;
const DEFAULT_CONNECTIONS: usize = 4096;

impl Settings {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// See [`BadSetting`].
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, BadSetting> {
        let mut found = Found::default();
        let mut arguments = arguments;
        while let Some(flag) = arguments.next() {
            if !FLAGS.contains(&flag.as_str()) {
                return Err(BadSetting::Unknown(flag));
            }
            let value = arguments.next().ok_or_else(|| BadSetting::NoValue(flag.clone()))?;
            found.take(flag, value)?;
        }
        found.settings()
    }
}

const FLAGS: [&str; 12] = [
    "--listener-fd",
    "--cert",
    "--key",
    "--ask",
    "--call",
    "--call-defined",
    "--lanes",
    "--max-connections",
    "--metrics-listener-fd",
    "--ready-fd",
    "--security-contact",
    "--accept-missing",
];

#[derive(Default)]
struct Found {
    listener_fd: Option<RawFd>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ask: Option<PathBuf>,
    call: Option<PathBuf>,
    call_defined: Option<PathBuf>,
    lanes: Option<usize>,
    max_connections: Option<usize>,
    metrics_listener_fd: Option<RawFd>,
    ready_fd: Option<RawFd>,
    contact: Option<String>,
    accept_missing: Vec<Layer>,
}

impl Found {
    fn take(&mut self, flag: String, value: String) -> Result<(), BadSetting> {
        let wrong = |expected| {
            let (flag, value) = (flag.clone(), value.clone());
            BadSetting::Value { flag, value, expected }
        };
        let descriptor = || value.parse().map_err(|_| wrong("a descriptor"));
        let count = |most| {
            let number = value.parse().ok().filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| wrong("a number in range"))
        };
        match flag.as_str() {
            "--listener-fd" => self.listener_fd = Some(descriptor()?),
            "--metrics-listener-fd" => self.metrics_listener_fd = Some(descriptor()?),
            "--ready-fd" => self.ready_fd = Some(descriptor()?),
            "--cert" => self.cert = Some(value.into()),
            "--key" => self.key = Some(value.into()),
            "--ask" => self.ask = Some(value.into()),
            "--call" => self.call = Some(value.into()),
            "--call-defined" => self.call_defined = Some(value.into()),
            "--security-contact" => self.contact = Some(value),
            "--lanes" => self.lanes = Some(count(4096)?),
            "--max-connections" => self.max_connections = Some(count(65_536)?),
            "--accept-missing" => {
                self.accept_missing.push(value.parse().map_err(|_| wrong("a layer"))?);
            }
            _ => return Err(BadSetting::Unknown(flag)),
        }
        Ok(())
    }

    fn settings(self) -> Result<Settings, BadSetting> {
        let missing = BadSetting::Missing;
        Ok(Settings {
            listener_fd: self.listener_fd.ok_or(missing("--listener-fd"))?,
            cert: self.cert.ok_or(missing("--cert"))?,
            key: self.key.ok_or(missing("--key"))?,
            ask: self.ask.ok_or(missing("--ask"))?,
            call: self.call.ok_or(missing("--call"))?,
            call_defined: self.call_defined.ok_or(missing("--call-defined"))?,
            lanes: self.lanes.unwrap_or(DEFAULT_LANES),
            max_connections: self.max_connections.unwrap_or(DEFAULT_CONNECTIONS),
            metrics_listener_fd: self.metrics_listener_fd,
            ready_fd: self.ready_fd,
            security_contact: self.contact,
            accept_missing: self.accept_missing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{BadSetting, Settings};

    fn parse(line: &str) -> Result<Settings, BadSetting> {
        Settings::parse(line.split_whitespace().map(ToOwned::to_owned))
    }

    const NEEDED: &str = "--listener-fd 3 --cert c.pem --key k.pem --ask a.sock --call c.sock \
                          --call-defined d.sock";

    #[test]
    fn what_is_needed_is_enough() {
        let settings = parse(NEEDED).unwrap();
        assert_eq!((settings.listener_fd, settings.lanes), (3, 512));
        let more = parse(&format!("{NEEDED} --security-contact a"));
        assert_eq!(more.unwrap().security_contact.as_deref(), Some("a"));
        let more = parse(&format!("{NEEDED} --lanes 8 --ready-fd 4 --accept-missing seccomp"));
        assert_eq!(more.unwrap().accept_missing.len(), 1);
    }

    #[test]
    fn what_is_unknown_missing_or_out_of_range_stops_the_start() {
        assert_eq!(parse(""), Err(BadSetting::Missing("--listener-fd")));
        for bad in [
            "--security-contact",
            "--lanes 0",
            "--lanes 9999",
            "--lanes",
            "--verbose x",
            "--accept-missing x",
            "x",
        ] {
            assert!(parse(&format!("{NEEDED} {bad}")).is_err(), "{bad}");
        }
    }
}
