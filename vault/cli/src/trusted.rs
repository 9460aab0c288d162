//! Who may own a path that an install trusts, and who may change or read it.
//!
//! Invariant: looks and changes nothing; a path is good only when its owner and its mode both are.
//! Distrusts: every user of the machine but root, the install's own users and whoever runs it.

pub(crate) mod table;

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, Uid, User};
use strongroom_protocol::operator::Verdict;

use crate::environment::quote;

/// A path that an install trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trusted {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Who may own it beside root; a wrong owner is mended to the first.
    pub(crate) owners: Vec<Owner>,
    /// What others may do with it.
    pub(crate) bound: Bound,
    /// Whether what is below it is trusted alike.
    pub(crate) extent: Extent,
    /// Of one person's install: the group that has nobody else in it.
    pub(crate) own_group: Option<u32>,
}

/// Who may own a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This user.
    User(u32, String),
    /// Whoever logs in here: `sudo strongroom up` gives the first token to its caller.
    AnyPerson,
}

/// What others may do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// No more than this mode says.
    AtMost(u32),
    /// It leads to what is trusted: others may not put something else in its place.
    Leads,
}

/// How far trust in a path goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The path alone.
    Itself,
    /// All that is below it too.
    Below,
}

/// What is wrong with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// How grave it is.
    pub(crate) verdict: Verdict,
    /// What it is, and what that allows.
    pub(crate) why: String,
    /// Which path.
    path: PathBuf,
    /// Who should own it, if another does.
    pub(crate) owner: Option<String>,
    /// What chmod(1) is to make of its mode, if that is too wide.
    pub(crate) mode: Option<String>,
}

impl Flaw {
    /// The commands that mend it.
    pub(crate) fn fix(&self) -> String {
        let path = word(&self.path);
        let owner = self.owner.iter().map(|owner| format!("chown {owner}: {path}"));
        let mode = self.mode.iter().map(|mode| format!("chmod {mode} {path}"));
        owner.chain(mode).collect::<Vec<_>>().join(" && ")
    }
}

/// One of the two that can be wrong, and what chown(1) or chmod(1) is to make of it.
struct Bad {
    verdict: Verdict,
    why: String,
    mend: String,
}

/// What the kernel says of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    uid: u32,
    gid: u32,
    mode: u32,
    kind: Kind,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Other,
}

/// `UID_MIN` and `UID_MAX` of login.defs(5) as they come; `nobody` is none of them.
const PEOPLE: std::ops::Range<u32> = 1000..60_000;
const STICKY: u32 = 0o1000;
const SET_ID: u32 = 0o6000;

impl Owner {
    /// Root.
    pub(crate) fn root() -> Self {
        Self::User(0, "root".to_owned())
    }

    /// A user by number.
    pub(crate) fn of(uid: u32) -> Self {
        Self::User(uid, name_of(uid))
    }

    fn is(&self, uid: u32) -> bool {
        match self {
            Self::User(own, _) => *own == uid,
            Self::AnyPerson => PEOPLE.contains(&uid),
        }
    }
}

impl From<&Metadata> for Found {
    fn from(found: &Metadata) -> Self {
        let kind = match (found.is_dir(), found.is_file()) {
            (true, _) => Kind::Directory,
            (_, true) => Kind::File,
            (false, false) => Kind::Other,
        };
        Self { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777, kind }
    }
}

impl Trusted {
    /// A path that root and the caller alone may change, and everybody read.
    pub(crate) fn public(path: &Path) -> Self {
        let me = Uid::effective().as_raw();
        Self {
            path: path.to_owned(),
            owners: vec![Owner::root(), Owner::of(me)],
            bound: Bound::AtMost(0o755),
            extent: Extent::Itself,
            own_group: None,
        }
    }

