//! The vault at a start: made if there is none, opened if somebody can be asked; then the first person and token.
//!
//! Invariant: the passphrase is wiped before the first process that talks to the network is started.
//! Invariant: a vault that was here before and is not any more is never made anew in silence.
//! Invariant: what an operator sealed is opened by somebody who types, or by the demonstration's own passphrase.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use strongroom_policy::name::Label;
use strongroom_policy::rules::{Choice, TokenScope};
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::sealing::WayRow;
use strongroom_protocol::operator::{Answer, Request, SealKind, Status, TokenWish};

use crate::audit::pinned;
use crate::failure::{Code, Failure, Outcome};
use crate::init;
use crate::link::Link;
use crate::out;
use crate::parts;
use crate::pick;
use crate::pin;
use crate::prompt::{self, Typed};
use crate::seal::{self, Unsealed};
use crate::status;
use crate::token;
use crate::up::Arguments;
use crate::up::demo;
use crate::up::examples;
use crate::up::ground::Ground;
use crate::up::supervisor::Supervisor;
use crate::up::tell;
use crate::user;

/// Whether calls can be made after the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vault {
    /// The vault is open.
    Open,
    /// It is open, and makes no call before a witness has answered or the wait is over.
    Waiting,
    /// Somebody has to unseal it.
    Sealed,
    /// Somebody has to make it.
    Empty,
    /// Its shares have to be entered back.
    Provisional,
}

/// A typing error or two at the prompt.
const TRIES: usize = 3;

/// Makes or opens the vault.
pub(crate) fn open(
    link: &mut Link,
    supervisor: &Supervisor,
    arguments: &Arguments,
) -> Outcome<Vault> {
    let vault = prepare(link, supervisor, arguments)?;
    if vault == Vault::Open && waits(&status::ask(link)?) {
        return Ok(Vault::Waiting);
    }
    Ok(vault)
}

/// Whether the keys are in memory.
fn is_open(found: &Status) -> bool {
    found.state == VaultState::Ready || (found.state == VaultState::Unsealing && waits(found))
}

/// Whether calls wait for a witness.
pub(crate) fn waits(found: &Status) -> bool {
    found.awaited.as_ref().is_some_and(|awaited| awaited.calls_in_secs > 0)
}

fn prepare(link: &mut Link, supervisor: &Supervisor, arguments: &Arguments) -> Outcome<Vault> {
    let (ground, descriptor) = (supervisor.ground(), arguments.passphrase_fd);
    let found = status::ask(link)?;
    match found.state {
        VaultState::Ready | VaultState::Unsealing if is_open(&found) => Ok(Vault::Open),
        VaultState::Ready | VaultState::Unsealing => Ok(Vault::Sealed),
        VaultState::Uninitialised if found.fault.is_some() => Ok(Vault::Provisional),
        VaultState::Uninitialised if arguments.no_init => Ok(Vault::Empty),
        VaultState::Uninitialised => make(link, ground, descriptor),
        VaultState::Sealed => unseal(link, supervisor, descriptor, &found),
        VaultState::Faulty => Err(found.fault.map_or_else(
            || Failure::new(Code::Store, "the store is not as it was left").exit(5),
            Failure::from,
        )),
    }
}

fn make(link: &mut Link, ground: &Ground, descriptor: Option<u32>) -> Outcome<Vault> {
    let pin_file = ground.places.pin();
    if pin_file.exists() {
        let what =
            format!("{} is here, but its vault is not: the store is empty", pin_file.display());
        return Err(Failure::new(Code::Pin, what)
            .next("bring the data back; to begin anew, move vault.pub and token away"));
    }
    let passphrase = if ground.is_demo() {
        demo::passphrase(ground)?
    } else if descriptor.is_some() || prompt::is_attended() {
        out::say(
            "There is no vault yet. Its passphrase opens every key in it; without it they are lost.",
        );
        init::new_passphrase(descriptor)?
    } else {
        let what = "there is no vault yet, and nobody is here to choose a passphrase";
        return Err(Failure::new(Code::NoSecret, what)
            .next(format!("{} up --passphrase-fd 3 3<FILE", tell::program(ground)))
            .exit(2));
    };
    let key = init::with_passphrase(link, &passphrase)?;
    drop(passphrase);
    pin::write(&pin_file, &key)?;
    pinned::of_running(&ground.places.audit_pin(), link)?;
    Ok(Vault::Open)
}

fn unseal(
    link: &mut Link,
    supervisor: &Supervisor,
    descriptor: Option<u32>,
    found: &Status,
) -> Outcome<Vault> {
    let ground = supervisor.ground();
    let ways = parts::ways(link)?;
    if ground.is_demo() {
        return waiting_for_a_word(ground, attempt(link, &ways, &demo::passphrase(ground)?));
    }
    if found.sealed_by_operator {
        let is_typed = descriptor.map_or_else(prompt::is_attended, prompt::is_typed);
        out::warn(&sealed_by_operator(ground).to_string());
        if !is_typed {
            return Ok(Vault::Sealed);
        }
    }
    if let Some(number) = descriptor {
        return waiting_for_a_word(ground, attempt(link, &ways, &prompt::descriptor(number)?));
    }
    if found.seal != Some(SealKind::Passphrase) || !prompt::is_attended() {
        return Ok(Vault::Sealed);
    }
    ask_for_it(link, supervisor, &ways)
}

