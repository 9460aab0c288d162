//! Budgets, rates and prices of the open vault: what is reserved for a call before its entry is written, and what it cost.
//!
//! Invariant: a call that was admitted has a hold until it has ended; what a hold reserved is settled once.
//! Invariant: nothing here waits; what must become durable is written by `acts::leasing`, ahead of what is spent.
//! Distrusts: what couriers report that providers told.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use strongroom_policy::bound::{Ended, Measured, NoBound, Quote, quote};
use strongroom_policy::budget::{Payer, Unit, Warning};
use strongroom_policy::decide::Permit;
use strongroom_policy::id::CallId;
use strongroom_policy::ledger::{Figures, Lease, Ledger, Reservation, Short};
use strongroom_policy::moment::Moment;
use strongroom_policy::money::Money;
use strongroom_policy::prices::{Author, PriceRow, PriceTable, builtin};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::rules::Home;
use strongroom_protocol::errand::{Ending, Outcome};
use strongroom_protocol::usage::Told;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::rates::Bucket;
use crate::records::BudgetRecord;
use crate::tables::Malformed;

/// Most payers of one call: tenant, person, token, credential, workspace.
const MAX_PAYERS: usize = 5;

/// What the store says, before the vault is open.
#[derive(Debug, Default)]
pub struct Stored {
    /// Budgets and rates.
    pub records: BTreeMap<Payer, BudgetRecord>,
    /// What is spent of the budgets, at most.
    pub leases: BTreeMap<Payer, Vec<Lease>>,
    /// An operator's prices.
    pub prices: Option<Vec<PriceRow>>,
}

/// What is kept of a call from its admission to its end.
struct Hold {
    quote: Quote,
    reservation: Reservation,
    warning: Option<Warning>,
    stage: Stage,
}

/// Whether a courier has a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Here,
    WithCourier,
}

/// Budgets, rates and prices.
pub struct Budgets {
    /// What is spent and reserved.
    pub ledger: Ledger,
    /// What operators set.
    pub records: BTreeMap<Payer, BudgetRecord>,
    /// What models cost.
    pub prices: PriceTable,
    rates: HashMap<Payer, Bucket>,
    holds: HashMap<CallId, Hold>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'o> {
    /// A courier has reported.
    Reported(&'o Outcome),
    /// No courier had it, or the one that had it is gone: then it may have cost all that it could.
    Unreported,
}

impl Budgets {
    /// Takes in what the store says. `now` is not before any entry of the journal.
    ///
    /// # Errors
    /// When a price table is none that this program wrote.
    pub fn open(stored: Stored, now: Moment) -> Result<Self, Malformed> {
        let prices = match stored.prices {
            Some(rows) => PriceTable::new(Author::Operator, rows),
            None => builtin::table(),
        };
        let mut budgets = Self {
            ledger: Ledger::default(),
            records: BTreeMap::new(),
            prices: prices.map_err(|_| Malformed)?,
            rates: HashMap::new(),
            holds: HashMap::new(),
        };
        for (payer, record) in stored.records {
            let leases = stored.leases.get(&payer).map_or(&[][..], Vec::as_slice);
            budgets.put(payer, record, leases, now);
        }
        Ok(budgets)
    }

    /// Takes in what is durable of a payer, new or changed.
    pub fn put(&mut self, payer: Payer, record: BudgetRecord, leases: &[Lease], now: Moment) {
        let before = self.records.remove(&payer).unwrap_or_default();
        let is = |one: &strongroom_policy::budget::Limit| (one.unit, one.period);
        for gone in &before.limits {
            if !record.limits.iter().any(|limit| is(limit) == is(gone)) {
                self.ledger.remove(payer, gone.unit, gone.period);
            }
        }
        for limit in &record.limits {
            let lease = leases.iter().find(|lease| (lease.unit, lease.period) == is(limit));
            self.ledger.put(payer, *limit, lease, now);
        }
        match record.calls_per_minute {
            Some(rate) if before.calls_per_minute != Some(rate) => {
                self.rates.insert(payer, Bucket::full(rate, Instant::now()));
            }
            Some(_) => {}
            None => drop(self.rates.remove(&payer)),
        }
        if record != BudgetRecord::default() {
            self.records.insert(payer, record);
        }
    }

    /// Takes one call out of the rate of each payer, or of none.
    ///
    /// # Errors
    /// Whose rate is used up, and how long until there is a call again.
    pub fn take_rates(&mut self, payers: &[Payer], now: Instant) -> Result<(), (Payer, Duration)> {
        if self.rates.is_empty() {
            return Ok(());
        }
        for payer in payers {
            let Some(bucket) = self.rates.get(payer) else { continue };
            // A copy: the others may have none.
            let mut bucket = *bucket;
            bucket.take(now).map_err(|wait| (*payer, wait))?;
        }
        for payer in payers {
            if let Some(bucket) = self.rates.get_mut(payer) {
                bucket.take(now).map_err(|wait| (*payer, wait))?;
            }
        }
        Ok(())
    }

    /// Reserves what a call can cost, and keeps that until the call has ended.
    ///
    /// # Errors
    /// When a budget does not have it.
    pub fn hold(
        &mut self,
        call: CallId,
        (permit, payers): (&Permit, &[Payer]),
        now: Moment,
    ) -> Result<(), Short> {
        let quote = quote(permit, &self.prices);
        let granted = self.ledger.reserve(payers, &quote, now)?;
        let (reservation, warning) = (granted.reservation, granted.warning);
        self.holds.insert(call, Hold { quote, reservation, warning, stage: Stage::Here });
        Ok(())
    }

    /// What whoever makes a call is told beside the answer.
    pub fn warning(&self, call: CallId) -> Option<Warning> {
        self.holds.get(&call)?.warning
    }

