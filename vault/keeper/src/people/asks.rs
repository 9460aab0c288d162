//! What a gateway asks about people, and what it is answered.
//!
//! Invariant: how many questions wait is bounded; one that needs no writing is answered at once.
//! Distrusts: the gateway. It can pass on what somebody presented, again and again, and nothing more.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use strongroom_policy::id::SessionId;
use strongroom_policy::name::Label;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::Answer;
use strongroom_protocol::person::{
    Login, MAX_SESSION_BYTES, Me, NotSignedIn, PersonAnswer, PersonAsk, Told,
};
use strongroom_protocol::token::check_invitation;
use tokio::task::spawn_local;

use super::attempts::Purpose;
use super::challenge::challenge;
use super::change;
use super::table::Person;
use crate::clock;
use crate::keeper::{Asker, Keeper};
use crate::keys;
use crate::tables::Tables;
use crate::vault::Vault;

/// Most questions that wait for a disk or a signature: operators' acts wait for their turn behind them.
const MAX_UNDER_WAY: usize = 64;

/// How many questions wait.
#[derive(Default)]
pub struct Places(Cell<usize>);

/// Why a question is not answered as its asker hoped.
pub(super) struct No {
    pub(super) why: NotSignedIn,
    pub(super) wait: Option<Duration>,
}

impl From<NotSignedIn> for No {
    fn from(why: NotSignedIn) -> Self {
        Self { why, wait: None }
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        closed(refusal).into()
    }
}

/// What a vault that is not open is to people.
pub(super) fn closed(refusal: Refusal) -> NotSignedIn {
    if refusal == Refusal::Sealed { NotSignedIn::Sealed } else { NotSignedIn::Unwritten }
}

/// Takes a question: answers it at once, or when it is its turn.
pub fn ask(keeper: &Rc<Keeper>, ask: PersonAsk, asker: Asker) {
    let ask = match at_once(keeper, ask) {
        Ok(told) => return answer(keeper, asker, told),
        Err(ask) => ask,
    };
    let taken = keeper.people_asks.0.get();
    if taken >= MAX_UNDER_WAY {
        return answer(keeper, asker, Err(NotSignedIn::Busy.into()));
    }
    keeper.people_asks.0.set(taken.saturating_add(1));
    let keeper = Rc::clone(keeper);
    spawn_local(async move {
        let told = change::in_turn(&keeper, *ask).await;
        let taken = keeper.people_asks.0.get();
        keeper.people_asks.0.set(taken.saturating_sub(1));
        answer(&keeper, asker, told);
    });
}

fn answer(keeper: &Keeper, asker: Asker, told: Result<PersonAnswer, No>) {
    let told = told.unwrap_or_else(|No { why, wait }| {
        let seconds = |wait: Duration| u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        let wait = wait.or_else(|| (why == NotSignedIn::Busy).then_some(Duration::ZERO));
        let retry_after_secs = wait.map(|wait| seconds(wait).saturating_add(1));
        PersonAnswer::Refused { why, retry_after_secs }
    });
    keeper.answer(asker, Answer::Person(Box::new(told)));
}

/// Answers what changes nothing; gives back what has to wait.
fn at_once(keeper: &Keeper, ask: PersonAsk) -> Result<Result<PersonAnswer, No>, Box<PersonAsk>> {
    Ok(match ask {
        PersonAsk::Begin { login, from } => with_open(keeper, |vault| begin(vault, &login, from)),
        PersonAsk::BeginAgain { session, from } => {
            with_open(keeper, |vault| begin_again(vault, &session, from))
        }
        PersonAsk::Sessions { session } => with_open(keeper, |vault| {
            let (person, this) = signed_in(vault, &session)?;
            let now = clock::now();
            let tenant = vault.tables.tenant(person.tenant).ok_or(NotSignedIn::Session)?;
            let live = tenant.people.sessions_of(person.user);
            let live = live.filter(|(_, record)| !record.is_over(now));
            let rows = live.map(|(id, record)| record.row(id, id == this));
            Ok(PersonAnswer::Sessions(rows.collect()))
        }),
        PersonAsk::Invitation { ticket, from } => with_open(keeper, |vault| {
            let (_, name) = invited(vault, &ticket, from)?;
            Ok(PersonAnswer::Invited(name))
        }),
        PersonAsk::Look { ref session, .. } => {
            match with_open(keeper, |vault| look(vault, session)) {
                Ok((_, Age::Old)) => return Err(Box::new(ask)),
                Ok((me, Age::Young)) => Ok(PersonAnswer::Me(me)),
                Err(no) => Err(no),
            }
        }
        PersonAsk::Finish { .. }
        | PersonAsk::End { .. }
        | PersonAsk::Change { .. }
        | PersonAsk::Redeem { .. } => return Err(Box::new(ask)),
    })
}

