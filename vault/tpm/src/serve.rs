//! Questions and answers: one datagram in, one out, one at a time.
//!
//! Invariant: the keeper learns a closed set of refusals.
//! Invariant: once the TPM does not answer, or not authentically, this process ends, after it said so; it is started again.
//! Invariant: it ends likewise when something may be left in the TPM, or libtss2 itself failed.
//! Distrusts: the keeper's bytes.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use strongroom_protocol::frame::{decode, encode, split_first};
use strongroom_protocol::tpm::{
    Answer, Ask, FromTpm, MAX_BLOB_BYTES, MAX_TPM_BYTES, Policy, Refusal, TPM_KEY_BYTES, ToTpm,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::chip::{Chip, ChipError, Standing};
use crate::code::ResponseCode;
use crate::counter;
use crate::health::{self, tries_left};
use crate::sealing;
use crate::watchdog::Watchdog;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The TPM does not answer.
    #[error("the TPM does not answer")]
    NoTpm,
    /// An answer was not authentic. libtss2 may not know what was loaded then; the kernel does, and clears it at the end.
    #[error("an answer of the TPM was not authentic")]
    Forged,
    /// A question left something in the TPM, or libtss2 in a state that it does not come out of.
    #[error("libtss2 failed, or something may be left in the TPM")]
    Spent,
    /// The socket.
    #[error("the keeper's socket: {0}")]
    Socket(#[from] io::Error),
}

/// How long an answer waits for room in the socket of a keeper that reads nothing.
const SEND_PATIENCE: Duration = Duration::from_secs(5);

/// Serves until the TPM or the socket is gone. Without a TPM the first question is answered so.
///
/// # Errors
/// Always, in the end.
pub fn serve(socket: &UnixDatagram, mut chip: Option<Chip>, watchdog: &Watchdog) -> Ended {
    if let Err(error) = socket.set_write_timeout(Some(SEND_PATIENCE)) {
        return error.into();
    }
    let mut datagram = Zeroizing::new(vec![0; MAX_TPM_BYTES.saturating_add(64)]);
    loop {
        let length = match socket.recv(&mut datagram) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return error.into(),
        };
        let question = datagram.get(..length).and_then(parse);
        datagram.zeroize();
        datagram.resize(MAX_TPM_BYTES.saturating_add(64), 0);
        let Some(ToTpm { number, ask }) = question else {
            tracing::warn!(length, "a datagram is no question");
            continue;
        };
        watchdog.begin(number);
        let answer =
            chip.as_mut().map_or(Answer::Refused(Refusal::NoTpm), |chip| answer(chip, ask));
        watchdog.end();
        clear_stack();
        let ended = is_last(&answer).or_else(|| chip.as_ref().and_then(spent));
        match encode(&FromTpm { number, answer }, MAX_TPM_BYTES) {
            Ok(frame) => match socket.send(&frame) {
                Ok(_) => {}
                Err(error) => return error.into(),
            },
            Err(error) => tracing::error!(%error, "an answer is too long"),
        }
        if let Some(ended) = ended {
            return ended;
        }
    }
}

/// Deeper than libtss2 and tss-esapi go, which copy secrets by value and leave them there.
const STACK_BYTES: usize = 256 * 1024;

/// Overwrites what the commands have left below this frame.
#[inline(never)]
#[expect(clippy::large_stack_arrays, reason = "the stack is what is to be overwritten")]
fn clear_stack() {
    let mut area = [0_u8; STACK_BYTES];
    area.zeroize();
    std::hint::black_box(&area);
}

/// Whether nothing can follow this answer.
fn is_last(answer: &Answer) -> Option<Ended> {
    if let Answer::Refused(Refusal::NoTpm) = answer {
        Some(Ended::NoTpm)
    } else if let Answer::Refused(Refusal::Forged) = answer {
        Some(Ended::Forged)
    } else {
        None
    }
}

fn spent(chip: &Chip) -> Option<Ended> {
    match chip.standing() {
        Standing::Fit => None,
        Standing::Spent => Some(Ended::Spent),
    }
}

/// The one message of a datagram.
fn parse(datagram: &[u8]) -> Option<ToTpm> {
    match split_first(datagram, MAX_TPM_BYTES) {
        Ok(Some((body, used))) if used == datagram.len() => decode(body).ok(),
        Ok(_) | Err(_) => None,
    }
}

/// Answers one question; afterwards the TPM holds nothing of it.
pub fn answer(chip: &mut Chip, ask: Ask) -> Answer {
    if !is_sound(&ask) {
        return Answer::Refused(Refusal::Malformed);
    }
    let done = perform(chip, ask);
    done.unwrap_or_else(|failure| {
        let refusal = refusal(chip, &failure);
        tracing::info!(?refusal, ?failure, "refused");
        Answer::Refused(refusal)
    })
}

/// A failure, and in which act: the same code means different things.
#[derive(Debug)]
struct Failure {
    error: ChipError,
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Machine,
    Moment,
    Other,
}

