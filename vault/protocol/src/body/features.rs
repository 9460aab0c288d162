//! Tests: every feature of every dialect, as golden text: path, body, what it claims.

use strongroom_policy::claims::Feature;
use strongroom_policy::dialect::Dialect;

use super::golden::{scan, scan_cut};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GENERATE: &str = "/v1beta/models/gemini-2:generateContent";

/// Dialect, path, body, and the names of the features in their order.
const CASES: &[(Dialect, &str, &str, &str)] = &[
    // OpenAI and xAI: state
    (Dialect::OpenAi, RESPONSES, r#"{"model":"m","input":"x"}"#, "stored-state"),
    (Dialect::Xai, RESPONSES, r#"{"model":"m","input":"x","store":null}"#, "stored-state"),
    (Dialect::OpenAi, RESPONSES, r#"{"model":"m","input":"x","store":false}"#, ""),
    (Dialect::OpenAi, "/v1/responses/input_tokens", r#"{"model":"m","input":"x"}"#, ""),
    (Dialect::OpenAi, "/v1/embeddings", r#"{"model":"m","input":["x",[1,2]]}"#, ""),
    (Dialect::OpenAi, CHAT, r#"{"store":true}"#, "stored-state"),
    (Dialect::OpenAi, CHAT, r#"{"store":null}"#, ""),
    (Dialect::OpenAi, RESPONSES, r#"{"store":false,"background":true}"#, "background"),
    (Dialect::OpenAi, "/v1/images/generations", r#"{"background":"transparent"}"#, ""),
    (Dialect::Xai, CHAT, r#"{"deferred":true}"#, "stored-state background"),
    (Dialect::Xai, CHAT, r#"{"deferred":false}"#, ""),
    // OpenAI and xAI: tier, answers
    (Dialect::OpenAi, CHAT, r#"{"service_tier":"auto"}"#, ""),
    (Dialect::OpenAi, CHAT, r#"{"service_tier":"priority"}"#, "service-tier"),
    (Dialect::OpenAi, CHAT, r#"{"n":2}"#, "many-answers"),
    (Dialect::OpenAi, CHAT, r#"{"n":1,"temperature":0.5,"seed":null}"#, ""),
    (Dialect::OpenAi, "/v1/completions", r#"{"prompt":"x","best_of":3}"#, "many-answers"),
    (Dialect::OpenAi, "/v1/completions", r#"{"prompt":["x"]}"#, ""),
    (Dialect::OpenAi, "/v1/completions", r#"{"prompt":["x","y"]}"#, "many-answers"),
    (Dialect::OpenAi, "/v1/completions", r#"{"prompt":[1,2,3]}"#, ""),
    (Dialect::OpenAi, "/v1/completions", r#"{"prompt":[[1,2],[3]]}"#, "many-answers"),
    // OpenAI and xAI: references
    (Dialect::OpenAi, CHAT, r#"{"previous_response_id":"resp_1"}"#, "object-references"),
    (Dialect::OpenAi, CHAT, r#"{"previous_response_id":null}"#, ""),
    (Dialect::OpenAi, CHAT, r#"{"conversation":{"id":"conv_1"}}"#, "object-references"),
    (Dialect::OpenAi, CHAT, r#"{"conversation":"conv_1"}"#, "object-references"),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"prompt":{"id":"pmpt_1","variables":{"städt_Type":"x"}}}"#,
        "object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"prompt":{"id":"p","variables":{"a":{"type":"input_image","image_url":"http://x"}}}}"#,
        "remote-urls object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#,
        "object-references",
    ),
    (Dialect::OpenAi, CHAT, r#"{"input":[{"id":"msg_1"}]}"#, "object-references"),
    (Dialect::OpenAi, CHAT, r#"{"input":[{"id":"msg_1","role":"user","content":"x"}]}"#, ""),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"type":"reasoning","id":"rs_1","summary":[]}]}"#,
        "object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"type":"reasoning","id":"rs_1","encrypted_content":null}]}"#,
        "object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"type":"reasoning","id":"rs_1","encrypted_content":"gA"}]}"#,
        "",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"type":"image_generation_call","id":"ig_1"}]}"#,
        "object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}]}"#,
        "object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#,
        "object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"data:x,y"}}]}]}"#,
        "",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#,
        "object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"audio":{"voice":{"id":"voice_1"},"format":"wav"}}"#,
        "object-references",
    ),
    (Dialect::OpenAi, "/v1/audio/speech", r#"{"input":"x","voice":"alloy","speed":1.5}"#, ""),
    (
        Dialect::OpenAi,
        "/v1/batches",
        r#"{"input_file_id":"file-1","endpoint":"/v1/chat/completions","completion_window":"24h"}"#,
        "object-references",
    ),
    // OpenAI and xAI: hosted tools
    (Dialect::OpenAi, CHAT, r#"{"tools":[]}"#, ""),
    (Dialect::OpenAi, CHAT, r#"{"tools":null}"#, ""),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"function","name":"f"},{"type":"custom"},{"type":"local_shell"}]}"#,
        "",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"function"},{"type":"web_search_preview"}]}"#,
        "hosted-tools",
    ),
    (Dialect::OpenAi, CHAT, r#"{"tools":{"type":"web_search"}}"#, "hosted-tools"),
    (Dialect::OpenAi, CHAT, r#"{"tools":["web_search"]}"#, "hosted-tools"),
    (Dialect::OpenAi, CHAT, r#"{"tools":[{"name":"f"}]}"#, "hosted-tools"),
    (Dialect::OpenAi, CHAT, r#"{"tools":[{"type":"shell"}]}"#, "hosted-tools"),
    (Dialect::OpenAi, CHAT, r#"{"tools":[{"type":"computer_use_preview"}]}"#, "hosted-tools"),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"mcp","server_label":"x","connector_id":"c"}]}"#,
        "hosted-tools",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"mcp","server_url":"https://x"}]}"#,
        "hosted-tools remote-urls",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1"]}]}"#,
        "hosted-tools object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"code_interpreter","container":"cntr_1"}]}"#,
        "hosted-tools object-references",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#,
        "hosted-tools",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["f"]}}]}"#,
        "hosted-tools object-references",
    ),
    (Dialect::OpenAi, CHAT, r#"{"web_search_options":{}}"#, "hosted-tools"),
    (Dialect::Xai, CHAT, r#"{"search_parameters":{"mode":"auto"}}"#, "hosted-tools"),
    (Dialect::Xai, CHAT, r#"{"tools":[{"type":"x_search"}]}"#, "hosted-tools"),
    (Dialect::OpenAi, CHAT, r#"{"a_new_thing":{}}"#, "hosted-tools"),
    (Dialect::OpenAi, CHAT, r#"{"a_new_thing":true}"#, "hosted-tools"),
    (Dialect::OpenAi, CHAT, r#"{"a_new_thing":0,"another":false,"third":null}"#, ""),
    // OpenAI and xAI: addresses
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}]}"#,
        "",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"image_url","image_url":" HTTP://x"}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"video_url","video_url":{"url":"https://x"}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"new","thing":{"where":"https://x"}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"AA//","format":"wav"}}]}]}"#,
        "",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"s3+a.b-c://x"}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"role":"user","content":[{"type":"input_file","file_url":"https://x"}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"input":[{"type":"function_call_output","output":[{"type":"input_image","image_url":"https://x"}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::OpenAi,
        "/v1/moderations",
        r#"{"input":[{"type":"image_url","image_url":{"url":"https://x"}}]}"#,
        "remote-urls",
    ),
    (Dialect::Xai, "/v1/images/edits", r#"{"image":{"url":"https://x"}}"#, "remote-urls"),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":"x","created_at":"2026-01-01T10:00:00Z"}]}"#,
        "",
    ),
    (
        Dialect::OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"new","thing":"ht\ntps:x"}]}]}"#,
        "remote-urls",
    ),
    // Anthropic
    (Dialect::Anthropic, MESSAGES, r#"{"model":"m","max_tokens":1,"messages":[]}"#, ""),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"tools":[{"name":"x"},{"type":"computer_20251124"},{"type":"memory_20250818"}]}"#,
        "",
    ),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#,
        "hosted-tools",
    ),
    (Dialect::Anthropic, MESSAGES, r#"{"tools":[{"type":"web_fetch_20250910"}]}"#, "hosted-tools"),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"tools":[{"type":"code_execution_20250825"}]}"#,
        "hosted-tools",
    ),
    (Dialect::Anthropic, MESSAGES, r#"{"tools":[{"type":"bash_code_execution"}]}"#, "hosted-tools"),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"tools":[{"type":"tool_search_tool_regex_20251119"}]}"#,
        "hosted-tools",
    ),
    (Dialect::Anthropic, MESSAGES, r#"{"tools":[{"type":"mcp_toolset"}]}"#, "hosted-tools"),
    (Dialect::Anthropic, MESSAGES, r#"{"mcp_servers":[]}"#, ""),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"mcp_servers":[{"type":"url","url":"https://x"}]}"#,
        "hosted-tools remote-urls",
    ),
    (Dialect::Anthropic, MESSAGES, r#"{"container":"c_1"}"#, "object-references"),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"container":{"skills":[{"type":"anthropic"}]}}"#,
        "object-references",
    ),
    (Dialect::Anthropic, MESSAGES, r#"{"skills":["x"]}"#, "hosted-tools object-references"),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}"#,
        "object-references",
    ),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"image","source":{"type":"cloud"}}]}]}"#,
        "remote-urls object-references",
    ),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"tool_result","content":[{"type":"image","source":{"type":"url","url":"u"}}]}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"document","source":{"type":"content","content":[{"type":"image","source":{"type":"url","url":"u"}}]}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"container_upload","file_id":"f"}]}]}"#,
        "object-references",
    ),
    (Dialect::Anthropic, MESSAGES, r#"{"service_tier":"standard_only"}"#, ""),
    (Dialect::Anthropic, MESSAGES, r#"{"service_tier":"priority"}"#, "service-tier"),
    (Dialect::Anthropic, MESSAGES, r#"{"speed":"fast"}"#, "service-tier"),
    (
        Dialect::Anthropic,
        "/v1/messages/batches",
        r#"{"requests":[{"custom_id":"a","params":{"model":"m","tools":[{"type":"web_search_1"}]}}]}"#,
        "hosted-tools",
    ),
    // Gemini
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":[{"role":"user","parts":[{"text":"https://x"}]}],"generationConfig":{"candidateCount":1}}"#,
        "",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"tools":[{"functionDeclarations":[{"name":"f","parameters":{"properties":{"fileUri":{}}}}]}]}"#,
        "",
    ),
    (Dialect::Gemini, GENERATE, r#"{"tools":[{"function_declarations":[]}]}"#, ""),
    (Dialect::Gemini, GENERATE, r#"{"tools":[{"googleSearch":{}}]}"#, "hosted-tools"),
    (Dialect::Gemini, GENERATE, r#"{"tools":[{"google_search":{}}]}"#, "hosted-tools"),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"tools":[{"codeExecution":{}},{"functionDeclarations":[]}]}"#,
        "hosted-tools",
    ),
    (Dialect::Gemini, GENERATE, r#"{"tools":{"urlContext":{}}}"#, "hosted-tools"),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"tools":[{"fileSearch":{"fileSearchStoreNames":["s"]}}]}"#,
        "hosted-tools object-references",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"tools":[{"mcpServers":[{"name":"x"}]}]}"#,
        "hosted-tools remote-urls",
    ),
    (Dialect::Gemini, GENERATE, r#"{"cachedContent":"cachedContents/1"}"#, "object-references"),
    (Dialect::Gemini, GENERATE, r#"{"cached_content":"cachedContents/1"}"#, "object-references"),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/files/x"}}]}]}"#,
        "object-references",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":[{"parts":[{"file_data":{"file_uri":"files/x"}}]}]}"#,
        "object-references",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":{"parts":{"fileData":{"fileUri":"https://generativelanguage.googleapis.com@x/"}}}}"#,
        "remote-urls",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://youtu.be/x"}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":[{"parts":[{"functionCall":{"name":"f","args":{"fileUri":"https://x","file_uri":1}}}]}]}"#,
        "",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{"fileUri":"x"}}}]}]}"#,
        "",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"contents":[{"parts":[{"functionResponse":{"parts":[{"fileData":{"fileUri":"gs://x"}}]}}]}]}"#,
        "remote-urls",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"systemInstruction":{"parts":[{"fileData":{"fileUri":"gs://x"}}]}}"#,
        "remote-urls",
    ),
    (
        Dialect::Gemini,
        GENERATE,
        r#"{"generation_config":{"candidate_count":2,"responseSchema":{"properties":{"candidateCount":{}}}}}"#,
        "many-answers",
    ),
    (
        Dialect::Gemini,
        "/v1beta/cachedContents",
        r#"{"model":"models/g","ttl":"300s","contents":[]}"#,
        "stored-state",
    ),
    (Dialect::Gemini, GENERATE, r#"{"newThing":"x"}"#, "hosted-tools"),
    (
        Dialect::Gemini,
        "/v1beta/models/gemini-2:predict",
        r#"{"instances":[{"prompt":"x"}],"parameters":{"sampleCount":4}}"#,
        "many-answers",
    ),
    (
        Dialect::Gemini,
        "/v1beta/models/gemini-2:countTokens",
        r#"{"generateContentRequest":{"model":"models/gemini-2","tools":[{"googleSearch":{}}]}}"#,
        "hosted-tools",
    ),
];

