//! Good days.

use strongroom_emulator::Outcome as Ended;
use strongroom_policy::name::BetaName;
use strongroom_policy::target::Target;
use strongroom_protocol::errand::{Ending, Errand, ToCourier};
use strongroom_protocol::usage::Told;

use super::keeper::Heard;
use super::scene::{KEY, Scene, chat, streamed};

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_call_is_made_with_the_key_and_reported_with_its_usage() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", "Hello there");
    let (got, call) = scene.call(&mut lane, &body).await;
    assert_eq!((got.status(), got.ending), (Some(200), Ok(())), "{}", got.text());
    assert!(got.text().contains("Hello there"));
    assert_eq!(got.head.as_ref().unwrap().length, Some(got.body.len() as u64));
    let seen = scene.provider_saw(Ended::Finished).await;
    let bearer = format!("Bearer {KEY}");
    assert_eq!(seen.header("authorization"), Some(bearer.as_str()));
    assert_eq!((seen.body.as_deref(), seen.body_complete), (Some(body.as_str()), true));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!(seen.oddities, Vec::<String>::new());
    let outcome = scene.keeper.outcome(call).await;
    assert_eq!((outcome.ending, outcome.status), (Ending::Complete, Some(200)));
    assert_eq!(outcome.sent_bytes, body.len() as u64);
    assert_eq!(outcome.received_bytes, got.body.len() as u64);
    assert_eq!(outcome.usage.told, Told::Exact);
    assert!(outcome.usage.input.is_some() && outcome.first_byte.is_some());
    assert_eq!(scene.keeper.reports_of(call), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_one_credential_share_a_connection_and_those_of_two_do_not() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", "hi");
    for version in [1, 1, 2] {
        let errand = Errand { credential_version: version, ..scene.errand(&body) };
        let (ticket, _) = scene.admit(errand);
        lane.send(ticket, &body).await;
        assert_eq!(lane.answer().await.ending, Ok(()));
    }
    let seen = scene.emulator.seen();
    let connections: Vec<u64> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections[0], connections[1]);
    assert_ne!(connections[1], connections[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_arrives_event_by_event_and_a_burst_in_few_frames() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let mut pieces = Vec::new();
    // What is held back arrives in few pieces each time; what only waits for the machine, once in a while.
    let (paced, call) = loop {
        let (paced, call) = scene.call(&mut lane, &streamed("emu-paced-20-8")).await;
        assert_eq!(paced.ending, Ok(()));
        if paced.chunks.len() >= 8 {
            break (paced, call);
        }
        pieces.push(paced.chunks.len());
        assert!(pieces.len() < 10, "held back: {pieces:?}");
    };
    assert!(paced.head.as_ref().unwrap().length.is_none());
    assert_eq!(scene.keeper.outcome(call).await.usage.told, Told::Exact);
    let (burst, _) = scene.call(&mut lane, &streamed("emu-burst-64")).await;
    assert_eq!(burst.ending, Ok(()));
    assert!(burst.text().matches("data: ").count() >= 64);
    assert!(burst.chunks.len() <= 8, "{:?}", burst.chunks);
}

#[tokio::test(flavor = "multi_thread")]
async fn judged_betas_go_out_and_claimed_ones_do_not() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", "hi");
    let betas = ["one-2025", "two"].map(|beta| BetaName::parse(beta).unwrap()).to_vec();
    let (ticket, _) = scene.admit(Errand { betas, ..scene.errand(&body) });
    let headers = [
        ("content-type", "application/json"),
        ("anthropic-beta", "three"),
        ("authorization", "Bearer mine"),
        ("idempotency-key", "guess"),
    ];
    lane.send_with(ticket, &headers, &body).await;
    assert_eq!(lane.answer().await.ending, Ok(()));
    let seen = scene.provider_saw(Ended::Finished).await;
    assert_eq!(seen.header("anthropic-beta"), Some("one-2025,two"));
    assert!(seen.header("idempotency-key").unwrap().starts_with("sr-"));
    assert!(!seen.mentions("mine") && !seen.mentions("guess"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_reports_its_outcome_before_its_text() {
    let scene = Scene::start().await;
    let errand = scene.get();
    let call = errand.call;
    scene.keeper.say(ToCourier::Probe(Box::new(errand)));
    let text = scene.keeper.until(|heard| {
        heard.iter().find_map(|one| match one {
            Heard::Probed(probed) if probed.call == call => Some(probed.text.clone()),
            _ => None,
        })
    });
    let text = text.await;
    assert!(text.contains("model") && text.len() <= 1024 && !text.contains(KEY), "{text}");
    let heard = scene.keeper.heard();
    assert!(matches!(&heard[..], [Heard::Outcome(outcome), Heard::Probed(_)]
        if outcome.status == Some(200) && outcome.ending == Ending::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_follows_a_redirect_within_the_origin_only() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    for (model, status, requests) in
        [("emu-redirect-same", Some(200), 2), ("emu-redirect-cross", None, 1)]
    {
        scene.emulator.clear();
        let target = Target::parse(&format!("/v1/models/{model}")).unwrap();
        let (ticket, _) = scene.admit(Errand { target, ..scene.get() });
        lane.send_with(ticket, &[], "").await;
        let got = lane.answer().await;
        assert_eq!(got.status(), status, "{model} {got:?}");
        assert_eq!(scene.emulator.seen().len(), requests, "{model}");
        assert!(
            scene.emulator.seen().iter().all(|seen| seen.sni.as_deref() == Some("api.openai.com"))
        );
    }
}
