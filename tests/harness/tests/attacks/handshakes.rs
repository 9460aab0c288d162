//! What must not come after a handshake: another one, a renegotiation, new keys without end, what only a server says.
//!
//! The gateway speaks TLS 1.3 alone, which has no renegotiation; a client can still say such things under the session's keys. Here it
//! does: the keys are taken out of an honest handshake, and records are sealed by hand.
//!
//! Invariant: the same hand also seals a good request, which is answered: what is refused is refused for what it says.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, RootCertStore, StreamOwned,
};
use strongroom_emulator::Api;
use strongroom_tests::speak::models;
use strongroom_tests::{Appliance, Gate, PATIENCE, Part};

use crate::scene::resident_kib;

/// Content types of records.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// What all of them may cost the gateway, KiB.
const MAX_GROWTH_KIB: u64 = 4 * 1024;
/// What may be said to whoever breaks the protocol: an alert, after tickets to resume by.
const MAX_TOLD_BYTES: usize = 4 * 1024;

/// The client's side of a session whose handshake is over, with its keys in hand.
struct Session {
    stream: TcpStream,
    key: LessSafeKey,
    start: [u8; 12],
    number: u64,
}

impl Session {
    fn open(gate: &Gate) -> Self {
        let (config, name) = gate.tls();
        let mut config = (*config).clone();
        config.enable_secret_extraction = true;
        let mut stream = TcpStream::connect(gate.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        while tls.is_handshaking() || tls.wants_write() {
            tls.complete_io(&mut stream).expect("an honest handshake");
        }
        let (number, secrets) = tls.dangerous_extract_secrets().expect("they are given out").tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("another suite was agreed on")
        };
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("its length");
        let start = iv.as_ref().try_into().expect("its length");
        Self { stream, key: LessSafeKey::new(key), start, number }
    }

    /// One record, RFC 8446, 5.2.
    fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut nonce = self.start;
        for (byte, digit) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= digit;
        }
        self.number += 1;
        let mut inner = [content, &[kind]].concat();
        let length = u16::try_from(inner.len() + AES_256_GCM.tag_len()).expect("it fits");
        let head = [&[DATA, 3, 3][..], &length.to_be_bytes()].concat();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(&head), &mut inner).expect("it seals");
        [head, inner].concat()
    }

    /// Sends bytes and hears how many come until the gateway ends the connection; `None` when it does not.
    fn end_of(mut self, bytes: &[u8]) -> Option<usize> {
        let _gone = self.stream.write_all(bytes);
        let mut told = Vec::new();
        match self.stream.read_to_end(&mut told) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => None,
            Ok(_) | Err(_) => Some(told.len()),
        }
    }
}

/// An honest handshake of TLS 1.2, by a client that knows no other.
fn old_client(gate: &Gate) -> std::io::Result<()> {
    let (_, name) = gate.tls();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("it is known")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut stream = TcpStream::connect(gate.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(())
}

/// A handshake message.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("it is short").to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

/// A `ClientHello` that offers TLS 1.2 and a suite of it.
fn hello() -> Vec<u8> {
    message(1, &[&[3, 3][..], &[7; 32], &[0, 0, 4, 0xc0, 0x2f, 0, 0xff, 1, 0]].concat())
}

/// Records before they are sealed: content types and contents.
type Records = Vec<(u8, Vec<u8>)>;

/// What is said under the keys of a session, by its name.
fn broken() -> Vec<(&'static str, Records)> {
    let endless = vec![(HANDSHAKE, message(11, &[0; 0])), (HANDSHAKE, vec![11, 0xff, 0xff, 0xff])];
    let endless = endless.into_iter().chain((0..128).map(|_| (HANDSHAKE, vec![0; 16 * 1024])));
    vec![
        ("a renegotiation", vec![(HANDSHAKE, hello())]),
        (
            "a renegotiation in pieces",
            hello().iter().map(|byte| (HANDSHAKE, vec![*byte])).collect(),
        ),
        ("a request to renegotiate", vec![(HANDSHAKE, message(0, b""))]),
        ("a second end of the handshake", vec![(HANDSHAKE, message(20, &[1; 48]))]),
        ("a server's ticket", vec![(HANDSHAKE, message(4, &[0; 64]))]),
        ("a certificate unasked", vec![(HANDSHAKE, message(11, &[0, 0, 0, 0]))]),
        ("a certificate asked for", vec![(HANDSHAKE, message(13, &[0, 0, 0]))]),
        ("an end of early data", vec![(HANDSHAKE, message(5, b""))]),
        ("new keys of no kind", vec![(HANDSHAKE, message(24, &[9]))]),
        ("new keys amid a message", vec![(HANDSHAKE, [message(24, &[0]), vec![24, 0]].concat())]),
        ("a message of an unknown kind", vec![(HANDSHAKE, message(99, &[1; 16]))]),
        ("a handshake message without end", endless.collect()),
        ("a record of an unknown kind", vec![(99, vec![1; 16])]),
        ("a change of ciphers", vec![(20, vec![1])]),
        ("a fatal alert", vec![(ALERT, vec![2, 40])]),
    ]
}

#[test]
fn nothing_of_a_handshake_is_taken_after_it_and_nothing_is_renegotiated() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let gateway = appliance.pid(Part::Gateway).expect("it runs");
    let good = models(Api::OpenAi, &token).bytes("localhost");
    // The version in which a session can be negotiated anew is not spoken.
    let refused = old_client(&gate).expect_err("the version is old");
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    let mut session = Session::open(&gate);
    let record = session.seal(DATA, &good);
    session.stream.write_all(&record).expect("it reads");
    appliance.seen(|_, counts| counts.requests == 1);
    drop(session);
    let before = resident_kib(gateway);
    for (name, records) in broken() {
        let mut session = Session::open(&gate);
        let mut bytes = Vec::new();
        for (kind, content) in records {
            bytes.extend(session.seal(kind, &content));
        }
        // Nothing of what comes behind it is read.
        bytes.extend(session.seal(DATA, &good));
        let told = session.end_of(&bytes);
        assert!(told.is_some_and(|told| told < MAX_TOLD_BYTES), "{name}: {told:?}");
    }
    // Without the keys: an open ClientHello, a change of ciphers, an alert, a good request.
    let plain = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).expect("it is short").to_be_bytes();
        [&[kind, 3, 3][..], &length, content].concat()
    };
    for (name, bytes) in [
        ("an open renegotiation", plain(HANDSHAKE, &hello())),
        ("an open change of ciphers", plain(20, &[1])),
        ("an open alert", plain(ALERT, &[2, 40])),
        ("an open request", plain(DATA, &good)),
    ] {
        let mut session = Session::open(&gate);
        let behind = session.seal(DATA, &good);
        let told = session.end_of(&[bytes, behind].concat());
        assert!(told.is_some_and(|told| told < MAX_TOLD_BYTES), "{name}: {told:?}");
    }
    let grown = resident_kib(gateway).saturating_sub(before);
    assert!(grown < MAX_GROWTH_KIB, "{grown} KiB");
    assert_eq!(appliance.pid(Part::Gateway), Some(gateway));
    assert_eq!(appliance.providers().counts().requests, 1, "a request behind one of them");
    gate.call(&models(Api::OpenAi, &token)).is(200);
}

