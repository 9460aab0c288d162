//! A gateway on a local port, a played keeper, a played courier, and a caller that writes raw HTTP.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strongroom_gateway::gateway::{Broken, Gateway};
use strongroom_gateway::keeper_link::KeeperLink;
use strongroom_gateway::lanes::{Couriers, Lanes};
use strongroom_gateway::listener::Listener;
use strongroom_gateway::start;
use strongroom_policy::id::CallId;
use strongroom_policy::name::ProviderName;
use strongroom_policy::provider::builtin::definitions;
use strongroom_policy::provider::{Origin, ProviderDefinition};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::{
    Answer, Ask, CallAsk, FromGateway, Refused, Route, RoutePath, Snapshot, Ticket, ToGateway,
    VaultState,
};
use strongroom_protocol::call::{
    Abort, AnswerHead, CallHead, FrameHeader, FrameKind, HEADER_BYTES, decode as decode_call,
    encode,
};
use strongroom_protocol::frame::{self, MAX_ASK_BYTES};
use strongroom_protocol::token::write_token;
use strongroom_socket::split_again;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The first number of the lanes for operator-defined providers.
pub(crate) const FIRST_DEFINED: usize = 1000;

/// Everything that stands for one test.
pub(crate) struct Stage {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) port: u16,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    pub(crate) broke: mpsc::Receiver<Broken>,
    pub(crate) stop: watch::Sender<bool>,
    roots: RootCertStore,
    state: Arc<Mutex<VaultState>>,
    publish: mpsc::UnboundedSender<()>,
    _scratch: tempfile::TempDir,
}

/// What keeper and courier saw.
#[derive(Debug)]
pub(crate) enum Seen {
    Identify,
    Call(Box<CallAsk>),
    /// With the number of its lane.
    Head(CallHead, usize),
    Body,
    BodyEnd,
    Cancel,
}

/// For what comes when the machine has the time for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn token() -> String {
    write_token(&[7; 32]).expose(|text| String::from_utf8(text.to_vec()).unwrap())
}

/// A well-formed token that the played keeper does not know.
pub(crate) fn unknown_token() -> String {
    write_token(&[8; 32]).expose(|text| String::from_utf8(text.to_vec()).unwrap())
}

impl Stage {
    pub(crate) async fn set(lanes: usize) -> Self {
        let (tell, seen) = mpsc::unbounded_channel();
        let (broken, broke) = mpsc::channel(8);
        let (ask, keeper) = UnixStream::pair().unwrap();
        let (publish, published) = mpsc::unbounded_channel();
        let state = Arc::new(Mutex::new(VaultState::Ready));
        tokio::spawn(play_keeper(keeper, tell.clone(), Arc::clone(&state), published));
        let open = |lanes, first, broken| {
            let mut ours = Vec::new();
            for number in first..=first + lanes {
                let (here, there) = UnixStream::pair().unwrap();
                ours.push(split_again(here).unwrap());
                tokio::spawn(play_courier(there, number, tell.clone()));
            }
            Lanes::new(ours, broken)
        };
        let couriers = Couriers {
            built_in: open(lanes, 0, Some(broken.clone())),
            operator: open(1, FIRST_DEFINED, None),
        };
        let mut link = KeeperLink::start(split_again(ask).unwrap(), broken.clone());
        link.changed().await;
        let gateway = Arc::new(Gateway::new(link, couriers));
        let scratch = tempfile::tempdir().unwrap();
        let (roots, cert, key) = certify(scratch.path());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let tls = start::tls(&cert, &key).unwrap();
        let (stop, stopped) = watch::channel(false);
        let security_contact = Some("mailto:security@example.com".to_owned());
        let listener = Listener { socket, tls, max_connections: 64, security_contact };
        tokio::spawn(listener.serve(Arc::clone(&gateway), stopped));
        Self { gateway, port, seen, broke, stop, roots, state, publish, _scratch: scratch }
    }

    pub(crate) fn client(&self, protocol: &[u8]) -> ClientConfig {
        let mut config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        config
    }

    pub(crate) async fn dial(&self) -> TlsStream<TcpStream> {
        self.dial_as(self.client(b"http/1.1")).await.unwrap()
    }

    pub(crate) async fn dial_over(&self, stream: TcpStream) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let config = Arc::new(self.client(b"http/1.1"));
        TlsConnector::from(config).connect(name, stream).await.unwrap()
    }

    pub(crate) async fn dial_as(
        &self,
        config: ClientConfig,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends one request and reads until the gateway closes.
    pub(crate) async fn send(&self, request: &str) -> String {
        let mut stream = self.dial().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_close(&mut stream).await.0
    }

    pub(crate) async fn turn(&mut self, state: VaultState) {
        *self.state.lock().unwrap() = state;
        let before = self.gateway.keeper.snapshot().version;
        self.publish.send(()).unwrap();
        let mut link = self.gateway.keeper.clone();
        while self.gateway.keeper.snapshot().version == before {
            link.changed().await;
        }
    }

    pub(crate) async fn next(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.unwrap().unwrap()
    }

    /// Waits until all lanes are idle again.
    pub(crate) async fn lanes_come_back(&self, count: usize) {
        let back = async {
            while self.gateway.couriers.built_in.idle() != count {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, back).await.unwrap();
    }
}

/// A certificate for `localhost` in files, and the roots that know it.
pub(crate) fn certify(directory: &Path) -> (RootCertStore, PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.join("c.pem"), directory.join("k.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (roots, cert, key)
}

/// Everything until the end, and whether it was a clean one.
pub(crate) async fn read_to_close(stream: &mut TlsStream<TcpStream>) -> (String, bool) {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes));
    let clean = read.await.unwrap().is_ok();
    (String::from_utf8_lossy(&bytes).into_owned(), clean)
}

