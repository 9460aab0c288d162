//! Latency of calls while the keeper has everything else to do at once: backups, new generations of keys, searches of the
//! journal and the operator's checks, one after the other without a pause, each in a loop of its own.
//!
//! Invariant: quiet and busy seconds take turns in one run, on the same appliance.
//! Invariant: a chore that fails ends the measurement; every chore is done at least once while calls are measured.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;

use crate::appliance::{Appliance, Tool};
use crate::client::Dial;
use crate::figures::Spread;
use crate::load;
use crate::report::say;
use crate::rounds::Bodies;
use crate::scene::{Kind, Scene};

/// Few connections: what is asked is whether the keeper stalls, not how processors are shared.
const SCENE: Scene = Scene { kind: Kind::Plain, connections: 4 };

/// What is done meanwhile, over and over.
const CHORES: [(&str, &[&str]); 4] = [
    ("backups", &["backup", "create", "--unproved", "--to", "-"]),
    ("new generations of keys", &["key", "rotate", "--wait"]),
    ("searches", &["audit", "search", "--act", "admit", "--limit", "1000"]),
    ("checks", &["key", "status"]),
];

/// Latency with and without chores, milliseconds: the median over the turns.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Busy {
    pub(crate) quiet: Spread,
    pub(crate) beside: Spread,
    /// How often each chore was done while calls were measured.
    pub(crate) done: Vec<(&'static str, u32)>,
}

/// Measures in turns.
pub(crate) async fn measure(
    appliance: &Appliance,
    bodies: &Bodies,
    provider: u32,
    (turns, wanted): (u16, Duration),
) -> Result<Busy> {
    let dial = Dial::new(&appliance.target()?)?;
    let exchange = bodies.exchange(&dial, SCENE.kind)?;
    let mut both = [Vec::new(), Vec::new()];
    let mut done = [0; CHORES.len()];
    for turn in 1..=turns {
        let quiet = load::measure(&dial, SCENE, &exchange, provider, wanted).await?;
        let chores = Chores::begin(appliance);
        let busy = load::measure(&dial, SCENE, &exchange, provider, wanted).await;
        // A round of each counts only whole: what is under way is finished first.
        for (sum, times) in done.iter_mut().zip(chores.end()?) {
            *sum += times;
        }
        let (quiet, busy) = (quiet.whole_ms, busy?.whole_ms);
        say(&format!(
            "chores {turn}/{turns}: p99 {:.3} ms, {:.3} ms beside them",
            quiet.p99, busy.p99
        ));
        both[0].push(quiet);
        both[1].push(busy);
    }
    let [quiet, beside] = both.map(|all| Spread::median(&all));
    let done = CHORES.iter().zip(done).map(|((name, _), times)| (*name, times)).collect();
    Ok(Busy { quiet, beside, done })
}

/// Chores under way.
struct Chores {
    stop: Arc<AtomicBool>,
    loops: Vec<JoinHandle<Result<u32>>>,
}

impl Chores {
    fn begin(appliance: &Appliance) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let loops = CHORES.map(|(name, arguments)| {
            let (tool, stop) = (appliance.operators_tool(), Arc::clone(&stop));
            thread::spawn(move || repeat(&tool, name, arguments, &stop))
        });
        Self { stop, loops: loops.into() }
    }

    /// Lets each finish; yields how often each was done.
    fn end(self) -> Result<Vec<u32>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended =
            |one: JoinHandle<Result<u32>>| one.join().map_err(|_| anyhow!("a chore panicked"))?;
        self.loops.into_iter().map(ended).collect()
    }
}

fn repeat(tool: &Tool, name: &str, arguments: &[&str], stop: &AtomicBool) -> Result<u32> {
    let mut done = 0;
    while done == 0 || !stop.load(Ordering::Relaxed) {
        tool.run(arguments, "").with_context(|| name.to_owned())?;
        done += 1;
    }
    Ok(done)
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quiet, beside, done } = self;
        write!(
            f,
            "{SCENE}: p50 {:.3} ms, p99 {:.3} ms; beside chores p50 {:.3} ms, p99 {:.3} ms (",
            quiet.p50, quiet.p99, beside.p50, beside.p99
        )?;
        for (number, (name, times)) in done.iter().enumerate() {
            write!(f, "{}{times} {name}", if number > 0 { ", " } else { "" })?;
        }
        write!(f, ")")
    }
}
