//! Providers that misbehave.

use strongroom_emulator::echo::Encoding;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::errand::Errand;

use super::scene::{KEY, OTHER_KEY, Scene, chat, streamed};

#[tokio::test(flavor = "multi_thread")]
async fn no_echo_of_the_key_comes_through_in_any_encoding_place_or_split() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let mut masked = 0;
    // Escaping every other character is no encoding that any program writes; the scrubber does not know it.
    let partly = [Encoding::PercentPartly, Encoding::JsonPartly];
    for encoding in Encoding::ALL.into_iter().filter(|encoding| !partly.contains(encoding)) {
        let written = encoding.encode(KEY);
        let name = encoding.name();
        let places = ["header", "keyheader", "reason", "cookie", "trailer", "interim", "text"];
        let mut models: Vec<String> =
            places.iter().map(|place| format!("emu-echo-key-{name}-at-{place}")).collect();
        models.push(format!("emu-echo-key-{name}"));
        models.extend([1, 7].map(|size| format!("emu-echo-key-{name}-split-{size}")));
        for model in models {
            let (got, call) = scene.call(&mut lane, &chat(&model, "x")).await;
            assert!(!got.all().contains(&written), "{model}: {}", got.all());
            assert!(got.ending.is_ok(), "{model}: {:?}", got.ending);
            masked += scene.keeper.outcome(call).await.scrubbed;
        }
    }
    assert!(masked > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_could_be_read_in_two_ways_are_refused() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    for model in [
        "emu-gzip",
        "emu-badhead-fold",
        "emu-badhead-nul",
        "emu-badhead-space",
        "emu-badhead-lf",
        "emu-badhead-status",
        "emu-badchunk-clte",
        "emu-badchunk-lengths",
        "emu-huge-header",
        "emu-many-headers",
    ] {
        let (got, _) = scene.call(&mut lane, &chat(model, "x")).await;
        assert_eq!((got.status(), got.ending), (None, Err(Refusal::ProviderBroken)), "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_and_trailers_are_dropped() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    for model in ["emu-1xx", "emu-trailers"] {
        let (got, _) = scene.call(&mut lane, &chat(model, "x")).await;
        assert_eq!((got.status(), got.ending), (Some(200), Ok(())), "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_behind_the_first_reaches_nobody() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    for body in [chat("emu-two-responses", "x"), streamed("emu-two-responses")] {
        let (got, _) = scene.call(&mut lane, &body).await;
        assert_eq!(got.ending, Ok(()));
        assert!(!got.text().contains("desync"));
        for key in [KEY, OTHER_KEY] {
            let body = chat("gpt-5", "next");
            let mut errand = scene.errand(&body);
            errand = Errand {
                credential_version: if key == KEY { 1 } else { 2 },
                secret: SecretBytes::copy_from(key.as_bytes()),
                ..errand
            };
            let (ticket, _) = scene.admit(errand);
            lane.send(ticket, &body).await;
            let got = lane.answer().await;
            assert_eq!((got.status(), got.ending), (Some(200), Ok(())));
            assert!(!got.text().contains("desync"));
        }
    }
    let seen = scene.emulator.seen();
    assert_ne!(seen[0].connection, seen[1].connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_of_a_post_is_not_followed_and_its_location_not_told() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    for model in ["emu-redirect-cross", "emu-redirect-same", "emu-redirect-cross-302"] {
        scene.emulator.clear();
        let (got, _) = scene.call(&mut lane, &chat(model, "x")).await;
        assert_eq!((got.status(), got.ending), (None, Err(Refusal::ProviderRedirect)), "{model}");
        assert_eq!(scene.emulator.seen().len(), 1, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_and_closed_addresses_get_no_key() {
    let scene = Scene::start().await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", "x");
    let name = |text| strongroom_policy::name::HostName::parse(text).unwrap();
    for (host, tls_name, refusal) in [
        ("api.openai.com", "api.mistral.ai", Refusal::ProviderTls),
        ("127.0.0.1", "api.openai.com", Refusal::ProviderAddress),
        ("169.254.169.254", "api.openai.com", Refusal::ProviderAddress),
    ] {
        let mut errand = scene.errand(&body);
        (errand.destination.host, errand.destination.tls_name) = (name(host), name(tls_name));
        let (ticket, _) = scene.admit(errand);
        lane.send(ticket, &body).await;
        assert_eq!(lane.answer().await.ending, Err(refusal), "{host} {tls_name}");
    }
    let mut errand = scene.errand(&body);
    errand.destination.port = 1;
    let (ticket, _) = scene.admit(errand);
    lane.send(ticket, &body).await;
    assert_eq!(lane.answer().await.ending, Err(Refusal::ProviderUnreachable));
    assert!(scene.emulator.seen().is_empty());
}
