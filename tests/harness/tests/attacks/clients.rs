//! Hostile clients at the TLS port: idle by the hundred, old versions and noise, floods of HTTP/2 frames.
//!
//! Invariant: whatever a stranger does there is bounded in memory and time, and an honest caller is served after it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::{ClientConnection, StreamOwned};
use strongroom_emulator::Api;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Gate, PATIENCE, Part, until};

use crate::scene::resident_kib;

/// What an idle connection may cost the gateway, KiB.
const MAX_IDLE_KIB: u64 = 64;
/// What all of them may cost beside that, KiB.
const MAX_IDLE_BASE_KIB: u64 = 8 * 1024;
/// What one flood may cost, KiB: half of what is sent at least.
const MAX_FLOOD_KIB: u64 = 2 * 1024;

#[test]
fn idle_connections_by_the_hundred_cost_little_and_hold_nobody_up() {
    let count = strongroom_soak::size(400, 10_000);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("as far as it may");
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    gate.call(&models(Api::OpenAi, &token)).is(200);
    let gateway = appliance.pid(Part::Gateway).expect("it runs");
    let before = resident_kib(gateway);
    let mut silent = Vec::new();
    let mut greeted = Vec::new();
    for turn in 0..count {
        if turn % 2 == 0 {
            silent.push(TcpStream::connect(gate.address()));
        } else {
            greeted.push(gate.connect());
        }
    }
    let held = silent.iter().filter(|one| one.is_ok()).count()
        + greeted.iter().filter(|one| one.is_ok()).count();
    assert!(held > count / 4, "{held} of {count}");
    let each = u64::try_from(count).expect("it is small");
    let grown = resident_kib(gateway).saturating_sub(before);
    strongroom_soak::tell("idle connections", &format!("KiB for {count}"), grown);
    assert!(grown < MAX_IDLE_BASE_KIB + each * MAX_IDLE_KIB, "{grown} KiB for {count} connections");
    // Strangers have their share of the places; they give them back when their time is over.
    let served = || {
        let mut connection = gate.connect().ok()?;
        (connection.call(&models(Api::OpenAi, &token)).status == 200).then_some(())
    };
    until("an honest caller is served beside them", served);
    assert_eq!(appliance.pid(Part::Gateway), Some(gateway));
}

/// A `ClientHello` of an old version, with a cipher suite of its time.
fn hello(record: [u8; 2], version: [u8; 2]) -> Vec<u8> {
    let body = [&version[..], &[7; 32], &[0, 0, 4, 0, 0x2f, 0, 0x0a, 1, 0]].concat();
    let length = u8::try_from(body.len()).expect("it is short");
    let message = [&[1, 0, 0, length][..], &body].concat();
    let length = u8::try_from(message.len()).expect("it is short");
    [&[22][..], &record, &[0, length], &message].concat()
}

#[test]
fn old_versions_of_tls_and_noise_get_nothing_but_an_alert() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let plain = models(Api::OpenAi, &token).bytes("localhost");
    for (name, bytes) in [
        ("SSL 2.0", [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[1; 0x25]].concat()),
        ("SSL 3.0", hello([3, 0], [3, 0])),
        ("TLS 1.0", hello([3, 1], [3, 1])),
        ("TLS 1.1", hello([3, 1], [3, 2])),
        ("TLS 1.2", hello([3, 1], [3, 3])),
        ("TLS 9.9", hello([9, 9], [9, 9])),
        ("HTTP without TLS", plain),
        ("HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("zeros", vec![0; 64 * 1024]),
        ("ones", vec![0xff; 64 * 1024]),
        ("a record that is too long", [&[22, 3, 1, 0xff, 0xff][..], &vec![1; 70_000]].concat()),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("data before a handshake", [&[23, 3, 3, 0, 16][..], &[1; 16]].concat()),
    ] {
        let mut stream = TcpStream::connect(gate.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time-out");
        let _gone = stream.write_all(&bytes);
        let mut told = Vec::new();
        let begun = Instant::now();
        match stream.read_to_end(&mut told) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                panic!("{name}: {error} after {:?}", begun.elapsed())
            }
            Ok(_) | Err(_) => {}
        }
        assert!(told.is_empty() || (told[0] == 21 && told.len() < 16), "{name}: {told:?}");
    }
    assert_eq!(appliance.providers().counts().requests, 0);
    gate.call(&models(Api::OpenAi, &token)).is(200);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Floods that made other servers fall, by the frame that is repeated and what comes before it.
