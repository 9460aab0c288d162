//! The helper's command line, as the supervisor writes it.
//!
//! Invariant: an unknown, doubled or malformed argument is an error; nothing secret is ever here.

use std::os::fd::RawFd;

use nix::unistd::{Gid, Uid};
use strongroom_sys::confine::Layer;

use crate::place::Place;

/// What the helper is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--tcti PLACE`: where the TPM is.
    pub tcti: Place,
    /// `--keeper-fd N`: the inherited datagram socket.
    pub keeper_fd: RawFd,
    /// `--ready-fd N`: told when questions are answered.
    pub ready_fd: Option<RawFd>,
    /// `--uid U --gid G`: whom it becomes once the device is open.
    pub user: Option<(Uid, Gid)>,
    /// `--accept-missing a,b`: confinement layers that this kernel may lack.
    pub accept_missing: Vec<Layer>,
}

/// What is wrong with the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadArguments {
    /// Not one of ours, or given twice.
    #[error("unknown or repeated argument '{0}'")]
    Unknown(String),
    /// Without its value, or with one that does not fit.
    #[error("{0} needs a value that fits")]
    Value(String),
    /// Not given.
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl Arguments {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, BadArguments> {
        let mut words = words;
        let (mut tcti, mut keeper_fd, mut ready_fd) = (None, None, None);
        let (mut uid, mut gid, mut missing) = (None, None, None);
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| BadArguments::Value(name.clone()))?;
            match name.as_str() {
                "--tcti" => once(&mut tcti, &name, &value)?,
                "--keeper-fd" => once(&mut keeper_fd, &name, &value)?,
                "--ready-fd" => once(&mut ready_fd, &name, &value)?,
                "--uid" => once(&mut uid, &name, &value)?,
                "--gid" => once(&mut gid, &name, &value)?,
                "--accept-missing" => once(&mut missing, &name, &value)?,
                _ => return Err(BadArguments::Unknown(name)),
            }
        }
        let user = match (uid, gid) {
            (Some(uid), Some(gid)) => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            (None, None) => None,
            (Some(_), None) => return Err(BadArguments::Missing("--gid")),
            (None, Some(_)) => return Err(BadArguments::Missing("--uid")),
        };
        let missing: String = missing.unwrap_or_default();
        let mut accept_missing = Vec::new();
        for layer in missing.split(',').filter(|layer| !layer.is_empty()) {
            let layer = layer.parse();
            accept_missing.push(layer.map_err(|_| BadArguments::Value("--accept-missing".into()))?);
        }
        Ok(Self {
            tcti: tcti.ok_or(BadArguments::Missing("--tcti"))?,
            keeper_fd: keeper_fd.ok_or(BadArguments::Missing("--keeper-fd"))?,
            ready_fd,
            user,
            accept_missing,
        })
    }
}

fn once<T: std::str::FromStr>(
    place: &mut Option<T>,
    name: &str,
    value: &str,
) -> Result<(), BadArguments> {
    if place.is_some() {
        return Err(BadArguments::Unknown(name.to_owned()));
    }
    *place = Some(value.parse().map_err(|_| BadArguments::Value(name.to_owned()))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Arguments, BadArguments};

    fn parse(line: &str) -> Result<Arguments, BadArguments> {
        Arguments::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_unknown_doubled_or_missing_is_an_error() {
        let least = "--tcti device:/dev/tpmrm0 --keeper-fd 3";
        let all = format!("{least} --ready-fd 4 --uid 7 --gid 8 --accept-missing seccomp");
        let all = parse(&all).unwrap();
        assert_eq!((all.keeper_fd, all.ready_fd, all.user.is_some()), (3, Some(4), true));
        assert!(parse(least).unwrap().user.is_none());
        for bad in [
            "",
            "--tcti device:/dev/tpmrm0",
            "--keeper-fd 3",
            &format!("{least} --keeper-fd 4"),
            &format!("{least} --uid 1"),
            &format!("{least} --accept-missing all"),
            &format!("{least} --ready-fd"),
            &format!("{least} --pin 1234"),
            "--tcti cmd:sh --keeper-fd 3",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
