//! Calls under way: admitted and waiting for their courier, or with it.
//!
//! Invariant: a ticket is redeemed once, within its life, by the courier of its provider's origin; what waits holds no opened key.
//! Invariant: both tables are bounded, in total, for each tenant and for each person.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Instant;

use strongroom_policy::id::{CallId, CredentialId, TenantId, TokenId, UserId};
use strongroom_policy::moment::Moment;
use strongroom_policy::provider::Origin;
use strongroom_policy::rules::CallFacts;
use strongroom_protocol::ask::{TICKET_LIFE, Ticket};

use crate::journal::Admitted;

/// Most calls under way.
pub const MAX_CALLS: usize = 4096;
/// Most calls under way of one person.
pub const MAX_CALLS_OF_ONE: usize = 1024;
/// Most calls under way of one tenant: it never takes the places that are left for others.
pub const MAX_CALLS_OF_TENANT: usize = 3072;

/// Whose and with what a call under way is: what a recall looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// The tenant.
    pub tenant: TenantId,
    /// The person.
    pub user: UserId,
    /// The token.
    pub token: TokenId,
    /// The credential.
    pub credential: CredentialId,
    /// Whose courier makes the call.
    pub origin: Origin,
    /// When the token's or the credential's time is over, whichever is first.
    pub expires: Option<Moment>,
    /// What it is judged again by.
    pub facts: CallFacts,
}

/// A call under way.
#[derive(Debug, Clone)]
struct UnderWay {
    party: Party,
    stage: Stage,
}

/// Who has a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The keeper: its entry is being written, or its ticket waits.
    Here,
    /// The courier.
    Redeemed,
    /// The courier, which is told to stop it.
    Recalled,
}

/// What became of calls that were stopped.
#[derive(Debug, Default)]
pub struct Stopped {
    /// They were never made; their entries are to be closed.
    pub unmade: Vec<CallId>,
    /// The courier of this origin's providers has them, and must be told.
    pub recalled: Vec<(Origin, CallId)>,
}

impl Stopped {
    /// How many they are.
    pub const fn count(&self) -> usize {
        self.unmade.len().saturating_add(self.recalled.len())
    }
}

/// Calls under way.
#[derive(Default)]
pub struct Tickets {
    waiting: HashMap<Ticket, (Admitted, Instant)>,
    running: BTreeMap<CallId, UnderWay>,
    of_one: HashMap<UserId, usize>,
    of_tenant: HashMap<TenantId, usize>,
}

impl Tickets {
    /// Whether another call of this tenant's person has room.
    pub fn has_room(&self, (tenant, user): (TenantId, UserId)) -> bool {
        self.running.len() < MAX_CALLS
            && self.of_tenant.get(&tenant).copied().unwrap_or(0) < MAX_CALLS_OF_TENANT
            && self.of_one.get(&user).copied().unwrap_or(0) < MAX_CALLS_OF_ONE
    }

    /// Counts a call as under way before its entry is written, so that room is never given twice.
    pub fn begin(&mut self, call: CallId, party: Party) {
        enter(&mut self.of_one, party.user);
        enter(&mut self.of_tenant, party.tenant);
        self.running.insert(call, UnderWay { party, stage: Stage::Here });
    }

    /// Keeps an admitted call for whoever brings the ticket.
    pub fn keep(&mut self, ticket: Ticket, admitted: Admitted, now: Instant) {
        let end = now.checked_add(TICKET_LIFE).unwrap_or(now);
        self.waiting.insert(ticket, (admitted, end));
    }

    /// Spends a ticket. For the courier of other providers it is none, and lives on.
    pub fn redeem(&mut self, ticket: Ticket, by: Origin, now: Instant) -> Option<Admitted> {
        // One that is over is left for `expire`, which closes its entry.
        let lives = |(admitted, end): &&(Admitted, Instant)| admitted.origin() == by && *end > now;
        self.waiting.get(&ticket).filter(lives)?;
        let (admitted, _) = self.waiting.remove(&ticket)?;
        self.running.get_mut(&admitted.call())?.stage = Stage::Redeemed;
        Some(admitted)
    }

    /// Takes out the calls whose ticket nobody brought in time.
    pub fn expire(&mut self, now: Instant) -> Vec<CallId> {
        let over: Vec<CallId> = self
            .waiting
            .values()
            .filter(|(_, end)| *end <= now)
            .map(|(admitted, _)| admitted.call())
            .collect();
        for call in &over {
            self.end(*call);
        }
        self.waiting.retain(|_, (_, end)| *end > now);
        over
    }

    /// Stops calls wherever they are: those that are still here are no calls any more, whatever is on its way for them.
    /// Each is stopped once; what is recalled counts as under way until its courier reports.
    pub fn stop(&mut self, about: impl Fn(&Party) -> bool) -> Stopped {
        let mut stopped = Stopped::default();
        for (call, under_way) in &mut self.running {
            match under_way.stage {
                Stage::Recalled => {}
                Stage::Here | Stage::Redeemed if !about(&under_way.party) => {}
                Stage::Here => stopped.unmade.push(*call),
                Stage::Redeemed => {
                    under_way.stage = Stage::Recalled;
                    stopped.recalled.push((under_way.party.origin, *call));
                }
            }
        }
        for call in &stopped.unmade {
            self.end(*call);
        }
        let running = &self.running;
        self.waiting.retain(|_, (admitted, _)| running.contains_key(&admitted.call()));
        stopped
    }

    /// Ends a call; answers whether it was under way.
    pub fn end(&mut self, call: CallId) -> bool {
        match self.running.remove(&call) {
            Some(under_way) => {
                leave(&mut self.of_one, &under_way.party.user);
                leave(&mut self.of_tenant, &under_way.party.tenant);
                true
            }
            None => false,
        }
    }

    /// Ends a call that this courier has; answers whether it had it. Of a call that is still here, or with the other one, nothing
    /// that it says counts.
    pub fn report(&mut self, call: CallId, by: Origin) -> bool {
        let has_it = |one: &UnderWay| one.stage != Stage::Here && one.party.origin == by;
        self.running.get(&call).is_some_and(has_it) && self.end(call)
    }

    /// Whether a call is under way.
    pub fn holds(&self, call: CallId) -> bool {
        self.running.contains_key(&call)
    }

    /// Takes out every call of a courier's providers, waiting or running.
    pub fn take_of(&mut self, origin: Origin) -> Vec<CallId> {
        let its = self.running.iter().filter(|(_, one)| one.party.origin == origin);
        let its: Vec<CallId> = its.map(|(call, _)| *call).collect();
        for call in &its {
            self.end(*call);
        }
        self.waiting.retain(|_, (admitted, _)| admitted.origin() != origin);
        its
    }

    /// Takes out every call, waiting or running.
    pub fn take_all(&mut self) -> Vec<CallId> {
        self.waiting.clear();
        self.of_one.clear();
        self.of_tenant.clear();
        std::mem::take(&mut self.running).into_keys().collect()
    }
}

fn enter<K: Eq + Hash>(counts: &mut HashMap<K, usize>, whose: K) {
    let count = counts.entry(whose).or_insert(0);
    *count = count.saturating_add(1);
}

fn leave<K: Eq + Hash>(counts: &mut HashMap<K, usize>, whose: &K) {
    if let Some(count) = counts.get_mut(whose) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(whose);
        }
    }
}

#[cfg(test)]
mod tests;
