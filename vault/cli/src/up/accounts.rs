//! Who each process is: a system user of its own, or without root the one person.
//!
//! Invariant: with separate users no process shares a uid or a gid with another.

use std::process::{Command, Stdio};

use nix::unistd::{Gid, Group, Uid, User};
use strongroom_policy::provider::Origin;

use crate::failure::{Code, Failure, Outcome};
use crate::files::Owner;
use crate::out;
use crate::settings::Settings;

/// Who each process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accounts {
    /// Whether they differ.
    pub(crate) separation: Separation,
    /// Has the keys.
    pub(crate) keeper: Owner,
    /// Dials the built-in providers.
    pub(crate) courier: Owner,
    /// Dials the operator-defined ones.
    pub(crate) courier_defined: Owner,
    /// Is talked to by users.
    pub(crate) gateway: Owner,
    /// Talks to the TPM, where there is one.
    pub(crate) tpm: Option<Owner>,
    /// Whoever may use the operator's tool.
    pub(crate) operators: Gid,
}

/// Whether the processes have users of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separation {
    /// They have.
    Users,
    /// They share this process's.
    None,
}

/// The keeper's system user.
pub(crate) const KEEPER_USER: &str = "strongroom-keeper";
/// The system user of the courier to the built-in providers.
pub(crate) const COURIER_USER: &str = "strongroom-courier";
/// The system user of the courier to the operator-defined ones.
pub(crate) const COURIER_DEFINED_USER: &str = "strongroom-courier-defined";
/// The gateway's system user.
pub(crate) const GATEWAY_USER: &str = "strongroom-gateway";
const USERADD: &str = "/usr/sbin/useradd";
const GROUPADD: &str = "/usr/sbin/groupadd";
/// Members may talk to the keeper as operators.
pub(crate) const OPERATORS: &str = "strongroom";

impl Accounts {
    /// All processes are this user.
    pub(crate) fn shared() -> Self {
        let own = (Uid::effective(), Gid::effective());
        let separation = Separation::None;
        Self {
            separation,
            keeper: own,
            courier: own,
            courier_defined: own,
            gateway: own,
            tpm: None,
            operators: own.1,
        }
    }

    /// Finds the system users, and makes those that are missing.
    pub(crate) fn separate(settings: &Settings) -> Outcome<Self> {
        let tpm = settings.tpm.tcti.as_ref().map(|_| user("strongroom-tpm")).transpose()?;
        Self {
            separation: Separation::Users,
            keeper: user(KEEPER_USER)?,
            courier: user(COURIER_USER)?,
            courier_defined: user(COURIER_DEFINED_USER)?,
            gateway: user(GATEWAY_USER)?,
            tpm,
            operators: group(OPERATORS)?,
        }
        .distinct()
    }

    /// Users that share a uid or a gid would undo the separation as well.
    pub(crate) fn distinct(self) -> Outcome<Self> {
        let all = [
            Some((KEEPER_USER, self.keeper)),
            Some((COURIER_USER, self.courier)),
            Some((COURIER_DEFINED_USER, self.courier_defined)),
            Some((GATEWAY_USER, self.gateway)),
            self.tpm.map(|tpm| ("strongroom-tpm", tpm)),
        ];
        let all: Vec<_> = all.into_iter().flatten().collect();
        for (at, (name, (uid, gid))) in all.iter().enumerate() {
            let same = all.iter().skip(at.saturating_add(1));
            let mut same = same.filter(|(_, (its_uid, its_gid))| its_uid == uid || its_gid == gid);
            if let Some((other, _)) = same.next() {
                let what = format!("the system users {name} and {other} share a uid or a group");
                let next = format!("userdel {other}, then 'strongroom up' by hand, which makes it");
                return Err(Failure::new(Code::Accounts, what).next(next));
            }
        }
        Ok(self)
    }

    /// The user of a courier.
    pub(crate) const fn courier(&self, origin: Origin) -> Owner {
        match origin {
            Origin::BuiltIn => self.courier,
            Origin::Operator => self.courier_defined,
        }
    }

