//! `strongroom tpm`: sealing the vault to this machine's TPM, and how it stands to it.
//!
//! Invariant: a PIN comes by hidden prompt or descriptor; every vault that is sealed to a TPM opens by other means too.

use clap::{Args, Subcommand};
use serde_json::json;
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::tpm::{MAX_PIN_BYTES, MIN_PIN_BYTES, TpmStatus, TpmWish};
use strongroom_protocol::operator::{Answer, Check, Request, UnsealWith, Verdict};
use strongroom_protocol::tpm::{Kind, PcrSet};

use crate::confirm::{Confirmation, Decision};
use crate::custody::{Making, Seal};
use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::parts::{self, Proof};
use crate::prompt::{self, Typed};
use crate::seal::Unsealed;
use crate::settings::{Settings, Tpm};
use crate::status;

/// Arguments of `tpm`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the vault stands to the TPM
    #[command(before_help = "Example: strongroom tpm status")]
    Status,
    /// Seal the open vault to the TPM as well; also after the TPM was lost or the machine changed
    #[command(before_help = "Example: strongroom tpm seal --pin")]
    Seal(SealArguments),
    /// Remove the seal to the TPM, also when the TPM is lost
    #[command(before_help = "Example: strongroom tpm remove --dry-run")]
    Remove(Confirmation),
}

