//! A backup that becomes a vault on another machine: what was revoked since stays dead, and what is not known sleeps.
//!
//! Invariant: no token acts in a restored vault that a surviving journal, or else the operator, does not vouch for.

use std::path::Path;

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
    moved.stop();
    let redb = format!("{written}\n[store]\nkind = \"redb\"\n");
    std::fs::write(&settings, redb).expect("settings");
    let former = moved.data().join("vault/vault/store.former");
    for command in ["move", "compact"] {
        moved.cli(&["store", command], b"").ok();
        assert!(former.exists(), "nobody has vouched for it yet");
        refused(&moved, &["store", command], "SR-STORE-0");
        moved.start_as(Vault::Passphrase);
        moved.up();
        if command == "move" {
            // The vault was last opened under another kind.
            moved.wait_state("sealed");
            assert!(former.exists(), "nobody has vouched for it yet");
            let word = ["unseal", "--accept-settings", "-"];
            moved.cli(&word, PASSPHRASE.as_bytes()).ok();
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
