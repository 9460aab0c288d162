//! `strongroom key`: generations of the keys that records are sealed with.
//!
//! Invariant: a rotation that was begun goes on in the vault, whether this tool waits for it or not.

use std::thread::sleep;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_protocol::operator::keys::{Cipher, KeyState, Sweep};
use strongroom_protocol::operator::{Answer, Request};

use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::progress::Progress;
use crate::render;

/// Arguments of `key`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Begin a new generation of keys: new records use it at once, old ones are rewritten in the background
    #[command(before_help = "Example: strongroom key rotate --wait")]
    Rotate {
        /// Wait until every record is rewritten and the old keys are destroyed
        #[arg(long)]
        wait: bool,
    },
    /// Say which generations there are, and how far the rewriting is
    #[command(before_help = "Example: strongroom key status --json")]
    Status,
}

/// How often a waiting tool looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Without a terminal progress is a line for each step of this many percent.
const STEP_PERCENT: u64 = 10;

/// Runs the verb.
pub(crate) fn run(arguments: &Arguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let state = match arguments.verb {
        Verb::Rotate { wait } => {
            let begun = ask(&mut link, &Request::KeyRotate)?;
            out::say(&format!("epoch {}: every new record is sealed under it", begun.epoch));
            if wait { settle(&mut link, begun)? } else { begun }
        }
        Verb::Status => ask(&mut link, &Request::KeyStatus)?,
    };
    match desk.form {
        Form::Json => out::object(state_json(&state)),
        Form::Text => {
            for line in sentences(&state) {
                out::data(&line);
            }
        }
    }
    Ok(())
}

fn ask(link: &mut Link, request: &Request) -> Outcome<KeyState> {
    match link.ask(request)? {
        Answer::Keys(state) => Ok(*state),
        _ => Err(Failure::unexpected()),
    }
}

/// Waits until the rewriting is over; the bar is of the records that were old when it began.
fn settle(link: &mut Link, begun: KeyState) -> Outcome<KeyState> {
    let total = begun.old_records;
    let mut bar = Progress::new("records rewritten", total);
    let (mut state, mut told) = (begun, 0);
    loop {
        match &state.sweep {
            Sweep::Idle => return Ok(state),
            Sweep::Stopped(fault) => return Err(fault.clone().into()),
            Sweep::Running => {}
        }
        let done = total.saturating_sub(state.old_records);
        bar.show(done);
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
        if !bar.is_drawn() && percent >= told + STEP_PERCENT {
            out::say(&format!("{percent} %: {done} of {total} records rewritten"));
            told = percent;
        }
        sleep(LOOK_EVERY);
        state = ask(link, &Request::KeyStatus)?;
    }
}

fn sentences(state: &KeyState) -> Vec<String> {
    let count =
        |number: u64| render::count(usize::try_from(number).unwrap_or(usize::MAX), "record");
    let mut lines = vec![format!(
        "epoch {}, {} in all, new ones sealed with {}",
        state.epoch,
        count(state.records),
        cipher(state.cipher)
    )];
    if state.epochs.len() > 1 {
        let each = state.epochs.iter();
        let each: Vec<_> =
            each.map(|(epoch, records)| format!("epoch {epoch}: {}", count(*records))).collect();
        lines.push(each.join(" · "));
    }
    lines.push(match &state.sweep {
        Sweep::Idle => "nothing to rewrite: older keys are destroyed".to_owned(),
        Sweep::Running => format!("rewriting: {} to go", count(state.old_records)),
        Sweep::Stopped(fault) => {
            let why = Failure::from(fault.clone());
            format!("rewriting stopped with {} to go: {why}", count(state.old_records))
        }
    });
    lines.push(format!("{} of {} keys in the keyring", state.keys, state.most_keys));
    lines
}

fn cipher(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Aes256Gcm => "AES-256-GCM",
        Cipher::Chacha20Poly1305 => "ChaCha20-Poly1305",
    }
}

fn state_json(state: &KeyState) -> Value {
    let each = state.epochs.iter();
    let epochs: Vec<_> =
        each.map(|(epoch, records)| json!({"epoch": epoch, "records": records})).collect();
    let (sweep, stopped) = match &state.sweep {
        Sweep::Idle => ("idle", None),
        Sweep::Running => ("running", None),
        Sweep::Stopped(fault) => ("stopped", Some(fault)),
    };
    json!({
        "epoch": state.epoch,
        "epochs": epochs,
        "records": state.records,
        "old_records": state.old_records,
        "sweep": sweep,
        "stopped": stopped,
        "lowest_format": state.lowest_format,
        "cipher": state.cipher,
        "keys": state.keys,
        "most_keys": state.most_keys,
    })
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::operator::keys::{Cipher, KeyState, Sweep};

    use super::{sentences, state_json};

    fn state(sweep: Sweep) -> KeyState {
        KeyState {
            epoch: 3,
            epochs: vec![(2, 1), (3, 60)],
            records: 61,
            old_records: 1,
            sweep,
            lowest_format: 2,
            cipher: Cipher::Chacha20Poly1305,
            keys: 9,
            most_keys: 75_000,
        }
    }

    #[test]
    fn progress_is_told_in_words_and_numbers() {
        assert_eq!(
            sentences(&state(Sweep::Running)),
            [
                "epoch 3, 61 records in all, new ones sealed with ChaCha20-Poly1305",
                "epoch 2: 1 record · epoch 3: 60 records",
                "rewriting: 1 record to go",
                "9 of 75000 keys in the keyring"
            ]
        );
        let told = state_json(&state(Sweep::Running));
        assert_eq!((&told["sweep"], &told["old_records"]), (&"running".into(), &1.into()));
        assert_eq!(told["cipher"], "chacha20-poly1305");
    }
}