/// A POST of a chat completion; the played courier does what `act` says.
pub(crate) fn chat(act: &str, body: &str) -> String {
    let token = token();
    let length = body.len();
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nx-client-request-id: {act}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}

pub(crate) const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

/// The body of [`chat`] with a text of this length in it.
pub(crate) fn large_body(text: usize) -> String {
    format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(text)
    )
}

fn snapshot(version: u64, state: VaultState) -> Snapshot {
    let route = |definition: ProviderDefinition| Route {
        origin: definition.origin,
        name: definition.name,
        dialect: definition.dialect,
        paths: definition
            .paths
            .into_iter()
            .map(|rule| RoutePath { method: rule.method, pattern: rule.pattern, body: rule.body })
            .collect(),
    };
    let providers = match state {
        VaultState::Ready => {
            let mut all = definitions().unwrap();
            let mine = ProviderName::parse("mine").unwrap();
            all.push(ProviderDefinition { name: mine, origin: Origin::Operator, ..all[0].clone() });
            all.into_iter().map(route).collect()
        }
        _ => Vec::new(),
    };
    Snapshot { version, state, providers, session_key: None }
}

pub(crate) async fn play_keeper(
    mut stream: UnixStream,
    tell: mpsc::UnboundedSender<Seen>,
    state: Arc<Mutex<VaultState>>,
    mut published: mpsc::UnboundedReceiver<()>,
) {
    let mut version = 1;
    let mut tickets = 0_u8;
    let ours = token();
    loop {
        let now = *state.lock().unwrap();
        let message = ToGateway::Snapshot(snapshot(version, now));
        let frame = frame::encode(&message, MAX_ASK_BYTES).unwrap();
        stream.write_all(&frame).await.unwrap();
        version += 1;
        loop {
            let length = tokio::select! {
                length = stream.read_u32_le() => length,
                _ = published.recv() => break,
            };
            let Ok(length) = length else { return };
            let mut body = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            let FromGateway { number, ask } = frame::decode(&body).unwrap();
            let proof = match &ask {
                Ask::Identify { proof, .. } => proof,
                Ask::Call(call) => &call.proof,
                Ask::Person(_) => panic!("nobody signs in here"),
            };
            let good = proof.expose(|text| text == ours.as_bytes());
            tickets = tickets.wrapping_add(1);
            let answer = match (good, &ask) {
                (false, _) => Answer::Refused(Refused::plain(Refusal::TokenInvalid)),
                (true, Ask::Identify { .. } | Ask::Person(_)) => Answer::Identified,
                (true, Ask::Call(_)) => Answer::Admitted {
                    ticket: Ticket([tickets; 16]),
                    call: CallId::from_random([tickets; 16]),
                    budget: None,
                },
            };
            drop(tell.send(match ask {
                Ask::Identify { .. } | Ask::Person(_) => Seen::Identify,
                Ask::Call(call) => Seen::Call(call),
            }));
            let answer = ToGateway::Answer { number, answer };
            let frame = frame::encode(&answer, MAX_ASK_BYTES).unwrap();
            stream.write_all(&frame).await.unwrap();
        }
    }
}

/// One lane of the courier; `x-client-request-id` says how it behaves.
struct Courier {
    stream: UnixStream,
    tell: mpsc::UnboundedSender<Seen>,
    number: usize,
}

pub(crate) async fn play_courier(
    stream: UnixStream,
    number: usize,
    tell: mpsc::UnboundedSender<Seen>,
) {
    let mut courier = Courier { stream, tell, number };
    let mut served = HashSet::new();
    while let Some((kind, payload)) = courier.frame().await {
        match kind {
            // It raced our own end.
            FrameKind::Cancel => {
                drop(courier.tell.send(Seen::Cancel));
            }
            FrameKind::Head => {
                let head: CallHead = decode_call(&payload).unwrap();
                assert!(served.insert(head.ticket), "a ticket came twice");
                let find = |(name, value): &(String, String)| {
                    (name == "x-client-request-id").then(|| value.clone())
                };
                let act = head.headers.iter().find_map(find).unwrap_or_default();
                drop(courier.tell.send(Seen::Head(head, number)));
                if courier.act(&act).await.is_none() {
                    return;
                }
            }
            _ => panic!("{kind:?} between exchanges on lane {}", courier.number),
        }
    }
}

