//! The OpenAI API, and xAI's as far as it is the same: routes, headers, errors.
//!
//! Invariant: every answer carries the request id and the rate-limit headers of its API.

use serde_json::{Value, json};

use crate::{
    Api,
    reply::Reply,
    request::Call,
    world::{World, now},
};

mod chat;
mod files;
mod responses;
mod small;
pub(crate) mod xai;

pub(crate) fn answer(call: &Call, world: &World) -> Reply {
    let segments = call.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let rest = segments.strip_prefix(&["v1"]).unwrap_or(&segments);
    let reply = route(call, world, rest);
    match call.api {
        Api::Xai => reply.with("x-request-id", world.make_id("")),
        Api::OpenAi | Api::Anthropic | Api::Gemini => furnished(reply),
    }
}

fn route(call: &Call, world: &World, rest: &[&str]) -> Reply {
    match (call.method.as_str(), rest) {
        ("POST", ["chat", "completions"]) => chat::completion(call, world),
        ("POST", ["responses"]) => responses::make(call, world),
        ("GET", ["responses", id]) | ("POST", ["responses", id, "cancel"]) => {
            responses::find(call, world, id)
        }
        ("DELETE", ["responses", id]) => files::forget(call, world, "response", id),
        ("POST", ["embeddings"]) => small::embeddings(call),
        ("GET", ["models"]) => small::models(call),
        ("GET", ["models", id]) => Reply::pretty(200, JSON, &small::model(call, id)),
        ("POST", ["moderations"]) => small::moderation(call, world),
        ("POST", ["images", "generations" | "edits" | "variations"]) => small::image(),
        ("POST", ["audio", "transcriptions" | "translations"]) => small::transcription(call),
        ("POST", ["audio", "speech"]) => small::speech(),
        (_, ["files" | "batches" | "uploads", ..]) => files::answer(call, world, rest),
        // What a borrowed key must never reach; served here so that a test sees it if it does.
        (_, ["realtime", "client_secrets" | "sessions"] | ["organization", ..]) => {
            let minted = json!({"object": "secret", "value": world.make_id("ek_minted_")});
            Reply::pretty(200, JSON, &minted)
        }
        (_, ["api-key"]) if call.api == Api::Xai => xai::key_card(call),
        ("GET", ["language-models", ..]) if call.api == Api::Xai => small::models(call),
        _ => call.api.error(404, &format!("Invalid URL ({} {})", call.method, call.path)),
    }
}

pub(crate) const JSON: &str = "application/json";

/// The headers that OpenAI puts on everything, cookies and alternatives included.
fn furnished(reply: Reply) -> Reply {
    let number = now() % 1_000_000;
    reply
        .with("x-request-id", format!("req_emu{number:029}"))
        .with("openai-processing-ms", "17")
        .with("openai-version", "2020-10-01")
        .with("openai-organization", "emulator")
        .with("x-ratelimit-limit-requests", "10000")
        .with("x-ratelimit-remaining-requests", "9999")
        .with("x-ratelimit-reset-requests", "6ms")
        .with("x-ratelimit-limit-tokens", "2000000")
        .with("x-ratelimit-remaining-tokens", "1999990")
        .with("x-ratelimit-reset-tokens", "0s")
        .with("set-cookie", "__cf_bm=emulator; path=/; domain=.api.openai.com; HttpOnly; Secure")
        .with("strict-transport-security", "max-age=31536000; includeSubDomains; preload")
        .with("alt-svc", "h3=\":443\"; ma=86400")
        .with("server", "cloudflare")
}

pub(crate) fn unauthorised(key: Option<&str>) -> Reply {
    let (message, code) = match key {
        None => (
            "You didn't provide an API key. You need to provide your API key in an Authorization \
             header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
                .to_owned(),
            Value::Null,
        ),
        Some(key) => (
            format!(
                "Incorrect API key provided: {}. You can find your API key at \
                 https://platform.openai.com/account/api-keys.",
                masked(key)
            ),
            json!("invalid_api_key"),
        ),
    };
    furnished(shaped(401, &message, "invalid_request_error", &code))
}

/// As OpenAI and xAI show a key in an error: its ends, and stars.
fn masked(key: &str) -> String {
    match (key.get(..8), key.len().checked_sub(4).and_then(|at| key.get(at..))) {
        (Some(start), Some(end)) if key.len() > 12 => {
            format!("{start}{}{end}", "*".repeat(key.len() - 12))
        }
        _ => "*".repeat(key.len()),
    }
}

pub(crate) fn error(status: u16, message: &str) -> Reply {
    let (kind, code) = match status {
        402 => ("billing_error", json!("billing_hard_limit_reached")),
        403 => ("invalid_request_error", json!("unsupported_country_region_territory")),
        404 => ("invalid_request_error", json!("not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        500.. => ("server_error", Value::Null),
        _ => ("invalid_request_error", Value::Null),
    };
    let reply = furnished(shaped(status, message, kind, &code));
    match status {
        429 => reply.with("retry-after", "1").with("retry-after-ms", "200"),
        _ => reply,
    }
}

fn shaped(status: u16, message: &str, kind: &str, code: &Value) -> Reply {
    let error = json!({"message": message, "type": kind, "param": null, "code": code});
    Reply::pretty(status, JSON, &json!({ "error": error }))
}
