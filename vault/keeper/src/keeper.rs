//! The keeper's state, and who hears of its changes.
//!
//! Invariant: one thread; the state is never borrowed across a wait.
//! Invariant: whenever the vault closes, whatever the reason, calls are recalled and keys dropped in one place.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_policy::id::{CallId, Id, Kind};
use strongroom_policy::ledger::MAX_PAYERS_OF_EXTENSION;
use strongroom_policy::moment::Moment;
use strongroom_policy::provider::{Origin, ProviderDefinition};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::{
    Answer, Refused, Route, RoutePath, Snapshot, ToGateway, VaultState,
};
use strongroom_protocol::errand::{MAX_RECALLED, Outcome, Recall, ToCourier};
use strongroom_protocol::frame::{MAX_ASK_BYTES, encode};
use strongroom_protocol::operator::{Check, Fault, PANIC_EXIT, SEAL_EXIT};
use strongroom_protocol::person::SessionKey;
use strongroom_store::Choice;
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::acts::{fault, leasing};
use crate::backup::halt::Copies;
use crate::backup::transfer::{self, TransferSlot};
use crate::budgets::End;
use crate::clock;
use crate::doors::outbox::Outbox;
use crate::founding::{Founding, VAULT_DIRECTORY};
use crate::journal::Manner;
use crate::journal::entry::Entry;
use crate::people::Places;
use crate::seal::{Ceremony, Sealed};
use crate::seal_mark::Mark;
use crate::settings::{Acceptance, Settings as Guarded};
use crate::tpm::Demand;
use crate::tpm::link::Link;
use crate::tpm::standing::{Standing, advance};
use crate::vault::Vault;

/// What the vault is.
pub enum State {
    /// There is none; perhaps one is being made.
    Uninitialised(Option<Box<Founding>>),
    /// Its keys are not in memory.
    Sealed(Box<Waiting>),
    /// A thread is opening, making or closing it.
    Opening,
    /// Calls can be made.
    Ready(Box<Vault>),
    /// It was refused or broke; an operator must look.
    Faulty(Fault),
}

/// What a vault that was closed is.
#[derive(Debug, Clone)]
pub enum After {
    /// It waits to be opened.
    Sealed,
    /// An operator must look.
    Faulty(Fault),
}

/// A sealed vault and how far its unsealing is.
pub struct Waiting {
    /// The vault.
    pub sealed: Sealed,
    /// What was brought to open it, and how often that failed.
    pub ceremony: Ceremony,
    /// The checkpoint that each accepted part of the attempt confirms, or that it confirms none.
    pub confirmations: Vec<Option<String>>,
}

impl Waiting {
    /// A sealed vault to which nobody has brought anything.
    pub fn new(sealed: Sealed) -> Self {
        Self { sealed, ceremony: Ceremony::new(Ceremony::STANDARD_LIFE), confirmations: Vec::new() }
    }
}

/// What the keeper was started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything lies.
    pub data: PathBuf,
    /// What keeps the records.
    pub store: Choice,
    /// What users call us: absolute URLs of providers are rewritten to this.
    pub public_url: String,
    /// What does not change while it runs, for `doctor`: confinement, network, store.
    pub standing: Vec<Check>,
    /// How the journal is written.
    pub journal: Manner,
    /// The TPM's helper, when there is one.
    pub tpm: Option<Arc<Link>>,
    /// Whether a vault that is not sealed to a TPM is refused.
    pub tpm_demand: Demand,
    /// What the vault remembers of the configuration.
    pub guarded: Arc<Guarded>,
}

/// A probe under way.
pub struct Probing {
    /// Whose courier makes it.
    pub origin: Origin,
    /// Who waits for it.
    pub waiter: oneshot::Sender<(Outcome, String)>,
    /// How it ended, until its text has come.
    pub outcome: Option<Outcome>,
}

/// The couriers that are there.
#[derive(Default)]
struct Couriers {
    built_in: Option<Rc<Outbox>>,
    operator: Option<Rc<Outbox>>,
}

