//! What callers send over HTTP/1.1, and how they are refused.
//!
//! Claims: a head is found at the same place however it comes; framing that a plain second reading finds twice is none; what travels
//! stood in the head, is visible ASCII and authenticates nobody; a body's bytes are the same in any cut; a refusal is one JSON
//! text whatever is said in it.

use arbitrary::Unstructured;
use bytes::BytesMut;
use serde_json::Value;
use strongroom_gateway::fuzzing::{Request, lower, refuse, request};
use strongroom_gateway::place::{Place, Prefix, check_authority};
use strongroom_http1::{Body, Framing, HeadSearch, Progress, decimal};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::target::Target;
use strongroom_protocol::ask::Refused;

use crate::Verdict;
use crate::cut::Cut;

/// Largest head here: the fuzzer's inputs are shorter than the product's limit.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// `cuts ‖ bytes`: the head of a request.
pub fn head(input: &[u8]) -> Verdict {
    let cut = Cut::of(input);
    let whole = HeadSearch::default().find(cut.text, MAX_HEAD_BYTES);
    let mut search = HeadSearch::default();
    let mut come = Vec::new();
    let mut found = Ok(None);
    for piece in cut.pieces() {
        come.extend_from_slice(piece);
        found = search.find(&come, MAX_HEAD_BYTES);
        if found != Ok(None) {
            break;
        }
    }
    match (whole, found) {
        // A head that ended before the flaw came is a head.
        (Err(_), Ok(Some(end))) => {
            assert!(cut.text.get(..end).is_some_and(|head| head.ends_with(END)));
        }
        (whole, found) => assert_eq!(whole, found, "the cut mattered"),
    }
    let Ok(Some(end)) = found else { return Verdict::Refused };
    let head = &cut.text[..end];
    assert!(head.ends_with(END) && !head[..end - 1].ends_with(END));
    let mut lowered = BytesMut::from(head);
    lower(&mut lowered);
    assert!(lowered.eq_ignore_ascii_case(head));
    for dialect in Dialect::ALL {
        if let Ok(request) = request(&lowered, dialect) {
            check_request(&request, head);
            return Verdict::Accepted;
        }
    }
    Verdict::Refused
}

const END: &[u8] = b"\r\n\r\n";

fn check_request(request: &Request<'_>, head: &[u8]) {
    assert!(!request.method.is_empty() && request.target.starts_with('/'));
    check_framing(request, head);
    for (name, value) in &request.lines {
        assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    if let Ok(travelling) = &request.travelling {
        for (name, value) in travelling {
            assert!(request.lines.contains(&(name, value.as_bytes())), "it was not sent");
            // What comes after these words is the SDKs' own: `x-stainless-lanlookieg` carries no cookie.
            let own = ["x-stainless-", "x-goog-upload-"].iter().any(|own| name.starts_with(own));
            assert!(!PRIVATE.contains(name));
            assert!(own || !(name.contains("api-key") || name.contains("cookie")));
            assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            assert_eq!(travelling.iter().filter(|(other, _)| other == name).count(), 1);
        }
        match request.framing {
            Some(Framing::Length(length)) => assert_eq!(request.length, Some(length)),
            Some(Framing::Chunked) => assert_eq!(request.length, None),
            Some(Framing::Empty) => assert!(matches!(request.length, None | Some(0))),
            Some(Framing::UntilClose) | None => {}
        }
    }
    let hosts = || request.lines.iter().filter(|(name, _)| *name == "host");
    let host = hosts().next().map(|(_, value)| *value);
    if check_authority(request.authority, host).is_ok() && request.travelling.is_ok() {
        assert!(hosts().count() <= 1);
    }
    for prefix in Dialect::ALL.map(Prefix::BuiltIn).into_iter().chain([Prefix::Named]) {
        let Ok(place) = Place::read(prefix, request.target) else { continue };
        let token = request.offers.token(place.key.as_ref().map(|key| key.as_str()));
        if let (Ok(target), Ok(token)) = (place.target(), token) {
            assert_eq!(Target::parse(target.as_str()).as_ref(), Ok(&target));
            assert!(target.parameters().all(|(name, _)| name != "key"), "a key travels");
            assert!(token.expose(|token| token.starts_with(b"sr_")));
        }
    }
}

/// Headers that never travel.
const PRIVATE: [&str; 10] = [
    "authorization",
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "proxy-authorization",
    "te",
    "expect",
    "upgrade",
];

/// A second, plain reading of the lines: what is framed has one length or `chunked` alone.
fn check_framing(request: &Request<'_>, head: &[u8]) {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let values = |wanted: &str| -> Vec<String> {
        let lines = text.split("\r\n").skip(1);
        let named = lines.filter_map(|line| line.split_once(':'));
        let named = named.filter(|(name, _)| name.trim() == wanted);
        named.map(|(_, value)| value.trim_matches([' ', '\t']).to_owned()).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match request.framing {
        None => {}
        Some(Framing::UntilClose) => panic!("a request until the end of its connection"),
        Some(Framing::Empty) => {
            let zero = lengths.iter().all(|length| decimal(length.as_bytes()) == Some(0));
            assert!(codings.is_empty() && lengths.len() <= 1 && zero);
        }
        Some(Framing::Length(length)) => {
            assert!(codings.is_empty());
            assert_eq!(lengths, [length.to_string()].map(|text| pad(&text, &lengths)));
        }
        Some(Framing::Chunked) => {
            assert!(lengths.is_empty());
            assert_eq!(codings, ["chunked"]);
        }
    }
}

/// Zeros in front of a length are its own affair.
fn pad(text: &str, lengths: &[String]) -> String {
    let width = lengths.first().map_or(0, String::len);
    format!("{text:0>width$}")
}

/// `framing 1 ‖ cuts ‖ bytes`: a body, by each framing.
pub fn framing(input: &[u8]) -> Verdict {
    let Some((kind, rest)) = input.split_first() else { return Verdict::Refused };
    let framing = match kind % 8 {
        0 => Framing::Empty,
        1 => Framing::UntilClose,
        2 => Framing::Length(u64::from(*kind)),
        _ => Framing::Chunked,
    };
    let cut = Cut::of(rest);
    let whole = decode(framing, std::iter::once(cut.text));
    let pieces = decode(framing, cut.pieces());
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => {
            assert_eq!(whole.over, pieces.over);
            assert_eq!(whole.data, pieces.data);
            assert!(whole.left.len() + whole.data.len() <= cut.text.len());
            if whole.over {
                assert!(cut.text.ends_with(&whole.left));
            }
        }
        (Err(()), Err(())) => {}
        // In pieces it was over before the flaw came: what follows is another matter.
        (Ok(_), Err(())) | (Err(()), Ok(_)) => panic!("the cut mattered"),
    }
    match whole {
        Ok(read) if framing == Framing::Chunked && read.over => {
            let used = cut.text.len() - read.left.len();
            assert_eq!(chunks(&cut.text[..used]).as_deref(), Some(read.data.as_slice()));
            Verdict::Accepted
        }
        Ok(read) if read.over => Verdict::Accepted,
        Ok(_) | Err(()) => Verdict::Refused,
    }
}

