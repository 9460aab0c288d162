//! What gathers while the group before it is being written: entries, and who hears what became of them.
//!
//! Invariant: a call is heard of once: when the group of its entry is written or lost, or when its patience is over.
//! Invariant: groups and deadlines grow from front to back; the first call in the queue is the next to be answered.

use std::collections::VecDeque;
use std::time::Instant;

use strongroom_policy::decide::Permit;
use strongroom_policy::id::CallId;
use tokio::sync::oneshot;

use super::JournalError;
use super::lines::Lines;
use super::writer::Outcome;
use crate::keeper::Asker;

/// Hears what became of one entry.
pub(super) type Waiter = oneshot::Sender<Result<(), JournalError>>;

/// What gathers.
#[derive(Default)]
pub(super) struct Waiting {
    /// The entries of the next group.
    pub(super) lines: Lines,
    /// Who must hear of that group.
    pub(super) audience: Audience,
    /// Whether nothing may be added any more.
    pub(super) closed: bool,
    /// Calls whose entries are in the next group, or in the one that is being written.
    calls: VecDeque<WaitingCall>,
    /// The next group's number.
    group: u64,
    /// The buffer of a group that was written.
    spare: Lines,
}

/// Who must hear what became of a group, its calls aside.
#[derive(Default)]
pub(super) struct Audience {
    /// Tasks.
    pub(super) waiters: Vec<Waiter>,
    /// Whether one of the entries is waited for by nobody: its loss would go unseen.
    pub(super) unwatched: bool,
}

/// Entries that are written at once.
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) lines: Lines,
    pub(super) audience: Audience,
}

/// A group that the writing thread was given.
pub(super) struct HandedOn {
    pub(super) number: u64,
    pub(super) audience: Audience,
    pub(super) outcome: Outcome,
}

/// A call whose entry is not written yet.
pub(super) struct WaitingCall {
    pub(super) permit: Permit,
    pub(super) call: CallId,
    pub(super) asker: Asker,
    group: u64,
    deadline: Instant,
}

impl Waiting {
    /// Has a call wait for the entry that was added last.
    pub(super) fn add_call(
        &mut self,
        (permit, call): (Permit, CallId),
        asker: Asker,
        deadline: Instant,
    ) {
        let group = self.group;
        self.calls.push_back(WaitingCall { permit, call, asker, group, deadline });
    }

    /// Takes what gathered, when there is something.
    pub(super) fn take_group(&mut self) -> Option<Group> {
        if self.lines.is_empty() {
            return None;
        }
        let number = self.group;
        self.group = self.group.saturating_add(1);
        let lines = std::mem::replace(&mut self.lines, std::mem::take(&mut self.spare));
        Some(Group { number, lines, audience: std::mem::take(&mut self.audience) })
    }

    /// Takes back the buffer of a group that was written.
    pub(super) fn give_back(&mut self, mut lines: Lines) {
        lines.clear();
        self.spare = lines;
    }

    /// The next call of a group whose fate is known.
    pub(super) fn take_settled(&mut self, group: u64) -> Option<WaitingCall> {
        self.calls.pop_front_if(|call| call.group <= group)
    }

    /// The next call whose patience is over.
    pub(super) fn take_late(&mut self, now: Instant) -> Option<WaitingCall> {
        self.calls.pop_front_if(|call| call.deadline <= now)
    }

    /// When the next call's patience is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.calls.front().map(|call| call.deadline)
    }

    /// Who waits for calls that will not be answered by a group any more.
    pub(super) fn forget_calls(&mut self) -> Vec<Asker> {
        self.calls.drain(..).map(|call| call.asker).collect()
    }
}
