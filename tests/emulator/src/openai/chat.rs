//! Chat completions of OpenAI and xAI, plain and streamed.
//!
//! Invariant: usage is streamed only if `stream_options.include_usage` asks for it, in a last
//! chunk without choices; an answer that fails half way has no `[DONE]`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::JSON;
use crate::{
    Api,
    reply::{Reply, data},
    request::Call,
    speech::{Speech, Tool, Usage},
    world::{World, now},
};

const EVENTS: &str = "text/event-stream; charset=utf-8";
const REASONING: &str = "I am asked to say something, and I shall.";
const REASONING_TOKENS: u64 = 11;
/// More answers to one prompt than any client needs.
const MAX_CHOICES: u64 = 8;

pub(super) fn completion(call: &Call, world: &World) -> Reply {
    if !call.json["messages"].is_array() {
        return call.api.error(400, "Missing required parameter: 'messages'.");
    }
    let speech = Speech::of(call, world);
    if call.json["stream"] == json!(true) {
        return Reply::events(EVENTS, events(call, &speech, &world.make_id("chatcmpl-")));
    }
    if speech.fails {
        return call.api.error(500, "The server had an error while processing your request.");
    }
    let choices: Vec<Value> = (0..count(call))
        .map(|index| {
            json!({"index": index, "message": message(call.api, &speech), "logprobs": null,
                   "finish_reason": finish(&speech)})
        })
        .collect();
    let mut whole = json!({
        "id": world.make_id("chatcmpl-"), "object": "chat.completion", "created": now(),
        "model": speech.model, "choices": choices, "service_tier": "default",
        "system_fingerprint": "fp_emulator",
    });
    if let Some(usage) = &speech.usage {
        whole["usage"] = usage_of(call.api, usage);
    }
    Reply::pretty(200, JSON, &whole)
}

fn count(call: &Call) -> u64 {
    call.json["n"].as_u64().unwrap_or(1).clamp(1, MAX_CHOICES)
}

fn finish(speech: &Speech) -> &'static str {
    if speech.tool.is_some() { "tool_calls" } else { "stop" }
}

fn message(api: Api, speech: &Speech) -> Value {
    let mut message = json!({"role": "assistant", "content": speech.text(), "refusal": null});
    if let Some(tool) = &speech.tool {
        message["content"] = Value::Null;
        message["tool_calls"] = json!([{"id": "call_emu1", "type": "function",
            "function": {"name": tool.name, "arguments": tool.arguments.to_string()}}]);
    }
    if api == Api::Xai {
        message["reasoning_content"] = json!(REASONING);
    }
    message
}

fn usage_of(api: Api, usage: &Usage) -> Value {
    let mut all = json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    });
    if api == Api::Xai {
        // xAI counts reasoning beside the completion, and only the total holds both.
        all["completion_tokens_details"]["reasoning_tokens"] = json!(REASONING_TOKENS);
        if let (Some(input), Some(output)) = (usage.input.as_u64(), usage.output.as_u64()) {
            let (paid_in, paid_out) = (input, output.saturating_add(REASONING_TOKENS));
            all["total_tokens"] = json!(paid_in.saturating_add(paid_out));
            // 3 and 15 dollars a million tokens, in units of 1e-10 dollars.
            let ticks = paid_in.saturating_mul(30_000);
            all["cost_in_usd_ticks"] =
                json!(ticks.saturating_add(paid_out.saturating_mul(150_000)));
        }
        all["num_sources_used"] = json!(0);
    }
    all
}

fn events(call: &Call, speech: &Speech, id: &str) -> Vec<Bytes> {
    let reports = call.json["stream_options"]["include_usage"] == json!(true);
    let frame = |choices: Value| {
        let mut frame = json!({"id": id, "object": "chat.completion.chunk", "created": now(),
            "model": speech.model, "system_fingerprint": "fp_emulator", "choices": choices});
        if reports {
            frame["usage"] = Value::Null;
        }
        frame
    };
    let choice = |delta: Value, finish: Value| {
        frame(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]))
    };
    let mut events = vec![data(&choice(
        json!({"role": "assistant", "content": "", "refusal": null}),
        Value::Null,
    ))];
    let mut say = |delta: Value| events.push(data(&choice(delta, Value::Null)));
    if call.api == Api::Xai {
        say(json!({"reasoning_content": REASONING}));
    }
    match &speech.tool {
        Some(tool) => tool_deltas(tool).into_iter().for_each(say),
        None => speech.said().iter().for_each(|piece| say(json!({"content": piece}))),
    }
    if speech.fails {
        let error = json!({"message": "The server had an error while processing your request.",
            "type": "server_error", "param": null, "code": null});
        events.push(data(&json!({ "error": error })));
        return events;
    }
    events.push(data(&choice(json!({}), json!(finish(speech)))));
    if let (true, Some(usage)) = (reports, &speech.usage) {
        let mut last = frame(json!([]));
        last["usage"] = usage_of(call.api, usage);
        events.push(data(&last));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn tool_deltas(tool: &Tool) -> Vec<Value> {
    let mut deltas = vec![json!({"tool_calls": [{"index": 0, "id": "call_emu1",
        "type": "function", "function": {"name": tool.name, "arguments": ""}}]})];
    for piece in Speech::argument_pieces(tool) {
        deltas.push(json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}));
    }
    deltas
}
