//! What the kernel tells about processes: processor time, memory, descendants.
//!
//! Invariant: a thread that ended between two readings counts as nothing, never as a negative time.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The processor time of some processes at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuReading {
    /// By process and thread.
    threads: BTreeMap<(u32, u32), u64>,
}

impl CpuReading {
    /// Reads the time on a processor of each thread. `schedstat` counts what `utime + stime` of
    /// `stat` count, in nanoseconds instead of hundredths of a second.
    pub(crate) fn take(pids: &[u32]) -> Self {
        let mut threads = BTreeMap::new();
        for &pid in pids {
            for thread in numbers(&format!("/proc/{pid}/task")) {
                let path = format!("/proc/{pid}/task/{thread}/schedstat");
                let text = fs::read_to_string(path).unwrap_or_default();
                let nanos = text.split_whitespace().next().and_then(|first| first.parse().ok());
                threads.insert((pid, thread), nanos.unwrap_or(0));
            }
        }
        Self { threads }
    }

    /// The time since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        self.by_process(earlier).values().sum()
    }

    /// The same, by process.
    pub(crate) fn by_process(&self, earlier: &Self) -> BTreeMap<u32, Duration> {
        let mut sums: BTreeMap<u32, Duration> = BTreeMap::new();
        for (thread, nanos) in &self.threads {
            let before = earlier.threads.get(thread).copied().unwrap_or(0);
            *sums.entry(thread.0).or_default() +=
                Duration::from_nanos(nanos.saturating_sub(before));
        }
        sums
    }
}

/// A process and all its descendants.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let parents: BTreeMap<u32, u32> =
        numbers("/proc").into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&ancestor) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| **parent == ancestor).map(|(pid, _)| pid));
        next += 1;
    }
    found
}

/// The file name of the program that a process runs; of its thread name if the file is not shown.
pub(crate) fn program(pid: u32) -> String {
    let target = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let name = target.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.unwrap_or_else(|| comm().trim().to_owned())
}

/// The memory that is a process's own, plus its share of what it shares, KiB.
pub(crate) fn pss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{path}: only root may read it of an undumpable process"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// The sum over several.
pub(crate) fn pss_kib_of(pids: &[u32]) -> Result<u64> {
    pids.iter().map(|pid| pss_kib(*pid)).sum()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; the fields begin after its last one.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

fn numbers(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::{CpuReading, family, program, pss_kib};

    #[test]
    fn a_child_is_of_the_family_and_its_program_is_named() {
        let mut child = Command::new("sleep").arg("10").spawn().unwrap();
        let found = family(id());
        assert!(found.contains(&id()) && found.contains(&child.id()));
        assert!(!family(child.id()).contains(&id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(program(id()).contains("strongroom"), "{}", program(id()));
    }

    #[test]
    fn work_costs_time_and_memory_is_told() {
        let before = CpuReading::take(&[id()]);
        let sum = (0..20_000_000_u64).fold(1_u64, |sum, next| sum.rotate_left(3) ^ next);
        assert!(sum != 0);
        assert!(CpuReading::take(&[id()]).since(&before).as_micros() > 100);
        assert!(pss_kib(id()).unwrap() > 100);
    }
}
