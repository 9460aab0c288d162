//! What is spent, reserved and durable of every budget: reservations before calls, settlements after them, and leases.
//!
//! A lease is the amount that the disk says is spent. It runs ahead of what is spent in memory by a block, so that no call waits
//! for a disk; after a crash the whole lease counts as spent, and after a clean end the exact figure does.
//!
//! Invariant: settled and reserved together never exceed a hard budget, but for what a provider told beyond a reservation.
//! Invariant: settled and reserved together never exceed the lease, but for that; so no crash undercounts.
//! Invariant: a call is reserved under every budget that applies or under none; a reservation is settled once.
//! Invariant: windows only go forward; a reservation counts in the window that it was made in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::bound::{Cost, NoBound, Quote};
use crate::budget::{Force, Limit, Payer, Period, Unit, Warning, Window};
use crate::moment::Moment;

/// What the disk says of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Of what.
    pub unit: Unit,
    /// Within which time.
    pub period: Period,
    /// In which window.
    pub window: Window,
    /// At most this much is spent in it.
    pub spent: u64,
    /// At most this much is spent in the window after it.
    pub next: u64,
}

/// One budget and what is spent of it.
#[derive(Debug, Clone, Copy)]
struct Account {
    payer: Payer,
    limit: Limit,
    window: Window,
    settled: u64,
    reserved: u64,
    /// What the disk says is spent in this window, and in the next one.
    leased: u64,
    next: u64,
    /// The largest reservation of this window: leases are extended by what such calls need.
    largest: u64,
}

/// Names one account for as long as the ledger lives: a budget that is removed and made anew is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Serial(u64);

/// What was reserved for one call. Settled once, by [`Ledger::settle`].
#[must_use]
#[derive(Debug, Default)]
pub struct Reservation {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    serial: Serial,
    window: Window,
    amount: u64,
}

/// Why a call is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Short {
    /// A hard budget does not have this much left.
    Spent(Figures),
    /// A hard budget of money or tokens applies, and nothing bounds what the call can cost.
    NoBound(Figures, NoBound),
    /// The disk does not know of this much yet. It will in a moment.
    NotLeased,
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Whose.
    pub payer: Payer,
    /// What it allows.
    pub limit: Limit,
    /// What ended calls cost.
    pub spent: u64,
    /// What running calls can cost.
    pub reserved: u64,
    /// When it begins anew.
    pub turns: Moment,
}

/// A reservation, and what the caller is told beside the answer.
#[must_use]
#[derive(Debug)]
pub struct Granted {
    /// What was reserved.
    pub reservation: Reservation,
    /// The budget whose warning share is passed by most.
    pub warning: Option<Warning>,
}

/// Leases to be made durable; then [`Ledger::leased`] takes them in.
#[must_use]
#[derive(Debug)]
pub struct Extension {
    parts: Vec<(Serial, Lease)>,
    /// All leases of every payer that one of them is about.
    pub records: BTreeMap<Payer, Vec<Lease>>,
}

/// Most payers of one extension.
pub const MAX_PAYERS_OF_EXTENSION: usize = 32;
/// The least part of a budget that a lease runs ahead by.
const BLOCKS: u64 = 32;

/// Every budget.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<Serial, Account>,
    of_payer: HashMap<Payer, Vec<Serial>>,
    serials: u64,
    latest: Moment,
    /// Accounts that may need a longer lease.
    low: BTreeSet<Serial>,
}

impl Ledger {
    /// Whether there is no budget at all.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Takes in a budget with what the disk says of it, or changes one that is there: what is spent of it stays.
    ///
    /// Without a lease nothing was ever spent of it.
    pub fn put(&mut self, payer: Payer, limit: Limit, lease: Option<&Lease>, now: Moment) {
        self.latest = self.latest.max(now);
        if let Some(serial) = self.find(payer, limit.unit, limit.period) {
            if let Some(account) = self.accounts.get_mut(&serial) {
                account.limit = limit;
            }
            self.low.insert(serial);
            return;
        }
        let clock = limit.period.window(self.latest);
        let window = lease.map_or(clock, |lease| lease.window.max(clock));
        let (spent, next) = match lease {
            Some(lease) if window == lease.window => (lease.spent, lease.next),
            Some(lease) if window.follows(lease.window) => (lease.next, 0),
            Some(_) | None => (0, 0),
        };
        let serial = Serial(self.serials);
        self.serials = self.serials.saturating_add(1);
        let account = Account {
            payer,
            limit,
            window,
            settled: spent,
            reserved: 0,
            leased: spent,
            next,
            largest: 0,
        };
        self.accounts.insert(serial, account);
        self.low.insert(serial);
        self.of_payer.entry(payer).or_default().push(serial);
    }

