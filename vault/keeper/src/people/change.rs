//! What people change themselves: signing in and out, their sessions, their password.
//!
//! Invariant: one change at a time, in the turn of operators' acts: of fifty who spend one invitation, one sets a password.
//! Invariant: a failure is written before it is told, of a person or of nobody: the disk takes as long for both.

use std::rc::Rc;
use std::time::Instant;

use strongroom_policy::id::SessionId;
use strongroom_policy::moment::Moment;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::person::{
    Issued, NewVerifier, NotSignedIn, PersonAnswer, PersonAsk, Proof, TAG_BYTES, Told, Which,
};

use super::asks::{Age, No, closed, invited, look, refuse_network, signed_in, with_open};
use super::attempts::Purpose;
use super::challenge::{Judged, VerifierRecord, judge, wrap};
use super::sessions::SessionRecord;
use super::signing::issue;
use super::table::{People, Person, Personal};
use super::tries::{DISABLED_AT, TriesRecord};
use super::writing::commit;
use crate::backup::again;
use crate::books::{BooksError, Changes};
use crate::clock;
use crate::journal::entry::Entry;
use crate::keeper::{Keeper, make_id};
use crate::keys;
use crate::records::{RecordName, RecordPlace};
use crate::vault::Vault;

/// Answers what has to wait for its turn.
pub(super) async fn in_turn(keeper: &Rc<Keeper>, ask: PersonAsk) -> Result<PersonAnswer, No> {
    let _turn = keeper.acts.lock().await;
    match ask {
        PersonAsk::Finish { proof, from } => finish(keeper, &proof, from).await,
        PersonAsk::Look { session, .. } => renew(keeper, &session).await,
        PersonAsk::End { session, which } => end(keeper, &session, which).await,
        PersonAsk::Change { session, proof, new, from } => {
            set_again(keeper, &session, (&proof, &new), from).await
        }
        PersonAsk::Redeem { ticket, new, from } => redeem(keeper, &ticket, &new, from).await,
        // Answered before.
        PersonAsk::Begin { .. }
        | PersonAsk::BeginAgain { .. }
        | PersonAsk::Sessions { .. }
        | PersonAsk::Invitation { .. } => Err(NotSignedIn::Internal.into()),
    }
}

async fn finish(keeper: &Rc<Keeper>, proof: &Proof, from: Told) -> Result<PersonAnswer, No> {
    let (person, successor) = prove(keeper, proof, (Purpose::SignIn, None), from).await?;
    let now = clock::now();
    let (text, id, record) = make_session(keeper, from, now).await?;
    let gone = with_people(keeper, person, |people| people.in_the_way(person.user, now))?;
    let begun = Begun { person, id, record, password: successor, gone, act: "person.sign-in" };
    let ends = begun.record.ends();
    begun.write(keeper).await?;
    Ok(PersonAnswer::Session(Issued { text, ends }))
}

async fn set_again(
    keeper: &Rc<Keeper>,
    session: &SecretBytes,
    (proof, new): (&Proof, &NewVerifier),
    from: Told,
) -> Result<PersonAnswer, No> {
    check_new(new)?;
    let (person, _) = with_open(keeper, |vault| Ok(signed_in(vault, session)?))?;
    prove(keeper, proof, (Purpose::Change, Some(person)), from).await?;
    let now = clock::now();
    let (text, id, record) = make_session(keeper, from, now).await?;
    let password = with_open(keeper, |vault| Ok(Some(wrap(vault, person.user, new, now))))?;
    let gone = with_people(keeper, person, |people| {
        people.sessions_of(person.user).map(|(id, _)| id).collect()
    })?;
    let begun = Begun { person, id, record, password, gone, act: PASSWORD };
    let ends = begun.record.ends();
    begun.write(keeper).await?;
    Ok(PersonAnswer::Session(Issued { text, ends }))
}

async fn redeem(
    keeper: &Rc<Keeper>,
    ticket: &SecretBytes,
    new: &NewVerifier,
    from: Told,
) -> Result<PersonAnswer, No> {
    check_new(new)?;
    let now = clock::now();
    let (person, verifier) = with_open(keeper, |vault| {
        let (person, _) = invited(vault, ticket, from)?;
        Ok((person, wrap(vault, person.user, new, now)))
    })?;
    let spent = with_people(keeper, person, |people| people.names_of(person.user))?;
    let kept = verifier.clone();
    let build = |vault: &Vault, changes: Changes| {
        let spent = spent.iter().filter(|name| !is_password(name)).cloned();
        let changes = delete(vault, changes, (person, spent))?;
        put(vault, changes, (person, Personal::Password), &verifier)
    };
    let apply = |people: &mut People| {
        people.remove_user(person.user);
        people.put_password(person.user, kept);
    };
    commit(keeper, Some(said(PASSWORD, person, None)), build, applied(person, apply)).await?;
    Ok(PersonAnswer::Done)
}

const fn is_password(name: &RecordName) -> bool {
    matches!(name, RecordName::Personal(_, Personal::Password))
}

