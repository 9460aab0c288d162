//! Power cuts under a stream of acts: what was acknowledged is there, what was deleted is not back.
//!
//! Seen red: with a slot file's writes not synced (`vault/keeper/src/slots.rs`), and with the store answering without its
//! flush and sync (`vault/store/src/embedded.rs`). Green with the store's second-descriptor sync alone left out, rightly: the
//! manifest is synced after it and before the answer, and the drive is flushed then.

use std::path::Path;
use std::thread;
use std::time::Duration;

use strongroom_protocol::SecretBytes;

use crate::figures::tell;
use crate::keeper::{Keeper, make_directory};
use crate::lab::{Cache, FileSystem, Lab};
use crate::ledger::{Allowed, Ledger, Writer, furnish, judge, look};
use strongroom_soak::size;
use strongroom_tests::dice::Dice;

const WRITERS: usize = 3;

#[test]
fn a_power_cut_on_ext4_loses_nothing_acknowledged_and_brings_nothing_back() {
    cut_power(FileSystem::Ext4, 96, size(25, 600));
}

#[test]
fn a_power_cut_on_xfs_loses_nothing_acknowledged_and_brings_nothing_back() {
    cut_power(FileSystem::Xfs, 320, size(20, 450));
}

fn cut_power(file_system: FileSystem, mebibytes: u64, cuts: usize) {
    let Some(lab) = Lab::new() else { return };
    let disk = lab.disk(file_system, mebibytes);
    let data = disk.path().join("d");
    make_directory(&data);
    let keeper = Keeper::start(&data);
    let mut door = keeper.operator();
    let shares = door.found();
    let ledger = Ledger::default();
    furnish(&mut door, &ledger);
    let mut dice = Dice::new();
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let mut writer = Writer::new(number, keeper.operator(), &look(&mut door));
            let ledger = &ledger;
            scope.spawn(move || writer.act_until_gone(ledger));
        }
        // Whatever happens in here, the keeper's end ends the writers.
        let keeper = Released { keeper: Some(keeper), ledger: &ledger };
        for number in 0..cuts {
            let cache = if dice.roll(3) == 0 { Cache::Kept } else { Cache::Lost };
            ledger.wait(1 + dice.roll(8));
            dice.linger(Duration::from_millis(20));
            let from = ledger.now();
            let mut cut = disk.cut(cache);
            let allowed = ledger.allowed((from, ledger.now()));
            ledger.close();
            let data = disk.mount(&mut cut, cache).join("d");
            come_back(&data, &shares, &allowed, &format!("cut {number}, cache {cache:?}"));
            drop(cut);
            ledger.reopen();
        }
        drop(keeper);
    });
    let suite = format!("power-cuts-{file_system:?}").to_lowercase();
    tell(&suite, "cuts with nothing lost and nothing back", cuts);
    tell(&suite, "acts acknowledged", ledger.acknowledged());
}

/// Opens the vault on the disk as the cut left it.
fn come_back(data: &Path, shares: &[SecretBytes], allowed: &Allowed, what: &str) {
    let keeper = Keeper::start(data);
    let mut door = keeper.operator();
    if let Err(fault) = door.unseal(shares) {
        panic!("{what}: {fault:?}\n{}", keeper.said());
    }
    judge(what, &look(&mut door), allowed);
}

/// A keeper whose end lets waiting writers go.
struct Released<'a> {
    keeper: Option<Keeper>,
    ledger: &'a Ledger,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        drop(self.keeper.take());
        self.ledger.reopen();
    }
}
