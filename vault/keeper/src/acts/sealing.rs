//! Opening the vault.
//!
//! Invariant: passphrases and shares are wiped when the attempt is over; Argon2 and the disk run on another thread.
//! Invariant: a failed attempt leaves the vault as it was, and is counted.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::sealing::LockName;
use strongroom_protocol::operator::tpm::MAX_CHECKPOINT_BYTES;
use strongroom_protocol::operator::{Answer, Exit, Fault, Progress, SealKind, UnsealWith};
use strongroom_sys::allocator::return_freed_memory;
use tokio::task::{spawn_blocking, spawn_local};

use super::closing::opening_fault;
use super::tpm::{lock_fault, no_helper};
use super::{Act, fault};
use crate::backup::restore;
use crate::clock;
use crate::founding::{VAULT_DIRECTORY, secret_of};
use crate::keeper::{State, Waiting};
use crate::keyring::KeyringError;
use crate::keys::{RootKey, TpmLockKey, WayId};
use crate::pipeline;
use crate::seal::{
    self, AttemptId, AttemptRefusal, Bringer, LockKind, Offer, Sealed, UnsealError, Unsealed,
};
use crate::tpm::Demand;
use crate::tpm::link::Link;
use crate::tpm::lock::{self, LockError};
use crate::vault::{OpenError, Opening, Vault, algorithm, lacks_locked_memory, seal_kind};

/// How a vault was opened.
pub(super) struct Brought {
    /// By which way.
    pub(super) way: &'static str,
    /// After how many attempts that failed.
    pub(super) failed_attempts: u64,
    /// The checkpoint that all have confirmed.
    pub(super) confirmed: Option<String>,
    /// Whether it must be sealed to a TPM.
    pub(super) demand: Demand,
    /// Whether somebody is there.
    pub(super) presence: Presence,
}

/// What comes with a part of what opens the vault.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms<'a> {
    /// The checkpoint that it confirms.
    pub(super) checkpoint: Option<String>,
    /// The attempt that it is for, and no other.
    pub(super) attempt: Option<&'a str>,
    /// Whether somebody is there.
    pub(super) presence: Presence,
}

/// Whether somebody is there when a vault is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Presence {
    /// An operator, whose word for changed settings counts.
    #[default]
    Somebody,
    /// The start alone.
    Nobody,
}

