//! What goes to a provider beside its key, and what comes back.
//!
//! Claims: a head that is written has exactly one key and no line that nobody asked for; an answer's head and body mean the same
//! however they are cut; the scrubber masks what a slow search of the whole text would mask; the meter's figures do not
//! depend on the cut; of a provider's URLs only ours come out.

use std::borrow::Cow;

use arbitrary::Unstructured;
use bytes::{Bytes, BytesMut};
use strongroom_courier::answer::{Asked, Head, Reader};
use strongroom_courier::fuzzing::{encodings, request_head, rewrite, urls};
use strongroom_courier::meter::{Completeness, Ending, Layout, Meter};
use strongroom_courier::request::{BodyLength, Request};
use strongroom_courier::scrub::Scrubber;
use strongroom_policy::destination::{Destination, Injection, MAX_FIXED_HEADERS, Reach};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::HostName;
use strongroom_protocol::call::MAX_HEADERS;

use crate::Verdict;
use crate::cut::Cut;

/// `asked 1 ‖ cuts ‖ bytes`: the head of an answer, behind interim ones.
pub fn answer(input: &[u8]) -> Verdict {
    let Some((asked, rest)) = input.split_first() else { return Verdict::Refused };
    let asked = || if asked % 2 == 0 { Asked::Body } else { Asked::Head };
    let cut = Cut::of(rest);
    let whole = read_head(asked(), std::iter::once(cut.text));
    let pieces = read_head(asked(), cut.pieces());
    match (&whole, &pieces) {
        (Some(whole), Some(pieces)) => {
            assert_eq!(format!("{whole:?}"), format!("{pieces:?}"), "the cut mattered");
        }
        // In one piece a flaw behind the head may be seen before the head is.
        (None, Some(_) | None) => {}
        (Some(_), None) => assert!(pieces.is_some(), "the cut mattered"),
    }
    let Some(head) = pieces else { return Verdict::Refused };
    assert!((200..600).contains(&head.status));
    for (name, value) in &head.headers {
        assert!(name.bytes().all(|byte| !byte.is_ascii_uppercase()));
        assert!(!DROPPED.contains(&name.as_ref()) && !name.ends_with("-url"), "{name} passed");
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    Verdict::Accepted
}

/// Headers of an answer that no caller ever sees.
const DROPPED: [&str; 10] = [
    "set-cookie",
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "location",
    "connection",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "alt-svc",
];

fn read_head<'a>(asked: Asked, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Head> {
    let mut reader = Reader::new(asked);
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        match reader.read(&mut buffer) {
            Ok(Some(head)) => return Some(head),
            Ok(None) => {}
            Err(_) => return None,
        }
    }
    None
}

/// The head of a request, of parts that the keeper judged and parts that a caller chose.
pub fn sent(input: &[u8]) -> Verdict {
    let mut input = Unstructured::new(input);
    let Ok(parts) = Parts::of(&mut input) else { return Verdict::Refused };
    // More come from no lane (`relay/order.rs`) and stand in no definition.
    if parts.headers.len() > MAX_HEADERS || parts.fixed.len() > MAX_FIXED_HEADERS {
        return Verdict::Refused;
    }
    let headers: Vec<(&str, Cow<'_, [u8]>)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_slice())))
        .collect();
    let request = Request {
        method: &parts.method,
        target: &parts.target,
        host: &parts.host,
        port: parts.port,
        injection: &parts.injection,
        secret: SECRET,
        fixed: &parts.fixed,
        headers: &headers,
        subject: b"a subject",
        body: parts.body,
    };
    let Ok(written) = request_head(&request) else { return Verdict::Refused };
    let mut lines = [httparse::EMPTY_HEADER; 512];
    let mut read = httparse::Request::new(&mut lines);
    let parsed = read.parse(&written).expect("what is written can be read");
    assert_eq!(parsed, httparse::Status::Complete(written.len()), "something follows the head");
    assert_eq!(
        (read.method, read.path),
        (Some(parts.method.as_str()), Some(parts.target.as_str()))
    );
    let mine = match &parts.injection {
        Injection::Bearer => "authorization",
        Injection::Header(name) => name,
    };
    let count = |name: &str| {
        read.headers.iter().filter(|line| line.name.eq_ignore_ascii_case(name)).count()
    };
    assert_eq!(count("host"), 1);
    assert_eq!(count("accept-encoding"), 1);
    assert_eq!(
        count("content-length") + count("transfer-encoding"),
        usize::from(parts.body != BodyLength::None)
    );
    let own = parts.fixed.iter().filter(|(name, _)| name.eq_ignore_ascii_case(mine)).count();
    assert_eq!(count(mine), 1 + own, "a second key");
    let echoed = |line: &&httparse::Header<'_>| {
        line.value.windows(SECRET.len()).any(|window| window == SECRET)
    };
    assert_eq!(read.headers.iter().filter(echoed).count(), 1, "the key stands once");
    for line in read.headers.iter() {
        let name = line.name.to_ascii_lowercase();
        let asked = parts.headers.iter().any(|(asked, _)| asked.eq_ignore_ascii_case(&name));
        let fixed = parts.fixed.iter().any(|(fixed, _)| fixed.eq_ignore_ascii_case(&name));
        let ours = ["host", "accept-encoding", "content-length", "transfer-encoding"];
        assert!(asked || fixed || name.eq_ignore_ascii_case(mine) || ours.contains(&name.as_str()));
    }
    Verdict::Accepted
}

