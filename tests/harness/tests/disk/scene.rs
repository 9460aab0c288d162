//! A vault with a past, at rest on a shelf, and what a copy of it shows when it is opened.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::Fault;

use crate::calls::Peers;
use crate::keeper::{Ended, Keeper, make_directory};
use crate::ledger::{Found, Ledger, Unheard, Writer, furnish, look};

/// A vault that was closed well.
pub(crate) struct Resting {
    pub(crate) data: PathBuf,
    pub(crate) shares: Vec<SecretBytes>,
    pub(crate) token: SecretBytes,
}

/// All that an operator can see of an open vault.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) found: Found,
    pub(crate) journal: Vec<String>,
}

/// What a directory became.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It opens, and shows this.
    Shows(Sight),
    /// The keeper says no.
    Refused(Fault),
    /// The keeper does not start.
    Ended(Ended),
}

/// Makes a vault, acts in it and closes it.
pub(crate) fn rest(data: &Path) -> Resting {
    make_directory(data);
    let keeper = Keeper::start(data);
    let mut door = keeper.operator();
    let shares = door.found();
    let ledger = Ledger::default();
    let token = furnish(&mut door, &ledger);
    drop(door);
    let resting = Resting { data: data.to_owned(), shares, token };
    live(keeper, &resting, |writer, ledger| writer.act(ledger, ACTS));
    resting
}

/// Acts and calls, then closes the vault.
pub(crate) fn live(
    keeper: Keeper,
    resting: &Resting,
    act: impl FnOnce(&mut Writer, &Ledger) -> Result<(), Unheard>,
) {
    let mut door = keeper.operator();
    let mut writer = Writer::new(0, keeper.operator(), &look(&mut door));
    let mut peers = Peers::connect(&keeper);
    act(&mut writer, &Ledger::default()).expect("nothing stands in the way");
    for _ in 0..CALLS {
        assert!(peers.call(&resting.token).expect("it runs").is_some(), "a call is released");
    }
    drop((door, writer, peers));
    keeper.stop();
}

/// Opens a vault and looks at everything.
pub(crate) fn open(data: &Path, shares: &[SecretBytes]) -> Opened {
    let keeper = match Keeper::try_start(data) {
        Ok(keeper) => keeper,
        Err(ended) => return Opened::Ended(ended),
    };
    let mut door = keeper.operator();
    if let Err(fault) = door.unseal(shares) {
        return Opened::Refused(fault);
    }
    let found = look(&mut door);
    match door.journal(0) {
        Ok(rows) => {
            let journal = rows.into_iter().map(|row| row.line).collect();
            Opened::Shows(Sight { found, journal })
        }
        Err(fault) => Opened::Refused(fault),
    }
}

/// What a vault shows that nobody touched: without the entries of this opening.
#[track_caller]
pub(crate) fn sight(data: &Path, shares: &[SecretBytes]) -> Sight {
    let Opened::Shows(mut sight) = open(data, shares) else { panic!("{}", data.display()) };
    let closed = sight.journal.iter().rposition(|line| line.contains("\"what\":\"seal\""));
    sight.journal.truncate(closed.expect("it was closed well") + 1);
    sight
}

impl Opened {
    /// What it is, in a line.
    pub(crate) fn story(&self) -> String {
        match self {
            Self::Shows(sight) => {
                format!("open, {} things, {} entries", sight.found.len(), sight.journal.len())
            }
            Self::Refused(fault) => format!("{fault:?}"),
            Self::Ended(ended) => format!("{ended:?}"),
        }
    }
}

impl Sight {
    /// Whether all of an earlier sight is still there, and nothing else but entries of later days.
    pub(crate) fn holds(&self, earlier: &Self) -> bool {
        self.found == earlier.found && self.journal.starts_with(&earlier.journal)
    }
}

/// The files of a directory that hold anything, relative to it.
pub(crate) fn files(data: &Path) -> BTreeSet<PathBuf> {
    let all = strongroom_tests::journal::files(data).into_iter();
    all.filter(|file| file.metadata().is_ok_and(|file| file.len() > 0))
        .map(|file| file.strip_prefix(data).expect("below it").to_owned())
        .collect()
}

/// A file's path without what differs from vault to vault.
pub(crate) fn kind(file: &Path) -> String {
    let parts = file.iter().map(|part| {
        let part = part.to_string_lossy();
        match part.split_once('.') {
            Some((name, number)) if is_number(number) => name.to_owned(),
            _ if is_number(&part) => "N".to_owned(),
            _ => part.into_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

fn is_number(text: &str) -> bool {
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    digits && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"xp.".contains(&byte))
}

const ACTS: usize = 24;
const CALLS: usize = 5;
