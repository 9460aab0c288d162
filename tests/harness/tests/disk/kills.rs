//! A keeper killed at any moment, while it serves and while it opens.
//!
//! Invariant: what was acknowledged is there, what was deleted is not, and no call was released without its entry.
//!
//! Seen red: with the store's writer answering before it has written (`vault/store/src/group.rs`).

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use strongroom_policy::id::CallId;
use strongroom_protocol::SecretBytes;
use strongroom_tests::dice::Dice;
use strongroom_tests::scratch;

use crate::calls::Peers;
use crate::figures::tell;
use crate::keeper::{Door, Keeper, make_directory};
use crate::ledger::{Found, Ledger, Writer, furnish, judge, look};
use strongroom_soak::size;

const WRITERS: usize = 3;
/// Most calls between two kills; the journal is read from its first line at each start.
const CALLS: usize = 60;

/// Kills of one vault: a journal that grows for ever would make of each opening the longest part.
const OF_ONE_VAULT: usize = 50;

#[derive(Default)]
struct Count {
    kills: usize,
    opening: usize,
    acknowledged: u64,
    calls: usize,
}

#[test]
fn a_keeper_killed_at_any_moment_loses_nothing_acknowledged_and_no_entry() {
    let (mut dice, mut count) = (Dice::new(), Count::default());
    for _ in 0..size(1, 20) {
        kill_one_vault(&mut dice, &mut count);
    }
    let Count { kills, opening, acknowledged, calls } = count;
    tell("kills", "kills with nothing lost and nothing back", kills);
    tell("kills", "of them while it opened", opening);
    tell("kills", "acts acknowledged", acknowledged);
    tell("kills", "calls released, each with its entry", calls);
    assert!(calls > 0 && acknowledged > 50, "nothing was put at risk");
}

fn kill_one_vault(dice: &mut Dice, count: &mut Count) {
    let place = scratch::directory();
    let data = place.path().join("d");
    make_directory(&data);
    let ledger = Ledger::default();
    let keeper = Keeper::start(&data);
    let mut door = keeper.operator();
    let shares = door.found();
    let token = furnish(&mut door, &ledger);
    keeper.kill();
    let (mut number, mut released) = (0, Vec::new());
    for kill in 0..OF_ONE_VAULT {
        let what = format!("kill {kill}");
        if dice.roll(4) == 0 {
            kill_while_it_opens(Keeper::start(&data), &shares, dice);
            count.opening += 1;
            count.kills += 1;
        }
        let keeper = Keeper::start(&data);
        let mut door = keeper.operator();
        if let Err(fault) = door.unseal(&shares) {
            panic!("{what}: {fault:?}\n{}", keeper.said());
        }
        let found = look(&mut door);
        judge(&what, &found, &ledger.allowed((ledger.now(), ledger.now())));
        ledger.settle(&found);
        number = recorded(&mut door, number, &released);
        count.calls += released.len();
        count.kills += 1;
        released = kill_while_it_serves(keeper, (&ledger, &found), &token, dice);
    }
    count.acknowledged += ledger.acknowledged();
}

fn kill_while_it_opens(keeper: Keeper, shares: &[SecretBytes], dice: &mut Dice) {
    let mut door = keeper.operator();
    thread::scope(|scope| {
        scope.spawn(move || door.try_unseal(shares));
        dice.linger(Duration::from_millis(150));
        keeper.kill();
    });
}

/// Answers the calls whose keys were handed out.
fn kill_while_it_serves(
    keeper: Keeper,
    (ledger, found): (&Ledger, &Found),
    token: &SecretBytes,
    dice: &mut Dice,
) -> Vec<CallId> {
    let released = Mutex::new(Vec::new());
    let mut peers = Peers::connect(&keeper);
    thread::scope(|scope| {
        for number in 0..WRITERS {
            let mut writer = Writer::new(number, keeper.operator(), found);
            scope.spawn(move || writer.act_until_gone(ledger));
        }
        let released = &released;
        scope.spawn(move || {
            for _ in 0..CALLS {
                let Ok(call) = peers.call(token) else { return };
                released.lock().expect("nobody panics").extend(call);
            }
        });
        ledger.wait(dice.roll(8));
        dice.linger(Duration::from_millis(30));
        keeper.kill();
    });
    released.into_inner().expect("nobody panics")
}

/// Looks each released call up in the journal; answers the last number.
pub(crate) fn recorded(door: &mut Door, after: u64, released: &[CallId]) -> u64 {
    let rows = door.journal(after).expect("the journal is read");
    let entries = rows.iter().map(|row| serde_json::from_str(&row.line).expect("JSON"));
    let admitted: BTreeSet<String> = entries
        .filter(|entry: &Value| entry["what"] == "admit")
        .filter_map(|entry| entry["call"].as_str().map(ToOwned::to_owned))
        .collect();
    for call in released {
        assert!(admitted.contains(&call.to_string()), "{call} had its key and has no entry");
    }
    rows.last().map_or(after, |row| row.number)
}
