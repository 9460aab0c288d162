//! Which names matter in bodies of Google's Gemini API, listed in `camelCase`; `snake_case` is read as the same.
//!
//! The path names the model and the method; a model in the body must be the path's.

use strongroom_policy::claims::{Feature, Features};

use super::tree::{
    Effect, FREE, HOSTED, Member, REFERENCES, Shape, TIER, UNLISTED, URLS, Words, both, on, within,
};

/// The body, and each request within a batch or a token count.
pub(super) static BODY: Shape = Shape {
    members: &[
        on("model", Effect::Model),
        on("models", Effect::ModelList),
        within("contents", &CONTENT),
        within("content", &CONTENT),
        within("systemInstruction", &CONTENT),
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        within("generationConfig", &GENERATION),
        on("cachedContent", Effect::Gives(REFERENCES)),
        on("previousInteractionId", Effect::Gives(REFERENCES)),
        on("webhookConfig", Effect::Gives(SERVERS)),
        within("file", &FILE),
        within("generateContentRequest", &BODY),
        within("requests", &BODY),
        within("request", &BODY),
        within("batch", &BATCH),
        within("instances", &PART),
        within("parameters", &GENERATION),
        on("candidateCount", Effect::Answers),
        on("maxOutputTokens", Effect::MaxOutput),
        on("serviceTier", Effect::Word(&TIERS)),
        on("stream", Effect::Stream),
        on("store", Effect::Store),
        // A cache is made: `/v1beta/cachedContents`.
        on("ttl", Effect::Gives(STORED)),
        on("expireTime", Effect::Gives(STORED)),
    ],
    harmless: &[
        "toolConfig",
        "safetySettings",
        "labels",
        "taskType",
        "title",
        "outputDimensionality",
        "embedContentConfig",
        "displayName",
        "metadata",
        "prompt",
        "temperature",
        "topP",
        "topK",
        "stopSequences",
    ],
    rest: &UNLISTED,
    lacking: &[],
};

const STORED: Features = Features::NONE.with(Feature::StoredState);

const SERVERS: Features = HOSTED.with(Feature::RemoteUrls);
const RETRIEVAL: Features = SERVERS.with(Feature::ObjectReferences);

static TIERS: Words = Words {
    harmless: &["auto", "default", "standard", "unspecified"],
    versioned: &[],
    otherwise: TIER,
};

static CONTENT: Shape = Shape {
    members: &[within("parts", &PART), both("tools", Effect::TextGives(HOSTED), &TOOL)],
    harmless: &["role"],
    rest: &ANY_PART,
    lacking: &[],
};

/// A part of a content, and whatever unknown object stands among them.
static PART: Shape = Shape {
    members: &[
        within("fileData", &PART),
        on("fileUri", Effect::FileUri),
        on("fileId", Effect::Gives(REFERENCES)),
        on("uri", Effect::FileUri),
        on("gcsUri", Effect::FileUri),
        on("url", Effect::FileUri),
        within("functionResponse", &FUNCTION_RESPONSE),
        within("parts", &PART),
        // No part has tools yet; a new one that does must not carry them past the claims.
        both("tools", Effect::TextGives(HOSTED), &TOOL),
        on("inlineData", Effect::Media),
        on("bytesBase64Encoded", Effect::Media),
        on("thoughtSignature", Effect::Media),
    ],
    harmless: &[
        "text",
        "prompt",
        "mimeType",
        "functionCall",
        "thought",
        "videoMetadata",
        "mediaResolution",
        "executableCode",
        "codeExecutionResult",
        "partMetadata",
        "toolCall",
        "toolResponse",
    ],
    rest: &ANY_PART,
    lacking: &[],
};

static ANY_PART: Member = both("…", Effect::MaybeUrl, &PART);

/// What the caller's function answered is free-form; the media beside it are not.
static FUNCTION_RESPONSE: Shape = Shape {
    members: &[within("parts", &PART)],
    harmless: &["response", "name", "id", "scheduling", "willContinue"],
    rest: &ANY_PART,
    lacking: &[],
};

/// A tool: declarations of the caller's functions are free, everything else runs at Google.
static TOOL: Shape = Shape {
    members: &[
        on("functionDeclarations", Effect::Harmless),
        both("fileSearch", Effect::Gives(HOSTED), &FILE_SEARCH),
        on("mcpServers", Effect::Gives(SERVERS)),
        on("retrieval", Effect::Gives(RETRIEVAL)),
    ],
    harmless: &[],
    rest: &UNLISTED,
    lacking: &[],
};

static FILE_SEARCH: Shape = Shape {
    members: &[on("fileSearchStoreNames", Effect::Gives(REFERENCES))],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

/// Settings of the answer, `parameters` of older methods included.
static GENERATION: Shape = Shape {
    members: &[
        on("maxOutputTokens", Effect::MaxOutput),
        on("candidateCount", Effect::Answers),
        on("sampleCount", Effect::Answers),
        on("storageUri", Effect::Gives(STORED)),
        within("responseFormat", &RESPONSE_FORMAT),
        on("webhookConfig", Effect::Gives(URLS)),
        on("pubsubTopic", Effect::Gives(URLS)),
    ],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

/// A video may be put into a bucket; a schema of text is free-form.
static RESPONSE_FORMAT: Shape =
    Shape { members: &[within("video", &VIDEO_FORMAT)], harmless: &[], rest: &FREE, lacking: &[] };

static VIDEO_FORMAT: Shape = Shape {
    members: &[on("gcsUri", Effect::Gives(STORED))],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

/// What is said of a file when it is uploaded or registered.
static FILE: Shape = Shape {
    members: &[
        on("name", Effect::Gives(REFERENCES)),
        on("uri", Effect::FileUri),
        on("downloadUri", Effect::FileUri),
    ],
    harmless: &[],
    rest: &FREE,
    lacking: &[],
};

static BATCH: Shape = Shape {
    members: &[
        on("model", Effect::Model),
        within("inputConfig", &BATCH_INPUT),
        on("webhookConfig", Effect::Gives(SERVERS)),
    ],
    harmless: &["displayName", "priority"],
    rest: &UNLISTED,
    lacking: &[],
};

/// `{"fileName": …}` or `{"requests": {"requests": […]}}`.
static BATCH_INPUT: Shape = Shape {
    members: &[on("fileName", Effect::Gives(REFERENCES)), within("requests", &BODY)],
    harmless: &[],
    rest: &UNLISTED,
    lacking: &[],
};