#[test]
fn whoever_asks_for_new_keys_without_end_is_shown_out() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let gateway = appliance.pid(Part::Gateway).expect("it runs");
    gate.call(&models(Api::OpenAi, &token)).is(200);
    let before = resident_kib(gateway);
    let (config, name) = gate.tls();
    let tcp = TcpStream::connect(gate.address()).expect("it listens");
    tcp.set_write_timeout(Some(Duration::from_secs(1))).expect("a time-out");
    let tls = ClientConnection::new(config, name).expect("a client");
    let mut stream = StreamOwned::new(tls, tcp);
    while stream.conn.is_handshaking() || stream.conn.wants_write() {
        stream.conn.complete_io(&mut stream.sock).expect("an honest handshake");
    }
    let (begun, mut asked) = (Instant::now(), 0_u64);
    let ended = loop {
        // Each asks the other side for new keys, too; nothing that it says is read.
        stream.conn.refresh_traffic_keys().expect("a session");
        match stream.conn.write_tls(&mut stream.sock) {
            Ok(_) => asked += 1,
            // It reads no more, and so holds nothing of ours either.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break true,
        }
        if begun.elapsed() > PATIENCE {
            break false;
        }
        if asked % 10_000 == 5_000 {
            let grown = resident_kib(gateway).saturating_sub(before);
            assert!(grown < MAX_GROWTH_KIB, "{grown} KiB after {asked}");
        }
    };
    strongroom_soak::tell("TLS", "new keys asked for until shown out", asked);
    assert!(ended, "still taken after {asked}");
    // So many in a row are an honest client's to ask; how many more are under way by then is a matter of speed.
    assert!(asked > 30, "{asked}");
    assert_eq!(appliance.pid(Part::Gateway), Some(gateway));
    gate.call(&models(Api::OpenAi, &token)).is(200);
}

#[test]
fn records_that_say_nothing_keep_no_connection_open() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let gateway = appliance.pid(Part::Gateway).expect("it runs");
    gate.call(&models(Api::OpenAi, &token)).is(200);
    let before = resident_kib(gateway);
    // The library passes over a few, and takes a flood of them for what it is; an honest client sends none.
    for (name, kind) in [("data", DATA), ("a handshake", HANDSHAKE)] {
        let mut session = Session::open(&gate);
        let (begun, mut said) = (Instant::now(), 0_u64);
        let ended = loop {
            let many: Vec<u8> = (0..256).flat_map(|_| session.seal(kind, b"")).collect();
            if session.stream.write_all(&many).is_err() {
                break true;
            }
            said += 256;
            if begun.elapsed() > PATIENCE {
                break false;
            }
        };
        strongroom_soak::tell("TLS", &format!("empty records of {name} until shown out"), said);
        assert!(ended, "{name}: still taken after {said}");
        let grown = resident_kib(gateway).saturating_sub(before);
        assert!(grown < MAX_GROWTH_KIB, "{name}: {grown} KiB after {said}");
    }
    assert_eq!(appliance.pid(Part::Gateway), Some(gateway));
    gate.call(&models(Api::OpenAi, &token)).is(200);
}