    /// Whom a process is to become; `None` when it stays what it is.
    pub(crate) fn identity(&self, owner: Owner) -> Option<Owner> {
        match self.separation {
            Separation::Users => Some(owner),
            Separation::None => None,
        }
    }
}

fn user(name: &str) -> Outcome<Owner> {
    if let Some(found) = find(name)? {
        return checked(name, found);
    }
    let home = ["--no-create-home", "--home-dir", "/nonexistent"];
    let shell = ["--shell", "/usr/sbin/nologin", "--user-group", name];
    let made = make(USERADD, &[&["--system"][..], &home, &shell].concat());
    // Another start may have made it meanwhile.
    let found = match find(name)? {
        Some(found) => checked(name, found)?,
        None => return Err(made.err().unwrap_or_else(|| missing(name))),
    };
    if made.is_ok() {
        out::say(&format!("made the system user {name}"));
    }
    Ok(found)
}

fn find(name: &str) -> Outcome<Option<Owner>> {
    let found = User::from_name(name)
        .map_err(|error| Failure::new(Code::Accounts, format!("look up {name}: {error}")))?;
    Ok(found.map(|user| (user.uid, user.gid)))
}

/// A user of that name that is root, or shares root's group, would undo the separation.
fn checked(name: &str, (uid, gid): Owner) -> Outcome<Owner> {
    if uid.is_root() || gid.as_raw() == 0 {
        let what = format!("the system user {name} is root or in root's group");
        return Err(Failure::new(Code::Accounts, what).next(format!("userdel {name}, then again")));
    }
    Ok((uid, gid))
}

fn group(name: &str) -> Outcome<Gid> {
    let find = || {
        Group::from_name(name)
            .map_err(|error| Failure::new(Code::Accounts, format!("look up {name}: {error}")))
    };
    if let Some(found) = find()? {
        return Ok(found.gid);
    }
    let made = make(GROUPADD, &["--system", name]);
    let Some(found) = find()? else {
        return Err(made.err().unwrap_or_else(|| missing(name)));
    };
    if made.is_ok() {
        out::say(&format!("made the group {name}: its members may use this tool"));
    }
    Ok(found.gid)
}

fn make(program: &str, arguments: &[&str]) -> Outcome {
    let status = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let line = || format!("{program} {}", arguments.join(" "));
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(Code::Accounts, format!("{}: {status}", line())).next(
            "run that line as root (under systemd nothing may make users), then start again",
        )),
        Err(error) => Err(Failure::new(Code::Accounts, format!("{}: {error}", line()))
            .next("install the package `passwd` (or shadow-utils)")),
    }
}

fn missing(name: &str) -> Failure {
    Failure::new(Code::Accounts, format!("{name} was made and is not there"))
}

#[cfg(test)]
mod tests {
    use nix::unistd::{Gid, Uid};

    use super::{Accounts, Separation};

    #[test]
    fn users_that_share_a_uid_or_a_group_are_refused_by_name() {
        let of = |id: u32| (Uid::from_raw(id), Gid::from_raw(id));
        let good = Accounts {
            separation: Separation::Users,
            keeper: of(901),
            courier: of(902),
            courier_defined: of(903),
            gateway: of(904),
            tpm: Some(of(905)),
            operators: Gid::from_raw(906),
        };
        assert!(good.distinct().is_ok());
        let one_uid = Accounts { courier_defined: (of(902).0, of(903).1), ..good };
        let one_group = Accounts { tpm: Some((of(905).0, of(901).1)), ..good };
        for (bad, names) in [
            (one_uid, ["strongroom-courier ", "strongroom-courier-defined"]),
            (one_group, ["strongroom-keeper", "strongroom-tpm"]),
        ] {
            let failure = bad.distinct().unwrap_err().to_string();
            assert!(names.iter().all(|name| failure.contains(name)), "{failure}");
        }
    }
}
