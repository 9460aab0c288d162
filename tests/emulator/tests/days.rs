//! The emulator behaves, and misbehaves, byte for byte as its table of days says.
#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use strongroom_emulator::{Api, Counts, Emulator, Options, Outcome, Seen, echo::Encoding};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const KEY: &str = "sk-proj-Canary_0123-456789.abcdefXYZ";
const PATIENCE: Duration = Duration::from_secs(30);

async fn emulator() -> (Emulator, TempDir) {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut options = Options::new(dir.path());
    for api in Api::ALL {
        options = options.key(api, KEY);
    }
    (Emulator::start(options).await.expect("it starts"), dir)
}

async fn connect(emulator: &Emulator, name: &'static str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).expect("a certificate");
    roots.add(ca).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(emulator.address()).await.expect("it listens");
    let name = ServerName::try_from(name).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

fn chat(model: &str, text: &str, stream: bool) -> String {
    let body = format!(
        r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\nauthorization: Bearer {KEY}\
         \r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends on a fresh connection and reads until the other side closes or the answer is whole.
async fn exchange(emulator: &Emulator, host: &'static str, request: &str) -> String {
    let mut stream = connect(emulator, host).await;
    let request = request.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // A reset is an answer too, where a test asks for one.
    let _end = tokio::time::timeout(PATIENCE, read).await.expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

async fn ended(emulator: &Emulator, outcome: Outcome) -> Seen {
    let enough = |seen: &[Seen], _: Counts| seen.iter().any(|one| one.outcome == outcome);
    let seen = emulator.until(PATIENCE, enough).await.expect("it ends so");
    seen.into_iter().rfind(|one| one.outcome == outcome).expect("just seen")
}

#[tokio::test]
async fn each_host_speaks_its_own_api_and_refuses_a_wrong_key_in_its_own_words() {
    let (emulator, _dir) = emulator().await;
    let wanted = [
        (Api::OpenAi, "401", "invalid_api_key"),
        (Api::Anthropic, "401", "authentication_error"),
        (Api::Gemini, "400", "Invalid API key: wrong-key-0123456789"),
        (Api::Xai, "400", "Client specified an invalid argument"),
    ];
    for (api, status, text) in wanted {
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer wrong-key-0123456789\
             \r\n\r\n",
            api.host()
        );
        let answer = exchange(&emulator, api.host(), &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(text), "{answer}");
    }
    let four = |_: &[Seen], counts: Counts| counts.finished == 4;
    emulator.until(PATIENCE, four).await.expect("four refusals");
    assert!(emulator.seen().iter().all(|seen| !seen.authorised));
    let names: Vec<_> = emulator.seen().into_iter().map(|seen| seen.sni).collect();
    assert_eq!(names[2].as_deref(), Some("generativelanguage.googleapis.com"));
}

#[tokio::test]
async fn what_was_sent_is_recorded_as_it_came() {
    let (emulator, _dir) = emulator().await;
    let answer = exchange(&emulator, "localhost", &chat("gpt-5", "Hello there", false)).await;
    assert!(body(&answer).contains("\"content\": \"Hello there\""), "{answer}");
    let seen = ended(&emulator, Outcome::Finished).await;
    assert_eq!((seen.api, seen.status, seen.body_complete), (Some(Api::OpenAi), Some(200), true));
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert!(seen.mentions("Hello there") && !seen.mentions("nobody said this"));
    assert_eq!(seen.body_sha256.len(), 64);
    emulator.clear();
    assert!(emulator.seen().is_empty());
}

#[tokio::test]
async fn every_encoding_of_the_key_comes_back_whole_in_every_split() {
    let (emulator, _dir) = emulator().await;
    for encoding in Encoding::ALL {
        let written = encoding.encode(KEY);
        let model = format!("emu-echo-key-{}", encoding.name());
        let answer = exchange(&emulator, "localhost", &chat(&model, "x", false)).await;
        assert!(answer.starts_with("HTTP/1.1 400") && body(&answer).contains(&written), "{answer}");
        for place in ["header", "cookie", "redirect", "reason", "trailer", "interim", "event"] {
            let model = format!("{model}-at-{place}");
            let answer =
                exchange(&emulator, "localhost", &chat(&model, "x", place == "event")).await;
            assert!(answer.contains(&written), "{model}: {answer}");
        }
        for size in [1, 2, 7] {
            let model = format!("{model}-split-{size}");
            let answer = exchange(&emulator, "localhost", &chat(&model, "x", false)).await;
            assert!(dechunked(body(&answer), Some(size)).contains(&written), "{answer}");
        }
    }
}

/// Joins chunks, all but the last of which must have the size.
fn dechunked(mut body: &str, size: Option<usize>) -> String {
    let mut joined = String::new();
    loop {
        let (digits, rest) = body.split_once("\r\n").expect("a chunk size");
        let length = usize::from_str_radix(digits, 16).expect("hexadecimal");
        if length == 0 {
            return joined;
        }
        joined.push_str(&rest[..length]);
        body = &rest[length + 2..];
        assert!(size.is_none_or(|size| size == length || body.starts_with('0')), "{length}");
    }
}

#[tokio::test]
async fn a_cut_resets_after_the_chosen_chunks_and_a_fin_closes() {
    let (emulator, _dir) = emulator().await;
    let text = "one two three four five";
    for model in ["emu-cut-3", "emu-fin-3"] {
        let answer = exchange(&emulator, "localhost", &chat(model, text, true)).await;
        assert_eq!(answer.matches("data: ").count(), 3, "{answer}");
        assert!(!answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    let two = |_: &[Seen], counts: Counts| counts.cut == 2;
    emulator.until(PATIENCE, two).await.expect("two cuts");
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_as_cancelled() {
    let (emulator, _dir) = emulator().await;
    for model in ["emu-silent", "emu-paced-20-100000"] {
        emulator.clear();
        let mut stream = connect(&emulator, "localhost").await;
        stream.write_all(chat(model, "x", true).as_bytes()).await.expect("it reads");
        let judged = |seen: &[Seen], counts: Counts| {
            counts.open == 1 && seen.iter().any(|one| one.status.is_some())
        };
        emulator.until(PATIENCE, judged).await.expect("it arrives");
        drop(stream);
        assert!(ended(&emulator, Outcome::Cancelled).await.client_left);
        assert_eq!(emulator.counts().open, 0);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_recorded_as_incomplete() {
    let (emulator, _dir) = emulator().await;
    let mut stream = connect(&emulator, "localhost").await;
    let request = chat("gpt-5", "cut short", false);
    stream.write_all(&request.as_bytes()[..request.len() - 5]).await.expect("it reads");
    stream.flush().await.expect("it reads");
    drop(stream);
    let seen = ended(&emulator, Outcome::Cancelled).await;
    assert!(!seen.body_complete && seen.body_bytes > 0);
}

#[tokio::test]
async fn an_early_413_comes_before_the_body_was_read() {
    let (emulator, _dir) = emulator().await;
    let mut stream = connect(&emulator, "localhost").await;
    let request =
        chat("emu-early-413", "x", false).replace("content-length: ", "content-length: 9");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_second_answer_follows_the_first_unasked() {
    let (emulator, _dir) = emulator().await;
    for stream in [false, true] {
        let request = chat("emu-two-responses", "x", stream);
        let answer = exchange(&emulator, "localhost", &request).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    }
}

#[tokio::test]
async fn doubtful_framing_is_refused_and_trailers_are_noted() {
    let (emulator, _dir) = emulator().await;
    let start =
        format!("POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n");
    for framing in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "content-length: +3\r\n\r\nabc",
        "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    ] {
        let answer = exchange(&emulator, "localhost", &format!("{start}{framing}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{framing}: {answer}");
    }
    let six = |_: &[Seen], counts: Counts| counts.malformed == 6;
    emulator.until(PATIENCE, six).await.expect("six refusals");
    let framed =
        "transfer-encoding: chunked\r\n\r\nd\r\n{\"input\":\"a\"}\r\n0\r\nx-late: 1\r\n\r\n";
    let answer = exchange(&emulator, "localhost", &format!("{start}{framed}")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ended(&emulator, Outcome::Finished).await.oddities, ["trailer \"x-late: 1\""]);
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_a_rotated_key_is_refused() {
    let (emulator, _dir) = emulator().await;
    let mut stream = connect(&emulator, "localhost").await;
    let mut statuses = Vec::new();
    for turn in 0..3 {
        if turn == 2 {
            emulator.replace_key(Api::OpenAi, "another-key");
            emulator.replace_key(Api::Anthropic, "another-key");
            emulator.replace_key(Api::Gemini, "another-key");
            emulator.replace_key(Api::Xai, "another-key");
        }
        stream.write_all(chat("bench-plain", "x", false).as_bytes()).await.expect("it reads");
        let mut held = Vec::new();
        while !held.ends_with(b"}") && !held.ends_with(b"}\n") {
            assert!(stream.read_buf(&mut held).await.expect("an answer") > 0);
        }
        statuses.push(String::from_utf8_lossy(&held[9..12]).into_owned());
    }
    assert_eq!(statuses, ["200", "200", "401"]);
    assert!(emulator.seen().iter().all(|seen| seen.connection == 1));
}

#[tokio::test]
async fn the_fast_path_checks_keys_and_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut options = Options::new(dir.path()).key(Api::OpenAi, KEY);
    options.bench = true;
    let emulator = Emulator::start(options).await.expect("it starts");
    for (model, chunks) in [("bench-burst", 64), ("bench-paced", 64), ("bench-plain", 0)] {
        let mut stream = connect(&emulator, "localhost").await;
        stream.write_all(chat(model, "x", true).as_bytes()).await.expect("it reads");
        let end: &[u8] = if chunks == 0 { b"}" } else { b"0\r\n\r\n" };
        let mut held = Vec::new();
        while !held.ends_with(end) {
            assert!(stream.read_buf(&mut held).await.expect("an answer") > 0);
        }
        let events = String::from_utf8_lossy(&held).matches("\ndata: {").count();
        assert_eq!(events, chunks, "{model}");
    }
    assert_eq!(emulator.counts().requests, 0);
    let wrong = chat("bench-plain", "x", false).replace(KEY, "wrong");
    let answer = exchange(&emulator, "localhost", &wrong).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn the_control_side_tells_and_forgets() {
    let (emulator, _dir) = emulator().await;
    exchange(&emulator, "localhost", &chat("gpt-5", "for the log", false)).await;
    ended(&emulator, Outcome::Finished).await;
    for (method, wanted) in
        [("GET", "for the log"), ("DELETE", "cleared"), ("GET", "\"requests\":[]")]
    {
        let mut stream = TcpStream::connect(emulator.control_address()).await.expect("it listens");
        let request =
            format!("{method} /__emulator/log HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.contains(wanted), "{answer}");
    }
}

#[tokio::test]
async fn a_restart_in_the_same_directory_keeps_the_authority() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let first = Emulator::start(Options::new(dir.path())).await.expect("it starts");
    let second = Emulator::start(Options::new(dir.path())).await.expect("it starts again");
    assert_eq!(first.ca_pem(), second.ca_pem());
    connect(&second, "api.x.ai").await;
}
