//! The life of a call in the keeper, in order: identify, judge, admit, open, close.
//!
//! Invariant: no entry, no ticket; no ticket, no key. Each step takes what only the step before it can make.
//! Invariant: nothing here waits; a call is answered when the journal tells of its entry, after a second at most.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use strongroom_policy::budget::{Payer, Warning};
use strongroom_policy::decide::{Denial, Permit, Wish, decide, may_call_provider};
use strongroom_policy::id::{CallId, CredentialId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_policy::provider::Origin;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::rules::{CallFacts, Subject};
use strongroom_policy::tenant_rules::{About, Rule, Shown};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Answer, CallAsk, MAX_ABOUT_BYTES, MAX_BETAS, Refused, Ticket};
use strongroom_protocol::errand::{Deadlines, Outcome, ToCourier};
use strongroom_protocol::operator::rules::Considered;
use strongroom_protocol::token::check_token;

use crate::budgets::{End, payers, refusal_of};
use crate::clock;
use crate::doors::outbox::{Outbox, OutboxError};
use crate::journal::entry::{Entry, RefuseEntry};
use crate::journal::{Admitted, Answered, JournalError};
use crate::keeper::{Asker, Keeper};
use crate::keys;
use crate::lent::{LentErrand, LentSecret, LentToCourier};
use crate::tables::{HeldCredential, Tenant};
use crate::tickets::{Party, Stopped};
use crate::vault::Vault;

/// Answers `Ask::Identify`: may whoever presents this proof call this provider at all?
pub fn identify(keeper: &Keeper, proof: &SecretBytes, provider: &ProviderName) -> Answer {
    let now = clock::now();
    let found = keeper.with_vault(|vault| {
        let subject = subject_of(vault, proof)?;
        may_call_provider(&subject, provider, now).map_err(|denial| denial.refusal)
    });
    match found {
        Ok(Ok(())) => Answer::Identified,
        Ok(Err(refusal)) | Err(refusal) => Answer::Refused(Refused::plain(refusal)),
    }
}

/// Takes `Ask::Call`: refuses it at once, or has [`answer`] answer it once the journal has told what became of its entry.
pub fn call(keeper: &Keeper, ask: CallAsk, asker: Asker) {
    if let Err(refused) = admit(keeper, ask, asker) {
        keeper.answer(asker, Answer::Refused(refused));
    }
}

fn admit(keeper: &Keeper, ask: CallAsk, asker: Asker) -> Result<(), Refused> {
    let now = clock::now();
    let entered = keeper.with_vault(|vault| {
        let entered = enter(keeper, vault, (ask, asker), now);
        // Of a call that was refused, too: a longer lease may be all that it lacked.
        if vault.budgets.ledger.wants() {
            keeper.leases.notify_one();
        }
        entered
    });
    entered.map_err(Refused::plain)?
}

fn enter(
    keeper: &Keeper,
    vault: &mut Vault,
    (ask, asker): (CallAsk, Asker),
    now: Moment,
) -> Result<(), Refused> {
    // A provider that is not there is refused by the rules.
    let provider = vault.tables.providers.get(&ask.provider);
    if provider.is_some_and(|provider| !keeper.has_courier(provider.origin)) {
        return Err(Refused::plain(Refusal::CourierUnavailable));
    }
    if !vault.witnesses.let_calls(Instant::now()) {
        return Err(Refused::plain(Refusal::Sealed));
    }
    let (permit, call) = judge(vault, ask, now)?;
    let entered = vault.journal.admit((permit, call), asker, now);
    entered.map_err(|error| refuse_unwritten(vault, call, &error))
}

/// Answers a call whose entry is written, or is not: with a ticket, or a refusal.
pub fn answer(keeper: &Keeper, Answered { asker, call, outcome }: Answered) {
    let kept = keeper.with_vault(|vault| keep(vault, call, outcome));
    let answer = match kept.unwrap_or_else(|refusal| Err(Refused::plain(refusal))) {
        Ok((ticket, budget)) => Answer::Admitted { ticket, call, budget },
        Err(refused) => Answer::Refused(refused),
    };
    keeper.answer(asker, answer);
}

