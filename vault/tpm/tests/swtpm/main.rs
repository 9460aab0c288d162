//! The helper's program against a software TPM: what it refuses, what it leaves behind, what the bus can see.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::panic, reason = "a test fails by panicking")]
#![expect(dead_code, reason = "the emulator serves the appliance's tests as well")]

mod emulator;
mod golden;
mod helper_process;

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use sha2::Digest as _;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::tpm::{Answer, Ask, Kind, Name, PcrSet, Policy, Refusal};
use strongroom_tpm::chip::{Chip, ChipError};
use strongroom_tpm::place::Place;

use emulator::Emulator;
use helper_process::{Counted, Helper, SECRET};

const KEY: [u8; 32] = *b"half of a key which wraps a key ";
const PIN: [u8; 32] = [0x11; 32];

fn machine(pcrs: &[u8], pin: Option<[u8; 32]>) -> Policy {
    let pin = pin.map(|pin| SecretBytes::copy_from(&pin));
    Policy::Machine { pcrs: PcrSet::of(pcrs).unwrap(), pin }
}

fn moment(counter: Counted, value: u64) -> Policy {
    Policy::Moment { counter: counter.named(), value }
}

fn scene() -> (Emulator, Helper, Name) {
    let emulator = Emulator::start();
    let mut helper = Helper::start(&emulator);
    let health = helper.health();
    assert_eq!((health.manufacturer.as_str(), health.kind), ("IBM", Kind::Software));
    assert!(!health.locked_out && health.most_wrong_pins > 0);
    (emulator, helper, health.storage)
}

#[test]
fn what_is_sealed_to_the_machine_opens_there_and_not_after_a_register_was_extended() {
    let (mut emulator, mut helper, storage) = scene();
    let all: Vec<u8> = (0..24).collect();
    for pcrs in [&[7, 16][..], &[16], &all] {
        let blob = helper.seal(storage, (&KEY, machine(pcrs, None)));
        assert_eq!(helper.unseal(storage, (&blob, machine(pcrs, None))), Ok(KEY.to_vec()));
        emulator.extend(16);
        let refused = helper.unseal(storage, (&blob, machine(pcrs, None)));
        assert_eq!(refused, Err(Refusal::PcrChanged));
        let elsewhere = helper.unseal(storage, (&blob, machine(&[1], None)));
        assert_eq!(elsewhere, Err(Refusal::PcrChanged));
        // A start like the first one brings the registers back.
        emulator.unplug();
        emulator.plug_in();
        helper.start_again();
        assert_eq!(helper.unseal(storage, (&blob, machine(pcrs, None))), Ok(KEY.to_vec()));
    }
    assert_eq!(emulator.held(), 0);
}

#[test]
fn a_wrong_pin_is_counted_by_the_tpm_which_then_locks_itself() {
    let (emulator, mut helper, storage) = scene();
    let blob = helper.seal(storage, (&KEY, machine(&[7], Some(PIN))));
    let tries = |helper: &mut Helper, pin: u8| {
        helper.unseal(storage, (&blob, machine(&[7], Some([pin; 32]))))
    };
    assert_eq!(tries(&mut helper, 0x11), Ok(KEY.to_vec()));
    let most = helper.health().most_wrong_pins;
    for wrong in 1..=most {
        let refused = tries(&mut helper, 0x22);
        assert_eq!(refused, Err(Refusal::WrongPin { left: most - wrong }));
    }
    assert_eq!(tries(&mut helper, 0x11), Err(Refusal::LockedOut), "the right PIN comes too late");
    assert!(helper.health().locked_out);
    // Without the PIN's step the policy is another one; that is no guess.
    let skipped = helper.unseal(storage, (&blob, machine(&[7], None)));
    assert!(matches!(skipped, Err(Refusal::PcrChanged | Refusal::LockedOut)), "{skipped:?}");
    // What is sealed without a PIN knows no lock-out.
    let plain = helper.seal(storage, (&KEY, machine(&[7], None)));
    assert_eq!(helper.unseal(storage, (&plain, machine(&[7], None))), Ok(KEY.to_vec()));
    assert_eq!(emulator.held(), 0);
}