#[test]
fn each_feature_is_seen_and_nothing_else() {
    for (dialect, path, body, expected) in CASES {
        let claims =
            scan(*dialect, path, body.as_bytes()).unwrap_or_else(|e| panic!("{body}: {e}"));
        let names: Vec<&str> = claims.features.iter().map(Feature::name).collect();
        assert_eq!(names.join(" "), *expected, "{dialect:?} {path} {body}");
        assert_eq!(scan_cut(*dialect, path, body.as_bytes(), 1), Ok(claims), "{body}");
    }
}

#[test]
fn a_body_names_the_model_of_its_path_or_none() {
    let path = "/v1beta/models/gemini-2:batchEmbedContents";
    let named = |body: &str| {
        let claims = scan(Dialect::Gemini, path, body.as_bytes())?;
        Ok::<_, super::BodyError>(claims.model.unwrap().to_string())
    };
    for body in [
        "{}",
        r#"{"model":"gemini-2"}"#,
        r#"{"model":"models/gemini-2"}"#,
        r#"{"requests":[{"model":"models/gemini-2"},{"model":"models/gemini-2"}]}"#,
    ] {
        assert_eq!(named(body).as_deref(), Ok("gemini-2"), "{body}");
    }
    for body in [
        r#"{"model":"gemini-3"}"#,
        r#"{"model":"tunedModels/gemini-2"}"#,
        r#"{"requests":[{"model":"models/gemini-2"},{"model":"models/gemini-3"}]}"#,
        r#"{"batch":{"inputConfig":{"requests":{"requests":[{"request":{"model":"models/x"}}]}}}}"#,
    ] {
        assert_eq!(named(body), Err(super::BodyError::OtherModel), "{body}");
    }
}

