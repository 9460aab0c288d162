//! Bodies that travel: large, chunked, and other than what was judged.

use strongroom_emulator::Outcome as Ended;
use strongroom_policy::claims::Length;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::BodyKind;
use strongroom_policy::target::Target;
use strongroom_protocol::body::{boundary_of, multipart};
use strongroom_protocol::call::FrameKind;
use strongroom_protocol::errand::{Ending, Errand};

use super::lane::{JSON, frame, head};
use super::scene::{KEY, Scene, chat};

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_streams_through_known_or_chunked() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", &"word ".repeat(100_000));
    for length in [Length::Known(body.len() as u64), Length::Chunked] {
        scene.emulator.clear();
        let (ticket, call) = scene.admit(Errand { length, ..scene.errand(&body) });
        lane.write(&head(ticket, JSON, length)).await;
        for piece in body.as_bytes().chunks(60_000) {
            lane.write(&frame(FrameKind::Body, piece)).await;
        }
        lane.write(&frame(FrameKind::BodyEnd, b"")).await;
        let got = lane.answer().await;
        assert_eq!((got.status(), got.ending), (Some(200), Ok(())));
        let seen = scene.provider_saw(Ended::Finished).await;
        assert_eq!((seen.body_bytes, seen.body_complete), (body.len(), true));
        assert_eq!(seen.oddities, Vec::<String>::new());
        assert_eq!(scene.keeper.outcome(call).await.sent_bytes, body.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_not_judged_never_reaches_its_end() {
    let scene = Scene::start().await;
    let judged = chat("gpt-5", "hello");
    let long = chat("gpt-5", &"word ".repeat(40_000));
    let long_other = chat("gpt-6", &"word ".repeat(40_000));
    let stored = judged.replace("\"model\"", "\"store\":true,\"model\"");
    for (judged, sent) in [
        (&judged, chat("gpt-6", "hello")),
        (&judged, stored),
        (&judged, judged.replace("hello", "hello, more")),
        (&judged, judged.replace("hello", "hi")),
        (&judged, judged.replace('}', " ")),
        (&long, long_other),
    ] {
        let mut lane = scene.lane().await;
        let (ticket, call) = scene.admit(scene.errand(judged));
        lane.write(&head(ticket, JSON, Length::Known(judged.len() as u64))).await;
        for piece in sent.as_bytes().chunks(60_000) {
            lane.write(&frame(FrameKind::Body, piece)).await;
        }
        lane.write(&frame(FrameKind::BodyEnd, b"")).await;
        let got = lane.answer().await;
        assert_eq!((got.status(), got.ending), (None, Err(Refusal::BodyMismatch)), "{sent:.80}");
        let outcome = scene.keeper.outcome(call).await;
        assert_eq!(outcome.ending, Ending::Aborted(Refusal::BodyMismatch));
    }
    assert!(scene.emulator.seen().iter().all(|seen| !seen.body_complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_another_length_or_type_opens_no_connection() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", "hello");
    for (headers, length) in [
        (JSON, Length::Known(body.len() as u64 + 1)),
        (JSON, Length::Chunked),
        (&[][..], Length::Known(body.len() as u64)),
        (&[("content-type", "text/plain")], Length::Known(body.len() as u64)),
        (&[JSON[0], JSON[0]], Length::Known(body.len() as u64)),
    ] {
        let (ticket, _) = scene.admit(scene.errand(&body));
        let opening = [
            head(ticket, headers, length),
            frame(FrameKind::Body, body.as_bytes()),
            frame(FrameKind::BodyEnd, b""),
        ];
        lane.write(&opening.concat()).await;
        assert_eq!(lane.answer().await.ending, Err(Refusal::BodyMismatch));
    }
    assert_eq!(scene.emulator.counts().connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_where_none_was_judged_is_refused() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let (ticket, _) = scene.admit(scene.get());
    let opening = [
        head(ticket, &[], Length::Known(0)),
        frame(FrameKind::Body, b"x"),
        frame(FrameKind::BodyEnd, b""),
    ];
    lane.write(&opening.concat()).await;
    assert_eq!(lane.answer().await.ending, Err(Refusal::BodyMismatch));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_read_as_it_travels() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let media = "multipart/form-data; boundary=XyZ";
    let form = |model: &str| {
        format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
             --XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
             Content-Type: audio/wav\r\n\r\nRIFF{}\r\n--XyZ--\r\n",
            "x".repeat(1000)
        )
    };
    let judged = form("whisper-1");
    let mut scanner = multipart::Scanner::new(&boundary_of(media).unwrap());
    scanner.feed(judged.as_bytes()).unwrap();
    let claims = scanner.finish().unwrap();
    for (sent, ending) in
        [(judged.clone(), Ok(())), (form("whisper-2"), Err(Refusal::BodyMismatch))]
    {
        let target = Target::parse("/v1/audio/transcriptions").unwrap();
        let (body, length) = (BodyKind::Multipart, Length::Known(judged.len() as u64));
        let json = scene.errand(&chat("gpt-5", "x"));
        let errand = Errand { target, body, length, claims: claims.clone(), ..json };
        let (ticket, _) = scene.admit(errand);
        lane.send_with(ticket, &[("content-type", media)], &sent).await;
        assert_eq!(lane.answer().await.ending, ending);
    }
    let complete = scene.emulator.seen().into_iter().filter(|seen| seen.body_complete);
    assert_eq!(complete.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_passes_and_the_lane_serves_the_next_call() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("emu-early-413", &"word ".repeat(200_000));
    let (ticket, _) = scene.admit(scene.errand(&body));
    lane.write(&head(ticket, JSON, Length::Known(body.len() as u64))).await;
    // The body stops half-way; the answer comes anyway.
    for piece in body.as_bytes().chunks(60_000).take(3) {
        lane.write(&frame(FrameKind::Body, piece)).await;
    }
    let got = lane.answer().await;
    assert_eq!((got.status(), got.ending), (Some(413), Ok(())));
    lane.cancel().await;
    let (got, _) = scene.call(&mut lane, &chat("gpt-5", "again")).await;
    assert_eq!((got.status(), got.ending), (Some(200), Ok(())));
    assert!(!got.text().contains(KEY));
}
