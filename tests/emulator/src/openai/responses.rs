//! The Responses API, plain and streamed, with stored answers.
//!
//! Invariant: events are named and numbered without gaps; the last is `response.completed`, or
//! `error` on a day that fails; there is no `[DONE]`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::JSON;
use crate::{
    reply::{Reply, event},
    request::Call,
    speech::Speech,
    world::{Object, World, now},
};

const EVENTS: &str = "text/event-stream; charset=utf-8";

pub(super) fn make(call: &Call, world: &World) -> Reply {
    if call.json["input"].is_null() {
        return call.api.error(400, "Missing required parameter: 'input'.");
    }
    let speech = Speech::of(call, world);
    let id = world.make_id("resp_");
    let item = item(&speech, &id);
    let whole = response(call, &speech, &id, "completed", std::slice::from_ref(&item));
    if call.json["store"] != json!(false) {
        world.keep(Object {
            api: call.api,
            kind: "response",
            id: id.clone(),
            about: whole.clone(),
            content: Bytes::new(),
        });
    }
    if call.json["stream"] == json!(true) {
        return Reply::events(EVENTS, events(call, &speech, &id, &item, &whole));
    }
    if speech.fails {
        return call.api.error(500, "The server had an error while processing your request.");
    }
    Reply::pretty(200, JSON, &whole)
}

pub(super) fn find(call: &Call, world: &World, id: &str) -> Reply {
    let Some(found) = world.find(call.api, "response", id) else {
        return call.api.error(404, &format!("Response with id '{id}' not found."));
    };
    if call.parameter("stream").as_deref() != Some("true") {
        return Reply::pretty(200, JSON, &found.about);
    }
    let after = call.parameter("starting_after").and_then(|number| number.parse().ok());
    let events = [("response.created", 0), ("response.completed", 1)]
        .into_iter()
        .filter(|(_, number)| after.is_none_or(|after: u64| *number > after))
        .map(|(name, number)| {
            let value = json!({"type": name, "sequence_number": number, "response": found.about});
            event(name, &value)
        });
    Reply::events(EVENTS, events.collect())
}

fn item(speech: &Speech, id: &str) -> Value {
    match &speech.tool {
        Some(tool) => json!({"id": format!("fc_{id}"), "type": "function_call",
            "status": "completed", "call_id": "call_emu1", "name": tool.name,
            "arguments": tool.arguments.to_string()}),
        None => json!({"id": format!("msg_{id}"), "type": "message", "status": "completed",
            "role": "assistant", "content": [part(&speech.text())]}),
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn response(call: &Call, speech: &Speech, id: &str, status: &str, output: &[Value]) -> Value {
    let usage = speech.usage.as_ref().filter(|_| status == "completed").map(|usage| {
        let mut all = json!({"input_tokens": usage.input, "output_tokens": usage.output,
            "total_tokens": usage.total, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0}});
        if call.api == crate::Api::Xai {
            all["cost_in_usd_ticks"] = json!(5_000_000);
        }
        all
    });
    json!({
        "id": id, "object": "response", "created_at": now(), "status": status,
        "background": false, "error": null, "incomplete_details": null, "instructions": null,
        "max_output_tokens": call.json["max_output_tokens"], "model": speech.model,
        "output": output, "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "store": true, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": null, "metadata": {},
    })
}

/// Numbers events as it writes them.
#[derive(Default)]
struct Numbered(Vec<Bytes>);

impl Numbered {
    fn say(&mut self, name: &str, mut value: Value) {
        value["type"] = json!(name);
        value["sequence_number"] = json!(self.0.len());
        self.0.push(event(name, &value));
    }
}

fn events(call: &Call, speech: &Speech, id: &str, item: &Value, whole: &Value) -> Vec<Bytes> {
    let mut events = Numbered::default();
    let begun = response(call, speech, id, "in_progress", &[]);
    events.say("response.created", json!({"response": begun}));
    events.say("response.in_progress", json!({"response": begun}));
    let mut opening = item.clone();
    opening["status"] = json!("in_progress");
    let blank =
        if speech.tool.is_some() { ("arguments", json!("")) } else { ("content", json!([])) };
    opening[blank.0] = blank.1;
    events.say("response.output_item.added", json!({"output_index": 0, "item": opening}));
    let at = json!({"item_id": item["id"], "output_index": 0});
    let with = |fields: Value| {
        let mut all = at.clone();
        for (name, value) in fields.as_object().into_iter().flatten() {
            all[name] = value.clone();
        }
        all
    };
    if let Some(tool) = &speech.tool {
        for piece in Speech::argument_pieces(tool) {
            events.say("response.function_call_arguments.delta", with(json!({"delta": piece})));
        }
        let done = json!({"name": tool.name, "arguments": tool.arguments.to_string()});
        events.say("response.function_call_arguments.done", with(done));
    } else {
        let opened = json!({"content_index": 0, "part": part("")});
        events.say("response.content_part.added", with(opened));
        for piece in speech.said() {
            let delta = json!({"content_index": 0, "delta": piece, "logprobs": []});
            events.say("response.output_text.delta", with(delta));
        }
        if speech.fails {
            events.say(
                "error",
                json!({"code": "server_error", "param": null,
                "message": "The server had an error while processing your request."}),
            );
            return events.0;
        }
        let text = json!({"content_index": 0, "text": speech.text(), "logprobs": []});
        events.say("response.output_text.done", with(text));
        let closed = json!({"content_index": 0, "part": part(&speech.text())});
        events.say("response.content_part.done", with(closed));
    }
    events.say("response.output_item.done", json!({"output_index": 0, "item": item}));
    events.say("response.completed", json!({"response": whole}));
    events.0
}
