//! What xAI does differently: flat errors, and the card of the key.
//!
//! Invariant: a wrong key is a 400 here.

use serde_json::json;

use super::masked;
use crate::{reply::Reply, request::Call};

pub(crate) fn unauthorised(key: Option<&str>) -> Reply {
    let Some(key) = key else {
        return flat(
            401,
            "Unauthenticated",
            "No API key was given. Send it as Authorization: Bearer <key>.",
        );
    };
    let text = format!(
        "Incorrect API key provided: {}. You can obtain an API key from https://console.x.ai.",
        masked(key)
    );
    flat(400, "Client specified an invalid argument", &text)
}

pub(crate) fn error(status: u16, message: &str) -> Reply {
    let code = match status {
        402 | 403 => "The caller does not have permission to execute the specified operation",
        404 => "Some requested entity was not found",
        429 => "Some resource has been exhausted",
        500.. => "Service temporarily unavailable",
        _ => "Client specified an invalid argument",
    };
    let reply = flat(status, code, message);
    if status == 429 { reply.with("retry-after", "1") } else { reply }
}

fn flat(status: u16, code: &str, text: &str) -> Reply {
    Reply::json(status, &json!({"code": code, "error": text}))
}

/// `GET /v1/api-key`: tells about the key, which is why a borrower must not reach it.
pub(super) fn key_card(call: &Call) -> Reply {
    let key = call.key.as_deref().unwrap_or_default();
    Reply::json(
        200,
        &json!({
            "redacted_api_key": masked(key), "name": "emulator", "user_id": "emu-user",
            "team_id": "emu-team", "acls": ["api-key:model:*"], "api_key_disabled": false,
        }),
    )
}