#[test]
fn what_is_sealed_to_a_moment_opens_at_that_value_of_the_counter_only() {
    let (emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    let now = counter.value;
    let blobs: Vec<_> =
        (0..3).map(|later| helper.seal(storage, (&KEY, moment(counter, now + later)))).collect();
    for value in now..now + 3 {
        assert_eq!(helper.read(storage, counter), Ok(value));
        for (blob, of) in blobs.iter().zip(now..) {
            let opened = helper.unseal(storage, (blob, moment(counter, of)));
            let expected = if of == value { Ok(KEY.to_vec()) } else { Err(Refusal::CounterMoved) };
            assert_eq!(opened, expected, "sealed to {of} at {value}");
            // Telling the TPM another value than was sealed does not help.
            let lie = helper.unseal(storage, (blob, moment(counter, value)));
            assert_eq!(lie.is_ok(), of == value);
        }
        assert_eq!(helper.increment(storage, (counter, value)), Ok(value + 1));
        assert_eq!(helper.increment(storage, (counter, value)), Ok(value + 1), "asked twice");
    }
    assert_eq!(helper.increment(storage, (counter, now)), Err(Refusal::CounterMoved));
    assert_eq!(emulator.held(), 0);
}

#[test]
fn a_counter_survives_power_cuts_and_its_removal_is_no_way_back() {
    let (mut emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    let start = counter.value;
    let blob = helper.seal(storage, (&KEY, moment(counter, start)));
    for value in start..start + 3 {
        helper.increment(storage, (counter, value)).unwrap();
        emulator.unplug();
        emulator.plug_in();
        helper.start_again();
        assert_eq!(helper.read(storage, counter), Ok(value + 1));
    }
    // The owner removes it and makes one with the same public area and, for the worst case, the same secret.
    let mut public = emulator.public_of(counter.index);
    emulator.undefine(counter.index);
    assert_eq!(helper.read(storage, counter), Err(Refusal::CounterGone));
    assert_eq!(helper.unseal(storage, (&blob, moment(counter, start))), Err(Refusal::CounterGone));
    public[6] &= !0x20; // Not written yet.
    emulator.define_and_increment(&public, &SECRET);
    let value = helper.read(storage, counter).unwrap();
    assert!(value > start + 3, "it goes on above: {value}");
    assert_eq!(helper.unseal(storage, (&blob, moment(counter, start))), Err(Refusal::CounterMoved));
    // Another one in its place has another name.
    emulator.undefine(counter.index);
    public[12] ^= 1;
    emulator.define_and_increment(&public, &SECRET);
    assert_eq!(helper.read(storage, counter), Err(Refusal::CounterGone));
    assert_eq!(emulator.held(), 0);
}

#[test]
fn a_counter_that_is_forgotten_is_gone_and_the_next_one_begins_above_it() {
    let (_emulator, mut helper, storage) = scene();
    let first = helper.define(storage);
    helper.increment(storage, (first, first.value)).unwrap();
    assert!(matches!(helper.ask(Ask::CounterForget { counter: first.named() }), Answer::Forgotten));
    assert_eq!(helper.read(storage, first), Err(Refusal::CounterGone));
    let second = helper.define(storage);
    assert!(second.value > first.value + 1);
}

#[test]
fn another_tpm_and_a_cleared_one_are_refused() {
    let (emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    let blob = helper.seal(storage, (&KEY, machine(&[7], None)));
    let (_other, mut stranger, foreign) = scene();
    assert_ne!(storage, foreign);
    let refused = stranger.unseal(storage, (&blob, machine(&[7], None)));
    assert_eq!(refused, Err(Refusal::AnotherTpm));
    // Also when its own storage key is named: the blob is not of it.
    let refused = stranger.unseal(foreign, (&blob, machine(&[7], None)));
    assert_eq!(refused, Err(Refusal::AnotherTpm));
    emulator.clear();
    assert_eq!(helper.unseal(storage, (&blob, machine(&[7], None))), Err(Refusal::AnotherTpm));
    assert_eq!(helper.read(storage, counter), Err(Refusal::AnotherTpm));
    assert_eq!(emulator.held(), 0);
}

#[test]
fn a_tpm_full_of_other_programs_sessions_is_named_and_works_again_once_they_are_gone() {
    let (emulator, mut helper, storage) = scene();
    let blob = helper.seal(storage, (&KEY, machine(&[7], None)));
    let sessions = emulator.fill_with_sessions();
    for _ in 0..5 {
        let refused = helper.unseal(storage, (&blob, machine(&[7], None)));
        assert_eq!(refused, Err(Refusal::OutOfSlots));
        assert_eq!(emulator.held(), sessions.len(), "nothing of ours is left either");
    }
    for session in sessions {
        emulator.flush(session);
    }
    assert_eq!(helper.unseal(storage, (&blob, machine(&[7], None))), Ok(KEY.to_vec()));
}

// Red when a handle is not flushed: swtpm without a resource manager has three slots.
#[test]
fn many_questions_of_which_half_fail_leave_no_slot_taken() {
    let (emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    let blob = helper.seal(storage, (&KEY, moment(counter, counter.value)));
    for _ in 0..12 {
        assert!(helper.unseal(storage, (&blob, moment(counter, counter.value))).is_ok());
        assert!(helper.unseal(storage, (&blob, moment(counter, counter.value + 1))).is_err());
        assert!(helper.unseal(Name([0; 32]), (&blob, moment(counter, counter.value))).is_err());
    }
    assert_eq!(emulator.held(), 0);
}

// Red when `Duty::Encrypt` or `Duty::Decrypt` does not encrypt, or a session is not salted.
#[test]
fn the_bus_sees_no_byte_of_what_is_sealed_nor_a_pin_nor_a_counters_secret() {
    let (emulator, mut helper, storage) = scene();
    let at_start = emulator.seen().len();
    let counter = helper.define(storage);
    let policies =
        [|_| machine(&[7], Some(PIN)), |counter: Counted| moment(counter, counter.value)];
    for policy in policies {
        let blob = helper.seal(storage, (&KEY, policy(counter)));
        assert_eq!(helper.unseal(storage, (&blob, policy(counter))), Ok(KEY.to_vec()));
    }
    helper.increment(storage, (counter, counter.value)).unwrap();
    let seen = emulator.seen();
    assert!(seen.len() > 4000, "the bus was listened to");
    // An open session's key is a secret only because of its salt.
    let sessions_to = |key: u8| {
        let sent = [0, 0, 0x01, 0x76, key];
        seen[at_start..].windows(5).filter(|bytes| *bytes == sent).count()
    };
    assert!(sessions_to(0x80) > 8 && sessions_to(0x40) == 0, "each session has a salt");
    for secret in [KEY, PIN, SECRET] {
        for part in secret.chunks(8) {
            assert!(!seen.windows(8).any(|window| window == part));
        }
    }
}

#[test]
fn an_answer_that_is_changed_on_the_bus_is_refused() {
    let (mut emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    let blob = helper.seal(storage, (&KEY, machine(&[7], None)));
    // The last byte is the MAC's wherever there is a session; elsewhere nothing is believed.
    let everywhere: fn(&mut Vec<u8>) = |answer| {
        if answer.len() > 60
            && let Some(last) = answer.last_mut()
        {
            *last ^= 1;
        }
    };
    // Not where the storage key is made: so that sessions are reached.
    let in_sessions: fn(&mut Vec<u8>) = |answer| {
        if answer.get(..2) == Some(&[0x80, 0x02])
            && answer.get(20..24) != Some(&[0, 0x23, 0, 0x0B])
            && let Some(last) = answer.last_mut()
        {
            *last ^= 1;
        }
    };
    for how in [everywhere, in_sessions] {
        for unseals in [false, true] {
            emulator.meddle(Some(how));
            let refused = if unseals {
                helper.unseal(storage, (&blob, machine(&[7], None))).unwrap_err()
            } else {
                helper.read(storage, counter).unwrap_err()
            };
            assert_eq!(refused, Refusal::Forged);
            assert_eq!(helper.wait(), Some(75), "libtss2 may have lost what was loaded");
            emulator.meddle(None);
            // In the place of the kernel, which clears what a process that ends has left.
            emulator.unplug();
            emulator.plug_in();
            helper.start_again();
        }
    }
    // A value that is replaced: 8 bytes with their length, where the parameters of `NV_Read` lie.
    emulator.meddle(Some(|answer| {
        if answer.get(10..16) == Some(&[0, 0, 0, 10, 0, 8]) {
            answer[23] ^= 1;
        }
    }));
    assert_eq!(helper.read(storage, counter), Err(Refusal::Forged));
    assert_eq!(helper.wait(), Some(75));
    emulator.meddle(None);
    helper.start_again();
    assert_eq!(helper.read(storage, counter), Ok(counter.value));
}

#[test]
fn without_a_tpm_that_is_said_and_the_helper_ends_to_be_started_again() {
    let (mut emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    emulator.unplug();
    assert_eq!(helper.read(storage, counter), Err(Refusal::NoTpm));
    assert_eq!(helper.wait(), Some(75));
    emulator.plug_in();
    helper.start_again();
    assert_eq!(helper.read(storage, counter), Ok(counter.value));
}

// Red when libtss2's own failures, or a flush that failed beside the work, do not end the helper.
#[test]
fn the_helper_ends_when_libtss2_fails_or_something_may_be_left_in_the_tpm() {
    let (mut emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    let gone = Counted { name: Name([9; 32]), ..counter };
    // The code of libtss2's `BAD_SEQUENCE`, where its own function finds it.
    let fails: fn(&mut Vec<u8>) = |answer| {
        *answer = vec![0x80, 0x01, 0, 0, 0, 10, 0, 7, 0, 7];
    };
    // `TPM_RC_FAILURE` in the place of each bare success, as of a flush.
    let keeps: fn(&mut Vec<u8>) = |answer| {
        if answer[..] == [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0] {
            answer[8..].copy_from_slice(&[1, 1]);
        }
    };
    for (how, asked, refused) in [
        (fails, counter, Refusal::Other { code: 0x0007_0007 }),
        (keeps, counter, Refusal::Other { code: 0x101 }),
        (keeps, gone, Refusal::CounterGone),
    ] {
        emulator.meddle(Some(how));
        assert_eq!(helper.read(storage, asked), Err(refused));
        assert_eq!(helper.wait(), Some(75));
        emulator.meddle(None);
        emulator.unplug();
        emulator.plug_in();
        helper.start_again();
    }
    assert_eq!(helper.read(storage, counter), Ok(counter.value));
}

// Red without the watchdog, since libtss2 waits for ever; and when the helper asks the TPM anything before it is watched.
#[test]
fn a_tpm_that_says_nothing_is_given_up() {
    let (emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    emulator.meddle(Some(Vec::clear));
    assert_eq!(helper.read(storage, counter), Err(Refusal::NoTpm));
    assert_eq!(helper.wait(), None, "ended by a signal");
    emulator.meddle(None);
    emulator.forget_what_is_under_way();
    helper.start_again();
    assert_eq!(helper.read(storage, counter), Ok(counter.value));
    // Silent once libtss2 has opened it, and before: the helper is ready all the same.
    let all_but_first: fn(&mut Vec<u8>) = |answer| {
        static PASSED: AtomicBool = AtomicBool::new(false);
        if PASSED.swap(true, Ordering::Relaxed) {
            answer.clear();
        }
    };
    for (how, ended) in [(all_but_first, None), (Vec::clear, Some(75))] {
        emulator.meddle(Some(how));
        helper.start_again();
        assert_eq!(helper.read(storage, counter), Err(Refusal::NoTpm));
        assert_eq!(helper.wait(), ended);
        emulator.forget_what_is_under_way();
    }
}

// Red without the alarm.
#[test]
fn a_tpm_that_hangs_while_it_is_opened_is_given_up() {
    let (port, hung) = emulator::two_ports();
    let ended = helper_process::outcome(&format!("swtpm:127.0.0.1:{port}"));
    assert_eq!(ended.signal(), Some(Signal::SIGALRM as i32));
    drop(hung);
}

// Red when `Chip::storage` does not compare, or a session is opened before it has compared.
#[test]
fn no_session_is_salted_to_a_storage_key_that_the_bus_replaced() {
    let (emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    // In the answer to `CreatePrimary`: the y of the key's point, and the name to fit, as an attacker's own key would have one.
    // Before the public area are the header, a handle, a length and its own length; behind the name an empty password's five.
    let how: fn(&mut Vec<u8>) = |answer| {
        if answer.get(20..24) == Some(&[0, 0x23, 0, 0x0B]) {
            let length = usize::from(u16::from_be_bytes([answer[18], answer[19]]));
            answer[20 + length - 1] ^= 1;
            let name = sha2::Sha256::digest(&answer[20..20 + length]);
            let at = answer.len() - 5 - 32;
            answer[at..at + 32].copy_from_slice(&name);
        }
    };
    emulator.meddle(Some(how));
    let before = emulator.seen().len();
    assert_eq!(helper.read(storage, counter), Err(Refusal::AnotherTpm));
    let sent = emulator.seen()[before..].to_vec();
    assert!(sent.windows(4).any(|bytes| bytes == [0, 0, 0x01, 0x31]), "a key was asked for");
    assert!(!sent.windows(4).any(|bytes| bytes == [0, 0, 0x01, 0x76]), "a session was opened");
}

// Red when registers are read without a session: whoever sits on the bus would choose what the vault is sealed to.
#[test]
fn registers_that_the_bus_changed_are_not_sealed_to() {
    let (emulator, mut helper, storage) = scene();
    // One selection of the SHA-256 bank, of register 7, and one digest.
    let how: fn(&mut Vec<u8>) = |answer| {
        let selection = [0, 0, 0, 1, 0, 0x0B, 3, 0x80, 0, 0, 0, 0, 0, 1, 0, 32];
        let at = answer.windows(16).position(|bytes| bytes == selection);
        if let Some(at) = at {
            answer[at + 16] ^= 1;
        }
    };
    emulator.meddle(Some(how));
    let key = SecretBytes::copy_from(&KEY);
    let sealed = helper.ask(Ask::Seal { storage, key, policy: machine(&[7], None) });
    assert!(matches!(sealed, Answer::Refused(Refusal::Forged)), "{sealed:?}");
}

// Red when `policy_nv` lets a second context live, or does not notice the end of the first: it would call libtss2 with the wrong
// context, or with one that is freed.
#[test]
fn libtss2_has_one_context_at_a_time() {
    let (_emulator, place) = emulator::Direct::start();
    let place: Place = place.parse().unwrap();
    let first = Chip::open(&place).unwrap();
    let second = Chip::open(&place).unwrap_err();
    assert!(matches!(second, ChipError::Library(0x0007_0007)), "{second:?}");
    drop(first);
    drop(Chip::open(&place).unwrap());
    drop(Chip::open(&place).unwrap());
}

// Red without `clear_stack`, without the wiping of the datagram, or when C's `free` does not overwrite.
#[test]
fn secrets_are_gone_from_the_helpers_memory_after_the_next_question() {
    if !nix::unistd::geteuid().is_root() {
        strongroom_soak::skipped("only root reads another process's memory");
        return;
    }
    let (_emulator, mut helper, storage) = scene();
    let counter = helper.define(storage);
    for policy in
        [|_| machine(&[7, 16], Some(PIN)), |counter: Counted| moment(counter, counter.value)]
    {
        let blob = helper.seal(storage, (&KEY, policy(counter)));
        assert!(helper.finds(&KEY) <= 1, "libtss2's own buffer");
        helper.unseal(storage, (&blob, policy(counter))).unwrap();
        assert_eq!(
            helper.finds(&KEY),
            1,
            "libtss2's own buffer, and the search finds what is there"
        );
    }
    helper.read(storage, counter).unwrap();
    helper.health();
    assert_eq!([&KEY, &PIN, &SECRET].map(|secret| helper.finds(secret)), [0; 3]);
}

#[test]
fn what_is_no_question_is_passed_over() {
    let (_emulator, mut helper, storage) = scene();
    for bad in [&b""[..], b"x", &[0; 64], &[255; 4096], &[1, 0, 0, 0, 0, 9]] {
        helper.raw(bad);
    }
    let short = SecretBytes::copy_from(b"short");
    let refused = helper.ask(Ask::CounterDefine { storage, secret: short });
    assert!(matches!(refused, Answer::Refused(Refusal::Malformed)), "{refused:?}");
    let zero = helper.ask(Ask::Seal {
        storage,
        key: SecretBytes::copy_from(&KEY),
        policy: machine(&[7], Some([0; 32])),
    });
    assert!(matches!(zero, Answer::Refused(Refusal::Malformed)), "{zero:?}");
    assert_eq!(helper.health().storage, storage);
}
