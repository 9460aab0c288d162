//! Journals as a backup needs them: where one stands, and what a surviving one says was taken away.
//!
//! Invariant: an entry counts only when its chain holds from the very entry on at which the backup was made.
//! Invariant: a journal tells nothing without a checkpoint of this vault, so that who cuts its end must have an older one;
//! whether it was cut is asked before anything else, so that a cut is never taken for an early end.
//! Invariant: the journal that the vault will go on with holds as a whole, as an unsealing judges it.
//! Distrusts: every byte of a journal; it may come from anywhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;
use strongroom_tlog::{Bundle, Checkpoint, Entries, Note, Verifier};

use super::content::JournalPoint;
use crate::journal::found::{Found, Head};
use crate::journal::line::{chain_of, check_chain};
use crate::journal::{BUNDLE_ENTRIES, JournalError, Place, read};
use crate::keys::purpose::Journal;
use crate::keys::{MacKey, TAG_BYTES};

/// Acts that take something away, as a journal names them.
const TAKES_AWAY: [&str; 8] = [
    "credential.delete",
    "token.revoke",
    "user.disable",
    "user.delete",
    "workspace.leave",
    "workspace.delete",
    "tenant.disable",
    "tenant.delete",
];
/// Most acts that are followed: operators do not do more between two backups.
const MAX_ACTS: usize = 100_000;

/// What operators did after a backup, as a journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surviving {
    /// How many entries there are.
    pub entries: u64,
    /// When the last one was written, RFC 3339.
    pub until: String,
    /// Acts behind the backup's point, in their order, without those that failed to give something.
    pub acts: Vec<SeenAct>,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAct {
    /// As in `token.revoke`.
    pub act: String,
    /// The id that it was done to.
    pub target: String,
}

/// Why a journal is not believed.
#[derive(Debug, thiserror::Error)]
pub enum JournalRefusal {
    /// The file.
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line does not hold.
    #[error("the journal is damaged, or another vault's, at entry {0}")]
    Damaged(u64),
    /// It went another way than the one that the backup was made with.
    #[error("the journal is another one than the backup's: they differ at entry {0}")]
    Fork(u64),
    /// It ends before the backup.
    #[error("the journal ends at entry {0}, before the backup was made")]
    Older(u64),
    /// Nothing says where it ends.
    #[error(
        "the journal has no checkpoint of this vault: whether its end is missing cannot be told; bring the whole directory"
    )]
    Unsigned,
    /// Its last entries are not there.
    #[error(
        "the journal's end is missing: {entries} entries are here, and its checkpoint covers {signed}; bring the whole directory"
    )]
    Cut {
        /// How many there are.
        entries: u64,
        /// How many there were.
        signed: u64,
    },
    /// It does not hold from its first entry to its last one.
    #[error("{0}")]
    Unsound(#[source] JournalError),
    /// More acts than are followed.
    #[error("the journal has too many acts since the backup")]
    TooMany,
}

#[derive(Deserialize)]
struct Line<'a> {
    n: u64,
    t: &'a str,
    what: &'a str,
    act: Option<&'a str>,
    target: Option<&'a str>,
    user: Option<&'a str>,
    result: Option<&'a str>,
}

/// Where a journal stands that this process writes: its last whole line. More lines may follow at once.
///
/// # Errors
/// When a file cannot be read, or the entry is none of a journal.
pub fn point(directory: &Path) -> io::Result<JournalPoint> {
    let (entries, chain) = read::newest(&Place::new(directory))?;
    Ok(JournalPoint { entries, chain })
}

/// Whether there is a journal with an entry in it, or one that says that it had some.
///
/// # Errors
/// When the directory cannot be read.
pub fn is_begun(directory: &Path) -> io::Result<bool> {
    if !directory.try_exists()? {
        return Ok(false);
    }
    Ok(read::checkpoint(&Place::new(directory))?.is_some() || point(directory)?.entries > 0)
}

