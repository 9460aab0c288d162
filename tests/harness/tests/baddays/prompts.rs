//! People at hidden prompts: they change their mind, mistype, or open the vault at another terminal.
//!
//! Invariant: a prompt never holds anybody, and leaves the terminal as it was found.

use nix::sys::signal::Signal;
use strongroom_tests::appliance::Vault;
use strongroom_tests::terminal::Terminal;
use strongroom_tests::{Appliance, Options, PASSPHRASE, until};

const QUESTION: &str = "Passphrase (hidden): ";

/// An appliance whose vault is sealed.
fn sealed() -> Appliance {
    let appliance = Appliance::start(&Options::default());
    appliance.cli(&["seal"], b"").ok();
    appliance.wait_state("sealed");
    appliance
}

/// `strongroom unseal` at a terminal, with its question asked.
fn asked(appliance: &Appliance) -> Terminal {
    let data = appliance.data().display().to_string();
    let terminal = Terminal::start(&appliance.program(), &["unseal", "--dir", &data]);
    terminal.wait_for_question(QUESTION, 1);
    terminal
}

// Red when the terminal still edits lines: Control-C waits for Enter then.
#[test]
fn control_c_ends_a_hidden_prompt_at_once() {
    let appliance = sealed();
    let mut terminal = asked(&appliance);
    assert!(!terminal.is_as_found());
    terminal.press(b"half a pass\x03");
    assert_eq!(terminal.ended(), Some(1));
    terminal.wait_for("SR-CLI-016: cancelled", 1);
    assert!(terminal.is_as_found());
    assert!(!terminal.shown().contains("half"), "{}", terminal.shown());
    assert_eq!(appliance.status()["state"], "sealed");
}

// Red when a signal ends the process while the terminal is quiet.
#[test]
fn a_signal_at_a_hidden_prompt_leaves_the_terminal_as_it_was_found() {
    let appliance = sealed();
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut terminal = asked(&appliance);
        assert!(!terminal.is_as_found());
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", terminal.pid()));
        let limits = limits.expect("it runs");
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        assert!(core.is_some_and(|line| line.split_whitespace().nth(5) == Some("0")), "{limits}");
        terminal.signal(signal);
        assert_eq!(terminal.ended(), None, "by the signal: {}", terminal.shown());
        assert!(terminal.is_as_found(), "{signal}");
    }
    assert_eq!(appliance.status()["state"], "sealed");
}

// Red when the keys that erase are taken as part of the passphrase.
#[test]
fn what_is_typed_can_be_mended_before_enter() {
    let appliance = sealed();
    let mut terminal = asked(&appliance);
    terminal.press(format!("quite wrong\x15{PASSPHRASE}x\u{e4}\x7f\x08\r").as_bytes());
    assert_eq!(terminal.ended(), Some(0), "{}", terminal.shown());
    assert!(terminal.is_as_found());
    assert_eq!(appliance.status()["state"], "ready");
}

/// `strongroom up` at a terminal, on a vault that is here already, with its question asked.
fn up(appliance: &Appliance) -> Terminal {
    let data = appliance.data().display().to_string();
    let programs = appliance.programs().display().to_string();
    let arguments = ["up", "--dir", &data, "--binaries", &programs];
    let terminal = Terminal::start(&appliance.program(), &arguments);
    terminal.wait_for_question(QUESTION, 1);
    terminal
}

// Red when a cancelled question counts as a wrong try.
#[test]
fn control_c_at_the_first_question_of_up_is_the_end_of_up() {
    let mut appliance = Appliance::start(&Options::default());
    appliance.stop();
    let mut terminal = up(&appliance);
    terminal.press(b"\x03");
    assert_eq!(terminal.ended(), Some(1), "{}", terminal.shown());
    terminal.wait_for("SR-CLI-016", 1);
    let shown = terminal.shown();
    assert!(!shown.contains("vault is SEALED"), "{shown}");
    assert_eq!(shown.matches(QUESTION).count(), 1, "{shown}");
    assert!(terminal.is_as_found());
}

// Red when the question is asked to its end, whatever became of the vault.
#[test]
fn a_vault_that_is_opened_elsewhere_is_asked_for_no_more() {
    let mut appliance = Appliance::start(&Options::default());
    appliance.stop();
    let terminal = up(&appliance);
    appliance.unseal();
    terminal.wait_for("opened from elsewhere", 1);
    terminal.wait_for("Strongroom is ready", 1);
    appliance.wait_ready();
    assert!(terminal.is_as_found());
}

// Red when three wrong tries are the last word: the vault was opened before the third.
#[test]
fn after_wrong_tries_an_open_vault_is_not_called_sealed() {
    let mut appliance = Appliance::start(&Options::default());
    appliance.stop();
    let mut terminal = up(&appliance);
    terminal.press(b"wrong one\r");
    terminal.wait_for_question(QUESTION, 2);
    terminal.press(b"wrong two\r");
    terminal.wait_for_question(QUESTION, 3);
    appliance.unseal();
    terminal.press(b"wrong three\r");
    terminal.wait_for("Strongroom is ready", 1);
    assert!(!terminal.shown().contains("vault is SEALED"), "{}", terminal.shown());
    until("calls can be made", || (appliance.status()["courier"] == true).then_some(()));
}

// Red when a first start does not end with its cancelled question, and when it leaves a vault.
#[test]
fn control_c_at_the_question_for_a_new_passphrase_makes_no_vault() {
    let mut appliance = Appliance::start(&Options { vault: Vault::None, ..Options::default() });
    appliance.stop();
    let data = appliance.data().display().to_string();
    let programs = appliance.programs().display().to_string();
    let arguments = ["up", "--dir", &data, "--binaries", &programs];
    let mut terminal = Terminal::start(&appliance.program(), &arguments);
    terminal.wait_for_question("New passphrase", 1);
    terminal.press(b"a long enough pass\x03");
    assert_eq!(terminal.ended(), Some(1), "{}", terminal.shown());
    assert!(!appliance.data().join("vault.pub").exists());
}