impl Act<'_> {
    /// Takes a part of what opens the vault, from somebody who may confirm a checkpoint with it.
    pub(super) async fn unseal(
        &self,
        with: UnsealWith,
        Terms { checkpoint, attempt, presence }: Terms<'_>,
    ) -> Result<Answer, Fault> {
        check_checkpoint(&with, checkpoint.as_deref())?;
        let mut waiting = match self.keeper.enter(State::Opening) {
            State::Sealed(waiting) => waiting,
            faulty @ State::Faulty(_) => self.load_again(faulty)?,
            other @ (State::Uninitialised(_) | State::Opening | State::Ready(_)) => {
                return Err(self.not_sealed(other));
            }
        };
        let (by, tpm) = (Bringer(self.operator), self.keeper.settings.tpm.clone());
        let place = self.keeper.settings.data.join(VAULT_DIRECTORY);
        let tied = attempt.map(|digits| waiting.ceremony.find(digits, Instant::now())).transpose();
        let (waiting, tried) = on_thread(move || {
            if !waiting.ceremony.is_under_way(Instant::now()) {
                waiting.confirmations.clear();
                // The TPM's counter moved, and its lock was written, after a sealing vault had read the file.
                if let Ok(fresh) = Sealed::load(&place) {
                    waiting.sealed = fresh;
                }
            }
            let tried = tied
                .map_err(|refusal| part_fault(&refusal))
                .and_then(|tied| try_part(&mut waiting, ((by, tied), tpm.as_deref()), &with));
            if tried.is_ok() {
                waiting.confirmations.push(checkpoint);
            }
            (waiting, tried)
        })
        .await?;
        match tried {
            Ok(seal::Progress::Complete(root, way)) => {
                self.unseal_with(waiting, (root, way), presence).await
            }
            Ok(seal::Progress::Waiting(standing)) => {
                let progress = progress_of(&standing);
                self.keeper.enter(State::Sealed(waiting));
                Ok(Answer::Unsealing(progress))
            }
            Err(fault) => {
                self.keeper.enter(State::Sealed(waiting));
                Err(fault)
            }
        }
    }

    pub(super) fn abandon_unseal(&self, attempt: &str) -> Result<Answer, Fault> {
        let now = Instant::now();
        let abandoned = match &mut *self.keeper.state.borrow_mut() {
            State::Sealed(waiting) => {
                let ceremony = &mut waiting.ceremony;
                let found = ceremony.find(attempt, now);
                found.and_then(|id| ceremony.abandon(Bringer(self.operator), id, now))
            }
            State::Uninitialised(_) | State::Opening | State::Ready(_) | State::Faulty(_) => {
                Err(AttemptRefusal::NoSuchAttempt)
            }
        };
        abandoned.map_err(|refusal| part_fault(&refusal))?;
        self.keeper.announce();
        Ok(Answer::Done)
    }

    /// After a fault was mended: nothing of the vault is in memory, so it is as good as sealed.
    fn load_again(&self, faulty: State) -> Result<Box<Waiting>, Fault> {
        let place = restore::place(&self.keeper.settings.data).ok().flatten();
        match place.map(|place| Sealed::load(&place)) {
            Some(Ok(sealed)) => Ok(Box::new(Waiting::new(sealed))),
            Some(Err(_)) | None => Err(self.not_sealed(faulty)),
        }
    }

    fn not_sealed(&self, state: State) -> Fault {
        let fault = match &state {
            State::Ready(_) => fault("SR-SEALED-005", "the vault is open already", "nothing to do"),
            State::Opening => opening_fault(),
            State::Faulty(why) => why.clone(),
            State::Uninitialised(_) => fault(
                "SR-SEALED-003",
                "there is no vault yet",
                "run 'strongroom init' or 'strongroom up'",
            ),
            State::Sealed(_) => fault("SR-INTERNAL-007", "the vault is sealed", "try again"),
        };
        self.keeper.enter(state);
        fault
    }

    async fn unseal_with(
        &self,
        waiting: Box<Waiting>,
        opened: (RootKey, WayId),
        presence: Presence,
    ) -> Result<Answer, Fault> {
        let Waiting { sealed, ceremony, confirmations } = *waiting;
        let (kind, confirmed) = (seal_kind(&sealed), confirmed_by_all(&confirmations));
        let way = sealed.way_name(opened.1);
        let unsealed =
            on_thread(move || sealed.unseal(opened, algorithm(), &mut getrandom::fill)).await?;
        match unsealed {
            Ok(unsealed) => {
                let demand = self.keeper.settings.tpm_demand;
                let failed_attempts = ceremony.failed();
                let brought = Brought { way, failed_attempts, confirmed, demand, presence };
                self.open(unsealed, kind, brought).await?;
                Ok(Answer::Unsealed)
            }
            Err(still) => {
                let why = unseal_fault(&still.error);
                let waiting = Waiting { sealed: still.sealed, ceremony, confirmations: Vec::new() };
                self.keeper.enter(State::Sealed(Box::new(waiting)));
                Err(why)
            }
        }
    }

    /// What the journal says of the opening that begins now, and what it is judged by.
    fn opening(&self, brought: Brought) -> Opening {
        let Brought { way, failed_attempts, confirmed, demand, presence } = brought;
        let accepted = match presence {
            Presence::Somebody => self.spend_acceptance(),
            Presence::Nobody => None,
        };
        Opening {
            operator: self.operator,
            way,
            failed_attempts,
            now: clock::now(),
            tpm: self.keeper.settings.tpm.clone(),
            demand,
            confirmed,
            settings: Arc::clone(&self.keeper.settings.guarded),
            accepted,
        }
    }

    /// Opens store and journal on another thread; a refusal leaves the vault shut and says why.
    pub(super) async fn open(
        &self,
        unsealed: Unsealed,
        kind: SealKind,
        brought: Brought,
    ) -> Result<(), Fault> {
        self.keeper.enter(State::Opening);
        let data: PathBuf = self.keeper.settings.data.clone();
        let store = self.keeper.settings.store.clone();
        let opening = self.opening(brought);
        let manner = self.keeper.settings.journal.clone();
        let opened = on_thread(move || {
            let opened = Vault::open((unsealed, kind), (&data, &store), &opening, &manner);
            return_freed_memory();
            opened
        });
        match opened.await? {
            Ok(vault) => {
                let (journal, keeper) = (Arc::clone(&vault.journal), Rc::clone(self.keeper));
                if let Some(wait) = vault.witnesses.calls_wait(Instant::now()) {
                    let keeper = Rc::clone(self.keeper);
                    spawn_local(async move {
                        tokio::time::sleep(wait).await;
                        keeper.announce();
                    });
                }
                spawn_local(journal.pump(move |written| pipeline::answer(&keeper, written)));
                // Before it is open: nobody can seal it meanwhile, and lose the new mark.
                self.unmark().await;
                self.keeper.enter(State::Ready(Box::new(vault)));
                self.keeper.leases.notify_one();
                self.resume_sweep();
                Ok(())
            }
            Err(error) => {
                let fault = error.fault();
                let faulty = State::Faulty(fault.clone());
                let state = match error {
                    // Nothing is wrong with the vault: it waits for a word, sealed.
                    OpenError::Settings(_) => State::Sealed(self.load_again(faulty)?),
                    OpenError::Books(_)
                    | OpenError::Journal(_)
                    | OpenError::Keyring(_)
                    | OpenError::Derive(_)
                    | OpenError::Seal(_)
                    | OpenError::Restore(_)
                    | OpenError::Malformed(_) => faulty,
                };
                self.keeper.enter(state);
                Err(fault)
            }
        }
    }
}

