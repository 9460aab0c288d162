//! The Gemini API: routes, errors, content plain and streamed, counts and embeddings.
//!
//! Invariant: a wrong key is a 400 whose details hold the whole key, as seen over there.
//! Invariant: usage stands in every piece of a stream and is cumulative; there is no `[DONE]`.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    media,
    reply::{Body, Reply, data},
    request::Call,
    speech::{Speech, tokens},
    world::World,
};

mod files;

pub(crate) use files::opened_by_upload_id;

const JSON: &str = "application/json; charset=UTF-8";

pub(crate) fn answer(call: &Call, world: &World) -> Reply {
    let segments = call.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let rest = match segments.as_slice() {
        ["v1" | "v1beta", "openai", ..] => return as_openai(call, world),
        ["upload" | "download", _, rest @ ..] | ["v1" | "v1beta" | "v1alpha", rest @ ..] => rest,
        other => other,
    };
    let reply = match (call.method.as_str(), rest) {
        ("GET", ["models"]) => {
            let names = ["gemini-2.5-pro", "gemini-2.5-flash", "gemini-embedding-001"].map(model);
            Reply::pretty(200, JSON, &json!({"models": names}))
        }
        ("GET", ["models", name]) => Reply::pretty(200, JSON, &model(name)),
        ("POST", ["models", act]) => act_on(call, world, act.split_once(':').map_or("", |a| a.1)),
        (_, ["files", rest @ ..]) => files::answer(call, world, rest),
        // What a borrowed key must never reach; served here so that a test sees it if it does.
        (_, ["auth_tokens", ..]) => {
            Reply::pretty(200, JSON, &json!({"name": world.make_id("auth_tokens/minted-")}))
        }
        _ => error(404, &format!("The requested URL {} was not found", call.path)),
    };
    reply
        .with("vary", "Origin, X-Origin, Referer")
        .with("server", "scaffolding on HTTPServer2")
        .with("x-xss-protection", "0")
        .with("x-content-type-options", "nosniff")
        .with("server-timing", "gfet4t7; dur=17")
        .with("alt-svc", "h3=\":443\"; ma=2592000")
}

fn act_on(call: &Call, world: &World, act: &str) -> Reply {
    match act {
        "generateContent" => generate(call, world),
        "streamGenerateContent" => stream(call, world),
        "countTokens" => {
            let total = tokens(call.body.len());
            Reply::pretty(
                200,
                JSON,
                &json!({"totalTokens": total,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]}),
            )
        }
        "embedContent" => {
            let embedding = embedding(&call.json);
            Reply::pretty(200, JSON, &json!({ "embedding": embedding }))
        }
        "batchEmbedContents" => {
            let requests = call.json["requests"].as_array().cloned().unwrap_or_default();
            let all: Vec<Value> = requests.iter().map(embedding).collect();
            Reply::pretty(200, JSON, &json!({"embeddings": all}))
        }
        _ => error(404, &format!("Method {act:?} not found")),
    }
}

/// `/v1beta/openai/*` speaks OpenAI's dialect behind Gemini's door.
fn as_openai(call: &Call, world: &World) -> Reply {
    let path = call.path.replacen("/v1beta/openai", "/v1", 1);
    let path = path.replacen("/v1/openai", "/v1", 1);
    let day = call.day.clone();
    let inner = Call {
        api: call.api,
        method: call.method.clone(),
        host: call.host.clone(),
        path,
        query: call.query.clone(),
        headers: call.headers.clone(),
        key: call.key.clone(),
        body: call.body.clone(),
        json: call.json.clone(),
        parts: call.parts.clone(),
        day,
    };
    crate::openai::answer(&inner, world)
}

pub(crate) fn unauthorised(key: Option<&str>) -> Reply {
    let Some(key) = key else {
        return failure(
            403,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity). \
             Please use API Key or other form of API consumer identity to call this API.",
            &json!([]),
        );
    };
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
         "domain": "googleapis.com",
         "metadata": {"service": "generativelanguage.googleapis.com"}},
        {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US",
         "message": "API key not valid. Please pass a valid API key."},
        {"@type": "type.googleapis.com/google.rpc.DebugInfo",
         "detail": format!("Invalid API key: {key}")},
    ]);
    let message = "API key not valid. Please pass a valid API key.";
    failure(400, "INVALID_ARGUMENT", message, &details)
}

