//! What is said of people on `ask.sock`: sign-in, sessions, passwords.
//!
//! Invariant: the gateway sends what a person presented; only the keeper says who that is, and makes what signs them in.
//! Invariant: no answer carries a verifier, a counter or an id of a person.
//! Distrusts: the address and the program that the gateway tells: they may restrict, never allow.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use strongroom_policy::id::SessionId;
use strongroom_policy::moment::Moment;
use strongroom_policy::name::Label;

use crate::SecretBytes;

/// The memory of Argon2id for new passwords, KiB: 64 MiB, above the least that OWASP advises (19 MiB with two passes).
pub const ARGON2ID_KIB: u32 = 64 * 1024;
/// Its passes.
pub const ARGON2ID_PASSES: u32 = 3;
/// Its lanes.
pub const ARGON2ID_LANES: u32 = 1;
/// Length of a password's salt.
pub const SALT_BYTES: usize = 16;
/// Length of what Argon2id or PBKDF2 makes of a password.
pub const TAG_BYTES: usize = 32;
/// Fewest and most iterations of an imported PBKDF2 verifier.
pub const PBKDF2_ITERATIONS: std::ops::RangeInclusive<u32> = 100_000..=2_000_000;
/// Longest text of a session.
pub const MAX_SESSION_BYTES: usize = 2048;
/// Most sessions of one person: one more ends the one that rested longest.
pub const MAX_SESSIONS_OF_ONE: usize = 32;

/// A question about people.
#[derive(Debug, Serialize, Deserialize)]
pub enum PersonAsk {
    /// How a password must be hashed to sign in under this name. Every name has an answer.
    Begin {
        /// The name.
        login: Login,
        /// Who says so.
        from: Told,
    },
    /// Signs in with what the password was hashed to.
    Finish {
        /// The hashes.
        proof: Proof,
        /// Who says so.
        from: Told,
    },
    /// Whose session this is; now and then it is answered with a new text.
    Look {
        /// Its text.
        session: SecretBytes,
        /// Who says so.
        from: Told,
    },
    /// All sessions of whoever presents this one.
    Sessions {
        /// Its text.
        session: SecretBytes,
    },
    /// Ends sessions of whoever presents this one.
    End {
        /// Its text.
        session: SecretBytes,
        /// Which.
        which: Which,
    },
    /// As [`PersonAsk::Begin`], for whoever presents this session.
    BeginAgain {
        /// Its text.
        session: SecretBytes,
        /// Who says so.
        from: Told,
    },
    /// Sets a new password of whoever presents a session and the old password. Every session ends, and a new one begins.
    Change {
        /// The session's text.
        session: SecretBytes,
        /// The old password's hashes.
        proof: Proof,
        /// The new one.
        new: NewVerifier,
        /// Who says so.
        from: Told,
    },
    /// Whom this invitation is for. It stays unspent.
    Invitation {
        /// Its text.
        ticket: SecretBytes,
        /// Who says so.
        from: Told,
    },
    /// Spends an invitation: sets its person's password, and ends every session that they had.
    Redeem {
        /// Its text.
        ticket: SecretBytes,
        /// The password.
        new: NewVerifier,
        /// Who says so.
        from: Told,
    },
}

/// The keeper's answers about people.
#[derive(Debug, Serialize, Deserialize)]
pub enum PersonAnswer {
    /// How to hash.
    Challenge(Challenge),
    /// Signed in.
    Session(Issued),
    /// Whose session it is.
    Me(Me),
    /// All sessions of one person.
    Sessions(Vec<SessionRow>),
    /// Whom an invitation is for.
    Invited(Label),
    /// It is done.
    Done,
    /// It is not done.
    Refused {
        /// Why.
        why: NotSignedIn,
        /// When trying again can help.
        retry_after_secs: Option<u32>,
    },
}

/// A person's name at sign-in, unique within their tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Login {
    /// The tenant's name; `None` for the first one.
    pub tenant: Option<Label>,
    /// The person's.
    pub name: Label,
}

/// Where a request came from, as told by the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The client's address.
    pub address: IpAddr,
    /// Its program.
    pub agent: Agent,
}

/// The family of a client's program: enough for its user to know it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agent {
    /// None of these.
    Other,
    /// Chrome or Chromium.
    Chrome,
    /// Edge.
    Edge,
    /// Firefox.
    Firefox,
    /// Safari.
    Safari,
    /// A tool on a command line.
    Tool,
}

/// Names one attempt to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptId(pub [u8; 16]);

/// How a password must be hashed. One alone does not show whether its name is known or its verifier an imported one; whoever
/// compares several can find out, which is the gateway (SECURITY.md, Known faults).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Names the attempt; good for one [`Proof`] within two minutes.
    pub attempt: AttemptId,
    /// Argon2id with the parameters above and this salt.
    pub salt: [u8; SALT_BYTES],
    /// PBKDF2 as well, for as long as any imported verifier is there.
    pub pbkdf2: Option<Pbkdf2>,
}

