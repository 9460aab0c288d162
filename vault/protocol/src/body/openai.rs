//! Which names matter in bodies of OpenAI's API and of those shaped like it (xAI and compatible servers).
//!
//! One table serves every path: chat, Responses, completions, embeddings, images, speech, moderations, batches.
//! Whether the answer is kept when the body does not say is the path's matter, not this table's.

use strongroom_policy::claims::{Feature, Features};

use super::openai_item::ITEM;
use super::openai_tool::{CHOICE, MCP, TOOL, TUNNEL};
use super::tree::{
    Effect, FREE, HOSTED, Member, REFERENCES, Shape, TIER, UNLISTED, URLS, Words, both, on, within,
};

/// The body.
pub(super) static BODY: Shape = Shape {
    members: &[
        on("model", Effect::Model),
        // OpenRouter: falls back along the list.
        on("models", Effect::ModelList),
        within("messages", &MESSAGE),
        within("input", &ITEM),
        // Answers show that a stored prompt puts items here.
        within("instructions", &ITEM),
        both("prompt", Effect::Prompts, &STORED_PROMPT),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        within("tool_choice", &CHOICE),
        on("stream", Effect::Stream),
        on("n", Effect::Answers),
        on("best_of", Effect::Answers),
        on("max_tokens", Effect::MaxOutput),
        on("max_completion_tokens", Effect::MaxOutput),
        on("max_output_tokens", Effect::MaxOutput),
        on("store", Effect::Store),
        on("background", Effect::Background),
        on("background_options", Effect::Gives(CONTINUED)),
        both("prompt_cache_options", Effect::Unlisted, &CACHE_OPTIONS),
        // xAI: the answer is fetched later.
        on("deferred", Effect::WhenTrue(LATER)),
        on("service_tier", Effect::Word(&TIERS)),
        on("previous_response_id", Effect::Gives(REFERENCES)),
        on("conversation", Effect::Gives(REFERENCES)),
        on("vector_store_ids", Effect::Gives(REFERENCES)),
        on("container", Effect::Gives(REFERENCES)),
        on("file_id", Effect::Gives(REFERENCES)),
        on("file_ids", Effect::Gives(REFERENCES)),
        on("input_file_id", Effect::Gives(REFERENCES)),
        on("part_ids", Effect::Gives(REFERENCES)),
        on("training_file", Effect::Gives(REFERENCES)),
        on("validation_file", Effect::Gives(REFERENCES)),
        on("server_url", Effect::Gives(MCP)),
        on("connector_id", Effect::Gives(HOSTED)),
        on("web_search_options", Effect::Gives(HOSTED)),
        both("search_parameters", Effect::Gives(HOSTED), &SEARCH),
        on("plugins", Effect::Gives(HOSTED)),
        both("image_url", Effect::Url, &PART),
        both("file_url", Effect::Url, &PART),
        both("image", Effect::MaybeUrl, &PART),
        both("images", Effect::MaybeUrl, &PART),
        both("mask", Effect::MaybeUrl, &PART),
        on("voice", Effect::ObjectGives(REFERENCES)),
        within("audio", &AUDIO),
        // Words that are proposed and not taken are charged as output.
        on("prediction", Effect::Open),
        // Summing up is a reading of its own.
        on("context_management", Effect::Open),
    ],
    harmless: &[
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "top_a",
        "seed",
        "random_seed",
        "stop",
        "user",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "response_format",
        "text",
        "reasoning",
        "reasoning_effort",
        "verbosity",
        "include_reasoning",
        "thinking",
        "enable_thinking",
        "chat_template_kwargs",
        "parallel_tool_calls",
        "max_tool_calls",
        "functions",
        "function_call",
        "modalities",
        "metadata",
        "stream_options",
        "include",
        "truncation",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "client_metadata",
        "suffix",
        "echo",
        "encoding_format",
        "dimensions",
        "speed",
        "language",
        "size",
        "quality",
        "style",
        "moderation",
        "output_format",
        "output_compression",
        "partial_images",
        "input_fidelity",
        "aspect_ratio",
        "resolution",
        "stream_format",
        "image_format",
        "guardrails",
        "safe_prompt",
        // settings of open servers (vLLM, llama.cpp, Groq)
        "ignore_eos",
        "skip_special_tokens",
        "add_generation_prompt",
        "continue_final_message",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "structured_outputs",
        "reasoning_format",
        "cache_prompt",
        "grammar",
        "json_schema",
        // batches, uploads, files
        "completion_window",
        "endpoint",
        "output_expires_after",
        "expires_after",
        "purpose",
        "filename",
        "bytes",
        "mime_type",
        "md5",
    ],
    rest: &UNLISTED,
    lacking: &[],
};