pub(crate) fn error(status: u16, message: &str) -> Reply {
    let name = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INVALID_ARGUMENT",
    };
    let details = match status {
        429 => json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]),
        _ => json!([]),
    };
    failure(status, name, message, &details)
}

fn failure(status: u16, name: &str, message: &str, details: &Value) -> Reply {
    let mut error = json!({"code": status, "message": message, "status": name});
    if details.as_array().is_some_and(|details| !details.is_empty()) {
        error["details"] = details.clone();
    }
    Reply::pretty(status, JSON, &json!({ "error": error }))
}

fn model(name: &str) -> Value {
    json!({"name": format!("models/{name}"), "version": "001", "displayName": name,
        "description": "A local emulation", "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65536, "supportedGenerationMethods":
            ["generateContent", "countTokens", "embedContent", "batchGenerateContent"]})
}

fn embedding(request: &Value) -> Value {
    let size = request["outputDimensionality"].as_u64().unwrap_or(8).min(4096);
    json!({"values": media::vector(&request["content"].to_string(), size)})
}

fn generate(call: &Call, world: &World) -> Reply {
    if call.json["contents"].is_null() {
        return error(400, "* GenerateContentRequest.contents: contents is not specified");
    }
    let speech = Speech::of(call, world);
    if speech.fails {
        return error(500, "An internal error has occurred.");
    }
    let part = match &speech.tool {
        Some(tool) => json!({"functionCall": {"name": tool.name, "args": tool.arguments}}),
        None => json!({"text": speech.text()}),
    };
    Reply::pretty(200, JSON, &piece(&speech, &part, true, 100))
}

/// One answer, or one piece of a stream in which so many per cent were said.
fn piece(speech: &Speech, part: &Value, last: bool, percent: u64) -> Value {
    let mut candidate = json!({"content": {"parts": [part], "role": "model"}, "index": 0});
    if last {
        candidate["finishReason"] = json!("STOP");
    }
    let mut piece = json!({"candidates": [candidate], "modelVersion": speech.model,
        "responseId": "emu-response"});
    if let Some(usage) = &speech.usage {
        let so_far = match usage.output.as_u64() {
            Some(output) => {
                json!(output / 100 * percent + output % 100 * percent / 100)
            }
            None => usage.output.clone(),
        };
        piece["usageMetadata"] = json!({"promptTokenCount": usage.input,
            "candidatesTokenCount": so_far, "totalTokenCount": usage.total,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}]});
    }
    piece
}

fn stream(call: &Call, world: &World) -> Reply {
    let speech = Speech::of(call, world);
    let parts: Vec<Value> = match &speech.tool {
        Some(tool) => vec![json!({"functionCall": {"name": tool.name, "args": tool.arguments}})],
        None => speech.said().iter().map(|text| json!({ "text": text })).collect(),
    };
    let count = parts.len().max(1);
    let pieces: Vec<Value> = parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let last = index + 1 == count && !speech.fails;
            let percent = u64::try_from((index + 1) * 100 / count).unwrap_or(100);
            piece(&speech, part, last, percent)
        })
        .collect();
    let events = call.parameter("alt").as_deref() == Some("sse");
    let failure = speech.fails.then(|| error(503, "The model is overloaded.").bytes());
    if events {
        let mut all: Vec<Bytes> = pieces.iter().map(data).collect();
        // Bare JSON in the middle of an event stream, as seen over there.
        all.extend(failure);
        return Reply::events("text/event-stream", all);
    }
    let mut all: Vec<Bytes> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let joint = if index == 0 { "[" } else { ",\r\n" };
        all.push(format!("{joint}{piece:#}").into());
    }
    if let Some(failure) = failure {
        all.push([&b",\r\n"[..], &failure].concat().into());
    }
    all.push(Bytes::from_static(b"\n]\n"));
    let mut reply = Reply::new(200, JSON, Bytes::new());
    reply.body = Body::Pieces(all);
    reply
}
