//! Unsealing by shares of several people: CARD-05.
//!
//! Invariant: fewer shares than the threshold open nothing, and each bad one is named.

use std::fs;
use std::path::Path;

use strongroom_emulator::Api;
use strongroom_tests::appliance::Vault;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Options, Part};

#[test]
fn card_05_a_threshold_of_shares_opens_the_vault_and_fewer_do_not() {
    let appliance = Appliance::start(&Options { vault: Vault::None, ..Options::default() });
    assert_eq!(appliance.cli(&["status"], b"").code, 1);
    let directory = appliance.scratch().join("shares");
    let shares = make(&appliance, &directory);
    appliance.wait_ready();
    appliance.json(&["user", "create", "anna"], b"");
    appliance.deposit(Api::OpenAi, &["--no-test"]);
    let token = appliance.token("t", &[]);
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &token)).is(200);
    for file in strongroom_tests::journal::files(appliance.data()) {
        let bytes = fs::read(&file).expect("a file");
        let kept =
            shares.iter().any(|share| memchr::memmem::find(&bytes, share.as_bytes()).is_some());
        assert!(!kept, "a share is kept in {}", file.display());
    }

    appliance.cli(&["seal"], b"").ok();
    let give = |share: &str| appliance.cli(&["unseal", "-", "--json"], share.as_bytes());
    let first = give(&shares[1]);
    assert_eq!((first.code, first.stdout.contains("\"needed\":3")), (3, true), "{}", first.stdout);
    // The same one again, a damaged one, a passphrase: none of them counts.
    let mut damaged = shares[2].clone();
    let last = damaged.pop().expect("text");
    damaged.push(if last == 'a' { 'b' } else { 'a' });
    for bad in [shares[1].as_str(), &damaged, "a passphrase of someone"] {
        let ran = give(bad);
        assert!(
            ran.code == 1 || ran.stdout.contains("\"accepted\":[2]"),
            "{} {}{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
    }
    assert_eq!(appliance.cli(&["status"], b"").code, 3);
    assert_eq!(give(&shares[3]).code, 3);
    gate.call(&models(Api::OpenAi, &token)).refused(503, "SR-SEALED-001");
    assert_eq!(give(&shares[0]).code, 0);
    appliance.wait_ready();
    gate.call(&models(Api::OpenAi, &token)).is(200);

    // What was given to a keeper that died counts for nothing at the next.
    appliance.cli(&["seal"], b"").ok();
    assert_eq!(give(&shares[4]).code, 3);
    appliance.kill(Part::Keeper);
    appliance.wait_state("sealed");
    assert_eq!([&shares[0], &shares[2]].map(|share| give(share).code), [3, 3]);
    assert_eq!(give(&shares[4]).code, 0);
    appliance.wait_ready();
    gate.call(&models(Api::OpenAi, &token)).is(200);
}

/// Makes a vault of five shares, three of which are entered back; yields all of them.
fn make(appliance: &Appliance, directory: &Path) -> Vec<String> {
    let out = directory.display().to_string();
    let five = ["init", "--shares", "5", "--threshold", "3", "--plain-shares", "--out", &out];
    assert_ne!(
        appliance.cli(&five, b"yes\n").code,
        0,
        "plain shares need their typed confirmation"
    );
    assert!(!directory.join("share-1.txt").exists());
    appliance.cli(&five, b"plain shares\n").ok();
    let read = |number: usize| {
        let text =
            fs::read_to_string(directory.join(format!("share-{number}.txt"))).expect("a share");
        text.trim_end().to_owned()
    };
    let shares: Vec<String> = (1..=5).map(read).collect();
    assert_eq!(appliance.cli(&["status"], b"").code, 4);
    for (number, code) in [(0, 4), (2, 4), (4, 0)] {
        let ran = appliance.cli(&["share", "verify", "-"], shares[number].as_bytes());
        assert_eq!(ran.code, code, "{}", ran.stderr);
    }
    shares
}