/// Lends the vault while people may sign in.
pub(super) fn with_open<T>(
    keeper: &Keeper,
    see: impl FnOnce(&mut Vault) -> Result<T, No>,
) -> Result<T, No> {
    keeper.with_vault(|vault| {
        if !vault.witnesses.let_calls(Instant::now()) {
            return Err(NotSignedIn::Sealed.into());
        }
        // What was ended after the backup would be back, and nobody can tell.
        if vault.tables.restored.is_some() {
            return Err(NotSignedIn::Restored.into());
        }
        see(vault)
    })?
}

fn begin(vault: &mut Vault, login: &Login, from: Told) -> Result<PersonAnswer, No> {
    refuse_network(vault, from)?;
    let person = person_of(&vault.tables, login);
    begin_for(vault, (person, login, Purpose::SignIn))
}

fn begin_again(vault: &mut Vault, session: &SecretBytes, from: Told) -> Result<PersonAnswer, No> {
    refuse_network(vault, from)?;
    let (person, _) = signed_in(vault, session)?;
    let name = vault.tables.name_of(person).ok_or(NotSignedIn::Session)?.clone();
    begin_for(vault, (Some(person), &Login { tenant: None, name }, Purpose::Change))
}

fn begin_for(
    vault: &mut Vault,
    whom: (Option<Person>, &Login, Purpose),
) -> Result<PersonAnswer, No> {
    let (attempt, challenge) = challenge(vault, whom).map_err(|_| NotSignedIn::Internal)?;
    let attempts = &mut vault.tables.sign_ins.attempts;
    if !attempts.begin(challenge.attempt, attempt, Instant::now()) {
        return Err(NotSignedIn::Busy.into());
    }
    Ok(PersonAnswer::Challenge(challenge))
}

/// The person of a name, in the tenant that is named or the first.
fn person_of(tables: &Tables, login: &Login) -> Option<Person> {
    let tenant = match &login.tenant {
        None => tables.tenant(tables.first())?,
        Some(name) => tables.tenants().find(|one| one.record.label == *name)?,
    };
    let mut people = tenant.users.iter();
    let user = people.find(|(_, record)| record.label == login.name).map(|(id, _)| *id)?;
    Some(Person { tenant: tenant.id, user })
}

/// Refuses a network that failed too often, whatever it asks.
pub(super) fn refuse_network(vault: &Vault, from: Told) -> Result<(), No> {
    match vault.tables.sign_ins.sources.rest(from.network(), Instant::now()) {
        Some(wait) => Err(No { why: NotSignedIn::TooMany, wait: Some(wait) }),
        None => Ok(()),
    }
}

/// Whose session a text is, if it counts and its person acts.
pub(super) fn signed_in(
    vault: &Vault,
    session: &SecretBytes,
) -> Result<(Person, SessionId), NotSignedIn> {
    if session.len() > MAX_SESSION_BYTES {
        return Err(NotSignedIn::Session);
    }
    let hash = session.expose(|text| keys::tag_session(&vault.token_hash, text));
    let now = clock::now();
    let mut found = vault.tables.tenants().filter_map(|tenant| {
        let (user, id) = tenant.people.session_of(&hash, now)?;
        Some((Person { tenant: tenant.id, user }, id))
    });
    let found = found.next().filter(|(person, _)| vault.tables.acts(*person));
    found.ok_or(NotSignedIn::Session)
}

/// Whether a session's text is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Not yet.
    Young,
    /// It is.
    Old,
}

/// Whose session it is; it was used.
pub(super) fn look(vault: &mut Vault, session: &SecretBytes) -> Result<(Me, Age), No> {
    let (person, id) = signed_in(vault, session)?;
    let now = clock::now();
    let name = vault.tables.name_of(person).ok_or(NotSignedIn::Session)?.clone();
    let tenant = vault.tables.tenant_mut(person.tenant).ok_or(NotSignedIn::Session)?;
    tenant.people.saw(person.user, id, now);
    let record = tenant.people.session(person.user, id).ok_or(NotSignedIn::Session)?;
    let age = if record.is_due(now) { Age::Old } else { Age::Young };
    Ok((Me { name, session: id, ends: record.ends(), renewed: None }, age))
}

/// Whom an invitation is for.
pub(super) fn invited(
    vault: &mut Vault,
    ticket: &SecretBytes,
    from: Told,
) -> Result<(Person, Label), No> {
    refuse_network(vault, from)?;
    let hash = ticket.expose(|text| {
        check_invitation(text).ok().map(|()| keys::tag_invitation(&vault.token_hash, text))
    });
    let found = hash.and_then(|hash| {
        vault.tables.tenants().find_map(|tenant| {
            let (user, expires) = tenant.people.invited(&hash)?;
            Some((Person { tenant: tenant.id, user }, expires))
        })
    });
    let live = found.filter(|(_, expires)| clock::now() < *expires).map(|(person, _)| person);
    let person = live.filter(|person| vault.tables.acts(*person));
    let told = person.and_then(|one| Some((one, vault.tables.name_of(one)?.clone())));
    told.ok_or_else(|| {
        vault.tables.sign_ins.sources.failed(from.network(), Instant::now());
        NotSignedIn::Invitation.into()
    })
}