/// The decision: who asks, with which credential, and whether the rules allow it.
fn judge(vault: &mut Vault, ask: CallAsk, now: Moment) -> Result<(Permit, CallId), Refused> {
    let subject = subject_of(vault, &ask.proof).map_err(Refused::plain)?;
    let call = vault.random.make_id().map_err(|_| Refused::plain(Refusal::Internal))?;
    take_rate(vault, &subject)?;
    let provider = ask.provider.clone();
    let refused = |vault: &mut Vault, denial: &Denial| {
        record_refusal(vault, (call, &subject, &provider), denial, now)
    };
    let permit =
        decide_wish(vault, &subject, ask, now).map_err(|denial| refused(vault, &denial))?;
    let tenant = vault.tables.tenant(subject.tenant);
    let held = tenant.and_then(|tenant| tenant.credentials.get(&permit.credential()));
    let (payers, count) = payers(&permit, held.map(|held| held.record.home));
    let payers = payers.get(..count).unwrap_or(&payers);
    take_rates(vault, payers)?;
    if !vault.tickets.has_room((subject.tenant, subject.user)) {
        return Err(Refused { retry_after_secs: Some(1), ..Refused::plain(Refusal::Busy) });
    }
    if let Err(short) = vault.budgets.hold(call, (&permit, payers), now) {
        return Err(match refusal_of(&short) {
            (Refusal::BudgetNotReady, _) => {
                Refused { retry_after_secs: Some(1), ..Refused::plain(Refusal::BudgetNotReady) }
            }
            (refusal, about) => refused(vault, &Denial { refusal, rule: "budget".into(), about }),
        });
    }
    vault.tickets.begin(call, party_of(vault, &subject, &permit));
    Ok((permit, call))
}

/// Records the refusal of a known token's call, and says what the caller is told.
fn record_refusal(
    vault: &mut Vault,
    (call, subject, provider): (CallId, &Subject, &ProviderName),
    denial: &Denial,
    now: Moment,
) -> Refused {
    let entry = RefuseEntry {
        call,
        tenant: subject.tenant,
        user: subject.user,
        token: subject.token,
        provider,
        code: denial.refusal.code(),
        rule: &denial.rule,
        about: denial.about.as_deref(),
    };
    // Under pressure a number says enough: the queue is for what was released.
    if vault.journal.is_pressed() {
        vault.strangers = vault.strangers.saturating_add(1);
    } else {
        vault.journal.note(&Entry::Refuse(entry), now);
    }
    Refused { call: Some(call), about: told(denial), ..Refused::plain(denial.refusal) }
}

/// What the caller is told beside the refusal. Where a rule of theirs forbids something, its name says whose rule it is:
/// the token's, the credential's or a ready-made one. Of what they may not see nothing is told.
fn told(denial: &Denial) -> Option<String> {
    let by_rule = matches!(
        denial.refusal,
        Refusal::ProviderDenied
            | Refusal::StatefulDenied
            | Refusal::ModelDenied
            | Refusal::ModelUnreadable
            | Refusal::FeatureDenied
            | Refusal::RuleDenied
    );
    match &denial.about {
        Some(about) if by_rule => Some(format!("{about} (rule {})", denial.rule)),
        None if by_rule => Some(format!("rule {}", denial.rule)),
        about => about.clone(),
    }
}

/// Who presents this proof, and of which tenant: whatever follows is looked up in that one's tables. Malformed, unknown and
/// revoked tokens look alike, and are counted, not recorded.
fn subject_of(vault: &mut Vault, proof: &SecretBytes) -> Result<Subject, Refusal> {
    let hash = proof
        .expose(|text| check_token(text).ok().map(|()| keys::tag_token(&vault.token_hash, text)));
    hash.and_then(|hash| vault.tables.subject_of(&hash)).ok_or_else(|| {
        vault.strangers = vault.strangers.saturating_add(1);
        Refusal::TokenInvalid
    })
}

fn take_rate(vault: &mut Vault, subject: &Subject) -> Result<(), Refused> {
    let tenant = vault.tables.tenant_mut(subject.tenant);
    let Some(bucket) = tenant.and_then(|tenant| tenant.bucket(subject.token)) else {
        return Err(Refused::plain(Refusal::TokenInvalid));
    };
    bucket.take(Instant::now()).map_err(|wait| limited(vault, wait, None))
}

/// The refusal of a call that came too soon. It is counted, not recorded.
fn limited(vault: &mut Vault, wait: Duration, about: Option<String>) -> Refused {
    vault.strangers = vault.strangers.saturating_add(1);
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    Refused { retry_after_secs: Some(seconds), about, ..Refused::plain(Refusal::RateLimited) }
}

