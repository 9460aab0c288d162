//! The program itself, confined, with its start and its ends.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use strongroom_protocol::ask::VaultState;
use strongroom_sys::spawn::{Child, Network};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::stage::{
    BODY, PATIENCE, certify, chat, large_body, play_courier, play_keeper, read_to_close,
};

/// The program under way, with its keeper and courier.
struct Program {
    child: std::process::Child,
    keeper: JoinHandle<()>,
    couriers: [Vec<JoinHandle<()>>; 2],
    port: u16,
    metrics_port: u16,
    roots: RootCertStore,
    _publish: mpsc::UnboundedSender<()>,
    _scratch: tempfile::TempDir,
}

const LANES: usize = 8;

impl Program {
    async fn start() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (roots, cert, key) = certify(scratch.path());
        let [ask, call, call_defined] =
            ["ask.sock", "call.sock", "call-defined.sock"].map(|name| scratch.path().join(name));
        let keeper = UnixListener::bind(&ask).unwrap();
        let couriers = [&call, &call_defined].map(|path| UnixListener::bind(path).unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (ready, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let [cert, key, ask, call, call_defined] =
            [&cert, &key, &ask, &call, &call_defined].map(|path| text(path));
        let lanes = LANES.to_string();
        let line = [
            ["--listener-fd", "3"],
            ["--metrics-listener-fd", "4"],
            ["--ready-fd", "5"],
            ["--cert", &cert],
            ["--key", &key],
            ["--ask", &ask],
            ["--call", &call],
            ["--call-defined", &call_defined],
            ["--lanes", &lanes],
        ];
        let child = Child {
            program: Path::new(env!("CARGO_BIN_EXE_strongroom-gateway")),
            arguments: line.as_flattened(),
            user: None,
            network: Network::Host,
            inherited: &[listener.as_fd(), metrics.as_fd(), theirs.as_fd()],
            keep_environment: &[],
            wipes_freed: false,
        };
        let child = child.start().unwrap();
        drop(theirs);
        let (couriers, keeper, publish) = play(&couriers, &keeper).await;
        ready.set_nonblocking(true).unwrap();
        let mut told = String::new();
        let mut ready = UnixStream::from_std(ready).unwrap();
        within(ready.read_to_string(&mut told)).await.unwrap();
        assert_eq!(told, "ready\n");
        let port = listener.local_addr().unwrap().port();
        let metrics_port = metrics.local_addr().unwrap().port();
        Self {
            child,
            keeper,
            couriers,
            port,
            metrics_port,
            roots,
            _publish: publish,
            _scratch: scratch,
        }
    }

    async fn send(&self, request: &str) -> String {
        let config = ClientConfig::builder()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_to_close(&mut stream).await.0
    }

    async fn ended(&mut self) -> ExitStatus {
        within(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

type Played = ([Vec<JoinHandle<()>>; 2], JoinHandle<()>, mpsc::UnboundedSender<()>);

/// Takes the program's connections, and plays the other processes.
async fn play(listeners: &[UnixListener; 2], keeper: &UnixListener) -> Played {
    let (tell, _) = mpsc::unbounded_channel();
    let (publish, published) = mpsc::unbounded_channel();
    let mut couriers = [Vec::new(), Vec::new()];
    for (courier, lanes) in listeners.iter().zip(&mut couriers) {
        for number in 0..=LANES {
            let (stream, _) = courier.accept().await.unwrap();
            lanes.push(tokio::spawn(play_courier(stream, number, tell.clone())));
        }
    }
    let (stream, _) = keeper.accept().await.unwrap();
    let state = Arc::new(Mutex::new(VaultState::Ready));
    (couriers, tokio::spawn(play_keeper(stream, tell, state, published)), publish)
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap()
}

#[tokio::test]
async fn the_confined_program_serves_counts_and_stops() {
    let mut program = Program::start().await;
    for body in [BODY.to_owned(), large_body(500_000)] {
        assert!(program.send(&chat("plain", &body)).await.ends_with(&body));
    }
    let mut stream = TcpStream::connect(("127.0.0.1", program.metrics_port)).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    let mut page = String::new();
    within(stream.read_to_string(&mut page)).await.unwrap();
    assert!(
        page.contains("strongroom_calls_total{provider=\"openai\",status=\"2xx\"} 2"),
        "{page}"
    );
    for of in ["built-in", "operator-defined"] {
        let line = format!("strongroom_lanes_alive{{courier=\"{of}\"}} {LANES}\n");
        assert!(page.contains(&line), "{page}");
    }
    kill(Pid::from_raw(program.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(program.ended().await.code(), Some(0));
}

#[tokio::test]
async fn without_its_keeper_or_its_courier_the_program_asks_to_be_started_again() {
    let mut program = Program::start().await;
    program.keeper.abort();
    assert_eq!(program.ended().await.code(), Some(75));
    let mut program = Program::start().await;
    program.couriers[0].iter().for_each(JoinHandle::abort);
    assert_eq!(program.ended().await.code(), Some(75));
}

// Red when the end of the one courier ends the process, or leaves its callers waiting.
#[tokio::test]
async fn without_the_courier_of_operator_defined_providers_the_others_are_served() {
    let mut program = Program::start().await;
    let own = chat("plain", BODY).replace("/openai/", "/p/mine/");
    assert!(program.send(&own).await.ends_with(BODY));
    program.couriers[1].iter().for_each(JoinHandle::abort);
    within(async { while !program.send(&own).await.contains("SR-COURIER-001") {} }).await;
    for _ in 0..3 {
        assert!(program.send(&chat("plain", BODY)).await.ends_with(BODY));
        assert!(program.send(&own).await.contains("SR-COURIER-001"));
    }
    assert!(program.child.try_wait().unwrap().is_none(), "it goes on");
}
