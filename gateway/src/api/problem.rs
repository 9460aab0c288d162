//! What went wrong, as RFC 9457 has it, with a stable code.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use strongroom_protocol::person::NotSignedIn;

/// A problem.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_secs: Option<u32>,
}

impl Problem {
    pub(super) fn of(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after_secs: None }
    }

    /// A fault of ours.
    pub(super) fn internal() -> Self {
        (NotSignedIn::Internal, None).into()
    }

    /// Too much at once.
    pub(super) fn busy() -> Self {
        (NotSignedIn::Busy, Some(1)).into()
    }
}

/// What the keeper says.
impl From<(NotSignedIn, Option<u32>)> for Problem {
    fn from((why, retry_after_secs): (NotSignedIn, Option<u32>)) -> Self {
        let status = StatusCode::from_u16(why.status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { retry_after_secs, ..Self::of(status, why.code(), why.message()) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Problem");
        let body = json!({
            "type": "about:blank",
            "title": title,
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, kind, body.to_string()).into_response();
        if let Some(seconds) = self.retry_after_secs {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
