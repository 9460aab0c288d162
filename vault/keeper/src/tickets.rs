//! Calls under way: admitted and waiting for their courier, or with it.
//!
//! Invariant: a ticket is redeemed once, within its life; what waits holds no opened key.
//! Invariant: both tables are bounded, in total and for each person.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use strongroom_policy::id::{CallId, CredentialId, TokenId, UserId};
use strongroom_protocol::ask::{TICKET_LIFE, Ticket};

use crate::journal::Admitted;

/// Most calls under way.
pub const MAX_CALLS: usize = 4096;
/// Most calls under way of one person.
pub const MAX_CALLS_OF_ONE: usize = 1024;

/// Whose and with what a call under way is: what a recall looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Party {
    /// The person.
    pub user: UserId,
    /// The token.
    pub token: TokenId,
    /// The credential.
    pub credential: CredentialId,
}

/// Calls under way.
#[derive(Default)]
pub struct Tickets {
    waiting: HashMap<Ticket, (Admitted, Instant)>,
    running: BTreeMap<CallId, Party>,
    of_one: HashMap<UserId, usize>,
}

impl Tickets {
    /// Whether another call of this person has room.
    pub fn has_room(&self, user: UserId) -> bool {
        self.running.len() < MAX_CALLS
            && self.of_one.get(&user).copied().unwrap_or(0) < MAX_CALLS_OF_ONE
    }

    /// Counts a call as under way before its entry is written, so that room is never given twice.
    pub fn begin(&mut self, call: CallId, party: Party) {
        self.running.insert(call, party);
        let count = self.of_one.entry(party.user).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Keeps an admitted call for whoever brings the ticket.
    pub fn keep(&mut self, ticket: Ticket, admitted: Admitted, now: Instant) {
        let end = now.checked_add(TICKET_LIFE).unwrap_or(now);
        self.waiting.insert(ticket, (admitted, end));
    }

    /// Spends a ticket.
    pub fn redeem(&mut self, ticket: Ticket, now: Instant) -> Option<Admitted> {
        // One that is over is left for `expire`, which closes its entry.
        self.waiting.get(&ticket).filter(|(_, end)| *end > now)?;
        self.waiting.remove(&ticket).map(|(admitted, _)| admitted)
    }

    /// Takes out the calls whose ticket nobody brought in time.
    pub fn expire(&mut self, now: Instant) -> Vec<CallId> {
        self.take_waiting(|_, end| end <= now)
    }

    /// Takes out the waiting calls that a recall is about.
    pub fn take_waiting(&mut self, over: impl Fn(&Admitted, Instant) -> bool) -> Vec<CallId> {
        let gone: Vec<Ticket> = self
            .waiting
            .iter()
            .filter(|(_, (admitted, end))| over(admitted, *end))
            .map(|(ticket, _)| *ticket)
            .collect();
        let calls: Vec<CallId> = gone
            .iter()
            .filter_map(|ticket| self.waiting.remove(ticket))
            .map(|(admitted, _)| admitted.call())
            .collect();
        for call in &calls {
            self.end(*call);
        }
        calls
    }

    /// Ends a call; answers whether it was under way.
    pub fn end(&mut self, call: CallId) -> bool {
        match self.running.remove(&call) {
            Some(party) => {
                leave(&mut self.of_one, party.user);
                true
            }
            None => false,
        }
    }

    /// Whether a call is under way.
    pub fn holds(&self, call: CallId) -> bool {
        self.running.contains_key(&call)
    }

    /// The calls under way that a recall is about.
    pub fn running(&self, about: impl Fn(&Party) -> bool) -> Vec<CallId> {
        self.running.iter().filter(|(_, party)| about(party)).map(|(call, _)| *call).collect()
    }

    /// Takes out every call, waiting or running.
    pub fn take_all(&mut self) -> Vec<CallId> {
        self.waiting.clear();
        self.of_one.clear();
        std::mem::take(&mut self.running).into_keys().collect()
    }

    /// How many calls are under way.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }
}

fn leave(of_one: &mut HashMap<UserId, usize>, user: UserId) {
    if let Some(count) = of_one.get_mut(&user) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            of_one.remove(&user);
        }
    }
}
