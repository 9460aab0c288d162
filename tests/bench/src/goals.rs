//! The numbers that Strongroom has to reach, and whether it did.
//!
//! Invariant: what was not measured is neither held nor missed.

use serde::Serialize;

use crate::chores::Busy;
use crate::cold::{Cold, Restart};
use crate::figures::{Figures, Sample};
use crate::memory::{Growth, Held};
use crate::scene::Kind;
use crate::target::TargetName::{Direct, Nginx, Strongroom};

/// Everything that a run found out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    pub(crate) figures: Figures,
    pub(crate) strongroom: Option<Held>,
    pub(crate) nginx: Option<Held>,
    pub(crate) growth: Option<Growth>,
    pub(crate) busy: Option<Busy>,
    pub(crate) restart: Option<Restart>,
    pub(crate) cold: Option<Cold>,
}

/// One number to reach.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    pub(crate) measured: Option<f64>,
    pub(crate) verdict: Verdict,
}

/// On which side of a limit it has to be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// How it came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Held,
    Missed,
    NotMeasured,
}

/// Over 100,000 calls the allocators' arenas and the journal's caches settle; a leak of 32 bytes a call would show.
const FLAT_KIB: f64 = 2048.0;

/// Judges a run.
pub(crate) fn judge(findings: &Findings) -> Vec<Goal> {
    let Findings { figures, strongroom, growth, cold, .. } = findings;
    let cpu = |ours: &Sample, theirs: &Sample| ours.cpu_us_per_reply / theirs.cpu_us_per_reply;
    let rate = |ours: &Sample, theirs: &Sample| ours.replies_per_second / theirs.replies_per_second;
    let nginx = |scene, figure: &dyn Fn(&Sample, &Sample) -> f64| {
        figures.between(scene, [Strongroom, Nginx], figure)
    };
    let direct = |scene, figure: &dyn Fn(&Sample, &Sample) -> f64| {
        figures.between(scene, [Strongroom, Direct], figure)
    };
    let added = |ours: &Sample, theirs: &Sample| ours.whole_ms.p50 - theirs.whole_ms.p50;
    let added_first = |ours: &Sample, theirs: &Sample| ours.first_ms.p50 - theirs.first_ms.p50;
    let megabytes = |held: &Held| held.appliance_kib as f64 * 1024.0 / 1e6;
    let (plain, burst, paced) = (Kind::Plain, Kind::Burst, Kind::Paced);
    let most = Bound::AtMost;
    vec![
        goal("CPU ÷ nginx, plain × 64", most(1.0), nginx((plain, 64), &cpu)),
        goal("throughput ÷ nginx, plain × 64", Bound::AtLeast(1.0), nginx((plain, 64), &rate)),
        goal("CPU ÷ nginx, burst × 16", most(1.1), nginx((burst, 16), &cpu)),
        goal("CPU ÷ nginx, paced × 64", most(0.85), nginx((paced, 64), &cpu)),
        goal("added median latency, plain × 1, ms", most(0.15), direct((plain, 1), &added)),
        goal("added first byte, paced × 16, ms", most(1.0), direct((paced, 16), &added_first)),
        goal("memory of the three, MB", most(60.0), strongroom.as_ref().map(megabytes)),
        goal(
            "growth over the memory run, KiB",
            most(FLAT_KIB),
            growth.as_ref().map(|growth| growth.grown_kib as f64),
        ),
        goal(
            "cold start beyond the key derivation, s",
            most(1.0),
            cold.as_ref().map(|cold| cold.start_beyond_derivation_s),
        ),
    ]
}

fn goal(what: &'static str, bound: Bound, measured: Option<f64>) -> Goal {
    let verdict = match (bound, measured) {
        (_, None) => Verdict::NotMeasured,
        (Bound::AtMost(limit), Some(value)) if value <= limit => Verdict::Held,
        (Bound::AtLeast(limit), Some(value)) if value >= limit => Verdict::Held,
        (Bound::AtMost(_) | Bound::AtLeast(_), Some(_)) => Verdict::Missed,
    };
    Goal { what, bound, measured, verdict }
}

#[cfg(test)]
mod tests {
    use super::{Bound, Findings, Verdict, goal, judge};

    #[test]
    fn a_goal_is_held_at_its_limit_and_missed_beyond_it() {
        let verdict = |bound, value| goal("x", bound, value).verdict;
        assert_eq!(verdict(Bound::AtMost(1.0), Some(1.0)), Verdict::Held);
        assert_eq!(verdict(Bound::AtMost(1.0), Some(1.1)), Verdict::Missed);
        assert_eq!(verdict(Bound::AtLeast(1.0), Some(0.9)), Verdict::Missed);
        assert_eq!(verdict(Bound::AtMost(1.0), Some(f64::NAN)), Verdict::Missed);
        assert_eq!(verdict(Bound::AtMost(1.0), None), Verdict::NotMeasured);
    }

    #[test]
    fn a_run_without_strongroom_judges_nothing() {
        let goals = judge(&Findings::default());
        assert!(goals.iter().all(|goal| goal.verdict == Verdict::NotMeasured));
    }
}