/// Asks a few times. Somebody may open the vault from another terminal meanwhile.
fn ask_for_it(link: &mut Link, supervisor: &Supervisor, ways: &[WayRow]) -> Outcome<Vault> {
    let ground = supervisor.ground();
    let socket = ground.places.operator_socket();
    let is_wanted = || {
        if supervisor.is_told_to_stop()? {
            return Err(prompt::cancelled());
        }
        Ok(!is_opened_elsewhere(&socket))
    };
    for _ in 0..TRIES {
        let tried = match prompt::secret_while("Passphrase (hidden): ", is_wanted) {
            Ok(None) => return Ok(opened_elsewhere()),
            Ok(Some(typed)) => attempt(link, ways, &typed),
            Err(failure) => Err(failure),
        };
        match waiting_for_a_word(ground, tried) {
            Ok(vault) => return Ok(vault),
            Err(failure) if failure.code == Code::Cancelled.text() => return Err(failure),
            Err(failure) => out::warn(&of_here(ground, failure).to_string()),
        }
        if is_opened_elsewhere(&socket) {
            return Ok(opened_elsewhere());
        }
    }
    Ok(Vault::Sealed)
}

fn opened_elsewhere() -> Vault {
    out::say("the vault was opened from elsewhere; going on");
    Vault::Open
}

/// Looks on a connection of its own, so that a keeper that does not answer in time breaks no other conversation;
/// what it does not say now it says at the next look.
fn is_opened_elsewhere(socket: &Path) -> bool {
    look(socket).is_ok_and(|found| is_open(&found))
}

/// The state, on a connection of its own and without much patience.
pub(crate) fn look(socket: &Path) -> Outcome<Status> {
    match Link::open(socket)?.ask_within(&Request::Status, LOOK_PATIENCE)? {
        Answer::Status(found) => Ok(found),
        _ => Err(Failure::unexpected()),
    }
}

/// So long a key that is pressed may wait.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);

fn sealed_by_operator(ground: &Ground) -> Failure {
    Failure {
        code: Cow::Borrowed("SR-SEALED-017"),
        message: "an operator sealed the vault, so it is not opened unattended".to_owned(),
        next: Some(format!("look why, then open it: {} unseal", tell::program(ground))),
        exit: 2,
    }
}

/// A vault that remembers other settings is in order: it stays sealed until an operator says that the new ones are meant.
fn waiting_for_a_word(ground: &Ground, tried: Outcome<Vault>) -> Outcome<Vault> {
    match tried {
        Err(failure) if failure.code == SETTINGS_CHANGED => {
            out::warn(&of_here(ground, failure).to_string());
            Ok(Vault::Sealed)
        }
        other => other,
    }
}

/// Its next step names this install.
fn of_here(ground: &Ground, failure: Failure) -> Failure {
    failure.at(&tell::place(ground).unwrap_or_default())
}

/// The keeper's word for it.
const SETTINGS_CHANGED: &str = "SR-SETTINGS-001";

fn attempt(link: &mut Link, ways: &[WayRow], typed: &Typed) -> Outcome<Vault> {
    match seal::open_with(link, ways, typed)? {
        Unsealed::Open => Ok(Vault::Open),
        Unsealed::Partly(progress) => {
            out::say(&status::progress_line(&progress));
            Ok(Vault::Sealed)
        }
    }
}

/// Makes the first person and their token, where they are missing.
pub(crate) fn settle(link: &mut Link, ground: &Ground, name: Option<&Label>) -> Outcome {
    let places = &ground.places;
    if !places.token().exists() {
        let people = user::rows(link)?;
        let first = if let Some(row) = people.iter().min_by_key(|row| row.created) {
            row.id
        } else {
            let label = name.map_or_else(your_name, |name| Ok(name.clone()))?;
            user::create(link, label)?
        };
        let wish = TokenWish {
            user: Some(pick::pick(&first.to_string()).map_err(Failure::argument)?),
            label: Label::parse("first").map_err(Failure::argument)?,
            scope: TokenScope {
                providers: Choice::Any,
                models: Choice::Any,
                credential: None,
                expires: None,
                calls_per_minute: token::USUAL_RATE,
            },
            credential: None,
        };
        let (_, text) = token::make(link, wish)?;
        token::save(&places.token(), &text, examples::reader())?;
    }
    Ok(())
}

/// Whoever called sudo, or runs this.
fn your_name() -> Outcome<Label> {
    let variables = ["SUDO_USER", "USER", "LOGNAME"];
    let mut names = variables.iter().filter_map(|name| std::env::var(name).ok());
    match names.find_map(|name| Label::parse(&name).ok()) {
        Some(label) => Ok(label),
        None => Label::parse("operator").map_err(Failure::argument),
    }
}
