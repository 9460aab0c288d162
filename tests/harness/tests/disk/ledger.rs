//! What an operator was told, beside the keeper: which acts were begun, which were acknowledged, and so what may be found.
//!
//! Invariant: what was acknowledged has one state; what was begun and not acknowledged may have two.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::rules::{Choice, CredentialRules, Standing, TokenScope};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::{
    Answer, CredentialWish, Fault, HomePick, Pick, Request, TokenWish,
};
use strongroom_protocol::upload::{VaultKey, seal_upload};
use strongroom_tests::patience::PATIENCE;

use crate::keeper::{Door, Gone};

/// A thing by its kind and label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Token(String),
    Credential(String),
    User(String),
}

/// What became of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Absent,
    There,
    Disabled,
}

/// What is found in a vault.
pub(crate) type Found = BTreeMap<Name, State>;
/// What may be found.
pub(crate) type Allowed = BTreeMap<Name, BTreeSet<State>>;

/// All acts of all writers, in the order in which they were begun and acknowledged.
#[derive(Default)]
pub(crate) struct Ledger {
    lines: Mutex<Lines>,
    grew: Condvar,
}

#[derive(Default)]
struct Lines {
    all: Vec<(Name, State, Heard)>,
    acknowledged: u64,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Begun,
    Acknowledged,
}

/// A moment in the ledger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment(usize);

impl Ledger {
    pub(crate) fn now(&self) -> Moment {
        Moment(self.lines().all.len())
    }

    /// Waits until this many more acts are acknowledged.
    #[track_caller]
    pub(crate) fn wait(&self, acts: u64) {
        let mut lines = self.lines();
        let (wanted, end) = (lines.acknowledged + acts, Instant::now() + PATIENCE);
        while lines.acknowledged < wanted {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no act is acknowledged any more");
            lines = self.grew.wait_timeout(lines, left).expect("nobody panics").0;
        }
    }

    /// How many acts were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.lines().acknowledged
    }

    /// From now on no act begins, until [`Self::reopen`].
    pub(crate) fn close(&self) {
        self.lines().closed = true;
    }

    pub(crate) fn reopen(&self) {
        self.lines().closed = false;
        self.grew.notify_all();
    }

    /// What may be found in a vault of a moment between two.
    pub(crate) fn allowed(&self, (from, to): (Moment, Moment)) -> Allowed {
        let mut allowed = Allowed::new();
        for (at, (name, state, heard)) in self.lines().all.iter().take(to.0).enumerate() {
            let states = allowed.entry(name.clone());
            let states = states.or_insert_with(|| BTreeSet::from([State::Absent]));
            if *heard == Heard::Acknowledged && at < from.0 {
                states.clear();
            }
            states.insert(*state);
        }
        allowed
    }

    /// Begins anew from what was found and judged to be allowed.
    pub(crate) fn settle(&self, found: &Found) {
        let mut lines = self.lines();
        let names: BTreeSet<Name> = lines.all.iter().map(|(name, ..)| name.clone()).collect();
        lines.all = names
            .into_iter()
            .map(|name| {
                let state = found.get(&name).copied().unwrap_or(State::Absent);
                (name, state, Heard::Acknowledged)
            })
            .collect();
    }

    /// Notes what was made before the writers came.
    pub(crate) fn know(&self, name: Name) {
        self.begin(&name, State::There);
        self.acknowledge(name, State::There);
    }

    fn begin(&self, name: &Name, state: State) {
        let mut lines = self.lines();
        while lines.closed {
            lines = self.grew.wait(lines).expect("nobody panics");
        }
        lines.all.push((name.clone(), state, Heard::Begun));
    }

    fn acknowledge(&self, name: Name, state: State) {
        let mut lines = self.lines();
        lines.all.push((name, state, Heard::Acknowledged));
        lines.acknowledged += 1;
        self.grew.notify_all();
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("nobody panics")
    }
}

/// Says what is wrong with what was found: acknowledged and lost, deleted and back, or never heard of.
#[track_caller]
pub(crate) fn judge(what: &str, found: &Found, allowed: &Allowed) {
    for (name, states) in allowed {
        let state = found.get(name).copied().unwrap_or(State::Absent);
        assert!(states.contains(&state), "{what}: {name:?} is {state:?}, and must be {states:?}");
    }
    let strange = found.keys().find(|name| !allowed.contains_key(name));
    assert!(strange.is_none(), "{what}: nobody made {strange:?}");
}

