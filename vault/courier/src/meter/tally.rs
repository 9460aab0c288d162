//! What each dialect's numbers mean, and when they are final.
//!
//! Invariant: per field the last value wins: every API that repeats usage repeats it cumulatively, so a sum would overcharge.

use strongroom_policy::dialect::Dialect;

use super::{Completeness, Ending, Layout, Usage};

/// The last value of each field, and the marks of the end.
#[derive(Debug)]
pub(super) struct Tally {
    dialect: Dialect,
    layout: Layout,
    values: [Option<u64>; FIELDS],
    /// Whether the current JSON text had a number.
    numbers_here: bool,
    /// Whether the current event's type is one that ends an answer.
    ending_type: bool,
    /// Whether the API's own end mark was seen.
    ended: bool,
}

/// A number in a usage object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Field {
    Input,
    CachedInput,
    CacheWrite,
    Output,
    Thoughts,
    ToolUse,
    Reasoning,
    Total,
    CostTicks,
}

const FIELDS: usize = 9;

impl Field {
    /// A number that stands in the usage object itself.
    #[expect(clippy::match_same_arms, reason = "one line per name, by dialect")]
    pub(super) fn of_usage(dialect: Dialect, name: &[u8]) -> Option<Self> {
        Some(match (dialect, name) {
            (Dialect::Gemini, b"promptTokenCount") => Self::Input,
            (Dialect::Gemini, b"cachedContentTokenCount") => Self::CachedInput,
            (Dialect::Gemini, b"candidatesTokenCount") => Self::Output,
            (Dialect::Gemini, b"thoughtsTokenCount") => Self::Thoughts,
            (Dialect::Gemini, b"toolUsePromptTokenCount") => Self::ToolUse,
            (Dialect::Gemini, b"totalTokenCount") => Self::Total,
            (Dialect::Gemini, _) => return None,
            (_, b"input_tokens") => Self::Input,
            (_, b"output_tokens") => Self::Output,
            (Dialect::Anthropic, b"cache_read_input_tokens") => Self::CachedInput,
            (Dialect::Anthropic, b"cache_creation_input_tokens") => Self::CacheWrite,
            (Dialect::Anthropic, _) => return None,
            (_, b"prompt_tokens") => Self::Input,
            (_, b"completion_tokens") => Self::Output,
            (_, b"total_tokens") => Self::Total,
            (Dialect::Xai, b"cost_in_usd_ticks") => Self::CostTicks,
            (_, _) => return None,
        })
    }

    /// A number that stands in `…_tokens_details`.
    pub(super) fn of_details(name: &[u8]) -> Option<Self> {
        match name {
            b"cached_tokens" => Some(Self::CachedInput),
            b"cache_write_tokens" => Some(Self::CacheWrite),
            b"reasoning_tokens" => Some(Self::Reasoning),
            _ => None,
        }
    }
}

impl Tally {
    pub(super) fn new(dialect: Dialect, layout: Layout) -> Self {
        Self {
            dialect,
            layout,
            values: [None; FIELDS],
            numbers_here: false,
            ending_type: false,
            ended: false,
        }
    }

    pub(super) fn number(&mut self, field: Field, value: u64) {
        self.values[field as usize] = Some(value);
        self.numbers_here = true;
    }

    /// The `type` of an event.
    pub(super) fn event_type(&mut self, name: &[u8]) {
        match self.dialect {
            Dialect::Anthropic => self.ended |= name == b"message_stop",
            Dialect::OpenAi | Dialect::Xai => {
                self.ending_type = ENDING_TYPES.contains(&name);
            }
            Dialect::Gemini => {}
        }
    }

    /// `[DONE]`.
    pub(super) fn end_mark(&mut self) {
        self.ended |= matches!(self.dialect, Dialect::OpenAi | Dialect::Xai);
    }

    /// One JSON text is over.
    pub(super) fn text_over(&mut self) {
        self.ended |= self.ending_type && self.numbers_here;
        self.ending_type = false;
        self.numbers_here = false;
    }

    /// One JSON text was given up: the next one begins anew.
    pub(super) fn text_broken(&mut self) {
        self.ending_type = false;
        self.numbers_here = false;
    }

    pub(super) fn usage(&self, ending: Ending) -> Usage {
        let input = self.value(Field::Input);
        let output = self.value(Field::Output);
        let mut usage = Usage {
            input,
            cached_input: self.value(Field::CachedInput),
            cache_write: self.value(Field::CacheWrite),
            output,
            reasoning: self.value(Field::Reasoning),
            total: self.value(Field::Total),
            cost_ticks: self.value(Field::CostTicks),
            completeness: self.completeness(ending),
        };
        match self.dialect {
            Dialect::OpenAi => {}
            // Anthropic's `input_tokens` are the ones that no cache had to do with.
            Dialect::Anthropic => {
                usage.input =
                    input.map(|plain| sum([Some(plain), usage.cached_input, usage.cache_write]));
            }
            // Thoughts and tool use come beside the candidates, and are settled at the dearer price.
            Dialect::Gemini => {
                usage.reasoning = self.value(Field::Thoughts);
                let parts = [output, usage.reasoning, self.value(Field::ToolUse)];
                usage.output = parts.iter().any(Option::is_some).then(|| sum(parts));
            }
            // xAI's chat counts reasoning beside the completion, its Responses API inside: the total tells which.
            Dialect::Xai => {
                let all = sum([input, output, usage.reasoning]);
                if output.is_some() && usage.total.is_none_or(|total| total >= all) {
                    usage.output = Some(sum([output, usage.reasoning]));
                }
            }
        }
        usage
    }

    fn completeness(&self, ending: Ending) -> Completeness {
        if self.values.iter().all(Option::is_none) {
            return Completeness::Missing;
        }
        let ended = match (self.layout, self.dialect) {
            (Layout::Json | Layout::Opaque, _) | (Layout::Events, Dialect::Gemini) => true,
            (Layout::Events, Dialect::OpenAi | Dialect::Anthropic | Dialect::Xai) => self.ended,
        };
        match ending {
            Ending::Whole if ended => Completeness::Exact,
            Ending::Whole | Ending::Cut => Completeness::Partial,
        }
    }

    fn value(&self, field: Field) -> Option<u64> {
        self.values[field as usize]
    }
}

fn sum<const N: usize>(parts: [Option<u64>; N]) -> u64 {
    parts.into_iter().flatten().fold(0, u64::saturating_add)
}

/// Events after which OpenAI's streams other than chat send no more: Responses, images, transcription, speech.
const ENDING_TYPES: [&[u8]; 9] = [
    b"response.completed",
    b"response.incomplete",
    b"response.failed",
    b"image_generation.completed",
    b"image_edit.completed",
    b"transcript.text.done",
    b"speech.audio.done",
    b"response.cancelled",
    b"response.done",
];