#[test]
fn a_batch_of_two_models_is_refused() {
    let body = r#"{"requests":[{"params":{"model":"a"}},{"params":{"model":"b"}}]}"#;
    let read = scan(Dialect::Anthropic, "/v1/messages/batches", body.as_bytes());
    assert_eq!(read, Err(super::BodyError::OtherModel));
}

#[test]
fn both_spellings_at_once_are_refused_though_each_is_protobufs() {
    for body in [
        r#"{"cachedContent":"a","cached_content":"b"}"#,
        r#"{"generationConfig":{},"generation_config":{}}"#,
        r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":9}}"#,
        r#"{"contents":[{"parts":[{"fileData":{"fileUri":"a","file_uri":"b"}}]}]}"#,
        r#"{"tools":[{"functionDeclarations":[],"function_declarations":[]}]}"#,
    ] {
        let read = scan(Dialect::Gemini, GENERATE, body.as_bytes());
        assert!(matches!(read, Err(super::BodyError::Twice(_))), "{body}: {read:?}");
    }
}

#[test]
fn the_path_of_a_stream_streams() {
    use strongroom_policy::claims::Stream;
    let stream = |path| scan(Dialect::Gemini, path, b"{}").unwrap().stream;
    assert_eq!(stream("/v1beta/models/gemini-2:streamGenerateContent?alt=sse"), Stream::Streamed);
    assert_eq!(stream(GENERATE), Stream::Whole);
}
