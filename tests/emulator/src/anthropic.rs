//! The Anthropic API: routes, headers, errors, messages plain and streamed.
//!
//! Invariant: `anthropic-version` is required, as it is over there.
//! Invariant: streamed output tokens are cumulative; the last count is the count.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    reply::{Reply, event},
    request::Call,
    speech::{Speech, tokens},
    world::World,
};

mod stored;

pub(crate) fn answer(call: &Call, world: &World) -> Reply {
    if call.header("anthropic-version").is_none() {
        return error(400, "anthropic-version: header is required");
    }
    let segments = call.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let reply = match (call.method.as_str(), segments.as_slice()) {
        ("POST", ["v1", "messages"]) => messages(call, world),
        ("POST", ["v1", "messages", "count_tokens"]) => {
            Reply::json(200, &json!({"input_tokens": tokens(call.body.len())}))
        }
        ("GET", ["v1", "models"]) => {
            let data = ["claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"].map(model);
            Reply::json(200, &listed(&data))
        }
        ("GET", ["v1", "models", id]) => Reply::json(200, &model(id)),
        (_, ["v1", "messages", "batches", rest @ ..]) => stored::batches(call, world, rest),
        (_, ["v1", "files", rest @ ..]) => stored::files(call, world, rest),
        // What a borrowed key must never reach; served here so that a test sees it if it does.
        (_, ["v1", "organizations" | "vaults", ..]) => {
            Reply::json(200, &json!({"type": "api_key", "key": world.make_id("sk-ant-minted-")}))
        }
        _ => error(404, "Not found"),
    };
    furnished(reply)
}

fn furnished(reply: Reply) -> Reply {
    reply
        .with("request-id", "req_emu000000000000000000")
        .with("anthropic-organization-id", "00000000-0000-4000-8000-000000000000")
        .with("anthropic-ratelimit-requests-limit", "4000")
        .with("anthropic-ratelimit-requests-remaining", "3999")
        .with("anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z")
        .with("anthropic-ratelimit-input-tokens-limit", "2000000")
        .with("anthropic-ratelimit-input-tokens-remaining", "1999000")
        .with("anthropic-ratelimit-output-tokens-limit", "400000")
        .with("anthropic-ratelimit-output-tokens-remaining", "399000")
        .with("strict-transport-security", "max-age=31536000; includeSubDomains; preload")
        .with("server", "cloudflare")
        .with("cf-cache-status", "DYNAMIC")
}

pub(crate) fn unauthorised(key: Option<&str>) -> Reply {
    match key {
        Some(_) => error(401, "invalid x-api-key"),
        None => error(401, "x-api-key header is required"),
    }
}

pub(crate) fn error(status: u16, message: &str) -> Reply {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let body = json!({"type": "error", "error": {"type": kind, "message": message},
        "request_id": "req_emu000000000000000000"});
    let reply = furnished(Reply::json(status, &body)).with(
        "x-should-retry",
        match status {
            408 | 409 | 429 | 500.. => "true",
            _ => "false",
        },
    );
    if status == 429 { reply.with("retry-after", "1") } else { reply }
}

fn model(id: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-10-01T00:00:00Z"})
}

fn listed(data: &[Value]) -> Value {
    let end = |one: Option<&Value>| one.map_or(Value::Null, |one| one["id"].clone());
    let (first, last) = (end(data.first()), end(data.last()));
    json!({"data": data, "has_more": false, "first_id": first, "last_id": last})
}

fn messages(call: &Call, world: &World) -> Reply {
    for field in ["model", "messages", "max_tokens"] {
        if call.json[field].is_null() {
            return error(400, &format!("{field}: Field required"));
        }
    }
    let speech = Speech::of(call, world);
    let id = world.make_id("msg_");
    if call.json["stream"] == json!(true) {
        return Reply::events("text/event-stream; charset=utf-8", events(&speech, &id));
    }
    if speech.fails {
        return error(500, "Internal server error");
    }
    let mut whole = message(&speech, &id, &[block(&speech)]);
    whole["stop_reason"] = json!(stop_reason(&speech));
    if let Some(usage) = &speech.usage {
        whole["usage"] = usage_with(&usage.input, &usage.output);
    }
    Reply::json(200, &whole)
}

fn message(speech: &Speech, id: &str, content: &[Value]) -> Value {
    json!({"id": id, "type": "message", "role": "assistant", "model": speech.model,
        "content": content, "stop_reason": null, "stop_sequence": null})
}

fn usage_with(input: &Value, output: &Value) -> Value {
    json!({"input_tokens": input, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0, "output_tokens": output, "service_tier": "standard"})
}

fn stop_reason(speech: &Speech) -> &'static str {
    if speech.tool.is_some() { "tool_use" } else { "end_turn" }
}

fn block(speech: &Speech) -> Value {
    match &speech.tool {
        Some(tool) => json!({"type": "tool_use", "id": "toolu_emu1", "name": tool.name,
            "input": tool.arguments}),
        None => json!({"type": "text", "text": speech.text()}),
    }
}

fn texts(speech: &Speech) -> Vec<Value> {
    let said = speech.said().iter();
    said.map(|piece| json!({"type": "text_delta", "text": piece})).collect()
}

fn events(speech: &Speech, id: &str) -> Vec<Bytes> {
    let mut begun = message(speech, id, &[]);
    if let Some(usage) = &speech.usage {
        begun["usage"] = usage_with(&usage.input, &json!(1));
    }
    let typed = |name: &str, mut value: Value| {
        value["type"] = json!(name);
        event(name, &value)
    };
    let mut events = vec![typed("message_start", json!({"message": begun}))];
    let empty = match &speech.tool {
        Some(tool) => json!({"type": "tool_use", "id": "toolu_emu1", "name": tool.name,
            "input": {}}),
        None => json!({"type": "text", "text": ""}),
    };
    events.push(typed("content_block_start", json!({"index": 0, "content_block": empty})));
    events.push(typed("ping", json!({})));
    let deltas: Vec<Value> = match &speech.tool {
        Some(tool) => Speech::argument_pieces(tool)
            .into_iter()
            .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
            .collect(),
        None => texts(speech),
    };
    for delta in deltas {
        events.push(typed("content_block_delta", json!({"index": 0, "delta": delta})));
    }
    if speech.fails {
        let error = json!({"type": "overloaded_error", "message": "Overloaded"});
        events.push(typed("error", json!({ "error": error })));
        return events;
    }
    events.push(typed("content_block_stop", json!({"index": 0})));
    let delta = json!({"stop_reason": stop_reason(speech), "stop_sequence": null});
    // Told twice, as happens with server tools: whoever adds the counts up has twice too many.
    for _ in 0..2 {
        let mut value = json!({ "delta": delta });
        if let Some(usage) = &speech.usage {
            value["usage"] = json!({"output_tokens": usage.output});
        }
        events.push(typed("message_delta", value));
    }
    events.push(typed("message_stop", json!({})));
    events
}