    /// Takes a budget out.
    pub fn remove(&mut self, payer: Payer, unit: Unit, period: Period) {
        let Some(serials) = self.of_payer.get_mut(&payer) else { return };
        let accounts = &mut self.accounts;
        serials.retain(|serial| {
            let its = |one: &Account| one.limit.unit == unit && one.limit.period == period;
            let gone = accounts.get(serial).is_some_and(its);
            if gone {
                accounts.remove(serial);
            }
            !gone
        });
        if serials.is_empty() {
            self.of_payer.remove(&payer);
        }
    }

    fn find(&self, payer: Payer, unit: Unit, period: Period) -> Option<Serial> {
        let its = |one: &Account| one.limit.unit == unit && one.limit.period == period;
        let serials = self.of_payer.get(&payer)?;
        serials.iter().copied().find(|serial| self.accounts.get(serial).is_some_and(its))
    }

    /// Reserves what a call can cost under every budget of its payers.
    ///
    /// # Errors
    /// When a hard budget does not have it, or the disk does not know of it yet; nothing is reserved then.
    pub fn reserve(
        &mut self,
        payers: &[Payer],
        quote: &Quote,
        now: Moment,
    ) -> Result<Granted, Short> {
        if self.accounts.is_empty() {
            return Ok(Granted { reservation: Reservation::default(), warning: None });
        }
        self.latest = self.latest.max(now);
        let mut parts = Vec::new();
        let mut unleased = Vec::new();
        for serial in payers.iter().filter_map(|payer| self.of_payer.get(payer)).flatten() {
            let Some(account) = self.accounts.get_mut(serial) else { continue };
            account.turn(self.latest);
            let amount = account.ask(quote)?;
            if account.used().saturating_add(amount) > account.leased {
                unleased.push((*serial, amount));
            }
            parts.push(Part { serial: *serial, window: account.window, amount });
        }
        // Only of a call that nobody refuses: a lease that grew for another one would be lost in a crash.
        for (serial, amount) in &unleased {
            let Some(account) = self.accounts.get_mut(serial) else { continue };
            account.largest = account.largest.max(*amount);
            self.low.insert(*serial);
        }
        if !unleased.is_empty() {
            return Err(Short::NotLeased);
        }
        let mut warning = None;
        for part in &parts {
            let Some(account) = self.accounts.get_mut(&part.serial) else { continue };
            account.reserved = account.reserved.saturating_add(part.amount);
            account.largest = account.largest.max(part.amount);
            if account.is_low() {
                self.low.insert(part.serial);
            }
            warning = most(warning, account.warning());
        }
        Ok(Granted { reservation: Reservation { parts }, warning })
    }

    /// Ends a reservation: what the call cost is spent, the rest is given back.
    ///
    /// What is not known (no price, no usage) counts as nothing: of a call without a bound under soft budgets only.
    pub fn settle(&mut self, reservation: Reservation, cost: &Cost, requests: u64) {
        for part in reservation.parts {
            let Some(account) = self.accounts.get_mut(&part.serial) else { continue };
            account.turn(self.latest);
            // What was reserved in an earlier window was forgotten with it.
            if account.window != part.window {
                continue;
            }
            let spent = match account.limit.unit {
                Unit::Money => cost.money.map_or(0, crate::money::Money::micros),
                Unit::Tokens => cost.tokens.unwrap_or(0),
                Unit::Requests => requests,
            };
            account.reserved = account.reserved.saturating_sub(part.amount);
            account.settled = account.settled.saturating_add(spent);
            if account.is_low() {
                self.low.insert(part.serial);
            }
        }
    }

    /// Whether a lease is to be extended.
    pub fn wants(&self) -> bool {
        !self.low.is_empty()
    }

    /// The leases that are to be extended now, of a number of payers at most; `None` when there are none.
    pub fn extend(&mut self, now: Moment) -> Option<Extension> {
        self.latest = self.latest.max(now);
        let mut extension = Extension { parts: Vec::new(), records: BTreeMap::new() };
        while extension.records.len() < MAX_PAYERS_OF_EXTENSION {
            let Some(serial) = self.low.pop_first() else { break };
            let Some(account) = self.accounts.get_mut(&serial) else { continue };
            account.turn(self.latest);
            if account.is_low() && !extension.records.contains_key(&account.payer) {
                let payer = account.payer;
                let leases = self.longer_leases(payer);
                extension.records.insert(payer, leases.iter().map(|(_, lease)| *lease).collect());
                extension.parts.extend(leases);
            }
        }
        (!extension.records.is_empty()).then_some(extension)
    }

    /// The next lease of every budget of a payer.
    fn longer_leases(&mut self, payer: Payer) -> Vec<(Serial, Lease)> {
        let serials = self.of_payer.get(&payer).into_iter().flatten();
        let leases = serials.filter_map(|serial| {
            let account = self.accounts.get_mut(serial)?;
            account.turn(self.latest);
            Some((*serial, account.longer()))
        });
        leases.collect()
    }

    /// Takes in leases that are durable.
    pub fn leased(&mut self, extension: Extension) {
        for (serial, lease) in extension.parts {
            let Some(account) = self.accounts.get_mut(&serial) else { continue };
            if account.window == lease.window {
                account.leased = account.leased.max(lease.spent);
                account.next = lease.next;
            } else if account.window.follows(lease.window) {
                account.leased = account.leased.max(lease.next);
            }
            if account.is_low() {
                self.low.insert(serial);
            }
        }
    }