const LATER: Features = Features::NONE.with(Feature::StoredState).with(Feature::Background);

const CONTINUED: Features = REFERENCES.with(Feature::Background);

static TIERS: Words =
    Words { harmless: &["auto", "default", "standard"], versioned: &[], otherwise: TIER };

/// A message of a chat.
static MESSAGE: Shape = Shape {
    members: &[
        within("content", &PART),
        // The id of an earlier spoken answer.
        on("audio", Effect::ObjectGives(REFERENCES)),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        within("annotations", &CITATION),
    ],
    harmless: &[
        "role",
        "name",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "prefix",
        "cache_control",
    ],
    rest: &ANY_PART,
    lacking: &[],
};

/// A part of a message's content, and whatever unknown object stands among them.
pub(super) static PART: Shape = Shape {
    members: &[
        both("image_url", Effect::Url, &PART),
        both("file_url", Effect::Url, &PART),
        both("video_url", Effect::Url, &PART),
        both("audio_url", Effect::Url, &PART),
        on("url", Effect::Url),
        on("file_id", Effect::Gives(REFERENCES)),
        on("file_ids", Effect::Gives(REFERENCES)),
        on("file_data", Effect::MaybeUrl),
        on("type", Effect::Harmless),
        within("annotations", &CITATION),
        // No part has these yet; a new one that does must not carry them past the claims.
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        on("server_url", Effect::Gives(MCP)),
        on("connector_id", Effect::Gives(HOSTED)),
        on("tunnel_id", Effect::Gives(TUNNEL)),
        on("vector_store_ids", Effect::Gives(REFERENCES)),
        on("container_id", Effect::Gives(REFERENCES)),
    ],
    harmless: &[
        "text",
        "refusal",
        "logprobs",
        "detail",
        "filename",
        "cache_control",
        "prompt_cache_breakpoint",
    ],
    rest: &ANY_PART,
    lacking: &[],
};

pub(super) static ANY_PART: Member = both("…", Effect::MaybeUrl, &PART);

/// Where a sentence or a search result comes from. Its addresses are labels; its ids are of stored files.
pub(super) static CITATION: Shape = Shape {
    members: &[
        on("file_id", Effect::Gives(REFERENCES)),
        on("container_id", Effect::Gives(REFERENCES)),
    ],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

/// A prompt kept at the provider; the values of its variables carry names that the user chose.
static STORED_PROMPT: Shape = Shape {
    members: &[on("id", Effect::Gives(REFERENCES)), within("variables", &VARIABLES)],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

static VARIABLES: Shape =
    Shape { members: &[], harmless: &[], rest: &within("…", &PART), lacking: &[] };

static AUDIO: Shape = Shape {
    members: &[on("voice", Effect::ObjectGives(REFERENCES))],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

static CACHE_OPTIONS: Shape = Shape {
    members: &[on("comparison_response_id", Effect::Gives(REFERENCES))],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

/// xAI: a source may be a feed at an address.
static SEARCH: Shape = Shape {
    members: &[within("sources", &SEARCH), on("links", Effect::Gives(URLS))],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};
