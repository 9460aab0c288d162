//! Which names matter in a tool of OpenAI's API and of those shaped like it.
//!
//! Decided: `local_shell` and `apply_patch` run at the caller; `shell` may run in a hosted container, and a `computer…`
//! tool may too, so both count as hosted, like every type that is not listed.

use strongroom_policy::claims::{Feature, Features};

use super::openai::PART;
use super::tree::{Effect, FREE, HOSTED, Lacking, REFERENCES, Shape, Words, both, on, within};

/// An MCP server elsewhere.
pub(super) const MCP: Features = HOSTED.with(Feature::RemoteUrls);

/// An MCP server behind a tunnel of the account.
pub(super) const TUNNEL: Features = HOSTED.with(Feature::ObjectReferences);

/// A tool. Its type decides; the rest belongs to types that are hosted anyway, or is free-form.
pub(super) static TOOL: Shape = Shape {
    members: &[
        on("type", Effect::Word(&TOOL_TYPES)),
        on("server_url", Effect::Gives(MCP)),
        // A `namespace` holds tools.
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        on("connector_id", Effect::Gives(HOSTED)),
        on("tunnel_id", Effect::Gives(TUNNEL)),
        within("input_image_mask", &PART),
        on("vector_store_ids", Effect::Gives(REFERENCES)),
        on("collection_ids", Effect::Gives(REFERENCES)),
        on("file_ids", Effect::Gives(REFERENCES)),
        both("container", Effect::TextGives(REFERENCES), &CONTAINER),
        both("environment", Effect::TextGives(REFERENCES), &CONTAINER),
    ],
    harmless: &[],
    rest: &FREE,
    lacking: &[Lacking { of_type: None, without: &["type"], gives: HOSTED }],
};

static TOOL_TYPES: Words = Words {
    harmless: &["function", "custom", "namespace", "local_shell", "apply_patch"],
    versioned: &[],
    otherwise: HOSTED,
};

/// Where code runs.
pub(super) static CONTAINER: Shape = Shape {
    members: &[
        on("container_id", Effect::Gives(REFERENCES)),
        on("file_ids", Effect::Gives(REFERENCES)),
        on("skills", Effect::Gives(REFERENCES)),
    ],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

/// Which tools may be chosen. The SDK types them as any object, so they are read like tools.
pub(super) static CHOICE: Shape = Shape {
    members: &[
        on("type", Effect::Word(&CHOICE_TYPES)),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        within("allowed_tools", &CHOICE),
        on("server_url", Effect::Gives(MCP)),
        on("connector_id", Effect::Gives(HOSTED)),
    ],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

/// Another choice names a hosted tool.
static CHOICE_TYPES: Words = Words {
    harmless: &[
        "function",
        "custom",
        "allowed_tools",
        "local_shell",
        "apply_patch",
        "auto",
        "none",
        "required",
        "any",
        "tool",
    ],
    versioned: &[],
    otherwise: HOSTED,
};
