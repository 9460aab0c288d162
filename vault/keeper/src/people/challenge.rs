//! How a password is to be hashed, and whether what it was hashed to is right.
//!
//! Invariant: a verifier is kept as a MAC under the pepper, which never leaves the keeper: whoever has store and shred key has
//! nothing to guess against.
//! Invariant: one challenge alone does not tell whether its name is known, nor how old its verifier is. Several, compared, do, and
//! only the gateway sees any (SECURITY.md, Known faults).

use serde::{Deserialize, Serialize};
use strongroom_policy::id::UserId;
use strongroom_policy::moment::Moment;
use strongroom_protocol::operator::people::ImportedVerifier;
use strongroom_protocol::person::{
    ARGON2ID_KIB, ARGON2ID_LANES, ARGON2ID_PASSES, AttemptId, Challenge, Login, NewVerifier,
    Pbkdf2, Proof, SALT_BYTES, TAG_BYTES,
};
use subtle::ConstantTimeEq;

use super::attempts::{Attempt, Purpose};
use super::table::Person;
use super::tries::{Trial, TriesRecord};
use crate::keys::{self, Pepper};
use crate::vault::Vault;

/// The pepper of this version; a later one is another number.
const PEPPER: u32 = 1;

/// A person's password, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierRecord {
    /// How it was hashed before it came here.
    pub scheme: Scheme,
    /// Under which pepper.
    pub pepper: u32,
    /// HMAC of the hash under it.
    pub mac: [u8; TAG_BYTES],
    /// When it was set.
    pub set: Moment,
}

/// How a password was hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    /// By us.
    Argon2id {
        /// KiB.
        memory: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// The salt.
        salt: [u8; SALT_BYTES],
    },
    /// By another system, until its person signs in.
    Pbkdf2Sha256 {
        /// Iterations.
        iterations: u32,
        /// The salt.
        salt: [u8; SALT_BYTES],
    },
}

/// What became of a proof.
pub(super) enum Judged {
    /// It is right.
    Right {
        /// Whose.
        person: Person,
        /// What replaces a verifier of another system.
        successor: Option<VerifierRecord>,
    },
    /// It is not, or may not be tried.
    Wrong {
        /// Whose password was tried, where that counts against it.
        counts: Option<Person>,
    },
}

/// The verifier of a password that somebody may set.
pub(super) fn wrap(vault: &Vault, user: UserId, new: &NewVerifier, now: Moment) -> VerifierRecord {
    let mac = new.tag.expose(|tag| keys::tag_verifier(&vault.pepper, &user, tag));
    VerifierRecord { scheme: ours(new.salt), pepper: PEPPER, mac, set: now }
}

/// The verifier of a password that another system hashed.
pub fn wrap_imported(
    pepper: &Pepper,
    (user, imported): (UserId, &ImportedVerifier),
    now: Moment,
) -> VerifierRecord {
    let mac = imported.hash.expose(|hash| keys::tag_verifier(pepper, &user, hash));
    let scheme = Scheme::Pbkdf2Sha256 { iterations: imported.iterations, salt: imported.salt };
    VerifierRecord { scheme, pepper: PEPPER, mac, set: now }
}

const fn ours(salt: [u8; SALT_BYTES]) -> Scheme {
    Scheme::Argon2id { memory: ARGON2ID_KIB, passes: ARGON2ID_PASSES, lanes: ARGON2ID_LANES, salt }
}

