//! A captured courier that lies about how calls ended.
//!
//! Invariant: each call has one end in the journal, and none that its courier did not have.

use std::time::Duration;

use serde_json::Value;
use strongroom_emulator::Api;
use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::errand::{Ending, FromCourier, Outcome};
use strongroom_protocol::usage::{Told, Usage};
use strongroom_tests::{Part, journal};

use crate::courier::Courier;
use crate::scene::Scene;

/// An outcome of which every number is as large as it can be.
pub(crate) fn outcome(call: CallId) -> Outcome {
    let most = Some(u64::MAX);
    Outcome {
        call,
        status: Some(u16::MAX),
        ending: Ending::Complete,
        usage: Usage {
            input: most,
            output: most,
            cached_input: most,
            cache_write: most,
            reasoning: most,
            cost_ticks: most,
            told: Told::Exact,
        },
        sent_bytes: u64::MAX,
        received_bytes: u64::MAX,
        scrubbed: u32::MAX,
        first_byte: Some(Duration::MAX),
        total: Duration::MAX,
    }
}

#[test]
fn a_captured_courier_that_lies_about_outcomes_touches_no_other_call() {
    let scene = Scene::set();
    let before = scene.before(Part::Courier);
    let mut courier = Courier::stand_in(&scene);
    // Three calls of one person: two redeemed, and one waiting; for seconds, so it comes last.
    let [first, third] = [Api::OpenAi, Api::Xai].map(|api| {
        let ticket = courier.ticket(&scene, api);
        courier.redeem(ticket).expect("it was given this")
    });
    let ticket = courier.ticket(&scene, Api::Anthropic);
    let admitted: Vec<Value> = scene.appliance.journaled("all three are admitted", |entries| {
        let all: Vec<Value> =
            entries.iter().filter(|entry| entry["what"] == "admit").cloned().collect();
        (all.len() == 4).then_some(all)
    });
    let waiting = id(&admitted[3]);
    assert_eq!((id(&admitted[1]), id(&admitted[2])), (first.call, third.call));
    // Of a call that it does not have yet, of one that is no more, of one that never was.
    let own = id(&admitted[0]);
    for call in [waiting, own, CallId::from_random([7; 16])] {
        courier.say(&FromCourier::Outcome(Box::new(outcome(call))));
    }
    // The call that waits is as it was.
    let second = courier.redeem(ticket).expect("nothing was told of it that counts");
    assert_eq!(second.call, waiting);
    let aborted = Outcome { ending: Ending::Aborted(Refusal::Cancelled), ..outcome(first.call) };
    for _ in 0..3 {
        courier.say(&FromCourier::Outcome(Box::new(outcome(first.call))));
        courier.say(&FromCourier::Outcome(Box::new(aborted.clone())));
    }
    courier.say(&FromCourier::Outcome(Box::new(outcome(third.call))));
    courier.say(&FromCourier::Outcome(Box::new(outcome(second.call))));
    let ends = |entries: &[Value], call: CallId| {
        journal::about(entries, "close", &call.to_string()).into_iter().cloned().collect::<Vec<_>>()
    };
    scene.appliance.journaled("the last is closed", |entries| {
        (!ends(entries, second.call).is_empty()).then_some(())
    });
    let entries = scene.appliance.entries();
    for call in [own, first.call, second.call, third.call] {
        assert_eq!(ends(&entries, call).len(), 1, "{call}: {entries:#?}");
    }
    assert_eq!(ends(&entries, first.call)[0]["end"], "complete", "the first word counts");
    assert!(ends(&entries, CallId::from_random([7; 16])).is_empty());
    // Sums of such numbers stay numbers, and nobody else's.
    let usage = scene.appliance.json(&["usage", "--by", "user"], b"").to_string();
    assert!(usage.contains("anna") && !usage.contains("ben"), "{usage}");
    scene.judge(&before, courier.leave());
}

fn id(entry: &Value) -> CallId {
    let text = entry["call"].as_str().expect("a call");
    text.parse().expect("an id")
}