/// Takes a passphrase, a share, or what the TPM unseals. Blocks.
fn try_part(
    waiting: &mut Waiting,
    (who, tpm): ((Bringer, Option<AttemptId>), Option<&Link>),
    with: &UnsealWith,
) -> Result<seal::Progress, Fault> {
    let (now, Waiting { sealed, ceremony, .. }) = (Instant::now(), waiting);
    let secret = secret_of(with);
    let offer = match with {
        UnsealWith::Tpm(pin) => {
            // The TPM locks itself for all after a few guesses: who guesses is stopped here before.
            ceremony.admit(who, now).map_err(|refusal| part_fault(&refusal))?;
            let asked = ask_tpm(sealed, tpm, pin.as_ref());
            if asked.as_ref().is_err_and(NoTpmKey::is_a_guess) {
                ceremony.count_failure(who.0, Instant::now());
            }
            let (way, key) = asked.map_err(|error| error.fault())?;
            Offer::Tpm(way, key)
        }
        UnsealWith::Passphrase(_) => Offer::Passphrase(&secret),
        UnsealWith::Share(_) => Offer::Share(&secret),
    };
    let taken = ceremony.offer(who, offer, now, sealed, &mut getrandom::fill);
    taken.map_err(|refusal| part_fault(&refusal))
}

/// Why the TPM gave no key.
pub(super) enum NoTpmKey {
    NotSealedToIt,
    NoHelper,
    Lock(LockError),
}

impl NoTpmKey {
    /// Whether somebody showed a wrong PIN, or one that was not even looked at.
    pub(super) const fn is_a_guess(&self) -> bool {
        match self {
            Self::Lock(error) => error.is_wrong_pin(),
            Self::NotSealedToIt | Self::NoHelper => false,
        }
    }

    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::NotSealedToIt => {
                let next = "open it with shares, then 'strongroom tpm seal'";
                fault("SR-TPM-012", "this vault is not sealed to a TPM", next)
            }
            Self::NoHelper => no_helper(),
            Self::Lock(error) => lock_fault(error),
        }
    }
}

/// Has the TPM open its lock. Blocks.
pub(super) fn ask_tpm(
    sealed: &Sealed,
    tpm: Option<&Link>,
    pin: Option<&SecretBytes>,
) -> Result<(WayId, TpmLockKey), NoTpmKey> {
    let (way, lock) = sealed.tpm_way().ok_or(NoTpmKey::NotSealedToIt)?;
    let link = tpm.ok_or(NoTpmKey::NoHelper)?;
    let key = lock::open(link, sealed.vault(), (lock, pin)).map_err(NoTpmKey::Lock)?;
    Ok((way, key))
}

/// What the TPM gives nobody stands behind, so it confirms nothing.
fn check_checkpoint(with: &UnsealWith, checkpoint: Option<&str>) -> Result<(), Fault> {
    let by_tpm = matches!(with, UnsealWith::Tpm(_));
    let Some(checkpoint) = checkpoint else { return Ok(()) };
    if by_tpm || checkpoint.len() > MAX_CHECKPOINT_BYTES {
        let next = "bring shares or the passphrase, with the checkpoint as it was shown";
        return Err(fault("SR-TPM-017", "people confirm a checkpoint, not a TPM", next));
    }
    Ok(())
}

