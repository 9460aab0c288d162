//! The official SDKs, Python and JavaScript, through the whole appliance.
//!
//! `SR_PYTHON` names a Python with `tests/sdk/requirements.txt`, `SR_NODE` a Node ≥ 22, `SR_MODULES` the directory whose
//! `node_modules` holds `tests/sdk/package.json`; without them a test says that it is skipped, and `SR_SDK=required` fails it.
//!
//! Invariant: what the SDKs were told and what the providers saw are both checked.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, with a sentence, and says what it skips"
)]

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

fn named(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        let required = std::env::var_os("SR_SDK").is_some_and(|value| value == "required");
        assert!(!required, "{variable} is not set");
        eprintln!("skipped: {variable} is not set (deploy/test sets it)");
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
    let ran = command
        .env("SR_URL", appliance.url())
        .env("SR_TOKEN", &token)
        .env("SR_NARROW", narrow)
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
