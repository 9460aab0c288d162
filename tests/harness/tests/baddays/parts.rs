//! A part that ends and does not come back: what the others go on doing, and that the supervisor still obeys.

use nix::sys::signal::Signal;
use serde_json::json;
use strongroom_emulator::Api;
use strongroom_tests::captured::Programs;
use strongroom_tests::client::Body;
use strongroom_tests::speak::{Request, Shape, models, say};
use strongroom_tests::{Appliance, Ending, Options, Part, canary, until};

/// An appliance whose programs can be put out of order, with a key for a built-in and for an operator-defined provider.
fn start(programs: &Programs) -> (Appliance, String) {
    let options = Options { programs: Some(programs.path().to_owned()), ..Options::default() };
    let appliance = Appliance::start(&options);
    appliance.deposit(Api::OpenAi, &["--no-test"]);
    let ca = appliance.providers().ca_path().display().to_string();
    let base = ["provider", "add", "mine", "--base-url", "https://api.anthropic.com"];
    let more = ["--dialect", "openai", "--ca", &ca, "--private", "--allow", "GET /v1/models"];
    appliance.json(&[&base[..], &more].concat(), b"");
    let key = canary::key(Api::Anthropic).as_bytes();
    appliance.json(&["credential", "add", "mine", "-", "--no-test", "--label", "own"], key);
    let token = appliance.token("t", &[]);
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    (appliance, token)
}

// Red when the gateway ends with the courier of operator-defined providers, or waits for it.
#[test]
fn without_the_courier_of_operator_defined_providers_the_built_in_ones_are_served() {
    let programs = Programs::new();
    let (appliance, token) = start(&programs);
    let gate = appliance.gate();
    let own = Request::get("/p/mine/v1/models").bearer(&token);
    assert!(gate.call(&own).refusal().is_none(), "it goes out");
    let gateway = appliance.pid(Part::Gateway);
    let mut connection = gate.connect().expect("it listens");
    let request = say(Api::OpenAi, &token, "emu-paced-20-400", "go on", Shape::Streamed);
    connection.send(&request.bytes("localhost")).expect("it reads");
    let (_, _, framing) = connection.head().expect("a head");
    let (mut body, mut seen) = (Body::new(framing), Vec::new());
    assert!(connection.await_text(&mut body, &mut seen, "content"));
    programs.hang(Part::CourierDefined);
    let before = appliance.kill(Part::CourierDefined);
    until("one that does nothing has taken its place", || {
        appliance.pid(Part::CourierDefined).filter(|pid| *pid != before)
    });
    until("calls to its providers are refused", || {
        (gate.call(&own).refusal() == Some("SR-COURIER-001")).then_some(())
    });
    gate.call(&models(Api::OpenAi, &token)).is(200);
    assert_eq!(
        connection.rest(&mut body, &mut seen),
        Ending::Complete,
        "what ran beside it ran on"
    );
    assert_eq!(appliance.pid(Part::Gateway), gateway, "the gateway is the same");
    let status = appliance.status();
    assert_eq!(json!([status["courier"], status["courier_defined"]]), json!([true, false]));
    programs.mend(Part::CourierDefined);
    appliance.kill(Part::CourierDefined);
    until("its providers are served again", || gate.call(&own).refusal().is_none().then_some(()));
}

// Red when whoever waits for a process that is being started forgets the signal that cut its wait short.
#[test]
fn a_signal_to_stop_that_comes_while_a_process_is_started_again_is_not_lost() {
    let programs = Programs::new();
    let (mut appliance, _) = start(&programs);
    programs.hang(Part::Gateway);
    let before = appliance.kill(Part::Gateway);
    until("one that is never ready has taken its place", || {
        appliance.pid(Part::Gateway).filter(|pid| *pid != before)
    });
    appliance.signal_supervisor(Signal::SIGTERM);
    assert_eq!(until("it has ended", || appliance.ended()), 0);
}
