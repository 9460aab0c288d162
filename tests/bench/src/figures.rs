//! What is measured, and how several measurements become one figure.
//!
//! Invariant: a ratio is taken within one round, where both sides saw the same machine; the median is taken over
//! the rounds' ratios, never the ratio of medians.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::scene::{Kind, Scene};
use crate::target::TargetName;

/// One measurement of one scene on one target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// Replies, by the bytes of their bodies: streams that were cut by a reading count in part.
    pub(crate) replies: f64,
    pub(crate) seconds: f64,
    pub(crate) replies_per_second: f64,
    /// From the request to the first byte of the body.
    pub(crate) first_ms: Spread,
    /// To the last byte.
    pub(crate) whole_ms: Spread,
    /// Reads at the client: how far chunks were sent together.
    pub(crate) reads_per_reply: f64,
    /// All processes of the target.
    pub(crate) cpu_us_per_reply: f64,
    pub(crate) cpu_us_by_program: BTreeMap<String, f64>,
    /// Processors that the emulator kept busy: near the machine's number it would be the limit.
    pub(crate) provider_cores: f64,
    /// Processors that this program kept busy: at 1 it would be the limit.
    pub(crate) generator_cores: f64,
}

/// Middle and tail of some times, milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// A measurement with its place in the run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    pub(crate) round: u16,
    pub(crate) scene: Scene,
    pub(crate) target: TargetName,
    pub(crate) sample: Result<Sample, String>,
}

/// All measurements.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Figures(Vec<Measured>);

impl Spread {
    pub(crate) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let mut sorted: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        Self { p50: percentile(&sorted, 50), p99: percentile(&sorted, 99) }
    }

    /// The median of each over several measurements; 0 of none.
    pub(crate) fn median(all: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(all.iter().map(figure).collect()).unwrap_or(0.0);
        Self { p50: of(|one| one.p50), p99: of(|one| one.p99) }
    }
}

impl Figures {
    pub(crate) fn add(&mut self, measured: Measured) {
        self.0.push(measured);
    }

    /// The scenes, in order.
    pub(crate) fn scenes(&self) -> Vec<Scene> {
        let mut scenes: Vec<_> = self.0.iter().map(|measured| measured.scene).collect();
        scenes.sort_unstable();
        scenes.dedup();
        scenes
    }

    /// Why a target failed in a scene, if it ever did.
    pub(crate) fn failure(&self, scene: Scene, target: TargetName) -> Option<&str> {
        let mut of = self.0.iter().filter(|m| m.scene == scene && m.target == target);
        of.find_map(|measured| measured.sample.as_ref().err()).map(String::as_str)
    }

    /// The programs that a target consists of.
    pub(crate) fn programs(&self, scene: Scene, target: TargetName) -> Vec<String> {
        let rounds = self.rounds(scene, target);
        rounds
            .values()
            .next()
            .map_or_else(Vec::new, |s| s.cpu_us_by_program.keys().cloned().collect())
    }

    /// The median over the rounds of one figure.
    pub(crate) fn median(
        &self,
        (kind, connections): (Kind, u16),
        target: TargetName,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<f64> {
        let scene = Scene { kind, connections };
        median(self.rounds(scene, target).values().map(|sample| figure(sample)).collect())
    }

    /// The median over the rounds of a figure of two targets.
    pub(crate) fn between(
        &self,
        (kind, connections): (Kind, u16),
        [left, right]: [TargetName; 2],
        figure: impl Fn(&Sample, &Sample) -> f64,
    ) -> Option<f64> {
        let scene = Scene { kind, connections };
        let (left, right) = (self.rounds(scene, left), self.rounds(scene, right));
        let both = left.iter().filter_map(|(round, left)| Some((*left, *right.get(round)?)));
        median(both.map(|(left, right)| figure(left, right)).collect())
    }

    fn rounds(&self, scene: Scene, target: TargetName) -> BTreeMap<u16, &Sample> {
        let of = self.0.iter().filter(|m| m.scene == scene && m.target == target);
        of.filter_map(|m| Some((m.round, m.sample.as_ref().ok()?))).collect()
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// The nearest rank; 0 of nothing.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::{Figures, Measured, Sample, Spread, median, percentile};
    use crate::scene::{Kind, Scene};
    use crate::target::TargetName;

    fn sample(cpu: f64) -> Sample {
        Sample {
            replies: 1.0,
            seconds: 1.0,
            replies_per_second: 1.0,
            first_ms: Spread::default(),
            whole_ms: Spread::default(),
            reads_per_reply: 1.0,
            cpu_us_per_reply: cpu,
            cpu_us_by_program: std::collections::BTreeMap::default(),
            provider_cores: 0.0,
            generator_cores: 0.0,
        }
    }

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((percentile(&hundred, 99) - 99.0).abs() < 1e-9);
        assert!((percentile(&[7.0], 99) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let mut figures = Figures::default();
        let scene = Scene { kind: Kind::Plain, connections: 64 };
        // A machine that slows down: 1.5 in every round, while the ratio of medians is not.
        let rounds = [(10.0, 15.0), (20.0, 30.0), (80.0, 120.0)];
        for (round, (nginx, ours)) in (0_u16..).zip(rounds) {
            for (target, cpu) in [(TargetName::Nginx, nginx), (TargetName::Strongroom, ours)] {
                figures.add(Measured { round, scene, target, sample: Ok(sample(cpu)) });
            }
        }
        figures.add(Measured {
            round: 3,
            scene,
            target: TargetName::Nginx,
            sample: Err("lost".into()),
        });
        let pair = [TargetName::Strongroom, TargetName::Nginx];
        let ratio = figures.between((Kind::Plain, 64), pair, |ours, theirs| {
            ours.cpu_us_per_reply / theirs.cpu_us_per_reply
        });
        assert!((ratio.unwrap() - 1.5).abs() < 1e-9);
        assert_eq!(figures.failure(scene, TargetName::Nginx), Some("lost"));
        assert_eq!(figures.scenes(), [scene]);
    }
}
