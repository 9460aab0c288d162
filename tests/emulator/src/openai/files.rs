//! Files, uploads in parts, and batches.
//!
//! Invariant: a batch is done when it is made; its results are a file like any other.

use bytes::Bytes;
use serde_json::{Value, json};

use super::JSON;
use crate::{
    reply::Reply,
    request::Call,
    speech::tokens,
    world::{Object, World, now},
};

pub(super) fn answer(call: &Call, world: &World, rest: &[&str]) -> Reply {
    match (call.method.as_str(), rest) {
        ("POST", ["files"]) => upload(call, world),
        ("GET", ["files"]) => list(call, world, "file"),
        ("GET", ["files", id]) => show(call, world, "file", id),
        ("DELETE", ["files", id]) => forget(call, world, "file", id),
        ("GET", ["files", id, "content"]) => match world.find(call.api, "file", id) {
            Some(file) => Reply::new(200, "application/octet-stream", file.content),
            None => missing(call, id),
        },
        ("POST", ["batches"]) => batch(call, world),
        ("GET", ["batches"]) => list(call, world, "batch"),
        ("GET", ["batches", id]) | ("POST", ["batches", id, "cancel"]) => {
            show(call, world, "batch", id)
        }
        ("POST", ["uploads"]) => begin_upload(call, world),
        ("POST", ["uploads", id, "parts"]) => add_part(call, world, id),
        ("POST", ["uploads", id, "complete"]) => complete_upload(call, world, id),
        ("POST", ["uploads", id, "cancel"]) => show(call, world, "upload", id),
        _ => call.api.error(404, &format!("Invalid URL ({} {})", call.method, call.path)),
    }
}

pub(super) fn forget(call: &Call, world: &World, kind: &'static str, id: &str) -> Reply {
    if world.forget(call.api, kind, id) {
        Reply::pretty(200, JSON, &json!({"id": id, "object": kind, "deleted": true}))
    } else {
        missing(call, id)
    }
}

fn missing(call: &Call, id: &str) -> Reply {
    call.api.error(404, &format!("No such object: {id}"))
}

fn show(call: &Call, world: &World, kind: &str, id: &str) -> Reply {
    match world.find(call.api, kind, id) {
        Some(object) => Reply::pretty(200, JSON, &object.about),
        None => missing(call, id),
    }
}

fn list(call: &Call, world: &World, kind: &str) -> Reply {
    let data = world.list(call.api, kind);
    let end = |one: Option<&Value>| one.map_or(Value::Null, |one| one["id"].clone());
    let (first, last) = (end(data.first()), end(data.last()));
    let all = json!({"object": "list", "data": data, "first_id": first, "last_id": last,
        "has_more": false});
    Reply::pretty(200, JSON, &all)
}

fn upload(call: &Call, world: &World) -> Reply {
    let Some(part) = call.part("file") else {
        return call.api.error(400, "Missing required parameter: 'file'.");
    };
    let purpose = call.part("purpose").map(|part| String::from_utf8_lossy(&part.content));
    let name = part.filename.clone().unwrap_or_default();
    let about = keep_file(call, world, &name, &purpose.unwrap_or_default(), &part.content);
    Reply::pretty(200, JSON, &about)
}

fn keep_file(call: &Call, world: &World, name: &str, purpose: &str, content: &Bytes) -> Value {
    let id = world.make_id("file-");
    let about = json!({"id": id, "object": "file", "bytes": content.len(), "created_at": now(),
        "filename": name, "purpose": purpose, "status": "processed", "expires_at": null});
    let content = content.clone();
    world.keep(Object { api: call.api, kind: "file", id, about: about.clone(), content });
    about
}

fn batch(call: &Call, world: &World) -> Reply {
    let input = call.json["input_file_id"].as_str().unwrap_or_default();
    let Some(file) = world.find(call.api, "file", input) else { return missing(call, input) };
    let lines = String::from_utf8_lossy(&file.content).into_owned();
    let results: Vec<String> = lines.lines().filter_map(|line| result(line, world)).collect();
    let count = results.len();
    let output: Bytes = (results.join("\n") + "\n").into();
    let output = keep_file(call, world, "output.jsonl", "batch_output", &output);
    let id = world.make_id("batch_");
    let about = json!({"id": id, "object": "batch", "endpoint": call.json["endpoint"],
        "errors": null, "input_file_id": input, "completion_window": "24h",
        "status": "completed", "output_file_id": output["id"], "error_file_id": null,
        "created_at": now(), "completed_at": now(), "metadata": call.json["metadata"],
        "request_counts": {"total": count, "completed": count, "failed": 0}});
    let content = Bytes::new();
    world.keep(Object { api: call.api, kind: "batch", id, about: about.clone(), content });
    Reply::pretty(200, JSON, &about)
}

fn result(line: &str, world: &World) -> Option<String> {
    let asked: Value = serde_json::from_str(line).ok()?;
    let used = tokens(line.len());
    let body = json!({"id": world.make_id("chatcmpl-"), "object": "chat.completion",
        "created": now(), "model": asked["body"]["model"],
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "from the batch"}}],
        "usage": {"prompt_tokens": used, "completion_tokens": 3, "total_tokens": used + 3}});
    let response = json!({"status_code": 200, "request_id": world.make_id("req_"), "body": body});
    let all = json!({"id": world.make_id("batch_req_"), "custom_id": asked["custom_id"],
        "response": response, "error": null});
    Some(all.to_string())
}

fn begin_upload(call: &Call, world: &World) -> Reply {
    let id = world.make_id("upload_");
    let about = json!({"id": id, "object": "upload", "bytes": call.json["bytes"],
        "created_at": now(), "expires_at": now() + 3600, "filename": call.json["filename"],
        "purpose": call.json["purpose"], "status": "pending", "file": null});
    let content = Bytes::new();
    world.keep(Object { api: call.api, kind: "upload", id, about: about.clone(), content });
    Reply::pretty(200, JSON, &about)
}

fn add_part(call: &Call, world: &World, id: &str) -> Reply {
    let (Some(_), Some(part)) = (world.find(call.api, "upload", id), call.part("data")) else {
        return missing(call, id);
    };
    let name = world.make_id("part_");
    let about = json!({"id": name, "object": "upload.part", "created_at": now(),
        "upload_id": id});
    let content = part.content.clone();
    world.keep(Object { api: call.api, kind: "part", id: name, about: about.clone(), content });
    Reply::pretty(200, JSON, &about)
}

fn complete_upload(call: &Call, world: &World, id: &str) -> Reply {
    let Some(mut upload) = world.find(call.api, "upload", id) else { return missing(call, id) };
    let ids = call.json["part_ids"].as_array().cloned().unwrap_or_default();
    let parts = ids.iter().filter_map(Value::as_str);
    let parts: Vec<Bytes> = parts
        .filter_map(|part| world.find(call.api, "part", part).map(|part| part.content))
        .collect();
    let text = |field: &str| upload.about[field].as_str().unwrap_or_default().to_owned();
    let file = keep_file(call, world, &text("filename"), &text("purpose"), &parts.concat().into());
    upload.about["status"] = json!("completed");
    upload.about["file"] = file;
    world.keep(upload.clone());
    Reply::pretty(200, JSON, &upload.about)
}
