//! Hostile providers that never end, or never begin: endless heads, bodies and streams, noise instead of TLS, silence.
//!
//! Invariant: a call costs its bounded memory however long its provider goes on, and its end is told as it was.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use strongroom_emulator::Api;
use strongroom_tests::client::Body;
use strongroom_tests::speak::{Shape, say};
use strongroom_tests::{Appliance, Ending, Part, Piece};

use crate::scene::resident_kib;

/// What one call may cost a process, KiB.
const MAX_A_CALL_KIB: u64 = 8 * 1024;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// Listens in the providers' place; each connection gets what `act` does, on a thread of its own.
struct Liar {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Liar {
    fn stand_in(
        appliance: &mut Appliance,
        act: impl Fn(TcpStream) + Clone + Send + 'static,
    ) -> Self {
        appliance.stop_providers();
        let address = SocketAddr::from((appliance.address(), 443));
        let bind = || TcpListener::bind(address).ok();
        let listener = strongroom_tests::until("the providers' place is free", bind);
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let act = act.clone();
                thread::spawn(move || act(stream));
            }
        });
        Self { address, over }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // So that it looks.
        let _knock = TcpStream::connect(self.address);
    }
}

/// How much the memory of processes has grown at most, KiB, looked at while something goes on.
struct Watch {
    over: Arc<AtomicBool>,
    looking: thread::JoinHandle<u64>,
}

