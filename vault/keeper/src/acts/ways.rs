//! The ways into an open vault: listed, and changed by who can open it anew.
//!
//! Invariant: a change is in the journal before it is tried, and needs all that opens the vault.
//! Invariant: after a failed write the vault is closed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::sealing::{
    LockRow, MAX_PARTS, WayRow, WayStanding, WaysAct, WaysChange,
};
use strongroom_protocol::operator::{Answer, Fault, SealWish, UnsealWith};

use super::making::check_lock;
use super::sealing::{NoTpmKey, ask_tpm, on_thread, part_fault, progress_of};
use super::tpm::Undone;
use super::{Act, fault};
use crate::books::TenantKeys;
use crate::clock;
use crate::founding::{VAULT_DIRECTORY, new_locks, offer_of, passphrases_of, secret_of};
use crate::journal::entry::{ActResult, Entry};
use crate::keeper::{After, State};
use crate::keys::{RootKey, TpmLockKey, WayId};
use crate::seal::{
    AttemptRefusal, Bringer, Ceremony, Change, ChangeError, Changed, Lock, Offer, Pin, Progress,
    Sealed, Standing, Unsealed, Way,
};
use crate::tpm::freshness::Freshness;
use crate::tpm::link::Link;
use crate::tpm::standing::Standing as TpmStanding;
use crate::vault::{Custody, algorithm, seal_kind, tenant_of};

/// What a thread needs to change the ways.
struct Desk {
    unsealed: Arc<Mutex<Unsealed>>,
    custody: Arc<Mutex<Custody>>,
    place: PathBuf,
    by: Bringer,
    commit: u64,
    tpm: Option<Arc<Link>>,
    /// Held while the TPM is asked, so that the counter does not move meanwhile.
    counter: Option<Arc<Mutex<Freshness>>>,
}

/// Why a change was not made.
enum Refused {
    Part(AttemptRefusal),
    Change(ChangeError),
    NotEnough(Option<u8>),
    Tpm(NoTpmKey),
    Undone(Undone),
}

impl From<Undone> for Refused {
    fn from(undone: Undone) -> Self {
        Self::Undone(undone)
    }
}

