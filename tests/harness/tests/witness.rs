//! A vault and its witness, by the operator's tool alone: every earlier disk, put back whole, is found.
//!
//! Invariant: no call is answered from a disk that is older than what the witness has seen.
//!
//! Seen red: with what the witness saw not compared with the journal (`vault/keeper/src/acts/witnesses.rs`).
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strongroom_soak::{size, tell};
use strongroom_tests::appliance::PASSPHRASE;
use strongroom_tests::command::Ran;
use strongroom_tests::{Appliance, Options, until};

/// How the tool names what it did.
const ANSWERED: &str = "answered";
/// Its exit codes: the vault shows fewer entries, another history.
const REFUSALS: [i32; 2] = [13, 14];

struct Scene {
    appliance: Appliance,
    /// On a disk that is not the vault's.
    state: PathBuf,
}

impl Scene {
    fn make() -> Self {
        let appliance = Appliance::start(&Options::default());
        let state = appliance.scratch().join("witness");
        let scene = Self { appliance, state };
        let place = scene.state.display().to_string();
        let made =
            scene.appliance.json(&["witness", "init", "--state", &place, "--name", "usb"], b"");
        let key = made["witness"].as_str().expect("a key").to_owned();
        scene.appliance.cli(&["witness", "add", &key, "--required"], b"").ok();
        scene.remember();
        scene
    }

    /// One round of the witness.
    fn round(&self) -> Ran {
        let state = self.state.display().to_string();
        self.appliance.cli(&["witness", "run", "--state", &state, "--once", "--json"], b"")
    }

    /// Rounds until the witness has seen all that there is.
    fn remember(&self) {
        until("the witness has seen the newest entry", || {
            let round = self.round();
            if round.stderr.contains("SR-WITNESS-003") {
                // A new journal has no checkpoint in its first second.
                return None;
            }
            round.ok();
            let rows = self.appliance.json(&["witness", "list"], b"");
            let seen = rows["witnesses"][0]["seen_size"].as_u64()?;
            let entries = u64::try_from(self.appliance.entries().len()).ok()?;
            (seen >= entries).then_some(())
        });
    }

    /// The tokens that there are, whenever they were used.
    fn tokens(&self) -> Vec<String> {
        let listed = self.appliance.json(&["token", "list"], b"");
        let rows = listed["tokens"].as_array().expect("a list").iter();
        rows.map(|row| row["id"].to_string()).collect()
    }

    fn awaited(&self) -> Value {
        self.appliance.status()["awaited"].clone()
    }

    /// The appliance on a copy of its directory, open as far as the disk knows: `up` has the passphrase.
    fn start_on(&mut self, copy: &Path) {
        let data = self.appliance.data().to_owned();
        fs::remove_dir_all(&data).expect("it is ours");
        clone(copy, &data);
        // Whoever puts a disk back leaves out that an operator sealed it.
        drop(fs::remove_file(data.join("vault/sealed-by-operator")));
        self.appliance.up();
        until("it waits for its witness", || (!self.awaited().is_null()).then_some(()));
    }
}

fn clone(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is not copied", from.display());
}

#[test]
fn every_earlier_disk_put_back_whole_is_refused_by_the_witness() {
    let mut scene = Scene::make();
    let copies = size(4, 60);
    let at = |number: usize| format!("copy{number}");
    for number in 0..copies {
        scene.appliance.token(&format!("t{number}"), &[]);
        scene.remember();
        scene.appliance.cli(&["seal"], b"").ok();
        let copy = scene.appliance.scratch().join(at(number));
        clone(scene.appliance.data(), &copy);
        // Red when `unseal` says that a vault is open which makes no call yet.
        let opened = scene.appliance.cli(&["unseal", "-"], PASSPHRASE.as_bytes());
        assert_eq!((opened.code, opened.stderr.contains("witness")), (3, true), "{opened:?}");
        assert!(!scene.awaited().is_null(), "it waits for its witness");
        let told = scene.round().json();
        assert_eq!(told[ANSWERED], true, "{told}");
        assert!(scene.awaited().is_null(), "the witness has answered");
    }
    scene.remember();
    let tokens = scene.tokens();
    scene.appliance.stop();
    let newest = scene.appliance.scratch().join("newest");
    clone(scene.appliance.data(), &newest);

    for number in 0..copies {
        let copy = scene.appliance.scratch().join(at(number));
        // The disk alone does not show it.
        scene.start_on(&copy);
        let told = scene.round();
        assert!(REFUSALS.contains(&told.code), "copy {number}: {told:?}");
        let status = scene.appliance.cli(&["status", "--json"], b"");
        assert_eq!(status.code, 6, "copy {number}: {status:?}");
        assert!(status.stdout.contains("SR-WITNESS-006"), "copy {number}: {status:?}");
        scene.appliance.stop();
    }
    tell("rollback", "whole earlier disks refused by a witness", copies);

    scene.start_on(&newest);
    let told = scene.round().json();
    assert_eq!(told[ANSWERED], true, "{told}");
    scene.appliance.wait_ready();
    assert_eq!(scene.tokens(), tokens);
}