/// All that an open vault lists.
#[track_caller]
pub(crate) fn look(door: &mut Door) -> Found {
    let mut found = Found::new();
    match door.request(&Request::TokenList) {
        Ok(Answer::Tokens(rows)) => {
            let names = rows.iter().map(|row| Name::Token(row.label.to_string()));
            found.extend(names.map(|name| (name, State::There)));
        }
        other => panic!("{other:?}"),
    }
    match door.request(&Request::CredentialList) {
        Ok(Answer::Credentials(rows)) => {
            let names = rows.iter().map(|row| Name::Credential(row.label.to_string()));
            found.extend(names.map(|name| (name, State::There)));
        }
        other => panic!("{other:?}"),
    }
    match door.request(&Request::UserList) {
        Ok(Answer::Users(rows)) => found.extend(rows.iter().map(|row| {
            let state = match row.standing {
                Standing::Active => State::There,
                Standing::Disabled => State::Disabled,
            };
            (Name::User(row.label.to_string()), state)
        })),
        other => panic!("{other:?}"),
    }
    found
}

/// An operator who makes things and takes them away again, over and over.
pub(crate) struct Writer {
    number: usize,
    door: Door,
    vault_key: VaultKey,
    turn: usize,
    tokens: VecDeque<String>,
    credentials: VecDeque<String>,
    users: VecDeque<(String, State)>,
}

/// How an act ended, if not well.
#[derive(Debug)]
#[must_use]
pub(crate) enum Unheard {
    /// The keeper refused it.
    Refused(Fault),
    /// The keeper is gone.
    Gone,
}

impl From<Gone> for Unheard {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// How many of its tokens and credentials a writer leaves alive.
const ALIVE: usize = 2;
/// How many users a writer disables and enables in turn.
const USERS: usize = 2;
/// What every credential of these suites holds.
const KEY: &[u8] = b"sk-canary-0123456789abcdefghijklmnopqrstuvwxyz";

impl Writer {
    /// Goes on with what this writer's predecessor left.
    pub(crate) fn new(number: usize, mut door: Door, found: &Found) -> Self {
        let vault_key = door.status().vault_key.expect("it is open");
        let own = format!("w{number}-");
        let mut writer = Self {
            number,
            door,
            vault_key,
            turn: number * 3,
            tokens: VecDeque::new(),
            credentials: VecDeque::new(),
            users: VecDeque::new(),
        };
        for (name, state) in found {
            match name {
                Name::Token(label) if label.starts_with(&own) => {
                    writer.tokens.push_back(label.clone());
                }
                Name::Credential(label) if label.starts_with(&own) => {
                    writer.credentials.push_back(label.clone());
                }
                Name::User(label) if label.starts_with(&own) => {
                    writer.users.push_back((label.clone(), *state));
                }
                Name::Token(_) | Name::Credential(_) | Name::User(_) => {}
            }
        }
        writer
    }

    /// Acts until the keeper is gone.
    pub(crate) fn act_until_gone(&mut self, ledger: &Ledger) {
        match self.act(ledger, usize::MAX) {
            Err(Unheard::Gone) => {}
            Err(Unheard::Refused(fault)) => panic!("{fault:?}"),
            Ok(()) => panic!("no number of acts is the last"),
        }
    }

    /// Acts until the keeper is gone or refuses, or this many acts are done.
    pub(crate) fn act(&mut self, ledger: &Ledger, most: usize) -> Result<(), Unheard> {
        for _ in 0..most {
            self.turn += 1;
            match self.turn % 6 {
                0 | 3 => self.token(ledger)?,
                1 | 4 => self.credential(ledger)?,
                _ => self.user(ledger)?,
            }
        }
        Ok(())
    }

    /// Makes and ends tokens only, which leaves the keyring as it is.
    pub(crate) fn act_on_tokens(&mut self, ledger: &Ledger, acts: usize) -> Result<(), Unheard> {
        (0..acts).try_for_each(|_| self.token(ledger))
    }

    fn token(&mut self, ledger: &Ledger) -> Result<(), Unheard> {
        if self.tokens.len() > ALIVE
            && let Some(label) = self.tokens.pop_front()
        {
            let revoke = Request::TokenRevoke(pick(&label));
            return self.perform(ledger, Name::Token(label), State::Absent, &revoke);
        }
        let label = self.fresh("t");
        let create = create_token(&label);
        self.tokens.push_back(label.clone());
        self.perform(ledger, Name::Token(label), State::There, &create)
    }

