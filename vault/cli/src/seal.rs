//! `strongroom unseal` and `strongroom seal`.
//!
//! Invariant: a passphrase or share comes by hidden prompt, standard input, descriptor or an age file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::sealing::{LockRow, WayRow, WayStanding};
use strongroom_protocol::operator::{Answer, Exit, Progress, Request, SEAL_MARK, Status};

use crate::desk::Desk;
use crate::environment::quote;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::parts::{self, Source};
use crate::prompt::Typed;
use crate::status;
use crate::tpm;

/// Arguments of `unseal`.
#[derive(Debug, Args)]
pub(crate) struct UnsealArguments {
    #[command(flatten)]
    source: Source,
    /// Bring the share to this attempt and to no other
    #[arg(long, value_name = "ID")]
    attempt: Option<String>,
    /// Throw the attempt of --attempt away, if you brought something to it
    #[arg(long, requires = "attempt", conflicts_with_all = ["source", "share_fd", "age_identity"])]
    abandon: bool,
    /// Open it by the TPM
    #[arg(long, conflicts_with_all = ["source", "share_fd", "age_identity", "attempt", "confirm_checkpoint"])]
    tpm: bool,
    /// Read the TPM's PIN from this descriptor
    #[arg(long, value_name = "N", requires = "tpm")]
    pin_fd: Option<u32>,
    /// Confirm that this copy of the vault is the newest there is, as a refusal showed it
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "attempt")]
    confirm_checkpoint: Option<String>,
    /// Say that the changed settings are meant, as a refusal showed them; counts for the next opening, within ten minutes
    #[arg(long, value_name = "DIFFERENCE", conflicts_with = "abandon")]
    accept_settings: Option<String>,
}

/// Arguments of `seal`.
#[derive(Debug, Args)]
pub(crate) struct SealArguments {
    /// Wipe the keys and end the keeper at once, without waiting for the journal or for calls
    #[arg(long)]
    panic: bool,
}

/// What came of an attempt.
pub(crate) enum Unsealed {
    /// The vault is open.
    Open,
    /// More parts are needed.
    Partly(Progress),
}