fn floods() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    // `:method: GET`, `:scheme: https`, `:path: /` of HPACK's table.
    let head = frame(1, 0, 1, &[0x82, 0x87, 0x84]);
    let field = [&[0x40, 1, b'x', 0x7f, 0x21][..], &[b'a'; 160]].concat();
    vec![
        ("CONTINUATION", head.clone(), frame(9, 0, 1, &field)),
        ("empty CONTINUATION", head, frame(9, 0, 1, b"")),
        ("PING", Vec::new(), frame(6, 0, 0, &[7; 8])),
        ("SETTINGS", Vec::new(), frame(4, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ("empty SETTINGS", Vec::new(), frame(4, 0, 0, b"")),
        ("PRIORITY", Vec::new(), frame(2, 0, 3, &[0, 0, 0, 1, 9])),
        ("WINDOW_UPDATE", Vec::new(), frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("unknown frames", Vec::new(), frame(0xee, 0, 0, &[1; 512])),
        ("RST_STREAM of nothing", Vec::new(), frame(3, 0, 5, &[0, 0, 0, 8])),
    ]
}

#[test]
fn floods_of_http2_frames_stay_within_bounds_and_end_where_they_must() {
    let most: usize = strongroom_soak::size(4 << 20, 256 << 20);
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate_speaking(&["h2"]);
    let gateway = appliance.pid(Part::Gateway).expect("it runs");
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
    for (name, begin, again) in floods() {
        let before = resident_kib(gateway);
        // A head that does not end, and what breaks the protocol, ends the connection.
        let must = ["CONTINUATION", "empty CONTINUATION", "WINDOW_UPDATE", "RST_STREAM of nothing"];
        let must = must.contains(&name);
        let patience = if must { PATIENCE } else { Duration::from_secs(1) };
        let (sent, ended) = flood((&gate, patience), &begin, &again, most);
        let grown = resident_kib(gateway).saturating_sub(before);
        strongroom_soak::tell(
            "HTTP/2 floods",
            name,
            format!("{sent} bytes, {grown} KiB, ended: {ended}"),
        );
        assert!(grown < MAX_FLOOD_KIB, "{name}: {grown} KiB after {sent} bytes");
        assert!(ended || !must, "{name}: still taken after {sent} bytes");
    }
    assert_eq!(appliance.pid(Part::Gateway), Some(gateway));
    assert_eq!(appliance.providers().counts().requests, 1);
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
}

/// Sends a frame again and again and never reads; how much was taken, and whether the gateway ended it within our patience.
fn flood(
    (gate, patience): (&Gate, Duration),
    begin: &[u8],
    again: &[u8],
    most: usize,
) -> (usize, bool) {
    let (config, name) = gate.tls();
    let address: SocketAddr = gate.address();
    let tcp = TcpStream::connect(address).expect("it listens");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let tls = ClientConnection::new(Arc::clone(&config), name).expect("a client");
    let mut stream = StreamOwned::new(tls, tcp);
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, b"")[..], begin].concat();
    stream.write_all(&preface).expect("it reads");
    stream.sock.set_write_timeout(Some(patience)).expect("a time-out");
    stream.sock.set_read_timeout(Some(patience)).expect("a time-out");
    let many = again.repeat((16 * 1024 / again.len()).max(1));
    let mut sent = 0;
    while sent < most {
        match stream.write_all(&many) {
            Ok(()) => sent += many.len(),
            // It does not read on, and so holds nothing of ours either.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                break;
            }
            Err(_) => return (sent, true),
        }
    }
    // Whether it has ended shows when what it said is read.
    let mut some = [0; 16 * 1024];
    loop {
        match stream.read(&mut some) {
            Ok(0) => return (sent, true),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                return (sent, false);
            }
            Err(_) => return (sent, true),
        }
    }
}