impl Watch {
    fn begin(parts: [Pid; 2]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let before = parts.map(resident_kib);
        let looking = thread::spawn(move || {
            let mut most = 0;
            loop {
                let last = ended.load(Ordering::Relaxed);
                for (pid, before) in parts.iter().zip(before) {
                    most = most.max(resident_kib(*pid).saturating_sub(before));
                }
                if last {
                    return most;
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        Self { over, looking }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.looking.join().expect("both processes last")
    }
}

/// With the certificate of the emulated providers.
fn tls(appliance: &Appliance) -> Arc<ServerConfig> {
    let directory = appliance.scratch().join("providers");
    let leaf = CertificateDer::from_pem_file(directory.join("leaf.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(directory.join("leaf-key.pem")).expect("its key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key);
    Arc::new(config.expect("they fit"))
}

/// Reads a request to its body's end, or near it, and says what `begin` is, then `more` as long as it is read.
fn endless(config: &Arc<ServerConfig>, stream: TcpStream, (begin, more): (&[u8], &[u8])) {
    let Ok(tls) = ServerConnection::new(Arc::clone(config)) else { return };
    let mut tls: Tls = StreamOwned::new(tls, stream);
    let _request = tls.read(&mut [0; 16 * 1024]);
    if tls.write_all(begin).is_err() {
        return;
    }
    while tls.write_all(more).is_ok() {}
}

/// What begins and does not end: the head or the body, and whether the body may pass on for as long as it is read.
struct Endless {
    name: &'static str,
    begin: &'static str,
    more: String,
    streams: bool,
}

fn kinds() -> Vec<Endless> {
    let kind = |name, begin, more: &str, streams| {
        let times = (16 * 1024 / more.len()).max(1);
        Endless { name, begin, more: more.repeat(times), streams }
    };
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let chunked =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let events =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let known =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10737418240\r\n\r\n";
    vec![
        kind("headers", json, "x-more: and more\r\n", false),
        kind("one header", "HTTP/1.1 200 OK\r\nx-more: ", "and more ", false),
        kind("a status line", "HTTP/1.1 200 ", "OK ", false),
        kind("interim answers", "", "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", false),
        kind("a chunk's extension", chunked, ";x=y", false),
        kind("a chunk's size", chunked, "0", false),
        kind("a body in chunks", chunked, "9\r\n[1,2,3,4,\r\n", true),
        kind("a body of a length", known, "[1,2,3,4,", true),
        kind("events", events, "16\r\ndata: {\"choices\":[]}\n\n\r\n", true),
        kind("one event", events, "6\r\ndata: \r\n", true),
    ]
}

#[test]
fn a_provider_without_end_costs_a_bounded_memory_and_is_told_as_it_was() {
    let most: usize = strongroom_soak::size(12 << 20, 2 << 30);
    let (mut appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    gate.call(&say(Api::OpenAi, &token, "m", "warm", Shape::Streamed)).is(200);
    let config = tls(&appliance);
    for kind in kinds() {
        let (config, begin, more) = (Arc::clone(&config), kind.begin, kind.more.clone());
        let liar = Liar::stand_in(&mut appliance, move |stream| {
            endless(&config, stream, (begin.as_bytes(), more.as_bytes()));
        });
        let parts =
            [Part::Courier, Part::Gateway].map(|part| appliance.pid(part).expect("it runs"));
        let watch = Watch::begin(parts);
        let mut connection = gate.connect().expect("the gateway listens");
        let request = say(Api::OpenAi, &token, "m", "hello", Shape::Streamed);
        connection.send(&request.bytes("localhost")).expect("it reads");
        let mut read = 0;
        let ended = match connection.head() {
            Ok((200, _, framing)) => {
                let mut body = Body::new(framing);
                loop {
                    match connection.piece(&mut body) {
                        Piece::Data(data) => read += data.len(),
                        Piece::Ended(ending) => break Some(ending),
                    }
                    if read >= most {
                        break None;
                    }
                }
            }
            Ok((status, _, _)) => {
                assert_eq!(status, 502, "{}", kind.name);
                Some(Ending::Cut)
            }
            Err(ending) => Some(ending),
        };
        let grown = watch.end();
        let told = [None, Some(Ending::Cut)].contains(&ended);
        assert!(told, "{} looks finished, or nothing is told: {ended:?}", kind.name);
        assert_eq!(ended.is_none(), kind.streams, "{}: {ended:?} after {read} bytes", kind.name);
        assert!(grown < MAX_A_CALL_KIB, "{}: {grown} KiB for {read} bytes", kind.name);
        strongroom_soak::tell("provider without end", kind.name, format!("{grown} KiB"));
        drop((connection, liar));
    }
    appliance.start_providers();
    gate.call(&say(Api::OpenAi, &token, "m", "still here", Shape::Plain)).is(200);
}

/// Noise and lies in the place of a handshake.
fn handshakes() -> Vec<(&'static str, Vec<u8>)> {
    let hello = |version: [u8; 2]| {
        let body = [&version[..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
        let length = u8::try_from(body.len()).expect("it is short");
        let record = [&[2, 0, 0, length][..], &body].concat();
        let length = u8::try_from(record.len()).expect("it is short");
        [&[22, 3, 1, 0, length][..], &record].concat()
    };
    vec![
        ("zeros", vec![0; 4096]),
        ("ones", vec![0xff; 4096]),
        ("HTTP", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("a record without end", [&[22, 3, 3, 0xff, 0xff][..], &vec![1; 70_000]].concat()),
        ("SSL 3.0", hello([3, 0])),
        ("TLS 1.0", hello([3, 1])),
        ("TLS 1.1", hello([3, 2])),
        ("application data", [&[23, 3, 3, 0, 16][..], &[1; 16]].concat()),
        ("nothing, and the end", Vec::new()),
    ]
}

#[test]
fn a_provider_that_speaks_no_good_tls_gets_no_byte_of_a_request() {
    let (mut appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    for (name, bytes) in handshakes() {
        let (tell, got) = std::sync::mpsc::channel();
        let liar = Liar::stand_in(&mut appliance, move |mut stream| {
            let mut all = vec![0; 16 * 1024];
            let read = stream.read(&mut all).unwrap_or(0);
            all.truncate(read);
            let _gone = stream.write_all(&bytes);
            let _end = stream.shutdown(std::net::Shutdown::Write);
            let _kept = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let _rest = stream.read_to_end(&mut all);
            let _over = tell.send(all);
        });
        let answer = gate.call(&say(Api::OpenAi, &token, "m", "hello", Shape::Plain));
        let refused = matches!(answer.refusal(), Some("SR-UPSTREAM-001" | "SR-UPSTREAM-003"));
        assert!(answer.status == 502 && refused, "{name}: {}", answer.story());
        let all = got.recv_timeout(strongroom_tests::PATIENCE).expect("it was dialled");
        let found = strongroom_tests::canary::found(&all, &strongroom_tests::canary::needles());
        assert!(found.is_empty() && !all.windows(4).any(|some| some == b"POST"), "{name}");
        drop(liar);
    }
}

#[test]
fn a_provider_that_never_answers_a_handshake_is_given_up_in_time() {
    let (mut appliance, token) = Appliance::stocked();
    let liar = Liar::stand_in(&mut appliance, |stream| {
        // Held, and never spoken on.
        thread::sleep(Duration::from_mins(1));
        drop(stream);
    });
    let begun = std::time::Instant::now();
    let request = say(Api::OpenAi, &token, "m", "hello", Shape::Plain);
    let answer = appliance.gate().call(&request);
    let code = answer.refusal().unwrap_or_default().to_owned();
    assert!(answer.status >= 500 && code.starts_with("SR-UPSTREAM"), "{}", answer.story());
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    drop(liar);
}