/// What would be decided about a call, with which credential, and what the tenant's rules say about both. Nothing comes of it.
pub fn explain(
    vault: &Vault,
    subject: &Subject,
    ask: CallAsk,
    now: Moment,
) -> (Result<Permit, Denial>, Option<Label>, Vec<Considered>) {
    let tenant = vault.tables.tenant(subject.tenant);
    let found = tenant.and_then(|tenant| Some((tenant, choose(tenant, subject, &ask).ok()?)));
    let label = found.map(|(_, held)| held.record.label.clone());
    let provider = vault.tables.providers.get(&ask.provider);
    let mut paths = provider.into_iter().flat_map(|provider| &provider.paths);
    let path = paths.find_map(|path| Some((path, path.fits(ask.method, &ask.target)?)));
    let considered = found.zip(path).map_or_else(Vec::new, |((tenant, held), (path, in_path))| {
        let facts = CallFacts::of(path, in_path.ok().flatten(), &ask.claims);
        let shown = Shown { call: &facts, now };
        let about = tenant.rules.set.about(&About::of(subject, &held.facts), &shown);
        let row = |(rule, holds): (&Rule, bool)| Considered {
            name: rule.name.clone(),
            effect: rule.effect,
            holds,
        };
        about.into_iter().map(row).collect()
    });
    (decide_wish(vault, subject, ask, now), label, considered)
}

/// The rates of the others who pay for the call.
fn take_rates(vault: &mut Vault, payers: &[Payer]) -> Result<(), Refused> {
    let taken = vault.budgets.take_rates(payers, Instant::now());
    taken.map_err(|(payer, wait)| {
        limited(vault, wait, Some(format!("the rate of this {}", payer.kind().name())))
    })
}

fn decide_wish(
    vault: &Vault,
    subject: &Subject,
    ask: CallAsk,
    now: Moment,
) -> Result<Permit, Denial> {
    let deny = |refusal, rule| Denial { refusal, rule: Cow::Borrowed(rule), about: None };
    let provider = vault
        .tables
        .providers
        .get(&ask.provider)
        .ok_or_else(|| deny(Refusal::ProviderUnknown, "provider"))?;
    may_call_provider(subject, &ask.provider, now)?;
    if ask.betas.len() > MAX_BETAS {
        return Err(deny(Refusal::HeadInvalid, "betas"));
    }
    let tenant = vault.tables.tenant(subject.tenant);
    let tenant = tenant.ok_or_else(|| deny(Refusal::CredentialMissing, "tenant"))?;
    let credential = choose(tenant, subject, &ask)?;
    let wish = Wish {
        access: tenant.access(subject, credential),
        provider,
        method: ask.method,
        target: ask.target,
        betas: ask.betas,
        claims: ask.claims,
        length: ask.length,
    };
    decide(wish, now)
}

/// The credential that was named, or else the only one there is: never a silent choice between two.
fn choose<'t>(
    tenant: &'t Tenant,
    subject: &Subject,
    ask: &CallAsk,
) -> Result<&'t HeldCredential, Denial> {
    let deny = |refusal, about| Denial { refusal, rule: Cow::Borrowed("credential.choice"), about };
    let named = |(id, held): &(CredentialId, &HeldCredential)| {
        ask.choice.as_ref().is_none_or(|choice: &Label| {
            held.record.label == *choice || id.to_string() == choice.as_ref()
        })
    };
    let mut usable = tenant.usable(subject, &ask.provider).filter(named);
    let (_, first) = usable.next().ok_or_else(|| deny(Refusal::CredentialMissing, None))?;
    let Some((_, second)) = usable.next() else { return Ok(first) };
    let mut names = String::new();
    for held in [first, second].into_iter().chain(usable.map(|(_, held)| held)) {
        let label = held.record.label.as_ref();
        if names.len().saturating_add(label.len()).saturating_add(2) > MAX_ABOUT_BYTES {
            break;
        }
        if !names.is_empty() {
            names.push_str(", ");
        }
        names.push_str(label);
    }
    Err(deny(Refusal::CredentialAmbiguous, Some(names)))
}

/// Keeps an admitted call under a ticket; a call whose entry is not written is no call.
fn keep(
    vault: &mut Vault,
    call: CallId,
    outcome: Result<Admitted, JournalError>,
) -> Result<(Ticket, Option<Warning>), Refused> {
    let admitted = outcome.map_err(|error| refuse_unwritten(vault, call, &error))?;
    // While the entry was being written the call may have been recalled, or the token revoked.
    if !vault.tickets.holds(call) {
        return Err(Refused { call: Some(call), ..Refused::plain(Refusal::Recalled) });
    }
    let Ok(ticket) = vault.random.draw().map(Ticket) else {
        close_unmade(vault, call, Refusal::Internal);
        return Err(Refused::plain(Refusal::Internal));
    };
    vault.tickets.keep(ticket, admitted, Instant::now());
    Ok((ticket, vault.budgets.warning(call)))
}

