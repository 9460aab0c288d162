//! Tests: tools, servers, objects of the account and addresses that stand elsewhere than at the top of a body.

use strongroom_policy::claims::Feature;
use strongroom_policy::dialect::Dialect;

use super::golden::scan;

const OPENAI: (Dialect, &str) = (Dialect::OpenAi, "/v1/responses/input_tokens");
const ANTHROPIC: (Dialect, &str) = (Dialect::Anthropic, "/v1/messages");
const GEMINI: (Dialect, &str) = (Dialect::Gemini, "/v1beta/models/gemini-2:generateContent");

/// Where a tool may stand: dialect and path, the text before it, the text after it.
type Place = ((Dialect, &'static str), &'static str, &'static str);

/// Each place where OpenAI's API takes a tool, and objects that this code does not know.
const TOOL_PLACES: &[Place] = &[
    (
        OPENAI,
        r#"{"input":[{"type":"tool_search_output","execution":"client","call_id":"c","tools":["#,
        "]}]}",
    ),
    (OPENAI, r#"{"input":[{"tools":["#, r#"],"type":"tool_search_output"}]}"#),
    (OPENAI, r#"{"input":[{"type":"mcp_list_tools","server_label":"s","tools":["#, "]}]}"),
    (OPENAI, r#"{"input":[{"type":"message","role":"user","tools":"#, "}]}"),
    (
        OPENAI,
        r#"{"input":[{"type":"tool_search_output","tools":[{"type":"namespace","name":"n","tools":["#,
        "]}]}]}",
    ),
    (OPENAI, r#"{"tools":[{"type":"namespace","name":"n","tools":["#, "]}]}"),
    (OPENAI, r#"{"tools":[{"type":"function","tools":[{"type":"namespace","tools":["#, "]}]}]}"),
    (OPENAI, r#"{"tool_choice":{"type":"allowed_tools","mode":"auto","tools":["#, "]}}"),
    (OPENAI, r#"{"tool_choice":{"type":"allowed_tools","allowed_tools":{"tools":["#, "]}}}"),
    (OPENAI, r#"{"instructions":[{"type":"tool_search_output","tools":["#, "]}]}"),
    (OPENAI, r#"{"messages":[{"role":"system","tools":["#, "]}]}"),
    (OPENAI, r#"{"messages":[{"role":"user","content":[{"type":"new","tools":["#, "]}]}]}"),
    (OPENAI, r#"{"input":[{"role":"user","content":[{"new":{"deep":[{"tools":["#, "]}]}}]}]}"),
];

/// A tool, and what it must claim wherever it stands.
const TOOLS: &[(&str, &str)] = &[
    (r#"{"type":"mcp","server_url":"https://evil"}"#, "hosted-tools remote-urls"),
    (r#"{"server_url":"https://evil","type":"function"}"#, "hosted-tools remote-urls"),
    (r#"{"type":"mcp","connector_id":"connector_gmail"}"#, "hosted-tools"),
    (r#"{"type":"mcp","tunnel_id":"t"}"#, "hosted-tools object-references"),
    (r#"{"type":"file_search","vector_store_ids":["vs_x"]}"#, "hosted-tools object-references"),
    (r#"{"type":"code_interpreter","container":"cntr_x"}"#, "hosted-tools object-references"),
    (
        r#"{"type":"shell","environment":{"type":"container_reference","container_id":"c"}}"#,
        "hosted-tools object-references",
    ),
    (
        r#"{"type":"image_generation","input_image_mask":{"file_id":"f"}}"#,
        "hosted-tools object-references",
    ),
    (
        r#"{"type":"image_generation","input_image_mask":{"image_url":"https://x"}}"#,
        "hosted-tools remote-urls",
    ),
    (r#"{"type":"web_search"}"#, "hosted-tools"),
    (r#"{"type":"programmatic_tool_calling"}"#, "hosted-tools"),
    (r#"{"name":"of_no_type"}"#, "hosted-tools"),
    (r#""web_search""#, "hosted-tools"),
];

/// Each place where Anthropic's API takes a tool.
const ANTHROPIC_TOOL_PLACES: &[Place] = &[
    (
        ANTHROPIC,
        r#"{"messages":[{"role":"system","content":[{"type":"tool_addition","tool":{"type":"tool_definition","definition":"#,
        "}}]}]}",
    ),
    (
        ANTHROPIC,
        r#"{"messages":[{"role":"assistant","content":[{"type":"compaction","tool_changes":[{"type":"tool_addition","tool":{"definition":"#,
        r#","type":"tool_definition"}}]}]}]}"#,
    ),
    (ANTHROPIC, r#"{"system":[{"type":"tool_addition","tool":"#, "}]}"),
    (ANTHROPIC, r#"{"messages":[{"role":"system","tools":["#, "]}]}"),
    (ANTHROPIC, r#"{"messages":[{"role":"user","content":[{"type":"new","tools":["#, "]}]}]}"),
];

/// Place, body, and what it claims.
const CASES: &[((Dialect, &str), &str, &str)] = &[
    // OpenAI: items
    (
        OPENAI,
        r#"{"input":[{"type":"tool_search_output","execution":"client","tools":[{"type":"mcp","server_url":"https://evil"},{"type":"file_search","vector_store_ids":["vs_x"]},{"type":"code_interpreter","container":"cntr_x"}]}]}"#,
        "hosted-tools remote-urls object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"additional_tools","role":"developer","tools":[]}]}"#,
        "hosted-tools object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"tools":[{"type":"mcp","server_url":"https://x"}],"type":"additional_tools"}]}"#,
        "hosted-tools remote-urls object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"program","id":"p","code":"x"}]}"#,
        "hosted-tools object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"mcp_list_tools","server_label":"s","tools":[{"name":"n","input_schema":{}}]}]}"#,
        "hosted-tools",
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"shell_call","environment":{"type":"container_reference","container_id":"c"}}]}"#,
        "object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"code_interpreter_call","container_id":"c","code":"x"}]}"#,
        "object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"code_interpreter_call","outputs":[{"type":"image","url":"https://x"}]}]}"#,
        "remote-urls",
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"file_search_call","results":[{"file_id":"f","text":"x"}]}]}"#,
        "object-references",
    ),
    (OPENAI, r#"{"input":[{"type":"compaction","id":"cmp_1"}]}"#, "object-references"),
    (
        OPENAI,
        r#"{"input":[{"role":"assistant","content":[{"type":"output_text","text":"x","annotations":[{"type":"container_file_citation","container_id":"c"}]}]}]}"#,
        "object-references",
    ),
    (
        OPENAI,
        r#"{"messages":[{"role":"assistant","content":"x","annotations":[{"type":"file_path","file_id":"f"}]}]}"#,
        "object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"role":"user","content":[{"new":{"vector_store_ids":["v"]}}]}]}"#,
        "object-references",
    ),
    (
        OPENAI,
        r#"{"input":[{"role":"user","content":[{"new":{"server_url":"x"}}]}]}"#,
        "hosted-tools remote-urls",
    ),
    // OpenAI: settings
    (OPENAI, r#"{"tool_choice":{"type":"mcp","server_label":"s"}}"#, "hosted-tools"),
    (OPENAI, r#"{"part_ids":["part_1"]}"#, "object-references"),
    (OPENAI, r#"{"background_options":{"continuation_id":"c"}}"#, "object-references background"),
    (
        OPENAI,
        r#"{"prompt_cache_options":{"comparison_response_id":"resp_1"}}"#,
        "hosted-tools object-references",
    ),
    (
        OPENAI,
        r#"{"search_parameters":{"sources":[{"type":"rss","links":["https://x"]}]}}"#,
        "hosted-tools remote-urls",
    ),
    // Anthropic
    (
        ANTHROPIC,
        r#"{"messages":[{"content":[{"type":"tool_addition","tool":{"type":"mcp_toolset_reference","server_name":"s"}}]}]}"#,
        "hosted-tools",
    ),
    (
        ANTHROPIC,
        r#"{"thread":{"type":"continue","previous_message_id":"msg_1"}}"#,
        "object-references stored-state",
    ),
    (
        ANTHROPIC,
        r#"{"messages":[{"content":[{"type":"new","thing":{"container_id":"c"}}]}]}"#,
        "object-references",
    ),
    (
        ANTHROPIC,
        r#"{"messages":[{"content":[{"type":"new","mcp_servers":[{"type":"url","url":"https://x"}]}]}]}"#,
        "hosted-tools remote-urls",
    ),
    // Gemini
    (GEMINI, r#"{"file":{"name":"files/x"}}"#, "object-references"),
    (GEMINI, r#"{"file":{"uri":"https://x"}}"#, "remote-urls"),
    (GEMINI, r#"{"previous_interaction_id":"x"}"#, "object-references"),
    (GEMINI, r#"{"webhookConfig":{"uris":["https://x"]}}"#, "hosted-tools remote-urls"),
    (GEMINI, r#"{"parameters":{"webhookConfig":{"uris":["https://x"]}}}"#, "remote-urls"),
    (
        GEMINI,
        r#"{"generationConfig":{"responseFormat":[{"video":{"gcsUri":"gs://x"}}]}}"#,
        "stored-state",
    ),
    (
        GEMINI,
        r#"{"tools":[{"retrieval":{"externalApi":{"endpoint":"https://x"}}}]}"#,
        "hosted-tools remote-urls object-references",
    ),
    (GEMINI, r#"{"contents":[{"role":"user","tools":[{"googleSearch":{}}]}]}"#, "hosted-tools"),
    (
        GEMINI,
        r#"{"contents":[{"parts":[{"new":{"tools":[{"googleSearch":{}}]}}]}]}"#,
        "hosted-tools",
    ),
];

/// Bodies that look like those and reach for nothing.
const PLAIN: &[((Dialect, &str), &str)] = &[
    (
        OPENAI,
        r#"{"tools":[{"type":"namespace","name":"mcp__git__","description":"d","tools":[{"type":"function","name":"f","parameters":{"properties":{"tools":{"type":"mcp"},"server_url":{}}}},{"type":"custom","name":"g"}]}]}"#,
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"tool_search_call","execution":"client","call_id":"c","arguments":{"tools":[{"type":"mcp"}]}},{"type":"tool_search_output","execution":"client","call_id":"c","status":"completed","tools":[{"type":"function","name":"f","defer_loading":true,"parameters":{}},{"type":"namespace","name":"n","description":"d","tools":[{"type":"function","name":"g"}]}]}]}"#,
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"tool_search_output","tools":[]},{"type":"function_call_output","call_id":"c","output":"{\"tools\":[{\"type\":\"mcp\"}]}"}]}"#,
    ),
    (
        OPENAI,
        r#"{"input":[{"type":"shell_call","environment":{"type":"local"}},{"type":"compaction","encrypted_content":"g"}]}"#,
    ),
    (
        OPENAI,
        r#"{"input":[{"role":"assistant","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","url":"https://x"}]}]}]}"#,
    ),
    (
        OPENAI,
        r#"{"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"}]},"instructions":"https://x"}"#,
    ),
    (OPENAI, r#"{"tool_choice":{"type":"function","function":{"name":"f"}}}"#),
    (OPENAI, r#"{"tool_choice":"required"}"#),
    (
        ANTHROPIC,
        r#"{"messages":[{"role":"system","content":[{"type":"tool_addition","tool":{"type":"tool_definition","definition":{"name":"Bash","input_schema":{"properties":{"type":{},"tools":{}}}}}},{"type":"tool_removal","tool":{"type":"tool_reference","name":"x"}}]}],"diagnostics":{"previous_message_id":"msg_1"}}"#,
    ),
    (
        ANTHROPIC,
        r#"{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"tool_reference","tool_name":"Bash"}]}]},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"x","input":{"tools":[{"type":"web_search_20250305"}],"tool":{"type":"x"}}}]}]}"#,
    ),
    (GEMINI, r#"{"file":{"displayName":"x","mimeType":"text/plain"}}"#),
    (
        GEMINI,
        r#"{"generationConfig":{"responseFormat":[{"text":{"jsonSchema":{"gcsUri":"x"}}}]},"contents":[{"parts":[{"functionCall":{"args":{"tools":[{"googleSearch":{}}]}}}]}]}"#,
    ),
];

fn names((dialect, path): (Dialect, &str), body: &str) -> Vec<&'static str> {
    let claims = scan(dialect, path, body.as_bytes()).unwrap_or_else(|e| panic!("{body}: {e}"));
    claims.features.iter().map(Feature::name).collect()
}

#[test]
fn a_tool_is_seen_wherever_it_stands() {
    let mut unseen = Vec::new();
    for (at, before, after) in TOOL_PLACES {
        for (tool, expected) in TOOLS {
            let body = format!("{before}{tool}{after}");
            let claimed = names(*at, &body);
            if !expected.split(' ').all(|name| claimed.contains(&name)) {
                unseen.push(format!("{body} claims {claimed:?}"));
            }
        }
    }
    assert!(unseen.is_empty(), "{} unseen:\n{}", unseen.len(), unseen.join("\n"));
}

#[test]
fn a_tool_of_anthropic_is_seen_wherever_it_stands() {
    let mut unseen = Vec::new();
    for (at, before, after) in ANTHROPIC_TOOL_PLACES {
        for of_type in ["web_search_20250305", "mcp_toolset", "code_execution_20250825", "new"] {
            let body = format!("{before}{{\"name\":\"x\",\"type\":\"{of_type}\"}}{after}");
            if !names(*at, &body).contains(&"hosted-tools") {
                unseen.push(body);
            }
        }
    }
    assert!(unseen.is_empty(), "{} unseen:\n{}", unseen.len(), unseen.join("\n"));
}

#[test]
fn what_a_body_reaches_for_is_seen_below_its_top() {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|(at, body, expected)| {
            let claimed = names(*at, body).join(" ");
            (claimed != *expected).then(|| format!("{body} claims [{claimed}], not [{expected}]"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_only_looks_like_a_tool_claims_nothing() {
    let wrong: Vec<String> = PLAIN
        .iter()
        .filter(|(at, body)| !names(*at, body).is_empty())
        .map(|(at, body)| format!("{body} claims {:?}", names(*at, body)))
        .collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
