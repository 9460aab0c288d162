//! Refusals as the providers' SDKs read them: the body, the headers, and the event that ends a broken stream.
//!
//! Invariant: a refusal says its stable code, and that trying again is no use where it is none.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::refusal::{Refusal, Retry};
use strongroom_policy::target::Target;
use strongroom_protocol::ask::Refused;

use crate::answer::HeadSink;

/// Which of a dialect's APIs a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// OpenAI's responses: typed events.
    Responses,
    /// All others.
    Plain,
}

impl Stream {
    /// By the path that was called.
    pub fn of(dialect: Dialect, target: &Target) -> Self {
        let responses = target.segments().any(|segment| segment == "responses");
        match dialect {
            Dialect::OpenAi | Dialect::Xai if responses => Self::Responses,
            Dialect::OpenAi | Dialect::Xai | Dialect::Anthropic | Dialect::Gemini => Self::Plain,
        }
    }
}

/// Writes a refusal's head and yields its body.
pub(crate) fn refuse(dialect: Dialect, refused: &Refused, sink: &mut impl HeadSink) -> Bytes {
    let refusal = refused.refusal;
    let wording = refusal.wording(dialect);
    sink.begin(StatusCode::from_u16(wording.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    sink.line("content-type", b"application/json");
    sink.line("x-content-type-options", b"nosniff");
    sink.line("x-strongroom-refusal", refusal.code().as_bytes());
    if wording.retry == Retry::Never {
        sink.line("x-should-retry", b"false");
    }
    if let Some(seconds) = refused.retry_after_secs {
        sink.line("retry-after", seconds.to_string().as_bytes());
    }
    if wording.status == 401 {
        // RFC 9110, 15.5.2.
        sink.line("www-authenticate", b"Bearer");
    }
    if let Some(call) = refused.call {
        sink.line("x-strongroom-call", call.to_string().as_bytes());
    }
    Bytes::from(body(dialect, refused).to_string())
}

/// The event that tells why a stream breaks off; the body fails after it.
pub fn event(dialect: Dialect, stream: Stream, refusal: Refusal) -> Bytes {
    let refused = Refused::plain(refusal);
    let text = match (dialect, stream) {
        (Dialect::OpenAi | Dialect::Xai, Stream::Responses) => {
            let data = json!({
                "type": "error",
                "code": refusal.code(),
                "message": message(&refused),
                "param": null,
                "sequence_number": 0,
            });
            format!("event: error\ndata: {data}\n\n")
        }
        (Dialect::Anthropic, _) => {
            format!("event: error\ndata: {}\n\n", body(dialect, &refused))
        }
        (Dialect::OpenAi | Dialect::Xai | Dialect::Gemini, _) => {
            format!("data: {}\n\n", body(dialect, &refused))
        }
    };
    Bytes::from(text)
}

fn body(dialect: Dialect, refused: &Refused) -> Value {
    let refusal = refused.refusal;
    let (wording, message) = (refusal.wording(dialect), message(refused));
    match dialect {
        Dialect::OpenAi => json!({
            "error": {
                "message": message, "type": wording.kind, "param": null, "code": refusal.code(),
            }
        }),
        Dialect::Anthropic => json!({
            "type": "error",
            "error": { "type": wording.kind, "message": message },
            "request_id": refused.call.map(|call| call.to_string()),
        }),
        Dialect::Gemini => json!({
            "error": { "code": wording.status, "message": message, "status": wording.kind }
        }),
        Dialect::Xai => json!({ "code": refusal.code(), "error": message }),
    }
}

/// The sentence, what exactly, and the code: SDKs show their users little more than this.
fn message(refused: &Refused) -> String {
    let (sentence, code) = (refused.refusal.message(), refused.refusal.code());
    match &refused.about {
        Some(about) => format!("{sentence}: {about} [{code}]"),
        None => format!("{sentence} [{code}]"),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use http::Response;
    use strongroom_policy::dialect::Dialect;
    use strongroom_policy::refusal::Refusal;
    use strongroom_protocol::ask::Refused;

    use super::{Stream, event, refuse};
    use crate::http2::MapSink;

    fn response(dialect: Dialect, refused: &Refused) -> Response<String> {
        let mut sink = MapSink::default();
        let body = refuse(dialect, refused, &mut sink);
        sink.response(String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn every_refusal_in_every_dialect_is_the_golden_one() {
        let mut table = String::new();
        for refusal in Refusal::ALL {
            for dialect in Dialect::ALL {
                let answer = response(dialect, &Refused::plain(refusal));
                let retry = answer.headers().get("x-should-retry").map_or("-", |_| "never");
                write!(table, "{} {} {retry} ", answer.status().as_u16(), dialect.name()).unwrap();
                writeln!(table, "{}", answer.body()).unwrap();
            }
        }
        for dialect in Dialect::ALL {
            for stream in [Stream::Plain, Stream::Responses] {
                let event = event(dialect, stream, Refusal::ProviderBroken);
                let text = std::str::from_utf8(&event).unwrap();
                writeln!(table, "event {} {stream:?} {text:?}", dialect.name()).unwrap();
            }
        }
        let golden = include_str!("../golden/refusals.txt");
        assert!(table == golden, "\n{table}\ngateway/golden/refusals.txt differs");
    }

    #[test]
    fn what_exactly_was_refused_and_when_to_try_again_is_said() {
        let refused = Refused {
            about: Some("web_search".to_owned()),
            retry_after_secs: Some(7),
            ..Refused::plain(Refusal::RateLimited)
        };
        let answer = response(Dialect::Anthropic, &refused);
        assert_eq!(answer.headers()["retry-after"], "7");
        assert_eq!(answer.headers()["x-strongroom-refusal"], "SR-RATE-001");
        assert!(!answer.headers().contains_key("x-should-retry"));
        assert!(answer.body().contains(": web_search [SR-RATE-001]"));
    }
}
