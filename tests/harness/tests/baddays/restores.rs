//! A backup that becomes a vault on another machine: what was revoked since stays dead, and what is not known sleeps.
//!
//! Invariant: no token acts in a restored vault that a surviving journal, or else the operator, does not vouch for.

use std::path::Path;

use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_tests::appliance::{PASSPHRASE, Vault};
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Options};

#[test]
fn a_restored_vault_is_read_only_and_trusts_no_token_that_nobody_vouches_for() {
    let (mut old, kept) = Appliance::stocked();
    let doomed = old.token("doomed", &[]);
    let backup = old.scratch().join("today.backup");
    old.cli(&["backup", "create", "--to", text(&backup)], b"").ok();
    old.cli(&["token", "revoke", "doomed", "--yes"], b"").ok();
    old.cli(&["credential", "delete", "anthropic", "--yes"], b"").ok();
    old.stop();
    let journal = old.data().join("vault/journal");
    let aged = old.scratch().join("today.age");
    std::fs::write(&aged, "age-encryption.org/v1\n").expect("a file");

    let new = restored(&[text(&backup), "--journal", text(&journal)]);
    let told = new.status();
    for time in ["backup", "restored"] {
        assert!(told["restored"][time].as_str().is_some_and(|time| time.ends_with('Z')), "{told}");
    }
    let doctor = new.cli(&["doctor"], b"");
    assert!(doctor.stdout.contains("restored and not confirmed"), "{}", doctor.stdout);
    let again = &told["restored"]["done_again"];
    assert!(again["tokens"] == 1 && again["credentials"] == 1, "{told}");
    let both = |new: &Appliance| [&kept, &doomed].map(|token| asked(new, token));
    assert_eq!(both(&new), [401, 401], "nobody has looked at it yet");
    let listed = new.json(&["credential", "list"], b"").to_string();
    assert!(listed.contains("openai") && !listed.contains("anthropic"), "{listed}");
    refused(&new, &["token", "create", "early"], "SR-BACKUP-011");
    // A test is a call: the key may have been deleted since. Red when its effect is that of looking.
    let seen = new.providers().counts();
    refused(&new, &["credential", "test", "openai"], "SR-BACKUP-011");
    assert_eq!(new.providers().counts(), seen, "no provider was asked");
    refused(&new, &["backup", "verify", text(&aged)], "--age-identity");
    let confirmed = new.cli(&["backup", "confirm", "--yes"], b"").ok();
    assert!(confirmed.stderr.contains("1 token revoked"), "{}", confirmed.stderr);
    assert_eq!(both(&new), [200, 401], "what was revoked stays dead");
    new.token("late", &[]);
    drop(new);

    let mut new = restored(&[text(&backup)]);
    assert_eq!(both(&new), [401, 401], "all tokens sleep");
    // A start in between: nothing is made in a vault that waits.
    new.stop();
    new.start_as(Vault::Passphrase);
    new.up();
    new.wait_ready();
    assert_eq!(asked(&new, &kept), 401, "{}", new.log());
    refused(&new, &["backup", "confirm", "--yes"], "SR-BACKUP-013");
    new.cli(&["backup", "confirm", "--token", "test", "--yes"], b"").ok();
    assert_eq!(both(&new), [200, 401]);
}

/// Red when `settle` does not make a vault's journal of an exported one.
#[test]
fn what_audit_export_and_a_witness_mirror_wrote_tells_a_restore_what_was_taken_away() {
    let (mut old, kept) = Appliance::stocked();
    let doomed = old.token("doomed", &[]);
    let state = old.scratch().join("witness");
    let made = old.json(&["witness", "init", "--state", text(&state), "--name", "usb"], b"");
    let key = made["witness"].as_str().expect("a key").to_owned();
    old.cli(&["witness", "add", &key], b"").ok();
    // More than one full bundle of entries lies before the backup.
    for _ in 0..140 {
        assert_eq!(asked(&old, &kept), 200);
    }
    let backup = old.scratch().join("today.backup");
    old.cli(&["backup", "create", "--to", text(&backup)], b"").ok();
    old.cli(&["credential", "delete", "anthropic", "--yes"], b"").ok();
    // It is answered when a checkpoint covers it.
    old.cli(&["token", "revoke", "doomed", "--yes"], b"").ok();
    let exported = old.scratch().join("exported");
    old.cli(&["audit", "export", text(&exported)], b"").ok();
    let run = ["witness", "run", "--state", text(&state), "--mirror", "--once"];
    old.cli(&run, b"").ok();
    old.stop();
    for journal in [exported, state.join("mirror")] {
        let new = restored(&[text(&backup), "--journal", text(&journal)]);
        let told = new.status();
        assert!(told["restored"]["journal"]["entries"].as_u64() > Some(256), "{told}");
        let again = &told["restored"]["done_again"];
        assert!(again["tokens"] == 1 && again["credentials"] == 1, "{told}");
        new.cli(&["backup", "confirm", "--yes"], b"").ok();
        assert_eq!([&kept, &doomed].map(|token| asked(&new, token)), [200, 401]);
        let pin = old.data().join("audit.pub");
        new.cli(&["audit", "verify", "--pin", text(&pin)], b"").ok();
    }
}