    /// A courier has the call from now on.
    pub fn went_out(&mut self, call: CallId) {
        if let Some(hold) = self.holds.get_mut(&call) {
            hold.stage = Stage::WithCourier;
        }
    }

    /// Settles a call that has ended; answers what it cost, where that is known.
    pub fn end(&mut self, call: CallId, end: End<'_>) -> Option<Money> {
        let Hold { quote, reservation, stage, .. } = self.holds.remove(&call)?;
        let ended = match (end, stage) {
            (End::Reported(outcome), _) => ended(outcome),
            (End::Unreported, Stage::Here) => Ended::Unsent,
            (End::Unreported, Stage::WithCourier) => Ended::Told(Measured::default()),
        };
        let cost = quote.settle(ended);
        let requests = u64::from(ended != Ended::Unsent);
        self.ledger.settle(reservation, &cost, requests);
        cost.money
    }

    /// Settles what was held for calls that are not under way any more: there are none, unless something was forgotten.
    pub fn settle_forgotten(&mut self, is_under_way: impl Fn(CallId) -> bool) -> usize {
        let forgotten: Vec<CallId> =
            self.holds.keys().copied().filter(|call| !is_under_way(*call)).collect();
        for call in &forgotten {
            self.went_out(*call);
            self.end(*call, End::Unreported);
        }
        forgotten.len()
    }
}

/// Who pays for a call with a credential.
pub fn payers(permit: &Permit, home: Option<Home>) -> ([Payer; MAX_PAYERS], usize) {
    let own = [
        Payer::Tenant(permit.tenant()),
        Payer::User(permit.user()),
        Payer::Token(permit.token()),
        Payer::Credential(permit.credential()),
    ];
    let [tenant, user, token, credential] = own;
    match home {
        Some(Home::Workspace(workspace)) => {
            ([tenant, user, token, credential, Payer::Workspace(workspace)], MAX_PAYERS)
        }
        Some(Home::Personal(_)) | None => {
            ([tenant, user, token, credential, credential], own.len())
        }
    }
}

/// What an outcome says about the cost.
///
/// Of a call that ended before its last byte could go out nothing was made: the courier holds the end of a body back until it agrees.
/// The providers that are built in charge for none of the answers that are listed as refusals; of one that an operator defined the
/// same is taken. xAI charges for some that it answers with 403. Everything else may have cost what it could.
fn ended(outcome: &Outcome) -> Ended {
    let unsent = match outcome.ending {
        Ending::Aborted(Refusal::BodyMismatch | Refusal::BodySlow) => outcome.status.is_none(),
        Ending::Aborted(
            Refusal::ProviderUnreachable | Refusal::ProviderAddress | Refusal::ProviderTls,
        ) => outcome.status.is_none() && outcome.sent_bytes == 0,
        Ending::Aborted(_) | Ending::Complete => false,
    };
    let usage = outcome.usage;
    let refused =
        matches!(outcome.status, Some(400 | 401 | 404 | 405 | 413 | 415 | 422 | 429 | 503 | 529));
    if unsent {
        return Ended::Unsent;
    }
    if refused && usage.told == Told::Missing {
        return Ended::Refused;
    }
    Ended::Told(Measured {
        input: usage.input,
        output: usage.output,
        cache_read: usage.cached_input,
        cache_write: usage.cache_write,
        cost: usage.cost_ticks.map(|ticks| Money::from_micros(ticks.div_ceil(TICKS_PER_MICRO))),
        is_final: usage.told == Told::Exact,
    })
}

/// Of 1e-10 US dollars in a millionth.
const TICKS_PER_MICRO: u64 = 10_000;

/// A refusal of a budget, and what is told beside it: which budget, when it begins anew, whom to ask.
pub fn refusal_of(short: &Short) -> (Refusal, Option<String>) {
    match short {
        Short::Spent(figures) => (Refusal::BudgetSpent, Some(standing(figures))),
        Short::NoBound(figures, why) => {
            (Refusal::BudgetNoBound, Some(format!("{}; {}", why_not(*why), name(figures))))
        }
        Short::NotLeased => (Refusal::BudgetNotReady, None),
    }
}

fn standing(figures: &Figures) -> String {
    let amount = |amount| shown(figures.limit.unit, amount);
    format!(
        "{}: {} of {} spent, {} reserved for running calls; it begins anew at {}",
        name(figures),
        amount(figures.spent),
        amount(figures.limit.amount),
        amount(figures.reserved),
        date(figures.turns),
    )
}

fn name(figures: &Figures) -> String {
    let (unit, period) = (figures.limit.unit.name(), figures.limit.period.name());
    format!("the budget of {unit} of this {} for a {period}", figures.payer.kind().name())
}

fn shown(unit: Unit, amount: u64) -> String {
    match unit {
        Unit::Money => format!("{} USD", Money::from_micros(amount)),
        Unit::Tokens | Unit::Requests => amount.to_string(),
    }
}

/// In RFC 3339.
fn date(moment: Moment) -> String {
    let seconds = i64::try_from(moment.unix_millis().div_euclid(1000)).unwrap_or(i64::MAX);
    let shown = OffsetDateTime::from_unix_timestamp(seconds).ok();
    shown.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "a later day".to_owned())
}

fn why_not(why: NoBound) -> String {
    match why {
        NoBound::NoPrice => "no price is known for this model".to_owned(),
        NoBound::ModelUnread => "the model of this request cannot be read".to_owned(),
        NoBound::Stored => "this path works on stored objects".to_owned(),
        NoBound::Feature(feature) => format!("the request asks for {}", feature.name()),
        NoBound::Open => "the request has the provider do more than answer once".to_owned(),
    }
}

#[cfg(test)]
mod tests;
