//! Records of people who sign in, in memory: of each tenant its own.
//!
//! Invariant: a change is here only after it is durable; when a session was last used is the exception, and is stored with its
//! next text: after a restart it may seem to have rested longer than it did.
//! Invariant: a text is found by its keyed hash, so that looking for it tells a guesser nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use strongroom_policy::id::{SessionId, TenantId, UserId};
use strongroom_policy::moment::Moment;
use strongroom_protocol::person::MAX_SESSIONS_OF_ONE;
use strongroom_sys::Secret;

use super::attempts::Attempts;
use super::challenge::{Scheme, VerifierRecord};
use super::sessions::SessionRecord;
use super::signing::SigningKey;
use super::sources::Sources;
use super::tries::TriesRecord;
use crate::records::RecordName;
use crate::tables::{Malformed, decode};

/// What there is of one person beside their own record; all of it dies with their shred key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Personal {
    /// The password's verifier.
    Password,
    /// What was tried in vain.
    Tries,
    /// An invitation.
    Invitation,
    /// A session.
    Session(SessionId),
}

/// An invitation, as it is stored: the keyed hash of its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvitationRecord {
    /// The hash.
    pub hash: [u8; 32],
    /// When it was made.
    pub made: Moment,
    /// When it is over.
    pub expires: Moment,
}

/// People of one tenant who sign in.
#[derive(Default)]
pub struct People {
    passwords: HashMap<UserId, VerifierRecord>,
    tries: HashMap<UserId, TriesRecord>,
    invitations: HashMap<UserId, InvitationRecord>,
    by_ticket: HashMap<[u8; 32], UserId>,
    sessions: BTreeMap<(UserId, SessionId), SessionRecord>,
    by_text: HashMap<[u8; 32], (UserId, SessionId)>,
    most_iterations: Option<u32>,
}

/// Signing in, of whichever tenant's people.
#[derive(Default)]
pub struct SignIns {
    /// What failed of nobody in particular.
    pub nobody: Option<TriesRecord>,
    /// What signs sessions, once there was need of it.
    pub signing: Option<SigningKey>,
    /// Attempts under way.
    pub attempts: Attempts,
    /// Networks that failed.
    pub sources: Sources,
}

/// A person and their tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// The tenant.
    pub tenant: TenantId,
    /// The person.
    pub user: UserId,
}

impl People {
    /// Takes in a record out of the store.
    ///
    /// # Errors
    /// When no version of this program wrote it.
    pub fn read(&mut self, user: UserId, part: Personal, plain: &Secret) -> Result<(), Malformed> {
        match part {
            Personal::Password => self.put_password(user, decode(plain)?),
            Personal::Tries => self.put_tries(user, Some(decode(plain)?)),
            Personal::Invitation => self.put_invitation(user, Some(decode(plain)?)),
            Personal::Session(id) => self.put_session(user, id, decode(plain)?),
        }
        Ok(())
    }

    /// Who has a record here.
    pub fn owners(&self) -> BTreeSet<UserId> {
        let sessions = self.sessions.keys().map(|(user, _)| user);
        let others = self.passwords.keys().chain(self.tries.keys()).chain(self.invitations.keys());
        sessions.chain(others).copied().collect()
    }

    /// Everything that there is of a person.
    pub fn names_of(&self, user: UserId) -> Vec<RecordName> {
        let has = [
            (Personal::Password, self.passwords.contains_key(&user)),
            (Personal::Tries, self.tries.contains_key(&user)),
            (Personal::Invitation, self.invitations.contains_key(&user)),
        ];
        let parts = has.into_iter().filter_map(|(part, has)| has.then_some(part));
        let sessions = self.sessions_of(user).map(|(id, _)| Personal::Session(id));
        parts.chain(sessions).map(|part| RecordName::Personal(user, part)).collect()
    }

    /// Forgets a person whose records are gone.
    pub fn remove_user(&mut self, user: UserId) {
        self.passwords.remove(&user);
        self.count_iterations();
        self.put_tries(user, None);
        self.put_invitation(user, None);
        let sessions: Vec<SessionId> = self.sessions_of(user).map(|(id, _)| id).collect();
        for id in sessions {
            self.remove_session(user, id);
        }
    }

    /// A person's password.
    pub fn password(&self, user: UserId) -> Option<&VerifierRecord> {
        self.passwords.get(&user)
    }

    /// Whose passwords there are.
    pub fn with_password(&self) -> impl Iterator<Item = UserId> {
        self.passwords.keys().copied()
    }

    /// Takes in a password.
    pub fn put_password(&mut self, user: UserId, record: VerifierRecord) {
        self.passwords.insert(user, record);
        self.count_iterations();
    }

