//! Changing the ways into an open vault: adding and removing them, and another R for all of them.
//!
//! ```text
//! rotation   1 seal file: the ways to the new R beside the old ones, incoming     old ways open
//!            2 custody of the new shares is shown                                 old ways open
//!            3 keyring under the new R, slot by slot, with a new epoch            old ways, then the new ones open
//!            4 seal file: the new ways alone, in both slots                       new ways open
//! ```
//!
//! A way over the TPM alone goes along: its lock, with its counter, is on the old and on the new way until step 4.
//!
//! R is in no memory while the vault is open, so each change brings it anew.
//!
//! Invariant: between any two writes either the ways in force or the incoming ones open, never neither.
//! Invariant: shares count only once a threshold of them was entered back; the last way is never removed.
//! Invariant: a way that is gone lies in neither slot, and its shares are named as stale.

use super::file::{Incoming, SealFile, Target};
use super::{
    CAPACITY, KeyringError, Lock, MAX_WAYS, NewLock, SEAL_FILE, SealError, Share, Unsealed, Way,
    WayError, file::Read, write,
};
use crate::keys::{self, Algorithm, DeriveError, FillRandom, RootKey, TpmLockKey, WayId};
use crate::slots::SlotFile;

/// What is to lead into the vault.
pub enum Change<'a> {
    /// One more way.
    Add(Vec<NewLock<'a>>),
    /// One way in the place of another.
    Replace(WayId, Vec<NewLock<'a>>),
    /// One way less.
    Remove(WayId),
    /// Another R, and these ways alone; with the key of its lock also the way over the TPM alone, under the same lock.
    Rotate(Vec<Vec<NewLock<'a>>>, Option<TpmLockKey>),
}

impl Change<'_> {
    fn takes_away(&self, id: WayId) -> bool {
        match self {
            Self::Add(_) => false,
            Self::Replace(way, _) | Self::Remove(way) => *way == id,
            Self::Rotate(..) => true,
        }
    }
}

/// What became of a change.
#[derive(Debug)]
#[must_use]
pub enum Changed {
    /// It is in force.
    InForce,
    /// Shares were made: it is in force once enough of them are entered back.
    Waiting(Vec<Share>),
}

/// Why the ways are as before.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// What was brought opens something else.
    #[error("what was brought does not open this vault")]
    NotTheRoot,
    /// A change waits already.
    #[error("another change waits until its shares are entered back")]
    UnderWay,
    /// No change waits, or what was brought is not of it.
    #[error("these are not shares that wait to be entered back")]
    NotIncoming,
    /// The TPM's way has a counter behind it.
    #[error("a way over the TPM stands in the way of this change")]
    Tpm,
    /// Nothing would open the vault.
    #[error("the last way into the vault that needs no TPM cannot be removed")]
    LastWay,
    /// There is no such way.
    #[error("there is no such way into the vault")]
    NoSuchWay,
    /// No room for another one.
    #[error("there is no room: at most {MAX_WAYS} ways lead into a vault")]
    Full,
    /// Shares in more than one new way.
    #[error("one set of shares is made at a time")]
    OneSet,
    /// A way was not made.
    #[error(transparent)]
    Way(#[from] WayError),
    /// The seal file; after a failed write the vault must seal itself.
    #[error(transparent)]
    File(#[from] SealError),
    /// The keyring; after a failed write the vault must seal itself.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

impl Unsealed {
    /// Changes the ways with R, which is dropped in any case; durable when it answers. Blocks.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn change_ways(
        &mut self,
        root: RootKey,
        change: Change<'_>,
        algorithm: Algorithm,
        random: FillRandom<'_>,
    ) -> Result<Changed, ChangeError> {
        let mut file = self.seal_file()?;
        if file.incoming.is_some() {
            return Err(ChangeError::UnderWay);
        }
        let key = keys::derive_keyring_key(&root, file.vault)?;
        if !self.keyring.is_under(&key) {
            return Err(ChangeError::NotTheRoot);
        }
        let change = carry_tpm(&file, change)?;
        let (to, root, locks) = match change {
            Change::Remove(id) => {
                drop(root);
                return self.remove_way(file, id);
            }
            Change::Add(locks) => (Target::Same, root, vec![locks]),
            Change::Replace(id, locks) => {
                file.ways.iter().find(|way| way.id == id).ok_or(ChangeError::NoSuchWay)?;
                (Target::Replace(id), root, vec![locks])
            }
            Change::Rotate(ways, _) => {
                drop(root);
                (Target::Another, RootKey::make(random).map_err(WayError::from)?, ways)
            }
        };
        if to == Target::Same && file.ways.len() >= MAX_WAYS {
            return Err(ChangeError::Full);
        }
        let (ways, shares) = make_ways(&mut file, &root, locks, algorithm, random)?;
        let first = ways.first().map(|way| way.id).ok_or(SealError::WayCount)?;
        file.incoming = Some(Incoming { to, ways });
        if shares.is_empty() {
            // Nobody has to show anything, but a rotation must stand in the file before the keyring moves.
            if to == Target::Another {
                write(&self.directory, &file)?;
            }
            self.put_in_force(file, (root, first), random)?;
            return Ok(Changed::InForce);
        }
        write(&self.directory, &file)?;
        Ok(Changed::Waiting(shares))
    }

    /// Puts an incoming change in force with what its shares gave. Durable when it answers. Blocks.
    ///
    /// # Errors
    /// `NotIncoming`, or a file could not be written.
    pub fn accept_incoming(
        &mut self,
        opened: (RootKey, WayId),
        random: FillRandom<'_>,
    ) -> Result<(), ChangeError> {
        let file = self.seal_file()?;
        if !file.incoming.as_ref().is_some_and(|incoming| incoming.has(opened.1)) {
            return Err(ChangeError::NotIncoming);
        }
        self.put_in_force(file, opened, random)
    }

    /// Gives an incoming change up; its shares are stale then. Durable when it answers. Blocks.
    ///
    /// # Errors
    /// `NotIncoming`, or the file could not be written.
    pub fn drop_incoming(&mut self) -> Result<(), ChangeError> {
        let mut file = self.seal_file()?;
        let incoming = file.incoming.take().ok_or(ChangeError::NotIncoming)?;
        file.retire(&incoming.ways);
        Ok(write(&self.directory, &file)?)
    }

    fn put_in_force(
        &mut self,
        mut file: SealFile,
        (root, _): (RootKey, WayId),
        random: FillRandom<'_>,
    ) -> Result<(), ChangeError> {
        let key = keys::derive_keyring_key(&root, file.vault)?;
        drop(root);
        let rotation = file.incoming.as_ref().is_some_and(|one| one.to == Target::Another);
        if rotation && !self.keyring.is_under(&key) {
            self.keyring.move_under(key, random)?;
        } else if !self.keyring.is_under(&key) {
            return Err(ChangeError::NotTheRoot);
        }
        file.promote();
        Ok(write(&self.directory, &file)?)
    }

    fn remove_way(&mut self, mut file: SealFile, id: WayId) -> Result<Changed, ChangeError> {
        let gone: Vec<Way> = file.ways.extract_if(.., |way| way.id == id).collect();
        if gone.is_empty() {
            return Err(ChangeError::NoSuchWay);
        }
        // Whatever is left must outlive the machine.
        if file.ways.iter().all(|way| way.tpm().is_some()) {
            return Err(ChangeError::LastWay);
        }
        file.retire(&gone);
        write(&self.directory, &file)?;
        Ok(Changed::InForce)
    }

    fn seal_file(&self) -> Result<SealFile, ChangeError> {
        let path = self.directory.join(SEAL_FILE);
        let (_, payload) = SlotFile::open(&path, CAPACITY).map_err(SealError::from)?;
        match SealFile::decode(&payload)? {
            Read::Current(file) => Ok(file),
            // Whoever opened it wrote it anew.
            Read::FirstShares(_) | Read::FirstPassphrase(..) => Err(SealError::Malformed.into()),
        }
    }
}

/// A change that takes a way over the TPM away is refused, but for a rotation that brings its lock along.
fn carry_tpm<'a>(file: &SealFile, change: Change<'a>) -> Result<Change<'a>, ChangeError> {
    let mut lost = file.ways.iter().filter(|way| way.tpm().is_some() && change.takes_away(way.id));
    let Some(way) = lost.next() else { return Ok(change) };
    match (change, way.locks.as_slice()) {
        (Change::Rotate(ways, _), _) if ways.is_empty() => Err(ChangeError::LastWay),
        (Change::Rotate(mut ways, Some(key)), [Lock::Tpm(lock)]) => {
            // As it is in the file now: its counter moves.
            ways.push(vec![NewLock::Tpm(lock.clone(), key)]);
            Ok(Change::Rotate(ways, None))
        }
        _ => Err(ChangeError::Tpm),
    }
}

fn make_ways(
    file: &mut SealFile,
    root: &RootKey,
    ways: Vec<Vec<NewLock<'_>>>,
    algorithm: Algorithm,
    random: FillRandom<'_>,
) -> Result<(Vec<Way>, Vec<Share>), ChangeError> {
    if ways.len() > MAX_WAYS {
        return Err(ChangeError::Full);
    }
    let (mut made, mut all_shares) = (Vec::new(), Vec::new());
    for locks in ways {
        let id = file.take_id()?;
        let (way, shares) = Way::make((file.vault, id), root, locks, algorithm, random)?;
        if !shares.is_empty() && !all_shares.is_empty() {
            return Err(ChangeError::OneSet);
        }
        made.push(way);
        all_shares.extend(shares);
    }
    Ok((made, all_shares))
}

#[cfg(test)]
mod tests;
