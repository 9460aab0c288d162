//! What keeper and TPM helper say to each other.

use strongroom_protocol::tpm::{
    Answer, Ask, Blob, Counter, FromTpm, Health, Kind, MAX_TPM_BYTES, Name, PcrSet, Policy,
    Refusal, ToTpm,
};

use crate::things::secret;
use crate::{Vector, of_enum};

pub(crate) fn vectors() -> Vec<Vector> {
    let refused = |refusal| FromTpm { number: 7, answer: Answer::Refused(refusal) };
    [
        of_enum(asks(), ask_name, |ask| ToTpm { number: 7, ask }, MAX_TPM_BYTES),
        of_enum(answers(), answer_name, |answer| FromTpm { number: 7, answer }, MAX_TPM_BYTES),
        of_enum(refusals(), refusal_name, refused, MAX_TPM_BYTES),
    ]
    .concat()
}

fn ask_name(ask: &Ask) -> &'static str {
    match ask {
        Ask::Health => "tpm.health",
        Ask::CounterDefine { .. } => "tpm.counter-define",
        Ask::CounterRead { .. } => "tpm.counter-read",
        Ask::CounterIncrement { .. } => "tpm.counter-increment",
        Ask::Seal { .. } => "tpm.seal",
        Ask::Unseal { .. } => "tpm.unseal",
        Ask::CounterForget { .. } => "tpm.counter-forget",
    }
}

fn answer_name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Health(_) => "tpm.answer.health",
        Answer::Defined { .. } => "tpm.answer.defined",
        Answer::Value(_) => "tpm.answer.value",
        Answer::Sealed(_) => "tpm.answer.sealed",
        Answer::Unsealed(_) => "tpm.answer.unsealed",
        Answer::Refused(_) => "tpm.answer.refused",
        Answer::Forgotten => "tpm.answer.forgotten",
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "names of all enums are asked for in one way"
)]
fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::PcrChanged => "tpm.refused.pcr-changed",
        Refusal::WrongPin { .. } => "tpm.refused.wrong-pin",
        Refusal::LockedOut => "tpm.refused.locked-out",
        Refusal::CounterMoved => "tpm.refused.counter-moved",
        Refusal::CounterGone => "tpm.refused.counter-gone",
        Refusal::AnotherTpm => "tpm.refused.another-tpm",
        Refusal::NoTpm => "tpm.refused.no-tpm",
        Refusal::OutOfSlots => "tpm.refused.out-of-slots",
        Refusal::Owned => "tpm.refused.owned",
        Refusal::Forged => "tpm.refused.forged",
        Refusal::Malformed => "tpm.refused.malformed",
        Refusal::Other { .. } => "tpm.refused.other",
    }
}

const STORAGE: Name = Name([0x5a; 32]);

fn counter() -> Counter {
    let secret = secret("32 bytes that move the counter..");
    Counter { index: 0x0180_1234, name: Name([0xc0; 32]), secret }
}

fn machine() -> Policy {
    let pin = Some(secret("32 bytes derived from the PIN..."));
    Policy::Machine { pcrs: PcrSet::of(&[7, 14]).unwrap(), pin }
}

fn asks() -> Vec<Ask> {
    let key = || secret("32 bytes: half of a wrapping key");
    vec![
        Ask::Health,
        Ask::CounterDefine { storage: STORAGE, secret: counter().secret },
        Ask::CounterRead { storage: STORAGE, counter: counter() },
        Ask::CounterIncrement { storage: STORAGE, counter: counter(), from: 41 },
        Ask::Seal { storage: STORAGE, key: key(), policy: machine() },
        Ask::Seal {
            storage: STORAGE,
            key: key(),
            policy: Policy::Moment { counter: counter(), value: 42 },
        },
        Ask::Unseal { storage: STORAGE, blob: Blob(vec![0xb1; 40]), policy: machine() },
        Ask::CounterForget { counter: counter() },
    ]
}

pub(crate) fn health() -> Health {
    Health {
        manufacturer: "IFX".to_owned(),
        kind: Kind::Hardware,
        storage: STORAGE,
        wrong_pins: 1,
        most_wrong_pins: 32,
        forgets_after_secs: 600,
        locked_out: false,
    }
}

fn answers() -> Vec<Answer> {
    vec![
        Answer::Health(health()),
        Answer::Defined { index: 0x0180_1234, name: Name([0xc0; 32]), value: 41 },
        Answer::Value(42),
        Answer::Sealed(Blob(vec![0xb1; 40])),
        Answer::Unsealed(secret("32 bytes: half of a wrapping key")),
        Answer::Refused(Refusal::NoTpm),
        Answer::Forgotten,
    ]
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::PcrChanged,
        Refusal::WrongPin { left: 2 },
        Refusal::LockedOut,
        Refusal::CounterMoved,
        Refusal::CounterGone,
        Refusal::AnotherTpm,
        Refusal::NoTpm,
        Refusal::OutOfSlots,
        Refusal::Owned,
        Refusal::Forged,
        Refusal::Malformed,
        Refusal::Other { code: 0x14b },
    ]
}
