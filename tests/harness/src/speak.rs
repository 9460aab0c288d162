//! Requests as the four dialects' clients make them, and what their answers say.
//!
//! Invariant: the same question can be put to each API, so that a promise is tested for all four.

use serde_json::{Value, json};
use strongroom_emulator::Api;

/// One HTTP request.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// Reads.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Sends JSON.
    pub fn post(target: &str, body: &Value) -> Self {
        Self::new("POST", target).body("application/json", body.to_string().as_bytes())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds the token as `authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Self {
        self.headers.retain(|(name, _)| name != "content-type");
        self.body = Some(body.to_vec());
        self.header("content-type", content_type)
    }

    /// The request as HTTP/1.1.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// Whether the answer is wanted as a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One answer at the end.
    Plain,
    /// Events.
    Streamed,
}

/// The route of an API's own provider.
pub const fn route(api: Api) -> &'static str {
    match api {
        Api::OpenAi => "/openai",
        Api::Anthropic => "/anthropic",
        Api::Gemini => "/google",
        Api::Xai => "/xai",
    }
}

/// The provider's name at the appliance.
pub fn provider(api: Api) -> &'static str {
    route(api).trim_start_matches('/')
}

/// Says `text` to a model, in the API's own way.
pub fn say(api: Api, token: &str, model: &str, text: &str, shape: Shape) -> Request {
    let stream = shape == Shape::Streamed;
    match api {
        Api::OpenAi | Api::Xai => {
            let target = format!("{}/v1/chat/completions", route(api));
            let mut body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
            if stream {
                body["stream"] = json!(true);
                body["stream_options"] = json!({"include_usage": true});
            }
            Request::post(&target, &body).bearer(token)
        }
        Api::Anthropic => {
            let body = json!({"model": model, "max_tokens": 512, "stream": stream,
                "messages": [{"role": "user", "content": text}]});
            Request::post("/anthropic/v1/messages", &body)
                .header("x-api-key", token)
                .header("anthropic-version", "2023-06-01")
        }
        Api::Gemini => {
            let verb = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let body = json!({"contents": [{"role": "user", "parts": [{"text": text}]}]});
            Request::post(&format!("/google/v1beta/models/{model}:{verb}"), &body)
                .header("x-goog-api-key", token)
        }
    }
}

/// Asks for the list of models, the cheapest call there is.
pub fn models(api: Api, token: &str) -> Request {
    let version = if api == Api::Gemini { "v1beta" } else { "v1" };
    let request = Request::get(&format!("{}/{version}/models", route(api))).bearer(token);
    if api == Api::Anthropic { request.header("anthropic-version", "2023-06-01") } else { request }
}

/// The text that a model said.
pub fn said(api: Api, shape: Shape, body: &str) -> String {
    match shape {
        Shape::Plain => text_of(api, &serde_json::from_str(body).unwrap_or(Value::Null)),
        Shape::Streamed => events(body).iter().map(|event| delta_of(api, event)).collect(),
    }
}

/// The data of all events of a stream that are JSON.
pub fn events(body: &str) -> Vec<Value> {
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

fn text_of(api: Api, answer: &Value) -> String {
    let text = match api {
        Api::OpenAi | Api::Xai => &answer["choices"][0]["message"]["content"],
        Api::Anthropic => &answer["content"][0]["text"],
        Api::Gemini => &answer["candidates"][0]["content"]["parts"][0]["text"],
    };
    text.as_str().unwrap_or_default().to_owned()
}

fn delta_of(api: Api, event: &Value) -> String {
    let text = match api {
        Api::OpenAi | Api::Xai => &event["choices"][0]["delta"]["content"],
        Api::Anthropic => &event["delta"]["text"],
        Api::Gemini => &event["candidates"][0]["content"]["parts"][0]["text"],
    };
    text.as_str().unwrap_or_default().to_owned()
}
