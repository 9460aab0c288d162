//! Request bodies as SDKs send them, and answers as providers do.

use crate::Seed;

/// Where a body goes, as `body::PLACES` counts, and the body.
const JSON: &[(u8, &str)] = &[
    (
        0,
        r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi \u00e4\ud83d\ude00"}],"stream":true,"max_tokens":16,"n":2}"#,
    ),
    (
        0,
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"https://x/y"}}]}],"model":"gpt-4o","tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"store":false}"#,
    ),
    (
        0,
        r#"{"model":"gpt-4o","web_search_options":{},"temperature":0.5,"metadata":{"model":"x"},"stop":null,"seed":-1.5e3}"#,
    ),
    (
        1,
        r#"{"model":"gpt-5-codex","input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"p"}]},{"type":"function_call","name":"shell","arguments":"{\"url\":\"https://x\"}","call_id":"c1"}],"tools":[{"type":"function","name":"shell","strict":false,"parameters":{}},{"type":"mcp","server_url":"https://m"},{"type":"web_search"}],"previous_response_id":"resp_1","store":false,"stream":true,"background":true,"include":["reasoning.encrypted_content"]}"#,
    ),
    (2, r#"{"model":"gpt-image-1","prompt":"a cat","n":1,"size":"1024x1024"}"#),
    (
        3,
        r#"{"model":"claude-opus-4-5","max_tokens":32000,"stream":true,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x"}},{"type":"document","source":{"type":"file","file_id":"f1"}},{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"y"}]}]}],"tools":[{"type":"web_search_20250305","name":"web_search"},{"name":"Bash","input_schema":{}}],"mcp_servers":[{"type":"url","url":"https://m","name":"m"}],"container":"c"}"#,
    ),
    (
        4,
        r#"{"requests":[{"custom_id":"a","params":{"model":"claude-3","max_tokens":1,"messages":[]}},{"custom_id":"b","params":{"model":"claude-3","max_tokens":2,"messages":[]}}]}"#,
    ),
    (
        5,
        r#"{"contents":[{"role":"user","parts":[{"text":"x"},{"fileData":{"fileUri":"https://x","mimeType":"image/png"}},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]}],"generationConfig":{"maxOutputTokens":5,"candidateCount":2},"tools":[{"googleSearch":{}},{"functionDeclarations":[{"name":"f"}]}],"cachedContent":"cachedContents/1"}"#,
    ),
    (6, r#"{"contents":[{"parts":[{"text":"x"}]}],"model":"models/gemini-2"}"#),
    (
        7,
        "{ \"model\" : \"grok-4\" ,\r\n\t\"messages\":[],\"search_parameters\":{\"mode\":\"auto\"},\"deferred\":true}",
    ),
];

/// Cuts: none, single bytes, and uneven ones.
const CUTS: &[&[u8]] = &[&[0], &[1, 1], &[3, 7, 0, 31]];

fn form() -> String {
    let part = |head: &str, value: &str| {
        format!("------x\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    };
    [
        part("name=\"model\"", "whisper-1"),
        part("name=\"stream\"", "true"),
        part("name=\"n\"", "2"),
        part("name=\"input_reference[image_url]\"", "https://x"),
        part(
            "name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg",
            "----y\r\n-----\n\r\0",
        ),
        "------x--\r\n".to_owned(),
    ]
    .concat()
}

pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for ((place, body), cuts) in JSON.iter().zip(CUTS.iter().cycle()) {
        seeds.push(("claims", [&[*place], *cuts, body.as_bytes()].concat()));
    }
    let form = form();
    for cuts in CUTS {
        let plain = b"multipart/form-data; boundary=----x\n".as_slice();
        let quoted = b"Multipart/Form-Data; boundary=\"----x\"\n".as_slice();
        seeds.push(("form", [plain, cuts, form.as_bytes()].concat()));
        seeds.push(("form", [quoted, cuts, form.as_bytes()].concat()));
    }
    seeds.push(("form", b"application/json; charset=utf-8\n".to_vec()));
    seeds.extend(meters());
    seeds
}

/// Kind as `providers::meter` reads it: dialect by fours in the order of `Dialect::ALL`, layout in the lowest bit.
fn meters() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for kind in 0..16_u8 {
        for text in ANSWERS {
            for cuts in CUTS.iter().skip(1).step_by(2) {
                let input = [&[kind], *cuts, text.as_bytes()].concat();
                if strongroom_fuzz::providers::meter(&input) == strongroom_fuzz::Verdict::Accepted {
                    seeds.push(("meter", input));
                }
            }
        }
    }
    seeds
}

const ANSWERS: &[&str] = &[
    "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"say \\\"usage\\\":{\\\"prompt_tokens\\\":1}\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":3}}}\n\ndata: [DONE]\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"output\":[{\"usage\":{\"input_tokens\":1}}],\"usage\":{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":5},\"output_tokens\":87,\"total_tokens\":123}}}\n\n",
    "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":7,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\r\n\r\nevent: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":15}}\r\n\r\nevent: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n",
    "data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":20,\"thoughtsTokenCount\":30,\"cachedContentTokenCount\":2,\"totalTokenCount\":63}}\n\n",
    "[{\n \"usageMetadata\": {\"promptTokenCount\": 8, \"candidatesTokenCount\": 1}\n}\n,\r\n{\n \"usageMetadata\": {\"promptTokenCount\": 8,\n \"candidatesTokenCount\": 20}\n}\n]",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":4,\"total_tokens\":114,\"completion_tokens_details\":{\"reasoning_tokens\":100},\"cost_in_usd_ticks\":123456}}\n\ndata: [DONE]\n\n",
    "{\"id\":\"x\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3,\"input_tokens\":4,\"output_tokens\":5}}",
];