impl Couriers {
    fn of(&mut self, origin: Origin) -> &mut Option<Rc<Outbox>> {
        match origin {
            Origin::BuiltIn => &mut self.built_in,
            Origin::Operator => &mut self.operator,
        }
    }
}

/// Names one connection of a gateway: never given again, so that no answer reaches another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayId(pub u64);

/// Who asked: a question of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Which gateway.
    pub gateway: GatewayId,
    /// The number that it gave its question.
    pub number: u64,
}

struct Gateway {
    id: GatewayId,
    outbox: Rc<Outbox>,
}

/// The keeper.
pub struct Keeper {
    /// What it was started with.
    pub settings: Settings,
    /// What the vault is.
    pub state: RefCell<State>,
    /// Whether an operator sealed it and nobody opened it since: as the mark on the disk, also when that cannot be written.
    pub sealed_by_operator: Arc<Mark>,
    /// One act at a time, so that what it checked still holds when it is durable.
    pub acts: Mutex<()>,
    /// Which rewriting of old records may go on: one at a time, and none after its vault has closed.
    pub sweeps: Cell<u64>,
    /// Probes under way, a few at most.
    pub probes: RefCell<BTreeMap<CallId, Probing>>,
    /// An operator's word for the settings, until the vault is opened.
    pub acceptance: RefCell<Option<Acceptance>>,
    /// The one backup that is being made, fetched or brought.
    pub transfers: TransferSlot,
    /// Threads that hold the open vault's keys beside it: those of a backup that is being made or proved.
    pub copies: Copies,
    /// Questions about people that wait for their turn.
    pub people_asks: Places,
    /// Wakes who makes durable what is spent of budgets.
    pub leases: Notify,
    gateways: RefCell<Vec<Gateway>>,
    gateways_so_far: Cell<u64>,
    couriers: RefCell<Couriers>,
    version: Cell<u64>,
}

/// How long a closing vault waits for its writers.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// `EX_IOERR` of sysexits(3).
const DISK_STALLED: i32 = 74;
/// Most gateways.
const MAX_GATEWAYS: usize = 4;

impl Keeper {
    /// A keeper over what lies in its data directory.
    pub fn new(settings: Settings, state: State) -> Self {
        Self {
            settings,
            state: RefCell::new(state),
            sealed_by_operator: Arc::default(),
            acts: Mutex::new(()),
            acceptance: RefCell::default(),
            sweeps: Cell::new(0),
            probes: RefCell::default(),
            transfers: RefCell::default(),
            copies: Copies::default(),
            people_asks: Places::default(),
            leases: Notify::new(),
            gateways: RefCell::default(),
            gateways_so_far: Cell::new(0),
            couriers: RefCell::default(),
            version: Cell::new(0),
        }
    }

    /// Lends the open vault.
    ///
    /// # Errors
    /// When it is not open.
    pub fn with_vault<T>(&self, see: impl FnOnce(&mut Vault) -> T) -> Result<T, Refusal> {
        match &mut *self.state.borrow_mut() {
            State::Ready(vault) => Ok(see(vault)),
            State::Faulty(_) => Err(Refusal::StoreUnavailable),
            State::Uninitialised(_) | State::Sealed(_) | State::Opening => Err(Refusal::Sealed),
        }
    }

    /// Puts a new state in the place of the old one and tells the gateways.
    pub fn enter(&self, state: State) -> State {
        let old = self.state.replace(state);
        self.announce();
        old
    }

