//! Which names matter in bodies of Anthropic's API: messages, token counts, batches, legacy completions.
//!
//! Decided: `bash_…`, `text_editor_…`, `computer_…` and `memory_…` tools are carried out by the caller; every other
//! versioned tool, `tool_search_tool_…` too, runs at the provider.

use strongroom_policy::claims::{Feature, Features};

use super::tree::{
    Effect, FREE, HOSTED, Member, REFERENCES, Shape, TIER, UNLISTED, URLS, Words, both, on, within,
};

/// The body, and the `params` of each request of a batch.
pub(super) static BODY: Shape = Shape {
    members: &[
        on("model", Effect::Model),
        on("models", Effect::ModelList),
        within("messages", &MESSAGE),
        within("system", &BLOCK),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        on("stream", Effect::Stream),
        on("max_tokens", Effect::MaxOutput),
        on("max_tokens_to_sample", Effect::MaxOutput),
        on("service_tier", Effect::Word(&TIERS)),
        on("speed", Effect::Word(&SPEEDS)),
        on("mcp_servers", Effect::Gives(MCP)),
        on("container", Effect::Gives(REFERENCES)),
        on("skills", Effect::Gives(SKILLS)),
        on("thread", Effect::Gives(THREAD)),
        within("context_management", &CONTEXT),
        // Some places cost more.
        on("inference_geo", Effect::Open),
        within("requests", &REQUEST),
    ],
    harmless: &[
        "metadata",
        "stop_sequences",
        "temperature",
        "top_k",
        "top_p",
        "tool_choice",
        "thinking",
        "output_config",
        "output_format",
        "cache_control",
        "betas",
        "anthropic_version",
        "prompt",
        // Its id only makes the answer say why a cache missed; nothing of that message is read back.
        "diagnostics",
    ],
    rest: &UNLISTED,
    lacking: &[],
};

const MCP: Features = HOSTED.with(Feature::RemoteUrls);
const THREAD: Features = REFERENCES.with(Feature::StoredState);
const SKILLS: Features = HOSTED.with(Feature::ObjectReferences);

/// What is done to a long conversation: summing it up is a reading of its own, clearing leaves out.
static CONTEXT: Shape =
    Shape { members: &[within("edits", &EDIT)], harmless: &[], rest: &OPEN, lacking: &[] };

static OPEN: Member = on("…", Effect::Open);

static EDIT: Shape = Shape {
    members: &[on("type", Effect::OpenUnless(&["clear_tool_uses_", "clear_thinking_"]))],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

static TIERS: Words =
    Words { harmless: &["auto", "standard_only"], versioned: &[], otherwise: TIER };
static SPEEDS: Words = Words { harmless: &["standard"], versioned: &[], otherwise: TIER };

/// A request of a batch.
static REQUEST: Shape = Shape {
    members: &[within("params", &BODY)],
    harmless: &["custom_id"],
    rest: &UNLISTED,
    lacking: &[],
};

static MESSAGE: Shape = Shape {
    members: &[
        within("content", &BLOCK),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        both("tool", Effect::TextGives(HOSTED), &TOOL_CHANGE),
        within("tool_changes", &BLOCK),
        on("mcp_servers", Effect::Gives(MCP)),
        on("container", Effect::Gives(REFERENCES)),
    ],
    harmless: &["role", "id", "type", "model", "stop_reason", "stop_sequence", "usage"],
    rest: &ANY_BLOCK,
    lacking: &[],
};

/// A block of content, and whatever unknown object stands among them. A `url` here is a result's label.
static BLOCK: Shape = Shape {
    members: &[
        on("type", Effect::Harmless),
        within("source", &SOURCE),
        within("content", &BLOCK),
        on("file_id", Effect::Gives(REFERENCES)),
        on("file_ids", Effect::Gives(REFERENCES)),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        both("tool", Effect::TextGives(HOSTED), &TOOL_CHANGE),
        within("tool_changes", &BLOCK),
        on("mcp_servers", Effect::Gives(MCP)),
        on("container", Effect::Gives(REFERENCES)),
        on("container_id", Effect::Gives(REFERENCES)),
        // What only the provider can read: how much it stands for, its length does not say.
        on("data", Effect::Media),
        on("signature", Effect::Media),
        on("encrypted_content", Effect::Media),
    ],
    harmless: &[
        "text",
        "input",
        "id",
        "name",
        "tool_use_id",
        "is_error",
        "citations",
        "cache_control",
        "thinking",
        "title",
        "context",
        "caller",
        "url",
        "page_age",
        "retrieved_at",
        "stdout",
        "stderr",
        "return_code",
        "error_code",
        "server_name",
        "tool_name",
    ],
    rest: &ANY_BLOCK,
    lacking: &[],
};

static ANY_BLOCK: Member = both("…", Effect::Harmless, &BLOCK);

/// Where an image or document comes from.
static SOURCE: Shape = Shape {
    members: &[
        on("type", Effect::Word(&SOURCE_TYPES)),
        on("url", Effect::Gives(URLS)),
        on("file_id", Effect::Gives(REFERENCES)),
        within("content", &BLOCK),
        on("data", Effect::Media),
    ],
    harmless: &["media_type"],
    rest: &ANY_BLOCK,
    lacking: &[],
};

/// `url` and `file` give their feature by the name beside them.
static SOURCE_TYPES: Words = Words {
    harmless: &["base64", "text", "content", "url", "file"],
    versioned: &[],
    otherwise: URLS.with(Feature::ObjectReferences),
};

/// The tool that a `tool_addition` or `tool_removal` is about: the name of one that the body has, or one in full.
static TOOL_CHANGE: Shape = Shape {
    members: &[
        on("type", Effect::Word(&TOOL_CHANGE_TYPES)),
        both("definition", Effect::TextGives(HOSTED), &TOOL),
    ],
    harmless: &["name", "server_name", "cache_control"],
    rest: &UNLISTED,
    lacking: &[],
};

/// References to MCP servers are hosted.
static TOOL_CHANGE_TYPES: Words =
    Words { harmless: &["tool_reference", "tool_definition"], versioned: &[], otherwise: HOSTED };

/// A tool; without a type it is the caller's own.
static TOOL: Shape = Shape {
    members: &[on("type", Effect::Word(&TOOL_TYPES))],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

static TOOL_TYPES: Words = Words {
    harmless: &["custom"],
    versioned: &["bash_", "text_editor_", "computer_", "memory_"],
    otherwise: HOSTED,
};