impl Act<'_> {
    pub(super) async fn ways(&self) -> Result<Answer, Fault> {
        let place = match &*self.keeper.state.borrow() {
            State::Uninitialised(Some(founding)) => {
                return Ok(Answer::Ways(rows(founding.sealed())));
            }
            State::Sealed(waiting) => return Ok(Answer::Ways(rows(&waiting.sealed))),
            State::Ready(_) => self.keeper.settings.data.join(VAULT_DIRECTORY),
            State::Uninitialised(None) | State::Opening | State::Faulty(_) => {
                return Err(self.closed(strongroom_policy::refusal::Refusal::Sealed));
            }
        };
        let sealed = on_thread(move || Sealed::load(&place)).await?;
        let sealed = sealed.map_err(|error| change_fault(&error.into()))?;
        Ok(Answer::Ways(rows(&sealed)))
    }

    pub(super) async fn change_ways(&self, change: WaysChange) -> Result<Answer, Fault> {
        let WaysChange { proof, act } = change;
        if proof.is_empty() || proof.len() > MAX_PARTS {
            let what = format!("a change needs what opens the vault, in 1 to {MAX_PARTS} parts");
            return Err(fault(
                "SR-WAYS-001",
                what,
                "bring the passphrase, or a threshold of shares",
            ));
        }
        let (name, target) = name_of(&act);
        locks_of(&act).try_for_each(check_lock)?;
        self.begin(name, target.clone()).await?;
        let desk = self.desk()?;
        let made = on_thread(move || {
            let root = prove(&desk, &proof)?;
            let carried = desk.carry(&act, &proof)?;
            desk.change(root, &act, carried)
        });
        match made.await? {
            Ok(shares) => {
                self.refresh().await?;
                let texts: Vec<SecretBytes> = shares;
                Ok(if texts.is_empty() { Answer::Done } else { Answer::Shares(texts) })
            }
            Err(refused) => Err(self.refused((name, target), refused).await),
        }
    }

    /// A share of a change that waits.
    pub(super) async fn show_incoming(&self, with: UnsealWith) -> Result<Answer, Fault> {
        if !self.vault(|vault| Ok(vault.incoming))? {
            let what = "no shares wait to be entered back";
            return Err(fault("SR-INIT-003", what, "see 'strongroom seal-ways list'"));
        }
        let about = ("ways.accept", "incoming".to_owned());
        self.begin(about.0, about.1.clone()).await?;
        let desk = self.desk()?;
        match on_thread(move || desk.show(&with)).await? {
            Ok(Some(standing)) => Ok(Answer::Unsealing(progress_of(&standing))),
            Ok(None) => {
                self.refresh().await?;
                Ok(Answer::Done)
            }
            Err(refused) => Err(self.refused(about, refused).await),
        }
    }

    pub(super) async fn drop_ways(&self) -> Result<Answer, Fault> {
        let about = ("ways.drop", "incoming".to_owned());
        self.begin(about.0, about.1.clone()).await?;
        let (desk, bench) = (self.desk()?, self.bench()?);
        let dropped = on_thread(move || {
            let give_up =
                |unsealed: &mut Unsealed| unsealed.drop_incoming().map_err(Refused::Change);
            let with_the_tpm = desk.sealed()?.awaits_its_only_tpm_way();
            if with_the_tpm {
                bench.part(give_up)?;
            } else {
                give_up(&mut lock(&desk.unsealed))?;
            }
            Ok::<bool, Refused>(with_the_tpm)
        });
        match dropped.await? {
            Ok(with_the_tpm) => {
                if with_the_tpm {
                    self.parted(false)?;
                }
                self.refresh().await?;
                Ok(Answer::Done)
            }
            Err(refused) => Err(self.refused(about, refused).await),
        }
    }

    fn desk(&self) -> Result<Desk, Fault> {
        let place = self.keeper.settings.data.join(VAULT_DIRECTORY);
        let by = Bringer(self.operator);
        self.vault(|vault| {
            let (unsealed, custody) = (Arc::clone(&vault.unsealed), Arc::clone(&vault.custody));
            let tpm = self.keeper.settings.tpm.clone();
            let counter = match &vault.tpm {
                TpmStanding::Held(hold) => Some(Arc::clone(&hold.freshness)),
                TpmStanding::None | TpmStanding::Lost { .. } => None,
            };
            let commit = vault.books.commit();
            Ok(Desk { unsealed, custody, place, by, commit, tpm, counter })
        })
    }

    /// Brings memory in step with the files.
    async fn refresh(&self) -> Result<(), Fault> {
        let desk = self.desk()?;
        let read = on_thread(move || {
            let sealed = Sealed::load(&desk.place).map_err(ChangeError::from)?;
            let unsealed = lock(&desk.unsealed);
            let tenant = tenant_of(sealed.vault());
            let keys = TenantKeys::of(unsealed.keyring().keyring(), tenant, algorithm())?;
            Ok::<_, ChangeError>((sealed, keys))
        });
        let (sealed, keys) = read.await?.map_err(|error| change_fault(&error))?;
        self.vault(|vault| {
            vault.seal = seal_kind(&sealed);
            vault.incoming = sealed.incoming().is_some();
            vault.books.turn_to(keys);
            Ok(())
        })?;
        // A rotation began a new generation: what is of the old one is rewritten.
        self.resume_sweep();
        Ok(())
    }

    async fn refused(&self, (act, target): (&'static str, String), refused: Refused) -> Fault {
        let (operator, tenant, result) = (self.operator, self.tenant, ActResult::Failed);
        let entry = Entry::Act { act, operator, tenant, target, result };
        // A vault that is closed by now has closed its journal too.
        if self.keeper.with_vault(|vault| vault.journal.note(&entry, clock::now())).is_err() {
            tracing::warn!(act, "an act failed while the vault was closing");
        }
        match refused {
            Refused::Part(refusal) => part_fault(&refusal),
            Refused::Tpm(why) => {
                let fault = why.fault();
                let or =
                    "; or without it: 'strongroom tpm remove', the rotation, 'strongroom tpm seal'";
                Fault { next: fault.next.map(|next| next + or), ..fault }
            }
            Refused::Undone(undone) => self.undone(undone).await,
            Refused::NotEnough(missing) => {
                let more = missing.map_or_else(String::new, |more| format!(": {more} shares more"));
                let what = format!("this does not open the vault yet{more}");
                fault("SR-WAYS-002", what, "bring all that opens it at once")
            }
            Refused::Change(error) => {
                let why = change_fault(&error);
                if matches!(error, ChangeError::File(_) | ChangeError::Keyring(_)) {
                    let faulty = why.clone();
                    self.keeper.close("the seal's files failed", After::Faulty(faulty)).await;
                }
                why
            }
        }
    }
}