    /// Closes the vault: recalls every call, closes their entries, drops the keys, and lets the writers end, and whoever holds
    /// copies of the keys for a backup. What does not end in time, or a disk that does not give the seal's file, ends the process
    /// instead: the supervisor starts a sealed one.
    pub async fn close(&self, reason: &'static str, after: After) {
        let old = self.state.replace(State::Opening);
        let State::Ready(mut vault) = old else {
            self.enter(old);
            return;
        };
        self.next_sweep();
        transfer::halt(self);
        self.announce();
        for origin in Origin::ALL {
            self.tell_courier(origin, &ToCourier::Recall(Recall::All));
        }
        let now = clock::now();
        for call in vault.tickets.take_all() {
            let cost = vault.budgets.end(call, End::Unreported);
            vault.journal.note(&Entry::unmade(call, Refusal::Recalled, cost), now);
        }
        write_exact_figures(&mut vault, now);
        vault.journal.note(&Entry::Seal { reason }, now);
        for asker in vault.journal.forget_calls() {
            self.answer(asker, Answer::Refused(Refused::plain(Refusal::Sealed)));
        }
        self.probes.borrow_mut().clear();
        let (journal, books, tpm) = vault.into_writers();
        let ending = spawn_blocking(move || {
            journal.finish();
            drop(books);
        });
        let ending = async {
            let ended = ending.await;
            self.copies.gone().await;
            ended
        };
        let mut state = None;
        if matches!(timeout(CLOSE_PATIENCE, ending).await, Ok(Ok(())))
            && move_for_the_last_time(tpm).await
        {
            state = self.state_after(after).await;
        }
        let Some(state) = state else {
            tracing::error!(
                "the disk did not take the last writes or end a backup; the process ends"
            );
            let by_operator = self.sealed_by_operator.is_wanted();
            std::process::exit(if by_operator { SEAL_EXIT.into() } else { DISK_STALLED });
        };
        self.enter(state);
    }

    /// Reads the seal's file anew, if the disk gives it in time.
    async fn state_after(&self, after: After) -> Option<State> {
        let place = match after {
            After::Sealed => self.settings.data.join(VAULT_DIRECTORY),
            After::Faulty(fault) => return Some(State::Faulty(fault)),
        };
        let loading = spawn_blocking(move || Sealed::load(&place));
        let loaded = timeout(CLOSE_PATIENCE, loading).await.ok()?.ok()?;
        Some(match loaded {
            Ok(sealed) => State::Sealed(Box::new(Waiting::new(sealed))),
            Err(_) => State::Faulty(fault(
                "SR-STORE-009",
                "the seal's file cannot be read",
                "look at the disk, then restart",
            )),
        })
    }

    /// Wipes what was brought to an attempt whose time is over.
    pub fn expire_attempt(&self) {
        let expired = match &mut *self.state.borrow_mut() {
            State::Sealed(waiting) => waiting.ceremony.expire(Instant::now()),
            State::Uninitialised(Some(founding)) => founding.expire(),
            State::Ready(vault) => {
                // A thread that has it is using it just now.
                if let Ok(mut custody) = vault.custody.try_lock() {
                    custody.expire(Instant::now());
                }
                false
            }
            State::Uninitialised(None) | State::Opening | State::Faulty(_) => false,
        };
        if expired {
            self.announce();
        }
    }

    /// Wipes what was brought to an attempt that is under way; failures stay counted.
    pub fn drop_parts(&self) {
        match &mut *self.state.borrow_mut() {
            State::Sealed(waiting) => {
                waiting.ceremony.clear();
                waiting.confirmations.clear();
            }
            // A vault that closes takes its own along.
            State::Uninitialised(_) | State::Opening | State::Ready(_) | State::Faulty(_) => return,
        }
        self.announce();
    }

    /// Ends the rewriting of old records that is under way, and names the next one.
    pub fn next_sweep(&self) -> u64 {
        let next = self.sweeps.get().saturating_add(1);
        self.sweeps.set(next);
        next
    }

    /// Ends the process with the keys, and the parts of an attempt, wiped that no other thread is using; what those use ends
    /// with the process's memory.
    /// Waits for nothing: not for the journal, a courier or a lock.
    pub fn panic(&self) -> ! {
        if let Ok(mut state) = self.state.try_borrow_mut() {
            match std::mem::replace(&mut *state, State::Opening) {
                State::Ready(vault) => {
                    let writers = vault.into_writers();
                    // Its threads may be stuck in a disk that stalls; nobody joins this one either.
                    drop(std::thread::Builder::new().spawn(move || drop(writers)));
                }
                State::Sealed(waiting) => drop(waiting),
                State::Uninitialised(founding) => drop(founding),
                State::Opening | State::Faulty(_) => {}
            }
        }
        std::process::exit(PANIC_EXIT.into());
    }