/// Another appliance, with the backup as its open vault.
fn restored(what: &[&str]) -> Appliance {
    let new = Appliance::start(&Options { vault: Vault::None, ..Options::default() });
    new.cli(&[&["backup", "restore"], what].concat(), b"").ok();
    new.cli(&["unseal", "-"], PASSPHRASE.as_bytes()).ok();
    new.wait_ready();
    new
}

fn asked(appliance: &Appliance, token: &str) -> u16 {
    appliance.gate().call(&models(Api::OpenAi, token)).status
}

fn refused(appliance: &Appliance, command: &[&str], code: &str) {
    let ran = appliance.cli(command, b"");
    assert!(ran.code != 0 && ran.stderr.contains(code), "{}{}", ran.stdout, ran.stderr);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The whole way of the runbook: moved with the appliance stopped, compacted, exported, and imported elsewhere.
#[test]
fn a_vaults_records_move_to_another_store_are_compacted_exported_and_imported() {
    let (mut moved, token) = Appliance::stocked();
    let settings = moved.data().join("strongroom.toml");
    let written = std::fs::read_to_string(&settings).expect("settings");
    let running = moved.cli(&["store", "compact"], b"");
    assert!(running.code != 0, "a keeper serves from it: {}", running.stderr);
    assert!(running.stderr.contains("SR-CLI-010"), "{}", running.stderr);
    moved.stop();
    let redb = format!("{written}\n[store]\nkind = \"redb\"\n");
    std::fs::write(&settings, redb).expect("settings");
    let former = moved.data().join("vault/vault/store.former");
    for command in ["move", "compact"] {
        moved.cli(&["store", command], b"").ok();
        assert!(former.exists(), "nobody has vouched for it yet");
        let again = moved.cli(&["store", "compact", "--json"], b"");
        let told = again.stderr.lines().last().map(serde_json::from_str::<Value>);
        let told = told.expect("a line").expect("JSON");
        assert_eq!(told["error"]["code"], "SR-STORE-021", "{}", again.stderr);
        assert!(told["error"]["next"].as_str().is_some_and(|next| next.contains("unseal")));
        moved.start_as(Vault::Passphrase);
        moved.up();
        if command == "move" {
            // The vault was last opened under another kind.
            moved.wait_state("sealed");
            assert!(former.exists(), "nobody has vouched for it yet");
            let refused = moved.cli(&["unseal", "-"], PASSPHRASE.as_bytes());
            let (_, shown) = refused.stderr.split_once("--accept-settings ").expect("the command");
            let (shown, _) = shown.split_once('\'').expect("it is quoted");
            moved.cli(&["unseal", "--accept-settings", shown, "-"], PASSPHRASE.as_bytes()).ok();
        }
        moved.wait_ready();
        assert!(!former.exists());
        assert_eq!(asked(&moved, &token), 200);
        if command == "move" {
            moved.stop();
        }
    }
    let exported = moved.scratch().join("records");
    moved.cli(&["store", "export", "--to", text(&exported)], b"").ok();
    let new = Appliance::start(&Options { vault: Vault::None, ..Options::default() });
    new.cli(&["store", "import", text(&exported)], b"").ok();
    new.cli(&["unseal", "-"], PASSPHRASE.as_bytes()).ok();
    new.wait_ready();
    new.cli(&["backup", "confirm", "--all-tokens", "--yes"], b"").ok();
    assert_eq!(asked(&new, &token), 200);
}
