//! What the journal costs the processor for a call: two entries, their hashes, the disk, the checkpoints.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use strongroom_protocol::errand::{Ending, Outcome};
use strongroom_protocol::usage::Usage;
use tokio::task::LocalSet;
use tokio::time::interval;

use super::crashes::{key, signer};
use super::tests::permit;
use super::*;
use crate::journal::found::{Found, Head};
use crate::slots::scratch::Scratch;

/// Calls that come at once, a few times each millisecond or so: what one reading of the doors brings.
const TOGETHER: u64 = 16;

fn cpu_micros() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds()
}

fn outcome(call: CallId) -> Outcome {
    Outcome {
        call,
        status: Some(200),
        ending: Ending::Complete,
        usage: Usage::default(),
        sent_bytes: 100,
        received_bytes: 1000,
        scrubbed: 0,
        first_byte: Some(Duration::from_millis(1)),
        total: Duration::from_millis(2),
    }
}

// `SR_SOAK=1` and a release build make the figure of the README.
#[tokio::test]
async fn what_a_call_costs_the_processor() {
    let bursts = strongroom_soak::size(50, 2_000);
    let scratch = Scratch::make();
    let verifier = signer().verifier();
    let found = Found::look(scratch.directory(), key(), &verifier, Head::default()).unwrap();
    let (journal, _) = Journal::start(found, signer(), &Manner::default()).unwrap();
    let journal = Arc::new(journal);
    let within = LocalSet::new();
    within.spawn_local(Arc::clone(&journal).pump(|_| {}));
    let permit = permit();
    let begun = cpu_micros();
    within
        .run_until(async {
            let mut ticks = interval(Duration::from_millis(2));
            for burst in 0..bursts {
                ticks.tick().await;
                for call in 0..TOGETHER {
                    let mut id = [0; 16];
                    id[..8].copy_from_slice(&(burst * TOGETHER + call).to_be_bytes());
                    let call = CallId::from_random(id);
                    let now = Moment::from_unix_millis(burst * 2);
                    journal.note(&Entry::admit(call, &permit), now);
                    journal.note(
                        &Entry::close(
                            &outcome(call),
                            Some(strongroom_policy::money::Money::from_micros(12_345)),
                        ),
                        now,
                    );
                }
            }
        })
        .await;
    let finishing = Arc::clone(&journal);
    std::thread::spawn(move || finishing.finish()).join().unwrap();
    let calls = bursts * TOGETHER;
    assert_eq!(journal.entries(), 2 * calls);
    let tenths = u64::try_from(cpu_micros() - begun).unwrap() * 10 / calls;
    let each = format!("{}.{}", tenths / 10, tenths % 10);
    strongroom_soak::tell("journal", "CPU for a call, µs", each);
}