fn refuse_unwritten(vault: &mut Vault, call: CallId, error: &JournalError) -> Refused {
    tracing::error!(%error, "a call was refused");
    if *error == JournalError::Slow {
        // Its entry may still be written: then this one follows.
        close_unmade(vault, call, Refusal::JournalUnavailable);
    }
    vault.tickets.end(call);
    vault.budgets.end(call, End::Unreported);
    Refused { retry_after_secs: Some(1), ..Refused::plain(Refusal::JournalUnavailable) }
}

/// Answers a courier's `Redeem`: opens the one key that the ticket's call needs, for this courier alone.
///
/// # Errors
/// When the courier is gone.
pub fn redeem(
    keeper: &Keeper,
    (ticket, by): (Ticket, Origin),
    courier: &Outbox,
) -> Result<(), OutboxError> {
    let public_url = &keeper.settings.public_url;
    let opened = keeper.with_vault(|vault| {
        let admitted =
            vault.tickets.redeem(ticket, by, Instant::now()).ok_or(Refusal::TicketUnknown)?;
        let call = admitted.call();
        let told = open(vault, (admitted, ticket), public_url, courier);
        if told.is_ok() {
            vault.budgets.went_out(call);
        }
        told.inspect_err(|refusal| close_unmade(vault, call, *refusal))
    });
    match opened {
        Ok(Ok(told)) => told,
        Ok(Err(refusal)) | Err(refusal) => courier.push(&ToCourier::Refused { ticket, refusal }),
    }
}

/// Opens the key of an admitted call and writes its errand. The only place that does.
fn open(
    vault: &Vault,
    (admitted, ticket): (Admitted, Ticket),
    public_url: &str,
    courier: &Outbox,
) -> Result<Result<(), OutboxError>, Refusal> {
    let (permit, call) = admitted.spend();
    let id = permit.credential();
    let tenant = vault.tables.tenant(permit.tenant()).ok_or(Refusal::Recalled)?;
    let held = tenant.credentials.get(&id).ok_or(Refusal::Recalled)?;
    // A key that was rotated in since was sealed for its own destination, not for the one that was judged.
    if held.facts.destination != *permit.destination() {
        return Err(Refusal::Recalled);
    }
    let key = vault.memory_seal.open(id, &held.sealed_key).map_err(|error| {
        tracing::error!(%error, credential = %id, "a key does not open");
        Refusal::Internal
    })?;
    let tag = keys::tag_idempotency(&vault.subject_tag, &permit.user(), b"");
    let public_prefix = public_prefix(vault, permit.provider(), public_url);
    Ok(key.expose(|secret| {
        let errand = LentErrand {
            call,
            credential: id,
            credential_version: held.record.version,
            destination: permit.destination(),
            secret: LentSecret(secret),
            method: permit.method(),
            target: permit.target(),
            dialect: permit.dialect(),
            body: permit.body(),
            claims: permit.claims(),
            length: permit.length(),
            betas: permit.betas(),
            idempotency_tag: LentSecret(&tag),
            public_prefix: &public_prefix,
            deadlines: Deadlines::USUAL,
        };
        courier.push(&LentToCourier::Errand { ticket, errand })
    }))
}

/// Where users reach a provider through us.
pub fn public_prefix(vault: &Vault, provider: &ProviderName, public_url: &str) -> String {
    let built_in = vault
        .tables
        .providers
        .get(provider)
        .is_some_and(|definition| definition.origin == Origin::BuiltIn);
    let route = if built_in { "/" } else { "/p/" };
    [public_url, route, provider.as_ref()].concat()
}

/// Takes a courier's report: the call has ended.
pub fn close(keeper: &Keeper, by: Origin, outcome: &Outcome) {
    let closed = keeper.with_vault(|vault| {
        if vault.tickets.report(outcome.call, by) {
            let cost = vault.budgets.end(outcome.call, End::Reported(outcome));
            vault.journal.note(&Entry::close(outcome, cost), clock::now());
        }
        vault.budgets.ledger.wants()
    });
    if closed == Ok(true) {
        keeper.leases.notify_one();
    }
    if closed.is_err() {
        // Sealing has closed every entry already.
        tracing::debug!(call = %outcome.call, "an outcome came after the vault was sealed");
    }
}