async fn renew(keeper: &Rc<Keeper>, session: &SecretBytes) -> Result<PersonAnswer, No> {
    let (mut me, age) = with_open(keeper, |vault| look(vault, session))?;
    if age == Age::Old {
        me.renewed = Some(renewed(keeper, session).await?);
    }
    Ok(PersonAnswer::Me(me))
}

async fn renewed(keeper: &Rc<Keeper>, session: &SecretBytes) -> Result<Issued, No> {
    let now = clock::now();
    let (person, id) = with_open(keeper, |vault| Ok(signed_in(vault, session)?))?;
    let old = with_people(keeper, person, |people| people.session(person.user, id).cloned())?;
    let old = old.ok_or(NotSignedIn::Session)?;
    let ends = old.ends();
    let text = issue(keeper, (now, ends)).await?;
    let record = old.renewed(hash_of(keeper, &text)?, now);
    let kept = record.clone();
    let build = |vault: &Vault, changes: Changes| {
        put(vault, changes, (person, Personal::Session(id)), &record)
    };
    let apply = |people: &mut People| people.put_session(person.user, id, kept);
    commit(keeper, None, build, applied(person, apply)).await?;
    Ok(Issued { text, ends })
}

async fn end(keeper: &Rc<Keeper>, session: &SecretBytes, which: Which) -> Result<PersonAnswer, No> {
    let (person, this) = with_open(keeper, |vault| Ok(signed_in(vault, session)?))?;
    let gone: Vec<SessionId> = with_people(keeper, person, |people| {
        let theirs = people.sessions_of(person.user).map(|(id, _)| id);
        theirs
            .filter(|id| match which {
                Which::This => *id == this,
                Which::One(one) => *id == one,
                Which::Others => *id != this,
                Which::All => true,
            })
            .collect()
    })?;
    if gone.is_empty() && matches!(which, Which::One(_)) {
        return Err(NotSignedIn::OtherSession.into());
    }
    // Nothing to end, nothing to write.
    if gone.is_empty() {
        return Ok(PersonAnswer::Done);
    }
    let session = match gone.as_slice() {
        [one] => Some(*one),
        _ => None,
    };
    let apply =
        |people: &mut People| gone.iter().for_each(|id| people.remove_session(person.user, *id));
    let build =
        |vault: &Vault, changes: Changes| delete(vault, changes, (person, sessions(person, &gone)));
    let entry = said("person.session-end", person, session);
    commit(keeper, Some(entry), build, applied(person, apply)).await?;
    Ok(PersonAnswer::Done)
}

/// Judges a proof, and counts it when it is wrong. Of a known person or of nobody, for this purpose and, where one is named, of
/// this person alone.
async fn prove(
    keeper: &Rc<Keeper>,
    proof: &Proof,
    (purpose, whose): (Purpose, Option<Person>),
    from: Told,
) -> Result<(Person, Option<VerifierRecord>), No> {
    let now = clock::now();
    let judged = with_open(keeper, |vault| {
        // First of all: an attempt that is refused leaves its place.
        let attempts = &mut vault.tables.sign_ins.attempts;
        let attempt = attempts.end(proof.attempt, purpose, Instant::now());
        refuse_network(vault, from)?;
        let attempt = attempt.ok_or(NotSignedIn::Attempt)?;
        if whose.is_some() && attempt.person != whose {
            return Err(NotSignedIn::Attempt.into());
        }
        Ok(judge(vault, &attempt, proof, now))
    })?;
    match judged {
        Judged::Right { person, successor } => Ok((person, successor)),
        Judged::Wrong { counts } => {
            count(keeper, counts, (from, now)).await?;
            Err(NotSignedIn::SignIn.into())
        }
    }
}

/// Writes that a proof was wrong: one record, whoever was tried.
async fn count(
    keeper: &Rc<Keeper>,
    person: Option<Person>,
    (from, now): (Told, Moment),
) -> Result<(), No> {
    let (place, tries) = with_open(keeper, |vault| {
        vault.tables.sign_ins.sources.failed(from.network(), Instant::now());
        let known = person.and_then(|one| Some((one, vault.tables.tenant(one.tenant)?)));
        let (place, before) = if let Some((one, tenant)) = known {
            let name = RecordName::Personal(one.user, Personal::Tries);
            (tenant.place(name), tenant.people.tries(one.user))
        } else {
            let before = vault.tables.sign_ins.nobody;
            (vault.place(RecordName::Nobody), before.unwrap_or(TriesRecord::none()))
        };
        let tries = before.failed(now);
        match person {
            Some(person) => note_failure(vault, person, (tries, now)),
            None => vault.strangers = vault.strangers.saturating_add(1),
        }
        Ok((place, tries))
    })?;
    let build = |vault: &Vault, changes: Changes| again::put(&vault.books, changes, &place, &tries);
    let apply = |vault: &mut Vault| match person {
        Some(one) => {
            applied(one, |people: &mut People| people.put_tries(one.user, Some(tries)))(vault);
        }
        None => vault.tables.sign_ins.nobody = Some(tries),
    };
    commit(keeper, None, build, apply).await?;
    Ok(())
}

