//! What operators do by accident: two starts, no start, wrong secrets, lost vaults.
//!
//! Invariant: each is told in one sentence with a code and a next step, and changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::Uid;
use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::scratch::programs;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Options, Part, command, until};

#[test]
fn a_second_start_on_the_same_directory_is_refused_and_harms_nobody() {
    let (appliance, token) = Appliance::stocked();
    let before = Part::ALL.map(|part| appliance.pid(part));
    let ran = appliance.up_again();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("SR-CLI-010") && ran.stderr.contains("running here already"),
        "{}",
        ran.stderr
    );
    assert_eq!(before, Part::ALL.map(|part| appliance.pid(part)));
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
}

#[test]
fn every_failure_has_a_code_and_a_next_step_and_no_secret() {
    let (mut appliance, token) = Appliance::stocked();
    let secret = "sk-proj-a-secret-that-was-typed-in-the-wrong-place-123";
    for (arguments, stdin, code) in [
        (&["credential", "add", "openai", secret][..], "", "never an argument"),
        (&["unseal", secret][..], "", "never an argument"),
        (&["credential", "add", "nobody", "-"][..], secret, "SR-"),
        (&["credential", "add", "openai", "-", "--label", "short"][..], "short", "SR-"),
        (&["credential", "add", "openai", "-", "--for", "nobody"][..], secret, "SR-"),
        (&["credential", "delete", "openai"][..], "", "SR-CLI-009"),
        (&["token", "revoke", "nobody", "--yes"][..], "", "SR-"),
        (&["workspace", "join", "nowhere", "nobody"][..], "", "SR-"),
        (&["provider", "remove", "openai", "--yes"][..], "", "SR-PROVIDER-005"),
    ] {
        let ran = appliance.cli(arguments, stdin.as_bytes());
        assert_eq!(ran.code, 1, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("next:"), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{}", ran.stderr);
    }
    let preview = appliance.cli(&["credential", "delete", "openai", "--dry-run"], b"").ok();
    assert!(preview.stderr.contains("would delete 1 credential"), "{}", preview.stderr);
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    appliance.stop();
    let down = appliance.cli(&["status", "--json"], b"");
    assert!(down.code == 1 && down.stderr.contains("SR-CLI-001"), "{}", down.stderr);
    let doctor = appliance.cli(&["doctor", "--json"], b"");
    assert!(!doctor.stdout.is_empty(), "doctor works with the vault down: {}", doctor.stderr);
}

#[test]
fn a_vault_that_was_here_and_is_gone_is_not_made_anew_in_silence() {
    let mut appliance = Appliance::start(&Options::default());
    appliance.stop();
    let aside = appliance.scratch().join("aside");
    fs::rename(appliance.data().join("vault"), &aside).expect("root may");
    let ran = appliance.up_again();
    assert!(ran.code != 0 && ran.stderr.contains("SR-CLI-007"), "{} {}", ran.code, ran.stderr);
    let _half_made = fs::remove_dir_all(appliance.data().join("vault"));
    fs::rename(&aside, appliance.data().join("vault")).expect("root may");
    appliance.up();
    appliance.wait_ready();
}

/// Red when a process leaves out a filter or a capability stays, and when a trial's act is let through.
#[test]
fn doctor_tries_each_layer_and_finds_each_process_confined() {
    let (appliance, _token) = Appliance::stocked();
    let report = verdicts(&appliance.cli(&["doctor", "--json"], b"").stdout);
    let verdict = |row: &str| report.get(row).map_or("not there", String::as_str);
    for layer in LAYERS.into_iter().chain(["kernel seccomp kills"]) {
        assert_eq!(verdict(layer), "ok", "{layer}: {report:?}");
    }
    for process in ["process keeper", "process courier", "process gateway"] {
        assert_eq!(verdict(process), "ok", "{process}: {report:?}");
    }
    assert_eq!((verdict("core dumps"), verdict("paths")), ("ok", "ok"), "{report:?}");
    if Uid::effective().is_root() {
        assert_eq!(verdict("kernel netns"), "ok", "{report:?}");
    } else {
        strongroom_soak::skipped("networks of their own need root");
    }
}

const LAYERS: [&str; 5] = [
    "kernel secret-memory",
    "kernel landlock-files",
    "kernel landlock-tcp",
    "kernel landlock-scopes",
    "kernel seccomp",
];

/// `strace` answers in the kernel's place, as one without these would.
#[test]
fn doctor_fails_for_each_layer_that_a_machine_does_not_have() {
    let scratch = tempfile::tempdir().expect("a directory");
    let at = scratch.path().display().to_string();
    let program = programs().join("strongroom").display().to_string();
    for (call, gone, verdict) in [
        ("landlock_create_ruleset", &LAYERS[1..4], "fail"),
        ("memfd_secret", &LAYERS[..1], "warn"),
        ("seccomp", &LAYERS[4..], "fail"),
    ] {
        let inject = format!("inject={call}:error=ENOSYS");
        let traced = ["-f", "-o", "/dev/null", "-e", &inject, &program];
        let asked = ["doctor", "--json", "--dir", &at];
        let ran = command::run(Path::new("strace"), &[&traced[..], &asked[..]].concat(), b"");
        let report = verdicts(&ran.stdout);
        for layer in LAYERS {
            let wanted = if gone.contains(&layer) { verdict } else { "ok" };
            let found = report.get(layer).map(String::as_str);
            assert_eq!(found, Some(wanted), "{call}, {layer}: {} {}", ran.stdout, ran.stderr);
        }
        assert_ne!(ran.code, 0, "{call}");
    }
}

/// Red when `up` starts on what others can change, and when `doctor` looks at one of them no more.
#[test]
fn settings_and_certificates_that_others_can_change_stop_the_start_and_doctor_says_why() {
    let mut appliance = Appliance::start(&Options::default());
    appliance.stop();
    for (name, open, closed) in [("strongroom.toml", 0o666, 0o644), ("tls", 0o777, 0o755)] {
        let path = appliance.data().join(name);
        fs::set_permissions(&path, Permissions::from_mode(open)).expect("its owner may");
        let ran = appliance.up_again();
        assert!(ran.code == 1 && ran.stderr.contains("SR-CLI-003"), "{} {}", ran.code, ran.stderr);
        let fix = format!("chmod {closed:04o} {}", path.display());
        assert!(ran.stderr.contains(&fix), "{}", ran.stderr);
        let doctor = appliance.cli(&["doctor"], b"");
        assert!(doctor.code == 1 && doctor.stdout.contains(&fix), "{}", doctor.stdout);
        fs::set_permissions(&path, Permissions::from_mode(closed)).expect("its owner may");
    }
    let doctor = appliance.cli(&["doctor", "--json"], b"");
    assert_eq!(verdicts(&doctor.stdout).get("paths").map(String::as_str), Some("ok"));
    let report: Value = serde_json::from_str(doctor.stdout.trim()).expect("JSON");
    assert_eq!(report["healthy"], false, "nothing runs: {report}");
    appliance.up();
    appliance.wait_ready();
    // The next step is of this install, also where no error tells it.
    appliance.json(&["seal"], b"");
    let next = format!("next: strongroom --dir '{}' unseal", appliance.data().display());
    let status = appliance.cli(&["status"], b"");
    assert!(status.stdout.contains(&next), "{}", status.stdout);
    let doctor = appliance.cli(&["doctor"], b"");
    assert!(doctor.stdout.contains(&next.replace("next", "fix")), "{}", doctor.stdout);
}

/// Red when root's mark of the seal is taken for another user's data.
#[test]
fn a_vault_that_was_sealed_in_panic_starts_again_sealed_and_is_opened_by_hand() {
    let mut appliance = Appliance::start(&Options::default());
    appliance.cli(&["seal", "--panic"], b"").ok();
    appliance.wait_state("sealed");
    assert!(appliance.data().join("vault/sealed-by-operator").exists(), "the seal is noted");
    appliance.stop();
    appliance.up();
    appliance.wait_state("sealed");
    appliance.cli(&["unseal", "-"], strongroom_tests::PASSPHRASE.as_bytes()).ok();
    appliance.wait_ready();
}

/// What `doctor --json` says of each row; of rows with one name the last.
fn verdicts(stdout: &str) -> BTreeMap<String, String> {
    let report: Value = serde_json::from_str(stdout.trim()).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    checks.iter().map(|check| (text(check, "name"), text(check, "verdict"))).collect()
}

/// Red when the supervisor tells the keeper no settings.
#[test]
fn a_configuration_that_was_weakened_while_stopped_waits_for_an_operators_word() {
    let mut appliance = Appliance::start(&Options::default());
    appliance.stop();
    let file = appliance.data().join("strongroom.toml");
    let text = fs::read_to_string(&file).expect("settings");
    let weaker = text.replace("[dns]", "[journal]\ndurability = \"strict\"\n[dns]");
    fs::write(&file, weaker.replace("[dns.hosts]", "[dns.hosts]\n\"evil.example\" = \"10.0.0.1\""))
        .expect("settings");
    appliance.up();
    appliance.wait_state("sealed");
    let secret = strongroom_tests::PASSPHRASE.as_bytes();
    let refused = appliance.cli(&["unseal", "-"], secret);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    for part in
        ["SR-SETTINGS-001", "dns.hosts.evil.example: (not set) → 10.0.0.1", "group → strict"]
    {
        assert!(refused.stderr.contains(part), "{}", refused.stderr);
    }
    let (_, command) =
        refused.stderr.split_once("unseal - --accept-settings ").expect("the command");
    let shown = command.split('\'').next().expect("what differs");
    let other = appliance.cli(&["unseal", "--accept-settings", "0123", "-"], secret);
    assert!(other.stderr.contains("SR-SETTINGS-001"), "{}", other.stderr);
    appliance.cli(&["unseal", "--accept-settings", shown, "-"], secret).ok();
    let accepted = |entries: &[Value]| {
        let entry = entries.iter().find(|entry| entry["act"] == "settings.accept")?;
        entry["target"].as_str().map(ToOwned::to_owned)
    };
    let names = appliance.journaled("the word is in the journal", accepted);
    assert_eq!(names, "dns.hosts.evil.example,journal.durability");
    appliance.stop();
    appliance.up();
    appliance.wait_ready();
}

// Red when `up` takes an unsealed vault for an open one, and when it never says that the wait is over.
#[test]
fn a_start_that_waits_for_a_witness_says_so_and_not_ready() {
    let mut appliance = Appliance::start(&Options::default());
    let state = appliance.scratch().join("witness").display().to_string();
    let made = appliance.json(&["witness", "init", "--state", &state, "--name", "usb"], b"");
    let key = made["witness"].as_str().expect("a key");
    appliance.json(&["witness", "add", key, "--required"], b"");
    appliance.stop();
    let before = appliance.log().len();
    appliance.up();
    appliance.wait_state("unsealing");
    until("it was said", || {
        appliance.log()[before..].contains("WAITS FOR ITS WITNESS").then_some(())
    });
    assert!(!appliance.log()[before..].contains("is ready at"), "{}", &appliance.log()[before..]);
    until("the witness has answered", || {
        let ran = appliance.cli(&["witness", "run", "--state", &state, "--once"], b"");
        (ran.code == 0).then_some(())
    });
    until("it was said", || appliance.log()[before..].contains("is ready at").then_some(()));
}