struct Decoded {
    data: Vec<u8>,
    left: Vec<u8>,
    over: bool,
}

fn decode<'a>(framing: Framing, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Decoded, ()> {
    let mut body = Body::new(framing);
    let mut buffer = BytesMut::new();
    let mut data = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if body.progress() == Progress::More {
            let decoded = body.decode(&mut buffer).map_err(drop)?;
            data.extend_from_slice(&decoded.data);
            assert_eq!(decoded.progress, body.progress());
        }
    }
    let over = body.closed().is_ok();
    Ok(Decoded { data, left: buffer.to_vec(), over })
}

/// Reads a whole chunked body line by line; `None` when it is none.
fn chunks(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let (line, rest) = line(text)?;
        let digits = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
        let size = usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        text = rest;
        if size == 0 {
            break;
        }
        let (chunk, rest) = text.split_at_checked(size)?;
        data.extend_from_slice(chunk);
        text = rest.strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, rest) = line(text)?;
        text = rest;
        if trailer.is_empty() {
            return text.is_empty().then_some(data);
        }
    }
}

fn line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&text[..end], &text[end + 2..]))
}

/// A refusal with anything said about it, in each dialect.
pub fn refusal(input: &[u8]) -> Verdict {
    // Of too little nothing is made but defaults.
    if input.len() < 4 {
        return Verdict::Refused;
    }
    let Ok(refused) = refused(&mut Unstructured::new(input)) else { return Verdict::Refused };
    for dialect in Dialect::ALL {
        let answer = refuse(dialect, &refused);
        assert!((400..600).contains(&answer.status));
        for (name, value) in &answer.lines {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            assert!(value.iter().all(|byte| (0x20..0x7f).contains(byte)));
        }
        let code = refused.refusal.code();
        let line = |wanted: &str| answer.lines.iter().find(|(name, _)| name == wanted);
        assert_eq!(
            line("x-strongroom-refusal").map(|line| line.1.as_slice()),
            Some(code.as_bytes())
        );
        let read: Value = serde_json::from_slice(&answer.body).expect("one JSON text");
        let error = read.get("error").expect("an error");
        let message = error.get("message").unwrap_or(error).as_str().expect("a sentence");
        assert!(message.ends_with(&format!("[{code}]")));
        assert!(refused.about.as_ref().is_none_or(|about| message.contains(about.as_str())));
    }
    Verdict::Accepted
}

fn refused(input: &mut Unstructured<'_>) -> arbitrary::Result<Refused> {
    Ok(Refused {
        refusal: *input.choose(&Refusal::ALL)?,
        call: input.arbitrary::<Option<[u8; 16]>>()?.map(CallId::from_random),
        retry_after_secs: input.arbitrary()?,
        about: input.arbitrary()?,
    })
}
