//! One run from the first process to the report.
//!
//! Invariant: the figures are written even when the memory run or the cold start fails.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::appliance::Appliance;
use crate::arguments::Arguments;
use crate::chores;
use crate::client::Dial;
use crate::cold;
use crate::emulator::Provider;
use crate::goals::{self, Findings, Verdict};
use crate::memory;
use crate::nginx::{self, Nginx};
use crate::report::{self, Conditions, say};
use crate::rounds::{self, Bodies};
use crate::scratch;
use crate::target;

/// How a run came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every goal that was measured is held.
    Reached,
    /// Some goal is missed.
    Missed,
}

/// Starts everything, measures, reports; all ends with it.
pub(crate) async fn run(arguments: &Arguments) -> Result<Outcome> {
    let binaries = binaries(arguments)?;
    let version = nginx::version(&arguments.nginx)?;
    let scratch = scratch::prepare(arguments.dir.as_deref())?;
    let load_before = load_average();

    let provider = Provider::start(&binaries, &scratch)?;
    let bodies = Bodies::learn(&provider.direct()).await?;
    let mut nginx = Nginx::start(&arguments.nginx, arguments.nginx_workers, &provider, &scratch)?;
    let mut targets = vec![provider.direct(), nginx.target()];
    let appliance = if arguments.without_strongroom {
        None
    } else {
        let dir = scratch.join("appliance");
        let made = Appliance::set_up(&binaries, &provider, dir, arguments.lanes);
        Some(made.context("setting up Strongroom (leave it out with --without-strongroom)")?)
    };
    if let Some(appliance) = &appliance {
        targets.push(appliance.target()?);
    }
    target::describe(&targets, &scratch.join("targets.json"))?;

    let figures = rounds::run(arguments, &targets, &bodies, provider.pid()).await?;
    let mut findings = Findings { figures, ..Findings::default() };
    findings.nginx = told("memory of nginx", memory::held(&nginx.target().pids));
    nginx.stop();
    if let Some(appliance) = appliance {
        let target = appliance.target()?;
        findings.strongroom = told("memory of Strongroom", memory::held(&target.pids));
        beyond(arguments, (appliance, provider.pid()), &bodies, &mut findings).await?;
        if arguments.credentials() > 0 {
            let dir = scratch.join("cold");
            let fresh = Appliance::set_up(&binaries, &provider, dir, arguments.lanes)?;
            findings.cold = told("cold start", cold::measure(fresh, arguments.credentials()).await);
        }
    }

    let conditions = Conditions {
        processors: std::thread::available_parallelism()?.get(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        nginx: version,
        nginx_workers: arguments.nginx_workers,
        lanes: arguments.lanes,
        rounds: arguments.rounds(),
        seconds: arguments.seconds(),
        load_averages: [load_before, load_average()],
    };
    let goals = goals::judge(&findings);
    let out = arguments.out.clone().unwrap_or_else(|| scratch.join("bench.json"));
    report::write(&out, &conditions, &goals, &findings)?;
    report::print(&conditions, &goals, &findings)?;
    say(&format!("figures: {}", out.display()));
    let missed = goals.iter().any(|goal| goal.verdict == Verdict::Missed);
    Ok(if missed { Outcome::Missed } else { Outcome::Reached })
}

/// What only Strongroom is asked: memory over many calls, latency beside everything else it does, and how it starts afterwards.
async fn beyond(
    arguments: &Arguments,
    (mut appliance, provider): (Appliance, u32),
    bodies: &Bodies,
    findings: &mut Findings,
) -> Result<()> {
    if arguments.calls() > 0 {
        let dial = Dial::new(&appliance.target()?)?;
        let growth = memory::growth(&dial, bodies, arguments.calls()).await;
        findings.growth = told("memory run", growth);
    }
    if arguments.chores > 0 {
        let turns = (arguments.chores, Duration::from_secs(arguments.seconds().into()));
        let busy = chores::measure(&appliance, bodies, provider, turns).await;
        findings.busy = told("chores", busy);
    }
    findings.restart = told("restart", cold::restart(&mut appliance).await);
    Ok(())
}

fn told<T>(what: &str, result: Result<T>) -> Option<T> {
    result.map_err(|error| say(&format!("{what}: {error:#}"))).ok()
}

fn binaries(arguments: &Arguments) -> Result<PathBuf> {
    let named = match &arguments.binaries {
        Some(named) => named.clone(),
        None => std::env::current_exe()?.parent().context("no directory")?.to_owned(),
    };
    fs::canonicalize(&named).with_context(|| named.display().to_string())
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}
