//! What a model says to a request, before it takes the shape of one API.
//!
//! Invariant: the pieces of an ordinary answer joined are the prompt, byte for byte.

use serde_json::{Value, json};

use crate::{
    Api,
    day::{Day, Lie},
    echo::Place,
    request::Call,
    world::World,
};

/// Stands in an answer for the key, and is replaced by it once the answer is bytes, so that no
/// JSON writer escapes the escapes.
pub(crate) const KEY_HERE: &str = "{emulator:key}";

/// More would only slow a test down.
const MAX_PIECES: usize = 64;

/// An answer's content.
pub(crate) struct Speech {
    pub(crate) model: String,
    pub(crate) pieces: Vec<String>,
    pub(crate) tool: Option<Tool>,
    pub(crate) usage: Option<Usage>,
    /// Whether it breaks off with an error half way.
    pub(crate) fails: bool,
}

/// A call of one of the client's tools.
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// Token counts; values, because a lying provider need not send numbers.
#[derive(Clone)]
pub(crate) struct Usage {
    pub(crate) input: Value,
    pub(crate) output: Value,
    pub(crate) total: Value,
}

impl Speech {
    pub(crate) fn of(call: &Call, world: &World) -> Self {
        let prompt = call.prompt();
        let pieces = pieces(call, world, &prompt);
        let tool = tool(call, &prompt);
        let said: usize = pieces.iter().map(String::len).sum();
        let usage = usage(&call.day, tokens(call.body.len()), tokens(said));
        let fails = call.day == Day::MidstreamError;
        Self { model: call.model(), pieces, tool, usage, fails }
    }

    pub(crate) fn text(&self) -> String {
        self.pieces.concat()
    }

    /// The pieces that are said before a failure, if there is to be one.
    pub(crate) fn said(&self) -> &[String] {
        let until = if self.fails { self.pieces.len().div_ceil(2) } else { self.pieces.len() };
        &self.pieces[..until]
    }

    /// The arguments of the tool call in the pieces in which models send them.
    pub(crate) fn argument_pieces(tool: &Tool) -> Vec<String> {
        split(&tool.arguments.to_string(), 3)
    }
}

/// About four bytes make a token.
pub(crate) fn tokens(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4).max(1)).unwrap_or(u64::MAX)
}

fn usage(day: &Day, input: u64, output: u64) -> Option<Usage> {
    let same = |value: Value| Usage { input: value.clone(), output: value.clone(), total: value };
    match day {
        Day::UsageMissing => None,
        Day::UsageLying(Lie::Tiny) => {
            Some(Usage { input: json!(1), output: json!(1), total: json!(2) })
        }
        Day::UsageLying(Lie::Huge) => Some(same(json!(u64::MAX))),
        Day::UsageLying(Lie::Negative) => Some(same(json!(-1_000_000))),
        Day::UsageLying(Lie::Text) => Some(same(json!("many"))),
        _ => {
            Some(Usage { input: json!(input), output: json!(output), total: json!(input + output) })
        }
    }
}

fn pieces(call: &Call, world: &World, prompt: &str) -> Vec<String> {
    match &call.day {
        Day::Reflect(text) => vec![text.clone().unwrap_or_else(|| prompt.to_owned())],
        Day::Paced(_, chunks) | Day::Burst(chunks) => {
            (0..*chunks).map(|index| format!("{index} ")).collect()
        }
        Day::EchoKey { place: Place::Text | Place::Stream | Place::Event, .. } => {
            vec!["Your key is ".to_owned(), KEY_HERE.to_owned(), ", is it not?".to_owned()]
        }
        _ if world.demo => demo(call.api, &call.model(), prompt),
        _ => split(prompt, MAX_PIECES),
    }
}

fn demo(api: Api, model: &str, prompt: &str) -> Vec<String> {
    let provider = match api {
        Api::OpenAi => "OpenAI",
        Api::Anthropic => "Anthropic",
        Api::Gemini => "Google Gemini",
        Api::Xai => "xAI",
    };
    let words = format!(
        "Hello! This is the local emulator, standing in for {provider}: no real model was asked \
         and nothing was spent. You called the model {model:?} with a key that I checked, and \
         you said: {prompt}"
    );
    split(&words, MAX_PIECES)
}

/// Splits between words, into at most `most` pieces.
fn split(text: &str, most: usize) -> Vec<String> {
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    if words.len() < 2 {
        let chars: Vec<char> = text.chars().collect();
        let size = chars.len().div_ceil(most.min(3)).max(1);
        return chars.chunks(size).map(|piece| piece.iter().collect()).collect();
    }
    words.chunks(words.len().div_ceil(most)).map(<[&str]>::concat).collect()
}

fn tool(call: &Call, prompt: &str) -> Option<Tool> {
    let forced = match &call.json["tool_choice"] {
        Value::String(choice) => choice == "required",
        Value::Object(choice) => choice
            .get("type")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind != "auto" && kind != "none"),
        _ => false,
    };
    let tools = call.json["tools"].as_array()?;
    let declared = tools.iter().flat_map(|tool| match tool["functionDeclarations"].as_array() {
        Some(functions) => functions.clone(),
        None => vec![tool.get("function").unwrap_or(tool).clone()],
    });
    let name = |tool: &Value| tool["name"].as_str().unwrap_or_default().to_owned();
    let chosen = declared
        .into_iter()
        .find(|tool| !name(tool).is_empty() && (forced || prompt.contains(&name(tool))))?;
    let schema = ["parameters", "input_schema", "parametersJsonSchema"];
    let schema = schema.iter().find_map(|field| chosen.get(*field)).unwrap_or(&Value::Null);
    let mut arguments = serde_json::Map::new();
    for (field, about) in schema["properties"].as_object().into_iter().flatten() {
        let kind = about["type"].as_str().unwrap_or("string").to_ascii_lowercase();
        let value = match kind.as_str() {
            "number" | "integer" => json!(1),
            "boolean" => json!(true),
            "array" => json!([]),
            "object" => json!({}),
            _ => json!("emulated"),
        };
        arguments.insert(field.clone(), value);
    }
    Some(Tool { name: name(&chosen), arguments: Value::Object(arguments) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting_loses_nothing_and_makes_several_pieces() {
        for text in ["", "a", "Grüße", "one two three", &"word ".repeat(1000)] {
            assert_eq!(split(text, MAX_PIECES).concat(), text);
            assert!(split(text, MAX_PIECES).len() <= MAX_PIECES);
        }
        assert!(split("Hello there, vault", MAX_PIECES).len() > 1);
    }
}
