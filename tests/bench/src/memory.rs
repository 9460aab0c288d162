//! Memory: what the processes hold after the rounds, and whether it grows with the calls.
//!
//! Invariant: growth is counted from a warm state, after the first tenth of the calls.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use crate::client::Dial;
use crate::load;
use crate::process;
use crate::report::say;
use crate::rounds::Bodies;
use crate::scene::Kind;

/// As in the scene with the goal of throughput.
const CONNECTIONS: u16 = 64;
const STEPS: u32 = 10;

/// What processes hold, by program, KiB.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Held {
    pub(crate) by_program: BTreeMap<String, u64>,
    /// The four that carry calls, two couriers among them; the supervisor is not.
    pub(crate) appliance_kib: u64,
}

/// How memory went over many calls.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Growth {
    pub(crate) calls: u32,
    pub(crate) seconds: f64,
    /// After each tenth of the calls.
    pub(crate) steps_kib: Vec<u64>,
    /// From the first tenth to the last.
    pub(crate) grown_kib: i64,
}

/// The processes that carry calls.
pub(crate) const APPLIANCE: [&str; 3] =
    ["strongroom-gateway", "strongroom-keeper", "strongroom-courier"];

/// Reads what is held now.
pub(crate) fn held(pids: &[u32]) -> Result<Held> {
    let mut by_program = BTreeMap::new();
    for &pid in pids {
        *by_program.entry(process::program(pid)).or_insert(0) += process::pss_kib(pid)?;
    }
    let appliance_kib = APPLIANCE.iter().filter_map(|name| by_program.get(*name)).sum();
    Ok(Held { by_program, appliance_kib })
}

/// Makes the calls and watches.
pub(crate) async fn growth(dial: &Dial, bodies: &Bodies, calls: u32) -> Result<Growth> {
    let exchange = bodies.exchange(dial, Kind::Plain)?;
    let mut steps_kib = Vec::new();
    let mut seconds = 0.0;
    for step in 1..=STEPS {
        let took = load::calls(dial, CONNECTIONS, &exchange, u64::from(calls / STEPS)).await?;
        seconds += took.as_secs_f64();
        let held = process::pss_kib_of(&dial.target().pids)?;
        say(&format!("memory {step}/{STEPS}: {held} KiB"));
        steps_kib.push(held);
    }
    let ends = [steps_kib.first(), steps_kib.last()];
    let [first, last] = ends.map(|end| i64::try_from(end.copied().unwrap_or(0)).unwrap_or(0));
    Ok(Growth { calls, seconds, steps_kib, grown_kib: last - first })
}