/// Judges a journal as the next unsealing will, and answers the newest commit that it names: nothing of it is believed before
/// all of it holds. The manifest of a restored vault notes no journal yet.
///
/// # Errors
/// When it is not what this vault wrote.
pub fn judge(
    directory: &Path,
    (key, verifier): (MacKey<Journal>, &Verifier),
) -> Result<u64, JournalRefusal> {
    let found = Found::look(directory, key, verifier, Head::default());
    let found = found.map_err(JournalRefusal::Unsound)?;
    Ok(found.state().map_or(0, |state| state.commit))
}

/// Makes of a static copy, as `audit export` writes it, a journal as a vault writes it: the last bundle lies in `tail`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn settle(directory: &Path) -> io::Result<()> {
    let place = Place::new(directory);
    if !directory.try_exists()? || place.tail().try_exists()? {
        return Ok(());
    }
    let text = read::checkpoint(&place)?;
    let note = text.and_then(|text| Note::parse(&text).ok());
    // Whether it is this vault's is asked when its entries are read.
    let Some(head) = note.and_then(|note| Checkpoint::parse(note.text()).ok()) else {
        return Ok(());
    };
    let last = head.size.0.checked_div(BUNDLE_ENTRIES).unwrap_or(0);
    let partial = Bundle::within(head.size, last).map(|bundle| directory.join(bundle.path()));
    let bytes = match partial {
        Some(path) if path.try_exists()? => fs::read(path)?,
        Some(_) | None => Vec::new(),
    };
    let mut tail =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(place.tail())?;
    tail.write_all(&bytes)?;
    tail.sync_all()?;
    File::open(directory)?.sync_all()
}

/// Reads a journal and answers what was done behind `from`.
///
/// # Errors
/// When a line does not hold, or it is not the journal that the backup was made with.
pub fn gather(
    directory: &Path,
    (key, verifier): (&MacKey<Journal>, &Verifier),
    from: JournalPoint,
) -> Result<Surviving, JournalRefusal> {
    let place = Place::new(directory);
    let signed = signed_entries(&place, verifier)?.ok_or(JournalRefusal::Unsigned)?;
    let mut at = JournalPoint { entries: 0, chain: [0; TAG_BYTES] };
    let mut found = Surviving { entries: 0, until: String::new(), acts: Vec::new() };
    // What lies before the backup's own point is vouched for by it.
    let mut index = from.entries.saturating_sub(1).checked_div(BUNDLE_ENTRIES).unwrap_or(0);
    loop {
        // It reaches behind the backup, so what it lacks lay in between: a hole would hide what was taken away there.
        let missing = index.saturating_mul(BUNDLE_ENTRIES).saturating_add(1);
        let bundle = read::bundle(&place, index)?.ok_or(JournalRefusal::Damaged(missing))?;
        let before = at.entries;
        at = follow(&bundle, at, (key, from), &mut found)?;
        if at.entries == before {
            break;
        }
        index = index.saturating_add(1);
    }
    if at.entries.is_multiple_of(BUNDLE_ENTRIES) {
        // A crash while the tail moves to its place leaves the last entries in the file after it.
        let next = read::read_whole(&place.next())?.unwrap_or_default();
        at = follow(&next, at, (key, from), &mut found)?;
    }
    let entries = at.entries.max(point(directory)?.entries);
    if signed > entries {
        return Err(JournalRefusal::Cut { entries, signed });
    }
    if at.entries < from.entries {
        return Err(JournalRefusal::Older(entries));
    }
    found.entries = at.entries;
    Ok(found)
}

