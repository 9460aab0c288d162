//! Closed-loop load: each connection asks again as soon as its reply is whole.
//!
//! Invariant: one wrong reply ends the measurement with an error; nothing is measured over failures.
//! Invariant: only what happens between the two readings counts; connecting and warming up do not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::{Connection, Dial, Timing};
use crate::figures::{Sample, Spread};
use crate::process::{self, CpuReading};
use crate::scene::{Kind, Scene};

/// What a stream of 64 chunks 5 ms apart takes: streams begin spread over it, so that they do not
/// end all at once.
const STREAM: Duration = Duration::from_millis(320);
const WARM_UP: Duration = Duration::from_millis(400);
/// After the measurement the replies under way are read to their end.
const DRAIN: Duration = Duration::from_secs(30);
/// Handshakes at once.
const HANDSHAKES: usize = 32;
/// A connection that fails in every exchange must not spin.
const MAX_TIMINGS: usize = 4_000_000;

/// A request and the body that must come back.
#[derive(Clone)]
pub(crate) struct Exchange {
    request: Rc<[u8]>,
    expected: Rc<[u8]>,
}

impl Exchange {
    pub(crate) fn new(dial: &Dial, kind: Kind, expected: &Rc<[u8]>) -> Self {
        Self { request: kind.request(dial.target()).into(), expected: Rc::clone(expected) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Measure,
    Drain,
}

struct Meter {
    phase: Cell<Phase>,
    body_bytes: Cell<u64>,
    timings: RefCell<Vec<Timing>>,
    /// Calls that may still begin.
    left: Cell<u64>,
}

/// Measures one scene on one target for about `wanted`.
pub(crate) async fn measure(
    dial: &Dial,
    scene: Scene,
    exchange: &Exchange,
    provider: u32,
    wanted: Duration,
) -> Result<Sample> {
    let meter = Rc::new(Meter::new(u64::MAX));
    let connections = connect(dial, scene.connections).await?;
    let mut workers = JoinSet::new();
    for (index, connection) in (0_u32..).zip(connections) {
        let delay = match scene.kind {
            Kind::Paced => STREAM * index / u32::from(scene.connections),
            Kind::Plain | Kind::Burst => Duration::ZERO,
        };
        workers.spawn_local(work(connection, exchange.clone(), Rc::clone(&meter), delay));
    }
    let warm_up = if scene.kind == Kind::Paced { WARM_UP + STREAM } else { WARM_UP };
    sleep(warm_up).await;

    let pids = &dial.target().pids;
    let read = || [CpuReading::take(pids), CpuReading::take(&[provider, std::process::id()])];
    let [target_before, others_before] = read();
    let started = Instant::now();
    meter.phase.set(Phase::Measure);
    sleep(wanted).await;
    meter.phase.set(Phase::Drain);
    let seconds = started.elapsed().as_secs_f64();
    let [target_after, others_after] = read();
    join(workers).await?;

    let timings = meter.timings.take();
    ensure!(!timings.is_empty(), "no reply was whole in {wanted:?}");
    let replies = count(meter.body_bytes.get()) / count_of(exchange.expected.len());
    let mut cpu_us_by_program = std::collections::BTreeMap::new();
    for (pid, time) in target_after.by_process(&target_before) {
        *cpu_us_by_program.entry(process::program(pid)).or_insert(0.0) +=
            time.as_secs_f64() * 1e6 / replies;
    }
    let others = others_after.by_process(&others_before);
    let cores = |pid| others.get(&pid).map_or(0.0, |time: &Duration| time.as_secs_f64() / seconds);
    let reads: f64 = timings.iter().map(|timing| f64::from(timing.reads)).sum();
    Ok(Sample {
        replies,
        seconds,
        replies_per_second: replies / seconds,
        first_ms: Spread::of(timings.iter().map(|timing| timing.first)),
        whole_ms: Spread::of(timings.iter().map(|timing| timing.whole)),
        reads_per_reply: reads / count_of(timings.len()),
        cpu_us_per_reply: target_after.since(&target_before).as_secs_f64() * 1e6 / replies,
        cpu_us_by_program,
        provider_cores: cores(provider),
        generator_cores: cores(std::process::id()),
    })
}

/// Makes so many calls and no more.
pub(crate) async fn calls(
    dial: &Dial,
    connections: u16,
    exchange: &Exchange,
    count: u64,
) -> Result<Duration> {
    let meter = Rc::new(Meter::new(count));
    let mut workers = JoinSet::new();
    let started = Instant::now();
    for connection in connect(dial, connections).await? {
        workers.spawn_local(work(connection, exchange.clone(), Rc::clone(&meter), Duration::ZERO));
    }
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(started.elapsed())
}

/// One good call on a connection of its own; yields its body.
pub(crate) async fn once(dial: &Dial, kind: Kind) -> Result<Rc<[u8]>> {
    let mut connection = dial.connect().await?;
    let request = kind.request(dial.target());
    let exchange = connection.exchange(&request, |_| {});
    timeout(DRAIN, exchange).await.context("no reply")??;
    Ok(connection.good_body()?.into())
}

impl Meter {
    fn new(left: u64) -> Self {
        Self {
            phase: Cell::new(Phase::WarmUp),
            body_bytes: Cell::new(0),
            timings: RefCell::new(Vec::new()),
            left: Cell::new(left),
        }
    }

    fn begin(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0 && self.phase.get() != Phase::Drain
    }
}

async fn work(
    mut connection: Connection,
    exchange: Exchange,
    meter: Rc<Meter>,
    delay: Duration,
) -> Result<()> {
    if !delay.is_zero() {
        sleep(delay).await;
    }
    while meter.begin() {
        let seen = |bytes: usize| {
            if meter.phase.get() == Phase::Measure {
                meter.body_bytes.set(meter.body_bytes.get() + bytes as u64);
            }
        };
        let timing = connection.exchange(&exchange.request, seen).await?;
        connection.check(&exchange.expected)?;
        if meter.phase.get() == Phase::Measure {
            let mut timings = meter.timings.borrow_mut();
            ensure!(timings.len() < MAX_TIMINGS, "more replies than can be");
            timings.push(timing);
        }
    }
    Ok(())
}

async fn connect(dial: &Dial, count: u16) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    let mut handshakes = JoinSet::new();
    for _ in 0..count {
        if handshakes.len() == HANDSHAKES
            && let Some(done) = handshakes.join_next().await
        {
            connections.push(done??);
        }
        let dial = dial.clone();
        handshakes.spawn_local(async move { dial.connect().await });
    }
    while let Some(done) = handshakes.join_next().await {
        connections.push(done??);
    }
    Ok(connections)
}

async fn join(mut workers: JoinSet<Result<()>>) -> Result<()> {
    let all = async {
        while let Some(done) = workers.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    match timeout(DRAIN, all).await {
        Ok(done) => done,
        Err(_) => bail!("replies were not whole {DRAIN:?} after the end"),
    }
}

fn count(number: u64) -> f64 {
    number as f64
}

fn count_of(number: usize) -> f64 {
    number as f64
}
