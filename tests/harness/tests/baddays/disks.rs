//! Journals that are taken away, disks that fill, stores that were changed (ledger rows 5 and 6, attack row 8).
//!
//! Invariant: no entry, no call; what is not as it was left is not opened.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use strongroom_emulator::Api;
use strongroom_tests::journal::{join, split};
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Options, PATIENCE, PROMPT, scratch, until};

#[test]
fn a_journal_that_was_unlinked_stops_all_calls_within_seconds() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &token)).is(200);
    fs::remove_file(appliance.journal()).expect("root may");
    let taken = Instant::now();
    until("nothing is released any more", || {
        let answer = gate.call(&models(Api::OpenAi, &token));
        (answer.refusal() == Some("SR-JOURNAL-001")).then_some(())
    });
    assert!(taken.elapsed() < PROMPT, "{:?}", taken.elapsed());
    let before = appliance.providers().counts().requests;
    for _ in 0..5 {
        gate.call(&models(Api::OpenAi, &token)).refused(503, "SR-JOURNAL-001");
    }
    assert_eq!(appliance.providers().counts().requests, before);
    // An operator's act that cannot be recorded is not done either.
    let refused = appliance.cli(&["user", "create", "unrecorded"], b"");
    assert_ne!(refused.code, 0, "{}", refused.stdout);
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_that_was_acknowledged() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let options = Options { data: Some(disk.path.join("d")), ..Options::default() };
    let mut appliance = Appliance::start(&options);
    appliance.deposit(Api::OpenAi, &["--no-test"]);
    let token = appliance.token("t", &["--rate", "1000000"]);
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &token)).is(200);
    let filler = disk.path.join("filler");
    fill(&filler);
    let mut made = Vec::new();
    let refused = until("a user can no longer be made", || {
        for turn in 0..50 {
            let name = format!("user-{turn}-{}", made.len());
            let ran = appliance.cli(&["user", "create", &name], b"");
            if ran.code != 0 {
                return Some(ran);
            }
            made.push(name);
        }
        None
    });
    assert!(refused.stderr.contains("SR-"), "{}", refused.stderr);
    let counted = appliance.providers().counts().requests;
    let mut passed = 0;
    for _ in 0..20 {
        let answer = gate.call(&models(Api::OpenAi, &token));
        assert!(matches!(answer.status, 200 | 503), "{}", answer.story());
        passed += u64::from(answer.status == 200);
    }
    assert_eq!(appliance.providers().counts().requests, counted + passed);
    fs::remove_file(&filler).expect("it is ours");
    appliance.stop();
    appliance.up();
    appliance.wait_ready();
    let list = appliance.json(&["user", "list"], b"").to_string();
    for name in &made {
        assert!(list.contains(name.as_str()), "{name} was acknowledged and is gone");
    }
    gate.call(&models(Api::OpenAi, &token)).is(200);
    drop(appliance);
}

/// Writes until nothing more fits.
fn fill(file: &Path) {
    let mut filler = fs::File::create(file).expect("it is ours");
    for size in [1024 * 1024, 4096, 512, 1] {
        let block = vec![0_u8; size];
        while filler.write_all(&block).and_then(|()| filler.flush()).is_ok() {}
    }
}

/// A file system in memory, unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
    _scratch: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, and said, where this user may not mount.
    fn mount(mebibytes: u32) -> Option<Self> {
        let scratch = scratch::directory();
        let path = scratch.path().join("disk");
        fs::create_dir(&path).expect("it is ours");
        let size = format!("size={mebibytes}m,mode=0755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).status();
        if !mounted.is_ok_and(|status| status.success()) {
            strongroom_soak::skipped("only root mounts a small tmpfs");
            return None;
        }
        Some(Self { path, _scratch: scratch })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted =
            || Command::new("umount").arg(&self.path).status().is_ok_and(|s| s.success());
        let _busy = strongroom_tests::patience::within(PATIENCE, || unmounted().then_some(()));
    }
}

