//! The TPM: sealing the open vault to it, and keeping its counter behind every change.
//!
//! Invariant: an act that restricts is answered when the counter has moved behind it, or says that it has not.
//! Invariant: the TPM is asked on threads that may wait.
//! Invariant: what is refused leaves the seal file, the note of the counter and the TPM as they were; where a failed write leaves
//! that open, the vault is closed.

mod refusal;

use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::tpm::{
    MAX_PIN_BYTES, MIN_PIN_BYTES, TpmSeal, TpmStatus, TpmWish,
};
use strongroom_protocol::operator::{Answer, Fault, MAX_SHARES, SealWish, UnsealWith};
use strongroom_protocol::tpm::PcrSet;
use strongroom_sys::Secret;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::timeout;

use super::making::check_lock;
use super::sealing::{on_thread, part_fault};
use super::{Act, fault};
use crate::founding::{VAULT_DIRECTORY, new_locks, passphrases_of};
use crate::keeper::{After, Keeper};
use crate::keys::{self, RootKey, StoreId, TpmLockKey, WayId};
use crate::manifest::{CounterNote, Manifest, Motion};
use crate::seal::{Bringer, Ceremony, Offer, Pin, Progress, Sealed, Share, TpmLock, Unsealed};
use crate::tpm::COUNTER_EVERY;
use crate::tpm::freshness::{Found, Freshness};
use crate::tpm::link::{Link, PATIENCE};
use crate::tpm::lock;
use crate::tpm::standing::{Hold, Standing, advance};

pub(super) use refusal::{lock_fault, no_helper};
use refusal::{seal_fault, too_few, tpm_way_undone};

/// What an act on the TPM's seal works with, on a thread of its own.
pub(super) struct Bench {
    link: Option<Arc<Link>>,
    store: StoreId,
    manifest: Arc<Mutex<Manifest>>,
    unsealed: Arc<Mutex<Unsealed>>,
    /// Held for the whole act, so that the counter of before does not move during it.
    before: Option<Arc<Mutex<Freshness>>>,
}

/// Why the seal to the TPM is as before, or may not be.
pub(super) enum Undone {
    /// Nothing was changed.
    Refused(Fault),
    /// A file was not written.
    Broken(Fault),
}

/// Longest that an act waits for the counter: its two questions, and a disk that stalls.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(45);