    /// The most iterations that a verifier of another system has; `None` when there is none.
    pub fn most_iterations(&self) -> Option<u32> {
        self.most_iterations
    }

    fn count_iterations(&mut self) {
        let old = self.passwords.values().filter_map(|record| match record.scheme {
            Scheme::Pbkdf2Sha256 { iterations, .. } => Some(iterations),
            Scheme::Argon2id { .. } => None,
        });
        self.most_iterations = old.max();
    }

    /// What was tried in vain.
    pub fn tries(&self, user: UserId) -> TriesRecord {
        self.tries.get(&user).copied().unwrap_or(TriesRecord::none())
    }

    /// Takes in what was tried in vain, or that nothing was.
    pub fn put_tries(&mut self, user: UserId, record: Option<TriesRecord>) {
        match record {
            Some(record) => drop(self.tries.insert(user, record)),
            None => drop(self.tries.remove(&user)),
        }
    }

    /// Whom an invitation is for, and when it is over.
    pub fn invited(&self, hash: &[u8; 32]) -> Option<(UserId, Moment)> {
        let user = *self.by_ticket.get(hash)?;
        self.invitations.get(&user).map(|record| (user, record.expires))
    }

    /// Takes in a person's invitation in the place of another one, or that there is none.
    pub fn put_invitation(&mut self, user: UserId, record: Option<InvitationRecord>) {
        let hash = record.as_ref().map(|record| record.hash);
        let old = match record {
            Some(record) => self.invitations.insert(user, record),
            None => self.invitations.remove(&user),
        };
        if let Some(old) = old {
            self.by_ticket.remove(&old.hash);
        }
        if let Some(hash) = hash {
            self.by_ticket.insert(hash, user);
        }
    }

    /// The session of a text, while the text counts.
    pub fn session_of(&self, hash: &[u8; 32], now: Moment) -> Option<(UserId, SessionId)> {
        let (user, id) = *self.by_text.get(hash)?;
        let record = self.sessions.get(&(user, id))?;
        (record.is_text(hash, now) && !record.is_over(now)).then_some((user, id))
    }

    /// A session.
    pub fn session(&self, user: UserId, id: SessionId) -> Option<&SessionRecord> {
        self.sessions.get(&(user, id))
    }

    /// Says that a session was used.
    pub fn saw(&mut self, user: UserId, id: SessionId, now: Moment) {
        if let Some(record) = self.sessions.get_mut(&(user, id)) {
            record.seen = record.seen.max(now);
        }
    }

    /// A person's sessions, those that are over too.
    pub fn sessions_of(&self, user: UserId) -> impl Iterator<Item = (SessionId, &SessionRecord)> {
        let (first, last) = (SessionId::from_random([0; 16]), SessionId::from_random([0xff; 16]));
        self.sessions.range((user, first)..=(user, last)).map(|((_, id), record)| (*id, record))
    }

    /// All sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (UserId, SessionId, &SessionRecord)> {
        self.sessions.iter().map(|((user, id), record)| (*user, *id, record))
    }

    /// Whose a session is.
    pub fn owner_of(&self, id: SessionId) -> Option<UserId> {
        self.sessions.keys().find(|(_, session)| *session == id).map(|(user, _)| *user)
    }

    /// The sessions that must end before a person gets another one: those that are over, and whichever rested longest.
    pub fn in_the_way(&self, user: UserId, now: Moment) -> Vec<SessionId> {
        let (mut gone, mut live) = (Vec::new(), Vec::new());
        for (id, record) in self.sessions_of(user) {
            if record.is_over(now) { gone.push(id) } else { live.push((record.seen, id)) }
        }
        live.sort_unstable();
        let over = live.len().saturating_add(1).saturating_sub(MAX_SESSIONS_OF_ONE);
        gone.extend(live.into_iter().take(over).map(|(_, id)| id));
        gone
    }

    /// Takes in a session that is durable, new or under another text.
    pub fn put_session(&mut self, user: UserId, id: SessionId, record: SessionRecord) {
        self.remove_session(user, id);
        let former = record.former.map(|(hash, _)| hash);
        for hash in std::iter::once(record.hash).chain(former) {
            self.by_text.insert(hash, (user, id));
        }
        self.sessions.insert((user, id), record);
    }

    /// Takes a session out.
    pub fn remove_session(&mut self, user: UserId, id: SessionId) {
        if let Some(record) = self.sessions.remove(&(user, id)) {
            self.by_text.remove(&record.hash);
            if let Some((former, _)) = record.former {
                self.by_text.remove(&former);
            }
        }
    }
}
