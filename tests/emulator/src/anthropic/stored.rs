//! What Anthropic keeps for its callers: message batches and files.
//!
//! Invariant: `results_url` is absolute and names the host that was asked, as it does over there,
//! so that a client following it leaves any proxy that did not rewrite it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{error, listed};
use crate::{
    Api,
    reply::Reply,
    request::Call,
    speech::tokens,
    world::{Object, World},
};

const THEN: &str = "2026-01-01T00:00:00Z";

pub(super) fn batches(call: &Call, world: &World, rest: &[&str]) -> Reply {
    match (call.method.as_str(), rest) {
        ("POST", []) => make_batch(call, world),
        ("GET", []) => Reply::json(200, &listed(&world.list(Api::Anthropic, "batch"))),
        ("GET", [id]) | ("POST", [id, "cancel"]) => show(world, "batch", id),
        ("GET", [id, "results"]) => match world.find(Api::Anthropic, "batch", id) {
            Some(batch) => Reply::new(200, "application/x-jsonl", batch.content),
            None => error(404, "Not found"),
        },
        ("DELETE", [id]) => forget(world, "batch", id, "message_batch_deleted"),
        _ => error(404, "Not found"),
    }
}

fn make_batch(call: &Call, world: &World) -> Reply {
    let requests = call.json["requests"].as_array().cloned().unwrap_or_default();
    if requests.is_empty() {
        return error(400, "requests: Field required");
    }
    let id = world.make_id("msgbatch_");
    let lines: String = requests.iter().map(|asked| result(asked, world) + "\n").collect();
    let counts = json!({"processing": 0, "succeeded": requests.len(), "errored": 0,
        "canceled": 0, "expired": 0});
    let about = json!({"id": id, "type": "message_batch", "processing_status": "ended",
        "request_counts": counts, "ended_at": THEN, "created_at": THEN, "expires_at": THEN,
        "archived_at": null, "cancel_initiated_at": null,
        "results_url": format!("{}/v1/messages/batches/{id}/results", call.origin())});
    let content = lines.into();
    world.keep(Object { api: Api::Anthropic, kind: "batch", id, about: about.clone(), content });
    Reply::json(200, &about)
}

fn result(asked: &Value, world: &World) -> String {
    let message = json!({"id": world.make_id("msg_"), "type": "message", "role": "assistant",
        "model": asked["params"]["model"], "stop_reason": "end_turn", "stop_sequence": null,
        "content": [{"type": "text", "text": "from the batch"}],
        "usage": {"input_tokens": tokens(asked.to_string().len()), "output_tokens": 3}});
    let result = json!({"type": "succeeded", "message": message});
    json!({"custom_id": asked["custom_id"], "result": result}).to_string()
}

pub(super) fn files(call: &Call, world: &World, rest: &[&str]) -> Reply {
    match (call.method.as_str(), rest) {
        ("POST", []) => upload(call, world),
        ("GET", []) => Reply::json(200, &listed(&world.list(Api::Anthropic, "file"))),
        ("GET", [id]) => show(world, "file", id),
        ("GET", [id, "content"]) => match world.find(Api::Anthropic, "file", id) {
            Some(file) => Reply::new(200, "application/octet-stream", file.content),
            None => error(404, "File not found"),
        },
        ("DELETE", [id]) => forget(world, "file", id, "file_deleted"),
        _ => error(404, "Not found"),
    }
}

fn upload(call: &Call, world: &World) -> Reply {
    let Some(part) = call.part("file") else { return error(400, "file: Field required") };
    let id = world.make_id("file_");
    let kind = part.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
    let about = json!({"id": id, "type": "file", "filename": part.filename, "mime_type": kind,
        "size_bytes": part.content.len(), "created_at": THEN, "downloadable": true});
    let content: Bytes = part.content.clone();
    world.keep(Object { api: Api::Anthropic, kind: "file", id, about: about.clone(), content });
    Reply::json(200, &about)
}

fn show(world: &World, kind: &str, id: &str) -> Reply {
    match world.find(Api::Anthropic, kind, id) {
        Some(object) => Reply::json(200, &object.about),
        None => error(404, "Not found"),
    }
}

fn forget(world: &World, kind: &str, id: &str, told: &str) -> Reply {
    if world.forget(Api::Anthropic, kind, id) {
        Reply::json(200, &json!({"id": id, "type": told}))
    } else {
        error(404, "Not found")
    }
}