/// Under pressure a number says enough: the journal's queue is for what was released.
fn note_failure(vault: &mut Vault, person: Person, (tries, now): (TriesRecord, Moment)) {
    if vault.journal.is_pressed() {
        vault.strangers = vault.strangers.saturating_add(1);
        return;
    }
    let disabled = tries.failures == DISABLED_AT;
    let act = if disabled { "person.password-disabled" } else { "person.refused" };
    vault.journal.note(&said(act, person, None), now);
}

const fn said(
    act: &'static str,
    Person { tenant, user }: Person,
    session: Option<SessionId>,
) -> Entry<'static> {
    Entry::Person { act, tenant, user, session }
}

/// The text and the record of a session that begins.
async fn make_session(
    keeper: &Rc<Keeper>,
    from: Told,
    now: Moment,
) -> Result<(SecretBytes, SessionId, SessionRecord), No> {
    let id = make_id().map_err(|_| NotSignedIn::Internal)?;
    let mut record = SessionRecord::begin([0; TAG_BYTES], from, now);
    let text = issue(keeper, (now, record.ends())).await?;
    record.hash = hash_of(keeper, &text)?;
    Ok((text, id, record))
}

fn hash_of(keeper: &Keeper, text: &SecretBytes) -> Result<[u8; TAG_BYTES], NotSignedIn> {
    let hash = |vault: &mut Vault| text.expose(|text| keys::tag_session(&vault.token_hash, text));
    keeper.with_vault(hash).map_err(closed)
}

/// The act of setting a password, by an invitation or by the old one.
const PASSWORD: &str = "person.password";

/// A session that begins, and what changes with it.
struct Begun {
    person: Person,
    id: SessionId,
    record: SessionRecord,
    /// The password's new verifier.
    password: Option<VerifierRecord>,
    /// Sessions that end.
    gone: Vec<SessionId>,
    act: &'static str,
}

impl Begun {
    /// Writes all of it at once. A success takes the count of failures back.
    async fn write(self, keeper: &Rc<Keeper>) -> Result<(), No> {
        let Self { person, id, record, password, gone, act } = self;
        let user = person.user;
        let replaced = act == PASSWORD;
        let build = |vault: &Vault, changes: Changes| {
            // Who sets another password leaves no way in that was open before.
            let invitation = replaced.then_some(Personal::Invitation);
            let spent = [Personal::Tries].into_iter().chain(invitation);
            let spent = spent.map(|part| RecordName::Personal(user, part));
            let changes = delete(vault, changes, (person, sessions(person, &gone).chain(spent)))?;
            let changes = match &password {
                Some(password) => put(vault, changes, (person, Personal::Password), password)?,
                None => changes,
            };
            put(vault, changes, (person, Personal::Session(id)), &record)
        };
        let (kept, new) = (record.clone(), password.clone());
        let apply = |people: &mut People| {
            for id in &gone {
                people.remove_session(user, *id);
            }
            people.put_tries(user, None);
            if replaced {
                people.put_invitation(user, None);
            }
            if let Some(password) = new {
                people.put_password(user, password);
            }
            people.put_session(user, id, kept);
        };
        let entry = said(act, person, Some(id));
        Ok(commit(keeper, Some(entry), build, applied(person, apply)).await?)
    }
}

fn check_new(new: &NewVerifier) -> Result<(), NotSignedIn> {
    if new.tag.len() == TAG_BYTES { Ok(()) } else { Err(NotSignedIn::Internal) }
}

/// Lends how a person's tenant signs in.
fn with_people<T>(
    keeper: &Keeper,
    person: Person,
    see: impl FnOnce(&People) -> T,
) -> Result<T, No> {
    with_open(keeper, |vault| {
        let tenant = vault.tables.tenant(person.tenant).ok_or(NotSignedIn::Session)?;
        Ok(see(&tenant.people))
    })
}

/// Takes a change in. Whoever has the turn keeps every tenant that there is.
fn applied(person: Person, apply: impl FnOnce(&mut People)) -> impl FnOnce(&mut Vault) {
    move |vault| {
        if let Some(tenant) = vault.tables.tenant_mut(person.tenant) {
            apply(&mut tenant.people);
        }
    }
}

fn sessions(person: Person, gone: &[SessionId]) -> impl Iterator<Item = RecordName> {
    gone.iter().map(move |id| RecordName::Personal(person.user, Personal::Session(*id)))
}

fn delete(
    vault: &Vault,
    changes: Changes,
    (person, mut names): (Person, impl Iterator<Item = RecordName>),
) -> Result<Changes, BooksError> {
    names.try_fold(changes, |changes, name| {
        vault.books.delete(changes, &RecordPlace { tenant: person.tenant, name })
    })
}

fn put<T: serde::Serialize>(
    vault: &Vault,
    changes: Changes,
    (person, part): (Person, Personal),
    record: &T,
) -> Result<Changes, BooksError> {
    let name = RecordName::Personal(person.user, part);
    again::put(&vault.books, changes, &RecordPlace { tenant: person.tenant, name }, record)
}
