//! The table for people and the JSON for comparisons.
//!
//! Invariant: data goes to standard output, progress to standard error.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::figures::{Figures, Sample};
use crate::goals::{Bound, Findings, Goal, Verdict};
use crate::memory::Held;
use crate::scene::Scene;
use crate::target::TargetName;

/// Where and how it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    pub(crate) nginx: String,
    pub(crate) nginx_workers: u8,
    /// If not Strongroom's own number.
    pub(crate) lanes: Option<u16>,
    pub(crate) rounds: u16,
    pub(crate) seconds: u16,
    /// Before and after: what else the machine was doing.
    pub(crate) load_averages: [String; 2],
}

#[derive(Serialize)]
struct Whole<'a> {
    version: u8,
    conditions: &'a Conditions,
    goals: &'a [Goal],
    findings: &'a Findings,
}

/// Progress, for whoever waits.
pub(crate) fn say(line: &str) {
    // Nobody is listening; the figures are written all the same.
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}

/// Writes the JSON.
pub(crate) fn write(
    path: &Path,
    conditions: &Conditions,
    goals: &[Goal],
    findings: &Findings,
) -> Result<()> {
    let whole = Whole { version: 1, conditions, goals, findings };
    fs::write(path, serde_json::to_vec_pretty(&whole)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Prints the table.
pub(crate) fn print(conditions: &Conditions, goals: &[Goal], findings: &Findings) -> Result<()> {
    let mut text = String::new();
    let Conditions { processors, kernel, nginx, nginx_workers, rounds, seconds, .. } = conditions;
    writeln!(
        text,
        "{processors} processors, Linux {kernel}, {nginx} with {nginx_workers} worker(s) a hop, \
         {rounds} rounds of {seconds} s; load {} → {}\n",
        conditions.load_averages[0], conditions.load_averages[1]
    )?;
    scenes(&mut text, &findings.figures)?;
    for (name, held) in [("nginx", &findings.nginx), ("strongroom", &findings.strongroom)] {
        if let Some(held) = held {
            memory(&mut text, name, held)?;
        }
    }
    if let Some(growth) = &findings.growth {
        writeln!(
            text,
            "{} calls in {:.1} s: memory after each tenth {:?} KiB",
            growth.calls, growth.seconds, growth.steps_kib
        )?;
    }
    if let Some(busy) = &findings.busy {
        writeln!(text, "{busy}")?;
    }
    if let Some(restart) = &findings.restart {
        writeln!(text, "{restart}")?;
    }
    if let Some(cold) = &findings.cold {
        writeln!(text, "{cold}")?;
    }
    text.push('\n');
    for goal in goals {
        verdict(&mut text, goal)?;
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

const TARGETS: [TargetName; 3] = [TargetName::Direct, TargetName::Nginx, TargetName::Strongroom];

fn scenes(text: &mut String, figures: &Figures) -> Result<()> {
    writeln!(
        text,
        "{:<12} {:<11} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>6}  by program",
        "scene",
        "target",
        "replies/s",
        "CPU µs",
        "÷ nginx",
        "p50 ms",
        "p99 ms",
        "added p50",
        "first p50",
        "first p99",
        "added",
        "reads"
    )?;
    for scene in figures.scenes() {
        for target in TARGETS {
            row(text, figures, scene, target)?;
        }
        text.push('\n');
    }
    Ok(())
}

fn row(text: &mut String, figures: &Figures, scene: Scene, target: TargetName) -> Result<()> {
    let (at, name) = ((scene.kind, scene.connections), target.name());
    if let Some(failure) = figures.failure(scene, target) {
        writeln!(text, "{:<12} {name:<11} failed: {failure}", scene.to_string())?;
    }
    let of = |figure: fn(&Sample) -> f64| figures.median(at, target, figure);
    if of(|sample| sample.replies).is_none() {
        return Ok(());
    }
    let ratio = figures.between(at, [target, TargetName::Nginx], |ours, theirs| {
        ours.cpu_us_per_reply / theirs.cpu_us_per_reply
    });
    let added = |figure: fn(&Sample) -> f64| {
        let pair = [target, TargetName::Direct];
        figures.between(at, pair, |ours, theirs| figure(ours) - figure(theirs))
    };
    writeln!(
        text,
        "{:<12} {name:<11} {:>9} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>6}  {}",
        scene.to_string(),
        shown(of(|sample| sample.replies_per_second), 0),
        shown(of(|sample| sample.cpu_us_per_reply), 1),
        if target == TargetName::Direct { String::new() } else { shown(ratio, 2) },
        shown(of(|sample| sample.whole_ms.p50), 3),
        shown(of(|sample| sample.whole_ms.p99), 3),
        shown(added(|sample| sample.whole_ms.p50), 3),
        shown(of(|sample| sample.first_ms.p50), 3),
        shown(of(|sample| sample.first_ms.p99), 3),
        shown(added(|sample| sample.first_ms.p50), 3),
        shown(of(|sample| sample.reads_per_reply), 1),
        split(figures, scene, target),
    )?;
    Ok(())
}

fn split(figures: &Figures, scene: Scene, target: TargetName) -> String {
    let at = (scene.kind, scene.connections);
    if target == TargetName::Direct {
        let of = |figure: fn(&Sample) -> f64| shown(figures.median(at, target, figure), 2);
        return format!(
            "cores: emulator {}, generator {}",
            of(|sample| sample.provider_cores),
            of(|sample| sample.generator_cores)
        );
    }
    let mut names = figures.programs(scene, target);
    names.retain(|name| name != "nginx");
    let part = |name: &String| {
        let cpu = |sample: &Sample| sample.cpu_us_by_program.get(name).copied().unwrap_or(0.0);
        let short = name.strip_prefix("strongroom-").unwrap_or("supervisor");
        format!("{short} {}", shown(figures.median(at, target, cpu), 1))
    };
    names.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn memory(text: &mut String, name: &str, held: &Held) -> Result<()> {
    let parts: Vec<_> =
        held.by_program.iter().map(|(program, kib)| format!("{program} {kib}")).collect();
    writeln!(text, "memory of {name} after the rounds, KiB: {}", parts.join(", "))?;
    Ok(())
}

fn verdict(text: &mut String, goal: &Goal) -> Result<()> {
    let word = match goal.verdict {
        Verdict::Held => "held",
        Verdict::Missed => "MISSED",
        Verdict::NotMeasured => "not measured",
    };
    let bound = match goal.bound {
        Bound::AtMost(limit) => format!("≤ {limit}"),
        Bound::AtLeast(limit) => format!("≥ {limit}"),
    };
    writeln!(text, "{:<42} {:>9} {bound:>8}  {word}", goal.what, shown(goal.measured, 3))?;
    Ok(())
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}
