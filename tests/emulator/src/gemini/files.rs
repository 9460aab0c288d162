//! Gemini's files: the resumable upload, listing, download.
//!
//! Invariant: the upload URL is absolute and names the host that was asked, as it does over there.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{JSON, error};
use crate::{
    Api,
    day::Day,
    reply::Reply,
    request::Call,
    world::{Object, World},
};

const THEN: &str = "2026-01-01T00:00:00Z";

/// Whether the upload URL itself is the right to use it: the Python SDK sends no key there.
pub(crate) fn opened_by_upload_id(call: &Call, world: &World) -> bool {
    let id = call.parameter("upload_id").unwrap_or_default();
    call.path.starts_with("/upload/") && world.find(Api::Gemini, "upload", &id).is_some()
}

pub(super) fn answer(call: &Call, world: &World, rest: &[&str]) -> Reply {
    let uploads = call.path.contains("/upload/");
    match (call.method.as_str(), rest) {
        ("POST" | "PUT", []) if uploads => upload(call, world),
        ("GET", []) => {
            let all = world.list(Api::Gemini, "file");
            Reply::pretty(200, JSON, &json!({ "files": all }))
        }
        ("GET", [act]) if act.ends_with(":download") => download(call, world, act),
        ("GET", [id]) => match world.find(Api::Gemini, "file", id) {
            Some(file) => Reply::pretty(200, JSON, &file.about),
            None => {
                error(403, "You do not have permission to access the File or it may not exist.")
            }
        },
        ("DELETE", [id]) => {
            world.forget(Api::Gemini, "file", id);
            Reply::pretty(200, JSON, &json!({}))
        }
        _ => error(404, "Not found"),
    }
}

fn upload(call: &Call, world: &World) -> Reply {
    let command = call.header("x-goog-upload-command").unwrap_or_default().to_owned();
    if command == "start" {
        return start(call, world);
    }
    let id = call.parameter("upload_id").unwrap_or_default();
    let Some(mut begun) = world.find(Api::Gemini, "upload", &id) else {
        return error(404, "Upload not found");
    };
    begun.content = [&begun.content[..], &call.body].concat().into();
    if !command.contains("finalize") {
        world.keep(begun);
        return Reply::pretty(200, JSON, &json!({})).with("x-goog-upload-status", "active");
    }
    world.forget(Api::Gemini, "upload", &id);
    let file = keep_file(call, world, &begun);
    Reply::pretty(200, JSON, &json!({ "file": file })).with("x-goog-upload-status", "final")
}

fn start(call: &Call, world: &World) -> Reply {
    let id = world.make_id("upload");
    let mut about = call.json["file"].clone();
    about["mimeType"] = json!(call.header("x-goog-upload-header-content-type"));
    let key = match (&call.day, &call.key) {
        (Day::KeyUrl, Some(key)) => format!("&key={key}"),
        _ => String::new(),
    };
    let query = format!("upload_id={id}&upload_protocol=resumable{key}");
    let url = format!("{}/upload/v1beta/files?{query}", call.origin());
    world.keep(Object { api: Api::Gemini, kind: "upload", id, about, content: Bytes::new() });
    Reply::pretty(200, JSON, &json!({}))
        .with("x-goog-upload-status", "active")
        .with("x-goog-upload-chunk-granularity", "8388608")
        .with("x-goog-upload-control-url", url.clone())
        .with("x-goog-upload-url", url)
}

fn keep_file(call: &Call, world: &World, begun: &Object) -> Value {
    let id = world.make_id("");
    let origin = call.origin();
    let about = json!({"name": format!("files/{id}"), "displayName": begun.about["display_name"],
        "mimeType": begun.about["mimeType"], "sizeBytes": begun.content.len().to_string(),
        "createTime": THEN, "updateTime": THEN, "expirationTime": "2099-01-01T00:00:00Z",
        "uri": format!("{origin}/v1beta/files/{id}"), "state": "ACTIVE", "source": "UPLOADED",
        "downloadUri": format!("{origin}/v1beta/files/{id}:download?alt=media")});
    let content = begun.content.clone();
    world.keep(Object { api: Api::Gemini, kind: "file", id, about: about.clone(), content });
    about
}

/// Answers a redirect first, with the key in a header: seen over there.
fn download(call: &Call, world: &World, act: &str) -> Reply {
    let id = act.trim_end_matches(":download");
    let Some(file) = world.find(Api::Gemini, "file", id) else {
        return error(404, "Not found");
    };
    if call.path.starts_with("/download/") {
        return Reply::new(200, "application/octet-stream", file.content);
    }
    let to = format!("{}/download/v1beta/files/{act}?alt=media", call.origin());
    Reply::new(302, "text/html; charset=UTF-8", "Moved")
        .with("location", to)
        .with("x-goog-api-key", call.key.clone().unwrap_or_default())
}
