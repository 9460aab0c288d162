//! Tests: what the length of a body says about its cost, as golden text: path, body, extent.

use strongroom_policy::claims::Extent::{self, Media, Open, Text};
use strongroom_policy::dialect::Dialect::{self, Anthropic, Gemini, OpenAi, Xai};

use super::golden::{scan, scan_cut};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GENERATE: &str = "/v1beta/models/gemini-2:generateContent";

const CASES: &[(Dialect, &str, &str, Extent)] = &[
    (
        OpenAi,
        CHAT,
        r#"{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}"#,
        Text,
    ),
    (OpenAi, CHAT, r#"{"messages":[{"content":[{"type":"text","text":"data:image/png"}]}]}"#, Text),
    (OpenAi, "/v1/embeddings", r#"{"input":["x",[1,2]]}"#, Text),
    (
        OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:x"}}]}]}"#,
        Media,
    ),
    (
        OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"input_audio":{"data":"AAAA","format":"wav"}}]}]}"#,
        Media,
    ),
    (
        OpenAi,
        CHAT,
        r#"{"messages":[{"content":[{"type":"file","file":{"file_data":"AAAA"}}]}]}"#,
        Media,
    ),
    (OpenAi, CHAT, r#"{"messages":[{"content":[{"type":"new","something":"AAAA"}]}]}"#, Media),
    (
        OpenAi,
        RESPONSES,
        r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}]}"#,
        Text,
    ),
    (OpenAi, RESPONSES, r#"{"input":[{"content":[{"image_url":"data:x"}]}]}"#, Media),
    (OpenAi, RESPONSES, r#"{"input":[{"type":"reasoning","encrypted_content":"AAAA"}]}"#, Media),
    (OpenAi, RESPONSES, r#"{"input":[{"type":"reasoning","encrypted_content":null}]}"#, Text),
    (OpenAi, CHAT, r#"{"prediction":{"type":"content","content":"x"}}"#, Open),
    (OpenAi, CHAT, r#"{"prediction":null}"#, Text),
    (OpenAi, RESPONSES, r#"{"context_management":[{"type":"compaction"}]}"#, Open),
    (OpenAi, RESPONSES, r#"{"context_management":{"type":"compaction"}}"#, Open),
    (Xai, CHAT, r#"{"messages":[{"role":"user","content":"x"}]}"#, Text),
    (
        Anthropic,
        MESSAGES,
        r#"{"system":"s","messages":[{"role":"user","content":"x"}],"tools":[{"name":"t"}]}"#,
        Text,
    ),
    (
        Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"image","source":{"type":"base64","data":"A"}}]}]}"#,
        Media,
    ),
    (
        Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"thinking","thinking":"x","signature":"A"}]}]}"#,
        Media,
    ),
    (
        Anthropic,
        MESSAGES,
        r#"{"messages":[{"content":[{"type":"redacted_thinking","data":"A"}]}]}"#,
        Media,
    ),
    (
        Anthropic,
        MESSAGES,
        r#"{"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}}"#,
        Text,
    ),
    (
        Anthropic,
        MESSAGES,
        r#"{"context_management":{"edits":[{"type":"compact_20260112"}]}}"#,
        Open,
    ),
    (Anthropic, MESSAGES, r#"{"context_management":{"new":[1]}}"#, Open),
    (Anthropic, MESSAGES, r#"{"inference_geo":"us"}"#, Open),
    (Gemini, GENERATE, r#"{"contents":[{"parts":[{"text":"x"}]}]}"#, Text),
    (Gemini, GENERATE, r#"{"contents":[{"parts":[{"inlineData":{"data":"A"}}]}]}"#, Media),
    (Gemini, GENERATE, r#"{"contents":[{"parts":[{"inline_data":{"data":"A"}}]}]}"#, Media),
    (Gemini, GENERATE, r#"{"contents":[{"parts":[{"text":"x","thoughtSignature":"A"}]}]}"#, Media),
];

/// Red when a row's effect is harmless, or when `apply` forgets what it read before.
#[test]
fn what_is_not_text_is_seen_however_the_body_is_cut() {
    for (dialect, path, body, extent) in CASES {
        let whole = scan(*dialect, path, body.as_bytes()).unwrap();
        assert_eq!(whole.extent, *extent, "{body}");
        assert_eq!(scan_cut(*dialect, path, body.as_bytes(), 1), Ok(whole), "{body}");
    }
}
