//! Calls that end early.

use std::time::Duration;

use strongroom_emulator::Outcome as Ended;
use strongroom_policy::claims::Length;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::call::FrameKind;
use strongroom_protocol::errand::{Deadlines, Ending, Errand};

use super::lane::{JSON, TestLane, frame, head};
use super::scene::{Scene, chat, streamed};

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_drops_the_provider_and_the_lane_serves_the_next_call() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    // Before the head, and in the midst of a stream.
    for body in [chat("emu-silent", "hi"), streamed("emu-paced-50-4000")] {
        scene.emulator.clear();
        let (ticket, call) = scene.admit(scene.errand(&body));
        lane.send(ticket, &body).await;
        if body.contains("paced") {
            assert_eq!(lane.frame().await.unwrap().0, FrameKind::Answer);
        }
        scene.provider_hears().await;
        lane.cancel().await;
        assert_eq!(lane.answer().await.ending, Err(Refusal::Cancelled));
        assert!(scene.provider_saw(Ended::Cancelled).await.client_left);
        let outcome = scene.keeper.outcome(call).await;
        assert_eq!(outcome.ending, Ending::Aborted(Refusal::Cancelled));
        let (got, _) = scene.call(&mut lane, &chat("gpt-5", "again")).await;
        assert_eq!((got.status(), got.ending), (Some(200), Ok(())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_within_the_body_ends_the_exchange() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", &"word ".repeat(50_000));
    let (ticket, call) = scene.admit(scene.errand(&body));
    lane.write(&head(ticket, JSON, Length::Known(body.len() as u64))).await;
    for piece in body.as_bytes().chunks(50_000).take(3) {
        lane.write(&frame(FrameKind::Body, piece)).await;
    }
    lane.cancel().await;
    assert_eq!(lane.answer().await.ending, Err(Refusal::Cancelled));
    scene.keeper.outcome(call).await;
    let (got, _) = scene.call(&mut lane, &chat("gpt-5", "again")).await;
    assert_eq!(got.ending, Ok(()));
    // One that crosses with the end is no fault.
    lane.cancel().await;
    let (got, _) = scene.call(&mut lane, &chat("gpt-5", "again")).await;
    assert_eq!(got.ending, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_closes_drops_the_provider_and_is_reported() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("emu-silent", "hi");
    let (ticket, call) = scene.admit(scene.errand(&body));
    lane.send(ticket, &body).await;
    scene.provider_hears().await;
    drop(lane);
    assert!(scene.provider_saw(Ended::Cancelled).await.client_left);
    let outcome = scene.keeper.outcome(call).await;
    assert_eq!(outcome.ending, Ending::Aborted(Refusal::Cancelled));
    assert_eq!(scene.keeper.reports_of(call), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_answer_ends_with_a_refusal_after_what_came() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    for model in ["emu-cut-2", "emu-fin-2", "emu-truncated", "emu-badchunk"] {
        let (got, call) = scene.call(&mut lane, &streamed(model)).await;
        assert_eq!(
            (got.status(), got.ending),
            (Some(200), Err(Refusal::ProviderBroken)),
            "{model}"
        );
        // Chunks that came with a malformed one are not told from it.
        assert!(!got.body.is_empty() || model == "emu-badchunk", "{model}");
        let outcome = scene.keeper.outcome(call).await;
        assert_eq!(outcome.ending, Ending::Aborted(Refusal::ProviderBroken));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_provider_is_waited_for_and_a_silent_one_given_up() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let (got, _) = scene.call(&mut lane, &chat("emu-slow-first-300", "hi")).await;
    assert_eq!(got.ending, Ok(()));
    let soon = Duration::from_millis(150);
    let deadlines = Deadlines { body_idle: soon, ..Deadlines::USUAL };
    let silent = Deadlines { first_byte: soon, ..deadlines };
    // Its head is waited for as long as usual: it is there as soon as the machine has the time.
    let stops = Deadlines { idle: soon, ..deadlines };
    for (body, deadlines, status) in [
        (chat("emu-slow-first-60000", "hi"), silent, None),
        (streamed("emu-paced-60000-3"), stops, Some(200)),
    ] {
        let (ticket, _) = scene.admit(Errand { deadlines, ..scene.errand(&body) });
        lane.send(ticket, &body).await;
        let got = lane.answer().await;
        assert_eq!((got.status(), got.ending), (status, Err(Refusal::ProviderTimeout)));
    }
    // A caller that stops sending.
    let body = chat("gpt-5", "hi");
    let (ticket, _) = scene.admit(Errand { deadlines, ..scene.errand(&body) });
    lane.write(&head(ticket, JSON, Length::Known(body.len() as u64))).await;
    assert_eq!(lane.answer().await.ending, Err(Refusal::BodySlow));
    lane.cancel().await;
    let (got, _) = scene.call(&mut lane, &chat("gpt-5", "again")).await;
    assert_eq!(got.ending, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_ticket_is_refused_and_a_wrong_frame_closes_the_lane() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    lane.send(Ticket([0; 16]), "{}").await;
    assert_eq!(lane.answer().await.ending, Err(Refusal::TicketUnknown));
    let (got, _) = scene.call(&mut lane, &chat("gpt-5", "again")).await;
    assert_eq!(got.ending, Ok(()));
    for bad in [
        frame(FrameKind::BodyEnd, b""),
        frame(FrameKind::Head, b"nonsense"),
        frame(FrameKind::End, b""),
        vec![99, 0, 0, 0],
        vec![1, 1, 0, 1],
    ] {
        let mut lane = TestLane::open(scene.call_path()).await;
        lane.write(&bad).await;
        assert!(lane.frame().await.is_none(), "{bad:?}");
    }
}