fn close_unmade(vault: &mut Vault, call: CallId, refusal: Refusal) {
    if vault.tickets.end(call) {
        let cost = vault.budgets.end(call, End::Unreported);
        vault.journal.note(&Entry::unmade(call, refusal, cost), clock::now());
    }
}

/// What is done each second: tickets that nobody brought, strangers that were refused.
pub fn sweep(keeper: &Keeper, since_strangers: Duration) {
    let swept = keeper.with_vault(|vault| {
        let now = clock::now();
        for call in vault.tickets.expire(Instant::now()) {
            let cost = vault.budgets.end(call, End::Unreported);
            vault.journal.note(&Entry::unmade(call, Refusal::TicketUnknown, cost), now);
        }
        let forgotten = vault.budgets.settle_forgotten(|call| vault.tickets.holds(call));
        if forgotten > 0 {
            tracing::error!(forgotten, "calls ended without being settled: they count in full");
        }
        let expired = |party: &Party| party.expires.is_some_and(|end| end <= now);
        let tables = &vault.tables;
        let over = |party: &Party| {
            expired(party) || (tables.is_timed(party) && !tables.stands(party, now))
        };
        let stopped = vault.tickets.stop(over);
        if let Some(refused) = take_strangers(&mut vault.strangers, since_strangers) {
            vault.journal.note(&Entry::Strangers { refused }, now);
        }
        for (sink, state, lost) in vault.journal.sink_changes() {
            vault.journal.note(&Entry::Sink { sink: &sink, state, lost }, now);
        }
        stopped
    });
    // A closed vault has nothing to sweep.
    if let Ok(stopped) = swept {
        tell(keeper, &stopped);
    }
}

/// The refusals of strangers that are to be recorded now: those since the last time, when that is long enough ago.
fn take_strangers(refused: &mut u64, since: Duration) -> Option<u64> {
    (*refused > 0 && since >= STRANGERS_EVERY).then(|| std::mem::take(refused))
}

/// Stops the calls that something restricting was about, wherever they are.
pub fn stop(keeper: &Keeper, about: impl Fn(&Party) -> bool) -> usize {
    // A vault that has closed has recalled every call.
    let Ok(stopped) = keeper.with_vault(|vault| vault.tickets.stop(&about)) else { return 0 };
    tell(keeper, &stopped);
    stopped.count()
}

/// Judges every call under way again, and stops those that may not go on; answers how many these were.
pub fn judge_again(keeper: &Keeper) -> usize {
    let now = clock::now();
    let stopped = keeper.with_vault(|vault| {
        let tables = &vault.tables;
        vault.tickets.stop(|party| !tables.stands(party, now))
    });
    // A vault that has closed has recalled every call.
    let Ok(stopped) = stopped else { return 0 };
    tell(keeper, &stopped);
    stopped.count()
}

fn tell(keeper: &Keeper, stopped: &Stopped) {
    let noted = keeper.with_vault(|vault| {
        for call in &stopped.unmade {
            let cost = vault.budgets.end(*call, End::Unreported);
            vault.journal.note(&Entry::unmade(*call, Refusal::Recalled, cost), clock::now());
        }
    });
    if noted.is_ok() {
        keeper.recall(&stopped.recalled);
    }
}

fn party_of(vault: &Vault, subject: &Subject, permit: &Permit) -> Party {
    let (credential, origin) = (permit.credential(), permit.origin());
    let tenant = vault.tables.tenant(subject.tenant);
    let held = tenant.and_then(|tenant| tenant.credentials.get(&credential));
    let of_credential = held.and_then(|held| held.record.rules.expires);
    let expires = [subject.scope.expires, of_credential].into_iter().flatten().min();
    let (tenant, facts) = (subject.tenant, permit.facts().clone());
    Party { tenant, user: subject.user, token: subject.token, credential, origin, expires, facts }
}

/// How often refusals of strangers are recorded, as one number.
pub const STRANGERS_EVERY: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_recorded_as_one_number_after_a_minute_and_counted_anew() {
        let mut refused = 3;
        let before = STRANGERS_EVERY.saturating_sub(Duration::from_nanos(1));
        assert_eq!((take_strangers(&mut refused, before), refused), (None, 3));
        assert_eq!((take_strangers(&mut refused, STRANGERS_EVERY), refused), (Some(3), 0));
        assert_eq!((take_strangers(&mut refused, STRANGERS_EVERY), refused), (None, 0));
    }
}
