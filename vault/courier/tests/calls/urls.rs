//! URLs of the provider that SDKs follow.

use strongroom_policy::claims::Claims;
use strongroom_policy::claims::Length;
use strongroom_policy::destination::Injection;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::HostName;
use strongroom_policy::route::{BodyKind, Method};
use strongroom_policy::target::Target;
use strongroom_protocol::errand::Errand;

use super::lane::Got;
use super::scene::{KEY, Scene};

/// A call whose body nobody reads.
async fn opaque(
    scene: &Scene,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Got {
    let mut errand = Errand {
        method: Method::Post,
        target: Target::parse(path).unwrap(),
        body: BodyKind::Opaque,
        length: Length::Known(body.len() as u64),
        claims: Claims::of_no_body(None),
        dialect: Dialect::Anthropic,
        ..scene.get()
    };
    let name = HostName::parse(host).unwrap();
    (errand.destination.host, errand.destination.tls_name) = (name.clone(), name);
    errand.destination.injection = Injection::Header(
        if host.contains("anthropic") { "x-api-key" } else { "x-goog-api-key" }.to_owned(),
    );
    let (ticket, _) = scene.admit(errand);
    let mut lane = scene.lane().await;
    lane.send_with(ticket, headers, body).await;
    lane.answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_a_batch_are_fetched_through_us() {
    let scene = Scene::start().await;
    let body = r#"{"requests":[{"custom_id":"a","params":{"model":"claude","max_tokens":5,"messages":[]}}]}"#;
    let headers = [("content-type", "application/json"), ("anthropic-version", "2023-06-01")];
    let got = opaque(&scene, "api.anthropic.com", "/v1/messages/batches", &headers, body).await;
    assert_eq!((got.status(), got.ending), (Some(200), Ok(())), "{}", got.text());
    let ours = "\"https://our.example/openai/v1/messages/batches/msgbatch_";
    assert!(got.text().contains(ours), "{}", got.text());
    assert!(!got.text().contains("api.anthropic.com"));
    assert_eq!(got.head.as_ref().unwrap().length, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_through_us_and_its_url_carries_no_key() {
    let host = "generativelanguage.googleapis.com";
    let scene = Scene::start_with(&["--host", &format!("{host}=127.0.0.1")]).await;
    let headers = [
        ("content-type", "application/json"),
        ("x-goog-upload-protocol", "resumable"),
        ("x-goog-upload-command", "start"),
        ("x-goog-upload-header-content-type", "text/plain"),
        ("x-goog-upload-header-content-length", "3"),
    ];
    for display in ["plain", "emu-key-url"] {
        let body = format!(r#"{{"file":{{"display_name":"{display}"}}}}"#);
        let got = opaque(&scene, host, "/upload/v1beta/files", &headers, &body).await;
        assert_eq!((got.status(), &got.ending), (Some(200), &Ok(())), "{}", got.text());
        let url = got.header("x-goog-upload-url").unwrap();
        assert!(
            url.starts_with("https://our.example/openai/upload/v1beta/files?upload_id="),
            "{url}"
        );
        assert!(!got.all().contains("googleapis") && !got.all().contains(KEY), "{}", got.all());
        assert!(!got.all().contains("key="), "{}", got.all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_no_lane() {
    // The test runs as one user, so the gateway has to be another.
    let scene = Scene::start_as(&["--gateway-uid", "65534"]).await;
    let mut lane = scene.lane().await;
    assert!(lane.frame().await.is_none());
}