#[test]
fn a_vault_with_one_flipped_byte_is_refused_or_complete_and_never_less() {
    let (mut appliance, token) = Appliance::stocked();
    let before = appliance.json(&["credential", "list"], b"")["credentials"].clone();
    appliance.stop();
    // What opens goes on writing, so every turn begins with the whole directory as it was.
    let (vault, kept) = (appliance.data().join("vault"), appliance.scratch().join("kept"));
    restore(&vault, &kept);
    for (name, flips) in [("db", 8), ("manifest", 3), ("keyring", 3), ("seal", 3)] {
        let file = named(&appliance.data().join("vault"), name);
        let original = fs::read(&file).expect("a file");
        let written = original.iter().enumerate().filter(|(_, byte)| **byte != 0);
        let written: Vec<usize> = written.map(|(at, _)| at).collect();
        let mut refused = 0;
        for turn in 1..=flips {
            let at = written[written.len() * turn / (flips + 1)];
            let mut damaged = original.clone();
            damaged[at] ^= 0x10;
            fs::write(&file, &damaged).expect("root may");
            appliance.up();
            let opened = until("it is refused, or serves", || match appliance.ended() {
                Some(code) => Some(Err(code)),
                None => (appliance.status()["state"] == "ready").then_some(Ok(())),
            });
            if let Err(code) = opened {
                refused += 1;
                // A seal that does not open is told like a wrong passphrase.
                let told = (5..=8).contains(&code) || (name == "seal" && code == 1);
                assert!(told, "{name} byte {at}: {code}\n{}", appliance.log());
                let left = fs::read(&file).expect("a file");
                assert!(left == damaged, "{name} byte {at}: the evidence was rewritten");
            } else {
                // A byte that no record needs: all that was there is there.
                let after = appliance.json(&["credential", "list"], b"");
                assert_eq!(after["credentials"], before, "{name} byte {at}");
            }
            appliance.stop();
            restore(&kept, &vault);
        }
        // Manifest, keyring and seal stand there twice or more, so one copy's damage is survived.
        assert!(refused > 0 || name != "db", "none of {flips} flips in {name} met anything");
    }
    appliance.up();
    appliance.wait_ready();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
}

#[test]
fn a_journal_with_a_changed_or_missing_entry_is_refused() {
    let (mut appliance, token) = Appliance::stocked();
    for _ in 0..4 {
        appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    }
    appliance.stop();
    let journal = appliance.journal();
    let original = fs::read(&journal).expect("a file");
    let entries = split(&original);
    let text = |entry: &[u8]| String::from_utf8_lossy(entry).into_owned();
    let closed = entries.iter().position(|entry| text(entry).contains("\"status\":200"));
    let closed = closed.expect("a call was closed");
    let other = text(entries[closed]).replacen("\"status\":200", "\"status\":201", 1);
    let mut changed = entries.clone();
    changed[closed] = other.as_bytes();
    let without = [&entries[..3], &entries[4..]].concat();
    let mut swapped = entries.clone();
    swapped.swap(2, 3);
    let cut = &entries[..entries.len() - 1];
    let damages =
        [("changed", &*changed), ("removed", &without), ("swapped", &swapped), ("cut", cut)];
    for (what, entries) in damages {
        let damaged = join(entries);
        assert_ne!(damaged, original, "{what}");
        fs::write(&journal, &damaged).expect("root may");
        let ran = appliance.up_again();
        assert!(ran.code != 0 && ran.stderr.contains("SR-"), "{what}: {} {}", ran.code, ran.stderr);
    }
    fs::write(&journal, &original).expect("root may");
    appliance.up();
    appliance.wait_ready();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
}

/// Makes `to` what `from` is, owners included.
fn restore(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("root may");
    }
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is not copied", from.display());
}

fn named(directory: &Path, name: &str) -> PathBuf {
    let mut files = strongroom_tests::journal::files(directory).into_iter();
    files.find(|file| file.file_name().is_some_and(|found| found == name)).expect("a file")
}
