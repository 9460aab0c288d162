//! Turns an answer and a day into the exact acts on the wire.
//!
//! Invariant: pure; every broken byte that the emulator ever sends is made in this file.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    day::{BadFraming, BadHead, Day},
    echo::Place,
    reply::{Body, Reply},
    wire::chunk,
};

/// One step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Write and flush.
    Write(Bytes),
    /// Pause.
    Wait(Duration),
    /// Reset the TCP connection.
    Reset,
    /// Close it in good manners, the answer being complete.
    Close,
    /// Close it in good manners, the answer being broken.
    BreakOff,
    /// Close it, after reading what the client still sends.
    CloseAfterReading,
    /// Say nothing more, keep it open.
    Hang,
}

/// Gives what was written a moment to arrive: a reset discards what is still under way.
const BEFORE_RESET: Duration = Duration::from_millis(50);
const MAX_HANG: Duration = Duration::from_mins(30);
/// How much more a truncated answer promises.
const PROMISED_BYTES: usize = 64;

/// The acts that answer with `reply` as `day` wants it; `echo` is the key as it is to be written.
pub(crate) fn script(reply: Reply, day: &Day, method: &str, echo: &str) -> Vec<Act> {
    let mut acts = Vec::new();
    if !reply.first.is_zero() {
        acts.push(Act::Wait(reply.first));
    }
    if *day == Day::Silent {
        return vec![Act::Wait(MAX_HANG), Act::Hang];
    }
    if let Some(interim) = interim(day, echo) {
        acts.push(Act::Write(interim));
    }
    if method == "HEAD" || matches!(reply.status, 204 | 304) {
        acts.push(Act::Write(head(&reply, day, &[])));
        return acts;
    }
    let reply = shaped(reply, day);
    acts.extend(body(&reply, day, echo));
    if *day == Day::Early413 {
        acts.push(Act::CloseAfterReading);
    }
    acts
}

/// The body as this day sends it: whole, in chunks of a chosen size, compressed.
fn shaped(mut reply: Reply, day: &Day) -> Reply {
    match day {
        Day::EchoKey { split_bytes: Some(size), .. } | Day::Raw(Some(size)) => {
            reply.body = Body::Pieces(pieces(&reply.bytes(), *size));
        }
        Day::Cut(_) | Day::Fin(_) | Day::Trailers if matches!(reply.body, Body::Whole(_)) => {
            reply.body = Body::Pieces(pieces(&reply.bytes(), 64));
        }
        Day::EchoKey { place: Place::Trailer, .. } if matches!(reply.body, Body::Whole(_)) => {
            reply.body = Body::Pieces(vec![reply.bytes()]);
        }
        Day::Truncated | Day::BadFraming(_) => reply.body = Body::Whole(reply.bytes()),
        Day::Gzip => {
            reply.body = Body::Whole(gzip(&reply.bytes()).into());
            reply.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
        }
        Day::Burst(_) => {
            if let Body::Pieces(pieces) = reply.body {
                reply.body = Body::Burst(pieces);
            }
        }
        _ => {}
    }
    reply
}

fn pieces(bytes: &Bytes, size: usize) -> Vec<Bytes> {
    bytes.chunks(size.max(1)).map(|piece| bytes.slice_ref(piece)).collect()
}

fn body(reply: &Reply, day: &Day, echo: &str) -> Vec<Act> {
    match &reply.body {
        Body::Whole(bytes) => whole(reply, day, bytes),
        Body::Burst(pieces) => {
            let mut all = head(reply, day, &[CHUNKED]).to_vec();
            for piece in pieces {
                all.extend_from_slice(&chunk(piece));
            }
            all.extend_from_slice(b"0\r\n\r\n");
            vec![Act::Write(all.into())]
        }
        Body::Pieces(pieces) => chunked(reply, day, echo, pieces),
    }
}