    /// Gives up an extension that did not become durable; it is asked for again.
    pub fn not_leased(&mut self, extension: Extension) {
        self.low.extend(extension.parts.into_iter().map(|(serial, _)| serial));
    }

    /// The exact figures of all payers, for the end: running calls count as if they cost all that they can.
    pub fn exact(&mut self, now: Moment) -> BTreeMap<Payer, Vec<Lease>> {
        self.latest = self.latest.max(now);
        let mut records: BTreeMap<Payer, Vec<Lease>> = BTreeMap::new();
        for account in self.accounts.values_mut() {
            account.turn(self.latest);
            let exact = account.lease(account.used(), 0);
            records.entry(account.payer).or_default().push(exact);
        }
        records
    }

    /// How every budget stands.
    pub fn figures(&mut self, now: Moment) -> Vec<Figures> {
        self.latest = self.latest.max(now);
        let latest = self.latest;
        let turned = self.accounts.values_mut().map(|account| {
            account.turn(latest);
            account.figures()
        });
        turned.collect()
    }
}

impl Account {
    const fn used(&self) -> u64 {
        self.settled.saturating_add(self.reserved)
    }

    /// Begins the window of a moment, if it is a later one.
    fn turn(&mut self, now: Moment) {
        let window = self.limit.period.window(now);
        if window <= self.window {
            return;
        }
        self.leased = if window.follows(self.window) { self.next } else { 0 };
        (self.window, self.settled, self.reserved, self.next, self.largest) = (window, 0, 0, 0, 0);
    }

    /// What to reserve for a call, if there is so much.
    fn ask(&self, quote: &Quote) -> Result<u64, Short> {
        let amount = match (self.limit.unit, quote) {
            (Unit::Requests, _) => 1,
            (Unit::Money | Unit::Tokens, Quote::Free) => 0,
            (Unit::Money, Quote::Bounded(bound)) => bound.money().micros(),
            (Unit::Tokens, Quote::Bounded(bound)) => bound.tokens(),
            (Unit::Money | Unit::Tokens, Quote::Unbounded(why, _)) => match self.limit.force {
                Force::Hard => return Err(Short::NoBound(self.figures(), *why)),
                Force::Soft => 0,
            },
        };
        match self.limit.force {
            Force::Hard if amount > 0 && self.used().saturating_add(amount) > self.limit.amount => {
                Err(Short::Spent(self.figures()))
            }
            Force::Hard | Force::Soft => Ok(amount),
        }
    }

    /// By how much a lease runs ahead.
    fn block(&self) -> u64 {
        let share = self.limit.amount.checked_div(BLOCKS).unwrap_or(0);
        share.max(self.limit.unit.least_block()).max(self.largest.saturating_mul(2))
    }

    /// A lease beyond what a hard budget allows is of no use.
    fn cap(&self, amount: u64) -> u64 {
        match self.limit.force {
            Force::Hard => amount.min(self.limit.amount),
            Force::Soft => amount,
        }
    }

    fn is_low(&self) -> bool {
        let ahead = self.block().div_ceil(2);
        let enough = self.cap(self.used().saturating_add(ahead)).max(self.used());
        self.leased < enough || self.next < self.first_block()
    }

    fn first_block(&self) -> u64 {
        let share = self.limit.amount.checked_div(BLOCKS).unwrap_or(0);
        self.cap(share.max(self.limit.unit.least_block()))
    }

    /// What is to be durable next; never less than what is.
    fn longer(&self) -> Lease {
        let spent = self.cap(self.used().saturating_add(self.block()));
        let spent = spent.max(self.used()).max(self.leased);
        self.lease(spent, self.first_block().max(self.next))
    }

    const fn lease(&self, spent: u64, next: u64) -> Lease {
        let Limit { unit, period, .. } = self.limit;
        Lease { unit, period, window: self.window, spent, next }
    }

    fn figures(&self) -> Figures {
        Figures {
            payer: self.payer,
            limit: self.limit,
            spent: self.settled,
            reserved: self.reserved,
            turns: self.limit.period.end(self.window),
        }
    }

    fn warning(&self) -> Option<Warning> {
        let used = u128::from(self.used()).saturating_mul(100);
        let percent = used.checked_div(self.limit.amount.into()).unwrap_or(100);
        (percent >= u128::from(self.limit.warn_percent)).then(|| Warning {
            payer: self.payer.kind(),
            unit: self.limit.unit,
            period: self.limit.period,
            percent: u32::try_from(percent).unwrap_or(u32::MAX),
            turns: self.limit.period.end(self.window),
        })
    }
}

fn most(one: Option<Warning>, other: Option<Warning>) -> Option<Warning> {
    [one, other].into_iter().flatten().max_by_key(|warning| warning.percent)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests;
