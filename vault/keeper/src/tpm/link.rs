//! The keeper's end of the TPM helper's socket.
//!
//! Invariant: one question at a time; every wait ends; an answer to another question is passed over.
//! Invariant: used on threads that may wait, never on the one that decides.
//! Distrusts: the helper's bytes.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use strongroom_protocol::SecretBytes;
use strongroom_protocol::frame::{decode, encode, split_first};
use strongroom_protocol::tpm::{
    Answer, Ask, Blob, FromTpm, Health, MAX_TPM_BYTES, Refusal, TPM_KEY_BYTES, ToTpm,
};
use zeroize::Zeroizing;

/// The way to the TPM's helper.
#[derive(Debug)]
pub struct Link {
    line: Mutex<Numbered>,
}

#[derive(Debug)]
struct Numbered {
    socket: UnixDatagram,
    number: u64,
}

/// Why the TPM did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// As the helper says.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No answer in time.
    #[error("the TPM's helper does not answer")]
    Silent,
    /// An answer to another kind of question, or none at all.
    #[error("the TPM's helper answers something else than it was asked")]
    Unexpected,
    /// The socket.
    #[error("the TPM helper's socket: {0}")]
    Socket(String),
}

/// How long one question may take: the chip's slowest command, several times over.
pub const PATIENCE: Duration = Duration::from_secs(20);

impl Link {
    /// Over an inherited socket.
    pub const fn new(socket: UnixDatagram) -> Self {
        Self { line: Mutex::new(Numbered { socket, number: 0 }) }
    }

    /// What the TPM says of itself.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn health(&self, patience: Duration) -> Result<Health, LinkError> {
        let Answer::Health(health) = self.ask(Ask::Health, patience)? else {
            return Err(LinkError::Unexpected);
        };
        Ok(health)
    }

    /// A counter's value, read or moved.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn value(&self, ask: Ask, patience: Duration) -> Result<u64, LinkError> {
        let Answer::Value(value) = self.ask(ask, patience)? else {
            return Err(LinkError::Unexpected);
        };
        Ok(value)
    }

    /// What was sealed.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn sealed(&self, ask: Ask, patience: Duration) -> Result<Blob, LinkError> {
        let Answer::Sealed(blob) = self.ask(ask, patience)? else {
            return Err(LinkError::Unexpected);
        };
        Ok(blob)
    }

    /// What was unsealed.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub fn unsealed(&self, ask: Ask, patience: Duration) -> Result<SecretBytes, LinkError> {
        let Answer::Unsealed(key) = self.ask(ask, patience)? else {
            return Err(LinkError::Unexpected);
        };
        if key.len() == TPM_KEY_BYTES { Ok(key) } else { Err(LinkError::Unexpected) }
    }

    /// Asks, and waits for the answer as long as `patience`; a question of another thread is waited for before.
    ///
    /// # Errors
    /// Never `Unexpected`.
    pub fn ask(&self, ask: Ask, patience: Duration) -> Result<Answer, LinkError> {
        // One that panicked holding it left nothing half done: an answer carries its question's number.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.number = line.number.saturating_add(1);
        let question = encode(&ToTpm { number: line.number, ask }, MAX_TPM_BYTES);
        let question = question.map_err(|error| LinkError::Socket(error.to_string()))?;
        let begun = Instant::now();
        let left = || patience.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        line.socket.set_write_timeout(left()).map_err(|error| socket(&error))?;
        line.socket.send(&question).map_err(|error| socket(&error))?;
        let mut datagram = Zeroizing::new(vec![0; MAX_TPM_BYTES.saturating_add(ROOM)]);
        while let Some(left) = left() {
            line.socket.set_read_timeout(Some(left)).map_err(|error| socket(&error))?;
            let length = match line.socket.recv(&mut datagram) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(socket(&error)),
            };
            match datagram.get(..length).and_then(parse) {
                Some(FromTpm { number, answer }) if number == line.number => {
                    return if let Answer::Refused(refusal) = answer {
                        Err(refusal.into())
                    } else {
                        Ok(answer)
                    };
                }
                // Of a question that was given up, or nothing of ours.
                Some(_) | None => tracing::warn!(length, "the TPM's helper said something else"),
            }
        }
        Err(LinkError::Silent)
    }
}

/// A datagram of more than the limit is longer than what is read of it, and so is no message.
const ROOM: usize = 64;

fn parse(datagram: &[u8]) -> Option<FromTpm> {
    match split_first(datagram, MAX_TPM_BYTES) {
        Ok(Some((body, used))) if used == datagram.len() => decode(body).ok(),
        Ok(_) | Err(_) => None,
    }
}

fn socket(error: &io::Error) -> LinkError {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        LinkError::Silent
    } else {
        LinkError::Socket(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use strongroom_protocol::frame::encode;
    use strongroom_protocol::tpm::{Answer, Ask, Blob, FromTpm, MAX_TPM_BYTES, Refusal};

    use super::{Link, LinkError};

    const SHORT: Duration = Duration::from_millis(300);

    fn say(helper: &UnixDatagram, number: u64, answer: Answer) {
        helper.send(&encode(&FromTpm { number, answer }, MAX_TPM_BYTES).unwrap()).unwrap();
    }

    fn pair() -> (Link, UnixDatagram) {
        let (ours, helper) = UnixDatagram::pair().unwrap();
        (Link::new(ours), helper)
    }

    #[test]
    fn an_answer_to_another_question_and_nonsense_are_passed_over() {
        let (link, helper) = pair();
        helper.send(b"nonsense").unwrap();
        helper.send(&[0; 5000]).unwrap();
        say(&helper, 0, Answer::Value(1));
        say(&helper, 2, Answer::Value(2));
        say(&helper, 1, Answer::Value(3));
        assert!(matches!(link.ask(Ask::Health, SHORT), Ok(Answer::Value(3))));
    }

    #[test]
    fn a_helper_that_is_silent_or_says_the_wrong_thing_is_no_success() {
        let (link, helper) = pair();
        assert_eq!(link.health(SHORT), Err(LinkError::Silent));
        say(&helper, 2, Answer::Value(1));
        assert_eq!(link.health(SHORT), Err(LinkError::Unexpected));
        say(&helper, 3, Answer::Refused(Refusal::LockedOut));
        assert_eq!(link.health(SHORT), Err(Refusal::LockedOut.into()));
        say(&helper, 4, Answer::Unsealed(strongroom_protocol::SecretBytes::copy_from(b"short")));
        assert!(link.unsealed(Ask::Health, SHORT).is_err());
        say(&helper, 5, Answer::Sealed(Blob(vec![1])));
        assert_eq!(link.sealed(Ask::Health, SHORT), Ok(Blob(vec![1])));
    }
}