    /// Stops calls under way; each courier hears of its own.
    pub fn recall(&self, calls: &[(Origin, CallId)]) {
        for origin in Origin::ALL {
            let its: Vec<CallId> =
                calls.iter().filter(|(of, _)| *of == origin).map(|(_, call)| *call).collect();
            for some in its.chunks(MAX_RECALLED) {
                self.tell_courier(origin, &ToCourier::Recall(Recall::Calls(some.to_vec())));
            }
        }
    }

    /// The state in the gateway's words.
    pub fn vault_state(&self) -> VaultState {
        match &*self.state.borrow() {
            State::Uninitialised(_) => VaultState::Uninitialised,
            State::Sealed(waiting) if waiting.ceremony.is_under_way(Instant::now()) => {
                VaultState::Unsealing
            }
            State::Sealed(_) | State::Opening => VaultState::Sealed,
            State::Ready(vault) if !vault.witnesses.let_calls(Instant::now()) => {
                VaultState::Unsealing
            }
            State::Ready(_) => VaultState::Ready,
            State::Faulty(_) => VaultState::Faulty,
        }
    }

    /// What a gateway must know to route.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.vault_state();
        let (providers, session_key) = match &*self.state.borrow() {
            State::Ready(vault) if state == VaultState::Ready => {
                let signing = vault.tables.sign_ins.signing.as_ref();
                let session_key = signing.map(|key| SessionKey::clone(&key.public));
                (vault.tables.providers.values().map(route).collect(), session_key)
            }
            State::Uninitialised(_)
            | State::Sealed(_)
            | State::Opening
            | State::Ready(_)
            | State::Faulty(_) => (Vec::new(), None),
        };
        Snapshot { version: self.version.get(), state, providers, session_key }
    }

    /// Tells every gateway what it must know to route.
    pub fn announce(&self) {
        self.version.set(self.version.get().saturating_add(1));
        let snapshot = ToGateway::Snapshot(self.snapshot());
        self.gateways.borrow_mut().retain(|gateway| gateway.outbox.push(&snapshot).is_ok());
    }

    /// Takes in a gateway.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add_gateway(&self, outbox: &Rc<Outbox>) -> Result<GatewayId, TooMany> {
        let mut gateways = self.gateways.borrow_mut();
        gateways.retain(|gateway| gateway.outbox.is_open());
        if gateways.len() >= MAX_GATEWAYS {
            return Err(TooMany);
        }
        let id = GatewayId(self.gateways_so_far.get());
        self.gateways_so_far.set(id.0.saturating_add(1));
        gateways.push(Gateway { id, outbox: Rc::clone(outbox) });
        Ok(id)
    }

    /// Answers a question.
    pub fn answer(&self, Asker { gateway, number }: Asker, answer: Answer) {
        let gateways = self.gateways.borrow();
        if let Some(gateway) = gateways.iter().find(|one| one.id == gateway) {
            // A gateway that is gone asks again when it is back.
            drop(gateway.outbox.push(&ToGateway::Answer { number, answer }));
        }
    }

    /// Takes in a courier.
    ///
    /// # Errors
    /// When there is one, or one of which it is not known yet what it was doing.
    pub fn add_courier(&self, origin: Origin, outbox: &Rc<Outbox>) -> Result<(), TooMany> {
        let mut couriers = self.couriers.borrow_mut();
        let place = couriers.of(origin);
        if place.is_some() {
            return Err(TooMany);
        }
        *place = Some(Rc::clone(outbox));
        Ok(())
    }

    /// A courier is gone: what it was doing is lost, and recorded so.
    pub fn lose_courier(&self, origin: Origin) {
        self.couriers.borrow_mut().of(origin).take();
        self.probes.borrow_mut().retain(|_, probing| probing.origin != origin);
        if let State::Ready(vault) = &mut *self.state.borrow_mut() {
            let now = clock::now();
            for call in vault.tickets.take_of(origin) {
                let cost = vault.budgets.end(call, End::Unreported);
                vault.journal.note(&Entry::unmade(call, Refusal::CourierUnavailable, cost), now);
            }
        }
        self.leases.notify_one();
    }

    /// Whether the courier of this origin's providers is there.
    pub fn has_courier(&self, origin: Origin) -> bool {
        self.couriers.borrow_mut().of(origin).as_ref().is_some_and(|courier| courier.is_open())
    }

    /// Whether a gateway is there.
    pub fn has_gateway(&self) -> bool {
        self.gateways.borrow().iter().any(|gateway| gateway.outbox.is_open())
    }

    /// Sends a courier a message, when there is one.
    pub fn tell_courier(&self, origin: Origin, message: &ToCourier) {
        if let Some(courier) = self.couriers.borrow_mut().of(origin) {
            // A courier that cannot be told is gone, and its own door says so.
            drop(courier.push(message));
        }
    }
}

