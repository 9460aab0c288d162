//! One request, read and understood: the API meant, the key shown, the day asked for.
//!
//! Invariant: the body is kept as it came; JSON and multipart are readings of a copy.

use bytes::Bytes;
use serde_json::Value;

use crate::{
    Api,
    day::Day,
    multipart::{self, Part},
    options::Keys,
    wire::Head,
};

/// A request as the dialects see it.
pub(crate) struct Call {
    pub(crate) api: Api,
    pub(crate) method: String,
    pub(crate) host: String,
    /// Without a leading `/openai` and the like.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) key: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) json: Value,
    pub(crate) parts: Vec<Part>,
    pub(crate) day: Day,
}

impl Call {
    pub(crate) fn read(head: &Head, body: Bytes, keys: &Keys) -> Self {
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        let host = find(&head.headers, "host").unwrap_or_default().to_owned();
        let key = shown_key(&head.headers, query);
        let (api, path) = Api::of(&host, path, key.as_deref(), keys);
        let kind = find(&head.headers, "content-type").unwrap_or_default();
        let parts = multipart::parse(kind, &body);
        let json = if kind.starts_with("multipart/") {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap_or(Value::Null)
        };
        let mut call = Self {
            api,
            method: head.method.clone(),
            host,
            path,
            query: query.to_owned(),
            headers: head.headers.clone(),
            key,
            body,
            json,
            parts,
            day: Day::Good,
        };
        call.day = call.asked_day();
        call
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The path's segments after the version, decoded, e.g. `["models", "m:generateContent"]`.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path.split('/').filter(|s| !s.is_empty()).map(percent_decoded).collect()
    }

    /// A query parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.query, name)
    }

    /// The absolute origin that this API puts into the URLs it hands out.
    pub(crate) fn origin(&self) -> String {
        format!("https://{}", self.host)
    }

    /// The model asked for, wherever this route names it.
    pub(crate) fn model(&self) -> String {
        if let Some(model) = self.json["model"].as_str() {
            return model.to_owned();
        }
        if let Some(part) = self.part("model") {
            return String::from_utf8_lossy(&part.content).into_owned();
        }
        let segments = self.segments();
        let at = segments.iter().position(|segment| segment == "models");
        let named = at.and_then(|at| segments.get(at + 1)).cloned().unwrap_or_default();
        named.split(':').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The text the user said last, in any of the dialects.
    pub(crate) fn prompt(&self) -> String {
        if let Some(text) = self.json["input"].as_str().or_else(|| self.json["prompt"].as_str()) {
            return text.to_owned();
        }
        for list in ["messages", "input", "contents"] {
            let Some(turns) = self.json[list].as_array() else { continue };
            let users = |turn: &&Value| turn["role"].as_str().unwrap_or("user") == "user";
            if let Some(turn) = turns.iter().rev().find(users) {
                return text_of(turn);
            }
        }
        text_of(&self.json["contents"])
    }

    fn asked_day(&self) -> Day {
        let by_model = Day::parse(&self.model());
        let by_prompt = || Day::parse(self.prompt().split_whitespace().next().unwrap_or_default());
        let by_header = || self.header("openai-project").and_then(Day::parse);
        let by_path = || self.segments().iter().find_map(|segment| Day::parse(segment));
        by_model.or_else(by_prompt).or_else(by_header).or_else(by_path).unwrap_or(Day::Good)
    }
}

/// The credential that was sent, in whichever of the four places.
pub(crate) fn shown_key(headers: &[(String, String)], query: &str) -> Option<String> {
    let bearer = find(headers, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    let key = bearer.or(find(headers, "x-api-key")).or(find(headers, "x-goog-api-key"));
    key.map(ToOwned::to_owned).or_else(|| parameter(query, "key"))
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        if let Some(byte) = pair.and_then(|pair| hex::decode(pair).ok()) {
            decoded.extend(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| percent_decoded(value))
}

fn text_of(turn: &Value) -> String {
    match turn {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(text_of).collect(),
        Value::Object(_) => ["text", "content", "parts"]
            .iter()
            .find_map(|name| turn.get(name).filter(|value| !value.is_null()).map(text_of))
            .unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}