/// Opens the vault, or brings it one part nearer.
pub(crate) fn unseal(arguments: &UnsealArguments, desk: &Desk) -> Outcome<ExitCode> {
    let mut link = desk.link()?;
    if let (true, Some(attempt)) = (arguments.abandon, &arguments.attempt) {
        link.tell(&Request::AbandonUnseal { attempt: attempt.clone() })?;
        match desk.form {
            Form::Json => out::object(json!({"state": "sealed"})),
            Form::Text => out::say("abandoned: what was brought to it is wiped"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let found = status::ask(&mut link)?;
    if found.state == VaultState::Ready || found.awaited.is_some() {
        return Ok(tell_open(&found, desk));
    }
    if found.state == VaultState::Uninitialised {
        return Err(match found.fault {
            Some(provisional) => provisional.into(),
            None => Failure::argument("there is no vault yet").next("strongroom init"),
        });
    }
    if let Some(difference) = &arguments.accept_settings {
        link.tell(&Request::AcceptSettings { difference: difference.clone() })?;
    }
    let came = if arguments.tpm {
        tpm::unseal(&mut link, arguments.pin_fd)
    } else {
        by_hand(arguments, (&mut link, found.state))
    };
    match came.map_err(|failure| arguments.keep_words(failure))? {
        Unsealed::Open => Ok(tell_open(&status::ask(&mut link)?, desk)),
        Unsealed::Partly(progress) => {
            match desk.form {
                Form::Json => out::object(json!({"state": "unsealing", "unsealing": progress})),
                Form::Text => out::say(&desk.here(&partly(&progress))),
            }
            Ok(ExitCode::from(Exit::Unsealing.code()))
        }
    }
}

impl UnsealArguments {
    /// Where the next step is this command with one word more, it holds the words that were given already as well: each
    /// refusal knows its own word only.
    fn keep_words(&self, mut failure: Failure) -> Failure {
        for new in [CONFIRM, ACCEPT] {
            let asked = format!("strongroom unseal {new} ");
            if let Some(next) = failure.next.as_mut().filter(|next| next.contains(&asked)) {
                let words = self.words_beside(new).join(" ");
                *next = next.replace(&asked, &format!("strongroom unseal {words} {new} "));
                *next = next.replace("unseal  ", "unseal ");
            }
        }
        failure
    }

    /// The words that were given, but for what `new` takes the place of. The attempt is over, so it is not among them.
    fn words_beside(&self, new: &str) -> Vec<String> {
        let mut words = self.source.words();
        if self.tpm && new != CONFIRM {
            words.push("--tpm".to_owned());
            words.extend(self.pin_fd.map(|number| format!("--pin-fd {number}")));
        }
        for (name, value) in [(CONFIRM, &self.confirm_checkpoint), (ACCEPT, &self.accept_settings)]
        {
            let given = value.as_ref().filter(|_| name != new);
            words.extend(given.map(|value| format!("{name} {}", shell_word(value))));
        }
        words
    }
}

/// What names a checkpoint or a difference needs no quotes; whatever else was typed does.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quote(text) }
}

const CONFIRM: &str = "--confirm-checkpoint";
const ACCEPT: &str = "--accept-settings";

/// What somebody types or pipes in.
fn by_hand(
    arguments: &UnsealArguments,
    (link, state): (&mut Link, VaultState),
) -> Outcome<Unsealed> {
    let ways = match state {
        // A vault that a fault closed lists no ways, and is opened anew all the same: by whatever begins like a share, or not.
        VaultState::Faulty => any_way(),
        VaultState::Ready
        | VaultState::Uninitialised
        | VaultState::Sealed
        | VaultState::Unsealing => parts::ways(link)?,
    };
    let typed = arguments.source.read(parts::question(&ways))?;
    let with = parts::part(&typed, &ways);
    let request = match (&arguments.confirm_checkpoint, &arguments.attempt) {
        (Some(checkpoint), _) => Request::UnsealConfirming { with, checkpoint: checkpoint.clone() },
        (None, Some(attempt)) => Request::Join { attempt: attempt.clone(), with },
        (None, None) => Request::Unseal(with),
    };
    bring(link, &request)
}

/// Sends a part of what opens the seal.
pub(crate) fn open_with(link: &mut Link, ways: &[WayRow], typed: &Typed) -> Outcome<Unsealed> {
    bring(link, &Request::Unseal(parts::part(typed, ways)))
}

fn bring(link: &mut Link, request: &Request) -> Outcome<Unsealed> {
    match link.ask(request)? {
        Answer::Unsealed => Ok(Unsealed::Open),
        Answer::Unsealing(progress) => Ok(Unsealed::Partly(progress)),
        _ => Err(Failure::unexpected()),
    }
}

/// Closes the vault.
pub(crate) fn seal(arguments: &SealArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let said = if arguments.panic {
        link.end(&Request::Panic)?;
        // The supervisor does so too, when it sees how the keeper ended.
        if let Err(failure) = mark(&desk.places.vault()) {
            out::warn(&format!("the seal was not noted from here: {failure}"));
        }
        "panic: keys are wiped and the keeper has ended; it comes back sealed"
    } else {
        link.tell(&Request::Seal)?;
        "sealed: keys are wiped and running calls are stopped"
    };
    match desk.form {
        Form::Json => out::object(json!({"state": "sealed"})),
        Form::Text => out::say(said),
    }
    Ok(())
}

/// Notes beside the vault that an operator sealed it, where the keeper had no time to: it is not opened unattended then.
/// Whatever bears the mark's name counts as the mark, and is not opened: the directory is another user's.
pub(crate) fn mark(vault: &Path) -> Outcome {
    let path = vault.join(SEAL_MARK);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let set = || -> io::Result<()> {
        match options.open(&path) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        File::open(vault)?.sync_all()
    };
    set().map_err(|error| Failure::file(&path, error))
}

/// A way by a passphrase or by shares, as long as nobody says what there is.
fn any_way() -> Vec<WayRow> {
    let shares = LockRow::Shares { threshold: 1, count: 1, holders: Vec::new() };
    let locks = vec![LockRow::Passphrase, shares];
    vec![WayRow { id: 0, locks, standing: WayStanding::InForce }]
}

/// How far it is: where no shares are needed, what else is.
fn partly(progress: &Progress) -> String {
    if progress.needed > 0 || progress.shut.is_empty() {
        return status::progress_line(progress);
    }
    let missing: Vec<_> = progress.shut.iter().map(|lock| lock.name()).collect();
    format!(
        "not open yet, still needed: {} · attempt {} · expires in {}:{:02}; next: strongroom unseal",
        missing.join(", "),
        out::plain(&progress.attempt),
        progress.expires_in_secs / 60,
        progress.expires_in_secs % 60
    )
}

/// Says that the vault is open, or that it is and makes no call before its witness was heard: with the exit code of `status`.
fn tell_open(found: &Status, desk: &Desk) -> ExitCode {
    if let (Some(awaited), VaultState::Unsealing) = (&found.awaited, found.state) {
        match desk.form {
            Form::Json => out::object(json!({"state": "unsealing", "awaited": awaited})),
            Form::Text => out::say(&desk.here(&format!(
                "unsealing: the keys are in memory, and no call is made before a witness answers ({}) or {} s are over; \
                 next: strongroom witness run",
                out::plain(&awaited.witnesses.join(", ")),
                awaited.calls_in_secs
            ))),
        }
        return ExitCode::from(Exit::Unsealing.code());
    }
    match desk.form {
        Form::Json => out::object(json!({"state": "ready"})),
        Form::Text => out::say("ready: the vault is open"),
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};
    use strongroom_protocol::operator::Progress;
    use strongroom_protocol::operator::sealing::LockName;

    use super::{UnsealArguments, partly};
    use crate::arguments::Cli;
    use crate::failure::{Code, Failure};

    /// The next step of a refusal that knows one word, after `unseal` with others.
    fn next_after(given: &[&str], refused: &str) -> String {
        let words = [&["strongroom", "unseal"], given].concat();
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let arguments = UnsealArguments::from_arg_matches(matches).unwrap();
        let failure = Failure::new(Code::Link, "x").next(format!("say so: '{refused}'; or not"));
        arguments.keep_words(failure).next.unwrap()
    }

    // Red when a refusal's command forgets what the one before it asked for: the two then refer to each other for ever.
    #[test]
    fn the_next_command_holds_the_words_that_were_given() {
        let accept = "strongroom unseal --accept-settings 0b";
        let confirm = "strongroom unseal --confirm-checkpoint 412-9f";
        for (given, refused, next) in [
            (
                &["--confirm-checkpoint", "412-9f"][..],
                accept,
                "strongroom unseal --confirm-checkpoint 412-9f --accept-settings 0b",
            ),
            (
                &["--accept-settings", "0b"],
                confirm,
                "strongroom unseal --accept-settings 0b --confirm-checkpoint 412-9f",
            ),
            (&["--accept-settings", "0a", "-"], accept, "strongroom unseal - --accept-settings 0b"),
            (
                &["--share-fd", "3"],
                confirm,
                "strongroom unseal --share-fd 3 --confirm-checkpoint 412-9f",
            ),
            (
                &["--tpm", "--pin-fd", "3"],
                accept,
                "strongroom unseal --tpm --pin-fd 3 --accept-settings 0b",
            ),
            (&["--tpm"], confirm, confirm),
            (
                &["--age-identity", "a b"],
                accept,
                "strongroom unseal --age-identity 'a b' --accept-settings 0b",
            ),
            (&["--attempt", "7f"], accept, accept),
            (
                &["--accept-settings", "0 b"],
                confirm,
                "strongroom unseal --accept-settings '0 b' --confirm-checkpoint 412-9f",
            ),
        ] {
            assert_eq!(
                next_after(given, refused),
                format!("say so: '{next}'; or not"),
                "{given:?}"
            );
        }
        assert_eq!(next_after(&["-"], "strongroom status"), "say so: 'strongroom status'; or not");
    }

    #[test]
    fn where_no_share_is_needed_none_is_spoken_of() {
        let mut progress = Progress {
            attempt: "7f3a".into(),
            accepted: Vec::new(),
            holders: Vec::new(),
            needed: 0,
            shut: vec![LockName::Passphrase],
            expires_in_secs: 599,
        };
        let line = partly(&progress);
        assert_eq!(
            line,
            "not open yet, still needed: passphrase · attempt 7f3a · expires in 9:59; next: strongroom unseal"
        );
        progress.needed = 2;
        assert!(partly(&progress).starts_with("0 of 2 shares accepted · still needed: passphrase"));
    }
}