const SECRET: &[u8] = b"sk-fuzz-0123456789abcdefghij";

struct Parts {
    method: String,
    target: String,
    host: String,
    port: u16,
    injection: Injection,
    fixed: Vec<(String, String)>,
    headers: Vec<(String, Vec<u8>)>,
    body: BodyLength,
}

impl Parts {
    fn of(input: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let method = match input.int_in_range(0..=3)? {
            0 => input.arbitrary()?,
            1 => "GET".to_owned(),
            _ => "POST".to_owned(),
        };
        let injection = match input.int_in_range(0..=2)? {
            0 => Injection::Bearer,
            1 => Injection::Header("x-api-key".to_owned()),
            _ => Injection::Header(input.arbitrary()?),
        };
        let body = match input.int_in_range(0..=2)? {
            0 => BodyLength::None,
            1 => BodyLength::Known(input.arbitrary()?),
            _ => BodyLength::Chunked,
        };
        Ok(Self {
            method,
            injection,
            body,
            port: input.arbitrary()?,
            host: if input.ratio(1, 2)? {
                "api.example.com".to_owned()
            } else {
                input.arbitrary()?
            },
            fixed: if input.ratio(3, 4)? { Vec::new() } else { input.arbitrary()? },
            headers: headers(input)?,
            target: format!("/{}", input.arbitrary::<&str>()?),
        })
    }
}

