//! The official SDKs, Python and JavaScript, through the whole appliance.
//!
//! `SR_PYTHON` names a Python with `tests/sdk/requirements.txt`, `SR_NODE` a Node ≥ 22, `SR_MODULES` the directory whose
//! `node_modules` holds `tests/sdk/package.json`; without them a test says that it is skipped, and `SR_SDK=required` fails it.
//!
//! Invariant: what the SDKs were told and what the providers saw are both checked.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use strongroom_emulator::{Api, Outcome};
use strongroom_tests::{Appliance, canary};

#[test]
fn the_python_sdks_work_unchanged() {
    let Some(python) = named("SR_PYTHON") else { return };
    run(Command::new(python).arg("-u").arg(script("check.py")), 1);
}

#[test]
fn the_javascript_sdks_work_unchanged() {
    let Some(node) = named("SR_NODE") else { return };
    let mut command = Command::new(node);
    if let Some(modules) = std::env::var_os("SR_MODULES") {
        command.env("SR_MODULES", modules);
    }
    run(command.arg(script("check.mjs")), 2);
}

#[test]
fn the_printed_examples_work_as_they_stand() {
    let (Some(python), Some(node)) = (named("SR_PYTHON"), named("SR_NODE")) else { return };
    let (appliance, _) = Appliance::stocked();
    let example = |name: &str| appliance.data().join("examples").join(name);
    // The Node example looks for its SDK where it is run.
    let modules = std::env::var_os("SR_MODULES").map_or_else(|| ".".into(), PathBuf::from);
    for (program, name, hint) in
        [(&python, "call.py", "pip install openai"), (&node, "call.mjs", "npm install openai")]
    {
        let told = output(Command::new(program).arg(example(name)).current_dir(&modules));
        assert_eq!(told, (true, "Say hello in five words.\n".to_owned(), String::new()), "{name}");
        // `-S`: without installed packages.
        let bare: &[&str] = if name == "call.py" { &["-S"] } else { &[] };
        let mut without = Command::new(program);
        without.args(bare).arg(example(name)).current_dir(appliance.scratch());
        let (success, _, errors) = output(&mut without);
        let lines = errors.lines().count();
        assert!(!success && lines == 1 && errors.contains(hint), "{name}: {errors}");
    }
}

/// Whether it succeeded, and its words, with nothing of ours in its environment.
fn output(command: &mut Command) -> (bool, String, String) {
    let names = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PYTHONPATH", "NODE_PATH"];
    names.iter().fold(&mut *command, |command, name| command.env_remove(name));
    let ran = command.stdin(Stdio::null()).output().expect("the example runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ran.status.success(), text(&ran.stdout), text(&ran.stderr))
}

fn named(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        let required = std::env::var_os("SR_SDK").is_some_and(|value| value == "required");
        assert!(!required, "{variable} is not set");
        strongroom_soak::skipped(&format!(
            "{variable} is not set (deploy/test without --fast sets it)"
        ));
    }
    found
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join("sdk").join(name)
}

/// Runs a script against an appliance of its own. `given_up` calls were ended by the client in it.
fn run(command: &mut Command, given_up: usize) {
    let (appliance, token) = Appliance::stocked();
    let narrow = appliance.token("narrow", &["--models", "only-this"]);
    let spent = appliance.token("spent", &[]);
    appliance.json(&["budget", "set", "token:spent", "--money", "0", "--per", "day"], b"");
    for provider in ["openai", "anthropic", "google", "xai"] {
        let price = ["--input", "1", "--output", "1", "--max-input", "9000", "--max-output", "900"];
        appliance.json(&[&["price", "set", provider, "*"], &price[..]].concat(), b"");
    }
    let ran = command
        .env("SR_URL", appliance.url())
        .env("SR_TOKEN", &token)
        .env("SR_NARROW", narrow)
        .env("SR_SPENT", spent)
        .env("SSL_CERT_FILE", appliance.authority())
        .env("NODE_EXTRA_CA_CERTS", appliance.authority())
        .stdin(Stdio::null())
        .output()
        .expect("the script runs");
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "{told}{errors}");
    assert!(told.lines().filter(|line| line.starts_with("ok ")).count() > 30, "{told}");
    assert!(canary::found(told.as_bytes(), &canary::needles()).is_empty(), "{told}");

    let seen = appliance.seen(|_, counts| counts.open == 0);
    for one in &seen {
        let api = one.api.expect("an API");
        assert_eq!(one.host, api.host());
        assert!(one.oddities.is_empty() && !one.mentions(&token), "{one:#?}");
    }
    let cancelled = seen.iter().filter(|one| one.outcome == Outcome::Cancelled).count();
    assert!(cancelled >= given_up, "{cancelled} provider calls were dropped");
    for api in Api::ALL {
        assert!(seen.iter().any(|one| one.api == Some(api) && one.authorised), "{api:?}");
    }
}