impl Act<'_> {
    pub(super) async fn tpm_status(&self) -> Result<Answer, Fault> {
        let link = self.keeper.settings.tpm.clone();
        let place = self.keeper.settings.data.join(VAULT_DIRECTORY);
        let (health, lock) = on_thread(move || {
            let health = link.as_deref().map(|link| link.health(PATIENCE));
            let sealed = Sealed::load(&place).ok();
            (health, sealed.and_then(|sealed| sealed.tpm_way().map(|(_, lock)| lock.clone())))
        })
        .await?;
        let (health, mut trouble) = match health {
            Some(Ok(health)) => (Some(health), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, Some("the settings name no TPM".to_owned())),
        };
        let seal = lock.and_then(|lock| tpm_seal(&lock, health.as_ref().map(|it| it.storage.0)));
        let (mut counter, mut behind_secs) = (None, None);
        let seen = self.keeper.with_vault(|vault| match &vault.tpm {
            Standing::Held(hold) => {
                counter = Some(hold.value);
                behind_secs = hold.changed.map(|changed| changed.elapsed().as_secs());
                hold.trouble.clone()
            }
            Standing::Lost { why } => Some(why.clone()),
            Standing::None => None,
        });
        trouble = seen.ok().flatten().or(trouble);
        let window_secs = COUNTER_EVERY.as_secs();
        let status = TpmStatus { health, trouble, seal, counter, behind_secs, window_secs };
        Ok(Answer::Tpm(Box::new(status)))
    }

    pub(super) async fn tpm_seal(&self, wish: TpmWish) -> Result<Answer, Fault> {
        let bench = self.bench()?;
        if bench.link.is_none() {
            return Err(no_helper());
        }
        check_wish(&wish)?;
        self.begin("tpm.seal", if wish.pin.is_some() { "with a PIN" } else { "" }.to_owned())
            .await?;
        let by = Bringer(self.operator);
        let made = match on_thread(move || bench.seal(by, &wish)).await? {
            Ok(made) => made,
            Err(undone) => return Err(self.undone(undone).await),
        };
        let (freshness, shares) = made;
        self.vault(|vault| {
            let value = Ok(freshness.value());
            vault.tpm = Standing::Held(Hold::new(freshness, value, Instant::now()));
            vault.incoming = !shares.is_empty();
            Ok(())
        })?;
        Ok(if shares.is_empty() { Answer::Done } else { Answer::Shares(shares) })
    }

    pub(super) async fn tpm_remove(&self) -> Result<Answer, Fault> {
        self.begin("tpm.remove", String::new()).await?;
        let bench = self.bench()?;
        let parted = on_thread(move || bench.part(remove));
        match parted.await? {
            Ok(incoming) => self.parted(incoming).map(|()| Answer::Done),
            Err(undone) => Err(self.undone(undone).await),
        }
    }

    /// The vault is not sealed to a TPM any more; whether a change of the ways still waits.
    pub(super) fn parted(&self, incoming: bool) -> Result<(), Fault> {
        self.vault(|vault| {
            vault.tpm = Standing::None;
            vault.incoming = incoming;
            Ok(())
        })
    }

    pub(super) async fn undone(&self, undone: Undone) -> Fault {
        match undone {
            Undone::Refused(fault) => fault,
            Undone::Broken(fault) => {
                self.keeper.close("the seal's files failed", After::Faulty(fault.clone())).await;
                fault
            }
        }
    }

    pub(super) fn bench(&self) -> Result<Bench, Fault> {
        let link = self.keeper.settings.tpm.clone();
        self.vault(|vault| {
            let before = match &vault.tpm {
                Standing::Held(hold) => Some(Arc::clone(&hold.freshness)),
                Standing::None | Standing::Lost { .. } => None,
            };
            let (manifest, unsealed) = (Arc::clone(&vault.manifest), Arc::clone(&vault.unsealed));
            Ok(Bench { link, store: vault.store, manifest, unsealed, before })
        })
    }

    /// A change was made, or may have been: the counter is to move behind it, at once if it restricts.
    pub(super) async fn follow(&self, restricts: bool) -> Result<(), Fault> {
        let begun = self.keeper.with_vault(|vault| match &mut vault.tpm {
            Standing::Held(hold) => {
                hold.touch(Instant::now());
                restricts.then(|| hold.begin())
            }
            Standing::None | Standing::Lost { .. } => None,
        });
        // A vault that was closed by now has moved its counter then.
        let Ok(Some(freshness)) = begun else { return Ok(()) };
        let keeper = Rc::clone(self.keeper);
        // Whoever waits no longer leaves it moving.
        let moving = spawn_local(async move { move_on(&keeper, freshness).await });
        let moved = match timeout(FOLLOW_PATIENCE, moving).await {
            Ok(Ok(moved)) => moved,
            Ok(Err(_)) => Err("a task ended".to_owned()),
            Err(_) => Err("the disk does not answer".to_owned()),
        };
        moved.map(drop).map_err(|trouble| {
            let what = format!(
                "it is done and durable, but the TPM's counter did not move behind it ({trouble}): until it does, an \
                 older copy of the disk is still taken for the newest"
            );
            fault("SR-TPM-010", what, "see 'strongroom tpm status'; it is tried again every minute")
        })
    }
}

/// Moves the counter behind changes that have waited long enough.
pub fn follow_if_due(keeper: &Rc<Keeper>) {
    let due = keeper.with_vault(|vault| match &mut vault.tpm {
        Standing::Held(hold) => hold.begin_if_due(Instant::now()),
        Standing::None | Standing::Lost { .. } => None,
    });
    if let Ok(Some(freshness)) = due {
        let keeper = Rc::clone(keeper);
        // What went wrong is in the log and in the status.
        spawn_local(async move { drop(move_on(&keeper, freshness).await) });
    }
}