fn headers(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<(String, Vec<u8>)>> {
    let mut headers = Vec::new();
    for _ in 0..input.int_in_range(0..=8)? {
        let name = match input.int_in_range(0..=NAMES.len())? {
            at if at < NAMES.len() => NAMES[at].to_owned(),
            _ => input.arbitrary()?,
        };
        headers.push((name, input.arbitrary()?));
    }
    Ok(headers)
}

/// Names worth trying: some that pass, some that must not.
const NAMES: [&str; 14] = [
    "content-type",
    "accept",
    "user-agent",
    "idempotency-key",
    "anthropic-version",
    "anthropic-beta",
    "x-stainless-lang",
    "x-goog-upload-command",
    "authorization",
    "Authorization",
    "host",
    "content-length",
    "transfer-encoding",
    "x-api-key",
];

/// `key length 1 ‖ key ‖ cuts ‖ text`: echoes of a key. In the text `\xff n m` stands for the first m bytes of the n-th form of the key.
pub fn scrubber(input: &[u8]) -> Verdict {
    let Some((length, rest)) = input.split_first() else { return Verdict::Refused };
    let Some((secret, rest)) = rest.split_at_checked(usize::from(length % 64)) else {
        return Verdict::Refused;
    };
    let Ok(mut scrubber) = Scrubber::new(secret) else { return Verdict::Refused };
    let forms = encodings(secret);
    let cut = Cut::of(rest);
    let text = with_echoes(cut.text, &forms);
    let expected = masked(&forms, &text);
    let mut out = Vec::new();
    for piece in cut.over(&text).pieces() {
        out.extend_from_slice(&scrubber.feed(Bytes::copy_from_slice(piece)));
        assert!(out.len() <= text.len());
    }
    out.extend_from_slice(&scrubber.finish());
    assert_eq!(out, expected);
    assert_eq!(scrubber.hits() > 0, expected != text || forms_are_masks(&forms, &text));
    let again = Scrubber::new(secret).expect("as before").scrub_header_value(&text);
    assert_eq!(again.unwrap_or_else(|| text.clone()), expected);
    if expected == text { Verdict::Refused } else { Verdict::Accepted }
}

/// Longest text with echoes, about.
const MAX_TEXT_BYTES: usize = 2048;

/// A key of asterisks is masked with itself.
fn forms_are_masks(forms: &[Vec<u8>], text: &[u8]) -> bool {
    let hit = |form: &Vec<u8>| text.windows(form.len()).any(|part| part.eq_ignore_ascii_case(form));
    forms.iter().any(|form| form.iter().all(|byte| *byte == b'*') && hit(form))
}

fn with_echoes(template: &[u8], forms: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = template;
    // The reference takes the product of text and forms.
    while let Some((byte, later)) = rest.split_first().filter(|_| text.len() < MAX_TEXT_BYTES) {
        match later {
            [which, shown, later @ ..] if *byte == 0xff => {
                let form = &forms[usize::from(*which) % forms.len()];
                // 255 and its like show all of it.
                let shown =
                    if *shown >= 128 { form.len() } else { usize::from(*shown).min(form.len()) };
                text.extend_from_slice(&form[..shown]);
                rest = later;
            }
            _ => {
                text.push(*byte);
                rest = later;
            }
        }
    }
    text
}

/// Masks with no state, no skipping and no cuts.
fn masked(forms: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    for form in forms {
        for (start, window) in text.windows(form.len()).enumerate() {
            if window.eq_ignore_ascii_case(form) {
                out[start..start + form.len()].fill(b'*');
            }
        }
    }
    out
}

/// `dialect and layout 1 ‖ cuts ‖ body`: what an answer used.
pub fn meter(input: &[u8]) -> Verdict {
    let Some((kind, rest)) = input.split_first() else { return Verdict::Refused };
    let dialect = Dialect::ALL[usize::from(kind / 4) % Dialect::ALL.len()];
    let layout = if kind % 2 == 0 { Layout::Events } else { Layout::Json };
    let ending = || if kind & 2 == 0 { Ending::Whole } else { Ending::Cut };
    let cut = Cut::of(rest);
    let mut whole = Meter::new(dialect, layout);
    whole.see(cut.text);
    let mut pieces = Meter::new(dialect, layout);
    cut.pieces().for_each(|piece| pieces.see(piece));
    let (whole, pieces) = (whole.finish(ending()), pieces.finish(ending()));
    assert_eq!(whole, pieces, "the cut mattered");
    let told = [whole.input, whole.output, whole.total, whole.cost_ticks];
    if whole.completeness == Completeness::Missing {
        assert_eq!((whole.input, whole.output), (None, None));
    }
    if told.iter().any(Option::is_some) { Verdict::Accepted } else { Verdict::Refused }
}

/// `kind 1 ‖ cuts ‖ bytes`: URLs of the provider, in a header or in a JSON body.
pub fn url(input: &[u8]) -> Verdict {
    let Some((kind, rest)) = input.split_first() else { return Verdict::Refused };
    let destination = destination(kind / 2);
    let place = (&destination, "https://our.example/p/one");
    let cut = Cut::of(rest);
    if kind % 2 == 0 {
        let (target, ours) = urls(place, cut.text);
        if let Some(target) = &target {
            assert!(target.starts_with('/') && !target.starts_with("//"));
        }
        if let Some(ours) = &ours {
            assert!(target.is_some() && ours.starts_with("https://our.example/p/one/"));
            assert!(!ours.contains("?key=") && !ours.contains("&key="));
        }
        return if target.is_some() { Verdict::Accepted } else { Verdict::Refused };
    }
    let whole = rewrite(place, std::iter::once(Bytes::copy_from_slice(cut.text)));
    let pieces = rewrite(place, cut.pieces().map(Bytes::copy_from_slice));
    assert_eq!(whole, pieces, "the cut mattered");
    if whole == cut.text { Verdict::Refused } else { Verdict::Accepted }
}

fn destination(kind: u8) -> Destination {
    let host = HostName::parse("api.example.com").expect("a host");
    Destination {
        host: host.clone(),
        port: if kind.is_multiple_of(2) { 443 } else { 8443 },
        tls_name: host,
        extra_authorities: Vec::new(),
        reach: Reach::Public,
        base_path: if kind % 4 < 2 { String::new() } else { "/base".to_owned() },
        injection: Injection::Bearer,
        fixed_headers: Vec::new(),
    }
}