fn whole(reply: &Reply, day: &Day, bytes: &Bytes) -> Vec<Act> {
    let length = |bytes: usize| ("content-length", bytes.to_string());
    let with = |framing: &[(&str, String)], rest: &[u8]| {
        let framing: Vec<(&str, &str)> = framing.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut all = head(reply, day, &framing).to_vec();
        all.extend_from_slice(rest);
        Act::Write(all.into())
    };
    let chunked = (CHUNKED.0, CHUNKED.1.to_owned());
    match day {
        Day::Truncated => {
            vec![with(&[length(bytes.len() + PROMISED_BYTES)], bytes), Act::BreakOff]
        }
        Day::BadFraming(BadFraming::LengthAndChunks) => {
            let framed = [&chunk(bytes)[..], b"0\r\n\r\n"].concat();
            vec![with(&[length(4), chunked], &framed), Act::BreakOff]
        }
        Day::BadFraming(BadFraming::TwoLengths) => {
            vec![with(&[length(bytes.len()), length(4)], bytes), Act::BreakOff]
        }
        Day::BadFraming(how) => {
            let first = chunk(&bytes.slice(..bytes.len() / 2));
            let rest = bytes.slice(bytes.len() / 2..);
            vec![with(&[chunked], &first), Act::Write(bad_chunk(*how, &rest)), Act::BreakOff]
        }
        Day::TwoResponses => {
            let second = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                          content-length: 24\r\n\r\n{\"desync\":\"not for you\"}";
            vec![with(&[length(bytes.len())], &[bytes, second.as_bytes()].concat())]
        }
        _ => vec![with(&[length(bytes.len())], bytes)],
    }
}

fn bad_chunk(how: BadFraming, rest: &[u8]) -> Bytes {
    let (size, after) = match how {
        BadFraming::Huge => ("FFFFFFFFFFFFFFFFFF".to_owned(), "\r\n0\r\n\r\n"),
        BadFraming::Negative => (format!("-{:x}", rest.len()), "\r\n0\r\n\r\n"),
        BadFraming::NoCrlf => (format!("{:x}", rest.len()), "0\r\n\r\n"),
        BadFraming::Size | BadFraming::LengthAndChunks | BadFraming::TwoLengths => {
            ("zz".to_owned(), "\r\n0\r\n\r\n")
        }
    };
    [size.as_bytes(), b"\r\n", rest, after.as_bytes()].concat().into()
}

fn chunked(reply: &Reply, day: &Day, echo: &str, pieces: &[Bytes]) -> Vec<Act> {
    let mut acts = vec![Act::Write(head(reply, day, &[CHUNKED]))];
    let stop = match day {
        Day::Cut(after) | Day::Fin(after) => Some(*after),
        _ => None,
    };
    for (index, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.is_empty()) {
        if stop == Some(index) {
            break;
        }
        if index > 0 && !reply.between.is_zero() {
            acts.push(Act::Wait(reply.between));
        }
        acts.push(Act::Write(chunk(piece)));
    }
    match day {
        Day::Cut(_) => acts.extend([Act::Wait(BEFORE_RESET), Act::Reset]),
        Day::Fin(_) => acts.push(Act::BreakOff),
        Day::Trailers => acts.push(Act::Write(Bytes::from_static(
            b"0\r\nx-emulator-trailer: here\r\nset-cookie: trailer=1\r\n\r\n",
        ))),
        Day::EchoKey { place: Place::Trailer, .. } => {
            acts.push(Act::Write(format!("0\r\nx-debug-key: {echo}\r\n\r\n").into()));
        }
        Day::TwoResponses => acts.push(Act::Write(Bytes::from_static(
            b"0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n{\"desync\":\"not for you\"}",
        ))),
        _ => acts.push(Act::Write(Bytes::from_static(b"0\r\n\r\n"))),
    }
    acts
}

const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

fn head(reply: &Reply, day: &Day, framing: &[(&str, &str)]) -> Bytes {
    let mut head = match day {
        Day::BadHead(BadHead::Status) => "HTTP/1.1 2OO OK\r\n".to_owned(),
        _ => format!("HTTP/1.1 {} {}\r\n", reply.status, reply.reason),
    };
    let own = reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.chain(framing.iter().copied()) {
        head.extend([name, ": ", value, "\r\n"]);
    }
    match day {
        Day::BadHead(BadHead::Fold) => head.push_str("x-folded: one\r\n two\r\n"),
        Day::BadHead(BadHead::Nul) => head.push_str("x-nul: a\0b\r\n"),
        Day::BadHead(BadHead::Space) => head.push_str("x-space : here\r\n"),
        Day::HugeHeader(bytes) => {
            head.extend(["x-huge: ", &"h".repeat(*bytes), "\r\n"]);
        }
        Day::ManyHeaders(count) => {
            head.extend((0..*count).map(|index| format!("x-many-{index}: {index}\r\n")));
        }
        Day::Trailers => head.push_str("trailer: x-emulator-trailer\r\n"),
        Day::Early413 => head.push_str("connection: close\r\n"),
        _ => {}
    }
    head.push_str("\r\n");
    if *day == Day::BadHead(BadHead::LineFeed) {
        head = head.replace("\r\n", "\n");
    }
    head.into()
}

fn interim(day: &Day, echo: &str) -> Option<Bytes> {
    let hint = match day {
        Day::Interim => "link: </style.css>; rel=preload".to_owned(),
        Day::EchoKey { place: Place::Interim, .. } => format!("x-debug-key: {echo}"),
        _ => return None,
    };
    let text = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n{hint}\r\n\r\n");
    Some(text.into())
}

/// A gzip member (RFC 1952) of one block with fixed codes (RFC 1951, 3.2.6): valid, and such that
/// no byte of the text stands in it as it is, which is all a test of hidden echoes needs.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], used: 0 };
    bits.push(0b110, 3);
    for byte in text {
        match byte {
            0..=143 => bits.push(0x30 + u32::from(*byte), 8),
            144..=255 => bits.push(0x190 + u32::from(*byte) - 144, 9),
        }
    }
    bits.push(0, 7);
    let length = u32::try_from(text.len() % (1 << 32)).unwrap_or_default();
    bits.bytes.extend_from_slice(&crc32fast::hash(text).to_le_bytes());
    bits.bytes.extend_from_slice(&length.to_le_bytes());
    bits.bytes
}

struct Bits {
    bytes: Vec<u8>,
    used: u8,
}

impl Bits {
    /// Codes go in from their most significant bit, bytes fill from their least.
    fn push(&mut self, code: u32, length: u32) {
        for at in (0..length).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let (Some(last), 1) = (self.bytes.last_mut(), (code >> at) & 1) {
                *last |= 1 << self.used;
            }
            self.used = (self.used + 1) % 8;
        }
    }
}