impl Desk {
    /// For a rotation: the key of the TPM's lock, which goes on opening the vault. Blocks.
    fn carry(&self, act: &WaysAct, proof: &[UnsealWith]) -> Result<Option<TpmLockKey>, Refused> {
        let rotates = matches!(act, WaysAct::Rotate(_));
        let _still = self.counter.as_deref().map(lock);
        let sealed = self.sealed()?;
        if !rotates || sealed.tpm_way().is_none() {
            return Ok(None);
        }
        let pin = proof.iter().find_map(|part| match part {
            UnsealWith::Tpm(pin) => pin.as_ref(),
            UnsealWith::Passphrase(_) | UnsealWith::Share(_) => None,
        });
        let now = Instant::now();
        let mut custody = lock(&self.custody);
        custody.proofs.admit((self.by, None), now).map_err(Refused::Part)?;
        let asked = ask_tpm(&sealed, self.tpm.as_deref(), pin);
        if asked.as_ref().is_err_and(NoTpmKey::is_a_guess) {
            custody.proofs.count_failure(self.by, Instant::now());
        }
        Ok(Some(asked.map_err(Refused::Tpm)?.1))
    }

    /// Makes a change, and answers the texts of its shares. Blocks.
    fn change(
        &self,
        root: RootKey,
        act: &WaysAct,
        carried: Option<TpmLockKey>,
    ) -> Result<Vec<SecretBytes>, Refused> {
        let one: Vec<&Vec<SealWish>> = match act {
            WaysAct::Add(locks) | WaysAct::Replace(_, locks) => vec![locks],
            WaysAct::Remove(_) => Vec::new(),
            WaysAct::Rotate(ways) => ways.iter().collect(),
        };
        let passphrases: Vec<_> = one.iter().map(|locks| passphrases_of(locks)).collect();
        let made = one.iter().zip(&passphrases).map(|(locks, said)| new_locks(locks, said));
        let mut made: Vec<_> = made.collect();
        let change = match act {
            WaysAct::Add(_) => Change::Add(made.pop().unwrap_or_default()),
            WaysAct::Replace(id, _) => Change::Replace(WayId(*id), made.pop().unwrap_or_default()),
            WaysAct::Remove(id) => Change::Remove(WayId(*id)),
            WaysAct::Rotate(_) => Change::Rotate(made, carried),
        };
        let mut unsealed = lock(&self.unsealed);
        unsealed.keyring_mut().reach(self.commit);
        let changed = unsealed.change_ways(root, change, algorithm(), &mut getrandom::fill);
        match changed.map_err(Refused::Change)? {
            Changed::InForce => Ok(Vec::new()),
            Changed::Waiting(shares) => {
                let text =
                    |share: &crate::seal::Share| share.write().expose(SecretBytes::copy_from);
                Ok(shares.iter().map(text).collect())
            }
        }
    }

    /// Takes a share of the change that waits; with the last one it is in force. Blocks.
    fn show(&self, with: &UnsealWith) -> Result<Option<Standing>, Refused> {
        let _still = self.counter.as_deref().map(lock);
        let mut sealed = self.sealed()?;
        let mut custody = lock(&self.custody);
        if sealed.awaits_tpm() {
            // The TPM's key, for the way that it opens together with these shares; it wants no PIN.
            let (way, key) = ask_tpm(&sealed, self.tpm.as_deref(), None).map_err(Refused::Tpm)?;
            let (who, random) = ((self.by, None), &mut getrandom::fill);
            let brought = custody.incoming.offer(
                who,
                Offer::Tpm(way, key),
                Instant::now(),
                &mut sealed,
                random,
            );
            drop(brought.map_err(Refused::Part)?);
        }
        match offer(&mut custody.incoming, &mut sealed, self.by, with)? {
            Progress::Waiting(standing) => Ok(Some(standing)),
            Progress::Complete(root, way) => {
                let mut unsealed = lock(&self.unsealed);
                unsealed.keyring_mut().reach(self.commit);
                let accepted = unsealed.accept_incoming((root, way), &mut getrandom::fill);
                accepted.map_err(Refused::Change)?;
                Ok(None)
            }
        }
    }

    fn sealed(&self) -> Result<Sealed, Refused> {
        Sealed::load(&self.place).map_err(|error| Refused::Change(error.into()))
    }
}

