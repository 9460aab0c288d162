//! Attempts to sign in: begun, and not yet ended.
//!
//! Invariant: an attempt is ended once, within its life; how many there are is bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use strongroom_protocol::person::{AttemptId, SALT_BYTES};

use super::table::Person;

/// Most attempts: the gateway hashes fewer at once.
const MAX_ATTEMPTS: usize = 256;
/// How long one lives: a full queue of hashing is shorter, on a slow machine too.
const LIFE: Duration = Duration::from_mins(2);

/// What an attempt was begun for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Who is tried: nobody, when no person has this name.
    pub(super) person: Option<Person>,
    /// What it may do when it is good.
    pub(super) purpose: Purpose,
    /// The salt of Argon2id that it was told: of the verifier, or for its successor.
    pub(super) salt: [u8; SALT_BYTES],
}

/// What a good proof is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A session.
    SignIn,
    /// Another password.
    Change,
}

/// Attempts under way.
#[derive(Default)]
pub struct Attempts {
    waiting: HashMap<AttemptId, (Attempt, Instant)>,
}

impl Attempts {
    /// Keeps an attempt; answers whether there was room.
    pub(super) fn begin(&mut self, id: AttemptId, attempt: Attempt, now: Instant) -> bool {
        if self.waiting.len() >= MAX_ATTEMPTS {
            self.waiting.retain(|_, (_, begun)| now.saturating_duration_since(*begun) < LIFE);
        }
        let room = self.waiting.len() < MAX_ATTEMPTS;
        if room {
            self.waiting.insert(id, (attempt, now));
        }
        room
    }

    /// Takes an attempt out for the purpose that it was begun for: for another one it is none, and is spent all the same.
    pub(super) fn end(&mut self, id: AttemptId, purpose: Purpose, now: Instant) -> Option<Attempt> {
        let (attempt, begun) = self.waiting.remove(&id)?;
        let lives = now.saturating_duration_since(begun) < LIFE && attempt.purpose == purpose;
        lives.then_some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use strongroom_protocol::person::AttemptId;

    use super::{Attempt, Attempts, LIFE, MAX_ATTEMPTS, Purpose};

    const ATTEMPT: Attempt = Attempt { person: None, purpose: Purpose::SignIn, salt: [0; 16] };

    fn id(number: usize) -> AttemptId {
        AttemptId(u128::try_from(number).unwrap().to_be_bytes())
    }

    // Red when `end` leaves the attempt where it was.
    #[test]
    fn an_attempt_is_ended_once_in_time_and_for_its_purpose() {
        let (now, mut attempts) = (Instant::now(), Attempts::default());
        for number in 0..3 {
            assert!(attempts.begin(id(number), ATTEMPT, now));
        }
        assert_eq!(attempts.end(id(0), Purpose::SignIn, now), Some(ATTEMPT));
        assert_eq!(attempts.end(id(0), Purpose::SignIn, now), None);
        assert_eq!(attempts.end(id(1), Purpose::Change, now), None);
        assert_eq!(attempts.end(id(1), Purpose::SignIn, now), None);
        assert_eq!(attempts.end(id(2), Purpose::SignIn, now + LIFE), None);
    }

    #[test]
    fn attempts_that_nobody_ends_make_room_when_their_time_is_over() {
        let (now, mut attempts) = (Instant::now(), Attempts::default());
        for number in 0..MAX_ATTEMPTS {
            assert!(attempts.begin(id(number), ATTEMPT, now));
        }
        assert!(!attempts.begin(id(MAX_ATTEMPTS), ATTEMPT, now));
        assert!(attempts.begin(id(MAX_ATTEMPTS), ATTEMPT, now + LIFE));
    }
}
