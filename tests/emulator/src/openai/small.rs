//! The routes that answer in one piece: embeddings, models, moderations, images, audio.
//!
//! Invariant: the same input gets the same vector.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::JSON;
use crate::{Api, media, reply::Reply, request::Call, speech::tokens, world::World};

pub(super) fn embeddings(call: &Call) -> Reply {
    let inputs = match &call.json["input"] {
        // A list of numbers is one text in tokens; any other list is several texts.
        Value::Array(list) if !list.iter().all(Value::is_number) => list.clone(),
        Value::Null => return call.api.error(400, "Missing required parameter: 'input'."),
        one => vec![one.clone()],
    };
    let size = call.json["dimensions"].as_u64().unwrap_or(8).min(4096);
    let packed = call.json["encoding_format"] == json!("base64");
    let data: Vec<Value> = (0_u64..)
        .zip(&inputs)
        .map(|(index, input)| {
            let vector = media::vector(&input.to_string(), size);
            let embedding = if packed {
                let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
                json!(STANDARD.encode(bytes))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let used = tokens(call.body.len());
    let usage = json!({"prompt_tokens": used, "total_tokens": used});
    let all = json!({"object": "list", "data": data, "model": call.model(), "usage": usage});
    Reply::pretty(200, JSON, &all)
}

pub(super) fn models(call: &Call) -> Reply {
    let names: &[&str] = match call.api {
        Api::Xai => &["grok-4", "grok-4-fast", "grok-3-mini"],
        Api::Gemini => &["models/gemini-2.5-pro", "models/gemini-2.5-flash"],
        Api::OpenAi | Api::Anthropic => &["gpt-5", "gpt-4.1-mini", "text-embedding-3-small"],
    };
    let data: Vec<Value> = names.iter().map(|name| model(call, name)).collect();
    Reply::pretty(200, JSON, &json!({"object": "list", "data": data}))
}

pub(super) fn model(call: &Call, id: &str) -> Value {
    let owner = if call.api == Api::Xai { "xai" } else { "system" };
    json!({"id": id, "object": "model", "created": 1_743_000_000, "owned_by": owner})
}

pub(super) fn moderation(call: &Call, world: &World) -> Reply {
    let names = ["hate", "harassment", "self-harm", "sexual", "violence"];
    let each = |value: Value| -> Value {
        names.iter().map(|name| ((*name).to_owned(), value.clone())).collect()
    };
    let count = call.json["input"].as_array().map_or(1, Vec::len);
    let result = json!({"flagged": false, "categories": each(json!(false)),
        "category_scores": each(json!(0.0001)),
        "category_applied_input_types": each(json!(["text"]))});
    let all = json!({"id": world.make_id("modr-"), "model": "omni-moderation-latest",
        "results": vec![result; count]});
    Reply::pretty(200, JSON, &all)
}

pub(super) fn image() -> Reply {
    let usage = json!({"total_tokens": 100, "input_tokens": 50, "output_tokens": 50,
        "input_tokens_details": {"text_tokens": 50, "image_tokens": 0}});
    let data = json!([{"b64_json": STANDARD.encode(media::PIXEL_PNG)}]);
    Reply::pretty(200, JSON, &json!({"created": 1_743_000_000, "data": data, "usage": usage}))
}

pub(super) fn transcription(call: &Call) -> Reply {
    let Some(file) = call.part("file") else {
        return call.api.error(400, "Missing required parameter: 'file'.");
    };
    let name = file.filename.as_deref().unwrap_or("a file without a name");
    let text = format!("A recording of {} bytes called {name}.", file.content.len());
    let format = call.part("response_format").map(|part| part.content.clone());
    match format.as_deref() {
        Some(b"text" | b"srt" | b"vtt") => {
            Reply::new(200, "text/plain; charset=utf-8", format!("{text}\n"))
        }
        Some(b"verbose_json") => {
            let all = json!({"task": "transcribe", "language": "english", "duration": 1.0,
                "text": text, "segments": []});
            Reply::pretty(200, JSON, &all)
        }
        _ => {
            let usage = json!({"type": "duration", "seconds": 1});
            Reply::pretty(200, JSON, &json!({"text": text, "usage": usage}))
        }
    }
}

pub(super) fn speech() -> Reply {
    Reply::new(200, "audio/mpeg", media::silence())
}
