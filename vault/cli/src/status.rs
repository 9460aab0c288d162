//! `strongroom status`: whether the vault is open and its processes are connected, in one sentence and one exit code.
//!
//! Invariant: exit code 0 means that calls can be made as far as the keeper sees, and nothing else does. Nobody is probed.

use std::process::ExitCode;

use serde_json::{Value, json};
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::witness::Awaited;
use strongroom_protocol::operator::{Answer, Exit, Progress, Request, SealKind, Status};

use crate::backup;
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::render;

/// The state of the vault.
pub(crate) fn ask(link: &mut Link) -> Outcome<Status> {
    match link.ask(&Request::Status)? {
        Answer::Status(status) => Ok(status),
        _ => Err(Failure::unexpected()),
    }
}

/// Prints the state.
pub(crate) fn run(desk: &Desk) -> Outcome<ExitCode> {
    let mut link = desk.link()?;
    let mut status = ask(&mut link)?;
    if let Some(next) = status.fault.as_mut().and_then(|fault| fault.next.as_mut()) {
        *next = desk.here(next);
    }
    let restored = match status.state {
        VaultState::Ready => backup::standing(&mut link)?,
        VaultState::Uninitialised
        | VaultState::Sealed
        | VaultState::Unsealing
        | VaultState::Faulty => None,
    };
    match desk.form {
        Form::Json => {
            let mut told = status_json(&status);
            if let (Value::Object(fields), Some(restored)) = (&mut told, &restored) {
                fields.insert("restored".to_owned(), backup::standing_json(restored));
            }
            out::object(told);
        }
        Form::Text => {
            let restored = restored.iter().flat_map(backup::lines);
            for line in sentences(&status).into_iter().chain(restored) {
                out::data(&desk.here(&line));
            }
        }
    }
    Ok(ExitCode::from(exit_code(&status)))
}

/// The exit code of a state.
pub(crate) fn exit_code(status: &Status) -> u8 {
    match (&status.fault, status.state) {
        (Some(fault), _) => fault.exit.code(),
        (None, VaultState::Ready) if status.courier && status.courier_defined && status.gateway => {
            0
        }
        (None, VaultState::Ready | VaultState::Uninitialised) => 1,
        (None, VaultState::Sealed) => 2,
        (None, VaultState::Unsealing) => 3,
        (None, VaultState::Faulty) => 5,
    }
}

fn sentences(status: &Status) -> Vec<String> {
    let mut lines = vec![headline(status)];
    if let Some(progress) = &status.unsealing {
        lines.push(progress_line(progress));
    }
    if status.sealed_by_operator {
        lines.push("an operator sealed it: nothing opens it unattended; look why first".to_owned());
    }
    lines.extend(status.awaited.as_ref().map(awaited_line));
    if status.incoming {
        lines.push("new shares wait to be entered back; next: strongroom share verify".to_owned());
    }
    if let Some(fault) = status.fault.as_ref().filter(|_| !is_provisional(status)) {
        lines.push(Failure::from(fault.clone()).to_string());
    }
    if status.state == VaultState::Ready {
        let credentials = usize::try_from(status.credentials).unwrap_or(usize::MAX);
        lines.push(format!(
            "{}, {} journal entries",
            render::count(credentials, "credential"),
            status.journal_entries
        ));
        if status.old_records > 0 {
            let old = usize::try_from(status.old_records).unwrap_or(usize::MAX);
            lines.push(format!(
                "{} still to be rewritten under the newest keys; see: strongroom key status",
                render::count(old, "record")
            ));
        }
    }
    for (name, connected, what) in [
        ("courier", status.courier, "no call to a built-in provider"),
        (
            "courier of operator-defined providers",
            status.courier_defined,
            "no call to one of these",
        ),
        ("gateway", status.gateway, "no call"),
    ] {
        if !connected {
            lines.push(format!("the {name} is not connected: {what} can be made"));
        }
    }
    lines
}

