//! Decides what a request gets: the key first, then the day, then the API's ordinary answer.
//!
//! Invariant: only a request with an accepted key, or to a Gemini upload URL that was handed to
//! one, reaches a day or an API.

use bytes::Bytes;

use crate::{
    Api, bench,
    day::Day,
    echo::Place,
    reply::{Body, Reply},
    request::Call,
    script::{Act, script},
    speech::KEY_HERE,
    world::World,
};

/// An answer, ready to be played.
pub(crate) struct Answer {
    pub(crate) authorised: bool,
    pub(crate) status: u16,
    pub(crate) acts: Vec<Act>,
}

pub(crate) fn answer(call: &Call, world: &World) -> Answer {
    let key = call.key.as_deref();
    let by_key = key.is_some_and(|key| world.opens(call.api, key));
    let by_url = || call.api == Api::Gemini && crate::gemini::opened_by_upload_id(call, world);
    let authorised = by_key || by_url();
    if !authorised {
        let reply = call.api.unauthorised(key);
        let status = reply.status;
        let acts = script(reply, &Day::Good, &call.method, "");
        return Answer { authorised, status, acts };
    }
    let key = key.unwrap_or_default();
    if let Day::Bench(which) = call.day {
        return Answer { authorised: true, status: 200, acts: bench::acts(which) };
    }
    let mut reply = reply(call, world);
    match &call.day {
        Day::SlowFirst(wait) => reply.first = *wait,
        Day::Paced(wait, _) => reply.between = *wait,
        _ => {}
    }
    let echo = match &call.day {
        Day::EchoKey { encoding, place, .. } => {
            let written = encoding.encode(key);
            echo_into(&mut reply, call, *place, key, &written);
            written
        }
        _ => String::new(),
    };
    let status = reply.status;
    Answer { authorised: true, status, acts: script(reply, &call.day, &call.method, &echo) }
}

fn reply(call: &Call, world: &World) -> Reply {
    let marked = call.parameter("redirected").is_some();
    match &call.day {
        Day::Status(status) => call.api.error(*status, "The emulator was asked to fail."),
        Day::Early413 => call.api.error(413, "The request is too large."),
        Day::RedirectCross(status) => Reply::new(*status, "text/plain", "elsewhere")
            .with("location", format!("https://localhost:{}/stolen", world.port)),
        Day::RedirectSame(status) if !marked => {
            let joint = if call.query.is_empty() { "" } else { "&" };
            let to = format!("{}{}?{}{joint}redirected=1", call.origin(), call.path, call.query);
            Reply::new(*status, "text/plain", "over there").with("location", to)
        }
        Day::Raw(_) => Reply::new(200, "text/plain; charset=utf-8", call.prompt()),
        Day::EchoKey { place: Place::Error, .. } => {
            call.api.error(400, &format!("This key is not liked here: {KEY_HERE}"))
        }
        _ => call.api.answer(call, world),
    }
}

fn echo_into(reply: &mut Reply, call: &Call, place: Place, key: &str, written: &str) {
    let mut header = |name: &str, value: String| reply.headers.push((name.to_owned(), value));
    match place {
        Place::Header => header("x-debug-key", written.to_owned()),
        Place::KeyHeader => {
            header("authorization", format!("Bearer {written}"));
            header("x-api-key", written.to_owned());
            header("x-goog-api-key", written.to_owned());
        }
        Place::Cookie => header("set-cookie", format!("session={written}; Path=/; HttpOnly")),
        Place::Redirect => {
            header("location", format!("{}/v1/elsewhere?key={written}", call.origin()));
            header("x-goog-api-key", key.to_owned());
            reply.status = 302;
        }
        Place::Reason => written.clone_into(&mut reply.reason),
        Place::Error | Place::Text | Place::Event => {
            rewrite(reply, |body| replaced(body, KEY_HERE, written));
        }
        Place::Stream => spread(reply, written),
        Place::Trailer | Place::Interim => {}
    }
}

fn rewrite(reply: &mut Reply, change: impl Fn(&Bytes) -> Bytes) {
    match &mut reply.body {
        Body::Whole(bytes) => *bytes = change(bytes),
        Body::Pieces(pieces) | Body::Burst(pieces) => {
            for piece in pieces {
                *piece = change(piece);
            }
        }
    }
}

fn replaced(body: &Bytes, from: &str, to: &str) -> Bytes {
    match memchr::memmem::find(body, from.as_bytes()) {
        Some(_) => String::from_utf8_lossy(body).replace(from, to).into(),
        None => body.clone(),
    }
}

/// Repeats the event that holds the placeholder, each time with the next few characters.
fn spread(reply: &mut Reply, written: &str) {
    let parts = parts(written);
    let Body::Pieces(pieces) = &mut reply.body else {
        return rewrite(reply, |body| replaced(body, KEY_HERE, written));
    };
    let holds = |piece: &Bytes| memchr::memmem::find(piece, KEY_HERE.as_bytes()).is_some();
    let mut told = false;
    let mut all = Vec::new();
    for piece in pieces.drain(..) {
        match holds(&piece) {
            // A closing event repeats the whole text; it gets the whole key.
            true if told => all.push(replaced(&piece, KEY_HERE, written)),
            true => {
                all.extend(parts.iter().map(|part| replaced(&piece, KEY_HERE, part)));
                told = true;
            }
            false => all.push(piece),
        }
    }
    *pieces = all;
}

/// A few characters each, never dividing a JSON escape.
fn parts(written: &str) -> Vec<String> {
    let mut units = Vec::new();
    let mut rest = written;
    while !rest.is_empty() {
        let size = if rest.starts_with('\\') { 6 } else { 1 };
        let (unit, after) = rest.split_at(size.min(rest.len()));
        units.push(unit);
        rest = after;
    }
    units.chunks(4).map(<[&str]>::concat).collect()
}

impl Api {
    /// The refusal of bytes that are no request.
    pub(crate) fn nonsense(message: &str) -> Vec<Act> {
        let mut acts = script(Self::OpenAi.error(400, message), &Day::Good, "GET", "");
        acts.push(Act::CloseAfterReading);
        acts
    }
}
