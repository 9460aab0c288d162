//! Whether others can change what the install trusts, or read what is its own: the table of `trusted`, looked at.
//!
//! Invariant: a flaw is a row of its own with a command that mends it; what could not be looked at is told, not passed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use strongroom_protocol::operator::{Check, Verdict};

use super::check;
use crate::link::Link;
use crate::places::{Install, Places};
use crate::settings::Settings;
use crate::trusted::table::{People, table};
use crate::trusted::{Bound, Extent, Flaw, Found, Trusted, word};

const ROW: &str = "paths";
/// Most entries that are looked at below one path: a journal of many years.
const MAX_BELOW: usize = 500_000;

/// Judges every path of the table.
pub(super) fn checks(
    places: &Places,
    settings: Option<&Settings>,
    link: Option<&Link>,
) -> Vec<Check> {
    let people = People::find(install(places), settings);
    look(&table(places, settings, &programs(places, link), &people))
}

/// A directory that root owns holds root's install, whoever looks at it.
fn install(places: &Places) -> Install {
    let is_roots = fs::symlink_metadata(&places.data).is_ok_and(|found| found.uid() == 0);
    if is_roots { Install::System } else { places.install }
}

/// Where the next start finds the programs, and where the keeper that runs was found.
fn programs(places: &Places, link: Option<&Link>) -> Vec<PathBuf> {
    let running = link.and_then(Link::peer).and_then(|keeper| {
        let program = fs::read_link(format!("/proc/{keeper}/exe")).ok()?;
        Some(program.parent()?.to_owned())
    });
    let mut all: Vec<PathBuf> = places.binaries(None).ok().into_iter().chain(running).collect();
    all.dedup();
    all
}

fn look(rows: &[Trusted]) -> Vec<Check> {
    let (mut checks, mut good, mut unseen) = (Vec::new(), 0_usize, Vec::new());
    for row in rows {
        match row.flaw() {
            Ok(Some(flaw)) => checks.push(told(&flaw)),
            Ok(None) => good = good.saturating_add(usize::from(row.path.exists())),
            Err(error) => unseen.push(format!("{}: {error}", row.path.display())),
        }
        if row.extent == Extent::Below {
            match below(row) {
                Ok(found) => checks.extend(found),
                Err(error) => unseen.push(format!("below {}: {error}", row.path.display())),
            }
        }
    }
    if let Some(first) = unseen.first() {
        let detail = format!("{} could not be looked at, as {first}", unseen.len());
        checks.push(check(ROW, Verdict::Warn, detail, Some("run doctor as root")));
    }
    if checks.is_empty() {
        let detail = format!(
            "{good} that it trusts, and what is below: nobody else can change them, or read what is private"
        );
        checks.push(check(ROW, Verdict::Ok, detail, None));
    }
    checks
}

fn told(flaw: &Flaw) -> Check {
    check(ROW, flaw.verdict, flaw.why.as_str(), Some(&flaw.fix()))
}

/// What is below a path, told in one row.
fn below(row: &Trusted) -> io::Result<Option<Check>> {
    let mut bad = Vec::new();
    let extent = walk(&row.path, &mut |path, found| bad.extend(row.judge(path, found)))?;
    let path = row.path.display();
    let Some(first) = bad.first() else {
        return Ok(match extent {
            Walked::All => None,
            Walked::Part => {
                let detail = format!("of {path} only {MAX_BELOW} entries were looked at");
                let fix = format!("look at the rest: ls -lR {}", word(&row.path));
                Some(check(ROW, Verdict::Warn, detail, Some(&fix)))
            }
        });
    };
    if bad.len() == 1 {
        return Ok(Some(told(first)));
    }
    let detail = format!("{} entries below {path}, as {}", bad.len(), first.why);
    let owner = bad.iter().find_map(|flaw| flaw.owner.as_deref());
    let is_open = bad.iter().any(|flaw| flaw.mode.is_some());
    Ok(Some(check(ROW, Verdict::Fail, detail, Some(&mend_all(row, owner, is_open)))))
}

fn mend_all(row: &Trusted, owner: Option<&str>, is_open: bool) -> String {
    let path = word(&row.path);
    let less = match row.bound {
        Bound::AtMost(most) if most == most & 0o700 => "go-rwx",
        Bound::AtMost(_) | Bound::Leads => "go-w",
    };
    let owner = owner.map(|owner| format!("chown -R {owner}: {path}"));
    let mode = is_open.then(|| format!("chmod -R {less} {path}"));
    owner.into_iter().chain(mode).collect::<Vec<_>>().join(" && ")
}

/// How far a walk came.
enum Walked {
    All,
    Part,
}

/// Shows what is below a directory; links are shown and not followed.
fn walk(top: &Path, see: &mut dyn FnMut(&Path, Found)) -> io::Result<Walked> {
    let (mut seen, mut waiting) = (0_usize, vec![top.to_owned()]);
    while let Some(directory) = waiting.pop() {
        let Some(entries) = if_there(fs::read_dir(&directory))? else { continue };
        for entry in entries {
            let path = entry?.path();
            let Some(found) = if_there(fs::symlink_metadata(&path))? else { continue };
            seen = seen.saturating_add(1);
            if seen > MAX_BELOW {
                return Ok(Walked::Part);
            }
            see(&path, Found::from(&found));
            if found.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(Walked::All)
}

/// A running vault takes files away.
fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
