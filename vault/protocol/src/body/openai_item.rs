//! Which names matter in an item of a Responses input.
//!
//! Decided: a tool in an item counts as one at the top of the body, for the API takes the same tools in both places.
//! The tools in `mcp_list_tools` have no type and so count as hosted, as did the server that listed them.

use strongroom_policy::claims::{Feature, Features};

use super::openai::{ANY_PART, CITATION, PART};
use super::openai_tool::{CONTAINER, TOOL};
use super::tree::{Effect, HOSTED, Lacking, REFERENCES, Shape, Words, both, on, within};

/// An item of a Responses input.
pub(super) static ITEM: Shape = Shape {
    members: &[
        on("type", Effect::Word(&ITEM_TYPES)),
        on("role", Effect::Harmless),
        within("content", &PART),
        within("output", &PART),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        both("environment", Effect::TextGives(REFERENCES), &CONTAINER),
        on("container_id", Effect::Gives(REFERENCES)),
        within("outputs", &CODE_OUTPUT),
        within("results", &CITATION),
        // Only the provider can read it: how much it stands for, its length does not say.
        on("encrypted_content", Effect::Media),
        both("image_url", Effect::Url, &PART),
        both("file_url", Effect::Url, &PART),
        on("file_id", Effect::Gives(REFERENCES)),
        on("file_data", Effect::MaybeUrl),
    ],
    harmless: &[
        "id",
        "status",
        "phase",
        "text",
        "name",
        "namespace",
        "arguments",
        "call_id",
        "summary",
        "input",
        "action",
        "actions",
        "queries",
        "code",
        "operation",
        "error",
        "server_label",
        "execution",
        "created_by",
        "approve",
        "reason",
        "approval_request_id",
        "pending_safety_checks",
        "acknowledged_safety_checks",
        "max_output_length",
        "cache_control",
    ],
    rest: &ANY_PART,
    lacking: &[
        // `{"id": "msg_…"}` is an item_reference whose type is left out.
        Lacking { of_type: None, without: &["type", "role"], gives: REFERENCES },
        // Reasoning by id alone is looked up in the account, and so may be a compaction.
        Lacking { of_type: Some("reasoning"), without: &["encrypted_content"], gives: REFERENCES },
        Lacking { of_type: Some("compaction"), without: &["encrypted_content"], gives: REFERENCES },
        // These lack nothing: they run, or let run, at the provider whatever stands in them.
        Lacking { of_type: Some("additional_tools"), without: &[], gives: ADDED },
        Lacking { of_type: Some("program"), without: &[], gives: ADDED },
        Lacking { of_type: Some("program_output"), without: &[], gives: ADDED },
    ],
};

const ADDED: Features = HOSTED.with(Feature::ObjectReferences);

/// `item_reference`, `image_generation_call` (its image is looked up by id) and unknown types are references.
static ITEM_TYPES: Words = Words {
    harmless: &[
        "message",
        "reasoning",
        "compaction",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "local_shell_call",
        "local_shell_call_output",
        "shell_call",
        "shell_call_output",
        "apply_patch_call",
        "apply_patch_call_output",
        "computer_call",
        "computer_call_output",
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "mcp_list_tools",
        "mcp_call",
        "mcp_approval_request",
        "mcp_approval_response",
        "tool_search_call",
        "tool_search_output",
        // given their features above
        "additional_tools",
        "program",
        "program_output",
        // moderations and multimodal embeddings
        "text",
        "image_url",
        "input_text",
        "input_image",
    ],
    versioned: &[],
    otherwise: REFERENCES,
};

/// What hosted code put out: a log, or an image at an address.
static CODE_OUTPUT: Shape = Shape {
    members: &[on("url", Effect::Url), on("file_id", Effect::Gives(REFERENCES))],
    harmless: &["type", "logs"],
    rest: &ANY_PART,
    lacking: &[],
};