    /// Looks at the path; a link is followed. Nothing is wrong with what is not there.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(crate) fn flaw(&self) -> io::Result<Option<Flaw>> {
        let real = match fs::canonicalize(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            real => real?,
        };
        let found = fs::symlink_metadata(&real)?;
        Ok(self.judge(&real, Found::from(&found)))
    }

    /// Judges what was found at `path`: this path, what it links to or something below it.
    pub(crate) fn judge(&self, path: &Path, found: Found) -> Option<Flaw> {
        let opened = match self.bound {
            Bound::AtMost(most) => self.opened(most, found),
            Bound::Leads => self.replaceable(found),
        };
        let owned = self.owned_wrongly(found);
        let whys: Vec<_> =
            [&owned, &opened].into_iter().flatten().map(|bad| bad.why.as_str()).collect();
        let verdict = match (&owned, &opened) {
            (None, None) => return None,
            (None, Some(opened)) => opened.verdict,
            (Some(_), _) => Verdict::Fail,
        };
        Some(Flaw {
            verdict,
            why: format!("{} {}", path.display(), whys.join(" and ")),
            path: path.to_owned(),
            owner: owned.map(|owned| owned.mend),
            mode: opened.map(|opened| opened.mend),
        })
    }

    fn owned_wrongly(&self, found: Found) -> Option<Bad> {
        if found.uid == 0 || self.owners.iter().any(|owner| owner.is(found.uid)) {
            return None;
        }
        let right = self.owners.iter().find_map(|owner| match owner {
            Owner::User(_, name) => Some(name.as_str()),
            Owner::AnyPerson => None,
        });
        let right = right.unwrap_or("root");
        let (uid, name) = (found.uid, name_of(found.uid));
        Some(Bad {
            verdict: Verdict::Fail,
            why: format!("belongs to {name} (uid {uid}), not to {right}"),
            mend: right.to_owned(),
        })
    }

    fn opened(&self, most: u32, found: Found) -> Option<Bad> {
        let Found { mode, gid, kind, .. } = found;
        let judged = match kind {
            Kind::Directory => 0o777,
            // A program that runs as its owner, whoever starts it, is none of ours.
            Kind::File => 0o777 | SET_ID,
            // A socket or a device is for others to write to; what leads there is judged.
            Kind::Other => return None,
        };
        let alone = if self.own_group == Some(gid) { 0o020 } else { 0 };
        let more = mode & judged & !most & !alone;
        let can = match more {
            0 => return None,
            more if more & 0o002 != 0 => "everybody can change it",
            more if more & 0o020 != 0 => "its group can change it",
            more if more & SET_ID != 0 => "it runs with its owner's rights",
            more if more & 0o007 != 0 => "everybody can read it",
            _ => "its group can read it",
        };
        Some(Bad {
            verdict: Verdict::Fail,
            why: format!("is {mode:04o}: {can}"),
            mend: format!("{:04o}", mode & most),
        })
    }

    /// Where the sticky bit is set, only the owner of an entry takes it away.
    fn replaceable(&self, found: Found) -> Option<Bad> {
        let Found { mode, gid, .. } = found;
        let own_group = gid == 0 || self.own_group == Some(gid);
        let (verdict, who, less) = match mode {
            mode if mode & STICKY != 0 => return None,
            mode if mode & 0o002 != 0 => (Verdict::Fail, "everybody", "go-w"),
            mode if mode & 0o020 != 0 && !own_group => (Verdict::Warn, "its group", "g-w"),
            _ => return None,
        };
        Some(Bad {
            verdict,
            why: format!("is {mode:04o}: {who} can put something else where it leads to"),
            mend: less.to_owned(),
        })
    }
}

/// Whether only root and the caller can change what is there; a link never passes.
pub(crate) fn is_ours(path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_ok_and(|found| {
        !found.is_symlink() && Trusted::public(path).judge(path, Found::from(&found)).is_none()
    })
}

/// The group of one person's own, as most systems make them: named like the person, who alone is in it.
pub(crate) fn own_group() -> Option<u32> {
    let me = User::from_uid(Uid::effective()).ok().flatten()?;
    let group = Group::from_gid(me.gid).ok().flatten()?;
    (group.name == me.name && group.mem.iter().all(|member| *member == me.name))
        .then_some(group.gid.as_raw())
}

fn name_of(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

/// A path as a shell takes it.
pub(crate) fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.starts_with('/') && text.bytes().all(is_plain) {
        text.into_owned()
    } else {
        quote(&text)
    }
}

#[cfg(test)]
mod tests;