async fn move_on(keeper: &Rc<Keeper>, freshness: Arc<Mutex<Freshness>>) -> Result<u64, String> {
    let begun = Instant::now();
    let lent = Arc::clone(&freshness);
    let moved = spawn_blocking(move || advance(&lent, PATIENCE)).await;
    let moved = moved.unwrap_or_else(|_| Err("a thread ended".to_owned()));
    let told = moved.clone();
    let noted = keeper.with_vault(|vault| match &mut vault.tpm {
        Standing::Held(hold) if Arc::ptr_eq(&hold.freshness, &freshness) => {
            hold.settle(begun, told);
        }
        Standing::Held(_) | Standing::None | Standing::Lost { .. } => {}
    });
    if noted.is_err() {
        tracing::info!("the vault was closed while its counter moved");
    }
    moved
}

impl Bench {
    /// Seals to the TPM: the note first, so that a crash leaves a vault that its other ways open on people's word.
    fn seal(&self, by: Bringer, wish: &TpmWish) -> Result<(Freshness, Vec<SecretBytes>), Undone> {
        let _still = self.stand_still();
        let link = self.link.as_ref().ok_or_else(no_helper)?;
        let mut sealed = self.sealed()?;
        // Before the TPM makes a counter and the manifest names it.
        sealed.takes_tpm_way().map_err(|error| tpm_way_undone(&error))?;
        let root = self.root(by, &wish.parts, &mut sealed)?;
        let random: keys::FillRandom<'_> = &mut getrandom::fill;
        let made = lock::make(link, self.store, (wish.pcrs, wish.pin.as_ref()), random);
        let lock::Made { lock, key, moment_key } = made.map_err(|error| lock_fault(&error))?;
        let (value, noted) = (lock.newest(), self.noted());
        let put = self.put(&root, wish, (lock.clone(), key));
        drop(root);
        let (way, shares) = put.map_err(|why| self.take_back(link, &lock, noted, why))?;
        let shares = shares.iter().map(|share| share.write().expose(SecretBytes::copy_from));
        if let Some((_, old)) = sealed.tpm_way() {
            lock::forget(link, &old.counter);
        }
        let held = (Arc::clone(&self.manifest), Arc::clone(&self.unsealed));
        let found = Found { way, lock, value, moment_key };
        Ok((Freshness::new(Arc::clone(link), held, found), shares.collect()))
    }

    fn put(
        &self,
        root: &RootKey,
        wish: &TpmWish,
        (lock, key): (TpmLock, TpmLockKey),
    ) -> Result<(WayId, Vec<Share>), Undone> {
        let (name, value) = (lock.counter.name, lock.newest());
        self.note(Some(CounterNote { name, value, motion: Motion::Still }))?;
        let with = wish.with.as_slice();
        let passphrases = passphrases_of(with);
        let more = new_locks(with, &passphrases);
        let mut unsealed = self.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        let put = unsealed.put_tpm_way(root, ((lock, key), more), &mut getrandom::fill);
        put.map_err(|error| tpm_way_undone(&error))
    }

    /// Nothing leads over the new counter: the note of before stands again, and the TPM forgets it. A way that the disk took
    /// although it said otherwise keeps both.
    fn take_back(
        &self,
        link: &Link,
        lock: &TpmLock,
        noted: Option<CounterNote>,
        why: Undone,
    ) -> Undone {
        let named = |sealed: Sealed| {
            sealed.tpm_way().is_some_and(|(_, found)| found.counter == lock.counter)
        };
        if self.sealed().map_or(true, named) {
            return why;
        }
        lock::forget(link, &lock.counter);
        match self.note(noted) {
            Ok(()) => why,
            Err(broken) => broken,
        }
    }