    fn credential(&mut self, ledger: &Ledger) -> Result<(), Unheard> {
        if self.credentials.len() > ALIVE
            && let Some(label) = self.credentials.pop_front()
        {
            let delete = Request::CredentialDelete(pick(&label));
            return self.perform(ledger, Name::Credential(label), State::Absent, &delete);
        }
        let label = self.fresh("c");
        let upload = add_credential(&mut self.door, &self.vault_key, &label)?;
        self.credentials.push_back(label.clone());
        self.perform(ledger, Name::Credential(label), State::There, &upload)
    }

    fn user(&mut self, ledger: &Ledger) -> Result<(), Unheard> {
        if self.users.len() < USERS {
            let label = self.fresh("u");
            self.users.push_back((label.clone(), State::There));
            let create = Request::UserCreate(parse(&label));
            return self.perform(ledger, Name::User(label), State::There, &create);
        }
        let Some((label, state)) = self.users.pop_front() else { return Ok(()) };
        let (next, change) = match state {
            State::There => (State::Disabled, Request::UserDisable(pick(&label))),
            State::Disabled | State::Absent => (State::There, Request::UserEnable(pick(&label))),
        };
        self.users.push_back((label.clone(), next));
        self.perform(ledger, Name::User(label), next, &change)
    }

    fn perform(
        &mut self,
        ledger: &Ledger,
        name: Name,
        state: State,
        request: &Request,
    ) -> Result<(), Unheard> {
        ledger.begin(&name, state);
        match self.door.request(request)? {
            Answer::Failed(fault) => return Err(Unheard::Refused(fault)),
            Answer::Done | Answer::User(_) | Answer::Credential(_) | Answer::Token { .. } => {}
            other => panic!("{name:?}: {other:?}"),
        }
        ledger.acknowledge(name, state);
        Ok(())
    }

    /// A label that was never used.
    fn fresh(&self, letter: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("w{}-{letter}{number}", self.number)
    }
}

/// Makes the person to whom tokens and keys belong, a key, and a token for calls.
#[track_caller]
pub(crate) fn furnish(door: &mut Door, ledger: &Ledger) -> SecretBytes {
    let made = door.request(&Request::UserCreate(parse("ann")));
    assert!(matches!(made, Ok(Answer::User(_))), "{made:?}");
    ledger.know(Name::User("ann".to_owned()));
    let vault_key = door.status().vault_key.expect("it is open");
    let upload = add_credential(door, &vault_key, "main").expect("an upload");
    let made = door.request(&upload);
    assert!(matches!(made, Ok(Answer::Credential(_))), "{made:?}");
    ledger.know(Name::Credential("main".to_owned()));
    let text = match door.request(&create_token("caller")) {
        Ok(Answer::Token { text, .. }) => text,
        other => panic!("{other:?}"),
    };
    ledger.know(Name::Token("caller".to_owned()));
    text
}

fn create_token(label: &str) -> Request {
    let scope = TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 1_000_000,
    };
    let wish = TokenWish { user: None, label: parse(label), scope, credential: None };
    Request::TokenCreate(Box::new(wish))
}

/// Opens an upload for a new credential and answers the request that ends it.
fn add_credential(door: &mut Door, vault_key: &VaultKey, label: &str) -> Result<Request, Unheard> {
    let wish = Request::CredentialAdd(Box::new(CredentialWish {
        provider: ProviderName::parse("openai").expect("a name"),
        home: HomePick::Personal(None),
        label: parse(label),
        fixed_headers: Vec::new(),
        rules: CredentialRules::default(),
    }));
    let (binding, upload) = match door.request(&wish)? {
        Answer::Upload { binding, .. } => (binding.clone(), binding.upload),
        Answer::Failed(fault) => return Err(Unheard::Refused(fault)),
        other => panic!("{other:?}"),
    };
    let blob = seal_upload(vault_key, &binding, KEY).expect("it can be sealed");
    Ok(Request::CredentialUpload { upload, blob })
}

fn parse(text: &str) -> Label {
    Label::parse(text).expect("our own names")
}

fn pick(text: &str) -> Pick {
    Pick(parse(text))
}