impl Courier {
    async fn frame(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).await.ok()?;
        let header = FrameHeader::parse(header).unwrap();
        let mut payload = vec![0; header.length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((header.kind, payload))
    }

    /// Reads the request to its terminal frame.
    async fn request(&mut self) -> Option<(Vec<u8>, FrameKind)> {
        let mut body = Vec::new();
        loop {
            let (kind, payload) = self.frame().await?;
            let seen = match kind {
                FrameKind::Body => Seen::Body,
                FrameKind::BodyEnd => Seen::BodyEnd,
                FrameKind::Cancel => Seen::Cancel,
                _ => panic!("{kind:?} within a request"),
            };
            drop(self.tell.send(seen));
            body.extend_from_slice(&payload);
            if kind != FrameKind::Body {
                return Some((body, kind));
            }
        }
    }

    async fn write(&mut self, frames: &[Vec<u8>]) -> Option<()> {
        self.stream.write_all(&frames.concat()).await.ok()
    }

    async fn act(&mut self, act: &str) -> Option<()> {
        match act {
            // Answers before the body has come.
            "early" => {
                self.write(&[head(413, "application/json", Some(2)), chunk(b"{}"), end()]).await?;
                self.request().await?;
            }
            "early-abort" => {
                self.write(&[abort(Refusal::ProviderUnreachable)]).await?;
                self.request().await?;
            }
            _ => {
                let (body, terminal) = self.request().await?;
                if terminal == FrameKind::Cancel {
                    return self.write(&[abort(Refusal::Cancelled)]).await;
                }
                self.answer(act, &body).await?;
            }
        }
        Some(())
    }

    async fn answer(&mut self, act: &str, body: &[u8]) -> Option<()> {
        let event = |number: usize| chunk(format!("data: {{\"n\":{number}}}\n\n").as_bytes());
        match act {
            "abort" => self.write(&[abort(Refusal::ProviderTimeout)]).await,
            "broken-stream" => {
                let head = head(200, "text/event-stream", None);
                self.write(&[head, event(0), abort(Refusal::ProviderBroken)]).await
            }
            "broken-event" => {
                let head = head(200, "text/event-stream", None);
                self.write(&[head, chunk(b"data: {\"half"), abort(Refusal::ProviderBroken)]).await
            }
            "broken-length" => {
                let head = head(200, "application/json", Some(100));
                self.write(&[head, chunk(b"{"), abort(Refusal::ProviderBroken)]).await
            }
            "burst" => {
                let events: Vec<_> = (0..64).map(event).collect();
                self.write(
                    &[&[head(200, "text/event-stream", None)], &events[..], &[end()]].concat(),
                )
                .await
            }
            "too-much" => {
                let head = head(200, "application/json", Some(2));
                self.write(&[head, chunk(b"{}more"), end()]).await
            }
            // Streams until it is cancelled.
            "endless" => {
                self.write(&[head(200, "text/event-stream", None), event(0)]).await?;
                let (kind, _) = self.frame().await?;
                assert_eq!(kind, FrameKind::Cancel);
                drop(self.tell.send(Seen::Cancel));
                self.write(&[event(1), abort(Refusal::Cancelled)]).await
            }
            "silent" => {
                let (kind, _) = self.frame().await?;
                assert_eq!(kind, FrameKind::Cancel);
                drop(self.tell.send(Seen::Cancel));
                self.write(&[abort(Refusal::Cancelled)]).await
            }
            "die" => None,
            "late-end" => {
                self.write(&[head(200, "application/json", Some(2)), chunk(b"{}")]).await?;
                // Nothing may come: the caller has all, and that is no cancel.
                if let Ok(frame) = timeout(Duration::from_millis(50), self.frame()).await {
                    let (kind, _) = frame?;
                    assert_eq!(kind, FrameKind::Cancel);
                    drop(self.tell.send(Seen::Cancel));
                }
                self.write(&[end()]).await
            }
            _ => {
                let length = u64::try_from(body.len()).unwrap();
                let mut frames = vec![head(200, "application/json", Some(length))];
                frames.extend(body.chunks(60_000).map(chunk));
                frames.push(end());
                self.write(&frames).await
            }
        }
    }
}

fn head(status: u16, kind: &str, length: Option<u64>) -> Vec<u8> {
    let headers = vec![
        ("content-type".to_owned(), kind.to_owned()),
        ("x-request-id".to_owned(), "req_1".to_owned()),
        ("set-cookie".to_owned(), "a=b".to_owned()),
        ("x-strongroom-refusal".to_owned(), "SR-FALSE-001".to_owned()),
    ];
    encode(FrameKind::Answer, &AnswerHead { status, headers, length }).unwrap()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut frame = FrameHeader::bytes(FrameKind::Chunk, bytes.len()).unwrap().to_vec();
    frame.extend_from_slice(bytes);
    frame
}

fn end() -> Vec<u8> {
    FrameHeader::bytes(FrameKind::End, 0).unwrap().to_vec()
}

fn abort(refusal: Refusal) -> Vec<u8> {
    encode(FrameKind::Abort, &Abort { refusal }).unwrap()
}