    /// Takes away what leads over the TPM, by a change that does so, and the note of its counter. The note says first that the
    /// way leaves, so that a crash leaves a vault that opens. Answers whether a change of the ways still waits.
    pub(super) fn part<E: From<Undone>>(
        &self,
        change: impl FnOnce(&mut Unsealed) -> Result<(), E>,
    ) -> Result<bool, E> {
        let _still = self.stand_still();
        let (sealed, noted) = (self.sealed()?, self.noted());
        if let Some(note) = noted {
            self.note(Some(CounterNote { motion: Motion::Leaving, ..note }))?;
        }
        let mut unsealed = self.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut unsealed);
        drop(unsealed);
        let left = self.sealed();
        if let Err(why) = changed {
            if left.is_ok_and(|left| left.tpm_way().is_some()) {
                self.note(noted)?;
            }
            return Err(why);
        }
        let left = left?;
        self.note(None)?;
        if let (Some(link), Some((_, old))) = (&self.link, sealed.tpm_way()) {
            lock::forget(link, &old.counter);
        }
        Ok(left.incoming().is_some())
    }

    /// The counter of before does not move while this is held.
    fn stand_still(&self) -> Option<MutexGuard<'_, Freshness>> {
        self.before.as_deref().map(|one| one.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sealed(&self) -> Result<Sealed, Undone> {
        Ok(Sealed::load(&self.directory()).map_err(|error| seal_fault(&error))?)
    }

    fn noted(&self) -> Option<CounterNote> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner).counter()
    }

    /// R, from what opens the vault otherwise; it must be the one that the keyring is under.
    fn root(
        &self,
        by: Bringer,
        parts: &[UnsealWith],
        sealed: &mut Sealed,
    ) -> Result<RootKey, Fault> {
        let mut ceremony = Ceremony::new(Ceremony::STANDARD_LIFE);
        for part in parts {
            let (UnsealWith::Passphrase(typed) | UnsealWith::Share(typed)) = part else { continue };
            let secret = typed.expose(|typed| Secret::copy_from(typed.trim_ascii()));
            let exact = typed.expose(Secret::copy_from);
            let offer = match part {
                UnsealWith::Share(_) => Offer::Share(&secret),
                UnsealWith::Passphrase(_) | UnsealWith::Tpm(_) => Offer::Passphrase(&exact),
            };
            let now = Instant::now();
            let offered = ceremony.offer((by, None), offer, now, sealed, &mut getrandom::fill);
            if let Progress::Complete(root, _) = offered.map_err(|refusal| part_fault(&refusal))? {
                return if self.is_root(&root) { Ok(root) } else { Err(too_few()) };
            }
        }
        Err(too_few())
    }

    fn is_root(&self, root: &RootKey) -> bool {
        let unsealed = self.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys::derive_keyring_key(root, self.store);
        key.is_ok_and(|key| unsealed.keyring().is_under(&key))
    }

    fn note(&self, counter: Option<CounterNote>) -> Result<(), Undone> {
        let mut manifest = self.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        manifest.note_counter(counter, &mut getrandom::fill).map_err(|error| {
            let next = "look at the disk's free space and health, then restart and unseal";
            Undone::Broken(fault("SR-STORE-001", error.to_string(), next))
        })
    }

    fn directory(&self) -> std::path::PathBuf {
        let unsealed = self.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
        unsealed.directory().to_path_buf()
    }
}

fn tpm_seal(lock: &TpmLock, storage: Option<[u8; 32]>) -> Option<TpmSeal> {
    let pcrs = PcrSet::try_from(lock.pcrs).ok()?;
    Some(TpmSeal { pcrs, pin: lock.pin == Pin::Yes, fits: storage == Some(lock.storage) })
}

fn check_wish(wish: &TpmWish) -> Result<(), Fault> {
    let length = wish.pin.as_ref().map(SecretBytes::len);
    if length.is_some_and(|length| !(MIN_PIN_BYTES..=MAX_PIN_BYTES).contains(&length)) {
        let rule = format!("a PIN has {MIN_PIN_BYTES} to {MAX_PIN_BYTES} bytes");
        return Err(fault("SR-TPM-014", rule, "choose another one"));
    }
    let shares = matches!(wish.with, Some(SealWish::Shares { .. }));
    if shares && wish.pin.is_some() {
        let what = "with shares the TPM wants no PIN";
        return Err(fault("SR-TPM-018", what, "choose the PIN or the shares"));
    }
    wish.with.iter().try_for_each(check_lock)?;
    if wish.parts.len() > usize::from(MAX_SHARES) {
        return Err(too_few());
    }
    Ok(())
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

fn remove(unsealed: &mut Unsealed) -> Result<(), Undone> {
    unsealed.remove_tpm_way().map(drop).map_err(|error| tpm_way_undone(&error))
}

#[cfg(test)]
mod tests;