/// Takes in the entries of one file, each of which must follow.
fn follow(
    bundle: &[u8],
    mut at: JournalPoint,
    (key, from): (&MacKey<Journal>, JournalPoint),
    found: &mut Surviving,
) -> Result<JournalPoint, JournalRefusal> {
    for entry in Entries::of(bundle).map_while(Result::ok) {
        at = step(entry, at, (key, from))?;
        let seen = read_line(entry).ok_or(JournalRefusal::Damaged(at.entries))?;
        seen.t.clone_into(&mut found.until);
        if at.entries > from.entries {
            note(&mut found.acts, &seen)?;
        }
    }
    Ok(at)
}

/// Checks that an entry follows; those before the backup's point are passed over up to the one that it names.
fn step(
    entry: &[u8],
    at: JournalPoint,
    (key, from): (&MacKey<Journal>, JournalPoint),
) -> Result<JournalPoint, JournalRefusal> {
    let damaged = || JournalRefusal::Damaged(at.entries.saturating_add(1));
    let entries = read_line(entry).ok_or_else(damaged)?.n;
    let follows = at.entries == 0 || entries == at.entries.saturating_add(1);
    if !follows || (from.entries == 0 && at.entries == 0 && entries != 1) {
        return Err(damaged());
    }
    let chain = chain_of(entry).ok_or_else(damaged)?;
    if entries > from.entries {
        check_chain(entry, &at.chain, key).map_err(|_| JournalRefusal::Damaged(entries))?;
    } else if entries == from.entries && chain != from.chain {
        return Err(JournalRefusal::Fork(entries));
    }
    Ok(JournalPoint { entries, chain })
}

/// How many entries the directory's own checkpoint covers; none without one that this vault signed.
fn signed_entries(place: &Place, verifier: &Verifier) -> io::Result<Option<u64>> {
    let text = read::checkpoint(place)?;
    let note = text.and_then(|text| Note::parse(&text).ok());
    let signed = note.and_then(|note| Checkpoint::open(&note, verifier).ok());
    Ok(signed.map(|checkpoint| checkpoint.size.0))
}

fn note(acts: &mut Vec<SeenAct>, seen: &Line<'_>) -> Result<(), JournalRefusal> {
    let target = match seen.what {
        "act" => seen.target,
        "person" if seen.act == Some("person.password") => seen.user,
        _ => None,
    };
    let (Some(act), Some(target)) = (seen.act, target) else { return Ok(()) };
    let seen_act = SeenAct { act: act.to_owned(), target: target.to_owned() };
    if matches!(seen.result, Some("failed" | "in-doubt")) {
        // It may have been done all the same: what was to be taken away stays away, what was to be given is not.
        if TAKES_AWAY.contains(&act) {
            return Ok(());
        }
        if let Some(at) = acts.iter().rposition(|one| *one == seen_act) {
            acts.remove(at);
        }
        return Ok(());
    }
    if acts.len() >= MAX_ACTS {
        return Err(JournalRefusal::TooMany);
    }
    acts.push(seen_act);
    Ok(())
}

fn read_line(line: &[u8]) -> Option<Line<'_>> {
    serde_json::from_slice(line).ok()
}

#[cfg(test)]
mod tests {
    use super::{Line, note};

    // Red when an act that takes something away is not in the list.
    #[test]
    fn what_may_have_been_taken_away_stays_away_and_what_may_have_been_given_is_not() {
        for (act, stays) in [
            ("credential.delete", true),
            ("token.revoke", true),
            ("user.disable", true),
            ("user.delete", true),
            ("workspace.leave", true),
            ("workspace.delete", true),
            ("tenant.disable", true),
            ("tenant.delete", true),
            ("tenant.enable", false),
            ("user.enable", false),
            ("workspace.join", false),
        ] {
            let mut acts = Vec::new();
            for result in [Some("begun"), Some("in-doubt")] {
                let (act, target) = (Some(act), Some("t"));
                let line = Line { n: 1, t: "", what: "act", act, target, user: None, result };
                assert!(note(&mut acts, &line).is_ok());
            }
            assert_eq!(acts.len(), usize::from(stays), "{act}");
        }
    }
}