/// The checkpoint that came with every part of the attempt.
fn confirmed_by_all(confirmations: &[Option<String>]) -> Option<String> {
    let first = confirmations.first()?.clone()?;
    confirmations.iter().all(|one| one.as_deref() == Some(first.trim())).then_some(first)
}

pub(super) fn part_fault(refusal: &AttemptRefusal) -> Fault {
    if let Some(fault) = lacks_locked_memory(refusal) {
        return fault;
    }
    let (code, next) = match refusal {
        AttemptRefusal::Share(_) => {
            ("SR-SHARE-001", "bring another share; those accepted stay accepted")
        }
        AttemptRefusal::Passphrase(_) | AttemptRefusal::EarlierPassphrase => {
            ("SR-SEALED-007", "try again; nothing was changed")
        }
        AttemptRefusal::NoSuchAttempt => {
            ("SR-SEALED-009", "see 'strongroom status' for the attempt that is under way")
        }
        AttemptRefusal::TooMany { .. } => ("SR-SEALED-010", "wait, then try again"),
        AttemptRefusal::Crowded => ("SR-SEALED-011", "let the attempt expire, then begin again"),
        AttemptRefusal::NoSuchLock => {
            ("SR-SEALED-012", "see 'strongroom status' for what opens it")
        }
        AttemptRefusal::Damaged(_) => (
            "SR-SEALED-008",
            "keep the data directory as it is and restore a backup into another one",
        ),
        AttemptRefusal::Random(_) => ("SR-INTERNAL-005", "look at the kernel's log"),
    };
    fault(code, refusal.to_string(), next)
}

fn unseal_fault(error: &UnsealError) -> Fault {
    if let Some(fault) = lacks_locked_memory(error) {
        return fault;
    }
    let (code, exit, next) = match error {
        UnsealError::Keyring(KeyringError::Foreign) => (
            "SR-STORE-007",
            Exit::Foreign,
            "these files are of different vaults; bring back the ones that belong together",
        ),
        UnsealError::Keyring(KeyringError::Slots(full)) if full.is_full() => (
            "SR-SEALED-015",
            Exit::Error,
            "the disk is full, and nothing was damaged: free some space, then unseal again",
        ),
        UnsealError::Keyring(_) | UnsealError::Derive(_) => (
            "SR-SEALED-008",
            Exit::Corrupt,
            "keep the data directory as it is and restore a backup into another one",
        ),
        UnsealError::NotInForce => {
            ("SR-SEALED-013", Exit::Sealed, "bring what opened the vault before the rotation")
        }
        UnsealError::Moved => {
            ("SR-SEALED-014", Exit::Sealed, "bring the new shares; the old ones open nothing now")
        }
        UnsealError::File(_) => {
            ("SR-SEALED-015", Exit::Error, "look at the disk's free space and health, then again")
        }
    };
    Fault { exit, ..fault(code, error.to_string(), next) }
}

/// How far an unsealing is, for people.
pub(super) fn progress_of(standing: &seal::Standing) -> Progress {
    let accepted = u8::try_from(standing.accepted.len()).unwrap_or(u8::MAX);
    let [first, second, ..] = standing.id.0;
    let left = standing.expires_in.as_secs();
    Progress {
        attempt: hex::encode([first, second]),
        accepted: standing.accepted.clone(),
        holders: standing.holders.clone(),
        shut: standing.shut.iter().map(|kind| lock_name(*kind)).collect(),
        needed: standing.missing.map_or(accepted, |missing| accepted.saturating_add(missing)),
        expires_in_secs: u32::try_from(left).unwrap_or(u32::MAX),
    }
}

const fn lock_name(kind: LockKind) -> LockName {
    match kind {
        LockKind::Passphrase => LockName::Passphrase,
        LockKind::Shares => LockName::Shares,
        LockKind::Tpm => LockName::Tpm,
    }
}

pub(super) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    spawn_blocking(work).await.map_err(|_| {
        fault("SR-INTERNAL-008", "a thread ended", "restart, and report this as a defect")
    })
}