fn perform(chip: &mut Chip, ask: Ask) -> Result<Answer, Failure> {
    let act = match &ask {
        Ask::Unseal { policy: Policy::Machine { .. }, .. } => Act::Machine,
        Ask::Unseal { policy: Policy::Moment { .. }, .. } => Act::Moment,
        Ask::Health
        | Ask::Seal { .. }
        | Ask::CounterDefine { .. }
        | Ask::CounterRead { .. }
        | Ask::CounterIncrement { .. }
        | Ask::CounterForget { .. } => Act::Other,
    };
    chip.scope(|chip| commands(chip, ask)).map_err(|error| Failure { error, act })
}

fn commands(chip: &mut Chip, ask: Ask) -> Result<Answer, ChipError> {
    match ask {
        Ask::Health => Ok(Answer::Health(health::health(chip)?)),
        Ask::CounterDefine { storage, secret } => {
            let storage = chip.storage(Some(storage))?;
            let made = secret.expose(|secret| counter::define(chip, &storage, secret))?;
            Ok(Answer::Defined { index: made.index, name: made.name, value: made.value })
        }
        Ask::CounterRead { storage, counter } => {
            let storage = chip.storage(Some(storage))?;
            counter::read(chip, &storage, &counter).map(Answer::Value)
        }
        Ask::CounterIncrement { storage, counter, from } => {
            let storage = chip.storage(Some(storage))?;
            counter::increment(chip, &storage, (&counter, from)).map(Answer::Value)
        }
        Ask::Seal { storage, key, policy } => {
            let storage = chip.storage(Some(storage))?;
            Ok(Answer::Sealed(sealing::seal(chip, &storage, (&key, &policy))?))
        }
        Ask::Unseal { storage, blob, policy } => {
            let storage = chip.storage(Some(storage))?;
            Ok(Answer::Unsealed(sealing::unseal(chip, &storage, (&blob, &policy))?))
        }
        Ask::CounterForget { counter } => {
            counter::forget(chip, &counter).map(|()| Answer::Forgotten)
        }
    }
}

/// Lengths that the types leave open.
fn is_sound(ask: &Ask) -> bool {
    let whole = |secret: &strongroom_protocol::SecretBytes| secret.len() == TPM_KEY_BYTES;
    let policy_is = |policy: &Policy| match policy {
        Policy::Machine { pin, .. } => pin.as_ref().is_none_or(|pin| {
            // A TPM drops zeros at the end of a secret.
            whole(pin) && pin.expose(|pin| pin.last() != Some(&0))
        }),
        Policy::Moment { counter, .. } => whole(&counter.secret),
    };
    match ask {
        Ask::Health => true,
        Ask::CounterDefine { secret, .. } => {
            whole(secret) && secret.expose(|secret| secret.last() != Some(&0))
        }
        Ask::CounterRead { counter, .. }
        | Ask::CounterIncrement { counter, .. }
        | Ask::CounterForget { counter } => whole(&counter.secret),
        Ask::Seal { key, policy, .. } => whole(key) && policy_is(policy),
        Ask::Unseal { blob, policy, .. } => blob.0.len() <= MAX_BLOB_BYTES && policy_is(policy),
    }
}

fn refusal(chip: &mut Chip, Failure { error, act }: &Failure) -> Refusal {
    match error {
        ChipError::CounterGone => Refusal::CounterGone,
        ChipError::CounterMoved(_) => Refusal::CounterMoved,
        ChipError::Device(_) => Refusal::NoTpm,
        ChipError::AnotherTpm => Refusal::AnotherTpm,
        ChipError::Forged(_) | ChipError::Unfit(_) => Refusal::Forged,
        ChipError::Library(code) => Refusal::Other { code: *code },
        ChipError::Random | ChipError::NoContext => Refusal::Other { code: 0 },
        ChipError::Code(code) => refused_with(chip, *code, *act),
    }
}

fn refused_with(chip: &mut Chip, code: ResponseCode, act: Act) -> Refusal {
    match (code, act) {
        (ResponseCode::POLICY_FAIL | ResponseCode::PCR_CHANGED, Act::Machine) => {
            Refusal::PcrChanged
        }
        (ResponseCode::AUTH_FAIL, Act::Machine) => {
            // Without an answer to this the PIN is wrong all the same.
            Refusal::WrongPin { left: chip.scope(tries_left).unwrap_or(0) }
        }
        (ResponseCode::LOCKOUT, _) => Refusal::LockedOut,
        (ResponseCode::POLICY | ResponseCode::POLICY_FAIL, Act::Moment) => Refusal::CounterMoved,
        (ResponseCode::HANDLE, Act::Moment) => Refusal::CounterGone,
        (ResponseCode::INTEGRITY, Act::Machine | Act::Moment) => Refusal::AnotherTpm,
        (
            ResponseCode::OBJECT_MEMORY
            | ResponseCode::SESSION_MEMORY
            | ResponseCode::MEMORY
            | ResponseCode::SESSION_HANDLES
            | ResponseCode::OBJECT_HANDLES,
            _,
        ) => Refusal::OutOfSlots,
        // Only the owner's hierarchy is opened by a plain password.
        (ResponseCode::BAD_AUTH, _) => Refusal::Owned,
        (ResponseCode(code), _) => Refusal::Other { code },
    }
}