/// R, of everything that opens the vault, brought at once.
fn prove(desk: &Desk, proof: &[UnsealWith]) -> Result<RootKey, Refused> {
    let mut sealed = desk.sealed()?;
    let mut custody = lock(&desk.custody);
    let ceremony = &mut custody.proofs;
    let mut missing = None;
    // A TPM proves nobody: what is brought for it is asked for the way that a rotation takes along.
    for part in proof.iter().filter(|part| !matches!(part, UnsealWith::Tpm(_))) {
        match offer(ceremony, &mut sealed, desk.by, part) {
            Ok(Progress::Complete(root, _)) => return Ok(root),
            Ok(Progress::Waiting(standing)) => missing = standing.missing,
            Err(refused) => {
                ceremony.clear();
                return Err(refused);
            }
        }
    }
    ceremony.clear();
    Err(Refused::NotEnough(missing))
}

fn offer(
    ceremony: &mut Ceremony,
    sealed: &mut Sealed,
    by: Bringer,
    with: &UnsealWith,
) -> Result<Progress, Refused> {
    let (now, secret) = (Instant::now(), secret_of(with));
    let part = offer_of(with, &secret).ok_or(Refused::Part(AttemptRefusal::NoSuchLock))?;
    ceremony.offer((by, None), part, now, sealed, &mut getrandom::fill).map_err(Refused::Part)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn locks_of(act: &WaysAct) -> impl Iterator<Item = &SealWish> {
    let ways: &[Vec<SealWish>] = match act {
        WaysAct::Add(locks) | WaysAct::Replace(_, locks) => std::slice::from_ref(locks),
        WaysAct::Remove(_) => &[],
        WaysAct::Rotate(ways) => ways,
    };
    ways.iter().flatten()
}

fn name_of(act: &WaysAct) -> (&'static str, String) {
    match act {
        WaysAct::Add(_) => ("ways.add", "new".to_owned()),
        WaysAct::Replace(id, _) => ("ways.replace", id.to_string()),
        WaysAct::Remove(id) => ("ways.remove", id.to_string()),
        WaysAct::Rotate(_) => ("ways.rotate", "all".to_owned()),
    }
}

fn rows(sealed: &Sealed) -> Vec<WayRow> {
    let in_force = sealed.ways().iter().map(|way| row(way, WayStanding::InForce));
    let incoming = sealed.incoming().map_or((&[][..], WayStanding::Incoming), |(ways, another)| {
        (ways, if another { WayStanding::Rotation } else { WayStanding::Incoming })
    });
    let (ways, standing) = incoming;
    in_force.chain(ways.iter().map(|way| row(way, standing))).collect()
}

fn row(way: &Way, standing: WayStanding) -> WayRow {
    let locks = way.locks.iter().map(|lock| match lock {
        Lock::Passphrase(_) => LockRow::Passphrase,
        Lock::Shares { set, holders } => {
            LockRow::Shares { threshold: set.threshold, count: set.count, holders: holders.clone() }
        }
        Lock::Tpm(tpm) => LockRow::Tpm { pin: tpm.pin == Pin::Yes },
    });
    WayRow { id: way.id.0, locks: locks.collect(), standing }
}

fn change_fault(error: &ChangeError) -> Fault {
    let (code, next) = match error {
        ChangeError::NotTheRoot => ("SR-WAYS-003", "bring what opens this vault now"),
        ChangeError::UnderWay => (
            "SR-WAYS-004",
            "enter its shares back ('strongroom share verify'), or give it up ('strongroom seal-ways drop')",
        ),
        ChangeError::NotIncoming => ("SR-WAYS-005", "see 'strongroom seal-ways list'"),
        ChangeError::Tpm => (
            "SR-WAYS-010",
            "remove it ('strongroom tpm remove'), change the ways, then seal to it again ('strongroom tpm seal')",
        ),
        ChangeError::LastWay => {
            ("SR-WAYS-006", "add another way first ('strongroom seal-ways add')")
        }
        ChangeError::NoSuchWay => ("SR-WAYS-007", "see 'strongroom seal-ways list'"),
        ChangeError::Full => {
            ("SR-WAYS-011", "remove one that is not used ('strongroom seal-ways remove')")
        }
        ChangeError::OneSet | ChangeError::Way(_) => {
            ("SR-WAYS-008", "choose other locks or numbers; nothing was changed")
        }
        ChangeError::File(_) | ChangeError::Keyring(_) => (
            "SR-WAYS-009",
            "look at the disk's free space and health, then unseal with the old or the new shares",
        ),
        ChangeError::Derive(_) => ("SR-INTERNAL-002", "report this as a defect"),
    };
    fault(code, error.to_string(), next)
}