/// PBKDF2-HMAC-SHA256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pbkdf2 {
    /// The salt.
    pub salt: [u8; SALT_BYTES],
    /// How many iterations.
    pub iterations: u32,
    /// How many more, thrown away: so that each attempt costs the same.
    pub idle: u32,
}

/// What a password was hashed to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proof {
    /// The attempt.
    pub attempt: AttemptId,
    /// Argon2id's 32 bytes.
    pub argon2id: SecretBytes,
    /// PBKDF2's 32 bytes, when it was asked for.
    pub pbkdf2: Option<SecretBytes>,
}

/// A new password, hashed by Argon2id.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewVerifier {
    /// The salt, drawn for it.
    pub salt: [u8; SALT_BYTES],
    /// The 32 bytes.
    pub tag: SecretBytes,
}

/// Which sessions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// The one that is presented.
    This,
    /// One of the same person's.
    One(SessionId),
    /// All but the one that is presented.
    Others,
    /// All.
    All,
}

/// A session that begins, or goes on under a new text.
#[derive(Debug, Serialize, Deserialize)]
pub struct Issued {
    /// The text; never told again.
    pub text: SecretBytes,
    /// When it ends at the latest.
    pub ends: Moment,
}

/// Whose session it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct Me {
    /// The person's name.
    pub name: Label,
    /// The session.
    pub session: SessionId,
    /// When it ends at the latest.
    pub ends: Moment,
    /// Its new text; the old one ends soon.
    pub renewed: Option<Issued>,
}

/// A session as its person sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Whether it is the one that asks.
    pub this: bool,
    /// When its person signed in.
    pub began: Moment,
    /// When it was last used.
    pub seen: Moment,
    /// When it ends at the latest.
    pub ends: Moment,
    /// From where, as told by the gateway at its sign-in.
    pub told: Told,
}

/// The public half of what signs sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey {
    /// Its name: the thumbprint of RFC 7638.
    pub kid: String,
    /// RSA's modulus, big-endian.
    pub modulus: Vec<u8>,
    /// RSA's exponent, big-endian.
    pub exponent: Vec<u8>,
}

/// Why somebody is not signed in, or a session does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NotSignedIn {
    /// Unknown, wrong, locked or disabled.
    SignIn,
    /// Too many failures from this address.
    TooMany,
    /// The attempt is unknown, over or spent.
    Attempt,
    /// The session is unknown, ended or over.
    Session,
    /// No such session of theirs.
    OtherSession,
    /// The invitation is unknown, spent or over.
    Invitation,
    /// The vault is sealed.
    Sealed,
    /// The vault was restored, and nobody has looked at it.
    Restored,
    /// No room for another question.
    Busy,
    /// Journal or store do not write.
    Unwritten,
    /// A fault of ours.
    Internal,
}

impl NotSignedIn {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::SignIn,
        Self::TooMany,
        Self::Attempt,
        Self::Session,
        Self::OtherSession,
        Self::Invitation,
        Self::Sealed,
        Self::Restored,
        Self::Busy,
        Self::Unwritten,
        Self::Internal,
    ];

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.row().1
    }

    /// One sentence that says what is wrong and what to do.
    pub const fn message(self) -> &'static str {
        self.row().2
    }

    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::SignIn => (
                "SR-SIGNIN-001",
                401,
                "name and password do not sign in; after several failures wait up to 15 minutes, or ask your operator for an invitation",
            ),
            Self::TooMany => (
                "SR-SIGNIN-002",
                429,
                "too many failures from this address; wait as long as Retry-After says",
            ),
            Self::Attempt => ("SR-SIGNIN-003", 409, "this attempt is over; sign in again"),
            Self::Session => ("SR-SESSION-001", 401, "the session is over; sign in again"),
            Self::OtherSession => {
                ("SR-SESSION-002", 404, "there is no such session; list them again")
            }
            Self::Invitation => (
                "SR-INVITE-001",
                403,
                "the invitation is unknown, used or over; ask your operator for another one",
            ),
            Self::Sealed => ("SR-SEALED-001", 503, "the vault is sealed; ask your operator"),
            Self::Restored => (
                "SR-BACKUP-011",
                503,
                "the vault was restored; nobody signs in until an operator has looked at it",
            ),
            Self::Busy => ("SR-LIMIT-004", 503, "too much at once; try again in a moment"),
            Self::Unwritten => {
                ("SR-STORE-001", 503, "nothing can be written just now; ask your operator")
            }
            Self::Internal => ("SR-INTERNAL-001", 500, "a fault of ours; try again"),
        }
    }
}

impl Told {
    /// What is counted together: an address of IPv4, the first 64 bits of one of IPv6; one in the other's dress is itself.
    pub fn network(&self) -> IpAddr {
        match self.address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Agent, Told};

    // Red when an address of IPv4 in IPv6's dress is counted as one of 2^64.
    #[test]
    fn an_address_is_counted_with_its_neighbours_in_whatever_dress() {
        let network = |text: &str| {
            Told { address: text.parse().unwrap(), agent: Agent::Other }.network().to_string()
        };
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