#[derive(Debug, Args)]
struct SealArguments {
    /// Registers that must stay as they are [default: `pcrs` in strongroom.toml]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pcrs: Vec<u8>,
    /// Ask for a PIN at every unsealing; without one the machine opens the vault by itself
    #[arg(long)]
    pin: bool,
    /// Read the PIN from this descriptor
    #[arg(long, value_name = "N", requires = "pin")]
    pin_fd: Option<u32>,
    /// Ask for this at every unsealing too: the TPM and it together open the vault
    #[arg(long, value_enum)]
    with: Option<Seal>,
    #[command(flatten)]
    making: Making,
    #[command(flatten)]
    proof: Proof,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome {
    match &arguments.command {
        Command::Status => print(&ask(&mut desk.link()?)?, desk.form),
        Command::Seal(arguments) => return seal(arguments, desk),
        Command::Remove(confirmation) => {
            let what = "remove the seal to the TPM: the vault then opens by its other ways alone, and nothing outside \
                        the disk says which copy is the newest";
            if confirmation.ask(what)? == Decision::Leave {
                return Ok(());
            }
            desk.link()?.tell(&Request::TpmRemove)?;
            done(desk.form, "the vault is not sealed to a TPM any more");
        }
    }
    Ok(())
}

fn ask(link: &mut Link) -> Outcome<TpmStatus> {
    match link.ask(&Request::TpmStatus)? {
        Answer::Tpm(status) => Ok(*status),
        _ => Err(Failure::unexpected()),
    }
}

fn seal(arguments: &SealArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let settings = Settings::read(&desk.places.settings())?;
    let usual = settings.as_ref().map_or_else(|| vec![7], |settings| settings.tpm.pcrs.clone());
    let numbers = if arguments.pcrs.is_empty() { &usual } else { &arguments.pcrs };
    let pcrs = PcrSet::of(numbers).map_err(Failure::argument)?;
    let pin = if arguments.pin { Some(new_pin(arguments.pin_fd)?) } else { None };
    let parts = parts(&mut link, &arguments.proof)?;
    let mut together =
        arguments.with.map(|seal| arguments.making.wish(seal, desk.form)).transpose()?;
    let with = together.as_mut().and_then(|wish| wish.ways.pop()).and_then(|mut locks| locks.pop());
    let alone = with.is_none() && pin.is_none();
    let wish = TpmWish { pcrs, pin: pin.as_ref().map(Typed::message), parts, with };
    match (link.ask(&Request::TpmSeal(Box::new(wish)))?, &together) {
        (Answer::Done, _) => {}
        (Answer::Shares(shares), Some(together)) => together.deliver(&shares, desk.form)?,
        _ => return Err(Failure::unexpected()),
    }
    done(desk.form, "sealed to the TPM; what opened the vault before opens it still");
    if !settings.is_some_and(|settings| settings.tpm.required) {
        out::say(
            "so that a copy of the disk from before is refused too, set `required = true` under [tpm] in strongroom.toml",
        );
    }
    if alone {
        out::warn("without a PIN whoever has this machine has the vault: it opens by itself");
    }
    Ok(())
}

/// What opens the vault otherwise.
fn parts(link: &mut Link, proof: &Proof) -> Outcome<Vec<UnsealWith>> {
    let found = status::ask(link)?;
    if found.state != VaultState::Ready {
        let what = "the vault must be open to be sealed to the TPM as well";
        return Err(Failure::argument(what).next("strongroom unseal"));
    }
    proof.read(&parts::ways(link)?)
}

fn new_pin(descriptor: Option<u32>) -> Outcome<Typed> {
    let first = match descriptor {
        Some(number) => prompt::descriptor(number)?,
        None => prompt::secret("New PIN (hidden, 6 to 64 characters): ")?,
    };
    let length = first.lend(<[u8]>::len);
    if !(MIN_PIN_BYTES..=MAX_PIN_BYTES).contains(&length) {
        let what = format!("a PIN has {MIN_PIN_BYTES} to {MAX_PIN_BYTES} bytes, this one {length}");
        return Err(Failure::new(Code::NoSecret, what));
    }
    if descriptor.is_none() && prompt::is_attended() {
        let again = prompt::secret("The same again: ")?;
        if !first.lend(|first| again.lend(|again| first == again)) {
            return Err(Failure::new(Code::NoSecret, "the two PINs differ"));
        }
    }
    Ok(first)
}

/// Opens the vault by its TPM, with its PIN if it wants one.
pub(crate) fn unseal(link: &mut Link, pin_fd: Option<u32>) -> Outcome<Unsealed> {
    let wants_pin = ask(link)?.seal.is_some_and(|seal| seal.pin);
    let pin = match (wants_pin, pin_fd) {
        (false, _) => None,
        (true, Some(number)) => Some(prompt::descriptor(number)?),
        (true, None) => Some(prompt::secret("PIN (hidden): ")?),
    };
    let with = UnsealWith::Tpm(pin.as_ref().map(Typed::message));
    match link.ask(&Request::Unseal(with))? {
        Answer::Unsealed => Ok(Unsealed::Open),
        Answer::Unsealing(progress) => Ok(Unsealed::Partly(progress)),
        _ => Err(Failure::unexpected()),
    }
}

/// Opens a sealed vault by its TPM without anybody there; what does not work is said, and somebody is needed.
pub(crate) fn unseal_unattended(link: &mut Link, settings: &Settings) {
    if !settings.tpm.unattended {
        return;
    }
    let outcome = status::ask(link).and_then(|found| match found.state {
        VaultState::Sealed => link.ask(&Request::UnsealUnattended).map(drop),
        VaultState::Ready
        | VaultState::Unsealing
        | VaultState::Uninitialised
        | VaultState::Faulty => Ok(()),
    });
    if let Err(failure) = outcome {
        out::warn(&failure.to_string());
    }
}

/// What `doctor` says of it.
pub(crate) fn checks(desk: &Desk, settings: &Settings) -> Vec<Check> {
    let asked = desk.link().and_then(|mut link| ask(&mut link));
    let (Some(_), Ok(found)) = (&settings.tpm.tcti, asked) else { return Vec::new() };
    judge(&found, &settings.tpm)
}

fn judge(found: &TpmStatus, settings: &Tpm) -> Vec<Check> {
    let check = |verdict, detail: String, fix: Option<&str>| Check {
        name: "tpm".to_owned(),
        verdict,
        detail,
        fix: fix.map(ToOwned::to_owned),
    };
    let mut checks = Vec::new();
    match (&found.health, &found.trouble) {
        (_, Some(trouble)) => {
            let fix =
                "strongroom tpm status; then 'strongroom tpm seal' or 'strongroom tpm remove'";
            checks.push(check(Verdict::Fail, trouble.clone(), Some(fix)));
        }
        (Some(health), None) if health.locked_out => {
            let detail = format!(
                "it is locked: one wrong PIN is forgotten every {} s",
                health.forgets_after_secs
            );
            checks.push(check(Verdict::Warn, detail, Some("wait; shares open the vault")));
        }
        (Some(health), None) => checks.push(check(Verdict::Ok, maker(health), None)),
        (None, None) => {}
    }
    if found.health.as_ref().is_some_and(|health| health.kind == Kind::Software) {
        let detail = "it is a program: a copy of the virtual machine is a copy of it, and rolls back with it";
        checks.push(check(Verdict::Warn, detail.to_owned(), Some("use a witness for the journal")));
    }
    match found.seal {
        Some(seal) if !seal.pin => {
            let opens = if settings.unattended { "by itself" } else { "for whoever asks" };
            let detail = format!(
                "there is no PIN: a stolen machine opens the vault {opens}, and PCR 7 alone accepts any kernel \
                 that the firmware takes"
            );
            checks.push(check(Verdict::Warn, detail, Some("strongroom tpm seal --pin")));
        }
        Some(_) => {}
        None if settings.required => {
            let detail = "the settings say that the vault is sealed to it, and it is not: the next unsealing is refused";
            checks.push(check(Verdict::Fail, detail.to_owned(), Some("strongroom tpm seal")));
        }
        None => {
            let detail = "the vault is not sealed to it: nothing outside the disk says which copy is the newest";
            checks.push(check(Verdict::Warn, detail.to_owned(), Some("strongroom tpm seal")));
        }
    }
    checks
}

fn maker(health: &strongroom_protocol::tpm::Health) -> String {
    let lock = if health.locked_out { "it takes no PIN now; " } else { "" };
    let forgets = match health.wrong_pins {
        0 => String::new(),
        _ => format!("; {lock}one is forgotten every {} s", health.forgets_after_secs),
    };
    format!(
        "made by {}; {} of {} wrong PINs counted{forgets}",
        health.manufacturer, health.wrong_pins, health.most_wrong_pins
    )
}

fn print(found: &TpmStatus, form: Form) {
    if form == Form::Json {
        out::object(json!({
            "health": found.health.as_ref().map(|health| json!({
                "manufacturer": health.manufacturer,
                "kind": health.kind,
                "storage": hex::encode(health.storage.0),
                "wrong_pins": health.wrong_pins,
                "most_wrong_pins": health.most_wrong_pins,
                "forgets_after_secs": health.forgets_after_secs,
                "locked_out": health.locked_out,
            })),
            "trouble": found.trouble,
            "seal": found.seal.map(|seal| json!({
                "pcrs": seal.pcrs.numbers().collect::<Vec<_>>(),
                "pin": seal.pin,
                "fits": seal.fits,
            })),
            "counter": found.counter,
            "behind_secs": found.behind_secs,
            "window_secs": found.window_secs,
        }));
        return;
    }
    for line in sentences(found) {
        out::data(&out::plain(&line));
    }
}

fn sentences(found: &TpmStatus) -> Vec<String> {
    let mut lines = vec![found.health.as_ref().map_or_else(|| "no TPM answers".to_owned(), maker)];
    lines.extend(found.trouble.clone());
    lines.push(found.seal.map_or_else(
        || "the vault is not sealed to a TPM".to_owned(),
        |seal| {
            let numbers: Vec<String> =
                seal.pcrs.numbers().map(|number| number.to_string()).collect();
            let pin = if seal.pin { "with a PIN" } else { "without a PIN" };
            let fits = if seal.fits { "" } else { "; not to the TPM that is here" };
            format!("the vault is sealed to PCR {} {pin}{fits}", numbers.join(", "))
        },
    ));
    if let Some(counter) = found.counter {
        let behind = found.behind_secs.map_or_else(
            || "behind every change".to_owned(),
            |secs| format!("{secs} s behind a change (at most {} s)", found.window_secs),
        );
        lines.push(format!("counter {counter}, {behind}"));
    }
    lines
}

fn done(form: Form, line: &str) {
    match form {
        Form::Json => out::object(json!({"done": true})),
        Form::Text => out::say(line),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::operator::Verdict;
    use strongroom_protocol::operator::tpm::{TpmSeal, TpmStatus};
    use strongroom_protocol::tpm::{Health, Kind, Name, PcrSet};

    use crate::settings::Tpm;

    use super::{judge, maker, sentences};

    fn status(pin: Option<bool>) -> TpmStatus {
        let health = Health {
            manufacturer: "IFX".to_owned(),
            kind: Kind::Hardware,
            storage: Name([1; 32]),
            wrong_pins: 0,
            most_wrong_pins: 32,
            forgets_after_secs: 600,
            locked_out: false,
        };
        let pcrs = PcrSet::of(&[7]).unwrap();
        TpmStatus {
            health: Some(health),
            trouble: None,
            seal: pin.map(|pin| TpmSeal { pcrs, pin, fits: true }),
            counter: Some(7),
            behind_secs: None,
            window_secs: 60,
        }
    }

    #[test]
    fn a_tpm_that_counts_wrong_pins_says_when_it_forgets_them() {
        let mut health = status(None).health.unwrap();
        assert_eq!(maker(&health), "made by IFX; 0 of 32 wrong PINs counted");
        (health.wrong_pins, health.locked_out) = (32, true);
        let told = maker(&health);
        assert!(told.ends_with("; it takes no PIN now; one is forgotten every 600 s"), "{told}");
    }

    #[test]
    fn a_seal_without_a_pin_and_a_tpm_without_a_seal_are_warned_of() {
        let worst = |found: &TpmStatus| {
            judge(found, &Tpm { unattended: true, ..Tpm::default() })
                .iter()
                .map(|check| check.verdict)
                .max()
        };
        assert_eq!(worst(&status(Some(true))), Some(Verdict::Ok));
        assert_eq!(worst(&status(Some(false))), Some(Verdict::Warn));
        assert_eq!(worst(&status(None)), Some(Verdict::Warn));
        let lost = TpmStatus { trouble: Some("gone".to_owned()), ..status(Some(true)) };
        assert_eq!(worst(&lost), Some(Verdict::Fail));
        let required = Tpm { required: true, ..Tpm::default() };
        let checks = judge(&status(None), &required);
        assert_eq!(checks.iter().map(|check| check.verdict).max(), Some(Verdict::Fail));
    }

    #[test]
    fn the_window_is_said() {
        let found = TpmStatus { behind_secs: Some(12), ..status(Some(true)) };
        let last = sentences(&found).pop();
        assert_eq!(last.as_deref(), Some("counter 7, 12 s behind a change (at most 60 s)"));
    }
}
