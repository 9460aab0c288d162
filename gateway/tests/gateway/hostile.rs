//! Callers that try what they must not.

use strongroom_protocol::ask::VaultState;
use tokio::io::AsyncWriteExt;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::stage::{BODY, Seen, Stage, chat, large_body, read_to_close, token, unknown_token};

fn code(answer: &str) -> &str {
    let at = answer.find("x-strongroom-refusal: ").map(|at| at + 22);
    at.and_then(|at| answer[at..].split("\r\n").next()).unwrap_or(answer)
}

#[tokio::test]
async fn the_token_comes_first_then_the_seal_then_the_provider_then_the_path() {
    let mut stage = Stage::set(1).await;
    let good = chat("plain", BODY);
    let bearer = format!("Bearer {}", token());
    let without = good.replace(&format!("authorization: {bearer}\r\n"), "");
    let foreign = good.replace(&bearer, "Bearer sk-proj-real");
    let nowhere = |request: &str| request.replace("/openai/v1/", "/p/nowhere/v1/");
    let no_path = |request: &str| request.replace("/v1/chat/completions", "/v1/organization/users");
    for (request, expected) in [
        (nowhere(&without), "SR-TOKEN-001"),
        (no_path(&without), "SR-TOKEN-001"),
        (no_path(&foreign), "SR-TOKEN-002"),
        (nowhere(&good), "SR-PROVIDER-001"),
        (no_path(&good), "SR-PATH-001"),
        (good.replace("POST", "BREW"), "SR-HTTP-003"),
        (good.replace("/v1/chat", "/v1/%2e%2e/chat"), "SR-HTTP-002"),
        (good.replace("/v1/chat", "/v1//chat"), "SR-HTTP-002"),
        (good.replace("POST /", "POST https://evil.example/"), "SR-HTTP-001"),
        (good.replace("application/json", "text/plain"), "SR-BODY-002"),
        (
            good.replace("connection: close", "connection: upgrade\r\nupgrade: websocket"),
            "SR-HTTP-004",
        ),
    ] {
        let request = request.replace("connection: upgrade", "connection: close, upgrade");
        let answer = stage.send(&request).await;
        assert_eq!(code(&answer), expected, "{request}\n{answer}");
    }
    stage.turn(VaultState::Sealed).await;
    assert_eq!(code(&stage.send(&without).await), "SR-TOKEN-001");
    assert_eq!(code(&stage.send(&nowhere(&good)).await), "SR-SEALED-001");
    assert_eq!(code(&stage.send(&good).await), "SR-SEALED-001");
    stage.seen.close();
    assert!(stage.seen.recv().await.is_none(), "something reached the keeper");
}

#[tokio::test]
async fn a_stranger_s_large_body_is_not_read() {
    let mut stage = Stage::set(1).await;
    let request = chat("plain", &large_body(5_000_000)).replace(&token(), &unknown_token());
    let head = &request[..request.find("\r\n\r\n").unwrap() + 4];
    // Only the head is sent: the refusal must not wait for the body.
    let mut stream = stage.dial().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let (answer, _) = read_to_close(&mut stream).await;
    assert_eq!(code(&answer), "SR-TOKEN-003");
    assert!(matches!(stage.next().await, Seen::Identify));
}

#[tokio::test]
async fn bodies_that_could_be_read_in_two_ways_are_refused() {
    let stage = Stage::set(1).await;
    for body in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a"} {"#,
        "\u{feff}{\"model\":\"a\"}",
        "[]",
        "",
    ] {
        let answer = stage.send(&chat("plain", body)).await;
        assert_eq!(code(&answer), "SR-BODY-001", "{body}");
        assert!(answer.contains("x-should-retry: false"), "{answer}");
    }
    let too_large = chat("plain", "").replace("content-length: 0", "content-length: 33554433");
    assert_eq!(code(&stage.send(&too_large).await), "SR-BODY-003");
    let encoded = chat("plain", BODY).replace("host:", "content-encoding: gzip\r\nhost:");
    assert_eq!(code(&stage.send(&encoded).await), "SR-BODY-002");
}

#[tokio::test]
async fn a_request_with_two_framings_never_reaches_the_keeper() {
    let mut stage = Stage::set(1).await;
    let both = chat("plain", "0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .replace("host:", "transfer-encoding: chunked\r\nhost:");
    let two = chat("plain", BODY).replace("host:", "content-length: 5\r\nhost:");
    let space = chat("plain", BODY).replace("host:", "transfer-encoding : chunked\r\nhost:");
    let folded = chat("plain", BODY).replace("host:", "x-app: a\r\n b\r\nhost:");
    for request in [both, two, space, folded] {
        let answer = stage.send(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request}\n{answer}");
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    stage.seen.close();
    assert!(stage.seen.recv().await.is_none(), "something reached the keeper");
}

#[tokio::test]
async fn a_head_without_measure_is_refused() {
    let stage = Stage::set(1).await;
    let many: String = (0..120)
        .flat_map(|n| ["x-stainless-".to_owned(), n.to_string(), ": 1\r\n".to_owned()])
        .collect();
    let long = format!("x-app: {}\r\n", "a".repeat(70_000));
    for more in [many, long] {
        let answer =
            stage.send(&chat("plain", BODY).replace("host:", &format!("{more}host:"))).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let stage = Stage::set(1).await;
    let old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    assert!(stage.dial_as(old).await.is_err());
}

#[tokio::test]
async fn routes_that_are_not_listed_are_not_there() {
    let stage = Stage::set(1).await;
    for path in
        ["/", "/metrics", "/openai", "/p/openai", "/v1/chat/completions", "/OPENAI/v1/models"]
    {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = stage.send(&request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}
