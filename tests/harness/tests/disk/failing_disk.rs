//! A disk that fails or fills up at any write: nothing acknowledged is lost, and the refusal has a code.
//!
//! Invariant: after a restart on a disk that is mended, everything acknowledged is there and acts go on.
//! Limit: sled panics when it cannot sync while it closes a store that has failed; the keeper then ends instead of staying
//! sealed.
//!
//! Seen red: with a failed write of a slot file taken for a good one (`vault/keeper/src/slots.rs`).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::Fault;
use strongroom_tests::dice::Dice;
use strongroom_tests::{journal, scratch};

use crate::calls::Peers;
use crate::figures::tell;
use crate::keeper::{Door, Keeper, make_directory};
use crate::kills::recorded;
use crate::lab::{FileSystem, Lab};
use crate::ledger::{Found, Ledger, Unheard, Writer, furnish, judge, look};
use crate::tracer::{Failure, Tracer, may_trace};
use strongroom_soak::size;

/// Acts that are tried under one failure.
const ACTS: usize = 8;
/// Acts that no spare room suffices for.
const MANY_ACTS: usize = 200;

#[test]
fn a_write_or_sync_that_fails_loses_nothing_acknowledged() {
    if !may_trace() {
        return;
    }
    let place = scratch::directory();
    let data = place.path().join("d");
    let (mut scene, mut dice) = (Scene::make(&data), Dice::new());
    let failures = size(24, 500);
    for number in 0..failures {
        let failure = Failure {
            calls: ["pwrite64,write,pwritev,writev", "fsync,fdatasync,sync_file_range"]
                [number / 4 % 2],
            error: ["EIO", "ENOSPC"][number / 8 % 2],
            number: 1 + dice.roll(12),
            for_good: dice.roll(2) == 0,
        };
        let (keeper, found) = scene.open(&format!("before {failure:?}"));
        // The journal is asked first: where it lies on a disk of its own, the vault's may fail alone.
        let place = ["", "vault", "vault", "journal"][number % 4];
        let files = journal::files(&data.join(place));
        let tracer = Tracer::attach(keeper.pid(), failure, &files);
        scene.act(&keeper, &found, ACTS);
        drop(tracer);
        scene.ended += usize::from(keeper.kill_on_a_bad_disk());
    }
    scene.open("after the last failure").0.stop();
    scene.tell("failing-disk", failures);
}

#[test]
fn a_full_disk_refuses_with_a_code_and_goes_on_when_there_is_room() {
    let Some(lab) = Lab::new() else { return };
    let disk = lab.disk(FileSystem::Ext4, 96);
    let data = disk.path().join("d");
    let (mut scene, mut dice) = (Scene::make(&data), Dice::new());
    let filler = disk.path().join("filler");
    let fillings = size(6, 150);
    for number in 0..fillings {
        let (keeper, found) = scene.open(&format!("before filling {number}"));
        fill(&filler, 4096 * dice.roll(48));
        scene.act(&keeper, &found, MANY_ACTS);
        scene.ended += usize::from(keeper.kill_on_a_bad_disk());
        if dice.roll(2) == 0 {
            full_at_the_start(&data, &scene.shares);
        }
        fs::remove_file(&filler).expect("it is ours");
    }
    scene.open("after the last filling").0.stop();
    scene.tell("full-disk", fillings);
    drop(disk);
}

/// A vault, its ledger, and what was refused so far.
struct Scene<'a> {
    data: &'a Path,
    shares: Vec<SecretBytes>,
    token: SecretBytes,
    ledger: Ledger,
    entries: u64,
    released: Vec<strongroom_policy::id::CallId>,
    calls: usize,
    refused: BTreeMap<String, usize>,
    ended: usize,
}

impl<'a> Scene<'a> {
    fn make(data: &'a Path) -> Self {
        make_directory(data);
        let keeper = Keeper::start(data);
        let mut door = keeper.operator();
        let shares = door.found();
        let ledger = Ledger::default();
        let token = furnish(&mut door, &ledger);
        keeper.kill();
        let (released, refused) = (Vec::new(), BTreeMap::new());
        Self { data, shares, token, ledger, entries: 0, released, calls: 0, refused, ended: 0 }
    }

    /// Starts a keeper on a disk that is well: everything acknowledged must be there.
    #[track_caller]
    fn open(&mut self, what: &str) -> (Keeper, Found) {
        let keeper = Keeper::start(self.data);
        let mut door = keeper.operator();
        if let Err(fault) = door.unseal(&self.shares) {
            panic!("{what}: {fault:?}\n{}", keeper.said());
        }
        let found = look(&mut door);
        judge(what, &found, &self.ledger.allowed((self.ledger.now(), self.ledger.now())));
        self.ledger.settle(&found);
        self.entries = recorded(&mut door, self.entries, &self.released);
        self.calls += self.released.len();
        self.released.clear();
        (keeper, found)
    }

    /// Acts and calls until something is refused.
    #[track_caller]
    fn act(&mut self, keeper: &Keeper, found: &Found, acts: usize) {
        let mut peers = Peers::connect(keeper);
        let mut writer = Writer::new(0, keeper.operator(), found);
        for _ in 0..acts {
            match writer.act(&self.ledger, 1) {
                Ok(()) => {}
                Err(Unheard::Refused(fault)) => {
                    assert!(fault.code.starts_with("SR-"), "{fault:?}");
                    assert_ne!(fault.next, None, "{fault:?}");
                    *self.refused.entry(fault.code).or_default() += 1;
                    break;
                }
                Err(Unheard::Gone) => panic!("the keeper ended: {}", keeper.said()),
            }
            self.released.extend(peers.call(&self.token).expect("the keeper runs"));
        }
        // Whatever failed, the keeper answers.
        let _status = keeper.operator().status();
    }

    fn tell(&self, suite: &str, rounds: usize) {
        tell(suite, "failures with nothing lost and nothing back", rounds);
        tell(suite, "acts acknowledged", self.ledger.acknowledged());
        tell(suite, "calls released, each with its entry", self.calls);
        for (code, count) in &self.refused {
            tell(suite, &format!("refused with {code}"), count);
        }
        tell(suite, "and the store's library ended by a panic", self.ended);
        assert!(!self.refused.is_empty(), "nothing was ever refused");
    }
}

/// On a full disk a start may fail, and an unsealing may: with a code, and without harm.
fn full_at_the_start(data: &Path, shares: &[SecretBytes]) {
    let keeper = match Keeper::try_start(data) {
        Ok(keeper) => keeper,
        Err(ended) => panic!("it needs room to start: {ended:?}"),
    };
    let mut door: Door = keeper.operator();
    let opened: Result<(), Fault> = door.unseal(shares);
    if let Err(fault) = opened {
        assert!(fault.code.starts_with("SR-") && fault.next.is_some(), "{fault:?}");
    }
    keeper.kill();
}

/// Writes until nothing more fits, then gives so many bytes back.
fn fill(file: &Path, spare: u64) {
    let mut filler = File::create(file).expect("it is ours");
    for size in [1024 * 1024, 4096] {
        let block = vec![0_u8; size];
        while filler.write_all(&block).is_ok() {}
    }
    // What the file system only promised is written now.
    let _full = filler.sync_all();
    let length = filler.metadata().expect("it is ours").len();
    let shorter = OpenOptions::new().write(true).open(file);
    shorter.and_then(|file| file.set_len(length.saturating_sub(spare))).expect("it is ours");
}