fn is_provisional(status: &Status) -> bool {
    status.fault.as_ref().is_some_and(|fault| fault.exit == Exit::Provisional)
}

fn headline(status: &Status) -> String {
    match status.state {
        VaultState::Ready => "ready: the vault is open".to_owned(),
        VaultState::Uninitialised if is_provisional(status) => {
            "provisional: nothing can be stored until the shares were entered back; \
             next: strongroom share verify"
                .to_owned()
        }
        VaultState::Uninitialised => {
            "empty: there is no vault yet; next: strongroom init".to_owned()
        }
        VaultState::Sealed => {
            let by = match status.seal {
                Some(SealKind::Passphrase) => " by a passphrase".to_owned(),
                Some(SealKind::Shares { threshold, count }) => {
                    format!(" by shares, {threshold} of {count}")
                }
                None => String::new(),
            };
            format!("sealed{by}: keys are not in memory; next: strongroom unseal")
        }
        VaultState::Unsealing if status.awaited.is_some() => {
            "unsealing: the keys are in memory, and no call is made yet".to_owned()
        }
        VaultState::Unsealing => "unsealing: some shares are in".to_owned(),
        VaultState::Faulty => match status.fault.as_ref().map(|fault| fault.exit) {
            Some(Exit::Corrupt | Exit::RolledBack | Exit::Spliced | Exit::Foreign) | None => {
                "faulty: the disk is not as it was left".to_owned()
            }
            Some(Exit::Error | Exit::Sealed | Exit::Unsealing | Exit::Provisional) => {
                "faulty: the vault is closed until what is named here is mended".to_owned()
            }
        },
    }
}

/// `waiting for a witness: usb · calls go on without it in 90 s`.
fn awaited_line(awaited: &Awaited) -> String {
    let names = out::plain(&awaited.witnesses.join(", "));
    match awaited.calls_in_secs {
        0 => format!(
            "no witness has answered ({names}): calls are made, but nobody gets new rights; next: strongroom witness run"
        ),
        left => format!(
            "waiting for a witness: {names} · calls go on without it in {left} s; next: strongroom witness run"
        ),
    }
}

/// `2 of 3 shares accepted (alice, bob) · attempt 7f3a · expires in 9:41`.
pub(crate) fn progress_line(progress: &Progress) -> String {
    let accepted: Vec<_> = if progress.holders.len() == progress.accepted.len() {
        progress.holders.iter().map(|holder| out::plain(holder)).collect()
    } else {
        progress.accepted.iter().map(u8::to_string).collect()
    };
    let names =
        if accepted.is_empty() { String::new() } else { format!(" ({})", accepted.join(", ")) };
    let shut: Vec<_> = progress.shut.iter().map(|lock| lock.name()).collect();
    let shut = if shut.is_empty() {
        String::new()
    } else {
        format!(" · still needed: {}", shut.join(", "))
    };
    format!(
        "{} of {} shares accepted{names}{shut} · attempt {} · expires in {}:{:02}",
        accepted.len(),
        progress.needed,
        out::plain(&progress.attempt),
        progress.expires_in_secs / 60,
        progress.expires_in_secs % 60
    )
}