/// How a password is to be hashed that is said to be this person's; for nobody as for somebody.
///
/// # Errors
/// When the kernel gives no randomness.
pub(super) fn challenge(
    vault: &Vault,
    (person, login, purpose): (Option<Person>, &Login, Purpose),
) -> Result<(Attempt, Challenge), getrandom::Error> {
    let (mut attempt, mut fresh) = ([0; 16], [0; SALT_BYTES]);
    getrandom::fill(&mut attempt)?;
    // Always drawn, so that drawing tells nothing.
    getrandom::fill(&mut fresh)?;
    let [decoy, other_decoy] = decoys(vault, login);
    let most = vault.tables.tenants().filter_map(|tenant| tenant.people.most_iterations()).max();
    let idle = |used: u32| most.unwrap_or(0).saturating_sub(used);
    let verifier =
        person.and_then(|one| vault.tables.tenant(one.tenant)?.people.password(one.user));
    let (salt, legacy) = match verifier.map(|one| &one.scheme) {
        Some(Scheme::Argon2id { salt, .. }) => (*salt, None),
        Some(Scheme::Pbkdf2Sha256 { iterations, salt }) => (fresh, Some((*iterations, *salt))),
        None => (decoy, None),
    };
    let (iterations, old_salt) = legacy.unwrap_or((most.unwrap_or(0), other_decoy));
    let pbkdf2 = most.map(|_| Pbkdf2 { salt: old_salt, iterations, idle: idle(iterations) });
    let challenge = Challenge { attempt: AttemptId(attempt), salt, pbkdf2 };
    Ok((Attempt { person, purpose, salt }, challenge))
}

/// Salts of a name that has none: the same ones each time.
fn decoys(vault: &Vault, login: &Login) -> [[u8; SALT_BYTES]; 2] {
    let tenant = login.tenant.as_ref().map_or("", |tenant| tenant.as_ref());
    let tag = keys::tag_decoy(&vault.token_hash, tenant.as_bytes(), login.name.as_ref().as_bytes());
    let half = |half: Option<&[u8; SALT_BYTES]>| half.copied().unwrap_or_default();
    [half(tag.first_chunk()), half(tag.last_chunk())]
}

/// Whether a proof is right. The same is computed for everybody, and every test is made.
pub(super) fn judge(vault: &Vault, attempt: &Attempt, proof: &Proof, now: Moment) -> Judged {
    let person = attempt.person;
    let user = person.map_or(NOBODY, |person| person.user);
    let tenant = person.and_then(|person| vault.tables.tenant(person.tenant));
    let verifier = tenant.and_then(|tenant| tenant.people.password(user));
    let old = verifier.map(|one| matches!(one.scheme, Scheme::Pbkdf2Sha256 { .. }));
    let mac = |tag: &[u8]| keys::tag_verifier(&vault.pepper, &user, tag);
    let by_argon2id = proof.argon2id.expose(mac);
    let by_pbkdf2 = proof.pbkdf2.as_ref().map(|tag| tag.expose(mac));
    let shown = if old == Some(true) { by_pbkdf2 } else { Some(by_argon2id) };
    let kept = verifier.map(|one| one.mac);
    // A MAC of nothing that was ever set, for whoever has none.
    let same = shown.unwrap_or_default().ct_eq(&kept.unwrap_or([0; TAG_BYTES]));
    let whole = proof.argon2id.len() == TAG_BYTES
        && proof.pbkdf2.as_ref().is_none_or(|tag| tag.len() == TAG_BYTES);
    let tries = tenant.map_or(TriesRecord::none(), |tenant| tenant.people.tries(user));
    let trial = tries.trial(now);
    let acts = person.is_some_and(|person| vault.tables.acts(person));
    let right = bool::from(same) && whole && kept.is_some() && shown.is_some();
    match person {
        Some(person) if right && acts && trial == Trial::Open => {
            let renewed = VerifierRecord {
                scheme: ours(attempt.salt),
                pepper: PEPPER,
                mac: by_argon2id,
                set: verifier.map_or(now, |one| one.set),
            };
            Judged::Right { person, successor: (old == Some(true)).then_some(renewed) }
        }
        Some(_) if trial == Trial::Open && kept.is_some() => Judged::Wrong { counts: person },
        Some(_) | None => Judged::Wrong { counts: None },
    }
}

/// An id that nobody has: ids are drawn at random.
const NOBODY: UserId = UserId::from_random([0; 16]);
