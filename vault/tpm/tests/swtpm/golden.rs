//! A software TPM and what the first build, which spoke to the TPM without libtss2, sealed in it.
//!
//! `golden/tpm.state` is swtpm 0.7.1's state after that build had defined a counter, moved it once, and sealed the test's key
//! three times.

use strongroom_protocol::tpm::{Blob, Name};

use crate::emulator::Emulator;
use crate::helper_process::{Counted, Helper};
use crate::{KEY, PIN, machine, moment};

const STATE: &[u8] = include_bytes!("golden/tpm.state");
const MACHINE: &[u8] = include_bytes!("golden/machine.blob");
const WITH_PIN: &[u8] = include_bytes!("golden/pin.blob");
const MOMENT: &[u8] = include_bytes!("golden/moment.blob");
const STORAGE: &str = "cfd16cb41028afd1f257fd52b36949882d1e7f1fad8a2cd1466cb3c9745f008a";
const COUNTER: &str = "dd3508a4c805d6d1ee0ffa43f92af039ee80dd0875c8828d3bd6db2717eb9079";
const INDEX: u32 = 25_336_709;
const VALUE: u64 = 2;

fn name(hex: &str) -> Name {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    Name(bytes.try_into().unwrap())
}

// Red when a template, a policy's digest or the blob's form changes.
#[test]
fn what_the_first_build_sealed_opens() {
    let emulator = Emulator::of_state(STATE);
    let mut helper = Helper::start(&emulator);
    let (storage, blob) = (name(STORAGE), |bytes: &[u8]| Blob(bytes.to_vec()));
    assert_eq!(helper.health().storage, storage);
    let counter = Counted { index: INDEX, name: name(COUNTER), value: VALUE };
    assert_eq!(helper.read(storage, counter), Ok(VALUE));
    for (sealed, policy) in [
        (MACHINE, machine(&[0, 7, 11], None)),
        (WITH_PIN, machine(&[7, 16], Some(PIN))),
        (MOMENT, moment(counter, VALUE)),
    ] {
        assert_eq!(helper.unseal(storage, (&blob(sealed), policy)), Ok(KEY.to_vec()));
    }
    assert_eq!(helper.increment(storage, (counter, VALUE)), Ok(VALUE + 1));
    assert!(helper.unseal(storage, (&blob(MOMENT), moment(counter, VALUE))).is_err());
}
