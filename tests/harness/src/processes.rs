//! The appliance's processes as the kernel shows them: who runs, ending one, searching the memory of one.
//!
//! Invariant: only descendants of our own supervisor are ever touched.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::FileExt;

use aho_corasick::AhoCorasick;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process of the appliance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Listens.
    Gateway,
    /// Has the keys.
    Keeper,
    /// Dials built-in providers.
    Courier,
    /// Dials operator-defined ones: the same program as another user, at other sockets.
    CourierDefined,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Keeper, Self::Courier, Self::CourierDefined];

    /// Its program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Gateway => "strongroom-gateway",
            Self::Keeper => "strongroom-keeper",
            Self::Courier | Self::CourierDefined => "strongroom-courier",
        }
    }

    /// The process's name: the kernel keeps 15 bytes of it.
    fn name(self) -> &'static str {
        self.program().get(..15).unwrap_or_default()
    }

    /// Whether a process of this part's program is this part: a courier is told by the socket that it was started with.
    fn is(self, pid: Pid) -> bool {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let defined = line.contains("call-defined.sock");
        match self {
            Self::Gateway | Self::Keeper => true,
            Self::Courier => !line.is_empty() && !defined,
            Self::CourierDefined => defined,
        }
    }
}

/// The process id of a part among the descendants of `supervisor`; the check of the store is not the keeper.
pub fn pid_of(supervisor: u32, part: Part) -> Option<Pid> {
    let its = |(pid, name): (Pid, String)| (name == part.name() && part.is(pid)).then_some(pid);
    descendants(supervisor).into_iter().find_map(its)
}

/// All descendants of a process with their names.
pub fn descendants(ancestor: u32) -> Vec<(Pid, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (name) state parent …`; the name may hold anything but comes before the last parenthesis.
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let mut fields = tail.split(' ');
        let state = fields.next().unwrap_or_default();
        let parent = fields.next().and_then(|parent| parent.parse::<u32>().ok());
        if let Some(parent) = parent.filter(|_| state != "Z") {
            all.push((pid, parent, name));
        }
    }
    let mut found = vec![ancestor];
    let mut result = Vec::new();
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        for (pid, _, name) in all.iter().filter(|(_, its, _)| *its == parent) {
            found.push(*pid);
            result.push((Pid::from_raw(i32::try_from(*pid).unwrap_or(i32::MAX)), name.clone()));
        }
        at += 1;
    }
    result
}

/// Sends a signal; a process that is gone already is no error.
pub fn signal(pid: Pid, signal: Signal) {
    let _gone = kill(pid, signal);
}

/// Whether a process still runs: one whose first thread has ended holds its files until the last one has.
pub fn runs(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    if threads > 1 {
        return true;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, tail)| !tail.starts_with('Z'))
}

/// What a search of a process's memory found.
#[derive(Debug, Default)]
pub struct Searched {
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Mappings that could not be read, `memfd_secret` among them.
    pub unreadable: Vec<String>,
    /// `needle at address in mapping` for each hit.
    pub hits: Vec<String>,
}

/// Searches all memory of a process for needles; `None` when this user may not read it.
///
/// # Panics
/// When the process is gone.
pub fn search_memory(pid: Pid, needles: &[(String, Vec<u8>)]) -> Option<Searched> {
    let memory = match File::open(format!("/proc/{pid}/mem")) {
        Ok(memory) => memory,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(error) => panic!("the memory of {pid}: {error}"),
    };
    let maps = File::open(format!("/proc/{pid}/maps")).expect("it runs");
    let finder = AhoCorasick::new(needles.iter().map(|(_, needle)| needle)).expect("few needles");
    let mut searched = Searched::default();
    for line in BufReader::new(maps).lines().map_while(Result::ok) {
        if let Some((from, to)) = readable(&line) {
            search_mapping(&memory, (from, to), &line, (needles, &finder), &mut searched);
        }
    }
    Some(searched)
}

/// Read at a time; windows overlap by the longest needle.
const WINDOW_BYTES: usize = 1024 * 1024;

fn search_mapping(
    memory: &File,
    (from, to): (u64, u64),
    line: &str,
    (needles, finder): (&[(String, Vec<u8>)], &AhoCorasick),
    searched: &mut Searched,
) {
    let longest = needles.iter().map(|(_, needle)| needle.len()).max().unwrap_or(0);
    let mut window = vec![0_u8; WINDOW_BYTES + longest];
    let mut at = from;
    while at < to {
        let length = usize::try_from(to - at).unwrap_or(usize::MAX).min(window.len());
        let Some(window) = window.get_mut(..length) else { return };
        if memory.read_exact_at(window, at).is_err() {
            searched.unreadable.push(line.to_owned());
            return;
        }
        searched.read_bytes += window.len() as u64;
        for hit in finder.find_overlapping_iter(&*window) {
            let name = needles.get(hit.pattern().as_usize()).map_or("", |(name, _)| name);
            searched.hits.push(format!("{name} at {:#x} in {line}", at + hit.start() as u64));
        }
        at += WINDOW_BYTES as u64;
    }
}

/// `from-to perms …` of a mapping that can hold data.
fn readable(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (from, to) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    if !permissions.starts_with('r') || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
        return None;
    }
    Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
}
