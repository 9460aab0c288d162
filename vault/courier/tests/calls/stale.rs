//! A provider that closes idle connections just when they are used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use strongroom_policy::name::HostName;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::errand::Errand;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::scene::{Scene, chat};

const NAME: &str = "stale.example";

struct Stale {
    port: u16,
    authority: Vec<u8>,
    requests: Arc<AtomicU32>,
}

/// Answers the first `answered` requests of each connection and closes at the next.
async fn stale(answered: u32) -> Stale {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&requests);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut buffer = vec![0; 64 * 1024];
            for number in 0.. {
                // Requests here are small and come in one write.
                if stream.read(&mut buffer).await.map_or(true, |read| read == 0) {
                    break;
                }
                count.fetch_add(1, Ordering::Relaxed);
                if number >= answered {
                    break;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                stream.flush().await.unwrap();
            }
            drop(stream.shutdown().await);
        }
    });
    Stale { port, authority: made.cert.der().to_vec(), requests }
}

fn errand(scene: &Scene, provider: &Stale, body: &str) -> Errand {
    let mut errand = scene.errand(body);
    let name = HostName::parse(NAME).unwrap();
    (errand.destination.host, errand.destination.tls_name) = (name.clone(), name);
    errand.destination.port = provider.port;
    errand.destination.extra_authorities = vec![provider.authority.clone()];
    errand
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_that_dies_unanswered_costs_a_second_attempt_and_a_fresh_one_none() {
    let scene = Scene::start_with(&["--host", "stale.example=127.0.0.1"]).await;
    let mut lane = scene.lane().await;
    let body = chat("gpt-5", "hi");
    let provider = stale(1).await;
    for requests in [1, 3] {
        let (ticket, call) = scene.admit(errand(&scene, &provider, &body));
        lane.send(ticket, &body).await;
        let got = lane.answer().await;
        assert_eq!((got.text().as_str(), got.ending), ("ok", Ok(())));
        assert_eq!(provider.requests.load(Ordering::Relaxed), requests);
        assert_eq!(scene.keeper.outcome(call).await.sent_bytes, body.len() as u64);
    }
    let provider = stale(0).await;
    let (ticket, _) = scene.admit(errand(&scene, &provider, &body));
    lane.send(ticket, &body).await;
    assert_eq!(lane.answer().await.ending, Err(Refusal::ProviderBroken));
    assert_eq!(provider.requests.load(Ordering::Relaxed), 1);
}