/// Submits what is spent of budgets, to the writer that ends after it: a start that finds no lease ahead begins exactly there. What
/// does not become durable leaves the lease, which says more.
fn write_exact_figures(vault: &mut Vault, now: Moment) {
    let mut records: Vec<_> = vault.budgets.ledger.exact(now).into_iter().collect();
    while !records.is_empty() {
        let rest = records.split_off(records.len().min(MAX_PAYERS_OF_EXTENSION));
        let some = std::mem::replace(&mut records, rest);
        match leasing::changes(vault, some.into_iter()) {
            // Nobody is there any more who could wait.
            Ok(changes) => drop(vault.books.submit(changes)),
            Err(error) => tracing::warn!(%error, "budgets end at their leases"),
        }
    }
}

/// Moves the TPM's counter past everything that was copied while the vault was open. Tells whether the disk took it; a TPM that
/// does not answer is no reason to stay open, and is in the log.
async fn move_for_the_last_time(tpm: Standing) -> bool {
    let freshness = match tpm {
        Standing::Held(hold) => hold.freshness,
        Standing::None | Standing::Lost { .. } => return true,
    };
    let moving = spawn_blocking(move || {
        if let Err(trouble) = advance(&freshness, CLOSE_TPM_PATIENCE) {
            tracing::error!(%trouble, "the TPM's counter did not move at the end");
        }
    });
    matches!(timeout(CLOSE_PATIENCE, moving).await, Ok(Ok(())))
}

/// For each of the two questions of a move, so that both fit into [`CLOSE_PATIENCE`].
const CLOSE_TPM_PATIENCE: Duration = Duration::from_secs(2);

/// There is no room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another process of this kind is connected already")]
pub struct TooMany;

/// Draws an id.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn make_id<K: Kind>() -> Result<Id<K>, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(Id::from_random(bytes))
}

/// Whether a snapshot of these providers can be told to a gateway.
pub fn fits_a_snapshot<'d>(definitions: impl Iterator<Item = &'d ProviderDefinition>) -> bool {
    let providers = definitions.map(route).collect();
    let longest =
        SessionKey { kid: "k".repeat(43), modulus: vec![0xff; 384], exponent: vec![1, 0, 1] };
    let session_key = Some(longest);
    let snapshot = Snapshot { version: u64::MAX, state: VaultState::Ready, providers, session_key };
    encode(&ToGateway::Snapshot(snapshot), MAX_ASK_BYTES).is_ok()
}

fn route(definition: &ProviderDefinition) -> Route {
    let paths = definition.paths.iter().map(|rule| RoutePath {
        method: rule.method,
        pattern: rule.pattern.clone(),
        body: rule.body,
    });
    Route {
        name: definition.name.clone(),
        origin: definition.origin,
        dialect: definition.dialect,
        paths: paths.collect(),
    }
}
