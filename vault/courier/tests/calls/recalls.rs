//! The keeper takes calls back, or is gone.

use strongroom_emulator::Outcome as Ended;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::FrameKind;
use strongroom_protocol::errand::{Ending, Recall, ToCourier};

use super::scene::{Scene, chat, streamed};

#[tokio::test(flavor = "multi_thread")]
async fn a_recalled_call_stops_at_once_and_others_go_on() {
    let scene = Scene::start().await;
    let (mut lane, mut other) = (scene.lane().await, scene.lane().await);
    let body = streamed("emu-paced-50-4000");
    let (ticket, call) = scene.admit(scene.errand(&body));
    lane.send(ticket, &body).await;
    for kind in [FrameKind::Answer, FrameKind::Chunk] {
        assert_eq!(lane.frame().await.unwrap().0, kind);
    }
    let slow = chat("emu-slow-first-500", "hi");
    let (slow_ticket, _) = scene.admit(scene.errand(&slow));
    other.send(slow_ticket, &slow).await;
    scene.keeper.say(ToCourier::Recall(Recall::Calls(vec![call])));
    assert_eq!(lane.answer().await.ending, Err(Refusal::Recalled));
    assert!(scene.provider_saw(Ended::Cancelled).await.client_left);
    let outcome = scene.keeper.outcome(call).await;
    assert_eq!(outcome.ending, Ending::Aborted(Refusal::Recalled));
    assert!(outcome.received_bytes > 0);
    assert_eq!(other.answer().await.ending, Ok(()));
    let (got, _) = scene.call(&mut lane, &chat("gpt-5", "again")).await;
    assert_eq!(got.ending, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_of_all_stops_calls_that_wait_for_their_head() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("emu-silent", "hi");
    let (ticket, _) = scene.admit(scene.errand(&body));
    lane.send(ticket, &body).await;
    scene.provider_hears().await;
    scene.keeper.say(ToCourier::Recall(Recall::All));
    assert_eq!(lane.answer().await.ending, Err(Refusal::Recalled));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_keeper_calls_are_aborted_and_the_process_ends_with_75() {
    let mut scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("emu-silent", "hi");
    let (ticket, _) = scene.admit(scene.errand(&body));
    lane.send(ticket, &body).await;
    scene.provider_hears().await;
    scene.keeper.leave();
    assert_eq!(lane.answer().await.ending, Err(Refusal::CourierUnavailable));
    assert_eq!(scene.exit_code().await, Some(75));
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_the_process_aborts_its_calls_and_ends_with_0() {
    let mut scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("emu-silent", "hi");
    let (ticket, call) = scene.admit(scene.errand(&body));
    lane.send(ticket, &body).await;
    scene.provider_hears().await;
    let kill = std::process::Command::new("kill").arg(scene.courier.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert_eq!(lane.answer().await.ending, Err(Refusal::CourierUnavailable));
    scene.keeper.outcome(call).await;
    assert_eq!(scene.exit_code().await, Some(0));
}
