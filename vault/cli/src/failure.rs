//! Why a command did not do what it was asked: a stable code, one sentence, the next step, an exit code.
//!
//! Invariant: no secret and no byte of one is in a message.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::path::Path;

use strongroom_protocol::operator::Fault;

/// What a command ends with.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// A failure as it is told to people and scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// As in `SR-CLI-001`, or the keeper's own.
    pub(crate) code: Cow<'static, str>,
    /// One sentence.
    pub(crate) message: String,
    /// What to do.
    pub(crate) next: Option<String>,
    /// The exit code.
    pub(crate) exit: u8,
}

/// Every code of this program; the keeper has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Nobody listens on the operator's socket.
    NotRunning,
    /// The conversation broke off or made no sense.
    Link,
    /// The file system refused.
    Files,
    /// `strongroom.toml` is not as it must be.
    Settings,
    /// An argument is not what it should be.
    Argument,
    /// No passphrase, share or key was given.
    NoSecret,
    /// The vault's key is not the pinned one.
    Pin,
    /// What was shown is not what the upload is bound to.
    Destination,
    /// A destructive command was not confirmed.
    Unconfirmed,
    /// A process did not start.
    Process,
    /// The store's check refused.
    Store,
    /// System users could not be made.
    Accounts,
    /// Certificates could not be made or read.
    Tls,
    /// The provider did not accept the credential.
    Rejected,
    /// `doctor` found something that is not as promised.
    Unhealthy,
    /// Where backups go is not the place that was prepared for them.
    BackupPlace,
    /// No audit key is pinned, or it is not one.
    AuditPin,
    /// A witnessed checkpoint is not to be believed.
    Witnessed,
    /// There is no such entry, or no checkpoint covers it yet.
    NoEntry,
    /// A proof proves nothing.
    Proof,
    /// The journal's files are not what its checkpoint covers, or there is no checkpoint.
    Journal,
    /// A witness's directory is not one, or is in use.
    WitnessState,
    /// The vault shows fewer entries than it has shown before.
    WitnessSmaller,
    /// The vault shows another history than it has shown before.
    WitnessForked,
    /// The checkpoint is not by the key that the witness was made for.
    WitnessUnsigned,
    /// The other end of a relay wants more than a witness may.
    WitnessRelay,
    /// Somebody pressed Control-C instead of answering.
    Cancelled,
}

impl Code {
    /// The code as it is printed.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::NotRunning => "SR-CLI-001",
            Self::Link => "SR-CLI-002",
            Self::Files => "SR-CLI-003",
            Self::Settings => "SR-CLI-004",
            Self::Argument => "SR-CLI-005",
            Self::NoSecret => "SR-CLI-006",
            Self::Pin => "SR-CLI-007",
            Self::Destination => "SR-CLI-008",
            Self::Unconfirmed => "SR-CLI-009",
            Self::Process => "SR-CLI-010",
            Self::Store => "SR-CLI-011",
            Self::Accounts => "SR-CLI-012",
            Self::Tls => "SR-CLI-013",
            Self::Rejected => "SR-CLI-014",
            Self::Unhealthy => "SR-CLI-015",
            Self::BackupPlace => "SR-BACKUP-019",
            Self::AuditPin => "SR-AUDIT-001",
            Self::Witnessed => "SR-AUDIT-002",
            Self::NoEntry => "SR-AUDIT-003",
            Self::Proof => "SR-AUDIT-004",
            Self::Journal => "SR-AUDIT-005",
            Self::WitnessState => "SR-WITNESS-001",
            Self::WitnessSmaller => "SR-WITNESS-013",
            Self::WitnessForked => "SR-WITNESS-014",
            Self::WitnessUnsigned => "SR-WITNESS-015",
            Self::WitnessRelay => "SR-WITNESS-002",
            Self::Cancelled => "SR-CLI-016",
        }
    }
}

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code.text().into(), message: message.into(), next: None, exit: 1 }
    }

    /// Names the next step.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Makes the commands of the next step speak of the same install as the command that failed.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.next = self.next.map(|next| speak_of(place, &next));
        self
    }

    /// Ends with another exit code.
    pub(crate) fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// The file system refused something about `path`.
    pub(crate) fn file(path: &Path, error: impl Display) -> Self {
        Self::new(Code::Files, format!("{}: {error}", path.display()))
    }

    /// An argument is not what it should be.
    pub(crate) fn argument(error: impl Display) -> Self {
        Self::new(Code::Argument, error.to_string())
    }

    /// The keeper answered something else than was asked.
    pub(crate) fn unexpected() -> Self {
        Self::new(Code::Link, "the keeper's answer does not fit the question")
            .next("check that all Strongroom programs are of one version")
    }
}

/// Makes the commands in a text speak of the install that `place` names.
pub(crate) fn speak_of(place: &str, text: &str) -> String {
    if place.is_empty() {
        return text.to_owned();
    }
    VERBS.iter().fold(text.to_owned(), |text, verb| {
        text.replace(&format!("strongroom {verb}"), &format!("strongroom {place} {verb}"))
    })
}

/// The commands that next steps name.
const VERBS: [&str; 22] = [
    "key",
    "share",
    "seal-ways",
    "up",
    "init",
    "unseal",
    "seal",
    "status",
    "doctor",
    "credential",
    "provider",
    "token",
    "user",
    "workspace",
    "policy",
    "audit",
    "backup",
    "store",
    "witness",
    "usage",
    "env",
    "tpm",
];

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let Fault { code, message, next, exit } = fault;
        Self { code: code.into(), message, next, exit: exit.code() }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.next {
            Some(next) => write!(f, "\n  next: {next}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Failure};

    #[test]
    fn the_next_step_speaks_of_the_same_install() {
        let failure = || {
            Failure::new(Code::Link, "x").next("run 'strongroom unseal', then strongroom status")
        };
        assert_eq!(
            failure().at("--demo").next.as_deref(),
            Some("run 'strongroom --demo unseal', then strongroom --demo status")
        );
        assert_eq!(failure().at("").next, failure().next);
        let placed = Failure::new(Code::Link, "x").next("strongroom --demo up");
        assert_eq!(placed.at("--demo").next.as_deref(), Some("strongroom --demo up"));
    }
}
