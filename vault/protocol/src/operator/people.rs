//! Operators about people's ways to sign in: invitations, imported passwords, sessions.
//!
//! Invariant: no operator makes a session: an invitation is redeemed by whoever it was handed to.

use serde::{Deserialize, Serialize};
use strongroom_policy::id::{SessionId, UserId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::Label;

use crate::SecretBytes;
use crate::operator::Pick;
use crate::person::{SALT_BYTES, SessionRow};

/// How long an invitation lives.
pub const INVITATION_LIFE: std::time::Duration = std::time::Duration::from_hours(24);

/// What an operator may ask for.
#[derive(Debug, Serialize, Deserialize)]
pub enum PeopleRequest {
    /// Makes an invitation, in the place of an earlier one: whoever has it sets the person's password.
    Invite(Pick),
    /// Takes in a password that another system hashed, for a person who has none.
    Import(Box<ImportedVerifier>),
    /// Lists sessions, of one person or all.
    Sessions(Option<Pick>),
    /// Ends a session.
    Revoke(SessionId),
    /// Ends all sessions, of one person or all.
    RevokeAll(Option<Pick>),
}

/// The answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum PeopleAnswer {
    /// An invitation; its text is told once.
    Invitation(Box<Invitation>),
    /// Sessions.
    Sessions(Vec<PersonSession>),
    /// How many sessions were ended.
    Ended(u32),
}

/// PBKDF2-HMAC-SHA256 of a password, as another system kept it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportedVerifier {
    /// Whose.
    pub user: Pick,
    /// The salt.
    pub salt: [u8; SALT_BYTES],
    /// How many iterations: see [`crate::person::PBKDF2_ITERATIONS`].
    pub iterations: u32,
    /// The 32 bytes.
    pub hash: SecretBytes,
}

/// An invitation that was made.
#[derive(Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// For whom.
    pub user: UserId,
    /// Their name.
    pub label: Label,
    /// Its text.
    pub text: SecretBytes,
    /// Where people reach the gateway.
    pub public_url: String,
    /// When it is over.
    pub expires: Moment,
}

/// A session and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonSession {
    /// Whose.
    pub user: UserId,
    /// Their name.
    pub label: Label,
    /// The session.
    pub row: SessionRow,
}
