//! The rounds: in each, every scene is measured on every target, one right after the other.
//!
//! Invariant: the order of the targets turns with each round, so that none is always the first.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::arguments::Arguments;
use crate::client::Dial;
use crate::figures::{Figures, Measured};
use crate::load::{self, Exchange};
use crate::report::say;
use crate::scene::{Kind, Scene};
use crate::target::{Target, TargetName};

/// The emulator's streams have so many events and the closing one.
const EVENTS: usize = 65;

/// What the emulator answers, learned from the emulator itself.
pub(crate) struct Bodies(BTreeMap<Kind, Rc<[u8]>>);

impl Bodies {
    /// Asks for each kind once, without a proxy.
    pub(crate) async fn learn(direct: &Target) -> Result<Self> {
        let dial = Dial::new(direct)?;
        let mut bodies = BTreeMap::new();
        for kind in Kind::ALL {
            let body = load::once(&dial, kind).await.context("the emulator")?;
            let events = memchr::memmem::find_iter(&body, b"data: ").count();
            let due = if kind == Kind::Plain { 0 } else { EVENTS };
            ensure!(events == due, "{}: {events} events instead of {due}", kind.name());
            bodies.insert(kind, body);
        }
        Ok(Self(bodies))
    }

    /// The exchange of a kind with a target.
    pub(crate) fn exchange(&self, dial: &Dial, kind: Kind) -> Result<Exchange> {
        Ok(Exchange::new(dial, kind, self.0.get(&kind).context("an unknown kind")?))
    }
}

/// Runs all rounds.
pub(crate) async fn run(
    arguments: &Arguments,
    targets: &[Target],
    bodies: &Bodies,
    provider: u32,
) -> Result<Figures> {
    let mut figures = Figures::default();
    let dials = targets.iter().map(Dial::new).collect::<Result<Vec<_>>>()?;
    let wanted = Duration::from_secs(arguments.seconds().into());
    for round in 0..arguments.rounds() {
        for scene in scenes(arguments) {
            let turn = usize::from(round) % dials.len();
            let mut told = String::new();
            for dial in dials.iter().cycle().skip(turn).take(dials.len()) {
                let exchange = bodies.exchange(dial, scene.kind)?;
                let measured = load::measure(dial, scene, &exchange, provider, wanted).await;
                let target = dial.target().name;
                let sample = measured.map_err(|error| format!("{error:#}"));
                told.push_str(&brief(target, sample.as_ref()));
                figures.add(Measured { round, scene, target, sample });
            }
            say(&format!("round {}/{} {scene}: {told}", round + 1, arguments.rounds()));
        }
    }
    Ok(figures)
}

fn scenes(arguments: &Arguments) -> Vec<Scene> {
    let kinds = Kind::ALL.into_iter().filter(|kind| arguments.only.is_none_or(|it| it == *kind));
    let with = |kind| {
        arguments.connections().into_iter().map(move |connections| Scene { kind, connections })
    };
    kinds.flat_map(with).collect()
}

fn brief(target: TargetName, sample: Result<&crate::figures::Sample, &String>) -> String {
    match sample {
        Ok(sample) => format!(
            " {} {:.0}/s {:.1} µs",
            target.name(),
            sample.replies_per_second,
            sample.cpu_us_per_reply
        ),
        Err(error) => format!(" {} FAILED ({error})", target.name()),
    }
}