fn status_json(status: &Status) -> Value {
    json!({
        "state": status.state,
        "exit": exit_code(status),
        "seal": status.seal,
        "unsealing": status.unsealing,
        "vault_key": status.vault_key.as_ref().map(|key| hex::encode(key.0)),
        "courier": status.courier,
        "courier_defined": status.courier_defined,
        "gateway": status.gateway,
        "journal_entries": status.journal_entries,
        "credentials": status.credentials,
        "fault": status.fault,
        "old_records": status.old_records,
        "awaited": status.awaited,
        "incoming": status.incoming,
        "sealed_by_operator": status.sealed_by_operator,
    })
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::ask::VaultState;
    use strongroom_protocol::operator::sealing::LockName;
    use strongroom_protocol::operator::{Exit, Fault, Progress, Status};

    use super::{awaited_line, exit_code, headline, progress_line, sentences};
    use strongroom_protocol::operator::witness::Awaited;

    fn status(state: VaultState, fault: Option<Exit>) -> Status {
        let fault =
            fault.map(|exit| Fault { code: "SR-X".into(), message: "x".into(), next: None, exit });
        Status {
            state,
            unsealing: None,
            seal: None,
            vault_key: None,
            courier: true,
            courier_defined: true,
            gateway: true,
            journal_entries: 0,
            credentials: 0,
            fault,
            old_records: 0,
            awaited: None,
            incoming: false,
            sealed_by_operator: false,
        }
    }

    #[test]
    fn every_state_has_its_exit_code() {
        use VaultState::{Faulty, Ready, Sealed, Uninitialised, Unsealing};
        let codes = [Ready, Uninitialised, Sealed, Unsealing, Faulty]
            .map(|state| exit_code(&status(state, None)));
        assert_eq!(codes, [0, 1, 2, 3, 5]);
        let faults =
            [Exit::Provisional, Exit::Corrupt, Exit::RolledBack, Exit::Spliced, Exit::Foreign]
                .map(|exit| exit_code(&status(Faulty, Some(exit))));
        assert_eq!(faults, [4, 5, 6, 7, 8]);
    }

    // Red when an open vault alone makes it 0.
    #[test]
    fn without_a_courier_or_the_gateway_not_all_calls_can_be_made() {
        for there in 0..7_u8 {
            let of = |state| Status {
                courier: there & 1 > 0,
                courier_defined: there & 2 > 0,
                gateway: there & 4 > 0,
                ..status(state, None)
            };
            let open = of(VaultState::Ready);
            assert_eq!(exit_code(&open), 1);
            let told = sentences(&open).into_iter().filter(|line| line.contains("can be made"));
            assert_eq!(told.count(), 3 - usize::try_from(there.count_ones()).unwrap());
            assert_eq!(exit_code(&of(VaultState::Sealed)), 2);
        }
    }

    #[test]
    fn a_disk_without_room_is_not_called_changed() {
        let told = |exit| headline(&status(VaultState::Faulty, exit));
        assert!(!told(Some(Exit::Error)).contains("as it was left"));
        assert!(told(Some(Exit::Corrupt)).contains("as it was left"));
        assert!(told(Some(Exit::RolledBack)).contains("as it was left"));
    }

    #[test]
    fn who_is_waited_for_is_named() {
        let line =
            |calls_in_secs| awaited_line(&Awaited { witnesses: vec!["usb".into()], calls_in_secs });
        assert!(
            line(90).starts_with("waiting for a witness: usb · calls go on without it in 90 s")
        );
        assert!(line(0).contains("nobody gets new rights"));
        let mut waiting = status(VaultState::Unsealing, None);
        assert_eq!(headline(&waiting), "unsealing: some shares are in");
        waiting.awaited = Some(Awaited { witnesses: vec!["usb".into()], calls_in_secs: 90 });
        assert!(headline(&waiting).contains("the keys are in memory"));
    }

    #[test]
    fn progress_ties_shares_to_one_attempt() {
        let mut progress = Progress {
            attempt: "7f3a".into(),
            accepted: vec![1, 4],
            holders: vec!["alice".into(), "bob".into()],
            needed: 3,
            shut: Vec::new(),
            expires_in_secs: 581,
        };
        let line = progress_line(&progress);
        assert_eq!(line, "2 of 3 shares accepted (alice, bob) · attempt 7f3a · expires in 9:41");
        progress.holders.clear();
        progress.shut.push(LockName::Passphrase);
        let line = progress_line(&progress);
        assert_eq!(
            line,
            "2 of 3 shares accepted (1, 4) · still needed: passphrase · attempt 7f3a · expires in 9:41"
        );
    }
}
